"""AdvRepair on MNIST: Tables 1 and 3 of the paper, under both allocations, beside the control."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import torch
from torch import nn

from suture import data, models
from suture.attacks import PGD
from suture.data import Dataset
from suture.engine.threads import torch_threads
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
from suture.training import TrainConfig, train
from suture.types import Batch

_SIZES = (50, 100, 200, 500, 1000)
_PAPER: dict[tuple[str, float], tuple[tuple[float, ...], tuple[float, ...]]] = {
    ("fnn_small", 0.05): ((14.3, 24.8, 60.6, 236.7, 756.7), (90.0, 96.4, 96.6, 96.6, 96.6)),
    ("fnn_small", 0.1): ((15.5, 37.3, 62.5, 193.2, 768.1), (96.3, 95.0, 95.2, 95.3, 96.5)),
    ("fnn_small", 0.3): ((18.6, 52.0, 115.8, 255.9, 935.8), (86.4, 96.2, 90.8, 92.0, 96.6)),
    ("fnn_big", 0.05): ((14.5, 29.1, 51.2, 290.6, 1033.2), (97.0, 97.1, 97.1, 97.2, 97.2)),
    ("fnn_big", 0.1): ((13.9, 32.1, 75.4, 356.8, 735.9), (97.1, 97.1, 97.1, 97.2, 97.2)),
    ("fnn_big", 0.3): ((17.1, 37.0, 100.4, 365.4, 1246.4), (96.0, 96.7, 97.2, 97.2, 97.2)),
    ("cnn", 0.05): ((14.1, 23.4, 83.6, 221.9, 1001.9), (96.6, 98.3, 98.3, 98.3, 98.3)),
    ("cnn", 0.1): ((12.7, 29.5, 75.1, 337.0, 700.2), (98.2, 98.2, 98.2, 98.2, 98.3)),
    ("cnn", 0.3): ((15.0, 32.6, 87.9, 361.4, 1282.6), (98.3, 98.3, 98.3, 98.3, 98.2)),
}
"""Seconds (Table 1) and DGSR (Table 3) of AdvRepair for n = 50 … 1 000."""
FOREIGN = "patchpro_mnist_cnn"
"""The authors' own network, from the data folder."""


@dataclass(frozen=True, kw_only=True)
class AdvRepairMnist(Study):
    """Repair n balls of radius r; attack the repaired network in them and around test images.

    Attributes:
        networks: zoo names, trained here, or ``patchpro_mnist_cnn`` from the data folder.
        radii: r.
        sizes: n; with ``full`` the paper's 50 … 1 000.
        data: data set.
        epochs: of training.
        attacked: balls, and test images, that the attacks of DSR and DGSR run on.
        autoattack: also the standard tier, of which AutoAttack is a part, around the test images
            on recomputed allocation; ``full`` runs it in the balls too.
    """

    name: ClassVar[str] = "advrepair-mnist"
    title: ClassVar[str] = "AdvRepair on MNIST"
    paper: ClassVar[str] = "Chi et al., AdvRepair: Provable Repair of Adversarial Attack, 2024."
    networks: tuple[str, ...] = ("fnn_small", "fnn_big", "cnn", FOREIGN)
    radii: tuple[float, ...] = (0.05, 0.1, 0.3)
    sizes: tuple[int, ...] = (50, 100)
    data: str = "mnist"
    epochs: int = 2
    attacked: int = 50
    autoattack: bool = False

    def cells(self) -> list[Cell]:
        """One cell a network, radius and number of balls."""
        sizes = tuple(dict.fromkeys((*self.sizes, *_SIZES))) if self.full else self.sizes
        return [
            Cell(f"{name}-r={r:g}-n={n}", partial(_measure, self, name, r, n))
            for name in self.networks
            for r in self.radii
            for n in sizes
        ]

    def sheets(self, rows: list[Row]) -> list[Sheet]:
        """The repair itself, and what it is worth under attack."""
        return [_repairs(rows), _defences(rows)]

    def notes(self, rows: list[Row]) -> list[str]:
        """What the columns hide, and shortfalls."""
        return [*NOTES, *_shortfalls(rows)]


