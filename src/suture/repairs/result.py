"""What a repair gives back, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import nn

from suture import notebook
from suture.certify.promise import Promise
from suture.types import Batch


class Status(Enum):
    """How a repair ended: a sentence, with a remedy where one is needed."""

    REPAIRED = "The model was repaired."
    PARTLY = (
        "Some of the given inputs are repaired, not all. More training data, a longer search or "
        "another method may repair the rest."
    )
    UNCHANGED = (
        "No change was found that helps; the model is as it was. Give it a stronger method, more "
        "data, or inputs that the attack does fool."
    )
    INFEASIBLE = "No change of the allowed kind can repair the inputs. Allow a larger change."
    TUNED = (
        "The model was tuned within the limit of lost accuracy; held-out images say that it is "
        "better at what it was tuned for. Only attacks on it say what that is worth."
    )
    BEYOND_LIMIT = (
        "No setting keeps the accuracy within the limit; the model is as it was. Allow more points "
        "to be lost, try lower learning rates, or give more images."
    )
    COLLAPSED = (
        "Training collapsed: it learned the single step and not the attack (catastrophic "
        "overfitting). What is given back is from before. Use more inner steps, more noise, or a "
        "lower learning rate."
    )
    SMOOTHED = (
        "The model answers by vote over noisy copies of the image now. What that proves of each "
        "image is counted by suture certify."
    )
    OUT_OF_TIME = "Time ran out; the best found so far is kept. Raise the time limit."


@dataclass(frozen=True, eq=False)
class RepairResult:
    """What a repair gives back.

    Attributes:
        model: the repaired classifier; works wherever the original did.
        status: how it ended.
        trace: what happened on the way, ready for JSON.
        certificates: claims about regions that can be checked again; empty if nothing is proved.
        promise: what was to be proved, whether it is or not; ``None`` where that is nothing fixed.
        images: labelled images that belong to the result, by name: what A5/O has robustified.
        artifacts: what else is worth keeping, by name, ready for JSON: a file each.
    """

    model: nn.Module
    status: Status
    trace: dict[str, Any] = field(default_factory=dict)
    certificates: tuple[Any, ...] = ()
    images: Mapping[str, Batch] = field(default_factory=dict)
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    promise: Promise | None = None

    def _repr_html_(self) -> str:
        """For notebooks: how it ended, and what there is."""
        rows: dict[str, object] = {"status": self.status.value, "model": type(self.model).__name__}
        told = {key: self.trace[key] for key in ("samples", "adversarial") if key in self.trace}
        rows |= {f"{key} images": count for key, count in told.items()}
        rows |= {"certificates": len(self.certificates)} if self.certificates else {}
        rows |= {f"images: {name}": len(batch) for name, batch in self.images.items()}
        return notebook.facts("repair", rows)
