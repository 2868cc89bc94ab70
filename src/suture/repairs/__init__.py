"""Repairs: a classifier and training images in, a better classifier out.

A new method is a file with a class under ``@REPAIRS.add("its-name")``, and its import here.
"""

# ruff: noqa: F401 - exported

from suture.registry import exported
from suture.repairs.a5 import A5CoTraining, A5Offline, A5Physical, A5Robustifier
from suture.repairs.adversarial_training import NFGSM, TRADES, PGDTraining
from suture.repairs.advrepair import AdvRepair
from suture.repairs.base import REPAIRS, Repair, repair
from suture.repairs.baselines import AdversarialTuning
from suture.repairs.certified_training import CrownIBP
from suture.repairs.chain import Chain
from suture.repairs.context import Context
from suture.repairs.dare import DARE
from suture.repairs.defensyn import DefEnSyn, DefEnSynGame
from suture.repairs.point_repair import APRNN, ART, CARE, PRDNN, REASSURE
from suture.repairs.result import RepairResult, Status
from suture.repairs.smoothing import DenoisedSmoothing, RandomisedAblation, Smoothing
from suture.repairs.weight_patch import WeightPatch

__all__ = ["REPAIRS", *exported(globals())]
