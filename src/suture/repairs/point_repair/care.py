"""CARE: the neurons that cause the fault, scaled by a particle swarm (Sun et al. 2022)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from suture.attacks.aigent.tail import Tail
from suture.errors import ModelError
from suture.repairs.base import REPAIRS
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages
from suture.repairs.point_repair.base import Made, PointRepair
from suture.repairs.point_repair.causal import causal_effects, scaled_outputs
from suture.repairs.weight_patch import entries, linear_layers, tail_of
from suture.rng import Stream
from suture.types import LabelledImages


@REPAIRS.add("care")
@dataclass(frozen=True, kw_only=True)
class CARE(PointRepair):
    """CARE (Sun et al. 2022): causality-based fault localisation, then particle swarm
    optimisation of the neurons found.

    The hidden neurons of the last fully connected layers with the largest average causal effect on
    what the given inputs lack are scaled, ``v → (1 + w) v``, by the w with the least
    ``α · (given inputs that are wrong) + (1 - α) · (kept training images that are wrong)``, as
    shares. Nothing is proved.

    Args:
        neurons: how many are scaled, at most.
        levels: interventions a neuron.
        particles: of the swarm.
        iterations: of the swarm.
        inertia: the swarm's ω.
        pull: its c₁ and c₂, towards a particle's own best place and towards the swarm's.
        reach: largest ``|w|``.
        alpha: α.
        keep: training images that should stay right.
    """

    neurons: int = 10
    levels: int = 16
    particles: int = 20
    iterations: int = 100
    inertia: float = 0.8
    pull: float = 0.41
    reach: float = 1.0
    alpha: float = 0.8
    keep: int = 1000

    def _checks(self) -> dict[str, bool]:
        counts = (self.neurons, self.particles, self.iterations, self.keep)
        return super()._checks() | {
            "neurons, particles, iterations, keep >= 1": min(counts) >= 1,
            "levels >= 2": self.levels >= 2,
            "inertia in [0, 1)": 0 <= self.inertia < 1,
            "pull > 0": self.pull > 0,
            "reach > 0": self.reach > 0,
            "alpha in [0, 1]": 0 <= self.alpha <= 1,
        }

    def _repaired(
        self, model: nn.Module, found: FooledImages, data: LabelledImages, context: Context
    ) -> Made:
        wrong, tail = found.wrong, tail_of(model)
        assert wrong is not None, "there is something to repair"
        if len(tail) < 2:
            raise ModelError(
                expected="a model that ends with two fully connected layers or more",
                got="one",
                remedy="CARE scales neurons between them; use prdnn or aprnn.",
            )
        order = torch.randperm(len(data), generator=context.stream.child("keep").generator())
        kept = data[order[: self.keep]]
        given = entries(model, wrong.images, context.batch_size)
        labels = wrong.labels.cpu().numpy()
        effects = causal_effects(tail, given, labels, self.levels)
        chosen = _largest(effects, self.neurons)
        beside = entries(model, kept.images, context.batch_size)
        cost = _Cost(tail, chosen, self.alpha, (given, labels), (beside, kept.labels.cpu().numpy()))
        scale, least, before = self._swarm(cost, len(chosen), context)
        made = copy.deepcopy(model)
        _scale(linear_layers(made), cost.scales(scale))
        named = [[layer + 1, neuron] for layer, neuron in chosen]
        return made, {"neurons": named, "cost_before": before, "cost_after": least}, ()

    def _swarm(self, cost: _Cost, count: int, context: Context) -> tuple[np.ndarray, float, float]:
        """Particle swarm optimisation; one particle begins at "no change"."""
        draw = _uniform(context.stream.child("swarm"))
        place = self.reach * (2 * draw(self.particles, count) - 1)
        place[0] = 0.0
        speed = np.zeros_like(place)
        values = np.array([cost(one) for one in place])
        own, best, before = place.copy(), values.copy(), float(values[0])
        for number in range(self.iterations):
            leader = own[best.argmin()]
            speed = (
                self.inertia * speed
                + self.pull * draw(*place.shape) * (own - place)
                + self.pull * draw(*place.shape) * (leader - place)
            )
            place = np.clip(place + speed, -self.reach, self.reach)
            values = np.array([cost(one) for one in place])
            better = values < best
            own[better], best[better] = place[better], values[better]
            context.tell("swarm", number + 1, self.iterations)
        return own[best.argmin()], float(best.min()), before


class _Cost:
    """What the swarm minimises, of scales for the chosen neurons."""

    def __init__(
        self,
        tail: Tail,
        chosen: list[tuple[int, int]],
        alpha: float,
        *sets: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._tail, self._chosen, self._alpha = tail, chosen, alpha
        weight, bias = tail.weights[0], tail.biases[0]
        self._sets = [(given @ weight.T + bias, labels) for given, labels in sets]

    def scales(self, w: np.ndarray) -> list[np.ndarray]:
        """``1 + w`` of the chosen neurons, 1 of the others, a hidden layer each."""
        made = [np.ones(len(bias)) for bias in self._tail.biases[:-1]]
        for (layer, neuron), change in zip(self._chosen, w, strict=True):
            made[layer][neuron] += change
        return made

    def __call__(self, w: np.ndarray) -> float:
        scales = self.scales(w)
        given, kept = (
            float((scaled_outputs(self._tail, first, scales).argmax(1) != labels).mean())
            for first, labels in self._sets
        )
        return self._alpha * given + (1 - self._alpha) * kept


def _largest(effects: list[np.ndarray], count: int) -> list[tuple[int, int]]:
    """``(layer, neuron)`` with the largest effects, both from 0 on."""
    every = [(layer, neuron) for layer, found in enumerate(effects) for neuron in range(len(found))]
    order = np.argsort(-np.concatenate(effects), kind="stable")
    return [every[index] for index in order[:count]]


def _scale(layers: list[nn.Linear], scales: list[np.ndarray]) -> None:
    """Scale hidden neurons through the weights that read them, in place."""
    with torch.no_grad():
        for layer, scale in zip(layers[1:], scales, strict=True):
            layer.weight.mul_(torch.from_numpy(scale).to(layer.weight))


def _uniform(stream: Stream) -> Any:
    generator = stream.generator()
    return lambda *shape: torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
