"""The repaired classifier: ``F(x) = N(x) + Σ P_j(x)`` over the patches allocated to x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from suture.errors import ArgumentError
from suture.repairs.advrepair.allocation import TOLERANCE, Allocation
from suture.repairs.advrepair.bank import PatchBank
from suture.repairs.advrepair.index import CubeIndex
from suture.types import RepairedModel


class PatchedClassifier(RepairedModel):
    """N with patches (paper, Definition 3.2).

    Args:
        encoder: identity, or N up to the feature space in which the patches live.
        head: the rest of N.
        bank: the patches.
        allocation: which of them answer.
    """

    def __init__(
        self, encoder: nn.Module, head: nn.Module, bank: PatchBank, allocation: Allocation
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.bank, self.allocation = encoder, head, bank, allocation
        self.suture_spec: dict[str, Any] | None = None
        self.suture_files: dict[str, bytes] = {}

    @property
    def in_feature_space(self) -> bool:
        """Whether the patches read features; then nothing about it is ever proved."""
        return not isinstance(self.encoder, nn.Identity)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)``; the allocation is computed from the images given."""
        features = self.encoder(images)
        logits = self.head(features)
        if torch.compiler.is_exporting():
            return self._patched(features, logits, self._shares(images, features, logits))
        patch, share = self.allocation.few(images.flatten(1), logits, self._keys(features, logits))
        return logits + self.bank.few(features.flatten(1), patch, share)

    def shares(self, images: Tensor) -> Tensor:
        """Which patches answer for each image: ``(n, p)`` of 0 and 1."""
        features = self.encoder(images)
        return self._shares(images, features, self.head(features))

    def about_answers(self, images: Tensor, noise: Tensor | None = None) -> list[str]:
        """The patches that answer, and whether the image lies in a repaired region."""
        shares = self.shares(images)
        inside, _ = self.allocation.indicator(images.flatten(1))
        return [
            _told(row.nonzero()[:, 0].tolist(), held)
            for row, held in zip(shares, inside.tolist(), strict=True)
        ]

    def answer(self, images: Tensor, shares: Tensor) -> Tensor:
        """Logits with patches that somebody else has allocated."""
        features = self.encoder(images)
        return self._patched(features, self.head(features), shares)

    def undefended(self) -> nn.Module:
        """The classifier without patches; shares this one's weights."""
        return nn.Sequential(self.encoder, self.head).train(self.training)

    def surrogates(self) -> dict[str, nn.Module]:
        """N: patches saturate, and a patch that adds a constant has no slope of its own.

        The model's own gradient is that of N and the patches with the allocation held.
        """
        return {"undefended": self.undefended()}

    def certify_parts(self, lower: Tensor, upper: Tensor) -> list[nn.Module]:
        """Every network that can answer for some input of a box: what is proved of each of them
        is proved of this classifier.

        Args:
            lower, upper: shape of one input.

        Raises:
            ArgumentError: the box leaves the repaired regions, where ten patches at a time may
                answer, or the patches live in a feature space.
        """
        if self.in_feature_space:
            raise _cannot("patches that read the input", "patches in a feature space")
        patches, covered = answering(self.allocation, lower, upper)
        if not covered and self.allocation.rule != "none":
            raise _cannot("a box inside of a repaired region", "one that reaches outside")
        parts: list[nn.Module] = [
            SinglePatchClassifier(self.head, self.bank.one(j)) for j in patches
        ]
        return parts if covered else [self.head, *parts]

    def _shares(self, images: Tensor, features: Tensor, logits: Tensor) -> Tensor:
        return self.allocation(images.flatten(1), logits, self._keys(features, logits))

    def _keys(self, features: Tensor, logits: Tensor) -> Tensor:
        """What similarity is measured by."""
        return features.flatten(1) if self.in_feature_space else logits

    def _patched(self, features: Tensor, logits: Tensor, shares: Tensor) -> Tensor:
        return logits + self.bank(features.flatten(1), shares)


