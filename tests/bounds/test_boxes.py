"""A box through an affine map, against the same written with tensor operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from suture.bounds.boxes import through_conv, through_linear

LINEAR, CONV = ((4, 6), (5, 6), (5,)), ((3, 4, 7, 6), (6, 2, 3, 2), (6,))
GIVEN = ((2, 1), (1, 0), (1, 2), 2)


def both_ways(shapes, bias, dtype, seed):
    """Ends and slopes, ours and by operations, of the same numbers."""
    generator = torch.Generator().manual_seed(seed)
    lower, weight, constant = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    width = torch.rand(shapes[0], generator=generator, dtype=dtype)
    conv = len(shapes[0]) == 4
    for ours in (True, False):
        values = [v.clone().requires_grad_() for v in (lower, lower + width, weight, constant)]
        low, up, kernel, last = values
        last = last if bias else None
        if ours:
            ends = (through_conv(low, up, kernel, last, *GIVEN) if conv
                    else through_linear(low, up, kernel, last))  # fmt: skip
        else:
            middle, radius = (low + up) / 2, (up - low) / 2
            way, rest = (F.conv2d, GIVEN) if conv else (F.linear, ())
            centre, spread = (
                way(middle, kernel, last, *rest),
                way(radius, kernel.abs(), None, *rest),
            )
            ends = centre - spread, centre + spread
        (ends[0] ** 3 + ends[0] * ends[1]).sum().backward()
        yield [*ends, *(v.grad for v in (values if bias else values[:3]))]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([LINEAR, CONV]), st.booleans(),
       st.sampled_from([torch.float32, torch.float64]))  # fmt: skip
def test_ends_and_gradients_are_those_of_tensor_operations(seed, shapes, bias, dtype):
    for ours, theirs in zip(*both_ways(shapes, bias, dtype, seed), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_only_one_gradient_may_be_asked_for(wanted):
    shapes = ((2, 3), (4, 3), (4,))
    values = [torch.ones(s, requires_grad=w) for s, w in zip(shapes, wanted, strict=True)]
    low, weight, bias = values
    _, up = through_linear(low, torch.full((2, 3), 2.0), weight, bias)
    up.sum().backward()
    assert [v.grad is not None for v in values] == list(wanted)


def test_by_hand():
    """[1, 2] x [0, 4] through 3x - 2y + 1: the smallest at (1, 4), the largest at (2, 0)."""
    low, up = through_linear(
        torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 4.0]]),
        torch.tensor([[3.0, -2.0]]), torch.tensor([1.0]),
    )  # fmt: skip
    assert (low.item(), up.item()) == (-4.0, 7.0)
