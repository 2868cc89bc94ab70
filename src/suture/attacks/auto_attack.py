"""AutoAttack, by its authors' code (Croce & Hein 2020, arXiv:2003.01690; package pyautoattack).

Nothing is weakened: 100 steps, all attacks. What the package warns about (a randomised or dynamic
defence, probabilities for logits, zero gradients, Square stronger than white-box) comes back in
``AttackResult.notes``.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from suture.attacks.base import Attack, require, require_finite_eps
from suture.attacks.oracle import Oracle
from suture.errors import ArgumentError, DependencyError
from suture.models import frozen
from suture.rng import Stream, image_keys
from suture.types import Norm

_NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_LEAST_CLASSES = {"standard": 4, "rand": 3}


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """The ensemble that robust accuracies are reported with.

    "standard": APGD on cross entropy, APGD towards each wrong class on the targeted DLR loss,
    FAB towards each wrong class, Square with 5 000 queries; an image that one of them fools
    leaves. "rand", for randomised models: APGD on cross entropy and on DLR, with gradients
    averaged over 20 draws.

    The package draws for a batch as a whole, so the result of an image can depend on the others
    of its batch: the one attack here that does not promise otherwise. Queries are exact per
    image, the package's eight checks of the model included.

    Args:
        version: "standard" or "rand".
    """

    version: Literal["standard", "rand"] = "standard"

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    can_target: ClassVar[bool] = False
    independent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "AutoAttack")
        known = self.version in _LEAST_CLASSES
        require(known, 'version "standard" or "rand"', f"version={self.version!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        package = _package()
        if self.eps == 0:
            return images
        least = _LEAST_CLASSES[self.version]
        if oracle.classes < least:
            raise ArgumentError(
                expected=f"at least {least} classes for AutoAttack's {self.version} version",
                got=str(oracle.classes),
                remedy="Use PGD, APGD with the cross entropy, and Square.",
            )
        model = _Asked(oracle, images, rows)
        labels = oracle.goals[rows]
        with _fence(oracle) as logger:
            attack = package.AutoAttack(
                model,
                norm=_NAMES[self.norm],
                eps=self.eps,
                version=self.version,
                device=images.device,
                seed=oracle.stream.key & (2**31 - 1),
            )
            attack.logger = attack.apgd.logger = attack.apgd_targeted.logger = logger
            _all_classes(attack, oracle.classes)
            _follow_square(attack.square, model)
            found, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
        return found


def _package(part: str = "") -> Any:
    try:
        return importlib.import_module(f"pyautoattack{part}")
    except ImportError:
        raise DependencyError(
            expected="the package pyautoattack",
            got="an environment without it",
            remedy="pip install 'suture[autoattack]'",
        ) from None


def _all_classes(attack: Any, classes: int) -> None:
    """Nine target classes, or all wrong ones where there are fewer."""
    for part in (attack.apgd_targeted, attack.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)


class _Asked(nn.Module):
    """The model as the package sees it: every forward is an oracle's query of the right images.

    The package asks about changing subsets without naming them. A batch of clean images is
    recognised by content; a changed one belongs to the subset of that length seen last, since
    the package always shows a subset clean before it changes it. (Subsets only shrink, so two of
    one length within an attack are the same.) Square's are set by ``_follow_square``.
    """

    def __init__(self, oracle: Oracle, images: Tensor, rows: Tensor) -> None:
        super().__init__()
        self._oracle = [oracle]
        self._rows: dict[int, list[int]] = {}
        for key, row in zip(_keys(images), rows.tolist(), strict=True):
            self._rows.setdefault(key, []).append(row)
        self._last: dict[int, Tensor] = {}
        self.told: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits, averaged over the oracle's draws, with gradients."""
        if self.told is None:
            self.recognise(images)
        owners = self._last[len(images)] if self.told is None else self.told
        return self._oracle[0].differentiable(images, owners)

    def recognise(self, images: Tensor) -> Tensor | None:
        """The rows of a batch of clean images, and a note of them for its changed versions."""
        if _keys(images[:1])[0] not in self._rows:
            return None
        seen: dict[int, int] = {}
        found = []
        for key in _keys(images):
            twins = self._rows.get(key)
            if twins is None:
                return None
            found.append(twins[seen.get(key, 0) % len(twins)])
            seen[key] = seen.get(key, 0) + 1
        self._last[len(images)] = torch.tensor(found, device=images.device)
        return self._last[len(images)]


def _keys(images: Tensor) -> list[int]:
    return image_keys(images, Stream(0)).tolist()


def _follow_square(square: Any, model: _Asked) -> None:
    """Square drops images whose margin was ever at most 0; so does this account of them."""
    run: Callable[..., Any] = square.attack_single_run
    ask: Callable[..., Any] = square.margin_and_loss

    def attack_single_run(x: Tensor, y: Tensor) -> Any:
        model.told = model.recognise(x)
        try:
            return run(x, y)
        finally:
            model.told = None

    def margin_and_loss(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        margins, losses = ask(x, y)
        if model.told is not None:
            model.told = model.told[margins > 0]
        return margins, losses

    square.attack_single_run, square.margin_and_loss = attack_single_run, margin_and_loss


@contextmanager
def _fence(oracle: Oracle) -> Iterator[logging.Logger]:
    """The package's side effects stay inside; what it warns about becomes notes."""
    checks = _package(".checks")
    # Its count of gradient calls is global: one dynamic model would mark all later ones.
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    logger = logging.Logger("suture.autoattack")
    logger.addHandler(_Notes(oracle.notes))
    tracing, grades = sys.gettrace(), torch.is_grad_enabled()
    try:
        with frozen(oracle.model):  # FAB's backward would fill their .grad
            yield logger
    finally:
        sys.settrace(tracing)
        torch.set_grad_enabled(grades)


class _Notes(logging.Handler):
    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().split(" See ")[0]
        self._notes.append(f"AutoAttack: {text}")
