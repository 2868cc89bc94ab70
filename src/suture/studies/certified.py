"""Certified accuracy of one classifier, by method and radius, beside what an attack leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from torch import nn

from suture import data, loading
from suture.attacks import PGD
from suture.engine import telling
from suture.evaluate.provable import provable
from suture.report import Drawing
from suture.report.figures.certified import certified_figure
from suture.report.table import Column, Table, number, share
from suture.rng import Stream
from suture.studies import shelf
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.networks import here
from suture.types import Batch


@STUDIES.add("certified")
@dataclass(frozen=True, kw_only=True)
class Certified(Study):
    """What can be proved about the first ``n`` test images.

    Attributes:
        model: a reference that ``suture.load`` opens.
        weights: a file of weights, where the reference needs one.
        data: a data set.
        eps: radii of L∞ balls, pixel values in [0, 1].
        methods: out of ibp, crown-ibp, crown, alpha-crown, beta-crown, best.
        seconds: time limit of an image, for beta-crown.
        n, batch_size: images, and how many are bounded together.
        attacked: images, the first ones, that meet the attack; 0 for all.
        steps, restarts: of the PGD attack that no proof may contradict.
        opened: the classifier and the images, where they are open already.
    """

    title: ClassVar[str] = "Certified accuracy"
    paper: ClassVar[str] = (
        "Bounds in float64 with outward slack: what they prove holds for every input of the ball."
    )
    on_device: ClassVar[bool] = True
    model: str = "digits_cnn"
    weights: str = ""
    data: str = "digits"
    eps: tuple[float, ...] = (8 / 255,)
    methods: tuple[str, ...] = ("ibp", "crown-ibp", "crown")
    n: int = 200
    batch_size: int = 64
    attacked: int = 0
    steps: int = 40
    restarts: int = 1
    seconds: float = 30.0
    opened: tuple[nn.Module, Batch] | None = field(default=None, repr=False, compare=False)

    def cells(self) -> list[Cell]:
        """One cell a radius: all methods and the attack meet the same images."""
        return [Cell(f"eps={eps:g}", partial(_measure, self, eps)) for eps in self.eps]

    def tables(self, rows: list[Row]) -> list[Table]:
        """One table over radii and methods."""
        columns = (
            Column("eps", "radius", number("g")),
            Column("what", "what"),
            share("right", "share of images", "n"),
            Column(lambda row: row["seconds"] / row["n"], "seconds an image", number(".4f")),
        )
        caption = (
            "Clean: classified right. Certified: right, and proved to stay so on the whole L∞ ball "
            "clipped to [0, 1]. PGD: right, and the attack found nothing; the truth lies between. "
            "Where a defence moves images first, all but one row are about attacks after the move."
        )
        return [Table(columns, rows, f"{self.model} on {self.data}", caption)]

    def notes(self, rows: list[Row]) -> list[str]:
        """An alarm, should a proof and an attack contradict each other."""
        broken = sum(row.get("contradicted", 0) for row in rows)
        if not broken:
            return ["No image that was certified was broken by the attack."]
        return [
            f"ALARM: {broken} certified images were broken by the attack. One of the two is wrong: "
            "do not use these numbers, and report the defect."
        ]

    def figures(self, rows: list[Row]) -> list[Drawing]:
        """Accuracy against radius, if there is more than one."""
        return [certified_figure(rows)] if len(self.eps) > 1 else []


def _measure(study: Certified, eps: float, stream: Stream) -> list[Row]:
    model, batch = study.opened or _open(study)
    attack = PGD(norm="linf", eps=eps, steps=study.steps, restarts=study.restarts, adaptive=True)
    with shelf.shared(f"certified eps={eps!r}") as engine:
        return provable(
            model,
            batch,
            attack,
            study.methods,
            stream=stream,
            batch_size=study.batch_size,
            seconds=study.seconds,
            attacked=study.attacked,
            engine=engine,
            on_progress=telling.tell,
        )


def _open(study: Certified) -> tuple[nn.Module, Batch]:
    dataset = data.load(study.data)
    shape = {"in_shape": dataset.in_shape} if study.model.endswith(".onnx") else {}
    model = loading.load(study.model, weights=study.weights or None, **shape)
    return here(model), here(dataset.test.batch(study.n))
