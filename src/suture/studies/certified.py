"""Certified accuracy of one classifier, by method and radius, beside what an attack leaves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from suture import data, loading
from suture.attacks import PGD
from suture.bounds import Method
from suture.certify import certify_images
from suture.report import Drawing
from suture.report.figures.style import draw, percent_axis
from suture.rng import Stream
from suture.studies.base import Cell, Row, Study
from suture.studies.sheets import Sheet, rate
from suture.types import Batch, described


@dataclass(frozen=True, kw_only=True)
class Certified(Study):
    """What can be proved about the first ``n`` test images.

    Attributes:
        model: a reference that ``suture.load`` opens.
        weights: a file of weights, where the reference needs one.
        data: a data set.
        eps: radii of L∞ balls, pixel values in [0, 1].
        methods: out of ibp, crown-ibp, crown, alpha-crown.
        n, batch_size: images, and how many are bounded together.
        steps, restarts: of the PGD attack that no proof may contradict.
    """

    name: ClassVar[str] = "certified"
    title: ClassVar[str] = "Certified accuracy"
    paper: ClassVar[str] = (
        "Bounds in float64 with outward slack: what they prove holds for every input of the ball."
    )
    model: str = "digits_cnn"
    weights: str = ""
    data: str = "digits"
    eps: tuple[float, ...] = (8 / 255,)
    methods: tuple[str, ...] = ("ibp", "crown-ibp", "crown")
    n: int = 200
    batch_size: int = 64
    steps: int = 40
    restarts: int = 1

    def cells(self) -> list[Cell]:
        """One cell a radius: all methods and the attack meet the same images."""
        return [Cell(f"eps={eps:g}", partial(_measure, self, eps)) for eps in self.eps]

    def sheets(self, rows: list[Row]) -> list[Sheet]:
        """One table over radii and methods."""
        header = ("radius", "what", "share of images", "seconds an image")
        body = tuple(
            (f"{r['eps']:g}", r["what"], rate(r["right"], r["n"]), f"{r['seconds'] / r['n']:.4f}")
            for r in rows
        )
        caption = (
            "Clean: classified right. Certified: right, and proved to stay so on the whole L∞ ball "
            "clipped to [0, 1]. PGD: right, and the attack found nothing; the truth lies between. "
            "Where a defence moves images first, all but one row are about attacks after the move."
        )
        return [Sheet(f"{self.model} on {self.data}", header, body, caption)]

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
        return [_curve(rows)] if len(self.eps) > 1 else []


def _measure(study: Certified, eps: float, stream: Stream) -> list[Row]:
    dataset = data.load(study.data)
    shape = {"in_shape": dataset.in_shape} if study.model.endswith(".onnx") else {}
    model = loading.load(study.model, weights=study.weights or None, **shape)
    batch = dataset.test.batch(study.n)
    attack = PGD(norm="linf", eps=eps, steps=study.steps, restarts=study.restarts, adaptive=True)
    rows: list[Row] = []
    parts = described(model).preemptive()
    if parts is not None:
        rows.append(_attacked(attack, model, batch, eps, stream, "PGD before the move")[0])
        moved, model = parts
        with torch.no_grad():
            stored = torch.cat([moved(piece) for piece in batch.images.split(256)])
        batch = Batch(stored, batch.labels)
    row, held = _attacked(
        attack, model, batch, eps, stream, "PGD" if parts is None else "PGD after"
    )
    rows.append(row)
    for method in study.methods:
        started = time.perf_counter()
        found = certify_images(model, batch, eps, cast(Method, method), batch_size=study.batch_size)
        row = _row(eps, f"certified, {method}", found.certified, time.perf_counter() - started)
        rows.append(row | {"contradicted": int((found.certified & ~held).sum())})
        clean = found.right
    rows.insert(0, _row(eps, "clean", clean, 0.0))
    return rows


def _attacked(
    attack: PGD, model: nn.Module, batch: Batch, eps: float, stream: Stream, what: str
) -> tuple[Row, Tensor]:
    """A row, and which images held."""
    started = time.perf_counter()
    held = attack(model, batch, generator=stream, batch_size=256).robust.cpu()
    return _row(eps, what, held, time.perf_counter() - started), held


def _row(eps: float, what: str, right: Any, seconds: float) -> Row:
    return {
        "eps": eps,
        "what": what,
        "right": int(right.sum()),
        "n": len(right),
        "seconds": round(seconds, 4),
    }


def _curve(rows: list[Row]) -> Drawing:
    kinds = list(dict.fromkeys(row["what"] for row in rows))

    def paint(figure: Any) -> None:
        axes = figure.add_axes((0.14, 0.17, 0.82, 0.78))
        for kind, marker in zip(kinds, "osv^D*", strict=False):
            own = [row for row in rows if row["what"] == kind]
            shares = [100 * row["right"] / row["n"] for row in own]
            axes.plot([row["eps"] for row in own], shares, marker=marker, label=kind)
        percent_axis(axes, "images (%)")
        axes.set_xlabel("radius (L∞)")
        axes.legend(frameon=False)

    return Drawing(
        "certified",
        "Certified accuracy against radius",
        "Between a certified line and the line of the attack nothing is known.",
        "Lines of clean, attacked and certified accuracy over the radius.",
        draw("certified", paint, height=3.2),
        ("radius", "what", "right", "n"),
        tuple((f"{r['eps']:g}", r["what"], str(r["right"]), str(r["n"])) for r in rows),
    )
