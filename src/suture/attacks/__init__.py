"""Attacks: a clean batch in, an adversarial batch out. One file per attack over one base.

A new attack is a file with a class under ``@ATTACKS.add("its-name")``, and its import here.
"""

# ruff: noqa: F401 - exported

from suture.attacks.against.knowing import knowing
from suture.attacks.aigent import AIGENT
from suture.attacks.apgd import APGD
from suture.attacks.auto_attack import AutoAttack
from suture.attacks.backdoor import Backdoor, poison
from suture.attacks.base import ATTACKS, Attack, AttackResult
from suture.attacks.basin_hopping import BasinHopping
from suture.attacks.bpda import BPDA
from suture.attacks.cw import CW
from suture.attacks.deepfool import DeepFool
from suture.attacks.deepxplore import DeepXplore
from suture.attacks.dlfuzz import DLFuzz
from suture.attacks.fab import FAB
from suture.attacks.hop_skip_jump import HopSkipJump
from suture.attacks.jsma import JSMA
from suture.attacks.noise import RandomNoise
from suture.attacks.one_pixel import OnePixel
from suture.attacks.pgd import BIM, FGSM, PGD
from suture.attacks.pixle import Pixle
from suture.attacks.sparse_rs import SparseRS
from suture.attacks.spsa import SPSA
from suture.attacks.square import Square
from suture.registry import exported

__all__ = ["ATTACKS", *exported(globals())]
