"""Certified accuracy: for how many images a bound proves the class on the whole ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor, nn

from suture.bounds import METHODS, Method, Network, margin_rows
from suture.certify.branching import ABOVE, Branching, prove_by_cases
from suture.certify.proving import network64, prove
from suture.engine import Engine, Inline
from suture.engine.sharing import Handle
from suture.errors import ModelError
from suture.models import untouched
from suture.models.identity import identity
from suture.types import Box, LabelledImages, OnProgress, described, is_randomised

Proof = Callable[[list[int]], Tensor]
CASES = "beta-crown"
BEST = "best"
LADDER: tuple[Method, ...] = ("ibp", "crown-ibp", "crown")
"""What "best" tries, one after another: what a cheap bound proves asks no dearer one."""
PROOFS = (*METHODS, CASES, BEST)
"""Ways to certify an image: every bound, CROWN with proofs by cases for what it leaves open, and
the cheapest bound that proves it."""


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
    batch: LabelledImages,
    eps: float,
    method: Method | str = "crown",
    *,
    batch_size: int = 64,
    seconds: float = 30.0,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
) -> Certification:
    """Prove, in float64 with slack, what can be proved about L∞ balls clipped to [0, 1].

    Args:
        eps: radius, pixel values in [0, 1].
        method: "ibp", "crown-ibp", "crown" or "alpha-crown"; "beta-crown" splits the unstable
            ReLUs of images that CROWN leaves open (their margin is then "above 1e-6"); "best" asks
            IBP, CROWN-IBP and CROWN, each about the images that those before it leave open.
        batch_size: images bounded together: memory, not results.
        seconds: time limit of an image, for "beta-crown".
        engine: gets one item a batch, and of what "beta-crown" splits one an image; with a run's
            ledger finished items are not done again.

    Raises:
        ModelError: a randomised model, or a layer that bounds do not know.
    """
    if is_randomised(model):
        raise ModelError(
            expected="a deterministic model",
            got="one that draws at random in every forward pass",
            remedy="Take certify_mixture, if it draws from finitely many classifiers; else certify "
            "the model before the repair.",
        )
    right = _right(model, batch)
    # What is wrong already needs no proof.
    wanted = right.nonzero().flatten().cpu()
    margin = torch.full((len(batch),), float("-inf"), dtype=torch.float64)
    engine = engine or Inline(threads_per_item=None)
    told = f"{identity(model, batch)} {eps!r} {batch_size}"
    with engine.shared((model, batch)) as handle:

        def proved(fn: Proof, stage: str, rows: Tensor, size: int, work: str) -> None:
            pieces = [piece.tolist() for piece in rows.split(size)] if len(rows) else []
            done = len(batch) - len(rows)
            for piece, found in zip(pieces, engine.keep(stage, fn, pieces, work=work), strict=True):
                margin[piece] = torch.maximum(margin[piece], found)
                done += len(piece)
                if on_progress is not None:
                    on_progress(f"{stage}, eps {eps:g}", done, len(batch))

        tried = {CASES: ("crown",), BEST: LADDER}.get(method, (cast(Method, method),))
        for bound in tried:
            left = wanted[margin[wanted] <= 0]
            proved(partial(_bounded, handle, eps, bound), bound, left, batch_size, told)
        if method == CASES:
            left = wanted[margin[wanted] <= 0]
            fn = partial(_by_cases, handle, eps, seconds)
            proved(fn, CASES, left, 1, f"{told} {seconds!r}")
    return Certification(right.cpu(), right.cpu() & (margin > 0), margin)


def _right(model: nn.Module, batch: LabelledImages) -> Tensor:
    with untouched(model), torch.no_grad():
        logits = torch.cat([model(piece.images) for piece in batch.split(256)])
    return logits.argmax(1) == batch.labels.to(batch.device)


@dataclass(frozen=True, eq=False)
class MixtureCertification:
    """What was proved about each image and each classifier that a model draws from.

    Attributes:
        odds: probabilities of the classifiers.
        members: what was proved of each.
    """

    odds: tuple[float, ...]
    members: tuple[Certification, ...]

    @property
    def right(self) -> Tensor:
        """float64 ``(n,)``: probability that the image itself is classified right."""
        return self._mass([member.right for member in self.members])

    @property
    def share(self) -> Tensor:
        """float64 ``(n,)``: probability mass of the classifiers proved right on the whole ball.

        Whatever an attacker does who does not know the draw: the image is classified right with
        at least that probability.
        """
        return self._mass([member.certified for member in self.members])

    @property
    def every(self) -> Tensor:
        """Bool ``(n,)``: proved for every classifier, so that no draw matters."""
        return torch.stack([member.certified for member in self.members]).all(0)

    @property
    def worst(self) -> Certification:
        """The classifier of which least is proved."""
        return min(self.members, key=lambda member: int(member.certified.sum()))

    def _mass(self, proved: list[Tensor]) -> Tensor:
        hits = torch.stack(proved)
        mass = torch.tensor(self.odds, dtype=torch.float64) @ hits.double()
        # A sum of probabilities that should be 1 is exactly that.
        return torch.where(hits.all(0), 1.0, mass)


def certify_mixture(
    model: nn.Module,
    batch: LabelledImages,
    eps: float,
    method: Method | str = "crown",
    *,
    batch_size: int = 64,
    seconds: float = 30.0,
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
) -> MixtureCertification:
    """``certify_images`` of every classifier that a model draws from; a deterministic one is alone.

    Raises:
        ModelError: a model that draws from no finite number of classifiers.
    """
    members = described(model).support()
    if not members and is_randomised(model):
        raise ModelError(
            expected="a model that draws from finitely many classifiers",
            got="one that draws something else in every forward pass",
            remedy="Certify the model before the repair.",
        )
    members = members or ((1.0, model),)
    found = []
    for number, (_, member) in enumerate(members):
        found.append(
            certify_images(
                member, batch, eps, method, batch_size=batch_size, seconds=seconds, engine=engine
            )
        )
        if on_progress is not None:
            on_progress(f"{method}, eps {eps:g}", number + 1, len(members))
    return MixtureCertification(tuple(odds for odds, _ in members), tuple(found))


def _bounded(
    handle: Handle[tuple[nn.Module, LabelledImages]], eps: float, method: Method, rows: list[int]
) -> Tensor:
    """Smallest proved margin of each of these images, float64 ``(len(rows),)``."""
    box, against = _claim(handle, eps, rows)
    return (
        prove(_network(handle), box, against, against.new_zeros(against.shape[:2]), method)
        .amin(1)
        .cpu()
    )


def _by_cases(
    handle: Handle[tuple[nn.Module, LabelledImages]], eps: float, seconds: float, rows: list[int]
) -> Tensor:
    """The same for one image that CROWN leaves open: above 1e-6, or -inf."""
    box, against = _claim(handle, eps, rows)
    found = prove_by_cases(_network(handle), box, against, Branching(seconds=seconds))
    return torch.tensor([ABOVE if found.proved else float("-inf")], dtype=torch.float64)


def _claim(
    handle: Handle[tuple[nn.Module, LabelledImages]], eps: float, rows: list[int]
) -> tuple[Box, Tensor]:
    """The balls of these images, and the rows of their margins."""
    batch = handle.get()[1][torch.tensor(rows)]
    images = batch.images.double()
    box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
    return box, margin_rows(batch.labels, _network(handle).out_shape[-1], torch.float64)


@lru_cache(maxsize=1)
def _network(handle: Handle[tuple[nn.Module, LabelledImages]]) -> Network:
    """The shared model's network, read once in each process."""
    model, batch = handle.get()
    return network64(model, batch.shape)
