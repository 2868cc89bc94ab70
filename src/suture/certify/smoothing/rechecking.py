"""Checks a certificate of smoothing from its file and the network alone.

The binomial tail is summed term by term (the maker inverts the incomplete beta function), the
radius is put through the formula's other direction, and some of the copies are drawn again by plain
tensor operations and classified: their votes must be those in the file. A fresh sample from another
stream must not contradict it either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from math import comb
from typing import Any

from torch import Tensor, nn

from suture.certify.checking import CheckResult
from suture.certify.smoothing.certificate import SmoothingCertificate
from suture.certify.smoothing.noises import RandomCopies, noise_of
from suture.certify.smoothing.votes import (
    ESTIMATE,
    FRESH,
    PIECE,
    SELECT,
    classes,
    key_of,
    voting_of,
)
from suture.engine.threads import torch_threads
from suture.errors import SutureError
from suture.models import fingerprint, untouched
from suture.provenance import library_versions, machine
from suture.rng import Stream

HAIR = 1e-9
"""Relative slack for the rounding of the formulas."""
DOUBT = 1e-6
"""A fresh sample contradicts a certificate if it is less likely than this."""
FLIPS = 2
"""Votes of a piece that another machine, or other libraries, may count otherwise."""
BY = "counts, and {} of {} copies drawn again"


class VoteChecker:
    """Checks certificates of one model.

    Args:
        model: the classifier that they speak of.
        pieces: how many pieces of the recorded copies are drawn again for each certificate, chosen
            at random; ``None`` for all.
        fresh: copies of the fresh sample; 0 for none.
        stream: of that choice and of the fresh sample.
    """

    def __init__(
        self, model: nn.Module, *, pieces: int | None = 2, fresh: int = 2000, stream: Stream
    ) -> None:
        self.model, self.voting, self.network = model, voting_of(model), fingerprint(model)
        self.pieces, self.fresh, self.stream = pieces, fresh, stream
        self._here = library_versions(), machine()["processor"]

    def __call__(self, certificate: SmoothingCertificate) -> CheckResult:
        """Whether the claim holds, as far as counting can say; ``margin`` is ``lower - 1/2``."""
        for check in (self._about, self._whole, self._tail, self._radius, self._redrawn, self._new):
            try:
                reason = check(certificate)
            except (SutureError, ValueError, OverflowError, RuntimeError, IndexError) as error:
                reason = f"it cannot be checked: {str(error).splitlines()[0]}"
            if reason:
                return CheckResult(False, float("-inf"), "none", reason)
        pieces = len(self._again(certificate))
        by = BY.format(min(certificate.n, pieces * PIECE) + self.fresh, certificate.n)
        return CheckResult(True, certificate.lower - 0.5, by)

    def _about(self, claim: SmoothingCertificate) -> str:
        """It speaks of this network and this noise."""
        if claim.network != self.network:
            return "it speaks of a model with other weights"
        if claim.noise != self.voting.noise.facts:
            return f"it speaks of noise {claim.noise}, the model has {self.voting.noise.facts}"
        return ""

    def _whole(self, claim: SmoothingCertificate) -> str:
        """Its counts are possible, and it claims something."""
        sizes = _sizes(claim.n)
        possible = (
            claim.n0 >= 1
            and len(claim.hits) == len(sizes)
            and all(0 <= hits <= size for hits, size in zip(claim.hits, sizes, strict=False))
            and min(claim.chosen, default=-1) >= 0
            and sum(claim.chosen) == claim.n0
            and 0 < claim.alpha < 1
        )
        if not possible:
            return "its counts are not those of n0 and n copies"
        if not 0 <= claim.predicted < len(claim.chosen):
            return "it claims no class"
        if claim.chosen[claim.predicted] != max(claim.chosen):
            return "the first n0 copies chose another class"
        return ""

    def _tail(self, claim: SmoothingCertificate) -> str:
        """So many hits are unlikely below the bound: ``P[Bin(n, lower) >= hits] <= alpha``."""
        if not 0.5 < claim.lower < 1:
            return f"the bound {claim.lower:g} of the class' share is not above one half"
        chance = upper_tail(sum(claim.hits), claim.n, claim.lower)
        if chance <= claim.alpha * (1 + 1e-6):
            return ""
        return (
            f"the bound {claim.lower:g} is too high for {sum(claim.hits)} of {claim.n} votes: they "
            f"come about with probability {chance:.3g} below it, not {claim.alpha:g}"
        )

    def _radius(self, claim: SmoothingCertificate) -> str:
        needed = share_needed(claim.noise, claim.radius, claim.image)
        if claim.radius >= 0 and needed <= claim.lower * (1 + HAIR):
            return ""
        return (
            f"the radius {claim.radius:g} needs a share of {needed:.6g}, it has {claim.lower:.6g}"
        )

    def _redrawn(self, claim: SmoothingCertificate) -> str:
        """Recorded copies, drawn and classified again, vote as the file says."""
        noise, sizes = noise_of(claim.noise), _sizes(claim.n)
        key = key_of(claim.image, Stream(claim.stream))
        again = self._votes(noise, claim.image, key, SELECT, 0, claim.n0)
        found = again.bincount(minlength=len(claim.chosen)).tolist()
        same = (claim.versions, claim.hardware.get("processor")) == self._here
        allowed = 0 if same else FLIPS
        moved = sum(abs(a - b) for a, b in zip(found, claim.chosen, strict=True))
        if moved > 2 * allowed:
            return f"the first {claim.n0} copies vote {found}, the file says {claim.chosen}"
        for piece in self._again(claim):
            start = piece * PIECE
            stop = start + sizes[piece]
            again = self._votes(noise, claim.image, key, ESTIMATE, start, stop)
            hits = int((again == claim.predicted).sum())
            if abs(hits - claim.hits[piece]) > allowed:
                return (
                    f"copies {start} to {stop - 1} vote for the class {hits} times, the file says "
                    f"{claim.hits[piece]}"
                )
        return ""

    def _new(self, claim: SmoothingCertificate) -> str:
        """A fresh sample from a stream that the maker could not know."""
        if not self.fresh:
            return ""
        noise, key = noise_of(claim.noise), key_of(claim.image, self.stream.child("fresh"))
        votes = self._votes(noise, claim.image, key, FRESH, 0, self.fresh)
        hits = int((votes == claim.predicted).sum())
        chance = lower_tail(hits, self.fresh, claim.lower)
        if chance >= DOUBT:
            return ""
        return (
            f"{hits} of {self.fresh} fresh copies vote for the class; with a share of at least "
            f"{claim.lower:.4g} so few have a probability of {chance:.2g}"
        )

    def _again(self, claim: SmoothingCertificate) -> list[int]:
        count = len(claim.hits)
        if self.pieces is None or self.pieces >= count:
            return list(range(count))
        chance = self.stream.child("pieces").child(claim.index).numpy()
        return sorted(int(p) for p in chance.choice(count, self.pieces, replace=False))

    def _votes(
        self, noise: RandomCopies, image: Tensor, key: Tensor, phase: int, start: int, stop: int
    ) -> Tensor:
        with untouched(self.model), torch_threads(1):
            return classes(self.voting.base, noise.again, image, key, phase, start, stop)


def _sizes(n: int) -> list[int]:
    return [min(PIECE, n - start) for start in range(0, n, PIECE)]


def upper_tail(hits: int, n: int, share: float) -> float:
    """``P[Bin(n, share) >= hits]``, summed term by term."""
    return math.fsum(map(_term(n, share), range(hits, n + 1)))


def lower_tail(hits: int, n: int, share: float) -> float:
    """``P[Bin(n, share) <= hits]``, summed term by term."""
    return math.fsum(map(_term(n, share), range(hits + 1)))


def _term(n: int, share: float) -> Callable[[int], float]:
    log, rest, whole = math.log(share), math.log1p(-share), math.lgamma(n + 1)

    def term(k: int) -> float:
        ways = whole - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return math.exp(ways + k * log + (n - k) * rest)

    return term


def share_needed(noise: dict[str, Any], radius: float, image: Tensor) -> float:
    """The share of votes that certifies a radius: ``Φ(r/σ)``, or ``1/2 + Δ`` exactly, and above."""
    kind = noise_of(noise)
    settings = kind.facts
    if settings["name"] == "gaussian":
        return 0.5 * math.erfc(-radius / (settings["sigma"] * math.sqrt(2)))
    if settings["name"] == "ablation":
        pixels, keep, changed = image[0].numel(), settings["keep"], int(radius)
        if changed != radius or not 0 <= changed <= pixels:
            return math.inf
        untouched_sets = Fraction(comb(pixels - changed, keep), comb(pixels, keep))
        return float(Fraction(3, 2) - untouched_sets)
    return math.inf
