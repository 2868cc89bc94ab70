"""Smoothing: a vote over noisy copies of the image, with certificates by counting."""

from suture.repairs.smoothing.method import Smoothing, VotingRepair
from suture.repairs.smoothing.smoothed import SmoothedClassifier

__all__ = ["SmoothedClassifier", "Smoothing", "VotingRepair"]
