"""The strongest attacker that the measured rows add up to, and images made on another model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from suture.attacks import Attack
from suture.engine import Engine
from suture.evaluate.metrics import per_class
from suture.evaluate.pictures import Album, Pictures, Store, chosen, moved
from suture.evaluate.pieces import shares
from suture.evaluate.plan import Plan, View
from suture.evaluate.records import Draws, Kind, each_of
from suture.evaluate.rows import Measured, Subject, decisions, expected
from suture.rng import Stream
from suture.types import described

CANDIDATES = (Kind.ATTACK, Kind.TRANSFER, Kind.FEWER)


def strongest(
    view: View,
    measured: list[Measured],
    plan: Plan,
    seed: int,
    engine: Engine,
) -> Iterator[Measured]:
    """Per image, the candidate that the largest share of draws gets wrong.

    The attacker knows the defence, so he can compute those shares himself. Candidates are the
    images of every row that attacked this subject from this position within the ball of
    ``plan.attack``, and the transferred ones. For a deterministic model this is the worst case
    over attacks, image by image; where all that can be drawn is known the accuracy is the mean of
    the shares; else fresh draws decide, several times.
    """
    started = time.monotonic()
    subject, batch = view.subject, view.batch
    rows = [m for m in measured if _is_candidate(m, view, plan.attack)]
    stage = " ".join(("shares", *dict.fromkeys(subject.whose), view.position))
    candidates = [m.images for m in rows if isinstance(m.images, Album)]
    share, which = shares(subject.model, candidates, batch, engine=engine, stage=stage).min(0)
    images, labels = chosen(candidates, which), batch.labels.to(batch.device)
    tags = {"candidates": len(rows), "mean_share_right": round(float(share.mean()), 6)}
    for repeat in range(1 if view.finite else plan.repeats):
        stream = Stream(seed).child("strongest").child(repeat)
        right = decisions(subject.model, images, stream) == labels
        made = _row(rows, view, Kind.STRONGEST, images, right, share, started)
        sure = expected(share) if view.randomised and view.finite else None
        draws: Draws = None if sure is None else "exact"
        told = replace(made.record, repeat=repeat, tags=tags, expected=sure, draws=draws)
        yield replace(made, record=told)
    if view.randomised:
        every = (share == 1.0).float()
        yield _row(rows, view, Kind.EVERY, images, share == 1.0, every, started)


def transferred(view: View, source: Measured, seed: int) -> Measured:
    """The subject on images that were made against another model: the weakest of attackers."""
    started = time.monotonic()
    model, labels = view.subject.model, view.batch.labels.to(view.batch.device)
    assert source.images is not None, "they are kept to be transferred"
    right = decisions(model, source.images, Stream(seed).child("transfer")) == labels
    row = _row([source], view, Kind.TRANSFER, source.images, right, right.float(), started)
    told = replace(
        row.record, protocol="sanity", attack=source.record.attack, through=source.record.subject
    )
    return replace(row, record=told)


def handed_on(
    subjects: list[Subject], first: View, measured: list[Measured], plan: Plan, seed: int
) -> Iterator[Measured]:
    """Of defences whose move no attacker can search through: attacked on the undefended model,
    then moved. Per image the candidate that ends wrong; a lower bound of what he can do.
    """
    rows = [m for m in measured if _is_candidate(m, first, plan.attack)]
    for subject in subjects:
        about = described(subject.model)
        parts = about.preemptive()
        if parts is None or about.searched_before or subject is first.subject or not rows:
            continue
        started, labels = time.monotonic(), first.batch.labels.to(first.batch.device)
        stream = Stream(seed).child("handed on")
        found = [m.images for m in rows if isinstance(m.images, Album)]
        sets = [moved(images, labels, about.handed_on, Store()) for images in found]
        right = torch.stack([decisions(parts[1], images, stream) == labels for images in sets])
        images = chosen(sets, right.float().min(0)[1])
        view = replace(first, subject=subject, position="before")
        held = right.all(0)
        made = _row(rows, view, Kind.STRONGEST, images, held, held.float(), started)
        through = first.subject.whose[1]
        told = replace(made.record, through=through, tags={"candidates": len(rows)})
        yield replace(made, record=told)


def _is_candidate(measured: Measured, view: View, attack: Attack) -> bool:
    record = measured.record
    if record.kind not in CANDIDATES:
        return False
    own = record.whose == view.subject.whose and record.position in ("", view.position)
    inside = record.threat["norm"] == attack.norm and float(record.threat["eps"]) <= attack.eps
    return own and inside


def _row(
    sources: list[Measured],
    view: View,
    kind: Kind,
    images: Pictures,
    right: Tensor,
    share: Tensor,
    started: float,
) -> Measured:
    names = list(dict.fromkeys(m.record.attack["name"] for m in sources))
    record = replace(
        sources[0].record,
        **view.subject.facts,
        kind=kind,
        metric="robust accuracy",
        protocol="adaptive",
        right=int(right.sum()),
        repeat=0,
        attack={"name": "strongest", "parameters": {}, "of": names},
        draws=None,
        expected=None,
        through="",
        position=view.position,
        per_class=per_class(right.cpu(), view.batch.labels.cpu()),
        queries=[],
        each=each_of(right),
        seconds=round(time.monotonic() - started, 3),
    )
    return Measured(record, images, right, share)
