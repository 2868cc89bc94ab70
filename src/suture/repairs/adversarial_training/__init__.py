"""Adversarial training of a given classifier: PGD, TRADES, N-FGSM."""

from suture.repairs.adversarial_training.method import AdversarialTraining
from suture.repairs.adversarial_training.n_fgsm import NFGSM
from suture.repairs.adversarial_training.pgd_and_trades import TRADES, PGDTraining

__all__ = ["NFGSM", "TRADES", "AdversarialTraining", "PGDTraining"]
