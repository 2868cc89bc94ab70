"""What Sparse-RS changes: single pixels, a patch, or a frame. Ports of the authors' three loops."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from suture.attacks.search import Edit, Edits, Search, take
from suture.rng import integers

# What the share is divided by, from which iteration of 10 000 on (authors' ``p_selection``).
_PIXELS = (
    (0, 2),
    (50, 4),
    (200, 5),
    (500, 6),
    (1000, 8),
    (2000, 10),
    (4000, 12),
    (6000, 15),
    (8000, 20),
)
_PATCH = (
    (10, 2),
    (50, 4),
    (200, 8),
    (500, 16),
    (1000, 32),
    (2000, 64),
    (4000, 128),
    (6000, 256),
    (8000, 512),
)
_BLOTS = 200
"""Small squares that make up a first patch; few places are left uncovered."""


def share(p: float, at: int, schedule: tuple[tuple[int, int], ...]) -> float:
    """The share of pixels changed at iteration ``at`` of 10 000."""
    return p / max((divisor for since, divisor in schedule if at > since), default=1)


class SparseMoves(ABC):
    """One way to change at most ``pixels`` pixels; what it remembers is in ``search.state``."""

    def __init__(self, pixels: int, p: float, steps: int) -> None:
        self.pixels, self.p, self.steps = pixels, p, steps

    def fits(self, height: int, width: int) -> bool:
        """Whether there is anything to change; also where sizes are set."""
        return self.pixels > 0

    @abstractmethod
    def begin(self, search: Search) -> None:
        """Ask about the first candidates."""

    @abstractmethod
    def step(self, search: Search, step: int, at: int) -> None:
        """Ask about one change of every image; ``at`` is the step's place in 10 000."""

    def draw(self, search: Search, step: int, lanes: int) -> Tensor:
        """Random bits ``(k, lanes)`` of this step."""
        device = search.clean.device
        return search.oracle.random_bits(
            search.rows, step, torch.arange(lanes, device=device)[None]
        )


class Pixels(SparseMoves):
    """``state["order"]``: all pixel positions of an image, the changed ones first."""

    def begin(self, search: Search) -> None:
        channels, count = search.clean.shape[1], search.clean[0, 0].numel()
        bits = self.draw(search, 0, count + self.pixels * channels)
        order = bits[:, :count].argsort(dim=1, stable=True)
        search.state["order"] = order
        colours = corners(bits[:, count:].reshape(-1, channels, self.pixels))
        first = search.clean.clone().flatten(2)
        index = order[:, None, : self.pixels].expand(-1, channels, -1)
        search.start(first.scatter(2, index, colours).reshape(search.clean.shape))

    def step(self, search: Search, step: int, at: int) -> None:
        count = max(int(share(self.p, at, _PIXELS) * self.pixels), 1)
        order, channels = search.state["order"], search.clean.shape[1]
        count = min(count, order.shape[1] - self.pixels) or 1
        bits = self.draw(search, step, count * (channels + 2))
        shuffle(order, 0, self.pixels, bits[:, :count])
        if order.shape[1] > self.pixels:
            shuffle(order, self.pixels, order.shape[1], bits[:, count : 2 * count])
        start = self.pixels if order.shape[1] > self.pixels else 0
        out, new = order[:, :count].clone(), order[:, start : start + count].clone()
        colours = self._colours(search, new, bits[:, 2 * count :], count)
        search.state["out"], search.state["new"] = out, new
        kept = search.step(Edits(Edit(out, take(search.clean, out)), Edit(new, colours)))
        order, out, new = (search.state.pop(name) for name in ("order", "out", "new"))
        if start:
            order[:, :count] = torch.where(kept[:, None], new, out)
            order[:, start : start + count] = torch.where(kept[:, None], out, new)
        search.state["order"] = order

    def _colours(self, search: Search, new: Tensor, bits: Tensor, count: int) -> Tensor:
        if count > 1:
            return corners(bits.reshape(len(new), -1, count))
        return other_corner(take(search.clean, new)[:, :, 0], bits[:, 0])[:, :, None]


