"""Single images: clean, attacked, what was changed, and what each model answers and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from suture.data import Dataset
from suture.errors import DataError
from suture.evaluate.labels import attack_identity, describe
from suture.evaluate.rows import fresh_logits
from suture.models import untouched
from suture.report.grid import amplification, png_uri
from suture.rng import Stream, bits, image_keys
from suture.studio.asking import LookRequest
from suture.studio.workbench import Workbench
from suture.types import Batch, described

TOP = 3
SIDES = {"before": "before the repair", "after": "after the repair"}


@dataclass(frozen=True)
class ClassScore:
    """One class under one model: its logit, and its probability (softmax)."""

    name: str
    logit: float
    probability: float
    true: bool


@dataclass(frozen=True)
class SideAnswer:
    """What one model says of one image.

    Attributes:
        side, image: whose answer, to which image, in words.
        scores: all classes, the most likely first.
        right: whether it is the true class.
        who: what of the defence answered, in words; empty where it tells nothing.
    """

    side: str
    image: str
    scores: tuple[ClassScore, ...]
    right: bool
    who: str

    @property
    def top(self) -> tuple[ClassScore, ...]:
        """The most likely classes."""
        return self.scores[:TOP]


@dataclass(frozen=True)
class ImageCard:
    """One image with all that is said of it; pictures are ``data:`` URIs.

    Attributes:
        position: among the test images.
        label: its true class.
        clean, attacked, difference: pictures, the last two empty where nothing was attacked.
        factor: by which the difference is amplified; grey is no change.
        outcome: what the attack did, in words.
        change: the largest change of a pixel's value, and the number of changed pixels.
        answers: of each side to each image.
    """

    position: int
    label: str
    clean: str
    attacked: str
    difference: str
    factor: int
    outcome: str
    change: str
    answers: tuple[SideAnswer, ...]


@dataclass(frozen=True)
class LookResult:
    """All cards, and what is said above them."""

    cards: tuple[ImageCard, ...]
    attack: str
    against: str
    notes: tuple[str, ...]
    repaired: bool
    randomised: bool


def look(bench: Workbench, request: LookRequest) -> LookResult:
    """Make the attack and ask both models.

    Raises:
        SutureError: whatever is wrong with model, data, positions or attack.
    """
    with bench.lock:
        dataset = bench.data(request.data)
        sides = bench.sides(request.model, request.data)
        attack = request.made()
        side = request.side if request.side in sides else "before"
        batch = chosen(dataset, request.images)
        model = sides[side]
        batch = batch.to(next((t.device for t in model.parameters()), torch.device("cpu")))
        attacked, outcomes, notes = batch.images, [""] * len(batch), tuple[str, ...]()
        if attack is not None:
            result = attack(model, batch, generator=Stream(request.draw).child("studio"))
            attacked, notes = result.images, result.notes
            outcomes = [
                _outcome(bool(right), bool(fooled), int(spent))
                for right, fooled, spent in zip(
                    result.clean_right, result.success, result.queries, strict=True
                )
            ]
        answers = _answers(sides, batch, attacked, dataset, request.draw, attack is not None)
        about = [described(one) for one in sides.values()]
        return LookResult(
            cards=_cards(request, batch, attacked, outcomes, answers, dataset),
            attack="" if attack is None else describe(attack_identity(attack), vars(attack)),
            against=SIDES[side] if "after" in sides else "",
            notes=(*notes, *(said for one in about if (said := one.about_attacks()))),
            repaired="after" in sides,
            randomised=any(one.randomised for one in about),
        )


def chosen(dataset: Dataset, positions: tuple[int, ...]) -> Batch:
    """The test images at these positions.

    Raises:
        DataError: there are fewer.
    """
    if max(positions) >= len(dataset.test):
        raise DataError(
            expected=f"positions below {len(dataset.test)}, the number of test images",
            got=str(max(positions)),
            remedy="Choose earlier images.",
        )
    return Batch.concat([dataset.test.batch(1, start=position) for position in positions])


def _outcome(right: bool, fooled: bool, spent: int) -> str:
    if not right:
        return "wrong before any attack"
    return f"fooled after {spent} queries" if fooled else f"held against {spent} queries"


def _answers(
    sides: dict[str, nn.Module],
    batch: Batch,
    attacked: Tensor,
    dataset: Dataset,
    draw: int,
    was_attacked: bool,
) -> list[list[SideAnswer]]:
    """For each image its answers: clean and attacked, before and after."""
    shown = {"clean": batch.images} | ({"attacked": attacked} if was_attacked else {})
    columns = [
        _column(side, model, name, images, batch.labels, dataset, draw)
        for name, images in shown.items()
        for side, model in sides.items()
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _column(
    side: str,
    model: nn.Module,
    image: str,
    images: Tensor,
    labels: Tensor,
    dataset: Dataset,
    draw: int,
) -> list[SideAnswer]:
    stream, about = Stream(draw), described(model)
    with untouched(model), torch.no_grad():
        logits = fresh_logits(model, images, stream)
        # The bits that ``fresh_logits`` has drawn by.
        noise = bits(image_keys(images, stream), 0) if about.randomised else None
        who = about.about_answers(images, noise)
    probabilities = logits.softmax(1)
    return [
        SideAnswer(
            side=SIDES[side],
            image=image,
            scores=_scores(logits[i], probabilities[i], int(labels[i]), dataset),
            right=bool(logits[i].argmax() == labels[i]),
            who=who[i],
        )
        for i in range(len(images))
    ]


def _scores(
    logits: Tensor, probabilities: Tensor, label: int, dataset: Dataset
) -> tuple[ClassScore, ...]:
    order = logits.argsort(descending=True).tolist()
    return tuple(
        ClassScore(_name(dataset, c), float(logits[c]), float(probabilities[c]), c == label)
        for c in order
    )


def _name(dataset: Dataset, label: int) -> str:
    names = dataset.class_names
    return names[label] if label < len(names) else str(label)


def _cards(
    request: LookRequest,
    batch: Batch,
    attacked: Tensor,
    outcomes: list[str],
    answers: list[list[SideAnswer]],
    dataset: Dataset,
) -> tuple[ImageCard, ...]:
    clean, changed = (t.detach().cpu().numpy().astype(np.float32) for t in (batch.images, attacked))
    delta = changed - clean
    factor = amplification(delta)
    made = request.attack != "none"
    return tuple(
        ImageCard(
            position=position,
            label=_name(dataset, int(batch.labels[i])),
            clean=png_uri(clean[i]),
            attacked=png_uri(changed[i]) if made else "",
            difference=png_uri(0.5 + factor * delta[i]) if made else "",
            factor=factor,
            outcome=outcomes[i],
            change=_change(delta[i]) if made else "",
            answers=tuple(answers[i]),
        )
        for i, position in enumerate(request.images)
    )


def _change(delta: np.ndarray) -> str:
    largest = float(np.abs(delta).max())
    pixels = int((np.abs(delta).max(axis=0) > 0).sum())
    length = float(np.sqrt((delta.astype(np.float64) ** 2).sum()))
    return f"L∞ {largest:.3g}, L2 {length:.3g}, {pixels} pixels changed"
