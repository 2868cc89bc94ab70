"""Certificates of robustified images: what is proved of them as they are stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from suture.bounds import Method, margin_rows
from suture.certify import Certificate, Promise, network64, prove
from suture.models import fingerprint
from suture.types import Batch, Box

METHODS: tuple[Method, ...] = ("ibp", "crown-ibp", "crown")
"""Tried one after another: what intervals prove needs no tighter bound."""
THREAT = "attack after robustification"
_TOGETHER = 64


@dataclass(frozen=True, eq=False)
class Vouched:
    """What is proved of robustified images, and the promise: all that were tried.

    Attributes:
        certificates: one an image whose class provably stays.
        promise: every image's ball, proved or not; ``None`` where none was tried.
    """

    certificates: tuple[Certificate, ...] = ()
    promise: Promise | None = None


def vouched(classifier: nn.Module, robustified: Batch, eps: float, *, repair: str) -> Vouched:
    """``certificates_of``, and the promise about all the images; the centres are the images as
    stored."""
    made = certificates_of(classifier, robustified, eps, repair=repair)
    network = fingerprint(classifier)
    return Vouched(made, Promise.of(robustified.images, eps, robustified.labels, network, made))


def certificates_of(
    classifier: nn.Module, robustified: Batch, eps: float, *, repair: str
) -> tuple[Certificate, ...]:
    """One certificate for every image whose class provably stays, in float64 with slack.

    Args:
        classifier: what reads the robustified images; the certificates speak of it alone.
        robustified: the images as stored, with their true classes.
        eps: ε_A, the L∞ radius of the attack on them; balls are clipped to [0, 1].
        repair: for the certificates' notes.
    """
    images = robustified.images.double()
    lower, upper = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    with torch.no_grad():
        classes = int(classifier(robustified.images[:1]).shape[1])
    rows = margin_rows(robustified.labels, classes, torch.float64)
    margin, method = _proved(classifier, Box(lower, upper), rows)
    network = fingerprint(classifier)
    return tuple(
        Certificate(
            lower[i].cpu(),
            upper[i].cpu(),
            rows[i].cpu(),
            rows.new_zeros(classes - 1).cpu(),
            float(margin[i]),
            METHODS[int(method[i])],
            network,
            {
                "repair": repair,
                "image": i,
                "region": i,
                "label": int(robustified.labels[i]),
                "threat": THREAT,
                "tried": len(robustified),
            },
        )
        for i in (margin > 0).nonzero()[:, 0].tolist()
    )


def _proved(classifier: nn.Module, box: Box, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest margins ``(n,)``, and the number of the method that gave each."""
    network = network64(classifier, tuple(box.lower.shape[1:]))
    margin = torch.full((len(rows),), float("-inf"), dtype=torch.float64, device=rows.device)
    method = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for number, name in enumerate(METHODS):
        left = (margin <= 0).nonzero()[:, 0]
        for index in left.split(_TOGETHER) if len(left) else ():
            part = Box(box.lower[index], box.upper[index])
            add = rows.new_zeros(len(index), rows.shape[1])
            margin[index] = prove(network, part, rows[index], add, name).amin(1)
            method[index] = number
    return margin, method