class Patch(SparseMoves):
    """``state["corner"]``: upper left corner ``(k, 2)`` of each image's patch."""

    def fits(self, height: int, width: int) -> bool:
        self.side = min(math.isqrt(self.pixels), height, width)
        sides = [self._inner(int(step / self.steps * 10_000)) for step in range(self.steps)]
        first = next((step for step, side in enumerate(sides) if side == 1), self.steps)
        self.single = first + (self.steps - first) // 2
        return self.side > 0

    def begin(self, search: Search) -> None:
        k, channels, height, width = search.clean.shape
        bits = self.draw(search, 0, 2 + _BLOTS * (3 + channels))
        corner = torch.stack(
            [
                integers(bits[:, 0], height - self.side + 1),
                integers(bits[:, 1], width - self.side + 1),
            ],
            1,
        )
        search.state["corner"] = corner
        patch = blots(self.side, channels, bits[:, 2:].reshape(k, _BLOTS, 3 + channels))
        index = square(corner, self.side, width)[:, None].expand(-1, channels, -1)
        first = search.clean.flatten(2).scatter(2, index, patch.flatten(2))
        search.start(first.reshape(search.clean.shape))

    def step(self, search: Search, step: int, at: int) -> None:
        channels, height = search.clean.shape[1:3]
        bits = self.draw(search, step, 4 + channels)
        reach = int(max(1 - step / self.steps, 0) * 0.75 * height)
        period = 10 if search.oracle.targeted else 4
        if step % period == 0 and reach > 0:
            self._move(search, bits, reach)
        else:
            self._paint(search, step, self._inner(at), bits)

    def _inner(self, at: int) -> int:
        return max(int(math.sqrt(share(self.p, at, _PATCH)) * self.side), 1)

    def _move(self, search: Search, bits: Tensor, reach: int) -> None:
        height, width = search.clean.shape[2:]
        corner, limits = search.state["corner"], torch.tensor([height, width]) - self.side
        shift = integers(bits[:, :2], 2 * reach + 1) - reach
        moved = torch.minimum((corner + shift).clamp_min(0), limits.to(corner.device))
        old, new = (square(place, self.side, width) for place in (corner, moved))
        edits = Edits(Edit(old, take(search.clean, old)), Edit(new, take(search.best, old)))
        search.state["moved"] = moved
        kept = search.step(edits)
        moved, corner = search.state.pop("moved"), search.state["corner"]
        search.state["corner"] = torch.where(kept[:, None], moved, corner)

    def _paint(self, search: Search, step: int, side: int, bits: Tensor) -> None:
        inside = integers(bits[:, :2], self.side - side + 1)
        index = square(search.state["corner"] + inside, side, search.clean.shape[3])
        colour = new_colour(search, index, bits[:, 2:], side, step >= self.single)
        search.step(Edits(Edit(index, colour)))


