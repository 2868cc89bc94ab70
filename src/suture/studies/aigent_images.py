"""AIGENT, Table I: MNIST and CIFAR-10 on the authors' own networks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from suture import data
from suture.report import Drawing
from suture.rng import Stream
from suture.studies.aigent import (
    CAPTION,
    OURS,
    attacks,
    first_of_each,
    measured,
    network,
    pictures,
    table,
    warnings,
)
from suture.studies.base import Cell, Row, Study
from suture.studies.sheets import Sheet
from suture.types import Batch

_PAPER = "Khan, Madhukar & Sharma, Efficient Adversarial Input Generation via Neural Net Patching"


@dataclass(frozen=True, kw_only=True)
class _Images(Study):
    """Every attack on every network.

    Attributes:
        networks: of the data folder.
        only: names of rows, all if empty.
    """

    dataset: ClassVar[str]
    radii: ClassVar[tuple[float, float, int]]
    printed: ClassVar[dict[str, str]]
    networks: tuple[str, ...]
    only: tuple[str, ...] = ("",)

    @abstractmethod
    def batch(self) -> Batch:
        """The images."""

    @property
    def nets(self) -> tuple[str, ...]:
        """The networks that are attacked."""
        return self.networks

    def cells(self) -> list[Cell]:
        """One cell an attack and network."""
        names = [name for name in attacks(*self.radii) if self.only == ("",) or name in self.only]
        return [
            Cell(f"{net}/{what}", partial(_measure, self, net, what))
            for net in self.nets
            for what in names
        ]

    def sheets(self, rows: list[Row]) -> list[Sheet]:
        """A table for each network."""
        by_net = {net: [row for row in rows if row["network"] == net] for net in self.nets}
        return [table(net, own, self.printed, CAPTION) for net, own in by_net.items() if own]

    def figures(self, rows: list[Row]) -> list[Drawing]:
        """AIGENT's first images on each network."""
        found = [pictures(net, [r for r in rows if r["network"] == net]) for net in self.nets]
        return [one for one in found if one is not None]

    def notes(self, rows: list[Row]) -> list[str]:
        """How many images were left out; alarms."""
        return [
            f"{net}: {note}"
            for net in self.nets
            for note in warnings([row for row in rows if row["network"] == net])
        ]


def _measure(study: _Images, net: str, what: str, stream: Stream) -> list[Row]:
    attack = attacks(*study.radii)[what]
    rows = measured(what, attack, network(net), study.batch(), stream)
    return [{"network": net, **row} for row in rows]


@dataclass(frozen=True, kw_only=True)
class AigentMnist(_Images):
    """The first ``per_class`` MNIST test images of every class (the paper's Pielou set).

    Attributes:
        per_class: images of each class; all 10 000 with ``full``.
    """

    name: ClassVar[str] = "aigent-mnist"
    title: ClassVar[str] = "AIGENT, Table I: MNIST"
    paper: ClassVar[str] = _PAPER
    dataset: ClassVar[str] = "mnist"
    radii: ClassVar[tuple[float, float, int]] = (0.3, 0.1, 24)
    printed: ClassVar[dict[str, str]] = {
        OURS: "91.4 % (72 % strict), 24 pixels, 1.8 s",
        "FGSM": "99.0 %, 784 pixels, 0.069 s",
        "AutoAttack": "98.4 %, 616 pixels, 0.2 s",
    }
    networks: tuple[str, ...] = ("aigent_mnist_mlp8x16", "aigent_mnist_mlp6x50")
    per_class: int = 60

    def batch(self) -> Batch:
        """Test images, as many of each class."""
        test = data.load(self.dataset).test
        return test.batch() if self.full else first_of_each(test, self.per_class)


@dataclass(frozen=True, kw_only=True)
class AigentCifar(_Images):
    """The first ``n`` pixel-exact CIFAR-10 test images.

    Attributes:
        n: images; those beyond the first 100 were chosen by verifiers (see the data set's notes).
    """

    name: ClassVar[str] = "aigent-cifar"
    title: ClassVar[str] = "AIGENT, Table I: CIFAR-10"
    paper: ClassVar[str] = _PAPER
    dataset: ClassVar[str] = "cifar10-exact"
    radii: ClassVar[tuple[float, float, int]] = (8 / 255, 0.1, 12)
    printed: ClassVar[dict[str, str]] = {
        OURS: "100 %, 12 pixels, 12 s",
        "FGSM": "100 %, 3072 pixels, 0.079 s",
        "AutoAttack": "57.6 %, 588 pixels, 0.2 s",
    }
    networks: tuple[str, ...] = ("aigent_cifar_mlp5x50", "sdp_cifar_cnn_a_adv")
    n: int = 240

    @property
    def nets(self) -> tuple[str, ...]:
        """With ``full`` the authors' convolutional network too, which takes most of an hour."""
        larger = "aigent_cifar_cnn_autoattack"
        return (*self.networks, larger) if self.full else self.networks

    def batch(self) -> Batch:
        """The first test images."""
        test = data.load(self.dataset).test
        return test.batch() if self.full else test.batch(self.n)
