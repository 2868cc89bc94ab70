"""Which radii a cell of the A5 studies is about, and which ones the paper's tables hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

RECIPES = ("CROWN-IBP", "R", "RC", "O")
"""In the order in which they are made."""


@dataclass(frozen=True)
class Radii:
    """One setting; all are L∞, pixel values in [0, 1].

    Attributes:
        attack: ε_A, what the test images meet.
        classifier: ε_A^C, what C was trained for; 0 is natural training.
        robustifier: ε_A^R, what R was trained for, and O's images are moved for.
        defence: ε_D; ``None`` where nothing is moved.
    """

    attack: float
    classifier: float
    robustifier: float
    defence: float | None

    @property
    def diagonal(self) -> bool:
        """Whether all three attacks are one."""
        return self.attack == self.classifier == self.robustifier

    def key(self, recipe: str) -> str:
        """A cell's; what is as usual is not said."""
        text = f"eps={self.attack:.4g}-{recipe}"
        if not self.diagonal:
            text += f"-eps_c={self.classifier:.4g}-eps_r={self.robustifier:.4g}"
        return text if self.defence is None else f"{text}-eps_d={self.defence:.4g}"

    def row(self) -> dict[str, float | None]:
        """For a row of the study."""
        return {
            "eps": self.attack,
            "eps_c": self.classifier,
            "eps_r": self.robustifier,
            "eps_d": self.defence,
        }


@dataclass(frozen=True)
class RadiiGrid:
    """All combinations that a table holds.

    Attributes:
        attacks, classifiers, defences: as in ``Radii``; no classifiers: each attack's own.
        robustifiers: none: each attack's own.
        tuned: whether RC also stands with ε_D = 0, C tuned by ε_A^R (Table 8, first row).
    """

    attacks: tuple[float, ...]
    defences: tuple[float, ...]
    classifiers: tuple[float, ...] = ()
    robustifiers: tuple[float, ...] = ()
    tuned: bool = False

    def cells(self) -> Iterator[tuple[str, Radii]]:
        """Recipe and radii; what others need comes first. Some come more than once."""
        for defence in self.defences:
            for attack in self.attacks:
                for classifier in self.classifiers or (attack,):
                    yield from self._of(attack, classifier, defence)

    def _of(self, attack: float, classifier: float, defence: float) -> Iterator[tuple[str, Radii]]:
        yield "CROWN-IBP", Radii(attack, classifier, attack, None)
        for robustifier in self.robustifiers or (attack,):
            for recipe in RECIPES[1:]:
                yield recipe, Radii(attack, classifier, robustifier, defence)
            if self.tuned:
                yield "RC", Radii(attack, classifier, robustifier, 0.0)


_GREY = tuple(value / 255 for value in (4, 8, 16, 32))
MNIST = RadiiGrid(
    attacks=(0.3, 0.1),
    classifiers=(0.3, 0.1, 0.2, 0.4, 0.0),
    defences=(0.3, 0.1, 0.2, 0.4, 0.05),
)
"""Tables 2 to 5."""
CIFAR = RadiiGrid(
    attacks=(8 / 255,), robustifiers=_GREY[1::-1] + _GREY[2:3], defences=_GREY[::-1], tuned=True
)
"""Tables 6 to 8."""
