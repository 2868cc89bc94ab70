"""CERTIFY and PREDICT of randomised smoothing (Cohen et al. 2019, figure 2), image by image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from suture.certify.smoothing.certificate import SmoothingCertificate
from suture.certify.smoothing.noises import RandomCopies
from suture.certify.smoothing.statistics import ABSTAIN, lower_bound, prediction
from suture.certify.smoothing.votes import (
    ESTIMATE,
    SELECT,
    counts,
    key_of,
    voting_of,
    width_of,
)
from suture.engine import Engine, Inline
from suture.engine.sharing import Handle
from suture.errors import require
from suture.models import fingerprint, untouched
from suture.models.identity import identity
from suture.rng import Stream, as_stream
from suture.types import Batch, OnProgress, Voting, untold

STAGE = "certifying"


def check_counts(n0: int, n: int, alpha: float) -> None:
    """Raise ``ArgumentError`` for settings of CERTIFY that are out of range."""
    checks = {"n0 >= 1": n0 >= 1, "n >= 1": n >= 1, "alpha in (0, 1)": 0 < alpha < 1}
    require(checks, f"{n0=}, {n=}, {alpha=}", "The paper: 100, 100 000 and 0.001.")


@dataclass(frozen=True, eq=False)
class _Electorate:
    """What every work item needs: the voters, how many classes there are, and where keys start."""

    voting: Voting
    width: int
    stream: Stream


def certify_votes(
    model: nn.Module,
    batch: Batch,
    *,
    n0: int | None = None,
    n: int | None = None,
    alpha: float | None = None,
    generator: torch.Generator | Stream | int | None = None,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
) -> list[SmoothingCertificate]:
    """CERTIFY for every image: its class and a radius, or an abstention, one work item each.

    The class is what most of n0 copies say; its share is bounded from below with n others:
    ``p = LowerConfBound(hits, n, 1 - alpha)``. Where ``p > 1/2`` the noise says which radius that
    certifies; else the classifier abstains. An image's copies depend on its pixels and the seed
    alone, and memory on neither n nor the number of images.

    Args:
        model: one that votes (``suture.types.RepairedModel.voting``).
        n0, n, alpha: in place of the model's own.
        generator: seed or stream.
        engine: gets one item an image; with a run's ledger, finished images are not done again.

    Raises:
        ModelError: a model that does not vote.
        ArgumentError: settings out of range.
    """
    own, stream = voting_of(model), as_stream(generator)
    voting = replace(
        own,
        n0=own.n0 if n0 is None else n0,
        n=own.n if n is None else n,
        alpha=own.alpha if alpha is None else alpha,
    )
    check_counts(voting.n0, voting.n, voting.alpha)
    engine, tell, network = engine or Inline(), on_progress or untold, fingerprint(model)
    facts = f"{voting.noise.facts} {voting.n0} {voting.n} {voting.alpha} {stream.key}"
    made: list[SmoothingCertificate] = []
    with untouched(model), torch.no_grad():
        width = width_of(voting, batch.images[:1])
        work = _Electorate(voting, width, stream)
        with engine.shared(work) as shared:
            kept = engine.keep(
                STAGE,
                partial(_certified, shared),
                [image.clone() for image in batch.images],  # a view would carry all of them
                work=f"{facts} {identity(model, batch)}",
            )
            for index, (found, label) in enumerate(zip(kept, batch.labels, strict=True)):
                made.append(_claim(found, batch.images[index], int(label), index, work, network))
                tell(STAGE, index + 1, len(batch))
    return made


def _certified(shared: Handle[_Electorate], image: Tensor) -> dict[str, list[int]]:
    """Counts of one image: of the n0 copies by class, of the n copies the winner's by piece."""
    work = shared.get()
    voting, key = work.voting, key_of(image, work.stream)
    chosen = counts(voting, image, key, SELECT, voting.n0, work.width).sum(0)
    winner = int(chosen.argmax())
    hits = counts(voting, image, key, ESTIMATE, voting.n, work.width)[:, winner]
    return {"chosen": chosen.tolist(), "hits": hits.tolist()}


def _claim(
    found: dict[str, list[int]],
    image: Tensor,
    label: int,
    index: int,
    work: _Electorate,
    network: str,
) -> SmoothingCertificate:
    voting = work.voting
    noise = cast(RandomCopies, voting.noise)
    lower = lower_bound(sum(found["hits"]), voting.n, voting.alpha)
    claimed = lower > 0.5
    winner = max(range(work.width), key=lambda c: found["chosen"][c])
    return SmoothingCertificate(
        noise=noise.facts,
        image=image.cpu(),
        label=label,
        predicted=winner if claimed else ABSTAIN,
        n0=voting.n0,
        n=voting.n,
        alpha=voting.alpha,
        chosen=found["chosen"],
        hits=found["hits"],
        lower=lower,
        radius=noise.radius(lower, image) if claimed else 0.0,
        stream=work.stream.key,
        network=network,
        index=index,
    )


def predict_votes(
    model: nn.Module,
    images: Tensor,
    *,
    n: int | None = None,
    alpha: float | None = None,
    generator: torch.Generator | Stream | int | None = None,
) -> Tensor:
    """PREDICT: int64 ``(len(images),)``, the smoothed classifier's class, or -1: it abstains.

    An answer differs from the smoothed classifier's with probability at most alpha.

    Args:
        model: one that votes.
        n, alpha: in place of the model's own.
        generator: seed or stream.
    """
    voting, stream = voting_of(model), as_stream(generator)
    n, alpha = n or voting.n, alpha or voting.alpha
    with untouched(model), torch.no_grad():
        width = width_of(voting, images[:1])
        found = [
            prediction(_all(voting, image, stream, n, width), alpha) for image in images.unbind()
        ]
    return torch.tensor(found)


def _all(voting: Voting, image: Tensor, stream: Stream, n: int, width: int) -> list[int]:
    totals: list[int] = (
        counts(voting, image, key_of(image, stream), ESTIMATE, n, width).sum(0).tolist()
    )
    return totals
