"""Repairs: a classifier and training images in, a better classifier out."""

from suture.repairs.advrepair import AdvRepair
from suture.repairs.base import Repair, RepairResult, Status, repair
from suture.repairs.defensyn import DefEnSyn
from suture.repairs.weight_patch import WeightPatch

__all__ = ["AdvRepair", "DefEnSyn", "Repair", "RepairResult", "Status", "WeightPatch", "repair"]
