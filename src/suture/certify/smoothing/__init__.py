"""Certificates by counting: votes over noisy copies of an image (randomised smoothing)."""

from suture.certify.smoothing.certificate import (
    SmoothingCertificate,
    load_smoothing,
    save_smoothing,
    smoothing_files,
)
from suture.certify.smoothing.certifying import certify_votes, predict_votes
from suture.certify.smoothing.noises import Ablation, Gaussian, RandomCopies, noise_of
from suture.certify.smoothing.rechecking import VoteChecker
from suture.certify.smoothing.statistics import ABSTAIN, lower_bound, prediction
from suture.certify.smoothing.votes import votes

__all__ = [
    "ABSTAIN",
    "Ablation",
    "Gaussian",
    "RandomCopies",
    "SmoothingCertificate",
    "VoteChecker",
    "certify_votes",
    "load_smoothing",
    "lower_bound",
    "noise_of",
    "predict_votes",
    "prediction",
    "save_smoothing",
    "smoothing_files",
    "votes",
]
