"""The one-pixel attack (Su, Vargas & Sakurai 2019, arXiv:1710.08864): differential evolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.losses import negated
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, cross_entropies
from suture.rng import integers, normal, uniform
from suture.types import Knowledge, Norm

_AT_ONCE = 512
"""Candidate images that are built at a time; a matter of memory, not of results."""


@ATTACKS.add("one-pixel")
@dataclass(frozen=True, kw_only=True)
class OnePixel(Attack):
    """Differential evolution over the places and colours of ``eps`` pixels (paper, section III).

    A child is ``a + F·(b - c)`` of three distinct members, without crossover; it replaces its
    father if the true class likes it less (targeted: if the target likes it more). Each image
    has its own population and random stream, and all images evolve together.

    Args:
        eps: pixels that may change (paper: 1, 3 or 5).
        population: members, each one query a generation (paper: 400).
        generations: at most (paper: 100).
        scale: F (paper: 0.5).
    """

    norm: Norm = "l0"
    eps: float = 1
    population: int = 400
    generations: int = 100
    scale: float = 0.5

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    knowledge: ClassVar[Knowledge] = "black-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.eps == int(min(self.eps, 1e9)), "a whole number of pixels", f"eps={self.eps!r}"
        )
        require(self.population >= 4, "population >= 4", f"population={self.population!r}")
        require(self.generations >= 0, "generations >= 0", f"generations={self.generations!r}")
        require(self.scale > 0, "scale > 0", f"scale={self.scale!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        found = images.clone()
        if not self.eps:
            return found
        state = Rows(clean=images, rows=rows, members=self._first(oracle, images, rows))
        state.loss = torch.full(state.members.shape[:2], float("inf"), device=images.device)
        for generation in range(self.generations + 1):
            children = self._children(oracle, state, generation) if generation else state.members
            loss, reached = self._ask(oracle, state, children)
            better = loss < state.loss
            state.members = torch.where(better[:, :, None, None], children, state.members)
            state.loss = torch.where(better, loss, state.loss)
            gone = reached.any(1)
            first = torch.where(gone, reached.to(torch.int8).argmax(1), state.loss.argmin(1))
            source = torch.where(gone[:, None, None, None], children, state.members)
            found[state.place] = self._best(state, source, first)
            state.leave(gone | ~oracle.can_ask(state.rows) if oracle.limited else gone)
            if not len(state):
                break
        return found

    def _first(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        """Members ``(k, population, pixels, 2 + c)``: places uniform, colours N(128, 127)/255."""
        genes = 2 + images.shape[1]
        shape = (self.population, int(self.eps), genes)
        lanes = torch.arange(2 * shape[0] * shape[1] * genes, device=images.device)[None]
        bits = oracle.random_bits(rows, 0, lanes).reshape(len(rows), *shape, 2)
        colours = (normal(bits[..., 2:, 0], bits[..., 2:, 1]) * 127 + 128) / 255
        return torch.cat([uniform(bits[..., :2, 0]), colours.clamp(0.0, 1.0)], -1)

    def _children(self, oracle: Oracle, state: Rows, generation: int) -> Tensor:
        count = self.population
        lanes = torch.arange(3 * count, device=state.clean.device)[None]
        bits = oracle.random_bits(state.rows, generation, lanes).reshape(len(state), 3, count)
        first = integers(bits[:, 0], count)
        second = (first + 1 + integers(bits[:, 1], count - 1)) % count
        third = integers(bits[:, 2], count - 2)
        third = third + (third >= torch.minimum(first, second))
        third = third + (third >= torch.maximum(first, second))
        a, b, c = (_members(state.members, index) for index in (first, second, third))
        return (a + self.scale * (b - c)).clamp(0.0, 1.0)

    def _ask(self, oracle: Oracle, state: Rows, members: Tensor) -> tuple[Tensor, Tensor]:
        """Loss ``(k, population)``, and which members reach the goal."""
        wish = cross_entropies if oracle.targeted else negated(cross_entropies)
        at_once = max(1, _AT_ONCE // len(state))
        losses, reached = [], []
        for part in members.split(at_once, dim=1):
            logits = oracle.many(self._images(state.clean, part), state.rows)
            goals = oracle.goals[state.rows].repeat_interleave(part.shape[1])
            losses.append(wish(logits.flatten(0, 1), goals).reshape(part.shape[:2]))
            reached.append(oracle.reached(logits, state.rows))
        return torch.cat(losses, 1), torch.cat(reached, 1)

    def _images(self, clean: Tensor, members: Tensor) -> Tensor:
        """The images ``(k, m, c, h, w)`` that members ``(k, m, pixels, 2 + c)`` stand for."""
        height, width = clean.shape[2:]
        places = [
            (members[..., axis] * length).long().clamp_max(length - 1)
            for axis, length in enumerate((height, width))
        ]
        index = places[0] * width + places[1]
        images = clean.flatten(2)[:, None].repeat(1, members.shape[1], 1, 1)
        for pixel in range(members.shape[2]):
            where = index[:, :, None, pixel, None].expand(-1, -1, clean.shape[1], -1)
            images.scatter_(3, where, members[:, :, pixel, 2:, None])
        return images.reshape(*members.shape[:2], *clean.shape[1:])

    def _best(self, state: Rows, members: Tensor, index: Tensor) -> Tensor:
        chosen = _members(members, index[:, None])
        return self._images(state.clean, chosen)[:, 0]


def _members(members: Tensor, index: Tensor) -> Tensor:
    return members.gather(1, index[:, :, None, None].expand(-1, -1, *members.shape[2:]))
