"""What can be proved about images, method by method, beside what an attack leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import PGD
from suture.certify import Certification, MixtureCertification, certify_images, certify_mixture
from suture.engine import Engine
from suture.rng import Stream
from suture.types import Batch, OnProgress, RepairedModel, described, is_randomised


def provable(
    model: nn.Module,
    batch: Batch,
    attack: PGD,
    methods: Sequence[str],
    *,
    stream: Stream,
    batch_size: int = 64,
    seconds: float = 30.0,
    attacked: int = 0,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """Images of the batch that are right, attacked, and certified on the attack's whole L∞ ball.

    Where a defence moves images first, all but one row are about attacks after the move; a model
    with variants has such rows of each. Of a model that draws from finitely many classifiers
    ``right`` is expected over the draw; then come rows for every draw, and of each classifier.

    Args:
        attack: what no proof may contradict; its radius is certified.
        methods: out of ibp, crown-ibp, crown, alpha-crown, beta-crown, best.
        batch_size: images bounded together.
        seconds: time limit of an image, for beta-crown.
        attacked: images, the first ones, that the attack meets; 0 for all.
        engine: gets the proofs in pieces.
        on_progress: told after each piece (of a mixture: each classifier).

    Returns:
        Rows with ``what``, ``right`` out of ``n``, ``seconds``; of a method also ``contradicted``:
        images that were certified and broken nevertheless.
    """
    variants = described(model).variants()
    if variants:
        terms: dict[str, Any] = {"stream": stream, "batch_size": batch_size, "seconds": seconds}
        terms |= {"attacked": attacked, "engine": engine, "on_progress": on_progress}
        return [
            row | {"what": f"{row['what']}, {name}"}
            for name, variant in variants.items()
            for row in provable(variant, batch, attack, methods, **terms)
        ]
    rows, parts = list[dict[str, Any]](), described(model).preemptive()
    if parts is not None:
        few = batch[:attacked] if attacked else batch
        rows.append(_before_the_move(attack, described(model), few, stream))
        moved = described(model).handed_on(batch.images, batch.labels)
        model, batch = parts[1], Batch(moved, batch.labels)
    few = batch[:attacked] if attacked else batch
    row, held = _attacked(attack, model, few, stream, "PGD" if parts is None else "PGD after")
    rows.append(row)
    terms = {"batch_size": batch_size, "seconds": seconds}
    terms |= {"engine": engine, "on_progress": on_progress}
    if is_randomised(model):
        mixed = partial(certify_mixture, **terms)
        return [*rows, *_of_mixture(model, batch, attack, methods, held, mixed)]
    proofs = partial(certify_images, model, batch, attack.eps, **terms)
    for method in methods:
        row, clean = _proved(attack.eps, method, held, proofs)
        rows.append(row)
    return [_row(attack.eps, "clean", clean, 0.0), *rows]


def _proved(
    eps: float, method: str, held: Tensor, proofs: Callable[..., Certification]
) -> tuple[dict[str, Any], Tensor]:
    """A row of one bound, and which images are right."""
    started = time.perf_counter()
    found = proofs(method)
    spent = time.perf_counter() - started
    row = _row(eps, f"certified, {method}", found.certified, spent)
    broken = found.certified[: len(held)] & (held < 1)
    return row | {"contradicted": int(broken.sum())}, found.right


def _before_the_move(
    attack: PGD, model: RepairedModel, batch: Batch, stream: Stream
) -> dict[str, Any]:
    """A row of the attacker who changes what is moved; where no search can go through the move,
    his images are made on the undefended model.
    """
    what = "PGD before the move"
    if model.searched_before:
        return _attacked(attack, model, batch, stream, what)[0]
    started, parts = time.perf_counter(), model.preemptive()
    assert parts is not None
    found = attack(model.undefended(), batch, generator=stream, batch_size=256)
    moved = model.handed_on(found.images, batch.labels)
    with torch.no_grad():
        said = torch.cat([parts[1](piece) for piece in moved.split(256)]).argmax(1)
    right = (said == batch.labels).cpu()
    return _row(attack.eps, f"{what}, without it", right, time.perf_counter() - started)


def _of_mixture(
    model: nn.Module,
    batch: Batch,
    attack: PGD,
    methods: Sequence[str],
    held: Tensor,
    proofs: Callable[..., MixtureCertification],
) -> list[dict[str, Any]]:
    """Rows of what is proved of a model that draws, method by method."""
    rows: list[dict[str, Any]] = []
    for method in methods:
        started = time.perf_counter()
        found = proofs(model, batch, attack.eps, method)
        spent = time.perf_counter() - started
        name = f"certified, {method}"
        row = _row(attack.eps, f"{name}, expected over the draw", found.share, spent)
        rows.append(row | {"contradicted": int((found.share[: len(held)] > held + 1e-6).sum())})
        rows += _alone(attack.eps, name, found, spent)
        clean = found.right
    return [_row(attack.eps, "clean, expected over the draw", clean, 0.0), *rows]


def _alone(
    eps: float, name: str, found: MixtureCertification, spent: float
) -> list[dict[str, Any]]:
    """What is proved of all programs at once, of the worst one, and of each."""
    rows = [
        _row(eps, f"{name}, under every program", found.every, spent),
        _row(eps, f"{name}, worst of {len(found.odds)} programs", found.worst.certified, spent),
    ]
    each = spent / len(found.odds)
    for number, (odds, member) in enumerate(zip(found.odds, found.members, strict=True)):
        row = _row(eps, f"{name}, program {number}", member.certified, each)
        rows.append(row | {"odds": odds})
    return rows


def _attacked(
    attack: PGD, model: nn.Module, batch: Batch, stream: Stream, what: str
) -> tuple[dict[str, Any], Tensor]:
    """A row, and the share of the draws that held on each image."""
    started = time.perf_counter()
    found = attack(model, batch, generator=stream, batch_size=256)
    held = found.share if is_randomised(model) else found.robust
    held = held.cpu().double()
    return _row(attack.eps, what, held, time.perf_counter() - started), held


def _row(eps: float, what: str, right: Tensor, seconds: float) -> dict[str, Any]:
    total = float(right.double().sum())
    return {
        "eps": eps,
        "what": what,
        "right": int(total) if total.is_integer() else round(total, 4),
        "n": len(right),
        "seconds": round(seconds, 4),
    }
