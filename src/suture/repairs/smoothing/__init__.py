"""Smoothing: a vote over noisy copies of the image, with certificates by counting."""

from suture.repairs.smoothing.ablation import RandomisedAblation
from suture.repairs.smoothing.denoised import DenoisedSmoothing
from suture.repairs.smoothing.method import Smoothing, VotingRepair
from suture.repairs.smoothing.smoothed import SmoothedClassifier

__all__ = [
    "DenoisedSmoothing",
    "RandomisedAblation",
    "SmoothedClassifier",
    "Smoothing",
    "VotingRepair",
]
