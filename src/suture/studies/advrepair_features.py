"""AdvRepair in the feature space of a CIFAR-10 network: the columns of Table 4."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from suture import data, models
from suture.attacks import PGD
from suture.engine.threads import use_fitting_threads
from suture.errors import DataError
from suture.evaluate.left import Left
from suture.evaluate.repair_rates import points
from suture.repairs import AdvRepair
from suture.repairs.advrepair import balls
from suture.repairs.base import Context
from suture.rng import Stream
from suture.studies import advrepair_measuring as measuring
from suture.studies.base import Cell, Row, Study
from suture.studies.sheets import Sheet, rate
from suture.types import Batch

_SIZES = (50, 100, 200, 500, 1000)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class AdvRepairFeatures(Study):
    """Repair n balls behind the encoder of a trained ResNet-20; nothing here is proved.

    Attributes:
        radii: r, in grey levels of 255.
        sizes: n; with ``full`` the paper's 50 … 1 000.
        attacked: balls, and test images, that the attacks of DSR and DGSR run on.
        rounds, epochs: M and R.
        feature_samples: inputs drawn per ball.
    """

    name: ClassVar[str] = "advrepair-features"
    title: ClassVar[str] = "AdvRepair in feature space"
    paper: ClassVar[str] = "Chi et al., AdvRepair: Provable Repair of Adversarial Attack, 2024."
    radii: tuple[int, ...] = (4, 8)
    sizes: tuple[int, ...] = (50,)
    attacked: int = 20
    rounds: int = 25
    epochs: int = 10
    feature_samples: int = 1000

    def cells(self) -> list[Cell]:
        """One cell a radius and number of balls."""
        sizes = tuple(dict.fromkeys((*self.sizes, *_SIZES))) if self.full else self.sizes
        return [
            Cell(f"resnet20-r={r}-n={n}", partial(_measure, self, r, n))
            for r in self.radii
            for n in sizes
        ]

    def sheets(self, rows: list[Row]) -> list[Sheet]:
        """Table 4's columns, DSR and DGSR under both allocations."""
        header = (
            "r · 255",
            "n",
            "patch",
            "RSR",
            "RGR",
            "DD, points",
            "DSR oracle",
            "DSR recomputed",
            "DGSR oracle",
            "DGSR recomputed",
            "seconds",
        )
        return [Sheet("Repair in feature space (Table 4)", header, tuple(map(_line, rows)), _TEXT)]

    def notes(self, rows: list[Row]) -> list[str]:
        """That none of it is a proof."""
        return list(NOTES)


_TEXT = (
    "The paper, ResNet-18: RSR, RGR and DSR 100, DD 0.0, DGSR 88.3 under the oracle; 265.8 s "
    "(r = 4/255) and 264.7 s (8/255) for n = 50 on an RTX 3090."
)
NOTES = (
    "Not certified: boxes are drawn around sampled features, so no bound on them speaks of all "
    "inputs. DSR here is what attacks of 10 iterations did not find.",
    "Oracle allocation is the paper's protocol, patches chosen from the clean image. Recomputed: "
    "chosen from the attacked one, and the attacker also tries what fools the bare network.",
    "ResNet-20 of the data folder (A. Kumar's), pixel-exact CIFAR-10 images. Test images beyond "
    "the first 100 were picked by verifiers, mostly because networks classify them right.",
)


def _network() -> nn.Module:
    folder = data.folder()
    if folder is None:
        raise DataError(
            expected="nets/resnet20_akamaster.onnx in the data folder",
            got="no data folder",
            remedy="Set SUTURE_DATA.",
        )
    path = folder / "nets" / "resnet20_akamaster.onnx"
    return models.load(path, in_shape=(3, 32, 32), mean=list(_MEAN), std=list(_STD))


def _measure(study: AdvRepairFeatures, grey: int, n: int, stream: Stream) -> list[Row]:
    dataset, model, eps = data.load("cifar10-exact"), _network(), grey / 255
    use_fitting_threads(model, (3, 32, 32))
    method = AdvRepair(
        attack=PGD(eps=eps, steps=10),
        samples=n,
        at="penultimate",
        rounds=study.rounds,
        epochs=study.epochs,
        feature_samples=study.feature_samples,
    )
    started = time.perf_counter()
    drawn = Context.of(stream.child("balls"))
    batch, wrong, tried = method.fooled(model, dataset.train.batch(), drawn)
    facts = {
        "r": grey,
        "size": n,
        "found": len(wrong),
        "tried": tried,
        "attack_seconds": round(time.perf_counter() - started, 3),
    }
    if batch is None:
        return []
    others = measuring.other_samples(model, batch, PGD(eps=eps, steps=10), stream.child("others"))
    test, rows = dataset.test.batch(), []
    given = batch[: study.attacked]
    bare, known = _attacked(model, given, test, study, eps, {})
    for subject, how in (("AdvRepair", method), ("constant patch", measuring.constant(method))):
        result = how.of_regions(
            model,
            balls(batch, eps, dataset.classes),
            wrong,
            torch.arange(len(wrong)),
            Context.of(stream.child("repair")),
        )
        trace = {key: result.trace[key] for key in ("repaired", "failed", "epochs", "seconds")}
        row = facts | {"subject": subject, "method": repr(how)} | trace
        row |= measuring.repaired_rates(result.model, wrong, batch.labels, others)
        lost = measuring.accuracy_lost(model, result.model, test)
        row |= {f"dd_{key}": value for key, value in lost.items()}
        rows.append(row | _attacked(result.model, given, test, study, eps, known)[0])
    return [*rows, facts | {"subject": "undefended"} | bare]


def _attacked(
    model: nn.Module,
    batch: Batch,
    test: Batch,
    study: AdvRepairFeatures,
    eps: float,
    bare: dict[str, Left],
) -> tuple[dict[str, Any], dict[str, Left]]:
    stream, row, found = Stream(0).child("attacks"), dict[str, Any](), dict[str, Left]()
    for key, images in (("dsr", batch), ("dgsr", test[: study.attacked])):
        count = measuring.held(model, images, measuring.brief(eps), stream)
        row |= measuring.shares(f"{key}_oracle", count)
        count, found[key] = measuring.left(model, images, eps, "quick", bare.get(key))
        row |= measuring.shares(f"{key}_recomputed", count)
    return row, found


def _line(row: Row) -> tuple[str, ...]:
    def share(key: str) -> str:
        return rate(row[key], row[f"{key}_n"]) if key in row else "–"

    lost = "–"
    if "dd_n" in row:
        lost = f"{points(row['dd_before'], row['dd_after'], row['dd_n']):.2f}"
    seconds = f"{row['seconds']:.1f}" if "seconds" in row else "–"
    names = ("dsr_oracle", "dsr_recomputed", "dgsr_oracle", "dgsr_recomputed")
    return (
        str(row["r"]),
        str(row["size"]),
        row["subject"],
        share("rsr"),
        share("rgr"),
        lost,
        *map(share, names),
        seconds,
    )
