"""The fully connected layers that a classifier ends with, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

PHASED = (nn.ReLU, nn.LeakyReLU, nn.ReLU6)
_NOTHING = (nn.Identity, nn.Dropout, nn.Flatten)


@dataclass(frozen=True, eq=False)
class Tail:
    """``z_l = W_l a_{l-1} + b_l``, ``a_l = ReLU(z_l)``, l = 1 … L; ``z_L`` are the logits.

    Attributes:
        weights: W_l, float64 ``(out, in)``.
        biases: b_l, float64 ``(out,)``.
        first: the module of the first layer, in the network that was read.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    first: nn.Module

    def __len__(self) -> int:
        return len(self.weights)

    def values(self, entry: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """``([a_0, …, a_{L-1}], [z_1, …, z_L])`` for the tail's input a_0."""
        inputs, outputs = [entry], []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            outputs.append(weight @ inputs[-1] + bias)
            inputs.append(np.maximum(outputs[-1], 0.0))
        return inputs[:-1], outputs


def read_tail(model: nn.Module) -> Tail | None:
    """The longest end of an ``nn.Sequential`` in which linear layers and ReLUs take turns."""
    layers: list[nn.Linear] = []
    turn: type[nn.Module] = nn.Linear
    for module in reversed(leaves(model)):
        if isinstance(module, _NOTHING) and not (isinstance(module, nn.Flatten) and not layers):
            continue
        if not isinstance(module, turn):
            break
        if isinstance(module, nn.Linear):
            layers.insert(0, module)
        turn = nn.ReLU if turn is nn.Linear else nn.Linear
    if not layers:
        return None
    weights = tuple(layer.weight.detach().double().numpy().copy() for layer in layers)
    return Tail(weights, tuple(_bias(layer) for layer in layers), layers[0])


def read_chain(model: nn.Module) -> list[nn.Module] | None:
    """The modules of a chain whose forwards, one after another, are the model's and all its ReLUs.

    ``None`` for any other model, and where somebody has put hooks on a module.
    """
    found, hooks = leaves(model), ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    plain = all(
        not any(getattr(m, hook) for hook in hooks)
        and (not isinstance(m, nn.Sequential) or type(m).forward is nn.Sequential.forward)
        for m in model.modules()
    )
    inside = sum(isinstance(m, PHASED) for m in model.modules())
    outside = {id(m) for m in found if isinstance(m, PHASED)}
    if not plain or not isinstance(model, nn.Sequential) or inside != len(outside):
        return None
    return found


def leaves(model: nn.Module) -> list[nn.Module]:
    """The modules of a chain in order; a model that is no chain is one leaf."""
    if not isinstance(model, nn.Sequential):
        return [model]
    return [leaf for module in model for leaf in leaves(module)]


def _bias(layer: nn.Linear) -> np.ndarray:
    if layer.bias is None:
        return np.zeros(layer.out_features)
    return layer.bias.detach().double().numpy().copy()
