"""What the A5 studies measure: one row of Tables 2 to 8."""

from __future__ import annotations

import base64
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from suture.attacks import APGD, PGD
from suture.bounds import Method
from suture.certify import certify_images
from suture.engine import telling
from suture.errors import DataError
from suture.evaluate.left import what_is_left
from suture.repairs import A5Offline
from suture.repairs.a5 import Defence, RobustifiedClassifier
from suture.report.table import Row
from suture.rng import Stream
from suture.studies.a5.training import Made, classifier, dataset, robustified
from suture.studies.networks import here, in_pieces, network
from suture.types import Batch

if TYPE_CHECKING:
    from suture.studies.a5.cells import A5Mnist
    from suture.studies.a5.radii import Radii

TIER = "standard"
"""How much the attackers try; AutoAttack is a part of it."""
SWEEP = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Attack radii of the curves, as shares of ε_A."""
SHOWN = 10
_LOOKED_AT = 2000
_FOREIGN: dict[str, tuple[str, dict[str, list[float]]]] = {
    "mnist": ("kw_mnist_eps0.1", {}),
    "fashion-mnist": ("kw_fashion_mnist", {}),
    "cifar10": (
        "kw_cifar_small_8px",
        {"mean": [0.485, 0.456, 0.406], "std": [0.225, 0.225, 0.225]},
    ),
}
"""Provably robust classifiers that others have trained: do robustified images help them too?"""


def row(study: A5Mnist, recipe: str, radii: Radii, stream: Stream) -> Row:
    """Everything that is measured of one recipe at one setting of the radii."""
    batch, eps, few = here(dataset(study.data).test.batch(study.test)), radii.attack, study.met
    own, reader, stored = _robustified(study, recipe, radii, batch)
    facts: Row = {
        "recipe": recipe,
        **radii.row(),
        "method": own.method,
        "train_seconds": round(own.seconds, 1),
        "curves": curves(own.trace),
    }
    telling.tell(f"measuring {recipe}: certificates", 0, 4)
    facts |= certified(reader, stored, eps, few)
    telling.tell(f"measuring {recipe}: attack after", 1, 4)
    sure = None if study.check_bounds else facts["certified_few"]
    facts |= attacked(reader, stored[:few], eps, stream, sure)
    telling.tell(f"measuring {recipe}: another classifier", 2, 4)
    facts |= _elsewhere(study, batch[: 4 * few], stored, eps, stream)
    if recipe in ("CROWN-IBP", "R", "RC"):
        telling.tell(f"measuring {recipe}: attack before", 3, 4)
        facts |= _before(own.model, batch[: study.met_before], eps, stream)
    if radii.defence is not None:
        largest = float((stored.images - batch.images).abs().max())
        facts |= {"moved": largest, "pictures": _pictures(batch, stored, reader, eps)}
    return facts


def _robustified(
    study: A5Mnist, recipe: str, radii: Radii, batch: Batch
) -> tuple[Made, nn.Module, Batch]:
    """How it was made, the classifier that reads the images, and the images as stored."""
    plain = classifier(study, radii.classifier)
    if radii.defence is None:
        return plain, plain.model, batch
    if recipe == "O":
        method = A5Offline(
            eps=radii.robustifier,
            defence=Defence(radii.defence),
            steps=study.steps,
            certificates=0,
        )
        started = time.perf_counter()
        found = method.robustify(plain.model, batch)
        spent = time.perf_counter() - started
        return Made(plain.model, repr(method), {}, spent), plain.model, found.batch
    own = robustified(study, recipe, radii)
    return own, *as_read(own.model, batch)


def as_read(model: nn.Module, batch: Batch) -> tuple[nn.Module, Batch]:
    """The classifier, and the images as it reads them: behind the robustifier, if it has one."""
    if not isinstance(model, RobustifiedClassifier):
        return model, batch
    images = in_pieces(model.robustifier, batch.images, 500)
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


def attacked(
    reader: nn.Module, stored: Batch, eps: float, stream: Stream, sure: list[bool] | None = None
) -> Row:
    """Attack after robustification, the paper's threat model, by who knows the classifier.

    Args:
        sure: certified images, which nobody can turn and he leaves out; ``None`` attacks all, and
            so checks the bounds.
    """
    held = torch.tensor(sure or [False] * len(stored))
    rest = (~held).nonzero()[:, 0]
    facts: Row = {"after_attacked": len(rest), "after_tries": []}
    if len(rest):
        some = stored[rest.to(stored.device)]
        found = what_is_left(reader, some, PGD(eps=eps), tier=TIER, seed=stream.key % 2**31)
        held[rest] = (found.share > 0).cpu()
        facts["after_tries"] = found.row()["tries"]
    return facts | {"after_wrong": len(stored) - int(held.sum()), "after_held": held.tolist()}


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


def _elsewhere(study: A5Mnist, batch: Batch, stored: Batch, eps: float, stream: Stream) -> Row:
    """Another classifier reads the images, as they were and robustified, clean and attacked."""
    other = _foreign(study.data)
    if other is None:
        return {}
    found: Row = {"other_n": len(batch), "other": _FOREIGN[study.data][0]}
    for name, images in (("original", batch), ("robustified", stored[: len(batch)])):
        result = PGD(eps=eps)(other, images, generator=stream.child("other"))
        found[f"other_{name}_wrong"] = len(images) - int(result.clean_right.sum())
        found[f"other_{name}_attacked"] = len(images) - int(result.robust.sum())
    return found


@cache
def _foreign(name: str) -> nn.Module | None:
    if name not in _FOREIGN:
        return None
    net, how = _FOREIGN[name]
    try:
        return network(net, in_shape=dataset(name).in_shape, **how)
    except DataError:
        return None


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
    return base64.b64encode((images * 255).round().to(torch.uint8).cpu().numpy().tobytes()).decode()


def unpacked(text: str, shape: list[int]) -> Tensor:
    """The inverse of ``packed``: ``(n, *shape)`` in [0, 1]."""
    raw = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
    return raw.view(-1, *shape).float() / 255
