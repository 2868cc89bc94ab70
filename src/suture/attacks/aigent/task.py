"""One image to be attacked: what may be done, what was spent, and the network's own verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from suture.attacks.aigent.goals import Marking
from suture.attacks.aigent.network import LayeredNetwork, Reading
from suture.attacks.aigent.program import InputProgram, PixelMoves
from suture.solvers import Solution

if TYPE_CHECKING:
    from suture.attacks.aigent.imitate import ChainFacts

FEW = 10
"""Violated rows added at a time."""
LEAST_SECONDS = 1e-3
_PIECE = 8
"""Images between two looks at the clock."""


@dataclass(frozen=True)
class Settings:
    """What a search may do; the fields of ``AIGENT`` that matter for one image."""

    patches: bool = True
    chain: Literal["joint", "own", "paper"] = "joint"
    marking: Marking = "split"
    relaxed: bool = True
    method: Literal["lp", "milp"] = "lp"
    margin: float = 1e-3
    max_change: float = 1.0
    limit: float = np.inf
    together: bool = True
    phases: int = 4
    repairs: int = 8
    polish: int = 4
    candidates: int = 48
    enough: int = 6
    bounds: float = 0.0
    salient: int = 0
    solver: str = "highs"
    seconds: float | None = None


class TargetSearch:
    """One image, one target, and an account of what the search for it spends.

    Args:
        network: float64 copy of the attacked network.
        clean: float64 ``(c, h, w)``.
        label: its class.
        target: the class that the programs aim at.
        any_class: whether any class but the label will do (untargeted).
        settings: what is allowed.

    Attributes:
        programs: programs solved.
        last: the last solution that counted pixels.
        chain: what became of the patches of the last target, ``None`` without.
        notes: what solvers said.
    """

    def __init__(
        self,
        network: LayeredNetwork,
        clean: np.ndarray,
        label: int,
        target: int,
        any_class: bool,
        settings: Settings,
    ) -> None:
        self.network, self.clean, self.settings = network, clean, settings
        self.label, self.target, self.any_class = label, target, any_class
        self.programs = 0
        self.last: Solution | None = None
        self.chain: ChainFacts | None = None
        self.notes: dict[str, None] = {}
        self._started, self._cpu = time.perf_counter(), time.process_time()
        self._before = network.forwards
        self._chosen: tuple[int, np.ndarray] | None = None
        self._kept: list[tuple[np.ndarray, Reading] | None] = [None, None]

    @property
    def seconds(self) -> float:
        """Wall time since the beginning."""
        return time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process since the beginning."""
        return time.process_time() - self._cpu

    @property
    def forwards(self) -> int:
        """Images that went through the copy of the network."""
        return self.network.forwards - self._before

    @property
    def left(self) -> float | None:
        """Seconds left, ``None`` without limit; never less than a solver can take."""
        limit = self.settings.seconds
        return None if limit is None else max(LEAST_SECONDS, limit - self.seconds)

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self.settings.seconds is not None and self.seconds >= self.settings.seconds

    def guessed(self, images: np.ndarray) -> np.ndarray:
        """By how much each image ``(n, c, h, w)`` is what the attacker wants, ``(n,)``.

        In float32, in which a batch takes a fraction of the time: whatever is chosen by these
        margins is asked for its ``margin`` afterwards. -inf where a time limit leaves no time.
        """
        if self.settings.seconds is None:
            return self._margins(self.network.rough(images))
        found = np.full(len(images), -np.inf)
        for begin in range(0, len(images), _PIECE):
            if self.late:
                break
            part = slice(begin, begin + _PIECE)
            found[part] = self._margins(self.network.rough(images[part]))
        return found

    def margin(self, image: np.ndarray) -> float:
        """By how much an image ``(c, h, w)`` is what the attacker wants, in float64."""
        here = self.reading(image)
        return float(self._margins(here.values(here.logits)[None])[0])

    def _margins(self, logits: np.ndarray) -> np.ndarray:
        rest = logits.copy()
        if self.any_class:
            rest[:, self.label] = -np.inf
            return rest.max(1) - logits[:, self.label]
        rest[:, self.target] = -np.inf
        return logits[:, self.target] - rest.max(1)

    @property
    def least_margin(self) -> float:
        """The margin from which on an image counts as adversarial."""
        return self.settings.margin / 2

    def fooled(self, image: np.ndarray) -> bool:
        """Whether the network's answer is what the attacker wants, by half the margin."""
        return self.margin(image) >= self.least_margin

    def reading(self, image: np.ndarray) -> Reading:
        """The network at the image as it will be judged: in numbers of float32.

        Those of the clean image and of the last other one are kept: who finds an image asks what
        the network says of it, and then begins in its phases.
        """
        place = image is not self.clean
        kept = self._kept[place]
        if kept is None or kept[0] is not image:
            kept = image, self.network.at(_judged(image))
            self._kept[place] = kept
        return kept[1]

    def count(self, image: np.ndarray) -> int:
        """Pixels (or channels, where they are apart) that differ from the clean image."""
        differ = image != self.clean
        return int(differ.any(0).sum() if self.settings.together else differ.sum())

    def moves(self, gradient: np.ndarray) -> PixelMoves:
        """The pixels' moves, "towards" along the gradient; only salient pixels have any."""
        moves = self._moves(gradient)
        return moves if not self.settings.salient else moves.only(self._salient())

    def _moves(self, gradient: np.ndarray) -> PixelMoves:
        return PixelMoves.of(self.clean, gradient, self.settings.max_change, self.settings.together)

    def _salient(self) -> np.ndarray:
        """Bool ``(1 or c, h, w)``: the pixels that help the target most, by the gradient at the
        clean image, moved as far as they may."""
        if self._chosen is None or self._chosen[0] != self.target:
            here = self.reading(self.clean)
            weights = np.zeros((1, len(here.logits)))
            weights[0, self.target], weights[0, self.label] = 1.0, -1.0
            gradient = here.rows(here.logits, weights)
            gain = np.maximum(*np.split(self._moves(gradient[0]).columns(gradient)[0], 2))
            mask = np.zeros(len(gain), dtype=bool)
            mask[np.argsort(-gain, kind="stable")[: self.settings.salient]] = True
            shape = self.clean.shape
            together = self.settings.together
            self._chosen = (self.target, mask.reshape((1, *shape[1:]) if together else shape))
        return self._chosen[1]

    def solved(self, program: InputProgram) -> np.ndarray | None:
        """The image that the program gives; ``None`` if it gives none.

        An integer program gets half of the time that is left: where the network disagrees with its
        image, another one must follow.
        """
        exact, left = self.settings.method == "milp", self.left
        if exact and left is not None:
            left = max(LEAST_SECONDS, left / 2)
        found = (program.exact if exact else program.relaxed)(self.settings.solver, left)
        self.programs += 1
        self.notes.update(dict.fromkeys(found.notes))
        if not found.status.found:
            return None
        self.last = found
        return program.image(found)


def _judged(images: np.ndarray) -> np.ndarray:
    """Numbers of float32, in which images are judged, as float64."""
    return images.astype(np.float32).astype(np.float64)
