"""A box through an affine map, against the same written with tensor operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from suture.bounds import Linear
from suture.bounds.boxes import through_conv, through_linear

LINEAR, CONV = ((4, 6), (5, 6), (5,)), ((3, 4, 7, 6), (6, 2, 3, 2), (6,))
GIVEN = ((2, 1), (1, 0), (1, 2), 2)
FIRST = ((3, 1, 7, 6), (6, 1, 4, 3), (6,))
"""Few channels, as an image has."""


def both_ways(shapes, bias, dtype, seed, given=GIVEN):
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
            ends = (through_conv(low, up, kernel, last, *given) if conv
                    else through_linear(low, up, kernel, last))  # fmt: skip
        else:
            middle, radius = (low + up) / 2, (up - low) / 2
            way, rest = (F.conv2d, given) if conv else (F.linear, ())
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
        close = 1e-11 if dtype == torch.float64 else 1e-3
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("stride", "padding"), [(2, 1), (3, 0)])
def test_gradients_at_the_image_are_those_of_tensor_operations(stride, padding, bias):
    """Of a first layer they are found by blocks."""
    rest = ((stride, stride), (padding, padding), (1, 1), 1)
    for ours, theirs in zip(*both_ways(FIRST, bias, torch.float32, 7, rest), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("which", range(4))
def test_only_one_gradient_may_be_asked_for(which, conv):
    """Of lower, upper, weight and bias: the same as when all are asked for."""
    shapes = ((2, 3, 4, 4), (4, 3, 2, 2), (4,)) if conv else ((2, 3), (4, 3), (4,))
    generator = torch.Generator().manual_seed(0)
    lower, weight, bias = (torch.randn(s, generator=generator) for s in shapes)
    results = []
    for wanted in ((True,) * 4, tuple(i == which for i in range(4))):
        given_ = (lower, lower + 1, weight, bias)
        values = [v.clone().requires_grad_(w) for v, w in zip(given_, wanted, strict=True)]
        rest = ((1, 1), (0, 0), (1, 1), 1)
        low, up = through_conv(*values, *rest) if conv else through_linear(*values)
        (low.square() + 2 * up).sum().backward()
        assert [v.grad is not None for v in values] == list(wanted)
        results.append(values[which].grad)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("shape", [(3,), (2, 5, 3)])
@pytest.mark.parametrize("own", [False, True])
def test_other_shapes_and_own_constants_take_the_other_way(shape, own):
    layer = Linear(torch.randn(4, 3, requires_grad=True), torch.randn(4, requires_grad=True))
    if own:
        shape = (2, 3)
        layer = Linear(layer.weight, torch.randn(2, 4, requires_grad=True))
    lower = torch.zeros(shape, requires_grad=True)
    low, up = layer.interval([lower], [lower + 1])
    (low + up).sum().backward()
    inside = layer.forward(lower + 0.5)
    assert bool((low <= inside).all() and (inside <= up).all())
    assert lower.grad is not None and layer.bias.grad.shape == layer.bias.shape


def test_by_hand():
    """[1, 2] x [0, 4] through 3x - 2y + 1: the smallest at (1, 4), the largest at (2, 0)."""
    low, up = through_linear(
        torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 4.0]]),
        torch.tensor([[3.0, -2.0]]), torch.tensor([1.0]),
    )  # fmt: skip
    assert (low.item(), up.item()) == (-4.0, 7.0)
