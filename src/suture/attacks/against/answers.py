"""What one query of a model answers: the logits of every draw that it averages."""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from suture.errors import ModelError
from suture.rng import bits
from suture.types import described

COMMON = 4
_NONE = np.empty(0, np.float32)


class Answers:
    """Logits ``(d, k, classes)`` of d draws, to be averaged with the weights ``(d,)``.

    * A deterministic model has one draw of weight 1.
    * Where the draw is hidden and the rest known (``adaptive``), a model with finite support
      answers with all of its classifiers and their probabilities: an exact mean without noise.
      Another randomised model answers with ``eot`` draws that are the same at every query
      (common random numbers), so that two candidates differ by themselves and not by luck.
    * Otherwise every query meets ``eot`` fresh draws, as it would in the field.

    Attributes:
        weights: probabilities of the draws, ``(d,)``, where they are not equal to ``1/d``.
        exact: whether the mean is over everything that the model can draw.
        draws: forwards that a query stands for. An exact mean counts as one: the attacker has
            the programs and computes it himself.
        numbered: whether every query meets draws of its own.
    """

    def __init__(self, model: nn.Module, *, eot: int, adaptive: bool) -> None:
        self.model, self.about, self._adaptive = model, described(model), adaptive
        self.randomised = self.about.randomised
        odds = self.about.odds() if adaptive and self.randomised else ()
        self.weights = torch.tensor(odds) if odds else None
        self.exact = not self.randomised or bool(odds)
        self.draws = 1 if not self.randomised or odds else eot
        self.numbered = self.randomised and not adaptive

    def __call__(self, images: Tensor, keys: Tensor, first: Tensor, counter: int) -> Tensor:
        """Logits of every draw.

        Args:
            images: ``(k, c, h, w)``.
            keys: int64 ``(k,)``, the images' random keys.
            first: int64 ``(k,)``, queries they had before: numbers the fresh draws, if any.
            counter: tells fresh draws from other uses of the keys.
        """
        if not self.randomised:
            return checked(self.model(images), images)[None]
        if self.weights is not None:
            each = self.about.each(images)
            checked(each[0], images)
            return each
        return torch.stack(
            [
                checked(self.model(images, noise=noise), images)
                for noise in self.noise(keys, first, counter)
            ]
        )

    def averaged(self, images: Tensor, keys: Tensor, first: Tensor, counter: int) -> Tensor:
        """The mean ``(1, k, classes)`` of fresh draws, by the model's own short way to it."""
        noise = torch.stack(self.noise(keys, first, counter))
        return checked(self.about.average(images, noise), images)[None]

    def noise(self, keys: Tensor, first: Tensor, counter: int) -> list[Tensor]:
        """Random bits ``(k,)`` of each draw."""
        if self._adaptive:
            return [bits(keys, COMMON, d) for d in range(self.draws)]
        return [bits(keys, counter, first + d) for d in range(self.draws)]

    def mean(self, values: Tensor) -> Tensor:
        """Over the first axis of ``(d, ...)``, by the weights."""
        return weighted(values, self.weights)

    def shares_of(self, count: int) -> NDArray[np.float32]:
        """What each of so many draws contributes to the mean, ``(count,)``."""
        return _alike(count) if count == 1 or self.weights is None else self.weights.numpy()


@cache
def _alike(count: int) -> NDArray[np.float32]:
    return np.ones(count, np.float32) / np.float32(count)


def weighted(values: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the first axis of ``(d, ...)``, by the weights, or equal ones.

    Added up one after another: torch's own sums may take another order in another batch.
    """
    if values.shape[0] == 1:
        return values.squeeze(0)
    if values.requires_grad and torch.is_grad_enabled():
        return _Weighted.apply(values, weights)  # type: ignore[no-any-return]
    return _added(values, weights)


def _added(values: Tensor, weights: Tensor | None) -> Tensor:
    if values.device.type == "cpu" and values.dtype == torch.float32:
        flat = values.detach().contiguous().numpy()
        weigh = _NONE if weights is None else weights.cpu().numpy()
        summed = np.empty(flat.shape[1:], np.float32)
        _sum(flat.reshape(flat.shape[0], -1), weigh, weights is None, summed.reshape(-1))
        return torch.from_numpy(summed)
    if weights is not None:
        values = values * _along_first(weights, values)
    first, *others = values.unbind(0)
    total = first.clone()
    for part in others:
        total += part
    return total if weights is not None else total / len(values)


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _sum(values, weights, equal, total):  # type: ignore[no-untyped-def]
    """Rows times their weights, added up from the first to the last; ``equal`` ones are divided."""
    for i in range(len(total)):
        total[i] = values[0, i] if equal else values[0, i] * weights[0]
    for d in range(1, len(values)):
        row, weight = values[d], np.float32(1.0) if equal else weights[d]
        for i in range(len(total)):
            total[i] = total[i] + weight * row[i]
    if equal:
        for i in range(len(total)):
            total[i] = total[i] / np.float32(len(values))


def _along_first(weights: Tensor, values: Tensor) -> Tensor:
    return weights.to(values).reshape(-1, *(1,) * (values.ndim - 1))


class _Weighted(torch.autograd.Function):
    """The mean with one node in the graph, in place of several a draw."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weights: Tensor | None) -> Tensor:
        ctx.weights, ctx.shape = weights, values.shape
        return _added(values, weights)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (slope,) = slopes
        if ctx.weights is None:
            return (slope / ctx.shape[0]).expand(ctx.shape), None
        return slope * _along_first(ctx.weights, slope[None]), None


def checked(output: Tensor, images: Tensor) -> Tensor:
    """The output, if it is a row of logits for each image.

    Raises:
        ModelError: if it is not.
    """
    if output.ndim != 2 or output.shape[0] != images.shape[0]:
        raise ModelError(
            expected=f"logits of shape ({len(images)}, classes)",
            got=f"shape {tuple(output.shape)}",
            remedy="Give a classifier that maps (n, c, h, w) images to (n, classes) logits.",
        )
    return output
