"""ART: train until bounds prove the balls, refining the boxes (Lin et al. 2020)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture import bounds
from suture.bounds import Method
from suture.certify import Certificate
from suture.certify.proving import network64, prove
from suture.models import fingerprint
from suture.repairs.base import REPAIRS
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages
from suture.repairs.point_repair.base import Made, PointRepair
from suture.types import Batch, Box, LabelledImages


@REPAIRS.add("art")
@dataclass(frozen=True, kw_only=True)
class ART(PointRepair):
    """ART (Lin et al. 2020): abstraction-refinement-guided training of all weights.

    The loss of a box is what its bounds lack for a proof, ``Σ_j max(0, margin - lower_j)`` over
    the margins; it is added to the cross entropy of training images. After an epoch the boxes that
    lack most are halved where the loss reacts most. It ends when every box is proved.

    Args:
        epochs: at most.
        step_boxes: boxes a step.
        step_images: training images a step.
        images: training images used, at most.
        learning_rate: of Adam.
        weight: of the boxes' loss beside the cross entropy; 0 leaves only that.
        refine: boxes halved after an epoch.
        most: no box is halved once there are so many.
        margin: by how much every logit must be beaten.
        bounds: how boxes are bounded.
    """

    epochs: int = 30
    step_boxes: int = 50
    step_images: int = 200
    images: int = 10_000
    learning_rate: float = 1e-3
    weight: float = 1.0
    refine: int = 200
    most: int = 5_000
    margin: float = 1e-3
    bounds: Method = "crown-ibp"

    def _checks(self) -> dict[str, bool]:
        counts = (self.epochs, self.step_boxes, self.step_images, self.images, self.most)
        return super()._checks() | {
            "an L∞ attack with eps > 0": self.attack.norm == "linf" and 0 < self.attack.eps <= 1,
            "epochs, step_boxes, step_images, images, most >= 1": min(counts) >= 1,
            "learning_rate > 0": self.learning_rate > 0,
            "weight >= 0": self.weight >= 0,
            "refine >= 0": self.refine >= 0,
            "margin > 0": self.margin > 0,
            "bounds crown-ibp or crown": self.bounds in ("crown-ibp", "crown"),
        }

    def _repaired(
        self, model: nn.Module, found: FooledImages, data: LabelledImages, context: Context
    ) -> Made:
        assert found.clean is not None, "there is something to repair"
        made, stream = copy.deepcopy(model), context.stream.child("art")
        order = torch.randperm(len(data), generator=stream.child("images").generator())
        data = data[order[: self.images]]
        abstract = _Abstract(self, made, found.clean)
        optimiser = torch.optim.Adam(
            [p for p in made.parameters() if p.requires_grad], lr=self.learning_rate
        )
        curve: list[list[float]] = []
        for epoch in range(self.epochs):
            lacking = abstract.lacking()
            curve.append([len(lacking), float((lacking <= 0).float().mean())])
            if bool((lacking <= 0).all()):
                break
            if epoch:
                abstract.refine(lacking)
            steps = stream.child(epoch)
            _epoch(self, made, abstract, data, optimiser, steps.generator())
            context.tell("epochs", epoch + 1, self.epochs)
        certificates, proved = abstract.certificates(made.eval())
        facts = {"epochs": len(curve), "boxes": len(abstract), "proved": proved, "curve": curve}
        return made, facts, certificates


class _Abstract:
    """The boxes that the balls are cut into, and what each lacks."""

    def __init__(self, method: ART, model: nn.Module, clean: Batch) -> None:
        self._method, self._count = method, len(clean)
        self._network = bounds.read(model, clean.shape)
        box = Box.around(clean.images, method.attack.eps)
        self.lower, self.upper, self._labels = box.lower, box.upper, clean.labels
        self._ball = torch.arange(len(clean))

    def __len__(self) -> int:
        return len(self.lower)

    def loss(self, chosen: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """``(chosen,)``: ``Σ_j max(0, margin - lower_j)``, with gradient."""
        rows = bounds.margin_rows(
            self._labels[chosen], self._network.out_shape[-1], self.lower.dtype
        )
        found = bounds.bounds_of(self._network, Box(lower, upper), rows, self._method.bounds)
        return torch.relu(self._method.margin - found).sum(1)

    def lacking(self) -> Tensor:
        """``(boxes,)``: the loss of every box; 0 where the bounds prove it."""
        with torch.no_grad():
            parts = [
                self.loss(chosen, self.lower[chosen], self.upper[chosen])
                for chosen in torch.arange(len(self)).split(self._method.step_boxes)
            ]
        return torch.cat(parts)

    def certificates(self, model: nn.Module) -> tuple[tuple[Certificate, ...], int]:
        """Of every box that CROWN proves in float64; and how many balls have no other box."""
        rows = bounds.margin_rows(self._labels, self._network.out_shape[-1], torch.float64)
        made, open_ = list[Certificate](), torch.zeros(len(self), dtype=torch.bool)
        name, network = fingerprint(model), network64(model, self.lower.shape[1:])
        for chosen in torch.arange(len(self)).split(self._method.step_boxes):
            box = Box(self.lower[chosen].double(), self.upper[chosen].double())
            add = rows.new_zeros(len(chosen), rows.shape[1])
            least = prove(network, box, rows[chosen], add).amin(1)
            open_[chosen] = least <= 0
            made += [
                Certificate(low, high, own, zero, float(bound), "crown", name, {})
                for low, high, own, zero, bound in zip(
                    box.lower, box.upper, rows[chosen], add, least, strict=True
                )
                if bound > 0
            ]
        return tuple(made), self._count - len(self._ball[open_].unique())

    def refine(self, lacking: Tensor) -> None:
        """Halve the boxes that lack most, where the loss reacts most to the box's sides."""
        method = self._method
        room = min(method.refine, method.most - len(self), int((lacking > 0).sum()))
        if room <= 0:
            return
        chosen = lacking.argsort(descending=True, stable=True)[:room]
        lower, upper = self.lower[chosen].clone(), self.upper[chosen].clone()
        sides = [lower.requires_grad_(True), upper.requires_grad_(True)]
        slopes = torch.autograd.grad(self.loss(chosen, lower, upper).sum(), sides)
        lower, upper = lower.detach(), upper.detach()
        score = (slopes[0].abs() + slopes[1].abs()) * (upper - lower)
        axis = score.flatten(1).argmax(1)
        middle = ((lower + upper) / 2).flatten(1).gather(1, axis[:, None])
        below, above = upper.flatten(1).clone(), lower.flatten(1).clone()
        below.scatter_(1, axis[:, None], middle)
        above.scatter_(1, axis[:, None], middle)
        self.upper = self.upper.index_copy(0, chosen, below.view_as(upper))
        self.lower = torch.cat([self.lower, above.view_as(lower)])
        self.upper = torch.cat([self.upper, upper])
        self._labels = torch.cat([self._labels, self._labels[chosen]])
        self._ball = torch.cat([self._ball, self._ball[chosen]])


def _epoch(
    method: ART,
    model: nn.Module,
    abstract: _Abstract,
    data: LabelledImages,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """One pass over the images or the boxes, whichever takes more steps; in eval mode, since
    bounds speak of that."""
    sizes = (len(data), method.step_images), (len(abstract), method.step_boxes)
    steps = max(-(-count // size) for count, size in sizes)
    streams = [
        torch.randperm(count, generator=generator).repeat(-(-steps * size // count)).split(size)
        for count, size in sizes
    ]
    for few, boxes in list(zip(*streams, strict=False))[:steps]:
        loss = cross_entropy(model(data.images[few]), data.labels[few])
        if method.weight:
            lacking = abstract.loss(boxes, abstract.lower[boxes], abstract.upper[boxes])
            loss = loss + method.weight * lacking.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
