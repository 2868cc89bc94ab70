"""Which part of a network learns: all of it, or from the last layers with weights on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture.errors import ArgumentError, ModelError

Layers = Literal["all"] | int


@dataclass(frozen=True, eq=False)
class Suffix:
    """What learns of a model.

    Attributes:
        model: all of it.
        frozen: modules before the part, which stay in eval mode: batch norm there keeps its
            statistics, dropout does not drop.
        parameters: those that learn.
        layers: how many layers with weights learn, out of how many; for a trace.
    """

    model: nn.Module
    frozen: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]
    layers: tuple[int, int]

    def learns(self) -> None:
        """Train mode, but for the frozen modules."""
        self.model.train()
        for module in self.frozen:
            module.eval()


def part_of(model: nn.Module, layers: Layers, images: Tensor) -> Suffix:
    """The last layers with weights, with all that is computed after the first of them.

    Layers are counted in the order in which a forward reaches them; one with weights has a
    parameter with two axes or more (linear, convolution, …). All other parameters of the model
    are frozen in place.

    Args:
        layers: "all", or how many.
        images: a few, for the forward that finds the order.

    Raises:
        ArgumentError: fewer layers than that.
        ModelError: nothing to train.
    """
    order = _reached(model, images)
    weighty = [at for at, module in enumerate(order) if _has_weights(module)]
    if layers == "all":
        frozen, learning = [], [p for p in model.parameters() if p.is_floating_point()]
    else:
        _check(layers, len(weighty))
        first = weighty[-layers]
        frozen = order[:first]
        learning = [p for module in order[first:] for p in module.parameters(recurse=False)]
    if not learning:
        raise ModelError(
            expected="a model with parameters to train",
            got="none",
            remedy="Exported programs and rules have no weights: load the network itself.",
        )
    ids = {id(parameter) for parameter in learning}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in ids)
    unique = tuple({id(p): p for p in learning}.values())
    count = len(weighty) if layers == "all" else layers
    return Suffix(model, tuple(frozen), unique, (count, len(weighty)))


def _reached(model: nn.Module, images: Tensor) -> list[nn.Module]:
    """Modules that hold something or have no parts, in the order of their first call."""
    order: list[nn.Module] = []

    def hook(module: nn.Module, _: Any) -> None:
        if all(module is not other for other in order):
            order.append(module)

    register: Callable[[nn.Module], Any] = lambda m: m.register_forward_pre_hook(hook)  # noqa: E731
    handles = [register(module) for module in model.modules() if _own(module)]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return order


def _own(module: nn.Module) -> bool:
    held = any(True for _ in module.parameters(recurse=False))
    held |= any(True for _ in module.buffers(recurse=False))
    return held or not any(True for _ in module.children())


def _has_weights(module: nn.Module) -> bool:
    return any(p.ndim > 1 for p in module.parameters(recurse=False))


def _check(layers: int, there: int) -> None:
    if not 1 <= layers <= there:
        raise ArgumentError(
            expected=f"1 to {there} layers with weights, or all",
            got=f"layers={layers!r}",
            remedy='layers="all" trains the whole network.',
        )
