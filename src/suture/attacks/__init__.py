"""Attacks: a clean batch in, an adversarial batch out. One file per attack over one base."""

from suture.attacks.apgd import APGD
from suture.attacks.base import Attack, AttackResult
from suture.attacks.cw import CW
from suture.attacks.deepfool import DeepFool
from suture.attacks.jsma import JSMA
from suture.attacks.noise import RandomNoise
from suture.attacks.pgd import BIM, FGSM, PGD
from suture.attacks.square import Square

__all__ = [
    "APGD",
    "BIM",
    "CW",
    "FGSM",
    "JSMA",
    "PGD",
    "Attack",
    "AttackResult",
    "DeepFool",
    "RandomNoise",
    "Square",
]
