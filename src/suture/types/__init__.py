"""Plain frozen data with shapes: what flows from package to package."""

from suture.types.batch import Batch, LabelledImages, check_classes
from suture.types.before import BEFORE, remember, remembered, stages_of, undefended_of
from suture.types.progress import OnDone, OnProgress, untold
from suture.types.repaired import Noise, RepairedModel, Voting, described, is_randomised
from suture.types.threat import NORMS, Box, Knowledge, Norm, ThreatModel, check_linf

__all__ = [
    "BEFORE",
    "NORMS",
    "Batch",
    "Box",
    "Knowledge",
    "LabelledImages",
    "Noise",
    "Norm",
    "OnDone",
    "OnProgress",
    "RepairedModel",
    "ThreatModel",
    "Voting",
    "check_classes",
    "check_linf",
    "described",
    "is_randomised",
    "remember",
    "remembered",
    "stages_of",
    "undefended_of",
    "untold",
]
