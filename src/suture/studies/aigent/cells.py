"""AIGENT, Table I: MNIST and CIFAR-10 on the authors' own networks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from suture import data
from suture.report import Drawing
from suture.report.table import Table
from suture.rng import Stream
from suture.studies.aigent import columns
from suture.studies.aigent.measuring import SEARCHES, first_of_each, measured, rivals
from suture.studies.aigent.pictures import pictures
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.networks import in_folder, network
from suture.studies.paper import printed
from suture.types import Batch

_REFERENCES = 2000
"""Training images whose classes' means linear bounds are made round."""


@dataclass(frozen=True, kw_only=True)
class _ImageStudy(Study):
    """Every attack on every network.

    Attributes:
        networks: of the data folder.
        only: names of rows, all if empty.
    """

    paper: ClassVar[str] = printed("aigent").citation
    dataset: ClassVar[str]
    radii: ClassVar[tuple[float, float, int]]
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
        rows = [*SEARCHES, *rivals(*self.radii, queries=1000)]
        names = [name for name in rows if self.only == ("",) or name in self.only]
        return [
            Cell(f"{net}/{what}", partial(_measure, self, net, what))
            for net in self.nets
            for what in names
        ]

    def _by_network(self, rows: list[Row]) -> dict[str, list[Row]]:
        return {net: [row for row in rows if row["network"] == net] for net in self.nets}

    def tables(self, rows: list[Row]) -> list[Table]:
        """One for each network."""
        by_net = self._by_network(rows)
        made = [columns.table_1(net, own, self.dataset) for net, own in by_net.items() if own]
        chains = [columns.chains(net, own) for net, own in by_net.items()]
        return made + [table for table in chains if table is not None]

    def figures(self, rows: list[Row]) -> list[Drawing]:
        """AIGENT's first images on each network."""
        found = [pictures(net, own) for net, own in self._by_network(rows).items()]
        return [one for one in found if one is not None]

    def notes(self, rows: list[Row]) -> list[str]:
        """How many images were left out; alarms."""
        return [
            f"{net}: {note}"
            for net, own in self._by_network(rows).items()
            for note in columns.warnings(own)
        ]


def _measure(study: _ImageStudy, net: str, what: str, stream: Stream) -> list[Row]:
    others = tuple(
        str(in_folder("nets", f"{other}.onnx")) for other in study.networks if other != net
    )
    references = data.load(study.dataset).train.batch(_REFERENCES)
    rows = measured(what, study.radii, network(net), study.batch(), stream, others, references)
    return [{"network": net, **row} for row in rows]


@STUDIES.add("aigent-mnist")
@dataclass(frozen=True, kw_only=True)
class AigentMnist(_ImageStudy):
    """The first ``per_class`` MNIST test images of every class (the paper's Pielou set).

    Attributes:
        per_class: images of each class; all 10 000 with ``full``.
    """

    title: ClassVar[str] = "AIGENT, Table I: MNIST"
    dataset: ClassVar[str] = "mnist"
    radii: ClassVar[tuple[float, float, int]] = (0.3, 0.1, 24)
    networks: tuple[str, ...] = ("aigent_mnist_mlp8x16", "aigent_mnist_mlp6x50")
    per_class: int = 60

    def batch(self) -> Batch:
        """Test images, as many of each class."""
        test = data.load(self.dataset).test
        return test.batch() if self.full else first_of_each(test, self.per_class)


@STUDIES.add("aigent-fashion")
@dataclass(frozen=True, kw_only=True)
class AigentFashion(_ImageStudy):
    """The first ``per_class`` Fashion-MNIST test images of every class; the paper has none.

    The networks are convolutional: one trained plainly, one for proofs (Wong & Kolter 2018).

    Attributes:
        per_class: images of each class; all 10 000 with ``full``.
    """

    title: ClassVar[str] = "AIGENT on Fashion-MNIST"
    dataset: ClassVar[str] = "fashion-mnist"
    radii: ClassVar[tuple[float, float, int]] = (0.1, 0.1, 24)
    networks: tuple[str, ...] = ("abcrown_homework_fashion_cnn", "kw_fashion_mnist")
    per_class: int = 60

    def batch(self) -> Batch:
        """Test images, as many of each class."""
        test = data.load(self.dataset).test
        return test.batch() if self.full else first_of_each(test, self.per_class)


@STUDIES.add("aigent-cifar")
@dataclass(frozen=True, kw_only=True)
class AigentCifar(_ImageStudy):
    """The first ``n`` pixel-exact CIFAR-10 test images.

    Attributes:
        n: images; those beyond the first 100 were chosen by verifiers (see the data set's notes).
    """

    title: ClassVar[str] = "AIGENT, Table I: CIFAR-10"
    dataset: ClassVar[str] = "cifar10-exact"
    radii: ClassVar[tuple[float, float, int]] = (8 / 255, 0.1, 12)
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
