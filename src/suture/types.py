"""Plain frozen data with shapes: what flows from package to package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from suture.errors import ArgumentError, DataError

Norm = Literal["linf", "l2", "l1", "l0"]
Knowledge = Literal["black-box", "white-box"]

OnDone = Callable[[int, int], None]
"""Told about work of one kind: ``on_done(finished, total)``."""
OnProgress = Callable[[str, int, int], None]
"""Told about work in stages: ``on_progress(stage, finished, total)``."""


def untold(stage: str, finished: int, total: int) -> None:
    """The ``OnProgress`` of those who want to hear nothing."""


NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")


@dataclass(frozen=True, eq=False)
class Batch:
    """Images with their labels.

    Args:
        images: float32 ``(n, channels, height, width)``, values in [0, 1].
        labels: int64 ``(n,)``, each at least 0.

    Raises:
        DataError: for a wrong type, shape, range, a NaN, or an empty set.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_labels(self.labels, len(self.images))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Batch:
        """The chosen examples as a batch of their own."""
        return Batch(self.images[index], self.labels[index])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(self.images.to(device), self.labels.to(device))

    def select(self, chosen: Tensor) -> Batch:
        """Those of a bool mask or of positions."""
        return self[chosen]

    def split(self, size: int) -> Iterator[Batch]:
        """Consecutive pieces of at most ``size`` examples."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def feed(self, pieces: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch for each piece's positions, int64."""
        return (self[positions] for positions in pieces)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    @property
    def known(self) -> str:
        """Empty: tensors are named by their pixels."""
        return ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of one image."""
        channels, height, width = self.images.shape[1:]
        return int(channels), int(height), int(width)

    @staticmethod
    def concat(parts: list[Batch]) -> Batch:
        """The parts one after another."""
        images = torch.cat([part.images for part in parts])
        return Batch(images, torch.cat([part.labels for part in parts]))


class LabelledImages(Protocol):
    """Images with their labels that are looked at in pieces, however many there are.

    A ``Batch`` is one, held as a tensor. A ``Split`` of a data set is another: its images lie on
    disk, and are decoded when somebody asks for them. Both can be sent to another process.
    """

    @property
    def labels(self) -> Tensor:
        """int64 ``(n,)``; they may lie on another device than the batches."""

    @property
    def images(self) -> Tensor:
        """All of them, ``(n, c, h, w)``. Of a split only where they fit: else an error."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of one image."""

    @property
    def device(self) -> torch.device:
        """Where the batches are."""

    @property
    def known(self) -> str:
        """Names the images, where that is cheaper than all their pixels; else empty."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Tensor | list[int], /) -> Batch:
        """The chosen images, decoded."""

    def select(self, chosen: Tensor) -> LabelledImages:
        """Those of a bool mask or of positions, not decoded yet."""

    def split(self, size: int) -> Iterator[Batch]:
        """Consecutive batches of at most ``size`` images."""

    def feed(self, pieces: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch for each piece's positions, int64, in that order; decoded ahead."""

    def to(self, device: torch.device | str) -> LabelledImages:
        """The same with batches on another device."""


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise DataError(
            expected="images as a torch.Tensor",
            got=type(images).__name__,
            remedy="Convert with torch.as_tensor(images).",
        )
    if images.ndim != 4:
        raise DataError(
            expected="images of shape (n, channels, height, width)",
            got=f"shape {tuple(images.shape)}",
            remedy="Add the missing axis, for example images[:, None] for grey images.",
        )
    if images.numel() == 0:
        raise DataError(
            expected="at least one image with at least one pixel",
            got=f"shape {tuple(images.shape)}",
            remedy="Check the path, the split and the number of images asked for.",
        )
    if images.dtype != torch.float32:
        raise DataError(
            expected="float32 images in [0, 1]",
            got=str(images.dtype).removeprefix("torch."),
            remedy="Convert with images.float(), and divide by 255 if they are bytes.",
        )
    low, high = (float(v) for v in torch.aminmax(images.detach()))
    if low != low or high != high:
        raise DataError(
            expected="images without NaN",
            got="at least one NaN pixel",
            remedy="Find the broken file and remove or repair it.",
        )
    if low < 0.0 or high > 1.0:
        raise DataError(
            expected="pixel values in [0, 1]",
            got=f"values from {low:g} to {high:g}",
            remedy="Divide by 255, or undo the normalisation: its mean and std go to the model "
            "(suture.wrap, or --mean and --std).",
        )


def _check_labels(labels: Tensor, count: int) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (count,):
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, Tensor)
            else type(labels).__name__
        )
        raise DataError(
            expected=f"labels as int64 of shape ({count},), one per image",
            got=got,
            remedy="Convert with torch.as_tensor(labels, dtype=torch.int64).",
        )
    if int(labels.min()) < 0:
        raise DataError(
            expected="labels of at least 0",
            got=f"the label {int(labels.min())}",
            remedy="Number the classes 0, 1, 2, …",
        )


