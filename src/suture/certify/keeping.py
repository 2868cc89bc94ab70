"""Whether certificates keep a promise: one sentence for everything that is not as promised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from suture.bounds import margin_rows
from suture.certify.certificate import Certificate
from suture.certify.promise import SHARE, Promise
from suture.types import Batch

TOLERANCE = 1e-6
"""Between a ball's edge and a certificate's: centres are float32."""


def broken(
    promise: Promise | None,
    certificates: Mapping[str, Certificate],
    margins: Mapping[str, float],
    network: str,
    expected: str | None = None,
) -> list[str]:
    """What is not as promised, a sentence each; empty if all is.

    Args:
        certificates: those at hand, by file.
        margins: what each was proved with now, by file.
        network: fingerprint of the model at hand.
        expected: the digest, or its first digits, that the promise should have.
    """
    if expected is not None and (promise is None or not promise.digest.startswith(expected)):
        other = "there is none" if promise is None else f"this one is {promise.digest}"
        return [f"the promise should be {expected}, but {other}"]
    if promise is None:
        return []
    if promise.network != network:
        return ["the promise speaks of a model with other weights than the one at hand"]
    sums = {name: certificate.checksum for name, certificate in certificates.items()}
    listed = {checksum for own in promise.certificates for checksum in own}
    strange = {name: c for name, c in certificates.items() if sums[name] not in listed}
    at_hand = {sums[name]: name for name in certificates}
    found: list[str] = []
    for ball in promise.proved.nonzero()[:, 0].tolist():
        found += _of_ball(promise, ball, at_hand, certificates, margins, strange)
    return found + [f"{name} is no part of the promise" for name in strange]


def _of_ball(
    promise: Promise,
    ball: int,
    at_hand: Mapping[str, str],
    certificates: Mapping[str, Certificate],
    margins: Mapping[str, float],
    strange: dict[str, Certificate],
) -> list[str]:
    """What is wrong with one ball; certificates put in place of its own leave ``strange``."""
    own = {at_hand[c]: certificates[at_hand[c]] for c in promise.certificates[ball] if c in at_hand}
    missing = len(promise.certificates[ball]) - len(own)
    placed = {n: c for n, c in strange.items() if c.note.get("region") == ball}
    for name in placed:
        del strange[name]
    for name, certificate in {**own, **placed}.items():
        if wrong := _differs(promise, ball, certificate):
            return [f"ball {ball}: {name} {wrong}"]
    if missing:
        count = len(promise.certificates[ball])
        if placed:
            return [f"ball {ball}: {next(iter(placed))} is not the certificate that was promised"]
        return [f"ball {ball}: {missing} of its {count} certificates are missing"]
    lower, upper = _box(promise, ball)
    if not covered(lower, upper, list(own.values())):
        return [f"ball {ball}: its certificates do not cover it"]
    least = min(margins.get(name, -math.inf) for name in own)
    if -math.inf < least < float(promise.margin[ball]):  # (Else the certificate itself fails.)
        margin = float(promise.margin[ball])
        return [
            f"ball {ball}: its margin is promised as {margin:.4g}, but only {least:.4g} is found"
        ]
    return []


def _differs(promise: Promise, ball: int, certificate: Certificate) -> str:
    """How a certificate of a ball says something else than promised."""
    label, (lower, upper) = int(promise.label[ball]), _box(promise, ball)
    said = certificate.note.get("label", label)
    if said != label:
        return f"is labelled {said}, and the promise says {label}"
    wanted = margin_rows(torch.tensor([label]), certificate.rows.shape[1], torch.float64)[0]
    if not torch.equal(certificate.rows, wanted) or bool((certificate.add != 0).any()):
        return f"claims something else than that the class stays {label}"
    alone = len(promise.certificates[ball]) == 1
    margin = float(promise.margin[ball]) / SHARE
    if certificate.margin < margin or (alone and certificate.margin != margin):
        return f"states the margin {certificate.margin:.4g}, and the promise rests on {margin:.4g}"
    inside = (certificate.lower >= lower - TOLERANCE) & (certificate.upper <= upper + TOLERANCE)
    if certificate.lower.shape != lower.shape or not bool(inside.all()):
        return "speaks of a box that is no part of the ball"
    if alone and not covered(lower, upper, [certificate]):
        return "speaks of a smaller box than the ball that was promised"
    return ""


def _box(promise: Promise, ball: int) -> tuple[Tensor, Tensor]:
    centre, radius = promise.centre[ball].double(), promise.radius[ball]
    return (centre - radius).clamp(0, 1), (centre + radius).clamp(0, 1)


def covered(lower: Tensor, upper: Tensor, certificates: Sequence[Certificate]) -> bool:
    """Whether boxes inside of a box fill it: no two of them overlap, and their volumes add up.

    Args:
        lower, upper: the box, float64, shape of one input.
    """
    if not certificates:
        return False
    low = torch.stack([c.lower for c in certificates]).flatten(1)
    high = torch.stack([c.upper for c in certificates]).flatten(1)
    first, last = lower.flatten(), upper.flatten()
    low = torch.where((low - first).abs() <= TOLERANCE, first, low)
    high = torch.where((high - last).abs() <= TOLERANCE, last, high)
    axes = ((low != first) | (high != last)).any(0).nonzero()[:, 0]
    low, high = low[:, axes], high[:, axes]
    volume = ((high - low) / (last - first)[axes]).prod(1).sum()
    for index in range(1, len(low)):
        apart = (low[:index] >= high[index]) | (high[:index] <= low[index])
        if not bool(apart.any(1).all()):
            return False
    return abs(float(volume) - 1) <= TOLERANCE


def unknown_centres(promise: Promise, batches: Iterable[Batch]) -> list[str]:
    """Balls that are not about an image and its label, a sentence each.

    Args:
        batches: the images that the balls should lie around.
    """
    centres = [centre.tobytes() for centre in promise.centre.flatten(1).numpy()]
    known: dict[bytes, set[int]] = {centre: set() for centre in centres}
    for batch in batches:
        images = batch.images.cpu().flatten(1).numpy()
        for image, label in zip(images, batch.labels.tolist(), strict=True):
            if (name := image.tobytes()) in known:
                known[name].add(label)
    found = []
    for ball, (centre, said) in enumerate(zip(centres, promise.label.tolist(), strict=True)):
        of = known[centre]
        if not of:
            found.append(f"ball {ball}: its centre is no image of the data set")
        elif said not in of:
            found.append(f"ball {ball}: its centre is an image of class {min(of)}, not {said}")
    return found
