"""Exact projections within [0, 1]: onto a hyperplane, and onto the L1 ball.

Both look for one multiplier λ per image. Every sum is a ``row_sum`` and every image stops by its
own test, so a result does not depend on the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from suture.attacks import kernels, plane_kernels
from suture.attacks.geometry import column, distance, row_sum
from suture.types import Norm

_ROUNDS = 60
_SLACK = 1e-6


def to_hyperplane(norm: Norm, points: Tensor, normals: Tensor, gaps: Tensor) -> Tensor:
    """The smallest moves δ (in ``norm``) with ``⟨w, δ⟩ = -gap`` and ``x + δ`` in [0, 1].

    Where no such move exists, the one that brings ``⟨w, x + δ⟩`` closest. Where w is 0 nothing
    moves (Croce & Hein 2020, arXiv:1907.02044, section 2.2 and appendix A).

    Args:
        points, normals: x and w, ``(n, c, h, w)``.
        gaps: ``⟨w, x⟩ - b`` for the plane ``⟨w, ·⟩ = b``, ``(n,)``.
    """
    if norm != "l1" and kernels.compiles(points, normals, gaps):
        moves = torch.empty_like(points)
        plane_kernels.onto_planes(norm == "l2", *kernels.flat(points, normals, gaps, moves))
        return moves
    return _moves(norm, points, normals, gaps)


def _moves(norm: Norm, points: Tensor, normals: Tensor, gaps: Tensor) -> Tensor:
    scale = distance("linf", normals).clamp_min(1e-30)
    direction = normals * column(-gaps.sign() / scale)
    weights, need = direction.abs().flatten(1), gaps.abs() / scale
    room = torch.where(direction > 0, 1.0 - points, points).flatten(1)
    moves = _greedy(weights, room, need) if norm == "l1" else _spread(norm, weights, room, need)
    return torch.copysign(moves.reshape(points.shape), direction)


def _spread(norm: Norm, weights: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """``min(λ·r, room)`` with ``Σ w·min(λ·r, room) = need``; r is 1 for L∞ and w for L2.

    The sum is concave and piecewise linear in λ, so Newton's method rises from 0 to the root:
    ``λ ← (need - Σ_S w·room) / Σ_{not S} w·r``, with S the entries that λ takes to the end of
    their room. Images that have arrived drop out when they are half.
    """
    rates = weights.ne(0).to(weights.dtype) if norm == "linf" else weights
    gains, filled = weights * rates, weights * room
    ends = torch.where(rates > 0, room / rates, torch.zeros_like(room))
    total = row_sum(gains)
    here = torch.where(total > 0, need / total.clamp_min(1e-30), torch.zeros_like(need))
    multiplier, moving = here, torch.arange(len(need), device=need.device)
    sums = torch.stack([filled, gains], 1)
    for _ in range(_ROUNDS):
        full = (ends <= here[:, None]).to(sums.dtype)
        lost, stuck = row_sum((sums * full[:, None]).flatten(0, 1)).reshape(-1, 2).unbind(1)
        left = total - stuck
        after = torch.where(left > 1e-6 * total, (need - lost) / left, here)
        rises = after > here
        multiplier[moving] = here = torch.maximum(here, after)
        if not bool(rises.any()):
            break
        if 2 * int(rises.sum()) < len(rises):
            kept = (t[rises] for t in (moving, here, need, total, ends, sums))
            moving, here, need, total, ends, sums = kept
    return torch.minimum(multiplier[:, None] * rates, room)


def _greedy(weights: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """The largest weights first, each to the end of its room, the last one in part."""
    ranked, order = weights.sort(dim=1, descending=True, stable=True)
    ranked_room = room.gather(1, order).masked_fill(ranked == 0, 0.0)
    gained = ranked * ranked_room
    before = gained.cumsum(1) - gained
    taken = (need[:, None] - before).clamp_min(0.0) / ranked.clamp_min(1e-30)
    return torch.zeros_like(room).scatter_(1, order, torch.minimum(taken, ranked_room))


def to_l1_ball(eps: float, clean: Tensor, images: Tensor) -> Tensor:
    """The nearest point of ``‖x' - x‖₁ ≤ eps`` and [0, 1] together (arXiv:2103.01208, Eq. 4).

    Every ``|δ|`` shrinks by ``max(excess, λ)``, excess being how far it leads out of [0, 1]. λ is
    found by Newton steps within a bracket, to a length of eps from below, relative error 3e-6.
    """
    delta = images - clean
    sizes = delta.abs().flatten(1)
    excess = torch.maximum(images - 1.0, -images).clamp_min(0.0).flatten(1)
    aim = torch.full_like(sizes[:, 0], eps * (1.0 - 2.0 * _SLACK))
    outside = row_sum((sizes - excess).clamp_min(0.0)) > aim
    cut = excess
    if bool(outside.any()):
        found = _threshold(sizes[outside], excess[outside], aim[outside])
        cut = excess.clone()
        cut[outside] = torch.maximum(excess[outside], found[:, None])
    left = (sizes - cut).clamp_min(0.0).reshape(images.shape)
    return (clean + torch.copysign(left, delta)).clamp(0.0, 1.0)


def _threshold(sizes: Tensor, excess: Tensor, aim: Tensor) -> Tensor:
    """λ with ``Σ max(|δ| - max(excess, λ), 0) = aim``."""
    low, high = torch.zeros_like(aim), sizes.amax(1)
    here, done = low, torch.zeros_like(aim, dtype=torch.bool)
    for _ in range(_ROUNDS):
        left = (sizes - torch.maximum(excess, here[:, None])).clamp_min(0.0)
        falls = ((excess <= here[:, None]) & (sizes > here[:, None])).to(sizes.dtype)
        total, slope = row_sum(torch.cat([left, falls])).split(len(aim))
        done = done | ((total - aim).abs() <= _SLACK * aim)
        if bool(done.all()):
            break
        low, high = torch.where(total > aim, here, low), torch.where(total > aim, high, here)
        newton = here + (total - aim) / slope.clamp_min(1e-30)
        inside = (newton > low) & (newton < high)
        here = torch.where(done, here, torch.where(inside, newton, (low + high) / 2))
    return torch.where(done, here, high)
