"""The other columns of AdvRepair's Tables 1 and 3: repairs that the paper compares itself with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from suture.attacks import PGD
from suture.data import Dataset
from suture.engine.threads import torch_threads
from suture.errors import require
from suture.repairs import APRNN, ART, CARE, PRDNN, REASSURE, TRADES, AdvRepair, RepairResult
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages, fooled_images
from suture.repairs.point_repair import PointRepair
from suture.rng import Stream
from suture.studies.advrepair import baseline_columns, measuring
from suture.studies.advrepair.cells import dataset_of, network_of
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.paper import printed
from suture.types import Batch

METHODS = ("care", "prdnn", "aprnn", "reassure", "trades", "art", "advrepair")
"""Table 1's columns."""
PATCHES: dict[str, dict[str, Any]] = {
    "advrepair": {},
    "advrepair-large": {"patch": "large"},
    "advrepair-labels": {"guidance": "untargeted"},
    "advrepair-labels-large": {"patch": "large", "guidance": "untargeted"},
    "advrepair-one": {"guidance": "one", "rounds": 20, "split": 20},
    "advrepair-one-unsplit": {"guidance": "one", "rounds": 1, "epochs": 200},
    "advrepair-one-constant": {"guidance": "one", "patch": "constant", "rounds": 1, "epochs": 200},
}
"""Table 5's columns: PS, PL, LS, LL."""
_SIZES = (50, 100, 200, 500, 1000)


@STUDIES.add("advrepair-baselines")
@dataclass(frozen=True, kw_only=True)
class AdvRepairBaselines(Study):
    """Every method repairs the same n adversarial inputs of a network.

    Attributes:
        networks: zoo names, trained here.
        radii: r.
        sizes: n; with ``full`` the paper's 50 … 1 000.
        methods: the columns of Table 1; ``advrepair-large``, ``advrepair-labels`` and
            ``advrepair-labels-large`` are those of Table 5; ``advrepair-one`` has one patch for
            all inputs, ``-unsplit`` trains it without Algorithm 1, ``-constant`` reads nothing.
        data: data set.
        epochs: of training the network.
        attacked: balls, and test images, that are attacked for DSR and DGSR; 0 for none.
        tier: how much that attacker tries: "quick", "standard" (AutoAttack is a part of it).
        seconds: wall time that PRDNN and APRNN may take a layer, and REASSURE a region.
        trades_epochs: of TRADES, on the n clean images.
    """

    title: ClassVar[str] = "AdvRepair's baselines on MNIST"
    paper: ClassVar[str] = printed("advrepair").citation
    networks: tuple[str, ...] = ("fnn_small", "fnn_big", "cnn")
    radii: tuple[float, ...] = (0.05, 0.1, 0.3)
    sizes: tuple[int, ...] = (50,)
    methods: tuple[str, ...] = METHODS
    data: str = "mnist"
    epochs: int = 2
    attacked: int = 0
    tier: str = "quick"
    seconds: float = 300.0
    trades_epochs: int = 200

    def __post_init__(self) -> None:
        known = set(METHODS) | set(PATCHES)
        named = f"methods out of {', '.join(sorted(known))}"
        require({named: set(self.methods) <= known}, self, "Correct the name.")

    def cells(self) -> list[Cell]:
        """One cell a network, radius, number of inputs and method."""
        sizes = tuple(dict.fromkeys((*self.sizes, *_SIZES))) if self.full else self.sizes
        return [
            Cell(f"{place(name, r, n)}-{method}", partial(_measure, self, name, r, n, method))
            for n in sizes
            for name in self.networks
            for r in self.radii
            for method in self.methods
        ]

    tables = staticmethod(baseline_columns.tables)
    notes = staticmethod(baseline_columns.notes)


def place(name: str, radius: float, n: int) -> str:
    """The cell of ``advrepair-mnist`` whose inputs, at seed 0, all methods get."""
    return f"{name}-r={radius:g}-n={n}"


def _measure(
    study: AdvRepairBaselines, name: str, radius: float, n: int, method: str, stream: Stream
) -> list[Row]:
    with torch_threads(1):  # small networks gain nothing from several
        model = network_of(name, study.data, study.epochs)
        dataset, attack = dataset_of(study.data), PGD(eps=radius)
        inputs = Stream(0).child(place(name, radius, n))
        train = dataset.train.batch()
        context = Context.of(inputs.child("balls"))
        found = fooled_images(attack, n, model, train, context)
        facts: Row = {"network": name, "r": radius, "size": n, "method": method}
        facts |= {"found": len(found.images), "tried": found.tried}
        if found.clean is None:
            return [facts]
        started, spent = time.perf_counter(), time.process_time()
        result = _repaired(study, method, attack, model, found, train, stream.child("repair"))
        facts |= {
            "seconds": round(time.perf_counter() - started, 3),
            "cpu_seconds": round(time.process_time() - spent, 3),
            "status": result.status.name.lower(),
        }
        others = measuring.other_samples(model, found.clean, attack, inputs.child("others"))
        fixed = result.model
        facts |= measuring.repaired_rates(fixed, found.images, found.clean.labels, others)
        facts |= measuring.accuracy_lost(model, fixed, dataset.test.batch())
        facts |= {key: result.trace[key] for key in _TOLD if key in result.trace}
        tried = result.trace["layers"] if method in ("prdnn", "aprnn") else []
        facts["layers"] = "; ".join(f"{row['layer']} {row['status']}" for row in tried)
        return [facts | _left(study, fixed, found.clean, dataset, radius)]


_TOLD = ("proved", "rounds", "boxes", "layer", "largest_gap", "sharpness", "epochs")


def _repaired(
    study: AdvRepairBaselines,
    method: str,
    attack: PGD,
    model: nn.Module,
    found: FooledImages,
    train: Batch,
    stream: Stream,
) -> RepairResult:
    """One method, told of the same inputs as the others."""
    assert found.clean is not None, "there is something to repair"
    context = Context.of(stream)
    if method in PATCHES:
        how = AdvRepair(attack=attack, samples=len(found.images), shared=0, **PATCHES[method])
        return how.of_fooled(model, found, context)
    if method == "trades":
        return context.run(_trades(attack.eps, study.trades_epochs), model, found.clean)
    given: dict[str, Any] = {"attack": attack, "samples": len(found.images)}
    limited = given | {"seconds": study.seconds}
    made: dict[str, PointRepair] = {
        "care": CARE(**given),
        "prdnn": PRDNN(**limited),
        "aprnn": APRNN(**limited),
        "reassure": REASSURE(**limited),
        "art": ART(**given),
    }
    return made[method].of_fooled(model, found, train, context)


def _trades(eps: float, epochs: int) -> TRADES:
    """With its authors' settings for MNIST, optimiser and rate too; a fifth of the images judges.

    However much accuracy is lost, the best of the last epochs is kept.
    """
    return TRADES.mnist(
        eps=eps,
        epochs=epochs,
        held_out=0.2,
        warm_up=0.0,
        optimiser="sgd",
        lr=0.01,
        schedule="constant",
        average=0.0,
        limit=100.0,
    )


def _left(
    study: AdvRepairBaselines, fixed: nn.Module, clean: Batch, dataset: Dataset, radius: float
) -> Row:
    """DSR and DGSR before an attacker who knows the repair."""
    row = Row()
    if study.attacked:
        for key, images in (
            ("dsr", clean[: study.attacked]),
            ("dgsr", dataset.test.batch(study.attacked)),
        ):
            count, _ = measuring.left(fixed, images, radius, study.tier)
            row |= {key: count["right"], f"{key}_n": count["n"]}
    return row