NOTES = (
    "Oracle allocation is the paper's protocol: patches are chosen from the clean image, which "
    "nobody shows a deployed network. Recomputed: they are chosen from the attacked image, by an "
    "attacker who knows the patches: PGD, APGD towards classes and Square on the repaired network, "
    "the same through the network without patches, and what fools that one; the strongest of them "
    "on each image.",
    "A constant patch reads nothing of its input. Where it scores what AdvRepair scores, the "
    "score is not the patches' doing.",
    "10 it.: APGD on cross entropy and targeted, Square, 10 iterations and 1 restart (Square: 100 "
    "queries): the paper's budget, without FAB. Quick, standard: the tiers of `suture evaluate`; "
    "AutoAttack is a part of the standard one.",
    "DSR and DGSR: images that are right and stay so. Seconds: the repair without the attack that "
    "finds its inputs; the paper's were measured on an RTX 3090.",
)


@cache
def _dataset(name: str) -> Dataset:
    return data.load(name)


@cache
def _network(name: str, data_name: str, epochs: int) -> nn.Module:
    dataset = _dataset(data_name)
    if name != FOREIGN:
        made = models.build(
            name,
            in_shape=dataset.in_shape,
            classes=dataset.classes,
            mean=dataset.mean,
            std=dataset.std,
        )
        return train(made, dataset, config=TrainConfig(epochs=epochs), seed=0).model
    folder = data.folder()
    if folder is None:
        raise DataError(
            expected=f"nets/{FOREIGN}.onnx in the data folder",
            got="no data folder",
            remedy="Set SUTURE_DATA, or leave the network out with --set networks=….",
        )
    return models.load(folder / "nets" / f"{FOREIGN}.onnx", in_shape=dataset.in_shape)


def _measure(study: AdvRepairMnist, name: str, radius: float, n: int, stream: Stream) -> list[Row]:
    with torch_threads(1):  # small networks gain nothing from several
        return _rows(study, name, radius, n, stream)


def _rows(study: AdvRepairMnist, name: str, radius: float, n: int, stream: Stream) -> list[Row]:
    dataset = _dataset(study.data)
    model = _network(name, study.data, study.epochs)
    training = dataset.train.batch()
    method = AdvRepair(attack=PGD(eps=radius), samples=n)
    started = time.perf_counter()
    batch, wrong, tried = method.fooled(model, training, Context.of(stream.child("balls")))
    facts = {
        "network": name,
        "r": radius,
        "size": n,
        "found": len(wrong),
        "tried": tried,
        "attack_seconds": round(time.perf_counter() - started, 3),
    }
    if batch is None:
        return [facts | {"subject": "none"}]
    others = measuring.other_samples(model, batch, PGD(eps=radius), stream.child("others"))
    test = dataset.test.batch(study.attacked)
    bare, known = _attacked(study, model, batch, test, radius, {})
    rows = []
    for subject, how in (("AdvRepair", method), ("constant patch", measuring.constant(method))):
        result = how.of_regions(
            model,
            balls(batch, radius, dataset.classes),
            wrong,
            torch.arange(len(wrong)),
            Context.of(stream.child("repair")),
        )
        row = facts | {"subject": subject, "method": repr(how), **_kept(result.trace)}
        row |= {"certificates": len(result.certificates), "checked": measuring.checked(result)}
        row |= measuring.repaired_rates(result.model, wrong, batch.labels, others)
        lost = measuring.accuracy_lost(model, result.model, dataset.test.batch())
        row |= {f"dd_{key}": value for key, value in lost.items()}
        row |= _attacked(study, result.model, batch, test, radius, known)[0]
        rows.append(row)
    return [*rows, facts | {"subject": "undefended"} | bare]


def _kept(trace: dict[str, Any]) -> dict[str, Any]:
    names = (
        "proved",
        "repaired",
        "failed",
        "patches",
        "epochs",
        "rounds",
        "boxes",
        "largest_gap",
        "seconds",
    )
    return {name: trace[name] for name in names}


