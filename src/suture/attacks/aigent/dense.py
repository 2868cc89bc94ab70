"""A network of fully connected layers alone, read without torch: a few products of arrays.

The slow, plain twin is ``network.Linearised``; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from suture.attacks.aigent.tail import Tail

_PASSES = (nn.Identity, nn.Dropout, nn.Flatten, nn.Linear, nn.ReLU)


def is_dense(model: nn.Module, tail: Tail | None) -> bool:
    """Whether the tail is the whole network, behind nothing but a flattening of the image."""
    if tail is None or not isinstance(model, nn.Sequential):
        return False
    leaves = [m for m in model.modules() if not isinstance(m, nn.Sequential)]
    layers = [m for m in leaves if isinstance(m, nn.Linear)]
    flat = [m for m in leaves if isinstance(m, nn.Flatten)]
    ours = all(isinstance(m, _PASSES) for m in leaves) and not model.training
    return bool(
        ours
        and len(layers) == len(tail)
        and layers[0] is tail.first
        and len(flat) == 1
        and (flat[0].start_dim, flat[0].end_dim) == (1, -1)
        and not any(isinstance(m, nn.ReLU) for m in leaves[: leaves.index(layers[0])])
    )


def outputs(tail: Tail, images: np.ndarray) -> np.ndarray:
    """Logits ``(n, classes)`` of images ``(n, c, h, w)``.

    Products by torch: it keeps to the number of threads that it was given.
    """
    values = torch.from_numpy(images.reshape(len(images), -1))
    last = len(tail) - 1
    for index, (weight, bias) in enumerate(zip(tail.weights, tail.biases, strict=True)):
        values = torch.addmm(torch.from_numpy(bias), values, torch.from_numpy(weight).T)
        values = values.relu_() if index < last else values
    return values.numpy()


@dataclass(eq=False)
class DenseLinearised:
    """``Linearised`` of a dense network; the values are arrays.

    Attributes:
        tail: the layers.
        image: ``(c, h, w)``.
    """

    tail: Tail
    image: np.ndarray

    @cached_property
    def _layers(self) -> list[np.ndarray]:
        return self.tail.values(self.image.ravel())[1]

    @property
    def base(self) -> np.ndarray:
        """The image at which the values were taken."""
        return self.image

    @property
    def logits(self) -> np.ndarray:
        """``(classes,)``."""
        return self._layers[-1]

    @cached_property
    def units(self) -> np.ndarray:
        """``(units,)``, all values before a ReLU."""
        return np.concatenate([np.zeros(0), *self._layers[:-1]])

    @property
    def entry(self) -> np.ndarray:
        """``(width,)``: the image itself."""
        return self.image.ravel()

    @property
    def first(self) -> np.ndarray:
        """``(width,)``, what comes out of the first layer."""
        return self._layers[0]

    def values(self, of: Any) -> np.ndarray:
        """The values as an array."""
        return np.asarray(of)

    def rows(self, of: Any, weights: np.ndarray) -> np.ndarray:
        """Derivative of ``weights @ of`` with respect to the image, ``(k, c, h, w)``."""
        count = len(self._layers)
        if of is self.units:
            ends = np.cumsum([len(z) for z in self._layers[:-1]])[:-1]
            parts = [*np.split(weights, ends, axis=1), None] if count > 1 else [None]
        else:
            place = count - 1 if of is self._layers[-1] else 0
            parts = [weights if index == place else None for index in range(count)]
        found = np.zeros((len(weights), 0))
        for index in range(count - 1, -1, -1):
            part = parts[index]
            if found.shape[1]:
                found = found * (self._layers[index] > 0)
                found = found if part is None else found + part
            elif part is not None:
                found = part
            if found.shape[1]:
                found = found @ self.tail.weights[index]
        shape = (len(weights), *self.image.shape)
        return found.reshape(shape) if found.shape[1] else np.zeros(shape)

    def unit_rows(self, chosen: np.ndarray) -> np.ndarray:
        """``rows`` of the chosen units."""
        weights = np.zeros((len(chosen), len(self.units)))
        weights[np.arange(len(chosen)), chosen] = 1.0
        return self.rows(self.units, weights)
