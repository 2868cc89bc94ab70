"""What the winners are worth on the training images, measured through the deployed modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from suture.models import Cut
from suture.repairs.defensyn.execution import ProgramBank
from suture.repairs.defensyn.scoring import Samples
from suture.repairs.defensyn.state import Candidate
from suture.repairs.result import Status


def recheck(parts: Cut, samples: Samples, best: list[Candidate]) -> dict[str, Any]:
    """Counts of the winners through the modules that will be deployed.

    The compiled scorer adds a change to stored logits, the modules multiply the whole matrix: a
    sample whose two best logits agree to the last bits may fall either way.
    """
    before = _right(parts.head, samples.features, samples)
    disagreements = 0
    for candidate in best:
        bank = ProgramBank((candidate.program,)).to(samples.features.device)
        values = bank(samples.features, torch.zeros_like(samples.labels))
        adversarial, clean = _right(parts.head, values, samples)
        disagreements += abs(adversarial - candidate.adversarial) + abs(clean - candidate.clean)
    return {
        "unrepaired_adversarial_right": before[0],
        "unrepaired_clean_right": before[1],
        "rescored_disagreements": disagreements,
    }


def _right(head: nn.Module, values: Tensor, samples: Samples) -> tuple[int, int]:
    """How many adversarial and how many clean samples the head gets right."""
    with torch.no_grad():
        right = head(values).argmax(1) == samples.labels
    return int(right[: samples.adversarial].sum()), int(right[samples.adversarial :].sum())


def rows(best: list[Candidate]) -> list[dict[str, Any]]:
    """The programs as the trace holds them, best first."""
    return [_row(candidate) for candidate in best]


def _row(candidate: Candidate) -> dict[str, Any]:
    program = candidate.program
    return {
        "text": str(program),
        "score": candidate.score,
        "adversarial_right": candidate.adversarial,
        "clean_right": candidate.clean,
        "length": len(program),
        "writes": sorted(program.writes),
        "reads": sorted(program.reads),
    }


def status(trace: dict[str, Any]) -> Status:
    """Judged on the training images: by the mean over the programs, one of which is drawn."""
    found = trace["programs"]
    mean = sum(row["adversarial_right"] for row in found) / len(found)
    if mean == trace["adversarial"]:
        return Status.REPAIRED
    return Status.PARTLY if mean > trace["unrepaired_adversarial_right"] else Status.UNCHANGED
