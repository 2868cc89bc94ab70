"""The search's parts as plain data: what a run keeps of a chunk, and of a length."""

from __future__ import annotations

from typing import Any

import numpy as np

from suture.repairs.defensyn.encoding import Encoded, encode
from suture.repairs.defensyn.state import Candidate, Summary, Sums


def summary_to_plain(summary: Summary) -> dict[str, Any]:
    """What is kept of a chunk."""
    return {
        "best": candidates_to_plain(summary.best),
        "sums": [summary.sums.left, summary.sums.right],
        "discarded": summary.discarded,
    }


def summary_from_plain(value: dict[str, Any]) -> Summary:
    """The inverse of ``summary_to_plain``."""
    best = candidates_from_plain(value["best"])
    return Summary(best, Sums(*value["sums"]), int(value["discarded"]))


def candidates_to_plain(best: list[Candidate]) -> dict[str, Any]:
    """Candidates as arrays; programs in the form of ``encoding``."""
    if not best:
        return {"programs": []}
    return {
        "programs": list(encode([candidate.program for candidate in best]).arrays),
        "counts": np.array([(c.adversarial, c.clean) for c in best], np.int64),
        "scores": np.array([c.score for c in best], np.float64),
        "orders": np.array([c.order for c in best], np.int64),
    }


def candidates_from_plain(value: dict[str, Any]) -> list[Candidate]:
    """The inverse of ``candidates_to_plain``."""
    if not value["programs"]:
        return []
    programs = Encoded(*value["programs"])
    columns = (value["counts"].tolist(), value["scores"].tolist(), value["orders"].tolist())
    return [
        Candidate(programs.program(row), counts[0], counts[1], score, (order[0], order[1]))
        for row, (counts, score, order) in enumerate(zip(*columns, strict=True))
    ]
