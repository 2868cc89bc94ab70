"""Optimiser and learning rate, searched on held-out images within a limit of lost accuracy.

Shared by DARE and by the baselines, so that all have the same budget. Every setting is tuned from
the given weights, is an item of the engine (kept by a run, spread over workers), and remembers its
best epoch among those within the limit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from suture.data.splits import permutation, stratified
from suture.engine import Engine, Handle
from suture.errors import require
from suture.repairs.result import Status
from suture.rng import Stream
from suture.training.fitting import own_random_state
from suture.types import LabelledImages, OnDone

Optimiser = Literal["adam", "sgd"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Which settings are tried, and how long.

    Args:
        optimisers: "adam", "sgd" (momentum 0.9).
        rates: learning rates; each is tried with each optimiser.
        epochs: passes over the tuning images, at most.
        patience: stop after so many epochs without a better one.
        step_images: images per step.
        limit: points of clean accuracy on held-out images that may be lost (paper: 10).
    """

    optimisers: tuple[Optimiser, ...] = ("adam", "sgd")
    rates: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
    epochs: int = 10
    patience: int = 3
    step_images: int = 128
    limit: float = 10.0

    def __post_init__(self) -> None:
        known = get_args(Optimiser)
        checks = {
            f"optimisers out of {', '.join(known)}": bool(self.optimisers)
            and set(self.optimisers) <= set(known),
            "rates > 0": bool(self.rates) and all(rate > 0 for rate in self.rates),
            "epochs >= 1": self.epochs >= 1,
            "patience >= 1": self.patience >= 1,
            "step_images >= 2": self.step_images >= 2,
            "limit >= 0, in points": self.limit >= 0,
        }
        require(checks, self, "See the guide on DARE.")

    def settings(self) -> list[tuple[Optimiser, float]]:
        """Every optimiser with every rate."""
        return list(product(self.optimisers, self.rates))


class Fit(Protocol):
    """What is tuned: one step's gradients, and a score on held-out images."""

    def steps(self, model: nn.Module, stream: Stream, size: int) -> Iterator[dict[str, Tensor]]:
        """Gradients by parameter name, one dict a step, for one pass over the tuning images.

        The caller has stepped along the earlier ones before it asks for the next.
        """

    def score(self, model: nn.Module) -> float:
        """The larger the better, on held-out images."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """What one setting came to.

    Attributes:
        optimiser, rate: the setting.
        changed: the parameters that differ from the given ones, of the best epoch; ``None`` if no
            epoch was within the limit.
        score: of that epoch. accuracy: its clean accuracy on held-out images, in [0, 1].
        epoch: that epoch, counted from 1; 0 if there is none.
        epochs: one dict an epoch: score, accuracy, within.
    """

    optimiser: str
    rate: float
    changed: dict[str, Tensor] | None = None
    score: float | None = None
    accuracy: float | None = None
    epoch: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """The facts, for a trace."""
        return {key: value for key, value in vars(self).items() if key != "changed"}


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The search's result: a model, how it ended, and all settings."""

    model: nn.Module
    status: Status
    trace: dict[str, Any]


def search(
    model: nn.Module,
    fit: Fit,
    held: LabelledImages,
    grid: Grid,
    *,
    stream: Stream,
    engine: Engine,
    work: str,
    batch_size: int,
    on_done: OnDone | None = None,
) -> SearchResult:
    """Tune with every setting; the best score within the limit wins, the first of equals.

    Args:
        held: clean held-out images, for the accuracy.
        work: says what is computed, for a run's ledger.
    """
    before = {"score": fit.score(model), "accuracy": accuracy(model, held, batch_size)}
    floor = before["accuracy"] - grid.limit / 100
    settings, tried = grid.settings(), list[Tuned]()
    with engine.shared((model, fit, held)) as handle:
        fn = partial(_tune, handle, grid, floor, batch_size)
        kept = engine.keep(
            "settings",
            fn,
            settings,
            work=f"{work} {grid!r}",
            stream=stream,
            pack=vars,
            unpack=lambda v: Tuned(**v),
        )
        for one in kept:
            tried.append(one)
            if on_done is not None:
                on_done(len(tried), len(settings))
    trace = {"before": before, "floor": floor, "settings": [one.row() for one in tried]}
    return _chosen(model, tried, before["score"], trace)


