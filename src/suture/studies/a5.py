"""What the A5 studies share: networks trained once a process, and one row of Tables 2 to 8."""

from __future__ import annotations

import base64
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from suture import data, models
from suture.attacks import APGD, PGD
from suture.bounds import Method
from suture.certify import certify_images
from suture.data import Dataset
from suture.evaluate.left import what_is_left
from suture.repairs import A5CoTraining, A5Offline, A5Robustifier, CrownIBP, Repair
from suture.repairs.a5 import Defence, RobustifiedClassifier
from suture.repairs.a5.robustifier import Body
from suture.repairs.certified_training import Schedule
from suture.rng import Stream
from suture.studies.base import Row
from suture.types import Batch

TIER = "standard"
"""How much the attackers try; AutoAttack is a part of it."""
SWEEP = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Attack radii of the curves, as shares of ε_A."""
SHOWN = 10
_LOOKED_AT = 2000
_FOREIGN = {
    "mnist": ("kw_mnist_eps0.1", None, None),
    "fashion-mnist": ("kw_fashion_mnist", None, None),
    "cifar10": ("kw_cifar_small_8px", (0.485, 0.456, 0.406), (0.225, 0.225, 0.225)),
}
"""Provably robust classifiers that others have trained: do robustified images help them too?"""


class Sizes(Hashable, Protocol):
    """What training and measuring need to know of a study."""

    @property
    def data(self) -> str:
        """Data set."""

    @property
    def train(self) -> int:
        """Training images."""

    @property
    def test(self) -> int:
        """Test images."""

    @property
    def attacked(self) -> int:
        """Test images that are attacked."""

    @property
    def network(self) -> str:
        """The classifier's zoo name."""

    @property
    def body(self) -> Body:
        """The robustifier's name."""

    @property
    def steps(self) -> int:
        """Of A5/O."""

    def schedule(self, recipe: str) -> Schedule:
        """How a recipe is trained."""


@dataclass(frozen=True, eq=False)
class Made:
    """A trained model with what its training left behind."""

    model: nn.Module
    method: str
    trace: dict[str, Any]
    seconds: float
    images: Mapping[str, Batch] = field(default_factory=dict)


@cache
def dataset(name: str) -> Dataset:
    """A data set, read once."""
    return data.load(name)


@cache
def training(sizes: Sizes) -> Batch:
    """The training images, drawn by a fixed seed."""
    return dataset(sizes.data).train.batch(sizes.train, shuffle_stream=Stream(0).child("training"))


@cache
def classifier(sizes: Sizes, eps: float) -> Made:
    """CROWN-IBP training with ε_A^C = eps."""
    source = dataset(sizes.data)
    fresh = models.build(
        sizes.network,
        in_shape=source.in_shape,
        classes=source.classes,
        mean=source.mean,
        std=source.std,
        seed=0,
    )
    return made(CrownIBP(eps=eps, schedule=sizes.schedule("CROWN-IBP")), fresh, training(sizes))


@cache
def robustifier(sizes: Sizes, eps: float, eps_d: float) -> Made:
    """A5/R for that classifier."""
    method = A5Robustifier(
        eps=eps,
        defence=Defence(eps_d),
        body=sizes.body,
        schedule=sizes.schedule("R"),
        certificates=0,
    )
    return made(method, classifier(sizes, eps).model, training(sizes))


@cache
def cotrained(sizes: Sizes, eps: float, eps_d: float) -> Made:
    """A5/RC from A5/R."""
    method = A5CoTraining(
        eps=eps,
        defence=Defence(eps_d),
        body=sizes.body,
        schedule=sizes.schedule("RC"),
        certificates=0,
    )
    return made(method, robustifier(sizes, eps, eps_d).model, training(sizes))


def made(method: Repair, model: nn.Module, data: Batch) -> Made:
    """The method's result on this model, timed."""
    started = time.perf_counter()
    result = method(model, data, generator=0)
    spent = time.perf_counter() - started
    return Made(result.model.eval(), repr(method), result.trace, spent, result.images)


def row(sizes: Sizes, recipe: str, eps: float, eps_d: float | None, stream: Stream) -> Row:
    """Everything that is measured of one recipe at one ε_A and ε_D."""
    batch = dataset(sizes.data).test.batch(sizes.test)
    own, reader, stored = _robustified(sizes, recipe, eps, eps_d, batch)
    facts: Row = {
        "recipe": recipe,
        "eps": eps,
        "eps_d": eps_d,
        "method": own.method,
        "train_seconds": round(own.seconds, 1),
        "curves": curves(own.trace),
    }
    facts |= certified(reader, stored, eps, sizes.attacked)
    facts |= attacked(reader, stored[: sizes.attacked], eps, stream)
    facts |= _elsewhere(sizes, batch[: 4 * sizes.attacked], stored, eps, stream)
    if recipe in ("CROWN-IBP", "R", "RC"):
        facts |= _before(own.model, batch[: sizes.attacked], eps, stream)
    if eps_d is not None:
        largest = float((stored.images - batch.images).abs().max())
        facts |= {"moved": largest, "pictures": _pictures(batch, stored, reader, eps)}
    return facts


def _robustified(
    sizes: Sizes, recipe: str, eps: float, eps_d: float | None, batch: Batch
) -> tuple[Made, nn.Module, Batch]:
    """How it was made, the classifier that reads the images, and the images as stored."""
    plain = classifier(sizes, eps)
    if eps_d is None:
        return plain, plain.model, batch
    if recipe == "O":
        method = A5Offline(eps=eps, defence=Defence(eps_d), steps=sizes.steps, certificates=0)
        started = time.perf_counter()
        found = method.robustify(plain.model, batch)
        spent = time.perf_counter() - started
        return Made(plain.model, repr(method), {}, spent), plain.model, found.batch
    own = (robustifier if recipe == "R" else cotrained)(sizes, eps, eps_d)
    return own, *as_read(own.model, batch)