class Frame(SparseMoves):
    """The border of the image."""

    def fits(self, height: int, width: int) -> bool:
        self.width = frame_width(self.pixels, height, width)
        self.single = self.steps // 2 + self.steps // 4
        rows, columns = torch.arange(height), torch.arange(width)
        edge = (torch.minimum(rows, height - 1 - rows)[:, None] < self.width) | (
            torch.minimum(columns, width - 1 - columns) < self.width
        )
        self.inside = edge.flatten()
        self.places = self.inside.nonzero()[:, 0]
        return self.width > 0

    def begin(self, search: Search) -> None:
        channels = search.clean.shape[1]
        self.places = self.places.to(search.clean.device)
        self.inside = self.inside.to(search.clean.device)
        bits = self.draw(search, 0, channels * len(self.places))
        first = search.clean.clone().flatten(2)
        first[:, :, self.places] = corners(bits.reshape(len(first), channels, -1))
        search.start(first.reshape(search.clean.shape))

    def step(self, search: Search, step: int, at: int) -> None:
        height, width = search.clean.shape[2:]
        bits = self.draw(search, step, 4 + search.clean.shape[1])
        size = 3 * math.ceil(max((0.5 - at / 10_000) * self.p * self.width**2, 0.0)) or 1
        place = self.places[integers(bits[:, 0], len(self.places))]
        signs = integers(bits[:, 1:3], 2) * 2 - 1
        steps = torch.arange(size, device=place.device)
        rows = (place[:, None] // width + signs[:, :1] * steps).clamp(0, height - 1)
        columns = (place[:, None] % width + signs[:, 1:] * steps).clamp(0, width - 1)
        index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
        colour = new_colour(search, index, bits[:, 3:], size, step >= self.single)
        inside = self.inside[index][:, None]
        search.step(Edits(Edit(index, torch.where(inside, colour, take(search.best, index)))))


def corners(bits: Tensor) -> Tensor:
    """0 or 1 per entry: corners of the colour cube."""
    return integers(bits, 2).to(torch.float32)


def other_corner(colour: Tensor, bits: Tensor) -> Tensor:
    """A corner of the colour cube ``(k, c)``, uniform among those that differ from ``colour``."""
    channels = colour.shape[1]
    weights = 2 ** torch.arange(channels, device=colour.device)
    is_corner = ((colour == 0) | (colour == 1)).all(1)
    code = ((colour == 1) * weights).sum(1)
    drawn = integers(bits, 2**channels - is_corner.to(torch.int64))
    drawn = drawn + (is_corner & (drawn >= code))
    return ((drawn[:, None] // weights) % 2).to(colour.dtype)


def new_colour(search: Search, index: Tensor, bits: Tensor, side: int, single: bool) -> Tensor:
    """Values ``(k, c, side²)``: one corner colour; for a single pixel, a different one.

    ``single``: late in the search a single pixel has one channel turned over.
    """
    channels = search.clean.shape[1]
    if side > 1:
        return corners(bits[:, :channels])[:, :, None].expand(-1, -1, side * side)
    now = take(search.best, index)[:, :, 0]
    if not single:
        return other_corner(now, bits[:, 0])[:, :, None]
    turned = integers(bits[:, :1], channels) == torch.arange(channels, device=bits.device)
    return torch.where(turned, 1.0 - now, now)[:, :, None]


def square(corner: Tensor, side: int, width: int) -> Tensor:
    """Flat pixel positions ``(k, side²)`` of one square per image."""
    steps = torch.arange(side, device=corner.device)
    grid = (steps[:, None] * width + steps).flatten()
    return (corner[:, 0] * width + corner[:, 1])[:, None] + grid


def blots(side: int, channels: int, bits: Tensor) -> Tensor:
    """First patches ``(k, c, side, side)``: small one-coloured squares on black, one on another."""
    patch = torch.zeros(len(bits), channels, side, side, device=bits.device)
    steps = torch.arange(side, device=bits.device)
    for draw in bits.unbind(1):
        size = 1 + integers(draw[:, 0], max(math.ceil(math.sqrt(side)) - 1, 1))
        within = []
        for axis in (1, 2):
            start = integers(draw[:, axis], side - size + 1)[:, None]
            within.append((steps >= start) & (steps < start + size[:, None]))
        inside = (within[0][:, :, None] & within[1][:, None, :])[:, None]
        patch = torch.where(inside, corners(draw[:, 3:])[:, :, None, None], patch)
    return patch


def shuffle(order: Tensor, start: int, end: int, bits: Tensor) -> None:
    """Bring a random choice of ``order[:, start:end]`` to its front, one place per draw."""
    for offset, draw in enumerate(bits.unbind(1)):
        here = start + offset
        other = (here + integers(draw, end - here))[:, None]
        mine, its = order[:, here : here + 1].clone(), order.gather(1, other)
        order.scatter_(1, other, mine)
        order[:, here : here + 1] = its


def frame_width(pixels: int, height: int, width: int) -> int:
    """The widest border of at most that many pixels; 0 if not even one pixel wide fits."""
    widths = range(math.ceil(min(height, width) / 2) + 1)
    inner = [max(height - 2 * w, 0) * max(width - 2 * w, 0) for w in widths]
    fitting = [w for w, left in enumerate(inner) if height * width - left <= pixels]
    return max(fitting)
