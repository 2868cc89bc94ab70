"""What DARE is compared with: adversarial fine-tuning, PGD adversarial training, TRADES."""

from suture.repairs.baselines.adversarial import AdversarialTuning
from suture.repairs.baselines.pgd_and_trades import TRADES, PGDTraining

__all__ = ["TRADES", "AdversarialTuning", "PGDTraining"]
