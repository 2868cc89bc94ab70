"""AIGENT, Table II: which adversarial images also fool a network hardened against all of them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture import data
from suture.attacks import AIGENT
from suture.evaluate.naturalness import transferred
from suture.rng import Stream
from suture.studies.aigent import columns
from suture.studies.aigent.measuring import OURS, first_of_each, right, rivals
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.networks import network
from suture.studies.paper import printed
from suture.types import Batch

# Data set, L∞ radius, FGSM's radius, pixels of Sparse-RS.
_CASES = {
    "mnist": ("mnist", 0.3, 0.1, 24),
    "cifar10": ("cifar10-exact", 8 / 255, 0.1, 12),
}


@STUDIES.add("aigent-transfer")
@dataclass(frozen=True, kw_only=True)
class AigentTransfer(Study):
    """A network is trained on with clean and adversarial training images, then shown test images.

    The hardened network starts from the attacked one. Its adversarial training images come in
    equal numbers from every attack; the adversarial test images were made on the original.

    Attributes:
        sets: "mnist", "cifar10".
        train: training images attacked by each attack.
        clean: clean training images beside them.
        test: test images; on MNIST in equal numbers of each class.
        epochs, learning_rate, batch_size: of Adam.
        repeats: hardened networks, by different seeds of the same images.
    """

    title: ClassVar[str] = "AIGENT, Table II: transfer to a hardened network"
    paper: ClassVar[str] = printed("aigent").citation
    sets: tuple[str, ...] = ("mnist", "cifar10")
    train: int = 300
    clean: int = 2000
    test: int = 300
    epochs: int = 15
    learning_rate: float = 1e-3
    batch_size: int = 64
    repeats: int = 3

    def cells(self) -> list[Cell]:
        """One cell a data set: all attacks meet the same hardened networks."""
        return [Cell(name, partial(_measure, self, name)) for name in self.sets]

    tables = columns.tables_2
    notes = staticmethod(columns.hardened)


def _measure(study: AigentTransfer, name: str, stream: Stream) -> list[Row]:
    source, eps, fast, pixels = _CASES[name]
    model, dataset = network(columns.ATTACKED[name]), data.load(source)
    training = dataset.train.batch(
        study.clean + study.train, shuffle_stream=stream.child("training images")
    )
    test = (
        first_of_each(dataset.test, study.test // 10)
        if name == "mnist"
        else dataset.test.batch(study.test)
    )
    good = right(model, test)
    found: dict[str, tuple[Tensor, Tensor]] = {"clean": (good.images, good.labels)}
    extra = [training[: study.clean]]
    for what, attack in {OURS: AIGENT(), **rivals(eps, fast, pixels, queries=500)}.items():
        result = attack(model, training[study.clean :], generator=stream.child(f"train {what}"))
        some = (result.success & result.clean_right).nonzero()[:, 0]
        extra.append(Batch(result.images[some], training[study.clean :].labels[some]))
        result = attack(model, good, generator=stream.child(f"test {what}"))
        found[what] = (result.images[result.success], good.labels[result.success])
    mixed = Batch.concat(_even(extra))
    hard = [harden(model, mixed, study, stream.child(i)) for i in range(study.repeats)]
    facts = {
        "set": name,
        "n": len(good),
        "test": len(test),
        "right": len(good),
        "right_hard": [len(test) - transferred(h, test.images, test.labels) for h in hard],
        "hardened_with": [len(part) for part in _even(extra)],
    }
    return [
        {
            "what": what,
            **facts,
            "found": len(images),
            "fool": [transferred(h, images, labels) if len(images) else 0 for h in hard],
        }
        for what, (images, labels) in found.items()
    ]


def _even(parts: list[Batch]) -> list[Batch]:
    """The clean part, and as many images of each attack as the poorest of them found."""
    least = min(len(part) for part in parts[1:])
    return [parts[0], *(part[:least] for part in parts[1:])]


def harden(model: nn.Module, batch: Batch, study: AigentTransfer, stream: Stream) -> nn.Module:
    """A copy of the model, trained on with the batch by Adam on the cross entropy."""
    made, generator = copy.deepcopy(model).train(), stream.generator()
    for parameter in made.parameters():
        parameter.requires_grad_(True)
    adam = torch.optim.Adam(made.parameters(), lr=study.learning_rate)
    for _ in range(study.epochs):
        order = torch.randperm(len(batch), generator=generator)
        for chosen in order.split(study.batch_size):
            adam.zero_grad()
            cross_entropy(made(batch.images[chosen]), batch.labels[chosen]).backward()
            adam.step()
    return made.eval()
