"""Certified accuracy: for how many images a bound proves the class on the whole ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from suture.bounds import METHODS, Method, Network, margin_rows
from suture.certify.branching import ABOVE, Branching, prove_by_cases
from suture.certify.proving import network64, prove
from suture.errors import ModelError
from suture.models import untouched
from suture.types import Batch, Box, OnProgress, described, is_randomised

CASES = "beta-crown"
PROOFS = (*METHODS, CASES)
"""Ways to certify an image: every bound, and CROWN with proofs by cases for what it leaves open."""


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
    method: Method | str = "crown",
    *,
    batch_size: int = 64,
    seconds: float = 30.0,
    on_progress: OnProgress | None = None,
) -> Certification:
    """Prove, in float64 with slack, what can be proved about L∞ balls clipped to [0, 1].

    Args:
        eps: radius, pixel values in [0, 1].
        method: "ibp", "crown-ibp", "crown" or "alpha-crown"; "beta-crown" splits the unstable
            ReLUs of images that CROWN leaves open (their margin is then "above 1e-6").
        batch_size: images bounded together: memory, not results.
        seconds: time limit of an image, for "beta-crown".

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
    network = network64(model, batch.shape)
    with untouched(model), torch.no_grad():
        logits = torch.cat([model(piece.images) for piece in batch.split(256)])
    right = logits.argmax(1) == batch.labels
    # What is wrong already needs no proof.
    wanted = right.nonzero().flatten()
    margin = torch.full((len(batch),), float("-inf"), dtype=torch.float64)
    done = len(batch) - len(wanted)
    for index in wanted.split(batch_size) if len(wanted) else ():
        margin[index] = _margins(network, batch[index], eps, method, seconds).cpu()
        done += len(index)
        if on_progress is not None:
            on_progress(f"{method}, eps {eps:g}", done, len(batch))
    return Certification(right.cpu(), right.cpu() & (margin > 0), margin)


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
    batch: Batch,
    eps: float,
    method: Method | str = "crown",
    *,
    batch_size: int = 64,
    seconds: float = 30.0,
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
            certify_images(member, batch, eps, method, batch_size=batch_size, seconds=seconds)
        )
        if on_progress is not None:
            on_progress(f"{method}, eps {eps:g}", number + 1, len(members))
    return MixtureCertification(tuple(odds for odds, _ in members), tuple(found))


def _margins(
    network: Network, batch: Batch, eps: float, method: Method | str, seconds: float
) -> Tensor:
    images = batch.images.double()
    box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
    classes = network.out_shape[-1]
    rows = margin_rows(batch.labels, classes, torch.float64)
    bounded = cast(Method, "crown" if method == CASES else method)
    found = prove(network, box, rows, rows.new_zeros(rows.shape[:2]), bounded).amin(1)
    for i in (found <= 0).nonzero()[:, 0].tolist() if method == CASES else ():
        one = Box(box.lower[i : i + 1], box.upper[i : i + 1])
        if prove_by_cases(network, one, rows[i : i + 1], Branching(seconds=seconds)).proved:
            found[i] = ABOVE
    return found
