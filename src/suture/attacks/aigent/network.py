"""What AIGENT reads from a classifier: values, phases, and rows of its affine map at an input.

A ReLU network whose phases are fixed is affine. Its rows are found by reverse-mode derivatives of
a float64 copy: the phases of the input at which the derivative is taken are the fixed ones. A
smooth activation is replaced by its tangent there, and max pooling by the entry that wins there.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from suture import bounds
from suture.attacks.aigent.dense import DenseLinearised, is_dense, outputs
from suture.attacks.aigent.tail import PHASED, read_chain, read_tail
from suture.errors import ModelError

Precision = Literal["double", "single"]


class LayeredNetwork:
    """A copy of a classifier in float64, in eval mode, without gradients of its own.

    Args:
        model: images to logits; not changed.
        noise: int64 ``(draws,)`` for a randomised model: its logits are averaged over these draws.
        precision: "single" computes values and derivatives in float32; arrays are float64 all the
            same. For large images, where float64 takes several times as long.

    Attributes:
        tail: the fully connected layers it ends with, ``None`` if it does not end with some.
        forwards: images that went through the copy so far.
        centres: class → image ``(c, h, w)`` round which its linear bounds are made; empty for
            bounds round each image.
        forms: what was made of them.
    """

    def __init__(
        self, model: nn.Module, noise: Tensor | None = None, precision: Precision = "double"
    ) -> None:
        self._precision: Precision = precision
        self._dtype = torch.float64 if precision == "double" else torch.float32
        copied = copy.deepcopy(model).cpu().to(self._dtype).eval()
        for parameter in copied.parameters():
            parameter.requires_grad_(False)
        self._model, self._noise = copied, noise
        self._chain = read_chain(copied) if noise is None else None
        self.tail = read_tail(copied) if noise is None else None
        self._dense = self.tail if is_dense(copied, self.tail) else None
        self.forwards = 0
        self.centres: dict[int, np.ndarray] = {}
        self.forms: dict[tuple[int, float, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self._leaking: LayeredNetwork | None = None
        self._readable: bounds.Network | None = None
        self._single: nn.Module | None = None if precision == "double" else copied

    def leaking(self) -> LayeredNetwork:
        """The same network with a slope of a tenth for inactive ReLUs (``nn.ReLU`` modules)."""
        if self._leaking is None:
            self._leaking = LayeredNetwork(
                _leaky(copy.deepcopy(self._model)), self._noise, self._precision
            )
        return self._leaking

    def readable(self, in_shape: tuple[int, ...]) -> bounds.Network:
        """The same network as ``suture.bounds`` reads it."""
        if self._readable is None:
            channels, height, width = in_shape
            double = copy.deepcopy(self._model).double()
            self._readable = bounds.read(double, (channels, height, width))
        return self._readable

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits ``(n, classes)`` of images ``(n, c, h, w)``, float64."""
        if self._dense is not None:
            self.forwards += len(images)
            return outputs(self._dense, images)
        room = max(1, _PIECE // math.prod(images.shape[1:]))
        with torch.no_grad():
            given = torch.from_numpy(images).to(self._dtype)
            parts = [self._forward(part) for part in given.split(room)]
        return torch.cat(parts).double().numpy()

    def rough(self, images: np.ndarray) -> np.ndarray:
        """``logits`` by a copy in float32 (of a randomised model: the same), as float64."""
        if self._dense is not None or self._noise is not None:
            return self.logits(images.astype(np.float32).astype(np.float64))
        if self._single is None:
            self._single = copy.deepcopy(self._model).float()
        room = max(1, _PIECE // math.prod(images.shape[1:]))
        with torch.no_grad():
            parts = torch.from_numpy(images.astype(np.float32)).split(room)
            self.forwards += len(images)
            return torch.cat([self._single(part) for part in parts]).double().numpy()

    def look(self, image: np.ndarray) -> Reading:
        """The values at one image ``(c, h, w)``, without derivatives."""
        if self._dense is not None:
            return self.at(image)
        return self._watched(torch.tensor(image, dtype=self._dtype)[None])

    def at(self, image: np.ndarray) -> Reading:
        """The network's affine map in the phases of one image ``(c, h, w)``."""
        if self._dense is not None:
            self.forwards += 1
            return DenseLinearised(self._dense, image)
        point = torch.tensor(image, dtype=self._dtype)[None]
        return self._watched(point.requires_grad_(True))

    def _watched(self, point: Tensor) -> Linearised:
        if self._chain is not None:
            return self._followed(self._chain, point)
        watch = _LayerWatch(self._model, self.tail.first if self.tail else None)
        with torch.set_grad_enabled(point.requires_grad), watch:
            logits = self._forward(point)
        return Linearised(point, logits[0], watch.units(), watch.entry, watch.value)

    def _followed(self, chain: list[nn.Module], point: Tensor) -> Linearised:
        """``_watched`` of a chain, module by module: hooks cost as much as small layers."""
        self.forwards += 1
        seen, entry, first, value = list[Tensor](), None, None, point
        start = None if self.tail is None else self.tail.first
        for module in chain:
            if isinstance(module, PHASED):
                seen.append(value[0].flatten())
                value = value.clone() if getattr(module, "inplace", False) else value
            before, value = value, module.forward(value)
            if module is start:
                entry, first = before[0], value[0]
        units = torch.cat(seen) if seen else torch.zeros(0, dtype=point.dtype)
        return Linearised(point, value[0], units, entry, first)

    def _forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        try:
            if self._noise is None:
                return self._model(images)
            draws = [self._model(images, noise=d.expand(len(images))) for d in self._noise]
            return torch.stack(draws).mean(0)
        except RuntimeError as error:
            raise ModelError(
                expected="a classifier whose copy in float64 runs",
                got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                remedy="Constants that the model makes in forward should follow its input's dtype.",
            ) from error


def _leaky(model: nn.Module) -> nn.Module:
    if isinstance(model, nn.ReLU):
        return nn.LeakyReLU(0.1)
    for name, child in list(model.named_children()):
        setattr(model, name, _leaky(child))
    return model


@dataclass(eq=False)
class Linearised:
    """Values at one image, and the derivative of each of them, in the phases of that image.

    Attributes:
        point: ``(1, c, h, w)``.
        logits: ``(classes,)``.
        units: ``(units,)``, all values before a ReLU.
        entry: ``(width,)``, what enters the first fully connected layer of the tail.
        first: ``(width,)``, what comes out of that layer, before its activation.
    """

    point: Tensor
    logits: Tensor
    units: Tensor
    entry: Tensor | None
    first: Tensor | None

    @property
    def base(self) -> np.ndarray:
        """The image at which the values were taken, ``(c, h, w)``."""
        return self.point[0].detach().double().numpy()

    def values(self, of: Any) -> np.ndarray:
        """The values as an array."""
        return of.detach().double().numpy()

    def rows(self, of: Any, weights: np.ndarray) -> np.ndarray:
        """Derivative of ``weights @ of`` with respect to the image, ``(k, c, h, w)``.

        Args:
            of: one of the attributes.
            weights: ``(k, len(of))``.
        """
        if not of.requires_grad or not len(weights):
            return np.zeros((len(weights), *self.point.shape[1:]))
        vectors = torch.tensor(weights, dtype=self.point.dtype)
        if len(vectors) > 1:
            try:
                return self._derivative(of, vectors, True)[:, 0].double().numpy()
            except RuntimeError:  # an operation that cannot be batched
                pass
        found = [self._derivative(of, vector, False) for vector in vectors]
        return torch.cat(found).double().numpy()

    def _derivative(self, of: Tensor, vector: Tensor, batched: bool) -> Tensor:
        found = torch.autograd.grad(
            of,
            self.point,
            vector,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=batched,
        )[0]
        if found is not None:
            return found
        shape = (len(vector), *self.point.shape) if batched else self.point.shape
        return torch.zeros(shape, dtype=self.point.dtype)

    def unit_rows(self, chosen: np.ndarray) -> np.ndarray:
        """``rows`` of the chosen units."""
        weights = np.zeros((len(chosen), len(self.units)))
        weights[np.arange(len(chosen)), chosen] = 1.0
        return self.rows(self.units, weights)


_PIECE = 4_000_000
"""Numbers of images that go through the network at once."""

Reading = Linearised | DenseLinearised


class _LayerWatch:
    """Notes what enters every ReLU, and what enters and leaves one linear layer."""

    def __init__(self, model: nn.Module, first: nn.Module | None) -> None:
        self._model, self._first = model, first
        self._seen: list[Tensor] = []
        self.entry: Tensor | None = None
        self.value: Tensor | None = None

    def units(self) -> Tensor:
        """All values that were noted, of the first image."""
        parts = [value[0].flatten() for value in self._seen]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def __enter__(self) -> _LayerWatch:
        phased = [m for m in self._model.modules() if isinstance(m, PHASED)]
        self._hooks = [m.register_forward_pre_hook(self._unit) for m in phased]
        if self._first is not None:
            self._hooks.append(self._first.register_forward_hook(self._layer))
        return self

    def __exit__(self, *exc: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _unit(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        inplace = getattr(module, "inplace", False)
        self._seen.append(inputs[0].clone() if inplace else inputs[0])

    def _layer(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.entry, self.value = inputs[0][0], output[0].clone()
