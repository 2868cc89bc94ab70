"""The network that DARE's studies repair, its history, and adversarial sets made on it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from suture import data, models
from suture.attacks import CW, FGSM, JSMA, PGD, Attack
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, cross_entropies
from suture.data import Dataset
from suture.data.splits import stratified
from suture.models import identity
from suture.repairs.tuning import halves
from suture.rng import Stream
from suture.studies import shelf
from suture.training import TrainConfig, train
from suture.training.loop import fingerprint
from suture.types import Batch

if TYPE_CHECKING:
    from suture.studies.dare.cells import DareTables

PREPARED = Stream(0).child("dare study")
"""Preparation is the same for every method of a study: methods are what is compared."""
ATTACKS = ("BIM", "C&W", "FGSM", "JSMA", "PGD")
"""The columns of Table 2, in its order; also the names of the baselines."""
RADII = {"fashion-mnist": 0.1, "mnist": 0.15}
_OTHERWISE = 8 / 255


@dataclass(frozen=True, kw_only=True)
class AllSteps(PGD):
    """PGD that takes every step, also beyond the first success, as the paper's tools do.

    Images that stop at the boundary of the model they were made on would say little about others.
    """

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        here = self._start(oracle, images, rows, 0)
        for _ in range(self.steps):
            _, gradient = oracle.gradient(here, rows, cross_entropies)
            here = self._moved(Rows(here=here, clean=images, gradient=gradient))
        return here


@dataclass(frozen=True)
class DarePlan:
    """One network of the study, trained with one seed, and what ``full`` changes."""

    study: DareTables
    network: str
    seed: int = 0

    @property
    def stream(self) -> Stream:
        """What the preparation of this network draws from."""
        return PREPARED if self.seed == 0 else PREPARED.child(self.seed)

    @property
    def eps(self) -> float:
        """The L∞ radius used for the data set."""
        return RADII.get(self.study.data.removesuffix("-jpeg").removesuffix("-exact"), _OTHERWISE)

    @property
    def attacks(self) -> dict[str, Attack]:
        """The five attacks of Table 2; C&W and JSMA with bounded budgets unless ``full``."""
        eps, full = self.eps, self.study.full
        deep = CW(binary_search_steps=3, steps=25, initial_const=1.0, learning_rate=0.02)
        return {
            "BIM": AllSteps(eps=eps, steps=10, step_size=eps / 8, random_start=False),
            "C&W": CW() if full else deep,
            "FGSM": FGSM(eps=eps),
            "JSMA": JSMA() if full else JSMA(gamma=0.04),
            "PGD": AllSteps(eps=eps, steps=20),
        }

    def size(self, given: int, full: int = 10**9) -> int:
        """A number of images; with ``full`` another, as many as there are."""
        return full if self.study.full else given


@dataclass(frozen=True, eq=False)
class Prepared:
    """A trained network and what the methods may see of it.

    Attributes:
        model: trained on one half of the training images.
        looked: images of the other half: what every method gets.
        folder: of the training history.
        seconds: of the training.
    """

    dataset: Dataset
    model: nn.Module
    looked: Batch
    folder: Path
    seconds: float


@cache
def dataset(name: str) -> Dataset:
    """The data set, with one half of its training images as the validation split."""
    return data.load(name, validation=0.5)


@cache
def prepared(plan: DarePlan) -> Prepared:
    """Train on one half, remember every epoch; draw what the methods look at from the other.

    Within a run a network is trained once, whichever cell or process needs it first; a training
    that was killed goes on with the epoch that it was in.
    """
    study = plan.study
    found, half = dataset(study.data), plan.size(study.images) // 2
    some = _first(found, half, plan.stream)
    made = models.build(
        plan.network,
        in_shape=found.in_shape,
        classes=found.classes,
        mean=found.mean,
        std=found.std,
        seed=plan.seed,
    )
    config = TrainConfig(epochs=study.epochs, batch_size=128, lr=2e-3)
    with shelf.room(f"history {fingerprint(some)} {plan.network} {config!r} {plan.seed}") as place:
        folder = place / "history"
        result = train(made, some, config=config, seed=plan.seed, history=folder, resume=True)
    other = found.validation.batch(half, shuffle_stream=plan.stream.child("other half"))
    looked, count = other, plan.size(study.looked)
    if count < len(other):
        looked = halves(other, count / len(other), plan.stream.child("looked"))[1][:]
    seconds = sum(curve.seconds for curve in result.curves)
    return Prepared(found, result.model, looked, folder, seconds)


def _first(found: Dataset, count: int, root: Stream) -> Dataset:
    """The data set with ``count`` training images; a twentieth of them chooses the epoch."""
    split, held = found.train, found.train
    stream = root.child("training half")
    if count < len(split):
        split = split.select(stratified(split.labels, count, stream))
    chosen = stratified(split.labels, max(1, len(split) // 20), stream.child("epoch"))
    held = split.select(chosen)
    kind = type(found)
    return kind(
        found.name,
        found.class_names,
        found.in_shape,
        found.source,
        found.notes,
        split.select(~chosen),
        held,
        found.test,
    )


@dataclass(frozen=True, eq=False)
class AdversarialImages:
    """Adversarial images that one attack made on the subject: all of them fool it."""

    batch: Batch
    tried: int
    seconds: float


@cache
def transferred(plan: DarePlan, name: str) -> AdversarialImages:
    """The first ``adversarial`` test images that the subject gets right and the attack turns."""
    subject = prepared(plan)
    wanted = plan.size(plan.study.adversarial, full=5_000)
    told = f"{name} {plan.attacks[name]!r} {wanted} {plan.stream!r}"
    with shelf.shared(f"{told} {identity(subject.model, subject.looked)}") as engine:
        kept = engine.recall("images", told)
        if kept is None:
            kept = _turned(subject, plan, name, wanted)
            engine.note("images", kept, work=told)
    return AdversarialImages(
        Batch(kept["images"], kept["labels"]), int(kept["tried"]), float(kept["seconds"])
    )


def _turned(subject: Prepared, plan: DarePlan, name: str, wanted: int) -> dict[str, Any]:
    attack, stream = plan.attacks[name], plan.stream.child(f"test {name}")
    started, images, labels = time.perf_counter(), list[Tensor](), list[Tensor]()
    count = tried = 0
    for batch in subject.dataset.test.batches(250):
        result = attack(subject.model, batch, generator=stream)
        chosen = (result.success & result.clean_right).nonzero()[:, 0]
        images.append(result.images[chosen])
        labels.append(batch.labels[chosen])
        count, tried = count + len(chosen), tried + len(batch)
        if count >= wanted:
            break
    return {
        "images": torch.cat(images)[:wanted],
        "labels": torch.cat(labels)[:wanted],
        "tried": tried,
        "seconds": time.perf_counter() - started,
    }
