"""Evaluation: the same images, seeds and budgets for every defence, under both protocols."""

from suture.evaluate.plan import Plan
from suture.evaluate.protocols import Evaluation, evaluate
from suture.evaluate.records import Kind, Record, Role, read_records
from suture.evaluate.rows import Subject, decisions
from suture.evaluate.tiers import TIERS, Tier, tier_of

__all__ = [
    "TIERS",
    "Evaluation",
    "Kind",
    "Plan",
    "Record",
    "Role",
    "Subject",
    "Tier",
    "decisions",
    "evaluate",
    "read_records",
    "tier_of",
]
