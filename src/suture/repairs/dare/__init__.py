"""DARE: slice a classifier by class, remember its better selves, tune it towards them."""

from suture.repairs.dare.ablating import ablation
from suture.repairs.dare.memory import from_history
from suture.repairs.dare.method import DARE
from suture.repairs.dare.regression import watch
from suture.repairs.dare.slicing import Slices, slice_classes
from suture.repairs.dare.variety import effective, epochs_told
from suture.repairs.tuning import Grid

__all__ = [
    "DARE",
    "Grid",
    "Slices",
    "ablation",
    "effective",
    "epochs_told",
    "from_history",
    "slice_classes",
    "watch",
]
