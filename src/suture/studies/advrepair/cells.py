"""AdvRepair on MNIST (Tables 1 and 3) and in the feature space of a CIFAR-10 network (Table 4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

from torch import nn

from suture import data, models
from suture.attacks import PGD
from suture.data import Dataset
from suture.engine.threads import torch_threads, use_fitting_threads
from suture.repairs import AdvRepair, RepairResult
from suture.rng import Stream
from suture.studies.advrepair import columns, measuring
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.networks import network
from suture.studies.paper import printed
from suture.training import TrainConfig, train

_SIZES = (50, 100, 200, 500, 1000)
"""The paper's numbers of balls."""
FOREIGN = "patchpro_mnist_cnn"
"""The authors' own network, from the data folder."""


@STUDIES.add("advrepair-mnist")
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
        shared: hidden layers that patches share; the paper's share none.
    """

    title: ClassVar[str] = "AdvRepair on MNIST"
    paper: ClassVar[str] = printed("advrepair").citation
    networks: tuple[str, ...] = ("fnn_small", "fnn_big", "cnn", FOREIGN)
    radii: tuple[float, ...] = (0.05, 0.1, 0.3)
    sizes: tuple[int, ...] = (50, 100)
    data: str = "mnist"
    epochs: int = 2
    attacked: int = 50
    autoattack: bool = False
    shared: int = 0

    def cells(self) -> list[Cell]:
        """One cell a network, radius and number of balls."""
        return [
            Cell(f"{name}-r={r:g}-n={n}", partial(_mnist, self, name, r, n))
            for name in self.networks
            for r in self.radii
            for n in _sizes(self)
        ]

    tables = staticmethod(columns.mnist)
    notes = staticmethod(columns.mnist_notes)


@STUDIES.add("advrepair-features")
@dataclass(frozen=True, kw_only=True)
class AdvRepairFeatures(Study):
    """Repair n balls behind the encoder of a trained ResNet-20; nothing here is proved.

    Attributes:
        radii: r, in grey levels of 255.
        sizes: n; with ``full`` the paper's 50 … 1 000.
        attacked: balls, and test images, that the attacks of DSR and DGSR run on.
        rounds, epochs: M and R.
        feature_samples: inputs drawn per ball.
        shared: hidden layers that patches share; the paper's share none.
    """

    title: ClassVar[str] = "AdvRepair in feature space"
    paper: ClassVar[str] = printed("advrepair").citation
    radii: tuple[int, ...] = (4, 8)
    sizes: tuple[int, ...] = (50,)
    attacked: int = 20
    rounds: int = 25
    epochs: int = 10
    feature_samples: int = 1000
    shared: int = 0

    def cells(self) -> list[Cell]:
        """One cell a radius and number of balls."""
        return [
            Cell(f"resnet20-r={r}-n={n}", partial(_features, self, r, n))
            for r in self.radii
            for n in _sizes(self)
        ]

    tables = staticmethod(columns.features)
    notes = staticmethod(columns.features_notes)


def _sizes(study: AdvRepairMnist | AdvRepairFeatures) -> tuple[int, ...]:
    return tuple(dict.fromkeys((*study.sizes, *_SIZES))) if study.full else study.sizes


@cache
def dataset_of(name: str) -> Dataset:
    """A data set, read once a process."""
    return data.load(name)


@cache
def network_of(name: str, data_name: str, epochs: int) -> nn.Module:
    """A network, trained once a process."""
    dataset = dataset_of(data_name)
    if name == FOREIGN:
        return network(name, in_shape=dataset.in_shape)
    made = models.build(
        name,
        in_shape=dataset.in_shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )
    return train(made, dataset, config=TrainConfig(epochs=epochs), seed=0).model


def _mnist(study: AdvRepairMnist, name: str, radius: float, n: int, stream: Stream) -> list[Row]:
    tiers = {"dsr_recomputed": "quick", "dgsr_recomputed": "quick"}
    tiers |= {"dsr_autoattack": "standard"} if study.full else {}
    tiers |= {"dgsr_autoattack": "standard"} if study.full or study.autoattack else {}
    with torch_threads(1):  # small networks gain nothing from several
        case = measuring.BallCase(
            network_of(name, study.data, study.epochs),
            dataset_of(study.data),
            AdvRepair(attack=PGD(eps=radius), samples=n, shared=study.shared),
            {"network": name, "r": radius, "size": n},
            tiers,
            study.attacked,
            _proofs,
        )
        return measuring.rows(case, stream)


def _proofs(result: RepairResult) -> Row:
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
    facts: dict[str, Any] = {name: result.trace[name] for name in names}
    certificates = {"certificates": len(result.certificates), "checked": measuring.checked(result)}
    return facts | certificates


def _features(study: AdvRepairFeatures, grey: int, n: int, stream: Stream) -> list[Row]:
    model = network(
        "resnet20_akamaster",
        in_shape=(3, 32, 32),
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    )
    use_fitting_threads(model, (3, 32, 32))
    method = AdvRepair(
        attack=PGD(eps=grey / 255, steps=10),
        samples=n,
        at="penultimate",
        rounds=study.rounds,
        epochs=study.epochs,
        feature_samples=study.feature_samples,
        shared=study.shared,
    )
    case = measuring.BallCase(
        model,
        data.load("cifar10-exact"),
        method,
        {"r": grey, "size": n},
        {"dsr_recomputed": "quick", "dgsr_recomputed": "quick"},
        study.attacked,
        lambda result: {k: result.trace[k] for k in ("repaired", "failed", "epochs", "seconds")},
    )
    return [row for row in measuring.rows(case, stream) if row["subject"] != "none"]
