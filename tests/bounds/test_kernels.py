"""The one-pass kernels against the same thing as tensor operations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suture import bounds
from suture.bounds import kernels, loops
from suture.bounds.activations import Relaxation, Relu, _bound_backward, bound_backward_dense
from suture.bounds.kernels import bend, bends, least, least_and_most, relu_relaxation
from suture.types import Box


def drawn(seed: int, n: int, own: bool, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n if own else 1, 3, 2, 4), (n, 2, 4), (n, 2, 4), (n, 2, 4))
    values = [torch.randn(s, generator=generator, dtype=dtype) for s in shapes]
    values[0][..., 0] = 0.0
    return tuple(v.requires_grad_() for v in values)


def assert_alike(ours, theirs, dtype):
    tolerance = 1e-11 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def plain(rows, low, up, shift):
    return _bound_backward(rows, Relaxation(low, up, None, shift), lambda t: t[:, None], 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.booleans(),
       st.sampled_from([torch.float32, torch.float64]))  # fmt: skip
def test_values_and_gradients_are_those_of_tensor_operations(seed, n, own, dtype):
    results = []
    for way in (bend, plain):
        given_ = drawn(seed, n, own, dtype)
        assert bends(*given_)
        out, add = way(*given_)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
        ((out * weight).sum() + (add * add).sum()).backward()
        rows, *parts = given_
        # At the kink versions of PyTorch differ about the slope; any of them is one.
        slopes = rows.grad.masked_fill(rows == 0, 0.0)
        results.append([out, add, slopes, *(value.grad for value in parts)])
    for ours, theirs in zip(*results, strict=True):
        assert_alike(ours, theirs, dtype)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.float64]))
def test_smallest_and_largest_values_and_their_gradients(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((3, 4, 5), (3, 5), (3, 5))
    rows, lower, width = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    rows[0, 0, 0] = 0.0
    results = []
    for kernel in (True, False):
        given_ = [v.clone().requires_grad_() for v in (rows, lower, lower + width.abs())]
        if kernel:
            small, (low, up) = least(*given_), least_and_most(*given_)
        else:
            middle, radius = (given_[2] + given_[1]) / 2, (given_[2] - given_[1]) / 2
            centre = torch.einsum("nrm,nm->nr", given_[0], middle)
            spread = torch.einsum("nrm,nm->nr", given_[0].abs(), radius)
            small, low, up = centre - spread, centre - spread, centre + spread
        ((small**2).sum() + (low * up).sum()).backward()
        results.append([small, low, up, *(v.grad for v in given_)])
    for ours, theirs in zip(*results, strict=True):
        assert_alike(ours, theirs, dtype)


def test_slopes_that_nobody_asks_for_are_not_found(monkeypatch):
    def never(*arrays):
        raise AssertionError("nobody asked")

    box = torch.zeros(2, 4), torch.ones(2, 4)
    rows = torch.randn(2, 3, 4)
    with monkeypatch.context() as patch:
        patch.setattr(loops, "slope_of_box", never)
        mine = rows.clone().requires_grad_()
        least(mine, *box).sum().backward()
        assert torch.equal(mine.grad, (rows < 0).float())
    for which in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(loops, "slope_of_rows", never)
            ends = [v.clone().requires_grad_(i == which) for i, v in enumerate(box)]
            least(rows, *ends).sum().backward()
            expected = (rows.clamp(min=0), rows.clamp(max=0))[which].sum(1)
            torch.testing.assert_close(ends[which].grad, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.float64]),
       st.sampled_from([0.0, 0.1]))  # fmt: skip
def test_relaxations_of_relu_are_those_of_tensor_operations(seed, dtype, slope):
    generator = torch.Generator().manual_seed(seed)
    lower, width = (torch.randn(5, 2, 3, generator=generator, dtype=dtype) for _ in range(2))
    lower[0, 0, 0], width[1, 0, 0] = 0.0, 0.0
    weights = torch.randn(2, 5, 2, 3, generator=generator, dtype=dtype)
    results = []
    for kernel in (True, False):
        low, up = (v.clone().requires_grad_() for v in (lower, lower + width.abs()))
        assert kernels.plain(low, up)
        with pytest.MonkeyPatch.context() as patch:
            if not kernel:
                patch.setattr(kernels, "plain", lambda *values: False)
            made = Relu(slope).relaxation(low, up)
        (weights[0] * made.up + weights[1] * made.up_shift).sum().backward()
        results.append([made.low, made.up, made.up_shift, low.grad, up.grad])
    for ours, theirs in zip(*results, strict=True):
        assert_alike(ours, theirs, dtype)


@pytest.mark.parametrize(("lower", "upper"), [("nan", 1), (-1, "nan"), (-1, "inf"), ("-inf", 1)])
def test_a_relu_without_bounds_has_no_relaxation(lower, upper):
    ends = (torch.tensor([[float(v)]]) for v in (lower, upper))
    low, up, shift = relu_relaxation(*ends, 0.0)
    assert low.item() in (0.0, 1.0)
    assert not bool(up.isfinite() and shift.isfinite())


def test_by_hand():
    rows = torch.tensor([[[2.0, -3.0]]], dtype=torch.float64)
    low, up, shift = (
        torch.tensor([v], dtype=torch.float64) for v in ([0.0, 1.0], [0.5] * 2, [4, 5.0])
    )
    out, add = bend(rows, low, up, shift)
    assert out.tolist() == [[[0.0, -1.5]]] and add.tolist() == [[-15.0]]


@pytest.mark.parametrize("which", [1, 2, 3])
def test_what_is_unknown_makes_every_row_unknown(which: int):
    """Where a neuron has no relaxation, neither sign of the coefficient may hide it."""
    values = [v.detach() for v in drawn(0, 1, True, torch.float32)]
    values[0].abs_()
    values[which][0, 0, 0] = float("nan")
    out, add = bend(*values)
    expected, constant = plain(*values)
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(add.isnan(), constant.isnan())
    assert bool(out.isnan().any(-1).any(-1).all()) or bool(add.isnan().all())


def test_other_types_take_the_other_way():
    rows, low, up, shift = (v.detach().to(torch.bfloat16) for v in drawn(0, 2, True, torch.float32))
    assert not bends(rows, low, up, shift)
    out, _ = bound_backward_dense(rows, Relaxation(low, up, None, shift))
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("count", [1, 7, 30])
def test_own_weights_in_pieces_are_own_weights_at_once(count: int, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    ops = []
    for out, width in ((8, 6), (5, 8)):
        weight = torch.randn(count, out, width, generator=generator)
        bias = torch.randn(count, out, generator=generator)
        ops += [bounds.Linear(weight, bias), bounds.Relu()]
    network = bounds.chain(ops[:-1], (6,))
    box = Box.around(torch.rand(count, 6, generator=generator), 0.1)
    labels = torch.arange(count) % 5
    for method in ("ibp", "crown-ibp", "crown"):
        whole = bounds.margins(network, box, labels, method)
        monkeypatch.setattr("suture.bounds.crown.BUDGET", 4 * 88)
        pieces = bounds.margins(network, box, labels, method)
        monkeypatch.undo()
        torch.testing.assert_close(whole, pieces, rtol=1e-4, atol=1e-5)
