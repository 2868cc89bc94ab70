"""Evaluation: the same images, seeds and budgets for every defence, under both protocols."""

from suture.evaluate.protocols import Evaluation, Plan, evaluate
from suture.evaluate.records import Kind, Record, Role, read_records
from suture.evaluate.rows import Subject, decisions

__all__ = [
    "Evaluation",
    "Kind",
    "Plan",
    "Record",
    "Role",
    "Subject",
    "decisions",
    "evaluate",
    "read_records",
]
