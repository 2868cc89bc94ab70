"""Inputs and what the network must say about them, as rows on its outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from suture.attacks.aigent.tail import Tail, read_tail
from suture.errors import ModelError


@dataclass(frozen=True, eq=False)
class Point:
    """One input and its demand ``matrix @ outputs >= right``.

    Attributes:
        entry: ``(width,)``, what enters the first fully connected layer.
        matrix: ``(k, outputs)``.
        right: ``(k,)``.
        price: cost of missing the demand by one; ``inf`` if it must be met.
        tolerance: how much of ``right`` may be missing for the demand to count as met.
    """

    entry: np.ndarray
    matrix: np.ndarray
    right: np.ndarray
    price: float = np.inf
    tolerance: float = 1e-6


def tail_of(model: nn.Module) -> Tail:
    """The fully connected layers that a model ends with, float64.

    Raises:
        ModelError: it does not end with some.
    """
    tail = read_tail(model)
    if tail is None:
        raise ModelError(
            expected="an nn.Sequential that ends with linear layers and ReLUs in turn",
            got=type(model).__name__,
            remedy="Weight patches change fully connected layers; use another repair.",
        )
    return tail


def entries(model: nn.Module, inputs: Tensor, batch_size: int = 256) -> np.ndarray:
    """What enters the first fully connected layer for each input, float64 ``(n, width)``."""
    network = copy.deepcopy(model).cpu().double().eval()
    seen: list[Tensor] = []
    tail = tail_of(network)
    hook = tail.first.register_forward_hook(lambda _module, given, _out: seen.append(given[0]))
    with torch.no_grad():
        for piece in inputs.detach().cpu().double().split(batch_size):
            network(piece)
    hook.remove()
    return torch.cat(seen).numpy()


def largest(
    entry: np.ndarray, label: int, classes: int, margin: float, price: float = np.inf
) -> Point:
    """The label's output exceeds every other by the margin."""
    others = [c for c in range(classes) if c != label]
    matrix = -np.eye(classes)[others]
    matrix[:, label] = 1.0
    return Point(entry, matrix, np.full(len(matrix), margin), price, _rounding(margin))


def below(
    entry: np.ndarray, index: int, outputs: np.ndarray, margin: float, price: float = np.inf
) -> Point:
    """Some other output exceeds output ``index`` by the margin: the one that is highest now."""
    rest = outputs.copy()
    rest[index] = -np.inf
    matrix = np.zeros((1, len(outputs)))
    matrix[0, int(rest.argmax())], matrix[0, index] = 1.0, -1.0
    return Point(entry, matrix, np.array([margin]), price, _rounding(margin))


def _rounding(margin: float) -> float:
    """What may be missing of a margin: the solver's tolerance, never more than half of it."""
    return min(margin / 2, max(1e-6, 1e-3 * margin))


def met(points: Sequence[Point], outputs: np.ndarray) -> np.ndarray:
    """Bool ``(n,)``: which demands the outputs ``(n, outputs)`` meet, within their tolerance."""
    short = [
        (point.right - point.matrix @ row).max() - point.tolerance
        for point, row in zip(points, outputs, strict=True)
    ]
    return np.array(short) <= 0
