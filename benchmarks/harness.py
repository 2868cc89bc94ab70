"""Ratios measured fairly: same process, same inputs, alternating order, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from suture.provenance import library_versions, machine

Row = dict[str, Any]


Clock = Callable[[], float]


def seconds(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Seconds of one call: of the wall clock, or of the processor (``time.process_time``)."""
    started = clock()
    work()
    return clock() - started


def paired(
    ours: Callable[[], object],
    reference: Callable[[], object],
    repeats: int = 5,
    warm: int = 3,
    clock: Clock = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Times of both, after ``warm`` warm-ups of each; which goes first alternates.

    The first call compiles or loads what is compiled, and takes memory from the system that later
    calls find at hand.
    """
    for _ in range(warm):
        ours(), reference()
    pairs: list[tuple[float, float]] = []
    for index in range(repeats):
        if index % 2:
            theirs, mine = seconds(reference, clock), seconds(ours, clock)
        else:
            mine, theirs = seconds(ours, clock), seconds(reference, clock)
        pairs.append((mine, theirs))
    return [mine for mine, _ in pairs], [theirs for _, theirs in pairs]


def speedup(
    case: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    named: str,
    work: float = 1.0,
    reference_work: float = 1.0,
    repeats: int = 5,
    **facts: Any,
) -> Row:
    """A row with ``speedup``: median over pairs of reference time over ours, per unit of work.

    Args:
        named: what the plain reference is.
        work, reference_work: units (programs, images) that one call of each handles.
    """
    mine, theirs = paired(ours, reference, repeats)
    ratios = [(t / reference_work) / (m / work) for m, t in zip(mine, theirs, strict=True)]
    return {
        "case": case,
        "seconds": round(statistics.median(mine), 6),
        "speedup": round(statistics.median(ratios), 2),
        "spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "reference": named,
        "reference_seconds": round(statistics.median(theirs), 6),
        **facts,
    }


def overhead(
    case: str,
    ours: Callable[[], object],
    floor: Callable[[], object],
    *,
    named: str,
    repeats: int = 5,
    warm: int = 3,
    clock: Clock = time.perf_counter,
    **facts: Any,
) -> Row:
    """A row with ``overhead``: median over pairs of our time over the bare work's."""
    mine, bare = paired(ours, floor, repeats, warm, clock)
    ratios = [m / b for m, b in zip(mine, bare, strict=True)]
    return {
        "case": case,
        "seconds": round(statistics.median(mine), 6),
        "overhead": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "floor": named,
        "floor_seconds": round(statistics.median(bare), 6),
        **facts,
    }


def report(name: str, rows: list[Row]) -> dict[str, Any]:
    """The object that a benchmark prints as its last line."""
    return {"name": name, "rows": rows, "hardware": machine(), "versions": library_versions()}
