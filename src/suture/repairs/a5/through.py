"""Certificates about attacks before R: bounds through R first, then through C.

R is a ReLU network with a sigmoid, a clamp and rounding behind it. What it may hand on for any
image of a ball is a box again: ``x + δ_D(z)`` is monotone in x and in z, pixel by pixel, and z lies
within R's bounds. That forgets how x and z go together, and costs most of what could be proved.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suture.bounds import Method, margin_rows, output_bounds
from suture.certify import Certification, network64, prove
from suture.repairs.a5.defence import LEVELS
from suture.repairs.a5.robustifier import RobustifiedClassifier, Robustifier
from suture.types import Batch, Box

_SLACK = 1e-5
_TOGETHER = 50


def handed_on_box(robustifier: Robustifier, box: Box, method: Method = "ibp") -> Box:
    """A box, float64, that holds what R makes of every image of a box, as stored.

    Args:
        robustifier: with an L∞ defence.
        box: float64 images ``(n, c, h, w)`` in [0, 1].
        method: how R's own output is bounded.
    """
    lower, upper = _z_bounds(robustifier.body, box, method)
    defence = robustifier.defence
    # Rounding goes to a neighbouring grey level at most; R itself computes in float32.
    slack = _SLACK + (1 / LEVELS if defence.rounded else 0.0)
    ends = box.lower + defence.perturbation(lower), box.upper + defence.perturbation(upper)
    low, high = (ends[0] - slack).clamp(0, 1), (ends[1] + slack).clamp(0, 1)
    return Box(torch.minimum(low, high), high)


def _z_bounds(body: nn.Module, box: Box, method: Method) -> tuple[Tensor, Tensor]:
    """Bounds of R's output; a pixel shuffle at its end only puts numbers elsewhere."""
    layers = list(body.children())
    last = layers[-1]
    shuffled = isinstance(last, nn.PixelShuffle)
    network = network64(nn.Sequential(*layers[:-1]) if shuffled else body, box.lower.shape[1:])
    lower, upper = output_bounds(network, box, method)
    return (last(lower), last(upper)) if shuffled else (lower, upper)


@torch.no_grad()
def certify_before(
    model: RobustifiedClassifier,
    batch: Batch,
    eps: float,
    method: Method = "crown",
    *,
    inner: Method = "ibp",
) -> Certification:
    """What is proved about C ∘ R on L∞ balls around the images that R reads, clipped to [0, 1].

    Args:
        eps: radius of the attacker who comes before R.
        method: how C is bounded.
        inner: how R is; "crown" takes two rows a pixel, a second an image and more.
    """
    right = model(batch.images).argmax(1) == batch.labels
    margin = torch.full((len(batch),), float("-inf"), dtype=torch.float64)
    reader = network64(model.classifier, batch.shape)
    for rows in right.nonzero()[:, 0].split(_TOGETHER):
        images, labels = batch.images[rows].double(), batch.labels[rows]
        box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
        reached = handed_on_box(model.robustifier, box, inner)
        against = margin_rows(labels, reader.out_shape[-1], torch.float64)
        found: Tensor = prove(
            reader, reached, against, against.new_zeros(against.shape[:2]), method
        )
        margin[rows.cpu()] = found.amin(1).cpu()
    return Certification(right.cpu(), right.cpu() & (margin > 0), margin)
