"""The repair that chooses: what fits is tried, judged alike, and the best is given back."""

# ruff: noqa: F401 - exported

from suture.auto.candidates import Proposal
from suture.auto.judging import Judgement
from suture.auto.method import Auto
from suture.registry import exported

__all__ = exported(globals())
