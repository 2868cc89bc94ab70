"""Room for intermediate values: a feature that is 0 before a program and that the head never sees.

With it the language says ``v_i = v_i + b·v_k``: ``v_m = v_k * b; v_i = v_i + v_m``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from suture.models import Cut, head_is_linear


class FirstFeatures(nn.Module):
    """The first ``count`` features."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Tensor) -> Tensor:
        """``(n, m)`` to ``(n, count)``."""
        return features[:, : self.count]


def with_scratch(parts: Cut, count: int) -> Cut:
    """The same classifier with ``count`` more features, for programs alone."""
    if not count:
        return parts
    encoder = nn.Sequential(parts.encoder, nn.ConstantPad1d((0, count), 0.0))
    linear = head_is_linear(parts.head)
    head = (
        nn.Sequential(FirstFeatures(parts.features), parts.head)
        if linear is None
        else _wider(linear, count)
    )
    return replace(parts, encoder=encoder.eval(), head=head.eval(), features=parts.features + count)


def _wider(linear: nn.Linear, count: int) -> nn.Linear:
    """With columns of 0."""
    like = linear.weight
    made = nn.Linear(linear.in_features + count, linear.out_features, linear.bias is not None)
    made = made.to(like)
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:, : linear.in_features] = like
        if linear.bias is not None:
            made.bias.copy_(linear.bias)
    return made.requires_grad_(like.requires_grad)
