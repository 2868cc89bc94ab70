"""DARE, Tables 2 to 5: its columns, its ablations and the five baselines, and what is left of them
under an attacker who knows the tuned model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from suture.report import Drawing
from suture.report.table import Table
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.dare import beyond, columns, earning, heatmaps
from suture.studies.dare.methods import (
    ABLATIONS,
    JUDGED,
    MAIN,
    ONLINE,
    ORIGINAL,
    OURS,
    measure,
    measure_adaptive,
)
from suture.studies.dare.notes import told
from suture.studies.dare.subject import ATTACKS, DarePlan
from suture.studies.paper import printed

_FULL_Q = (75.0, 80.0, 85.0, 90.0, 100.0)


@STUDIES.add("dare-tables")
@dataclass(frozen=True, kw_only=True)
class DareTables(Study):
    """Train on half of the training images; repair with the other half; attack both ways.

    Attributes:
        data: data set.
        networks: zoo names; with ``full`` the paper's AlexNet, VGG16 and VGG19.
        images: training images used, half to train and half to repair; with ``full`` all.
        epochs: of the training; the last half are DARE's historical models.
        looked: images of the other half that every method gets; with ``full`` all of it.
        adversarial: images an attack must turn; with ``full`` 5 000.
        rates: learning rates, each with Adam and SGD.
        tuning_epochs: at most, for every setting.
        limit: points of clean accuracy that may be lost.
        q: further shares of key synapses (95 is DARE's own); with ``full`` 75, 80, … 100.
        autoattack: test images for the attacker who has each model, AutoAttack and more; 0 leaves
            him out.
        online: PGD training and TRADES too.
        seeds: trainings of each network; what is not of the main table is measured on the first.
        earning: the extension that asks the past about attacked images, beside what costs as much.
    """

    title: ClassVar[str] = "DARE beside adversarial fine-tuning"
    paper: ClassVar[str] = printed("dare").citation
    data: str = "cifar10"
    networks: tuple[str, ...] = ("vgg_narrow",)
    images: int = 20_000
    epochs: int = 60
    looked: int = 2_000
    adversarial: int = 1_000
    rates: tuple[float, ...] = (3e-3, 3e-4)
    tuning_epochs: int = 4
    limit: float = 10.0
    q: tuple[float, ...] = (75.0, 85.0, 100.0)
    autoattack: int = 100
    online: bool = True
    seeds: int = 1
    earning: bool = True

    def cells(self) -> list[Cell]:
        """One cell a network and column, one for heatmaps; then AutoAttack, column by column."""
        networks, further = self._networks(), range(1, self.seeds)
        first = [cell for network in networks for cell in self._of(network)]
        return first + [
            cell for network in networks for s in further for cell in self._again(network, s)
        ]

    def _networks(self) -> tuple[str, ...]:
        return (
            tuple(dict.fromkeys((*self.networks, *columns.NETWORKS)))
            if self.full
            else self.networks
        )

    def _of(self, network: str) -> list[Cell]:
        plan = DarePlan(self, network)
        names = [ORIGINAL, OURS, JUDGED, *ATTACKS, *ABLATIONS, *(ONLINE if self.online else ())]
        swept = tuple(dict.fromkeys((*self.q, *_FULL_Q))) if self.full else self.q
        return [
            *(
                Cell(f"{network}-{name}", partial(measure, name, plan))
                for name in (*names, *(f"q={q:g}" for q in swept))
            ),
            Cell(f"{network}-heatmaps", partial(heatmaps.measure, plan)),
            *(
                Cell(f"{network}-{name}-autoattack", partial(measure_adaptive, name, plan))
                for name in (names if self.autoattack else ())
            ),
            *(
                Cell(f"{network}-{name}-earning", partial(earning.measure, name, plan))
                for name in (earning.WAYS if self.earning and self.autoattack else ())
            ),
        ]

    def _again(self, network: str, seed: int) -> list[Cell]:
        """The main table once more, with another training."""
        plan, names = DarePlan(self, network, seed), (ORIGINAL, *MAIN)
        own = {f"{network}-{name}-seed{seed}": name for name in names}
        adaptive = own if self.autoattack else {}
        return [
            *(Cell(key, partial(measure, name, plan)) for key, name in own.items()),
            *(
                Cell(f"{key}-autoattack", partial(measure_adaptive, name, plan))
                for key, name in adaptive.items()
            ),
        ]

    def tables(self, rows: list[Row]) -> list[Table]:
        """A network after the other; first the seeds together, then the first one's tables."""
        found = list[Table]()
        for network in self._networks():
            own = _own(rows, network)
            found += [
                *beyond.over_seeds(network, own),
                *columns.tables(network, _first(own), self.data),
            ]
        return found

    def figures(self, rows: list[Row]) -> list[Drawing]:
        """Grad-CAM before and after."""
        found = [heatmaps.drawing(n, _first(_own(rows, n))) for n in self._networks()]
        return [one for one in found if one is not None]

    def notes(self, rows: list[Row]) -> list[str]:
        """What was won, under both protocols, and what differs from the paper."""
        return told({network: _first(_own(rows, network)) for network in self._networks()})


def _own(rows: list[Row], network: str) -> list[Row]:
    return [row for row in rows if row["cell"].startswith(f"{network}-")]


def _first(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.get("seed")]
