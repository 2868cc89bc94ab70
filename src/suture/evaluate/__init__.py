"""Evaluation: the same images, seeds and budgets for every defence, under both protocols.

The package is its main function too: ``suture.evaluate(subjects, batch, plan, data="mnist")``.
"""

import sys
from types import ModuleType
from typing import Any

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


class _Callable(ModuleType):
    def __call__(self, *given: Any, **named: Any) -> Evaluation:
        return evaluate(*given, **named)


sys.modules[__name__].__class__ = _Callable
