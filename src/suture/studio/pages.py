"""The studio's pages: templates over plain data, in the report's look."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2

from suture.attacks import ATTACKS
from suture.repairs import REPAIRS
from suture.report.environment import environment
from suture.report.wording import duration
from suture.settings import has

RADII = {"linf": 0.5, "l2": 5.0, "l1": 50.0, "l0": 50.0}
"""How far the slider goes in each norm."""


def page(name: str, base: str, /, **given: Any) -> str:
    """A page by the name of its template.

    Args:
        base: what every path begins with: the token.
    """
    return _templates().get_template(f"{name}.html.j2").render(base=base, **given)


@cache
def _templates() -> jinja2.Environment:
    made = environment("suture.studio")
    made.filters["duration"] = duration
    return made


@cache
def attacks() -> tuple[tuple[str, str, str], ...]:
    """``(name, first line, norms)`` of every attack."""
    return tuple((name, first_line(kind), " ".join(kind.norms)) for name, kind in ATTACKS.items())


@cache
def methods() -> tuple[tuple[str, str, bool], ...]:
    """``(name, first line, whether its time can be limited)`` of every repair."""
    return tuple((name, first_line(kind), has(kind, "minutes")) for name, kind in REPAIRS.items())


def first_line(kind: type) -> str:
    """What a method is, in a sentence."""
    return (
        inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").replace("``", "")
    )


def progress(facts: Mapping[str, Any], *, own: bool, log: str) -> dict[str, Any]:
    """What a run's page shows of how far it is.

    Args:
        facts: of ``how_far``.
        own: whether it was started here and still runs.
        log: the end of what it has said, empty where it was not started here.
    """
    done, total = facts.get("done"), facts.get("total")
    known = isinstance(done, int) and isinstance(total, int) and total > 0
    told = [str(facts.get("stage", ""))] if facts.get("stage") else []
    told += [f"{facts['epochs']} epochs kept"] if facts.get("epochs") else []
    told += [f"{facts['pieces']} pieces kept"] if facts.get("pieces") else []
    told += [duration(facts["seconds"])] if facts.get("seconds") else []
    return {
        "status": str(facts.get("status", "starting")),
        "words": ", ".join(told),
        "done": done if known else 0,
        "total": total if known else 0,
        "stoppable": own,
        "live": own or facts.get("status") in ("running", "starting"),
        "log": log,
    }


def choices(*groups: Sequence[str]) -> list[str]:
    """All of them once, in their order, without empty ones."""
    return list(dict.fromkeys(one for group in groups for one in group if one))
