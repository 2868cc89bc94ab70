"""The whole search on one image, target after target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np

from suture.attacks.aigent.imitate import ChainFacts, imitate
from suture.attacks.aigent.network import LayeredNetwork
from suture.attacks.aigent.pixelwise import many_at_once, one_by_one
from suture.attacks.aigent.region import settle
from suture.attacks.aigent.task import Settings, TargetSearch
from suture.attacks.aigent.tidy import polish

_MANY = 16
"""Pixels above which another search is worth its time."""

Origin = Literal["patches", "phases", "none"]


class SearchOutcome(Enum):
    """How the search on one image ended: a sentence."""

    FOUND = "An adversarial input was found, and the network agrees."
    NONE = (
        "No adversarial input was found in the phases that were tried. Try other targets, more "
        "phases, or a larger change per pixel."
    )
    OUT_OF_TIME = "Time ran out before an adversarial input was found. Raise the time limit."


@dataclass(frozen=True, eq=False)
class Finding:
    """What the search on one image found.

    Attributes:
        image: float64 ``(c, h, w)``: adversarial, or the clean image.
        outcome: how it ended.
        target: the class that the programs aimed at.
        pixels: how many differ from the clean image.
        origin: whether the input that imitates the patches was adversarial at once ("patches"),
            or programs on the network's phases had to repair or replace it ("phases").
        imitated: pixels of the input that imitates the patches if it was adversarial, else -1.
        incumbent, bound, gap: of the last program that counted pixels. The bound holds for the
            phases that this program assumed.
        seconds: wall time.
        cpu_seconds: processor time.
        programs: programs solved.
        forwards: images that went through the float64 copy of the network.
        notes: what solvers said.
        chain: what became of the patches, ``None`` where there were none.
    """

    image: np.ndarray
    outcome: SearchOutcome
    target: int
    pixels: int
    origin: Origin
    imitated: int
    incumbent: float
    bound: float
    gap: float
    seconds: float
    cpu_seconds: float
    programs: int
    forwards: int
    notes: tuple[str, ...]
    chain: ChainFacts | None = None


def search(
    network: LayeredNetwork,
    clean: np.ndarray,
    label: int,
    targets: Sequence[int],
    any_class: bool,
    settings: Settings,
) -> Finding:
    """Patches, the input that imitates them, repairs, and a tidy end; for each target in turn.

    Args:
        network: float64 copy of the attacked network.
        clean: float64 ``(c, h, w)``.
        label: its class.
        targets: classes to aim at, in order; the first that leads anywhere ends the search.
        any_class: whether any class but the label will do.
        settings: what is allowed; the time limit is for all targets together.
    """
    task = TargetSearch(network, clean, label, targets[0], any_class, settings)
    for target in targets:
        task.target = target
        found = _one(task)
        if found.outcome is SearchOutcome.FOUND or task.late:
            return found
    return found


def _one(task: TargetSearch) -> Finding:
    origin: Origin = "patches"
    image, imitated = imitate(task), -1
    if image is not None and task.fooled(image):
        imitated = task.count(image)
    else:
        image, origin = settle(task, image), "phases"
    if image is None and task.settings.candidates:
        most = min(task.settings.limit, float(task.clean.size))
        image = many_at_once(task, most) if task.settings.salient else None
        image = one_by_one(task, most) if image is None else image
    if image is not None:
        image = polish(task, image)
        if origin == "patches" and task.count(image) > _MANY:
            image, origin = _again(task, image)
        if task.count(image) <= task.settings.limit:
            return _finding(task, image, SearchOutcome.FOUND, origin, imitated)
    outcome = SearchOutcome.OUT_OF_TIME if task.late else SearchOutcome.NONE
    return _finding(task, task.clean, outcome, "none", imitated)


def _again(task: TargetSearch, image: np.ndarray) -> tuple[np.ndarray, Origin]:
    """The search without patches where theirs leave many pixels; the image with fewer of them."""
    other = settle(task, None)
    other = None if other is None else polish(task, other)
    if other is None or task.count(other) >= task.count(image):
        return image, "patches"
    return other, "phases"


def _finding(
    task: TargetSearch, image: np.ndarray, outcome: SearchOutcome, origin: Origin, imitated: int
) -> Finding:
    last = task.last
    return Finding(
        image=image,
        outcome=outcome,
        target=task.target,
        pixels=task.count(image),
        origin=origin,
        imitated=imitated,
        incumbent=np.inf if last is None else last.incumbent,
        bound=-np.inf if last is None else last.bound,
        gap=np.inf if last is None else last.gap,
        seconds=task.seconds,
        cpu_seconds=task.cpu_seconds,
        programs=task.programs,
        forwards=task.forwards,
        notes=tuple(task.notes),
        chain=task.chain,
    )
