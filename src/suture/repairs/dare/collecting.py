"""Algorithm 1: for every image the remembered model that is right with the highest confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from suture.repairs.dare.graph import sliceable, unit_values, values_at
from suture.repairs.dare.memory import Remembered
from suture.rng import Stream, bits, image_keys, integers
from suture.types import LabelledImages

_PIECE = 256
Tutors = Literal["best", "random"]


@dataclass(frozen=True, eq=False)
class Collected:
    """Images with the values that they should have at the watched layer.

    Attributes:
        batch: images and labels; ``None`` if no image has a better remembered self.
        targets: ``(k, units)``: the tutor's values there (``y_oracle`` of Formula 3).
        tutors: int64 ``(k,)``: which of the remembered models.
        looked: how many images were looked at.
        wrong: how many of ``batch`` the model gets wrong.
        rows: int64 ``(k,)``: which of the images looked at.
    """

    batch: LabelledImages | None
    targets: Tensor
    tutors: Tensor
    looked: int
    wrong: int
    rows: Tensor

    def __len__(self) -> int:
        return 0 if self.batch is None else len(self.batch)


@torch.no_grad()
def collect(
    model: nn.Module,
    memory: Remembered,
    data: LabelledImages,
    node: int,
    *,
    tutors: Tutors = "best",
    stream: Stream | None = None,
    batch_size: int = 256,
) -> Collected:
    """Look through ``data`` for better remembered selves.

    An image counts if some remembered model is right with a confidence (softmax of the label)
    above the model's own, which is 0 where the model is wrong; the most confident one is its
    tutor, the earliest of equals. ``random`` is the paper's DARE_rand: as many images as "best"
    would find, drawn from all of ``data``, each with a tutor drawn from all remembered models.

    Args:
        node: of the network that ``sliceable`` reads: where the targets are taken.
        stream: of the draws of "random".
    """
    first, right = confidences_of(model, data, batch_size)
    best = torch.where(right, first, torch.zeros_like(first))
    tutor = torch.full_like(best, -1, dtype=torch.int64)
    drawn = _drawn(data, len(memory.states), stream or Stream(0))
    targets, chosen_at_random = None, drawn[1]
    for index, past in enumerate(memory.models(model)):
        confidence, hit = confidences_of(past, data, batch_size)
        better = hit & (confidence > best)
        best = torch.where(better, confidence, best)
        tutor[better] = index
        taken = better if tutors == "best" else chosen_at_random == index
        values = _values(past, data, node, taken, batch_size)
        targets = values.new_zeros(len(data), values.shape[1]) if targets is None else targets
        targets[taken] = values
    assert targets is not None, "there is at least one remembered model"
    found = (tutor >= 0).nonzero()[:, 0]
    if tutors == "random":
        found, tutor = drawn[0][: len(found)].sort().values, chosen_at_random
    some = data.select(found) if len(found) else None
    wrong = int((~right[found]).sum())
    return Collected(some, targets[found], tutor[found], len(data), wrong, found)


@torch.no_grad()
def wished(
    model: nn.Module, found: Collected, data: LabelledImages, node: int, batch_size: int = 256
) -> Tensor:
    """What the watched layer should say of every image looked at, ``(n, units)``.

    That is the tutor's values where there is one, and the model's own where it is best itself.
    """
    everything = torch.ones(len(data), dtype=torch.bool, device=data.device)
    values = _values(model, data, node, everything, batch_size)
    values[found.rows] = found.targets
    return values


def _drawn(data: LabelledImages, count: int, stream: Stream) -> tuple[Tensor, Tensor]:
    """A random order of the images, and a tutor for each, by the images' own streams."""
    keys = torch.cat([image_keys(piece.images, stream) for piece in data.split(_PIECE)])
    order = bits(keys, 0).argsort(stable=True)
    return order, integers(bits(keys, 1), count)


def confidences_of(
    model: nn.Module, data: LabelledImages, batch_size: int
) -> tuple[Tensor, Tensor]:
    """``(n,)`` softmax of the label, and whether the label is what the model says."""
    own, right = list[Tensor](), list[Tensor]()
    for piece in data.split(batch_size):
        logits = model(piece.images)
        own.append(logits.softmax(1).gather(1, piece.labels[:, None])[:, 0])
        right.append(logits.argmax(1) == piece.labels)
    return torch.cat(own), torch.cat(right)


def _values(
    model: nn.Module, data: LabelledImages, node: int, taken: Tensor, batch_size: int
) -> Tensor:
    """Neurons' values at a node for the taken images, ``(k, units)``."""
    network = sliceable(model, data.shape).network
    if not bool(taken.any()):
        width = network.nodes[node].shape[0]
        return torch.zeros(0, width, device=data.device)
    pieces = data.select(taken).split(batch_size)
    return torch.cat([unit_values(values_at(network, p.images, {node})[node]) for p in pieces])
