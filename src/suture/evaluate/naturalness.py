"""How far, how many, how natural, how even: what sparse attacks are compared by (AIGENT, Table I).

The published FID is a Fréchet distance of some features; on raw pixels it needs no downloads, and
whatever features were used has to be said beside the number. The published Pielou score drops the
sign and the normaliser; this one lies in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suture import models
from suture.attacks.geometry import distance
from suture.errors import ArgumentError


def frechet(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features.

    ``|μ₁ - μ₂|² + tr(S₁ + S₂ - 2 (S₁ S₂)^½)`` (Dowson & Landau 1982). With S = AᵀA for the centred
    features A, ``tr (S₁ S₂)^½`` is the sum of the singular values of A₁ A₂ᵀ: exact, also where
    there are fewer examples than features.

    Args:
        one, other: ``(n, d)`` and ``(m, d)``; images are flattened. At least two of each.

    Raises:
        ArgumentError: other shapes.
    """
    left, right = (part.detach().flatten(1).double().cpu() for part in (one, other))
    if min(len(left), len(right)) < 2 or left.shape[1] != right.shape[1]:
        raise ArgumentError(
            expected="two sets of at least two examples with features of one length",
            got=f"shapes {tuple(left.shape)} and {tuple(right.shape)}",
            remedy="Give more examples; a distance of distributions needs a spread.",
        )
    means = (left.mean(0) - right.mean(0)).square().sum()
    left, right = ((part - part.mean(0)) / (len(part) - 1) ** 0.5 for part in (left, right))
    shared = torch.linalg.svdvals(left @ right.T).sum()
    spread = left.square().sum() + right.square().sum() - 2.0 * shared
    return max(0.0, float(means + spread))


def features(model: nn.Module, images: Tensor, at: str = "penultimate") -> Tensor:
    """What a classifier computes in front of a cut, ``(n, d)``: features for ``frechet``.

    Args:
        model: any classifier that can be cut; ``inception()`` for the usual FID's features.
        images: ``(n, c, h, w)``.
        at: where to cut.
    """
    channels, height, width = images.shape[1:]
    encoder = models.cut(model, at=at, in_shape=(channels, height, width)).encoder
    with torch.no_grad():
        parts = [encoder(piece).flatten(1) for piece in images.split(64)]
    return torch.cat(parts)


def inception() -> nn.Module:
    """torchvision's Inception v3 with its ImageNet weights, where they are or can be fetched.

    Raises:
        ModelError: its weights are not on this machine and cannot be fetched.
    """
    return models.load("torchvision:inception_v3", weights="pretrained")


def pielou(predictions: Tensor, classes: int) -> float:
    """Pielou's evenness of the predicted classes: ``-Σ p log p / log(classes)``, in [0, 1].

    >>> pielou(torch.tensor([0, 1, 2, 3]), 4)
    1.0
    """
    if classes < 2 or not len(predictions):
        return 0.0
    shares = torch.bincount(predictions.cpu(), minlength=classes).double() / len(predictions)
    some = shares[shares > 0]
    entropy = -(some * some.log()).sum() / torch.log(torch.tensor(float(classes)).double())
    return float(entropy.abs())


def changes(clean: Tensor, attacked: Tensor) -> dict[str, float]:
    """Median and maximum of pixels changed, L2 and L∞; channel values too ("values").

    Args:
        clean, attacked: ``(n, c, h, w)``, n >= 1.
    """
    delta = attacked - clean
    measures = {
        "pixels": distance("l0", delta),
        "values": (delta != 0).flatten(1).sum(1).to(delta.dtype),
        "l2": distance("l2", delta),
        "linf": distance("linf", delta),
    }
    found = {}
    for name, values in measures.items():
        found[f"{name}_median"] = float(values.double().quantile(0.5))
        found[f"{name}_max"] = float(values.max())
    return found


def transferred(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """How many of the images a model gets wrong: those that fool it too."""
    with torch.no_grad():
        said = torch.cat([model(piece).argmax(1) for piece in images.split(256)])
    return int((said != labels).sum())
