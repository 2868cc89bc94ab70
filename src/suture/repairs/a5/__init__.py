"""A5: move the input first, so that every attack on what was moved fails, provably."""

from suture.repairs.a5.cotraining import A5CoTraining
from suture.repairs.a5.defence import Defence
from suture.repairs.a5.offline import A5Offline, Robustified
from suture.repairs.a5.online import A5Robustifier
from suture.repairs.a5.robustifier import (
    DefendedClassifier,
    Robustifier,
    build_robustifier,
    defended,
)

__all__ = [
    "A5CoTraining",
    "A5Offline",
    "A5Robustifier",
    "Defence",
    "DefendedClassifier",
    "Robustified",
    "Robustifier",
    "build_robustifier",
    "defended",
]
