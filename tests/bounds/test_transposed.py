"""Transposed convolutions by blocks, against the library's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from suture.bounds.transposed import suits, transposed

CASES = [((4, 4), 2, (1, 1), 0), ((3, 3), 2, (1, 1), 1), ((3, 3), 2, (0, 0), 0),
         ((5, 5), 3, (2, 2), 2), ((2, 2), 2, (0, 0), 1), ((1, 1), 2, (0, 0), 1),
         ((2, 2), 3, (1, 1), 2), ((5, 2), 2, (2, 0), 1), ((1, 4), 2, (0, 1), 0)]  # fmt: skip
"""Kernel, stride, padding, pixels at the far edge that no window reaches."""


@pytest.mark.parametrize(("kernel", "stride", "padding", "rest"), CASES)
@pytest.mark.parametrize("channels", [1, 3])
def test_values_and_gradients(kernel, stride, padding, rest, channels):
    results = []
    for ours in (True, False):
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(2, 5, 4, 3, generator=generator, requires_grad=True)
        weight = torch.randn(5, channels, *kernel, generator=generator, requires_grad=True)
        size = [(edge - 1) * stride - 2 * p + k + rest
                for edge, p, k in zip((4, 3), padding, kernel, strict=True)]  # fmt: skip
        if ours:
            found = transposed(rows, weight, stride, padding, (size[0], size[1]))
        else:
            found = F.conv_transpose2d(rows, weight, None, stride, padding, rest)
        (found**3).sum().backward()
        results.append([found, rows.grad, weight.grad])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_where_the_library_is_faster_it_is_used():
    few, many = torch.zeros(8, 3, 4, 4), torch.zeros(8, 16, 4, 4)
    assert suits(few, (2, 2), (1, 1), 1)
    assert not suits(many, (2, 2), (1, 1), 1)
    assert not suits(few, (1, 1), (1, 1), 1) and not suits(few, (2, 1), (1, 1), 1)
    assert not suits(few, (2, 2), (2, 2), 1) and not suits(few, (2, 2), (1, 1), 2)
    assert not suits(few.double(), (2, 2), (1, 1), 1)
