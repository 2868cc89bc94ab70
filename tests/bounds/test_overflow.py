"""What overflows is not known, and what is not known is never proved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from suture import bounds
from suture.bounds import kernels
from suture.bounds.activations import Relu, SShaped
from suture.bounds.backward import concretise
from suture.bounds.boxes import through_conv, through_linear
from suture.bounds.kernels import least, least_and_most, relu_relaxation
from suture.bounds.pooling import MaxPool
from suture.certify.matrices import steps_of
from suture.certify.plain import lower_bounds
from suture.errors import ArgumentError
from suture.types import Box

INF, NAN = float("inf"), float("nan")
METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")


def layered(*layers: tuple[list[list[float]], list[float]]) -> nn.Sequential:
    """Linear layers of these numbers with ReLUs between."""
    parts: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(len(weight[0]), len(weight))
        linear.weight = nn.Parameter(torch.tensor(weight))
        linear.bias = nn.Parameter(torch.tensor(bias))
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


@pytest.fixture(params=["kernels", "tensor operations"])
def way(request, monkeypatch):
    """Both ways to compute the same."""
    if request.param != "kernels":
        monkeypatch.setattr(kernels, "plain", lambda *values: False)


@pytest.mark.parametrize("method", METHODS)
def test_a_coefficient_that_overflows_proves_nothing(way, method):
    """All weights and values are finite; the back-substituted coefficient -1e30 · 1e30 is not."""
    model = layered(
        ([[1e30, 0], [0, 1]], [5.0, 0]), ([[-1e30, 1e30], [0, 1]], [0.0, 0]), ([[1e-30, -1]], [0.0])
    )
    box = Box(torch.tensor([[-1.1e-30, 0]]), torch.tensor([[-1e-30, 10]]))
    points = box.lower + torch.rand(1000, 2) * (box.upper - box.lower)
    with torch.no_grad():
        reached = float(model(points).max())
        _, upper = bounds.output_bounds(bounds.read(model, (2,)), box, method)
    assert float(upper) >= reached


@pytest.mark.parametrize("method", METHODS)
def test_a_width_that_overflows_proves_nothing(way, method):
    """relu(3e38 x) on [-1, 1]: the chord is not zero because 6e38 is no number of float32."""
    model = layered(([[3e38]], [0.0]), ([[0.0], [1e-38]], [1.0, 0]))
    box = Box(torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    assert model(box.upper).argmax() == 1
    network = bounds.read(model, (1,))
    assert not bool(bounds.certified(network, box, torch.tensor([0]), method))


def test_the_checker_proves_nothing_of_what_overflows():
    model = layered(([[1.5e38]], [0.0]), ([[0.0], [1e-38]], [1.0, 0])).double()
    with torch.no_grad():
        model[0].weight *= 1e270
        model[2].weight *= 1e-270
    steps = steps_of(model, (1,))
    rows, add = np.array([[1.0, -1.0]]), np.zeros(1)
    assert lower_bounds(steps, np.array([-0.1]), np.array([0.1]), rows, add)[0] > 0
    assert lower_bounds(steps, np.array([-1.0]), np.array([1.0]), rows, add)[0] == -INF


@pytest.mark.parametrize(("lower", "upper"), [(-3e38, 3e38), (NAN, 1.0), (-1.0, INF), (INF, INF)])
def test_a_relaxation_without_bounds_is_none(way, lower, upper):
    ends = torch.tensor([[lower]]), torch.tensor([[upper]])
    relaxation = Relu().relaxation(*ends)
    assert bool((relaxation.up * 0 + relaxation.up_shift).isnan())
    for name in ("sigmoid", "tanh"):
        relaxation = SShaped(name).relaxation(*ends)
        assert bool(relaxation.low_shift.isnan()) and bool(relaxation.up_shift.isnan())


def test_a_pooling_without_bounds_keeps_its_rows_unknown():
    pool = MaxPool((2, 2), (2, 2), (0, 0), False, (1, 2, 2))
    lower = torch.tensor([[[[5.0, -3e38], [0, 0]]]])
    upper = torch.tensor([[[[6.0, 3e38], [1, 1]]]])
    _, add = pool.bound_backward(torch.ones(1, 1, 1, 1, 1), lower, upper)
    assert bool(add.isnan())
    _, add = pool.bound_backward(torch.ones(1, 1, 1, 1, 1), lower.clamp(min=0), upper.clamp(max=4))
    assert not bool(add.isnan())


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["rows", "lower", "upper"])
@pytest.mark.parametrize("other", [1.0, -1.0, 0.0])
def test_the_smallest_value_of_something_unknown_is_unknown(bad, where, other):
    values = {"rows": other, "lower": -abs(other), "upper": abs(other)} | {where: bad}
    rows = torch.tensor([[[values["rows"], 1.0]]])
    lower, upper = (torch.tensor([[values[name], 0.5]]) for name in ("lower", "upper"))
    small = least(rows, lower, upper)
    low, up = least_and_most(rows, lower, upper)
    for found in (small, low, -up, concretise(rows, torch.zeros(1, 1), lower, upper)):
        assert bool(found.isnan()) or float(found) == -INF


def test_a_sum_that_overflows_is_unknown():
    rows, ends = torch.tensor([[[3e38, 3e38]]]), torch.tensor([[1.0, 1.0]])
    assert bool(least(rows, ends, ends).isnan())
    assert bool(concretise(rows / 3, torch.tensor([[3e38]]), ends, ends).isnan())
    low, up = least_and_most(-rows, ends, ends)
    assert float(low) == -INF and bool(up.isnan())


@pytest.mark.parametrize("width", [1e-23, 1e19])
def test_slopes_of_relaxations_neither_vanish_nor_overflow(width):
    lower, upper = (torch.full((1, 1), end, requires_grad=True) for end in (-width, width))
    _, up, shift = relu_relaxation(lower, upper, 0.0)
    (up.sum() * width + shift.sum()).backward()
    # The chord u / (u - l) has slopes 1 / 4u at both ends, the shift -chord · l has -1/4 and 1/4.
    assert lower.grad.item() == pytest.approx(0.0, abs=1e-6)
    assert upper.grad.item() == pytest.approx(0.5, abs=1e-6)


def test_as_many_boxes_as_networks():
    layer = bounds.Linear(torch.ones(5, 2, 3), torch.zeros(5, 2))
    network = bounds.chain([layer, bounds.Relu()], (3,))
    for count in (1, 7):
        box = Box(torch.zeros(count, 3), torch.ones(count, 3))
        with pytest.raises(ArgumentError, match="one for each example"):
            bounds.output_bounds(network, box, "ibp")
    for kernel in (least, least_and_most):
        with pytest.raises(ArgumentError):
            kernel(torch.ones(2, 1, 3), torch.zeros(2, 2), torch.ones(2, 2))


def test_a_centre_that_overflows_is_unknown():
    """The ends would both be -inf otherwise, and a ReLU behind them dead."""
    ends, weight = torch.tensor([[2.0, 2.0]]), torch.tensor([[-3e38, -3e38]])
    for found in (
        *through_linear(ends, ends, weight, None),
        *through_conv(
            ends.view(1, 1, 1, 2),
            ends.view(1, 1, 1, 2),
            weight.view(1, 1, 1, 2),
            None,
            (1, 1),
            (0, 0),
            (1, 1),
            1,
        ),
    ):
        assert bool(found.isnan().all())