def as_read(model: nn.Module, batch: Batch) -> tuple[nn.Module, Batch]:
    """The classifier, and the images as it reads them: behind the robustifier, if it has one."""
    if not isinstance(model, RobustifiedClassifier):
        return model, batch
    with torch.no_grad():
        images = torch.cat([model.robustifier(piece.images) for piece in batch.split(500)])
    return model.classifier, Batch(images, batch.labels)


def certified(reader: nn.Module, stored: Batch, eps: float, few: int) -> Row:
    """Errors over all images by intervals; by the slower bounds over the attacked ones."""
    whole = certify_images(reader, stored, eps, "ibp", batch_size=250)
    n = len(stored)
    found: Row = {
        "n": n,
        "clean_wrong": n - int(whole.right.sum()),
        "ibp_wrong": n - int(whole.certified.sum()),
    }
    best = whole.certified[:few].clone()
    methods: tuple[Method, ...] = ("crown-ibp", "crown")
    for method in methods:
        held = certify_images(reader, stored[:few], eps, method).certified
        found[f"few_{method}_wrong"] = few - int(held.sum())
        best |= held
    found |= {"few": few, "few_ibp_wrong": few - int(whole.certified[:few].sum())}
    found |= {"few_certified_wrong": few - int(best.sum()), "certified_few": best.tolist()}
    some = stored[: min(n, _LOOKED_AT)]
    wrong = [
        len(some)
        - int(certify_images(reader, some, share * eps, "ibp", batch_size=250).certified.sum())
        for share in SWEEP
    ]
    return found | {
        "sweep": [round(share * eps, 6) for share in SWEEP],
        "sweep_wrong": wrong,
        "sweep_n": len(some),
    }


def attacked(reader: nn.Module, stored: Batch, eps: float, stream: Stream) -> Row:
    """Attack after robustification, the paper's threat model, by who knows the classifier."""
    found = what_is_left(reader, stored, PGD(eps=eps), tier=TIER, seed=stream.key % 2**31)
    held = (found.share > 0).cpu()
    return {
        "after_wrong": len(stored) - int(held.sum()),
        "after_held": held.tolist(),
        "after_tries": found.row()["tries"],
    }


def _before(model: nn.Module, batch: Batch, eps: float, stream: Stream) -> Row:
    """Attack on what the robustifier reads, by who knows both (or on the plain classifier).

    Gradients are R's own and, beside them, those of the identity in its place.
    """
    bare = model.classifier if isinstance(model, RobustifiedClassifier) else None
    found = what_is_left(
        model,
        batch,
        APGD(eps=eps, loss="dlr-targeted"),
        undefended=bare,
        tier=TIER,
        seed=stream.key % 2**31,
    )
    return {
        "before_wrong": len(batch) - round(found.right),
        "before_n": len(batch),
        "before_tries": found.row()["tries"],
    }


def _elsewhere(sizes: Sizes, batch: Batch, stored: Batch, eps: float, stream: Stream) -> Row:
    """Another classifier reads the images, as they were and robustified, clean and attacked."""
    other = _foreign(sizes.data)
    if other is None:
        return {}
    found: Row = {"other_n": len(batch), "other": _FOREIGN[sizes.data][0]}
    for name, images in (("original", batch), ("robustified", stored[: len(batch)])):
        result = PGD(eps=eps)(other, images, generator=stream.child("other"))
        found[f"other_{name}_wrong"] = len(images) - int(result.clean_right.sum())
        found[f"other_{name}_attacked"] = len(images) - int(result.robust.sum())
    return found


@cache
def _foreign(name: str) -> nn.Module | None:
    place = data.folder()
    if place is None or name not in _FOREIGN:
        return None
    net, mean, std = _FOREIGN[name]
    given: dict[str, Any] = {"mean": list(mean), "std": list(std)} if mean and std else {}
    path = place / "nets" / f"{net}.onnx"
    shape = dataset(name).in_shape
    return models.load(path, in_shape=shape, **given) if path.is_file() else None


def curves(trace: dict[str, Any]) -> list[list[float]]:
    """Epoch, share of the radius, and validation errors, clean and certified."""
    names = ("epoch", "share", "validation_clean_error", "validation_certified_error")
    return [[round(curve[name], 5) for name in names] for curve in trace.get("curves", [])]


def _pictures(batch: Batch, stored: Batch, reader: nn.Module, eps: float) -> Row:
    """Images that are certified, moved ones first, then images that are not."""
    some = stored[:200]
    held = certify_images(reader, some, eps, "ibp").certified
    moved = (some.images - batch.images[: len(some)]).abs().flatten(1).amax(1) > 2 / 255
    good = torch.cat([(held & moved).nonzero()[:, 0], (held & ~moved).nonzero()[:, 0]])
    bad = (~held).nonzero()[:, 0]
    chosen = torch.cat([good[: SHOWN - min(3, len(bad))], bad[:3]])[:SHOWN]
    return {
        "shape": list(batch.shape),
        "held": held[chosen].tolist(),
        "original": packed(batch.images[chosen]),
        "robustified": packed(stored.images[chosen]),
    }


def packed(images: Tensor) -> str:
    """Images as text: 8 bits a value, base64."""
    return base64.b64encode((images * 255).round().to(torch.uint8).numpy().tobytes()).decode()


def unpacked(text: str, shape: list[int]) -> Tensor:
    """The inverse of ``packed``: ``(n, *shape)`` in [0, 1]."""
    raw = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
    return raw.view(-1, *shape).float() / 255
