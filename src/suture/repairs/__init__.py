"""Repairs: a classifier and training images in, a better classifier out."""

from suture.repairs.a5 import A5CoTraining, A5Offline, A5Physical, A5Robustifier
from suture.repairs.advrepair import AdvRepair
from suture.repairs.base import Repair, RepairResult, Status, repair
from suture.repairs.baselines import TRADES, AdversarialTuning, PGDTraining
from suture.repairs.certified_training import CrownIBP
from suture.repairs.dare import DARE
from suture.repairs.defensyn import DefEnSyn
from suture.repairs.weight_patch import WeightPatch

__all__ = [
    "DARE",
    "TRADES",
    "A5CoTraining",
    "A5Offline",
    "A5Physical",
    "A5Robustifier",
    "AdvRepair",
    "AdversarialTuning",
    "CrownIBP",
    "DefEnSyn",
    "PGDTraining",
    "Repair",
    "RepairResult",
    "Status",
    "WeightPatch",
    "repair",
]
