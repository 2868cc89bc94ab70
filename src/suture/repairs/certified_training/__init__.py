"""CROWN-IBP training, and the loop that A5 shares with it."""

from suture.repairs.certified_training.loop import Curve, Loop, Schedule, Trained
from suture.repairs.certified_training.method import CrownIBP
from suture.repairs.certified_training.ramp import Ramp

__all__ = ["CrownIBP", "Curve", "Loop", "Ramp", "Schedule", "Trained"]
