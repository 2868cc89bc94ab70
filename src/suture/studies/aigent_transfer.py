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
from suture.attacks import AIGENT, FGSM, JSMA, PGD, Attack, AutoAttack, SparseRS
from suture.evaluate.naturalness import transferred
from suture.rng import Stream
from suture.studies.aigent import first_of_each, network, right
from suture.studies.base import Cell, Row, Study
from suture.studies.sheets import Sheet, rate
from suture.types import Batch

_PRINTED = {
    "AIGENT": ("48 %", "51 %"),
    "FGSM": ("38 %", "41 %"),
    "AutoAttack": ("34 %", "33 %"),
}
# Network, data set, L∞ radius, FGSM's radius, pixels of Sparse-RS.
_CASES = {
    "mnist": ("aigent_mnist_mlp6x50", "mnist", 0.3, 0.1, 24),
    "cifar10": ("aigent_cifar_mlp5x50", "cifar10-exact", 8 / 255, 0.1, 12),
}


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

    name: ClassVar[str] = "aigent-transfer"
    title: ClassVar[str] = "AIGENT, Table II: transfer to a hardened network"
    paper: ClassVar[str] = (
        "Khan, Madhukar & Sharma, Efficient Adversarial Input Generation via Neural Net Patching"
    )
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

    def sheets(self, rows: list[Row]) -> list[Sheet]:
        """The share of each attack's images that fool the hardened network."""
        sheets = []
        for place, name in enumerate(self.sets):
            own = [row for row in rows if row["set"] == name]
            body = tuple(
                (
                    row["what"],
                    rate(row["found"], row["n"]),
                    *(rate(count, row["found"]) for count in row["fool"]),
                    _PRINTED.get(row["what"], ("–", "–"))[min(place, 1)],
                )
                for row in own
            )
            header = (
                "attack",
                "found on the original",
                *(f"of these fool hardened {i + 1}" for i in range(self.repeats)),
                "paper",
            )
            sheets.append(Sheet(f"{name}: {_CASES[name][0]}", header, body, _CAPTION))
        return sheets

    def notes(self, rows: list[Row]) -> list[str]:
        """Clean accuracy of the hardened networks."""
        found = []
        for row in rows:
            if row["what"] == "AIGENT":
                before = rate(row["right"], row["test"])
                after = ", ".join(rate(right, row["test"]) for right in row["right_hard"])
                found.append(f"{row['set']}: clean accuracy {before}, hardened {after}.")
        return found


_CAPTION = (
    "Transferability: of the adversarial images that fool the original network, the share that "
    "the hardened network also gets wrong. “Clean” are the same images unattacked: what the "
    "hardened network gets wrong anyway."
)


def _attacks(eps: float, fast: float, pixels: int) -> dict[str, Attack]:
    return {
        "AIGENT": AIGENT(),
        "FGSM": FGSM(eps=fast),
        "PGD": PGD(eps=eps),
        "JSMA": JSMA(),
        "Sparse-RS": SparseRS(eps=pixels, queries=500),
        "AutoAttack": AutoAttack(eps=eps),
    }


def _measure(study: AigentTransfer, name: str, stream: Stream) -> list[Row]:
    net, source, *radii = _CASES[name]
    model, dataset = network(net), data.load(source)
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
    for what, attack in _attacks(*radii).items():  # type: ignore[arg-type]
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
