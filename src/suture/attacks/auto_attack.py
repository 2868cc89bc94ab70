"""AutoAttack (Croce & Hein 2020, arXiv:2003.01690; L1: 2021, arXiv:2103.01208): an ensemble.

The parts are suture's own attacks, put together as in the authors' code. An image that one of
them fools leaves; only the others meet the next. Every part draws random bits of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from suture.attacks.apgd import APGD
from suture.attacks.base import ATTACKS, Attack, require, require_finite_eps
from suture.attacks.fab import FAB
from suture.attacks.geometry import margin, project
from suture.attacks.oracle import Oracle
from suture.attacks.square import Square
from suture.attacks.steps import Rows
from suture.types import Norm, is_randomised

_LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
_DRAWS = 20
_TOLERANCE = 1e-4


@ATTACKS.add("autoattack")
@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """The ensemble that robust accuracies are reported with.

    "standard": APGD on cross entropy, APGD towards each wrong class on the targeted DLR loss,
    FAB towards each wrong class, Square. "plus" adds APGD on DLR and FAB towards the nearest
    boundary, and starts APGD on cross entropy, APGD on DLR and untargeted FAB five times.
    "rand", for randomised models: APGD on cross entropy and on DLR, with losses averaged over 20
    draws. In L1 "standard" starts APGD on cross entropy five times, goes towards 5 classes, and
    begins with larger radii.

    What makes the result doubtful comes back in ``AttackResult.notes``: a randomised model,
    probabilities for logits, gradients that are zero, Square where gradients failed, and parts
    left out for want of classes (DLR needs three of them, its targeted form four).

    Args:
        version: "standard", "plus" or "rand". "rand" with ``eot=1`` takes the authors'
            ``eot=20, eot_of="losses"``.
        steps: of APGD and FAB, per start.
        queries: of Square.
        classes: target classes of APGD and FAB.
    """

    version: Literal["standard", "plus", "rand"] = "standard"
    steps: int = 100
    queries: int = 5000
    classes: int = 9

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    can_target: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.version == "rand" and self.eot == 1:
            object.__setattr__(self, "eot", _DRAWS)
            object.__setattr__(self, "eot_of", "losses")
        super().__post_init__()
        require_finite_eps(self.eps, "AutoAttack")
        known = self.version in ("standard", "plus", "rand")
        require(known, 'version "standard", "plus" or "rand"', f"version={self.version!r}")
        require(self.steps >= 1, "steps >= 1", f"steps={self.steps!r}")
        enough = self.queries >= (1 if self.adaptive else self.eot)
        require(enough, "queries >= eot", f"queries={self.queries!r}")
        require(self.classes >= 1, "classes >= 1", f"classes={self.classes!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        best = images.clone()
        if self.eps == 0:
            return best
        self._look(oracle, images, rows)
        left = Rows(clean=images, rows=rows)
        for name, attack in self._parts(oracle):
            found, fallen = self._attacked_by(attack, name, oracle, left)
            best[left.place[fallen]] = found[fallen]
            left.leave(fallen)
            if not len(left):
                break
        return best

    def parts(self) -> dict[str, Attack]:
        """The attacks in their order, by the authors' names."""
        ball: dict[str, Any] = {"norm": self.norm, "eps": self.eps}
        shared = ball | {"eot": self.eot, "adaptive": self.adaptive}
        apgd = shared | {"steps": self.steps, "decreasing": self.version == "standard"}
        fab = shared | {"steps": self.steps}
        plus, five = self.version == "plus", 5 if self.version == "plus" else 1
        wide = min(5, self.classes) if self.norm == "l1" and not plus else self.classes
        first = 5 if self.norm == "l1" and self.version == "standard" else five
        known: dict[str, Attack] = {
            "apgd-ce": APGD(loss="ce", restarts=first, **apgd),
            "apgd-dlr": APGD(loss="dlr", restarts=five, **apgd),
            "fab": FAB(restarts=five, **fab),
            "square": Square(queries=self.queries, rescale_schedule=False, **shared),
            "apgd-t": APGD(loss="dlr-targeted", classes=wide, **apgd),
            "fab-t": FAB(by_class=True, classes=self.classes, **fab),
        }
        return {name: known[name] for name in _ORDER[self.version]}

    def _parts(self, oracle: Oracle) -> Iterator[tuple[str, Attack]]:
        """Those that the number of classes allows."""
        for name, attack in self.parts().items():
            if oracle.classes >= _LEAST_CLASSES.get(name, 2):
                yield name, attack
            else:
                oracle.notes.append(
                    f"AutoAttack: {name} is left out: its loss needs {_LEAST_CLASSES[name]} "
                    f"classes, the model has {oracle.classes}."
                )

    def _attacked_by(
        self, attack: Attack, name: str, oracle: Oracle, left: Rows
    ) -> tuple[Tensor, Tensor]:
        """What one part found, inside the ball, and which images need no other part."""
        with oracle.scope(name):
            found = attack.run(oracle, left.clean, left.rows)
            found = project(self.norm, self.eps, left.clean, found)
            logits = oracle.logits(found, left.rows)
        if name == "square" and bool(oracle.reached(logits, left.rows).any()):
            oracle.notes.append(
                "AutoAttack: Square fooled images that the gradient attacks before it did not. "
                "Gradients may be masked: try Square with more queries, or an adaptive attack."
            )
        return found, oracle.finished(logits, left.rows)

    def _look(self, oracle: Oracle, images: Tensor, rows: Tensor) -> None:
        """Notes on the model, from a gradient and a second forward on the clean images."""
        logits, gradient = oracle.gradient(images, rows, margin)
        asked = oracle.can_ask(rows)
        again = oracle.logits(images, rows)
        for doubt, text in (
            (self.version != "rand" and is_randomised(oracle.model), _RANDOMISED),
            (self.version != "rand" and _differ(logits[asked], again[asked]), _RANDOMISED),
            (_are_probabilities(logits), _PROBABILITIES),
            (bool((gradient[asked].flatten(1) == 0).all(1).any()), _ZERO),
        ):
            if doubt:
                oracle.notes.append(f"AutoAttack: {text}")


_ORDER = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
_RANDOMISED = 'it seems to be a randomized defense. Use version="rand", or eot.'
_PROBABILITIES = "it seems that the output is a probability distribution. Give the logits."
_ZERO = "the margin's gradient is zero at some clean images: gradient attacks may be unreliable."


def _differ(one: Tensor, other: Tensor) -> bool:
    """Whether logits of unit length differ, in the authors' tolerance, for any image."""
    units = [z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10) for z in (one, other)]
    return bool(((units[0] - units[1]).square().sum(1).sqrt() > _TOLERANCE).any())


def _are_probabilities(logits: Tensor) -> bool:
    low, high, total = logits.min(), logits.max(), logits.sum(1)
    return bool((low > -1e-5) & (high < 1 + 1e-5) & ((total - 1).abs() < 1e-5).all())
