"""Which patches answer for an input: the ball's own inside, a rule outside (paper, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suture.repairs.advrepair.index import ClassGroups, CubeIndex

Rule = Literal["similar", "similar-near", "label", "pair", "none"]
TOLERANCE = 1e-6
"""By how much the indicator's balls are larger than the certified boxes: rounding must not let an
input of a box escape its patch."""
_NUMBERS = 8_000_000
_BLOCKS = 64
_ALIKE = 100.0


@dataclass(frozen=True, eq=False)
class Anchors:
    """What the indicator knows about m regions.

    Attributes:
        centre, reach: ``(m, d)``, middle and half widths; ``reach`` is ``(m, 1)`` where all
            regions are cubes of one size.
        patch: int64 ``(m,)``.
        label, second: int64 ``(m,)``: N's first and second class at the centre.
        key: ``(m, f)``: N's logits at the centre, or its features.
    """

    centre: Tensor
    reach: Tensor
    patch: Tensor
    label: Tensor
    second: Tensor
    key: Tensor


class Allocation(nn.Module):
    """Inputs → which patches answer, as shares ``(n, p)`` of 0 and 1.

    Inside of balls the one with the nearest centre (L∞) answers alone. Outside of all of them:

    * "similar": of the regions with the input's predicted class, the ``most`` whose centres'
      logits have the largest cosine similarity to its own (section 3.3);
    * "similar-near": the same with features, equal similarities (to 1/100) by small distance;
    * "label", "pair": the patch of the predicted class, of the first and second class;
    * "none": nobody.
    """

    centre: Tensor
    reach: Tensor
    patch: Tensor
    label: Tensor
    second: Tensor
    key: Tensor

    def __init__(self, anchors: Anchors, patches: int, rule: Rule, most: int) -> None:
        super().__init__()
        self.patches, self.rule, self.most = patches, rule, most
        self._made: dict[str, Any] = {}
        for name, value in vars(anchors).items():
            self.register_buffer(name, value.clone(memory_format=torch.contiguous_format))

    def forward(self, inputs: Tensor, logits: Tensor, keys: Tensor) -> Tensor:
        """Shares ``(n, p)``; no gradient flows through the choice.

        Args:
            inputs: ``(n, d)``.
            logits: N's, ``(n, classes)``.
            keys: what similarity is measured by, ``(n, f)``: the logits, or the features.
        """
        with torch.no_grad():
            if not torch.compiler.is_exporting():
                patch, share = self.few(inputs, logits, keys)
                table = logits.new_zeros(len(inputs), self.patches)
                return table.scatter_add(1, patch, share)
            inside, nearest = self.indicator(inputs)
            own = F.one_hot(self.patch[nearest], self.patches).to(logits.dtype)
            rest = self._outside(logits, keys).to(logits.dtype)
            return torch.where(inside[:, None], own, rest)

    def few(self, inputs: Tensor, logits: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The same as lists: patches int64 ``(n, k)``, none of them twice with a share of 1, and
        shares ``(n, k)``, 0 where the list is filled up."""
        with torch.no_grad():
            patch, share = self._listed(logits, keys)
            inside, nearest = self.indicator(inputs)
            if bool(inside.any()):  # (Else the lists are as they should be.)
                patch = torch.where(inside[:, None], self.patch[nearest][:, None], patch)
                alone = torch.zeros_like(share)
                alone[:, 0] = 1
                share = torch.where(inside[:, None], alone, share)
            return patch, share

    def indicator(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Whether an input lies in some region, and in which (nearest centre): ``(n,)`` each."""
        if self.reach.shape[1] == 1 and not torch.compiler.is_exporting():
            row, region, away = self._index().pairs(inputs)
            nearest = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
            if not len(row):
                return nearest.bool(), nearest
            least = inputs.new_full((len(inputs),), float("inf"))
            least = least.scatter_reduce(0, row, away, "amin")
            best = torch.where(away == least[row], region, len(self.centre))
            nearest = nearest.fill_(len(self.centre)).scatter_reduce(0, row, best, "amin")
            return torch.isfinite(least), nearest.clamp_max(len(self.centre) - 1)
        excess, distance = self.distances(inputs)
        far = torch.full_like(distance, float("inf"))
        near = torch.where(excess <= TOLERANCE, distance, far)
        return torch.isfinite(near).any(1), near.argmin(1)

    def _index(self) -> CubeIndex:
        made = self._prepared("index", self.centre)
        if made is None:
            reach = float(self.reach[0, 0]) + TOLERANCE
            made = self._keep("index", self.centre, CubeIndex.of(self.centre, reach))
        return made  # type: ignore[no-any-return]

    def _groups(self, classes: int) -> ClassGroups:
        made = self._prepared("groups", self.key)
        if made is None or len(made.start) != classes + 1:
            groups = ClassGroups.of(self.label, self.key, self.patch, classes)
            made = self._keep("groups", self.key, groups)
        return made  # type: ignore[no-any-return]

    def _prepared(self, name: str, like: Tensor) -> Any:
        """What was made of the buffers, unless they have changed since."""
        stamp, made = self._made.get(name, (None, None))
        return made if stamp == (like.data_ptr(), like._version) else None

    def _keep(self, name: str, like: Tensor, made: Any) -> Any:
        self._made[name] = ((like.data_ptr(), like._version), made)
        return made

    def _listed(self, logits: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Who answers outside of all regions, as lists."""
        if self.rule == "similar":
            return self._groups(logits.shape[1]).similar(logits, keys, self.most)
        many = self._outside(logits, keys).to(logits.dtype)
        size = max(1, int(many.sum(1).max())) if len(many) else 1
        share, patch = many.topk(size, dim=1)
        return patch, share

    def distances(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """How far an input lies outside of each region (negative: inside), and its L∞ distance
        from the centre: ``(n, m)`` each."""
        if self.reach.shape[1] == 1 and not torch.compiler.is_exporting():
            distance = torch.cdist(inputs, self.centre, p=float("inf"))
            return distance - self.reach[:, 0], distance
        parts = [
            _apart(inputs, self.centre[block], self.reach[block]) for block in self._blocks(inputs)
        ]
        return torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts], 1)

    def _blocks(self, inputs: Tensor) -> list[slice]:
        many = self.centre.shape[0]
        if torch.compiler.is_exporting():
            size = -(-many // _BLOCKS)
        else:
            size = max(1, _NUMBERS // inputs.numel())
        return [slice(i, i + size) for i in range(0, many, size)]

    def _outside(self, logits: Tensor, keys: Tensor) -> Tensor:
        if self.rule == "none":
            return logits.new_zeros(logits.shape[0], self.patches)
        first = logits.argmax(1)
        fits = self.label == first[:, None]
        if self.rule == "pair":
            rest = logits.scatter(1, first[:, None], float("-inf"))
            fits = fits & (self.second == rest.argmax(1)[:, None])
        if self.rule in ("similar", "similar-near"):
            fits = fits & self._similar(fits, keys)
        # Several regions may share a patch; it answers once.
        member = F.one_hot(self.patch, self.patches).to(logits.dtype)
        return (fits.to(logits.dtype) @ member) > 0

    def _similar(self, fits: Tensor, keys: Tensor) -> Tensor:
        """Bool ``(n, m)``: the ``most`` best of the regions that fit."""
        cosine = F.normalize(keys, dim=1) @ F.normalize(self.key, dim=1).T
        score = cosine
        if self.rule == "similar-near":
            # Whole numbers for the similarity, a fraction that falls with the distance.
            away = _euclidean(keys, self.key).clamp_min(0)
            score = (cosine * _ALIKE).round() + 0.5 / (1 + away / away.mean(1, keepdim=True))
        score = torch.where(fits, score, torch.full_like(score, float("-inf")))
        best = score.topk(min(self.most, self.key.shape[0]), dim=1).indices
        return torch.zeros_like(fits).scatter(1, best, torch.ones_like(best, dtype=torch.bool))


def _apart(inputs: Tensor, centre: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    away = (inputs[:, None] - centre).abs()
    return (away - reach).amax(2), away.amax(2)


def _euclidean(one: Tensor, other: Tensor) -> Tensor:
    """Squared distances ``(n, m)``."""
    square = (one * one).sum(1)[:, None] + (other * other).sum(1)
    return square - 2 * one @ other.T