def _told(patches: list[int], inside: bool) -> str:
    """Which patches answer, in words."""
    if not patches:
        return "no patch: the network alone"
    names = ", ".join(map(str, patches))
    if inside:
        return f"patch {names}, inside of its repaired region"
    return f"patch{'es' if len(patches) > 1 else ''} {names}, outside of all repaired regions"


class SinglePatchClassifier(nn.Module):
    """N and one patch: ``N(x) + P_j(x)``, whatever x is."""

    def __init__(self, network: nn.Module, patch: nn.Module) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        return self.network(images) + self.patch(images)


class OracleAllocated(nn.Module):
    """The paper's protocol: patches are allocated on the clean x and stay fixed over B(x, r).

    An oracle, since nobody tells a deployed classifier the clean image. Here the nearest of the
    given clean images (L∞) is taken for it: exact while images lie more than 2 r apart.

    Args:
        model: the repaired classifier.
        clean: ``(k, c, h, w)``; a few dozen at a time, every forward compares with all of them.
    """

    def __init__(self, model: PatchedClassifier, clean: Tensor) -> None:
        super().__init__()
        self.model = model
        with torch.no_grad():
            self.register_buffer("table", model.shares(clean))
        self.register_buffer("clean", clean.flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)`` with the clean images' allocation."""
        clean: Tensor = self.clean  # type: ignore[assignment]
        table: Tensor = self.table  # type: ignore[assignment]
        with torch.no_grad():
            nearest = torch.cdist(images.flatten(1), clean, p=float("inf")).argmin(1)
        return self.model.answer(images, table[nearest])


def answering(allocation: Allocation, lower: Tensor, upper: Tensor) -> tuple[list[int], bool]:
    """Patches that can answer somewhere in a box, and whether one region covers the box."""
    low, high = lower.flatten().double(), upper.flatten().double()
    _, near = _near(allocation, low[None], high[None])
    centre, reach = allocation.centre[near].double(), allocation.reach[near].double()
    # Compared in float64 with twice the indicator's tolerance: rounding cannot hide a region.
    touches = (torch.maximum(low - centre, centre - high) <= reach + 2 * TOLERANCE).all(1)
    inside = torch.maximum(centre - low, high - centre) <= reach + TOLERANCE / 2
    patches = allocation.patch[near][touches].unique().tolist()
    return [int(j) for j in patches], bool(inside.all(1).any())


def answering_pairs(allocation: Allocation, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """``answering`` for boxes ``(n, d)`` float64: pairs of a box and a patch, int64 ``(q,)`` each.

    A rough float32 comparison of all pairs leaves few for the exact one.
    """
    box, region = _near(allocation, lower, upper)
    pairs = []
    for some, other in zip(box.split(_PAIRS), region.split(_PAIRS), strict=True):
        centre, reach = allocation.centre[other].double(), allocation.reach[other].double()
        outside = torch.maximum(lower[some] - centre, centre - upper[some])
        touches = (outside <= reach + 2 * TOLERANCE).all(1)
        pairs.append(torch.stack([some[touches], allocation.patch[other[touches]]], 1))
    found = torch.cat(pairs).unique(dim=0)
    return found[:, 0], found[:, 1]


_PAIRS = 1024
_ROUGH = 1e-3


def _near(allocation: Allocation, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a box and a region that may touch it, int64 ``(q,)`` each; a superset."""
    centre, reach = allocation.centre, allocation.reach
    if reach.shape[1] > 1 or len(lower) == 1:  # (The exact look is as cheap.)
        every = torch.ones(len(lower), len(centre), dtype=torch.bool, device=lower.device)
        box, region = every.nonzero().T
        return box, region
    middle, radius = (lower + upper) / 2, float((upper - lower).amax()) / 2
    index = CubeIndex.of(centre, radius + float(reach[0, 0]) + _ROUGH)
    box, region, _ = index.pairs(middle.to(centre.dtype))
    return box, region


def _cannot(expected: str, got: str) -> ArgumentError:
    return ArgumentError(
        expected=f"{expected}, to name every network that can answer",
        got=got,
        remedy="Certify balls of the repair, or the network without its patches.",
    )
