"""Our proofs against other people's verifiers: instances of VNN-COMP 2021."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F

from suture import data, models
from suture.bounds.alpha_crown import Optimiser
from suture.bounds.margins import margin_rows
from suture.certify.branching import ABOVE, Branching, prove_by_cases
from suture.certify.proving import network64
from suture.certify.verifying import verify
from suture.data import acasxu
from suture.report.table import Column, Table, number, rated
from suture.rng import Stream
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.networks import in_folder
from suture.types import Batch, Box

_HOLDS = ("unsat", "unsat_1_dissent")
_BROKEN = ("sat", "sat_1_dissent")


@STUDIES.add("vnncomp")
@dataclass(frozen=True, kw_only=True)
class VnnComp(Study):
    """How many instances that others proved are proved here, and that none they refuted is.

    Attributes:
        seconds: limit for an ACAS Xu instance; 0: the competition's own.
        image_seconds: limit for an image; with ``full`` the competition's 300.
        steps: of α-CROWN, before ReLUs are split.
        benchmarks: which; empty for all.
    """

    title: ClassVar[str] = "VNN-COMP 2021: proofs against other people's verdicts"
    paper: ClassVar[str] = (
        "Bak, Liu, Johnson: The Second International Verification of Neural Networks Competition "
        "(2021). Verdicts: two tools or more say so, and none or one contradicts."
    )
    seconds: float = 0.0
    image_seconds: float = 60.0
    steps: int = 30
    benchmarks: str = ""

    def cells(self) -> list[Cell]:
        """One cell an instance whose verdict is known."""
        wanted = self.benchmarks.split(",") if self.benchmarks else None
        return [
            Cell(_key(row), partial(_measure, self, tuple(row.items())))
            for row in _verdicts()
            if row["verdict"] in _HOLDS + _BROKEN
            and (wanted is None or row["benchmark"] in wanted)
            and (row["test_index"] or row["benchmark"] == "acasxu")
        ]

    def tables(self, rows: list[Row]) -> list[Table]:
        """One line a benchmark and network."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            net = "45 networks" if row["benchmark"] == "acasxu" else row["net"]
            groups.setdefault((row["benchmark"], net), []).append(row)
        others = [row for row in rows if row["benchmark"] != "acasxu"]
        if others:
            groups["all but acasxu", ""] = others
        lines = [
            {"benchmark": benchmark, "network": net, **_counts(own)}
            for (benchmark, net), own in groups.items()
        ]
        caption = (
            "ACAS Xu: CROWN with input splitting, within the competition's time limit. Images: "
            "α-CROWN, then cases by ReLU (β-CROWN), within "
            f"{300 if self.full else self.image_seconds:g} s and on one core; sat instances are "
            "refuted by attacks elsewhere, here it only counts that none is proved in 10 s. "
            "verivital is missing: its images are not in the data folder."
        )
        return [Table(_COLUMNS, lines, "Instances by benchmark", caption)]

    def notes(self, rows: list[Row]) -> list[str]:
        """What contradicts the others, by name."""
        wrong = [r["cell"] for r in rows if r["verdict"] in _BROKEN and r["answer"] == "unsat"]
        missed = [r["cell"] for r in rows if r["verdict"] in _HOLDS and r["answer"] == "sat"]
        told = [f"ALARM: proved although refuted by others: {name}" for name in wrong]
        return told + [f"Refuted here although proved by others: {name}" for name in missed]


_COLUMNS = (
    Column("benchmark", "benchmark"),
    Column("network", "network"),
    Column("unsat", "unsat, proved here", rated),
    Column("unsat_1_dissent", "unsat with one dissenter, proved", rated),
    Column("refuted", "sat, refuted here", rated),
    Column("wrong", "sat, PROVED here (must be 0)"),
    Column("median", "median s", number(".2f")),
    Column("most", "most s", number(".1f")),
)


def _counts(rows: list[Row]) -> Row:
    def answered(answer: str, *verdicts: str) -> tuple[int, int]:
        own = [row for row in rows if row["verdict"] in verdicts]
        return sum(row["answer"] == answer for row in own), len(own)

    spent = sorted(row["seconds"] for row in rows)
    return {
        **{verdict: answered("unsat", verdict) for verdict in _HOLDS},
        "refuted": answered("sat", *_BROKEN),
        "wrong": "{} of {}".format(*answered("unsat", *_BROKEN)),
        "median": spent[len(spent) // 2],
        "most": spent[-1],
    }


def _verdicts() -> list[dict[str, str]]:
    with in_folder("vnncomp2021_verdicts.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _key(row: dict[str, str]) -> str:
    return f"{row['benchmark']} {Path(row['net']).stem} {Path(row['property']).stem}"


def _measure(study: VnnComp, items: tuple[tuple[str, str], ...], stream: Stream) -> list[Row]:
    row = dict(items)
    started = time.perf_counter()
    answer, pieces = (_acasxu if row["benchmark"] == "acasxu" else _image)(study, row)
    facts = {key: row[key] for key in ("benchmark", "property", "verdict", "test_index")}
    spent = round(time.perf_counter() - started, 3)
    return [
        facts | {"net": Path(row["net"]).stem, "answer": answer, "pieces": pieces, "seconds": spent}
    ]


def _acasxu(study: VnnComp, row: dict[str, str]) -> tuple[str, int]:
    which = int(Path(row["property"]).stem.removeprefix("prop_"))
    limits = {(acasxu.network(i.a, i.b).name, i.property): i.seconds for i in acasxu.instances()}
    path = in_folder(row["net"])
    limit = study.seconds or limits[path.name, which]
    claim = acasxu.acas_property(which)
    found = verify(models.load(path), (1, 1, 5), claim, seconds=limit)
    return found.answer, found.pieces


def _image(study: VnnComp, row: dict[str, str]) -> tuple[str, int]:
    """ "unsat" if the ball is proved, else "unknown"."""
    test = data.load("mnist" if "mnist" in row["net"] else "cifar10-exact").test
    place = {int(index): position for position, index in enumerate(test.index.tolist())}
    batch = test.select(torch.tensor([place[int(row["test_index"])]])).batch()
    model = models.load(in_folder(row["net"]))
    claim, eps = _claim(row, batch), float(row["eps_times_255"]) / 255
    images = batch.images.double()
    box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
    how = Branching(seconds=_limit(study, row), first=Optimiser(steps=study.steps, enough=ABOVE))
    found = prove_by_cases(network64(model, batch.shape), box, claim, how)
    return "unsat" if found.proved else "unknown", found.count


def _limit(study: VnnComp, row: dict[str, str]) -> float:
    """Seconds for an image. What others refuted cannot be proved: it gets enough to err."""
    limit = 300.0 if study.full else study.image_seconds
    return min(limit, 10.0) if row["verdict"] in _BROKEN else limit


def _claim(row: dict[str, str], batch: Batch) -> torch.Tensor:
    """The label beats every class; on marabou-cifar10 only the next class."""
    classes = 10
    if "marabou" not in row["net"]:
        return margin_rows(batch.labels, classes, torch.float64)
    unit = F.one_hot(torch.stack([batch.labels, (batch.labels + 1) % classes], 1), classes)
    return (unit[:, :1] - unit[:, 1:]).double()
