"""What an attacker who knows a classifier leaves of it: one call for whoever measures one model.

The rows are those of ``evaluate``'s adaptive protocol and the strongest of them, with nothing else
beside: no paper protocol, no curves, no sanity checks. Studies measure with this, so that their
attacker is the one of every evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture.attacks import Attack
from suture.engine import Engine, Inline
from suture.evaluate.pieces import measure_all
from suture.evaluate.plan import Plan, View, rows_of, through_of
from suture.evaluate.records import Kind, Role
from suture.evaluate.rows import Measured, Subject, fresh_logits, share_right
from suture.evaluate.strongest import strongest, transferred
from suture.evaluate.tiers import Tier, tier_of
from suture.models import untouched
from suture.rng import Stream
from suture.types import Batch, check_classes

TRIED_AGAIN = "the strongest on the undefended, tried again"
Way = Literal["white-box", "black-box", "transferred"]


@dataclass(frozen=True)
class Try:
    """One attack of the attacker's.

    Attributes:
        attack: in words.
        way: by the model's own gradients, without them, or through another model.
        right: images right in expectation over the draws.
        decisive: images on which no earlier attack did better and none later better still.
        seconds: it took.
    """

    attack: str
    way: Way
    right: float
    decisive: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Left:
    """What is left of a classifier.

    Attributes:
        n: images attacked.
        clean: of them right unattacked, in expectation over the draws.
        right: right under the strongest attack on each image, in expectation over the draws;
            where not all draws are known the mean of fresh decisions.
        every: images that no attack turns under any draw.
        ways: the same as ``right`` for the attacks of one way alone.
        tries: every attack.
        share: ``(n,)``, share of the draws that keep each image right under the strongest.
        strongest: the images, to be tried on another model.
    """

    n: int
    clean: float
    right: float
    every: int
    ways: dict[Way, float]
    tries: tuple[Try, ...]
    share: Tensor
    strongest: Measured

    def row(self) -> dict[str, Any]:
        """As flat JSON."""
        ways = {way.replace("-", "_"): right for way, right in self.ways.items()}
        tries = [asdict(one) for one in self.tries]
        return {
            "n": self.n,
            "clean": self.clean,
            "right": self.right,
            "every": self.every,
            **ways,
            "tries": tries,
        }


def what_is_left(
    model: nn.Module,
    batch: Batch,
    attack: Attack,
    *,
    undefended: nn.Module | None = None,
    before: Left | None = None,
    tier: str | Tier = "standard",
    draws: int = 50,
    seed: int = 0,
    batch_size: int = 256,
    engine: Engine | None = None,
) -> Left:
    """Attack a classifier as someone does who knows all of it but its next draw.

    Args:
        model: the classifier. Its own surrogates are followed too.
        batch: held-out images.
        attack: the one that the defence was made against, as its authors run it; its norm and
            radius hold for all attacks, and it joins them as an ``adaptive`` one.
        undefended: what the model was made from, whose gradients are followed too.
        before: what is left of it on the same images: the adversarial ones are tried too.
        tier: how much is tried besides ``attack``; a name out of ``TIERS``, or one of your own.
        draws: that a query averages where not everything that the model draws from is known.
        seed: of all attacks.
        batch_size: images attacked at a time; a matter of memory, not of results.
        engine: spreads attacks and images; ``None`` works here.
    """
    engine = engine or Inline(threads_per_item=None)
    plan = Plan(
        attack=attack,
        protocols=("adaptive",),
        tier=tier if isinstance(tier, Tier) else tier_of(tier),
        eot=(draws,),
        radii=(),
        sanity=False,
    )
    with untouched(model):
        view = _view(model, undefended, batch, seed)
        rows = [row for row in rows_of(view, plan) if row.kind is Kind.ATTACK]
        jobs = [(row, 0) for row in rows]
        measured = measure_all(jobs, batch, "", seed, engine=engine, batch_size=batch_size)
        if before is not None:
            measured.append(_again(view, before, seed))
        found = list(strongest(view, measured, plan, seed, engine))
        clean = share_right(model, batch.images, batch.labels)
    labels = [row.label for row in rows] + [TRIED_AGAIN] * (before is not None)
    ways = [_way(row.attack, row.through) for row in rows if row.attack is not None]
    ways += ["transferred"] * (before is not None)
    return _summed_up(batch, clean, measured, labels, ways, found)


def _again(view: View, before: Left, seed: int) -> Measured:
    """Images that turned the undefended model, judged on this one."""
    one = transferred(view, before.strongest, seed)
    assert one.images is not None, "they are the strongest"
    return replace(one, share=share_right(view.subject.model, one.images, view.batch.labels))


def _view(model: nn.Module, undefended: nn.Module | None, batch: Batch, seed: int) -> View:
    defended = undefended is not None and undefended is not model
    own = Subject(Role.DEFENDED if defended else Role.UNDEFENDED, model, "")
    first = Subject(Role.UNDEFENDED, undefended if undefended is not None else model, "")
    classes = fresh_logits(model, batch.images[:1], Stream(seed)).shape[1]
    check_classes(batch.labels, classes)
    return View(own, batch, "", through_of(own, first), classes)


def _way(attack: Attack, through: str) -> Way:
    return "transferred" if through else attack.knowledge


def _summed_up(
    batch: Batch,
    clean: Tensor,
    measured: list[Measured],
    labels: list[str],
    ways: list[Way],
    found: list[Measured],
) -> Left:
    shares = torch.stack([one.share for one in measured])
    best, first = shares.min(0)
    turned = best < clean
    tries = tuple(
        Try(
            labels[i],
            ways[i],
            _sum(shares[i]),
            int((turned & (first == i)).sum()),
            one.record.seconds,
        )
        for i, one in enumerate(measured)
    )
    alone = {
        way: _sum(shares[[i for i, own in enumerate(ways) if own == way]].min(0).values)
        for way in dict.fromkeys(ways)
    }
    decided = [m for m in found if m.record.kind is Kind.STRONGEST]
    fresh = sum(m.record.right for m in decided) / len(decided)
    exact = decided[0].record.expected is not None
    every = [m.record.right for m in found if m.record.kind is Kind.EVERY]
    return Left(
        n=len(batch),
        clean=_sum(clean),
        right=_sum(decided[0].share) if exact else round(fresh, 6),
        every=every[0] if every else decided[0].record.right,
        ways=alone,
        tries=tries,
        share=decided[0].share,
        strongest=decided[0],
    )


def _sum(share: Tensor) -> float:
    return round(float(share.double().sum()), 6)


__all__ = ["Left", "Try", "what_is_left"]