def check_classes(labels: Tensor, classes: int) -> None:
    """Raise ``DataError`` unless every label is below the model's number of classes."""
    highest = int(labels.max())
    if highest >= classes:
        raise DataError(
            expected=f"labels from 0 to {classes - 1}, for a model with {classes} classes",
            got=f"the label {highest}",
            remedy="Use the data set the model was made for, or a model with more classes.",
        )


class Noise(Protocol):
    """What a classifier that votes does to every copy of an image before it is classified."""

    @property
    def facts(self) -> dict[str, Any]:
        """Its name and its settings, ready for JSON."""
        raise NotImplementedError

    def copies(self, images: Tensor, keys: Tensor) -> Tensor:
        """A noisy copy for each key, a function of it and the image alone.

        Args:
            images: ``(n, c, h, w)``, or one ``(1, c, h, w)`` for all keys.
            keys: int64 ``(n,)``, random bits.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Voting:
    """A classifier that answers with the class that most noisy copies of the image get.

    Attributes:
        base: classifies the copies.
        noise: makes them.
        n0: copies that choose the class to be certified.
        n: copies that bound its share.
        alpha: chance that a certificate is wrong, over the draw of its copies.
    """

    base: nn.Module
    noise: Noise
    n0: int
    n: int
    alpha: float


class RepairedModel(nn.Module):
    """What a repaired classifier tells whoever attacks, measures or certifies it.

    A repair returns one of these, or the architecture it was given with other weights. Whoever
    knows the defence knows all that is said here; only the draw of a randomised one is hidden
    from him. A model of your own that draws at random need not be one: ``randomised = True`` and
    ``forward(images, noise=None)`` are enough (see ``described``).
    """

    def undefended(self) -> nn.Module:
        """The classifier without its defence; may share this one's weights."""
        raise NotImplementedError

    @property
    def randomised(self) -> bool:
        """Whether two forwards of one image may differ.

        If so, ``forward(images, noise=None)`` takes int64 ``(n,)``, 64 random bits per image that
        decide the draw; without them the module draws by itself. Attacks pass each image's own
        bits, so that results do not depend on batch or order.
        """
        return False

    def support(self) -> tuple[tuple[float, nn.Module], ...]:
        """The deterministic classifiers that it draws from, with their probabilities.

        Empty for a deterministic model, and for one with no finite number of them.
        """
        return ()

    def odds(self) -> tuple[float, ...]:
        """The probabilities of the support's classifiers, in its order.

        To be overridden where that is cheaper than the classifiers themselves.
        """
        return tuple(probability for probability, _ in self.support())

    def each(self, images: Tensor) -> Tensor:
        """Logits ``(k, n, classes)`` under each of the k classifiers of the support, in its order.

        To be overridden where they share work.
        """
        return torch.stack([member(images) for _, member in self.support()])

    def average(self, images: Tensor, noise: Tensor) -> Tensor:
        """Mean logits ``(n, classes)`` over draws, ``noise`` int64 ``(draws, n)``."""
        total = self(images, noise=noise[0])
        for draw in noise[1:]:
            total = total + self(images, noise=draw)
        return total / len(noise)  # type: ignore[no-any-return]

    def surrogates(self) -> dict[str, nn.Module]:
        """Models whose gradients an attacker follows where this one's own lead nowhere, by name.

        What he finds on them is judged on this one (Athalye et al. 2018, section 4).
        """
        return {}

    def preemptive(self) -> tuple[nn.Module, nn.Module] | None:
        """For a defence that moves images first: what moves them, and what classifies them then.

        An attacker may stand before the one, or between the two.
        """
        return None

    def handed_on(self, images: Tensor, labels: Tensor) -> Tensor:
        """The images as the second part of ``preemptive`` gets them; as they are without parts.

        To be overridden where what moves them knows their classes.

        Args:
            images: ``(n, c, h, w)``.
            labels: int64 ``(n,)``, the true classes.
        """
        parts = self.preemptive()
        if parts is None:
            return images
        with torch.no_grad():
            return torch.cat([parts[0](piece) for piece in images.split(256)])

    @property
    def searched_before(self) -> bool:
        """Whether an attacker before the move can search through the whole model.

        Where he cannot (the move is a search itself, and needs what he does not give), images that
        were attacked on the undefended model are handed on instead.
        """
        return True

    def variants(self) -> dict[str, RepairedModel]:
        """Ways to use it that are measured each by itself, by name; empty if there is one alone."""
        return {}

    def certify_parts(self, lower: Tensor, upper: Tensor) -> list[nn.Module]:
        """Every network that may answer for an input of the box (shape of one input)."""
        return [self]

    def certified_part(self) -> nn.Module:
        """The network whose inputs certificates speak of."""
        return self

    def voting(self) -> Voting | None:
        """For a classifier that votes over noisy copies: what is certified by counting them."""
        return None

    def about_answers(self, images: Tensor, noise: Tensor | None = None) -> list[str]:
        """For each image, in words, what of the defence answers; empty where nothing is to tell.

        Args:
            images: ``(n, c, h, w)``.
            noise: int64 ``(n,)``, the bits of a forward whose draw this is.
        """
        return [""] * len(images)

    def about_attacks(self) -> str:
        """What must be said with the result of an attack on this model; empty for nothing."""
        return ""


