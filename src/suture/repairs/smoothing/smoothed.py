"""The smoothed classifier: the class that most noisy copies of the image get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.checkpoint import checkpoint

from suture.certify.smoothing import RandomCopies, noise_of
from suture.certify.smoothing.votes import BLOCK
from suture.errors import ModelError
from suture.models import attach, build_from_spec, files_of, register_builder, spec_of
from suture.repairs.defensyn.draws import SamplingModule
from suture.rng import Stream, bits
from suture.types import Voting, described

KIND = "smoothing"
HELD = 8
"""Blocks whose activations a gradient may keep; of more, they are computed twice."""


class SmoothedClassifier(SamplingModule):
    """``g(x) = argmax_c #{copies of x that the base classifier calls c}``, copies drawn anew.

    A forward counts ``votes`` copies of every image and returns logits whose order is that of the
    counts: ``log((count + (soft + 1/classes) / 4) / (votes + 1/2))``, where ``soft`` is the mean
    softmax of the copies. It weighs less than half a vote: it decides between equal counts, and
    leaves a search by scores something to go by where all copies agree. Gradients are those of
    ``soft`` (counts have none): what Salman et al. 2019 (arXiv:1906.04584) attack.

    Args:
        base: classifies copies.
        noise: makes them.
        votes: copies of each image in a forward.
        n0, n, alpha: for ``suture certify``.
    """

    def __init__(
        self, base: nn.Module, noise: RandomCopies, votes: int, n0: int, n: int, alpha: float
    ) -> None:
        super().__init__()
        self.base, self.noise, self.votes = base, noise, votes
        self.n0, self.n, self.alpha = n0, n, alpha
        self.suture_spec: dict[str, Any] | None = None
        self.suture_files: dict[str, bytes] = {}

    @property
    def randomised(self) -> bool:
        """Two forwards of one image draw other copies."""
        return True

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Logits ``(n, classes)``.

        Args:
            images: ``(n, c, h, w)`` in [0, 1].
            noise: int64 ``(n,)``, random bits that decide each image's copies.
        """
        noise = self._noise(images, noise)
        if noise is None:
            noise = torch.randint(0, 2**62, (images.shape[0],), device=images.device)
        copies = torch.arange(self.votes, device=images.device)
        return ballots(self.base, self.noise, images, bits(noise[:, None], copies))

    def about_answers(self, images: Tensor, noise: Tensor | None = None) -> list[str]:
        """How the noisy copies of this draw vote."""
        if noise is None:
            return [f"a vote of {self.votes} noisy copies, drawn anew"] * len(images)
        copies = torch.arange(self.votes, device=images.device)
        hard, _ = tallies(self.base, self.noise, images, bits(noise[:, None], copies))
        return [f"{_votes(row)} of {self.votes} noisy copies" for row in hard]

    def undefended(self) -> nn.Module:
        """The base classifier on the image itself; shares this one's weights."""
        return described(self.base).undefended().train(self.training)

    def surrogates(self) -> dict[str, nn.Module]:
        """The mean softmax of fixed copies, and the base classifier on the image itself."""
        return {
            "soft votes": SoftVotes(self.base, self.noise, self.votes),
            "base": self.undefended(),
        }

    def voting(self) -> Voting:
        """What ``suture certify`` counts."""
        return Voting(self.base, self.noise, self.n0, self.n, self.alpha)

    def about_attacks(self) -> str:
        """What its certificates are about."""
        return (
            f"the model votes over {self.votes} noisy copies a forward. Its certificates (suture "
            f"certify) are about {self.noise.distance}, image by image, and about the vote of "
            "many copies; they say nothing about attacks in another norm, and rows here prove "
            "nothing."
        )


def _votes(row: Tensor) -> str:
    """The three classes with the most votes, in words."""
    counts, classes = row.topk(min(3, len(row)))
    told = zip(classes.tolist(), counts.tolist(), strict=True)
    return ", ".join(f"class {label}: {count:.0f}" for label, count in told if count)


class SoftVotes(nn.Module):
    """Log of the mean softmax over copies that are the same at every call: it has gradients."""

    def __init__(self, base: nn.Module, noise: RandomCopies, votes: int) -> None:
        super().__init__()
        self.base, self.noise, self.votes = base, noise, votes

    def forward(self, images: Tensor) -> Tensor:
        """``(n, classes)``."""
        first = bits(
            torch.full((1,), Stream(0).child("soft votes").key >> 1), torch.arange(self.votes)
        )
        keys = first.to(images.device).expand(images.shape[0], -1)
        _, soft = tallies(self.base, self.noise, images, keys)
        return (soft / self.votes + 1e-12).log()


def ballots(base: nn.Module, noise: RandomCopies, images: Tensor, keys: Tensor) -> Tensor:
    """Logits ``(n, classes)`` of a vote; see ``SmoothedClassifier``.

    Args:
        keys: int64 ``(n, votes)``.
    """
    votes = keys.shape[1]
    hard, soft = tallies(base, noise, images, keys)
    extra = (soft.detach() / votes + 1.0 / soft.shape[1]) / 4
    # Straight through: the value of the counts, the slope of their soft twin.
    return ((hard + extra + (soft - soft.detach())) / (votes + 0.5)).log()


def tallies(
    base: nn.Module, noise: RandomCopies, images: Tensor, keys: Tensor
) -> tuple[Tensor, Tensor]:
    """Votes and sums of softmax ``(n, classes)`` over the copies with these keys ``(n, votes)``."""
    votes = keys.shape[1]
    rows = torch.arange(keys.shape[0], device=images.device).repeat_interleave(votes)
    flat = keys.flatten()

    def answers(images: Tensor, rows: Tensor, keys: Tensor) -> Tensor:
        logits: Tensor = base(noise.copies(images[rows], keys))
        return logits

    if torch.compiler.is_compiling():
        logits = answers(images, rows, flat)
    else:
        blocks = list(zip(rows.split(BLOCK), flat.split(BLOCK), strict=True))
        twice = images.requires_grad and torch.is_grad_enabled() and len(blocks) > HELD
        parts = [
            checkpoint(answers, images, *block, use_reentrant=False)
            if twice
            else answers(images, *block)
            for block in blocks
        ]
        logits = torch.cat(parts)
    logits = logits.unflatten(0, (keys.shape[0], votes))
    hard = one_hot(logits.argmax(2), logits.shape[2]).sum(1).to(logits.dtype)
    return hard, logits.softmax(2).sum(1)


def smoothed(
    base: nn.Module, noise: RandomCopies, votes: int, n0: int, n: int, alpha: float
) -> SmoothedClassifier:
    """The classifier, with a spec if its base has one; otherwise it cannot be saved."""
    made = SmoothedClassifier(base, noise, votes, n0, n, alpha).eval()
    try:
        spec = {"kind": KIND, "base": spec_of(base), "noise": noise.facts}
    except ModelError:
        return made
    attach(made, {**spec, "votes": votes, "n0": n0, "n": n, "alpha": alpha}, files_of(base))
    return made


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    base = build_from_spec(spec["base"], folder)
    votes, n0, n = (int(spec[name]) for name in ("votes", "n0", "n"))
    return SmoothedClassifier(base, noise_of(spec["noise"]), votes, n0, n, float(spec["alpha"]))


register_builder(KIND, _build)
