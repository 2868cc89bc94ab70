"""AdvRepair (Chi et al. 2024): MNIST, ACAS Xu, and the feature space of a CIFAR-10 network."""
