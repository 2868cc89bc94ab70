"""CROWN-IBP training, and the loop that A5 shares with it."""

from suture.repairs.certified_training.curves import Curve, Trained
from suture.repairs.certified_training.loop import Loop
from suture.repairs.certified_training.method import CrownIBP
from suture.repairs.certified_training.ramp import Ramp
from suture.repairs.certified_training.schedule import Schedule

__all__ = ["CrownIBP", "Curve", "Loop", "Ramp", "Schedule", "Trained"]
