"""Certified accuracy: for how many images a bound proves the class on the whole ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from suture.bounds import Method, Network, margin_rows
from suture.certify.proving import network64, prove
from suture.errors import ModelError
from suture.models import untouched
from suture.types import Batch, Box, OnProgress, is_randomised


@dataclass(frozen=True, eq=False)
class Certification:
    """What was proved about each image.

    Attributes:
        right: ``(n,)`` whether the image itself is classified right.
        certified: ``(n,)`` whether it is right, and stays so on the whole ball.
        margin: float64 ``(n,)`` smallest proved ``logit_label - logit_j``; -inf if unknown.
    """

    right: Tensor
    certified: Tensor
    margin: Tensor


def certify_images(
    model: nn.Module,
    batch: Batch,
    eps: float,
    method: Method = "crown",
    *,
    batch_size: int = 64,
    on_progress: OnProgress | None = None,
) -> Certification:
    """Prove, in float64 with slack, what can be proved about L∞ balls clipped to [0, 1].

    Args:
        eps: radius, pixel values in [0, 1].
        method: "ibp", "crown-ibp", "crown" or "alpha-crown".
        batch_size: images bounded together: memory, not results.

    Raises:
        ModelError: a randomised model, or a layer that bounds do not know.
    """
    if is_randomised(model):
        raise ModelError(
            expected="a deterministic model",
            got="one that draws at random in every forward pass",
            remedy="Certify the model before the repair, or one fixed program of it.",
        )
    network = network64(model, batch.shape)
    with untouched(model), torch.no_grad():
        logits = torch.cat([model(piece.images) for piece in batch.split(256)])
    right = logits.argmax(1) == batch.labels
    # What is wrong already needs no proof.
    wanted = right.nonzero().flatten()
    margin = torch.full((len(batch),), float("-inf"), dtype=torch.float64)
    done = len(batch) - len(wanted)
    for index in wanted.split(batch_size) if len(wanted) else ():
        margin[index] = _margins(network, batch[index], eps, method).cpu()
        done += len(index)
        if on_progress is not None:
            on_progress(f"{method}, eps {eps:g}", done, len(batch))
    return Certification(right.cpu(), right.cpu() & (margin > 0), margin)


def _margins(network: Network, batch: Batch, eps: float, method: Method) -> Tensor:
    images = batch.images.double()
    box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
    classes = network.out_shape[-1]
    rows = margin_rows(batch.labels, classes, torch.float64)
    found = prove(network, box, rows, rows.new_zeros(rows.shape[:2]), method)
    return found.amin(1)
