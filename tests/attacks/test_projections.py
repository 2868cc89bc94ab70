"""Projections within [0, 1] against scipy, by hand, and their promise about batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from suture.attacks.geometry import distance
from suture.attacks.projections import to_hyperplane, to_l1_ball

NORMS = ("linf", "l2", "l1")


def case(seed: int, dims: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """A point of the box, a normal, and a gap that takes this share of what the box allows."""
    generator = torch.Generator().manual_seed(seed)
    point = torch.rand(1, 1, 1, dims, generator=generator)
    normal = torch.randn(1, 1, 1, dims, generator=generator)
    room = torch.where(normal < 0, 1 - point, point)  # for a positive gap, against the normal
    return point, normal, share * (normal.abs() * room).sum().reshape(1)


def least(norm: str, point: np.ndarray, normal: np.ndarray, gap: float) -> float:
    """The length of the smallest move, by a linear or a quadratic program."""
    dims = len(point)
    if norm == "l2":
        found = minimize(
            lambda d: d @ d,
            np.zeros(dims),
            jac=lambda d: 2 * d,
            method="SLSQP",
            bounds=list(zip(-point, 1 - point, strict=True)),
            constraints={"type": "eq", "fun": lambda d: normal @ d + gap, "jac": lambda d: normal},
            options={"maxiter": 500, "ftol": 1e-14},
        )
        return float(np.sqrt(found.fun))
    ends = 1 if norm == "linf" else dims  # δ and its bounds: one for all, or one for each
    above = np.ones((dims, 1)) if norm == "linf" else np.eye(dims)
    eye = np.eye(dims)
    found = linprog(
        np.concatenate([np.zeros(dims), np.ones(ends)]),
        A_ub=np.block([[eye, -above], [-eye, -above]]),
        b_ub=np.zeros(2 * dims),
        A_eq=np.concatenate([normal, np.zeros(ends)])[None],
        b_eq=[-gap],
        bounds=[*zip(-point, 1 - point, strict=True), *[(0, None)] * ends],
    )
    return float(found.fun)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    dims=st.integers(1, 7),
    share=st.floats(0.01, 0.95),
    negative=st.booleans(),
)
def test_to_hyperplane_is_the_smallest_move(norm, seed, dims, share, negative):
    point, normal, gap = case(seed, dims, share)
    if negative:
        normal, gap = -normal, -gap
    move = to_hyperplane(norm, point, normal, gap)
    assert torch.allclose((normal * move).sum(), -gap, atol=1e-5)
    assert (point + move).min() >= -1e-6 and (point + move).max() <= 1 + 1e-6
    exact = least(norm, *(t.flatten().double().numpy() for t in (point, normal)), float(gap))
    assert float(distance(norm, move)) == pytest.approx(exact, abs=2e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_a_plane_beyond_the_box_draws_to_the_corner(norm):
    point, normal, gap = case(3, 5, 2.0)
    moved = point + to_hyperplane(norm, point, normal, gap)
    assert torch.allclose(moved, (normal < 0).float(), atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_nothing_moves_without_a_normal_or_a_gap(norm):
    point, normal, gap = case(3, 5, 0.5)
    assert not to_hyperplane(norm, point, 0 * normal, gap).any()
    assert not to_hyperplane(norm, point, normal, 0 * gap).any()


def test_moves_by_hand():
    point = torch.tensor([0.5, 0.9]).reshape(1, 1, 1, 2)
    normal, gap = torch.tensor([1.0, -2.0]).reshape(1, 1, 1, 2), torch.tensor([0.5])
    # The second entry has 0.1 of room, which gains 0.2; the first must gain the other 0.3.
    for norm, expected in {"linf": (-0.3, 0.1), "l2": (-0.3, 0.1), "l1": (-0.3, 0.1)}.items():
        assert torch.allclose(
            to_hyperplane(norm, point, normal, gap).flatten(), torch.tensor(expected), atol=1e-6
        )
    # With room, L∞ moves all alike, L2 along the normal, L1 the largest entry alone.
    point, gap = torch.full_like(point, 0.5), torch.tensor([0.3])
    for norm, expected in {"linf": (-0.1, 0.1), "l2": (-0.06, 0.12), "l1": (0.0, 0.15)}.items():
        assert torch.allclose(
            to_hyperplane(norm, point, normal, gap).flatten(), torch.tensor(expected), atol=1e-6
        )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), dims=st.integers(1, 6), eps=st.floats(0.01, 2.0))
def test_to_l1_ball_is_the_nearest_point_of_ball_and_box(seed, dims, eps):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(1, 1, 1, dims, generator=generator)
    outside = clean + torch.randn(1, 1, 1, dims, generator=generator)
    found = to_l1_ball(eps, clean, outside)
    assert float(distance("l1", found - clean)) <= eps * (1 + 1e-6)
    assert found.min() >= 0 and found.max() <= 1
    x, y = (t.flatten().double().numpy() for t in (clean, outside))
    # δ = p - q with p, q ≥ 0 makes the L1 norm linear.
    nearest = minimize(
        lambda pq: ((x + pq[:dims] - pq[dims:] - y) ** 2).sum(),
        np.zeros(2 * dims),
        method="SLSQP",
        bounds=[*zip(0 * x, 1 - x, strict=True), *zip(0 * x, x, strict=True)],
        constraints={"type": "ineq", "fun": lambda pq: eps - pq.sum()},
        options={"maxiter": 500, "ftol": 1e-12},
    )
    ours = float(((found - outside) ** 2).sum())
    assert ours == pytest.approx(float(nearest.fun), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_the_batch_does_not_matter(norm):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(9, 3, 5, 7, generator=generator)
    normals = torch.randn(9, 3, 5, 7, generator=generator)
    gaps = torch.randn(9, generator=generator) * 20
    whole = to_hyperplane(norm, points, normals, gaps)
    balls = to_l1_ball(2.0, points, points + normals)
    for row in range(9):
        one = slice(row, row + 1)
        assert torch.equal(to_hyperplane(norm, points[one], normals[one], gaps[one]), whole[one])
        assert torch.equal(to_l1_ball(2.0, points[one], (points + normals)[one]), balls[one])
