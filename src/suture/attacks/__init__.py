"""Attacks: a clean batch in, an adversarial batch out. One file per attack over one base."""

from suture.attacks.base import Attack, AttackResult
from suture.attacks.noise import RandomNoise
from suture.attacks.pgd import PGD
from suture.attacks.square import Square

__all__ = ["PGD", "Attack", "AttackResult", "RandomNoise", "Square"]