def _attacked(
    study: AdvRepairMnist,
    model: nn.Module,
    batch: Batch,
    test: Batch,
    radius: float,
    bare: dict[str, Left],
) -> tuple[dict[str, Any], dict[str, Left]]:
    """DSR and DGSR: allocation by the oracle, then what is left where it is recomputed.

    Args:
        bare: what is left of N, by column.
    """
    stream, row, found = Stream(0).child("attacks"), dict[str, Any](), dict[str, Left]()
    for key, images in (("dsr", batch[: study.attacked]), ("dgsr", test)):
        count = measuring.held(model, images, measuring.brief(radius), stream)
        row |= measuring.shares(f"{key}_oracle", count)
        tiers = {"recomputed": "quick"}
        if study.full or (study.autoattack and key == "dgsr"):
            tiers["autoattack"] = "standard"
        for what, tier in tiers.items():
            name = f"{key}_{what}"
            count, found[name] = measuring.left(model, images, radius, tier, bare.get(name))
            row |= measuring.shares(name, count)
    return row, found


def _place(row: Row) -> tuple[str, str, str]:
    return row["network"], f"{row['r']:g}", str(row["size"])


def _repairs(rows: list[Row]) -> Sheet:
    header = (
        "network",
        "r",
        "n",
        "patch",
        "RSR",
        "RGR",
        "DD, points",
        "proved",
        "certificates",
        "largest gap",
        "seconds",
        "paper's seconds",
    )
    body = []
    for row in rows:
        if "rsr" not in row:
            continue
        theirs = _theirs(row, 0)
        body.append(
            (
                *_place(row),
                row["subject"],
                rate(row["rsr"], row["rsr_n"]),
                rate(row["rgr"], row["rgr_n"]),
                f"{points(row['dd_before'], row['dd_after'], row['dd_n']):.2f}",
                f"{row['proved']} of {row['found']}",
                f"{row['checked']} of {row['certificates']} hold",
                f"{row['largest_gap']:.1f}",
                f"{row['seconds']:.1f}",
                "–" if theirs is None else f"{theirs:.1f}",
            )
        )
    caption = (
        "RSR: the given adversarial inputs, RGR: ten others of each ball, classified right. DD: "
        "test accuracy lost. Largest gap: by how many logits N's bound falls short in its worst "
        "ball. The paper has RSR 100 (fnn_small at 0.3: 94 to 99.6), RGR the same, DD 0.0."
    )
    return Sheet("Repair (Table 1)", header, tuple(body), caption)


def _theirs(row: Row, which: int) -> float | None:
    known = _PAPER.get((row["network"], row["r"]))
    if known is None or row["size"] not in _SIZES:
        return None
    return known[which][_SIZES.index(row["size"])]


_COLUMNS = {
    "oracle": "oracle, 10 it.",
    "recomputed": "recomputed, quick",
    "autoattack": "recomputed, standard",
}


def _defences(rows: list[Row]) -> Sheet:
    columns = [
        (f"{key}_{what}", f"{key.upper()} {text}")
        for key in ("dsr", "dgsr")
        for what, text in _COLUMNS.items()
    ]
    columns = [(key, text) for key, text in columns if any(key in row for row in rows)]
    header = ("network", "r", "n", "patch", *(text for _, text in columns), "paper's DGSR")
    body = []
    for row in rows:
        if "dsr_oracle" not in row:
            continue
        theirs = _theirs(row, 1) if row["subject"] == "AdvRepair" else None
        cells = (rate(row[key], row[f"{key}_n"]) if key in row else "–" for key, _ in columns)
        last = "–" if theirs is None else f"{theirs:.1f} (oracle)"
        body.append((*_place(row), row["subject"], *cells, last))
    caption = "Inside of the repaired balls (DSR), and in the balls of test images (DGSR)."
    return Sheet("Defence (Table 3)", header, tuple(body), caption)


def _shortfalls(rows: list[Row]) -> list[str]:
    """Cells that have fewer balls than asked for, or balls without a proof."""
    few = [r for r in rows if r["subject"] in ("AdvRepair", "none") and r["found"] < r["size"]]
    open_ = [r for r in rows if r["subject"] == "AdvRepair" and r["proved"] < r["found"]]
    said = [
        f"{'-'.join(_place(r))}: the attack fooled {r['found']} of {r['tried']} training "
        "images only."
        for r in few
    ]
    return said + [
        f"{'-'.join(_place(r))}: {r['proved']} of {r['found']} balls are proved, "
        f"{r['failed']} failed."
        for r in open_
    ]
