"""Repairs: a classifier and training images in, a better classifier out."""

from suture.repairs.base import Repair, RepairResult, Status, repair
from suture.repairs.defensyn import DefEnSyn

__all__ = ["DefEnSyn", "Repair", "RepairResult", "Status", "repair"]
