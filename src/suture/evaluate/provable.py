"""What can be proved about images, method by method, beside what an attack leaves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from suture.attacks import PGD
from suture.bounds import Method
from suture.certify import certify_images
from suture.rng import Stream
from suture.types import Batch, described


def provable(
    model: nn.Module,
    batch: Batch,
    attack: PGD,
    methods: Sequence[str],
    *,
    stream: Stream,
    batch_size: int = 64,
) -> list[dict[str, Any]]:
    """Images of the batch that are right, attacked, and certified on the attack's whole L∞ ball.

    Where a defence moves images first, all but one row are about attacks after the move.

    Args:
        attack: what no proof may contradict; its radius is certified.
        methods: out of ibp, crown-ibp, crown, alpha-crown.
        batch_size: images bounded together.

    Returns:
        Rows with ``what``, ``right`` out of ``n``, ``seconds``; of a method also ``contradicted``:
        images that were certified and broken nevertheless.
    """
    rows: list[dict[str, Any]] = []
    parts = described(model).preemptive()
    if parts is not None:
        rows.append(_attacked(attack, model, batch, stream, "PGD before the move")[0])
        moved, model = parts
        with torch.no_grad():
            stored = torch.cat([moved(piece) for piece in batch.images.split(256)])
        batch = Batch(stored, batch.labels)
    row, held = _attacked(attack, model, batch, stream, "PGD" if parts is None else "PGD after")
    rows.append(row)
    for method in methods:
        started = time.perf_counter()
        found = certify_images(
            model, batch, attack.eps, cast(Method, method), batch_size=batch_size
        )
        spent = time.perf_counter() - started
        row = _row(attack.eps, f"certified, {method}", found.certified, spent)
        rows.append(row | {"contradicted": int((found.certified & ~held).sum())})
        clean = found.right
    return [_row(attack.eps, "clean", clean, 0.0), *rows]


def _attacked(
    attack: PGD, model: nn.Module, batch: Batch, stream: Stream, what: str
) -> tuple[dict[str, Any], Tensor]:
    """A row, and which images held."""
    started = time.perf_counter()
    held = attack(model, batch, generator=stream, batch_size=256).robust.cpu()
    return _row(attack.eps, what, held, time.perf_counter() - started), held


def _row(eps: float, what: str, right: Tensor, seconds: float) -> dict[str, Any]:
    return {
        "eps": eps,
        "what": what,
        "right": int(right.sum()),
        "n": len(right),
        "seconds": round(seconds, 4),
    }