def _chosen(
    model: nn.Module, tried: list[Tuned], before: float, trace: dict[str, Any]
) -> SearchResult:
    within = [one for one in tried if one.score is not None]
    copied = copy.deepcopy(model)
    if not within:
        return SearchResult(copied, Status.BEYOND_LIMIT, trace | {"chosen": None})
    best = max(within, key=lambda one: one.score or 0.0)
    assert best.score is not None and best.changed is not None
    if not best.score > before:
        return SearchResult(copied, Status.UNCHANGED, trace | {"chosen": None})
    copied.load_state_dict(copied.state_dict() | best.changed)
    return SearchResult(copied, Status.TUNED, trace | {"chosen": best.row()})


def _tune(
    handle: Handle[tuple[nn.Module, Fit, LabelledImages]],
    grid: Grid,
    floor: float,
    batch_size: int,
    setting: tuple[Optimiser, float],
    stream: Stream,
) -> Tuned:
    """One setting: epochs until patience ends."""
    given, fit, held = handle.get()
    model = copy.deepcopy(given).eval()
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    optimiser = _optimiser(setting, list(parameters.values()))
    found = Tuned(*setting)
    for epoch in range(1, grid.epochs + 1):
        device = next(iter(parameters.values())).device
        with own_random_state(stream.child("dropout").child(epoch), device):
            for gradients in fit.steps(model, stream.child(epoch), grid.step_images):
                for name, parameter in parameters.items():
                    parameter.grad = gradients.get(name)
                optimiser.step()
        model.eval()
        found = _judged(found, given, model, fit, held, floor, batch_size, epoch)
        last = found.epochs[-1]
        if not last["finite"] or epoch - found.epoch >= grid.patience:
            break
    return found


def _optimiser(
    setting: tuple[Optimiser, float], parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    kind, rate = setting
    if kind == "adam":
        return torch.optim.Adam(parameters, lr=rate)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9)


def _judged(
    found: Tuned,
    given: nn.Module,
    model: nn.Module,
    fit: Fit,
    held: LabelledImages,
    floor: float,
    batch_size: int,
    epoch: int,
) -> Tuned:
    """The setting's facts with one more epoch, which is kept if it is the best within the limit."""
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
    right = accuracy(model, held, batch_size) if finite else 0.0
    score = fit.score(model) if finite and right >= floor else None
    row = {"score": score, "accuracy": right, "within": score is not None, "finite": finite}
    epochs = [*found.epochs, row]
    if score is None or (found.score is not None and score <= found.score):
        return Tuned(**vars(found) | {"epochs": epochs})
    before = given.state_dict()
    changed = {
        name: value.detach().cpu().clone()
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    return Tuned(found.optimiser, found.rate, changed, score, right, epoch, epochs)


@torch.no_grad()
def accuracy(model: nn.Module, data: LabelledImages, batch_size: int) -> float:
    """Share of the images that the model gets right, in [0, 1]."""
    right = 0
    for piece in data.split(batch_size):
        right += int((model(piece.images).argmax(1) == piece.labels).sum())
    return right / len(data)


def orders(count: int, stream: Stream, size: int) -> list[Tensor]:
    """One pass over ``count`` images in a random order, in pieces of ``size``; no piece of one."""
    pieces = list(permutation(count, stream).split(size))
    return pieces[:-1] if len(pieces) > 1 and len(pieces[-1]) < 2 else pieces


def halves(
    data: LabelledImages, share: float, stream: Stream
) -> tuple[LabelledImages, LabelledImages]:
    """``1 - share`` of the images, and ``share`` of them, every class in proportion."""
    count = min(len(data) - 1, max(1, round(share * len(data))))
    chosen = stratified(data.labels.cpu(), count, stream)
    return data.select((~chosen).nonzero()[:, 0]), data.select(chosen.nonzero()[:, 0])
