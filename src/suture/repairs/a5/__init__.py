"""A5: move the input first, so that every attack on what was moved fails, provably."""

from suture.repairs.a5.camera import Camera
from suture.repairs.a5.cotraining import A5CoTraining
from suture.repairs.a5.defence import Defence
from suture.repairs.a5.glyphs import CHARACTERS, glyphs
from suture.repairs.a5.offline import A5Offline, Robustified
from suture.repairs.a5.physical import A5Physical, acquisitions
from suture.repairs.a5.robustifier import (
    RobustifiedClassifier,
    Robustifier,
    build_robustifier,
    defended,
)
from suture.repairs.a5.robustifier_training import A5Robustifier

__all__ = [
    "CHARACTERS",
    "A5CoTraining",
    "A5Offline",
    "A5Physical",
    "A5Robustifier",
    "Camera",
    "Defence",
    "Robustified",
    "RobustifiedClassifier",
    "Robustifier",
    "acquisitions",
    "build_robustifier",
    "defended",
    "glyphs",
]
