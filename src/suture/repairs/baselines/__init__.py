"""What DARE is compared with: fine-tuning on images that an attack made once."""

from suture.repairs.baselines.adversarial import AdversarialTuning

__all__ = ["AdversarialTuning"]
