"""Whether gradients point where the loss rises (Athalye et al. 2018; Carlini et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from suture.attacks.geometry import margin
from suture.rng import Stream, bits, image_keys
from suture.types import Batch, described

IMAGES = 32
RIVALS = 7
"""Random directions that the gradient has to beat."""
SCALES = (1.0, 1 / 4, 1 / 16)
DRAWS = 8


def slopes(model: nn.Module, batch: Batch) -> Tensor:
    """Gradients ``(n, c, h, w)`` of the margin by which another class leads; 0 where none."""
    images = batch.images.clone().requires_grad_(True)
    with torch.enable_grad(), _same_draws():
        lead = -margin(_answering(model, batch.images)(images), batch.labels).sum()
        if not lead.requires_grad:
            return torch.zeros_like(batch.images)
        (gradient,) = torch.autograd.grad(lead, images, allow_unused=True)
    return torch.zeros_like(batch.images) if gradient is None else gradient


def misled(
    model: nn.Module, batch: Batch, step: float, gradient: Tensor | None = None
) -> tuple[int, int]:
    """Images tried, and those on which the gradient is no better than a random direction.

    At each image x with gradient g the margin is measured at ``x + s·sign(g)`` and at
    ``x + s·r`` for seven random ``r`` in {-1, 1}, for s the step, a quarter and a sixteenth of
    it. The gradient must win at one of these lengths. Of an honest model it nearly always does; a
    direction that is junk wins with a chance of one in eight at each. Images without a gradient,
    and those whose margin moves in no direction, do not count.

    Args:
        model: classifier; randomised ones answer with the mean of eight common draws.
        batch: images with their true classes.
        step: L∞ length of a step of the attack's order.
        gradient: ``(n, c, h, w)``, ``None`` for the model's own.
    """
    few = batch[:IMAGES]
    gradient = slopes(model, few) if gradient is None else gradient[:IMAGES]
    generator = torch.Generator().manual_seed(0)
    rivals = torch.randn(RIVALS, *few.images.shape, generator=generator).sign()
    ways = torch.cat([gradient.sign()[None], rivals.to(gradient)])
    answer = _answering(model, few.images)
    won = torch.zeros(len(few), dtype=torch.bool, device=few.images.device)
    moved = torch.zeros_like(won)
    before = _margins(answer, few.images, few.labels)
    for scale in SCALES:
        moves = [(few.images + scale * step * way).clamp(0, 1) for way in ways]
        harm = before - torch.stack([_margins(answer, move, few.labels) for move in moves])
        moved |= (harm != 0).any(0)
        won |= harm[0] > harm[1:].amax(0)
    counts = moved & (gradient.flatten(1).abs().amax(1) > 0)
    return int(counts.sum()), int((counts & ~won).sum())


@torch.no_grad()
def _margins(answer: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    with _same_draws():
        return margin(answer(images), labels)


def _answering(model: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Logits; of a randomised model the mean over draws that are the same at every call."""
    about = described(model)
    if not about.randomised:
        return model
    keys = image_keys(images, Stream(0))
    noise = torch.stack([bits(keys, draw) for draw in range(DRAWS)])
    return lambda seen: about.average(seen, noise)


@contextmanager
def _same_draws() -> Iterator[None]:
    """Whoever draws from torch's own generator draws the same in every such block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
