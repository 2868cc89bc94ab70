"""Certified accuracy of a defence that moves images, beside what attacks after the move leave."""

from __future__ import annotations

import time
from typing import cast

from suture.attacks import Attack
from suture.bounds import Method
from suture.certify import certify_images
from suture.errors import ModelError
from suture.evaluate.metrics import per_class
from suture.evaluate.plan import View
from suture.evaluate.records import Kind, Record, each_of

METHODS = ("ibp", "crown-ibp")


def certified(view: View, attack: Attack, data: str, seed: int) -> list[Record]:
    """A record for each bound, of the images as the defence hands them on; empty for others.

    Nothing where bounds cannot read the classifier, or the radius is not one of L∞.
    """
    if view.position != "after" or attack.norm != "linf" or not 0 < attack.eps <= 1:
        return []
    try:
        return [_record(view, attack.eps, cast(Method, method), data, seed) for method in METHODS]
    except ModelError:
        return []


def _record(view: View, eps: float, method: Method, data: str, seed: int) -> Record:
    started = time.monotonic()
    found = certify_images(view.subject.model, view.batch, eps, method)
    return Record(
        kind=Kind.CERTIFIED,
        metric="certified accuracy",
        protocol="adaptive",
        right=int(found.certified.sum()),
        n=len(view.batch),
        seed=seed,
        attack={"name": method, "parameters": {}},
        data=data,
        threat={"norm": "linf", "eps": eps},
        position=view.position,
        each=each_of(found.certified),
        per_class=per_class(found.certified.cpu(), view.batch.labels.cpu()),
        seconds=round(time.monotonic() - started, 3),
        **view.subject.facts,
    )