class _Foreign(RepairedModel):
    """Somebody else's module, described as far as it says something about itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._held = (model,)

    def undefended(self) -> nn.Module:
        return self._held[0]

    @property
    def randomised(self) -> bool:
        return bool(getattr(self._held[0], "randomised", False))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        model = self._held[0]
        return model(images) if noise is None else model(images, noise=noise)  # type: ignore[no-any-return]

    def certify_parts(self, lower: Tensor, upper: Tensor) -> list[nn.Module]:
        return [self._held[0]]

    def certified_part(self) -> nn.Module:
        return self._held[0]


def described(model: nn.Module) -> RepairedModel:
    """What a model tells about itself: the only place that asks how a foreign module draws."""
    return model if isinstance(model, RepairedModel) else _Foreign(model)


def is_randomised(model: nn.Module) -> bool:
    """Whether a model draws at random in its forward pass and takes the draw as an argument."""
    return described(model).randomised


BEFORE = "suture_before"


def remember(model: nn.Module, before: nn.Module) -> nn.Module:
    """Hang the classifier that a repair was given on what it made of it; returns ``model``.

    It is no submodule: it has no part in the model's parameters, modes and state dict. Bundles
    keep it.
    """
    model.__dict__[BEFORE] = (before,)
    return model


def remembered(model: nn.Module) -> nn.Module | None:
    """The classifier that ``remember`` hung on it, ``None`` if nobody did."""
    (before,) = model.__dict__.get(BEFORE, (None,))
    return before  # type: ignore[no-any-return]


def undefended_of(model: nn.Module) -> nn.Module | None:
    """The classifier that a repaired one was made from; ``None`` where nobody repaired it."""
    before = remembered(model)
    if before is None:
        return model.undefended() if isinstance(model, RepairedModel) else None
    device = next((t.device for t in (*model.parameters(), *model.buffers())), None)
    return before if device is None else before.to(device)


def stages_of(model: nn.Module) -> list[nn.Module]:
    """The classifiers between the repairs of a chain: without the last repair, the last two, ….

    The classifier before all of them is not among them: that is ``undefended_of(model)``.
    """
    found: list[nn.Module] = []
    inner = model
    while isinstance(inner, RepairedModel):
        inner = inner.undefended()
        found.append(inner)
    return found if remembered(model) is not None else found[:-1]


def check_linf(eps: float) -> None:
    """Raise ``ArgumentError`` for an L∞ radius above 1, saying which fraction was meant."""
    if 1 < eps < float("inf"):
        raise ArgumentError(
            expected="an L∞ radius of at most 1, since pixel values lie in [0, 1]",
            got=f"eps={eps!r}",
            remedy=f"Grey levels are divided by 255: {eps:g}/255 = {eps / 255:.4g}.",
        )


@dataclass(frozen=True, eq=False)
class Box:
    """An axis-aligned region ``lower <= x <= upper``; both tensors have the same shape."""

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise ArgumentError(
                expected="lower and upper of one shape",
                got=f"{tuple(self.lower.shape)} and {tuple(self.upper.shape)}",
                remedy="Broadcast one to the other first.",
            )
        if not bool((self.lower <= self.upper).all()):
            raise ArgumentError(
                expected="lower <= upper everywhere, without NaN",
                got="at least one empty or NaN interval",
                remedy="Swap the bounds, or check the radius.",
            )

    @staticmethod
    def around(images: Tensor, eps: float) -> Box:
        """The L∞ ball of radius ``eps`` around images, clipped to [0, 1]."""
        check_linf(eps)
        return Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may do.

    Args:
        norm: "linf", "l2", "l1", or "l0" (number of pixels).
        eps: radius in that norm, pixel values in [0, 1]; ``inf`` for unbounded.
        queries: forwards per image the attacker may spend, ``None`` for no limit.
        knowledge: "black-box" (scores only) or "white-box" (gradients).
        targeted: whether a given class must be reached.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    queries: int | None = None
    knowledge: Knowledge = "white-box"
    targeted: bool = False

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ArgumentError(
                expected=f"a norm out of {', '.join(NORMS)}",
                got=repr(self.norm),
                remedy='For example norm="linf".',
            )
        if not self.eps >= 0:
            raise ArgumentError(
                expected="a radius eps >= 0",
                got=f"eps={self.eps!r}",
                remedy="Radii are in pixel units of [0, 1]: 8 grey levels are 8/255.",
            )
        if self.norm == "linf":
            check_linf(self.eps)
