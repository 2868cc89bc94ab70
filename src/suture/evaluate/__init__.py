"""Evaluation: the same images, seeds and budgets for every defence, under both protocols."""

from suture.evaluate.protocols import Evaluation, Plan, evaluate
from suture.evaluate.records import Record, read_records
from suture.evaluate.rows import Subject, decisions
from suture.evaluate.strongest import WORST

__all__ = [
    "WORST",
    "Evaluation",
    "Plan",
    "Record",
    "Subject",
    "decisions",
    "evaluate",
    "read_records",
]
