"""Margins of the true class, and what training and certificates make of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from suture.bounds.crown import Method, bounds_of
from suture.bounds.network import Network
from suture.types import Box


def margin_rows(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """``e_label - e_j`` for every other class j in rising order: ``(n, classes - 1, classes)``."""
    unit = torch.eye(classes, dtype=dtype, device=labels.device)
    others = _others(labels, classes)
    return unit[labels][:, None] - unit[others]


def _others(labels: Tensor, classes: int) -> Tensor:
    order = torch.arange(classes - 1, device=labels.device).expand(len(labels), -1)
    return order + (order >= labels[:, None]).long()


def margins(network: Network, box: Box, labels: Tensor, method: Method = "crown") -> Tensor:
    """Lower bounds of ``logit_label - logit_j`` over the box, ``(n, classes)``; 0 at the label.

    Args:
        network: with outputs ``(n, classes)``.
        box: inputs ``(n, *in_shape)``.
        labels: int64 ``(n,)``.
        method: how to bound. -inf means "nothing is known".
    """
    classes = network.out_shape[-1]
    found = bounds_of(network, box, margin_rows(labels, classes, box.lower.dtype), method)
    return found.new_zeros(len(labels), classes).scatter(1, _others(labels, classes), found)


def certified(
    network: Network, box: Box, labels: Tensor, method: Method = "crown", *, above: float = 0.0
) -> Tensor:
    """Which examples keep their class on the whole box: every margin larger than ``above``."""
    found = margins(network, box, labels, method)
    own = F.one_hot(labels, found.shape[1]).bool()
    return found.masked_fill(own, float("inf")).amin(1) > above


def worst_case_cross_entropy(found: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the logits ``-margins`` (Wong & Kolter 2018, Theorem 2): an upper
    bound of the loss anywhere in the box."""
    return F.cross_entropy(-found, labels)
