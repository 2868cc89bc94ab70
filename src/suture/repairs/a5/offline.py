"""A5/O: robustify given images, whose classes are known, ahead of time (section 3, Eq. 6)."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suture import bounds
from suture.bounds import Network
from suture.data import batch_of
from suture.engine import Handle
from suture.errors import ArgumentError
from suture.models import build_from_spec, identity, register_builder
from suture.repairs.a5.certifying import Vouched, vouched
from suture.repairs.a5.defence import Defence
from suture.repairs.a5.prepared import KIND, prepared
from suture.repairs.base import REPAIRS, Repair
from suture.repairs.certified_training.loss import interval_margins
from suture.repairs.certified_training.method import check_radius
from suture.repairs.context import Context
from suture.repairs.result import RepairResult, Status
from suture.types import Batch, Box, LabelledImages

_PIECE = 1000
_DECAY, _TINY = 0.99, 1e-8


@REPAIRS.add("a5-offline")
@dataclass(frozen=True, kw_only=True)
class A5Offline(Repair):
    """Move each image, within ε_D, to where no attack of size ε_A^R changes its class.

    ``z = argmin CE_worst(x + δ_D(z))`` by RMSprop from z = 0; all images of a set are one batch,
    and an image leaves it as soon as its 8-bit version is certified by ``bound``. The classifier
    stays as it is, and reads robustified images; ``images["robustified"]`` of the result are what
    is to be stored or sent in place of the originals. ``suture evaluate`` and ``suture certify``
    move test images by these settings, once by their true classes, once by what the classifier
    says of them. Nothing is drawn at random.

    Args:
        eps: ε_A^R, the L∞ radius of the attack to be withstood after robustification.
        defence: ε_D and its norm.
        samples: images robustified, the first ones; 0 for all.
        steps: of RMSprop, at most.
        lr: of RMSprop, in units of z.
        certificates: images, the first ones, whose certificates are made.
        bound: what ``CE_worst`` and leaving are by: "ibp"; "crown-ibp" or "crown" for classifiers
            that were not trained on intervals: an order of magnitude slower.

    Raises:
        ArgumentError: a value out of range.
    """

    eps: float = 0.3
    defence: Defence = Defence()  # noqa: RUF009 - frozen
    samples: int = 0
    steps: int = 200
    lr: float = 0.1
    certificates: int = 100
    bound: Literal["ibp", "crown-ibp", "crown"] = "ibp"

    def __post_init__(self) -> None:
        check_radius("eps", self.eps)
        sound = self.samples >= 0 and self.steps >= 1 and self.lr > 0 and self.certificates >= 0
        if not sound or self.bound not in ("ibp", "crown-ibp", "crown"):
            raise ArgumentError(
                expected="samples, certificates >= 0, steps >= 1, lr > 0, bound ibp, crown-ibp or "
                "crown",
                got=repr(self),
                remedy="See the documentation of A5Offline.",
            )

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        started = time.monotonic()
        batch = data[: self.samples] if self.samples else batch_of(data)
        found = self.robustify(model, batch, context)
        kept = copy.deepcopy(model)
        tried = min(self.certificates, len(batch))
        made = self._vouched(kept.eval(), found.batch[:tried]) if tried else Vouched()
        kept.train(model.training)
        certified = int(found.certified.sum())
        trace = {
            "recipe": "O",
            "samples": len(batch),
            "certified_after_the_move": certified,
            "bound": self.bound,
            "certificates": {"made": len(made.certificates), "of": tried},
            "steps": found.steps.double().mean().item(),
            "eps": self.eps,
            "defence": asdict(self.defence),
            "seconds": round(time.monotonic() - started, 3),
        }
        status = _status(certified, len(batch))
        reader = prepared(kept, self.moved, asdict(self))
        images = {"robustified": found.batch}
        return RepairResult(reader, status, trace, made.certificates, images, promise=made.promise)

    def _vouched(self, reader: nn.Module, batch: Batch) -> Vouched:
        return vouched(reader, batch, self.eps, repair="A5/O")

    def moved(self, classifier: nn.Module, batch: Batch) -> Tensor:
        """The robustified images alone: what ``prepared`` calls."""
        return self.robustify(classifier, batch).batch.images

    def robustify(
        self, model: nn.Module, batch: Batch, context: Context | None = None
    ) -> Robustified:
        """The images as they are to be stored.

        Args:
            model: the classifier; bounds are computed through it.
            batch: images with their true classes.
            context: pieces of 1 000 images are items of its engine.
        """
        context = context or Context.of()
        pieces, parts = list(batch.split(_PIECE)), list[dict[str, Tensor]]()
        work = f"{self!r} {identity(model, batch)}"
        with context.engine.shared(model) as handle:
            task = partial(_robustified, handle, self, context.batch_size)
            for part in context.engine.keep("robustify", task, pieces, work=work):
                parts.append(part)
                context.tell("robustifying", sum(len(p["steps"]) for p in parts), len(batch))
        whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        images = whole["images"].to(batch.images.device)
        return Robustified(Batch(images, batch.labels), whole["certified"], whole["steps"])


@dataclass(frozen=True, eq=False)
class Robustified:
    """Images after robustification.

    Attributes:
        batch: as they are to be stored, with their classes.
        certified: bool ``(n,)``; by the method's bound in float32, at ε_A^R.
        steps: int64 ``(n,)``, steps taken.
    """

    batch: Batch
    certified: Tensor
    steps: Tensor


def _status(certified: int, n: int) -> Status:
    if certified == n:
        return Status.REPAIRED
    return Status.PARTLY if certified else Status.UNCHANGED


def _robustified(
    handle: Handle[nn.Module], method: A5Offline, batch_size: int, batch: Batch
) -> dict[str, Any]:
    """One batch of images that share the loop; each ends as it would alone."""
    network = bounds.read(handle.get(), batch.shape)
    state = _FreeImages(batch, method.defence)
    for step in range(method.steps + 1):
        losses, slopes = state.ask(network, method, batch_size)
        state.leave(step, losses, network, method, batch_size)
        if not len(state.left) or step == method.steps:
            break
        state.move(slopes, method.lr)
    return {
        "images": state.best.cpu(),
        "certified": state.certified.cpu(),
        "steps": state.steps.cpu(),
    }


class _FreeImages:
    """All images of a piece, and the free vectors of those that are still in work."""

    def __init__(self, batch: Batch, defence: Defence) -> None:
        self.batch, self.defence = batch, defence
        self.best = defence.stored(batch.images, batch.images)
        self.least = torch.full_like(batch.images[:, 0, 0, 0], float("inf"))
        self.certified = torch.zeros_like(batch.labels, dtype=torch.bool)
        self.steps = torch.zeros_like(batch.labels)
        self.left = torch.arange(len(batch), device=batch.labels.device)
        self.z = torch.zeros_like(batch.images)
        self.square = torch.zeros_like(batch.images)

    def ask(self, network: Network, method: A5Offline, size: int) -> tuple[Tensor, Tensor]:
        """Worst-case losses ``(k,)`` of the images in work, and their slopes in z."""
        found = [self._slope(network, method, rows) for rows in _rows(len(self.left), size)]
        return torch.cat([losses for losses, _ in found]), torch.cat([s for _, s in found])

    def _slope(self, network: Network, method: A5Offline, rows: Tensor) -> tuple[Tensor, Tensor]:
        chosen, eps = self.left[rows], method.eps
        with torch.enable_grad():
            z = self.z[rows].requires_grad_()
            moved = self.defence.reached(self.batch.images[chosen], z)
            box = Box((moved - eps).clamp(0, 1), (moved + eps).clamp(0, 1))
            margins = bounds.margins(network, box, self.batch.labels[chosen], method.bound)
            losses = F.cross_entropy(-margins, self.batch.labels[chosen], reduction="none")
            # A sum, so that no image's slope depends on the others.
            (slope,) = torch.autograd.grad(losses.sum(), z)
        return losses.detach(), slope

    @torch.no_grad()
    def leave(
        self, step: int, losses: Tensor, network: Network, method: A5Offline, size: int
    ) -> None:
        """Remember the best image of each, and let go whose stored image is certified."""
        images, labels = self.batch.images[self.left], self.batch.labels[self.left]
        stored = self.defence.stored(images, self.defence.apply(images, self.z))
        parts = [
            interval_margins(network, stored[r], labels[r], method.eps, method.bound)
            for r in _rows(len(stored), size)
        ]
        gone = torch.cat(parts) > 0
        better = gone | (losses < self.least[self.left])
        self.best[self.left[better]] = stored[better]
        self.least[self.left[better]] = losses[better]
        self.certified[self.left[gone]] = True
        self.steps[self.left] = step
        self.left, self.z, self.square = self.left[~gone], self.z[~gone], self.square[~gone]
        self.going = ~gone

    def move(self, slopes: Tensor, lr: float) -> None:
        """A step of RMSprop."""
        slopes = slopes[self.going]
        self.square.mul_(_DECAY).addcmul_(slopes, slopes, value=1 - _DECAY)
        self.z.addcdiv_(slopes, self.square.sqrt().add_(_TINY), value=-lr)


def _rows(count: int, size: int) -> tuple[Tensor, ...]:
    return torch.arange(count).split(size) if count else ()


def _rebuilt(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    given = dict(spec["settings"])
    method = A5Offline(**given | {"defence": Defence(**given["defence"])})
    return prepared(build_from_spec(spec["base"], folder), method.moved, given)


register_builder(KIND, _rebuilt)
