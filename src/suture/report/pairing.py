"""Which measurement of one model stands beside which of another: like with like."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from suture.evaluate.records import Record
from suture.report.cells import MeasuredCell, eps_of

_AVERAGING = ("eot", "eot_of", "early_stop")
_BUDGETS = ("queries", "budget")
Likeness = tuple[object, ...]


def likeness(record: Record) -> Likeness:
    """Equal for two records of one measurement on two models, however the queries were averaged.

    Kind, metric, attack with its parameters, threat. Where the attacker of a defence that moves
    images stands is left out, since the classifier before moved none. How a query averages
    over draws, and whose gradients it follows, is left out: it changes nothing for a model that
    does not draw and whose gradients are its own.
    """
    return (*same_attack(record), record.kind, record.program, eps_of(record))


def same_attack(record: Record) -> Likeness:
    """Equal for two records of one attack, whatever the radius and the draws."""
    parameters = json.dumps(_comparable(record.attack.get("parameters", {})), sort_keys=True)
    return record.metric, record.attack.get("name"), parameters, record.threat.get("norm")


def _comparable(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters apart from radius and averaging; budgets in candidates, not in forward passes."""
    eot = parameters.get("eot")
    draws = eot if isinstance(eot, int) and eot > 1 else 1
    aside = {*_AVERAGING, "eps"}
    kept = {name: value for name, value in parameters.items() if name not in aside}
    budgets = {k: v / draws for k, v in kept.items() if k in _BUDGETS and isinstance(v, int)}
    return kept | budgets


def partner(m: MeasuredCell, others: Iterable[MeasuredCell]) -> MeasuredCell | None:
    """The measurement of another model that stands beside this one: like it, the nearest first.

    The same protocol comes before another, then what attacked the model directly.
    """
    like = [other for other in others if likeness(other.first) == likeness(m.first)]
    return min(like, key=lambda other: _distance(m.first, other.first), default=None)


def _distance(record: Record, other: Record) -> tuple[bool, bool, bool]:
    direct = other.draws is None and not other.through
    return other.protocol != record.protocol, other.draws != record.draws, not direct
