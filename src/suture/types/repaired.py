"""What a repaired classifier tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


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
