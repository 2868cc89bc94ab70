"""AutoAttack: which parts, in which order, for which images, with which notes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import APGD, FAB, AutoAttack, Square
from suture.attacks.oracle import Oracle
from suture.errors import ArgumentError
from suture.rng import Stream
from suture.testing.exact import ExactLinear, ExactRandom, classified_batch
from suture.types import Batch

SHAPE = (3, 7, 6)
SMALL = {"steps": 5, "queries": 20}


def test_standard_is_the_authors():
    parts = AutoAttack(eps=0.1).parts()
    assert list(parts.items()) == [
        ("apgd-ce", APGD(loss="ce", eps=0.1)),
        ("apgd-t", APGD(loss="dlr-targeted", eps=0.1)),
        ("fab-t", FAB(eps=0.1, by_class=True)),
        ("square", Square(eps=0.1, rescale_schedule=False)),
    ]
    assert parts["apgd-t"].steps == parts["fab-t"].steps == 100
    assert parts["apgd-t"].classes == parts["fab-t"].classes == 9
    assert parts["square"].queries == 5000 and parts["square"].p == 0.8


def test_standard_in_l1_starts_five_times_with_larger_radii():
    parts = AutoAttack(norm="l1", eps=12.0).parts()
    assert parts["apgd-ce"].restarts == 5 and parts["apgd-t"].restarts == 1
    assert parts["apgd-t"].classes == 5 and parts["fab-t"].classes == 9
    assert parts["apgd-ce"].decreasing and parts["apgd-t"].decreasing
    assert not AutoAttack(norm="l1", eps=12.0, version="plus").parts()["apgd-ce"].decreasing


def test_plus_and_rand_are_the_authors():
    plus = AutoAttack(version="plus").parts()
    assert list(plus) == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    assert [plus[name].restarts for name in ("apgd-ce", "apgd-dlr", "fab")] == [5, 5, 5]
    assert plus["apgd-t"].restarts == plus["fab-t"].restarts == 1
    assert not plus["fab"].by_class
    rand = AutoAttack(version="rand")
    assert list(rand.parts()) == ["apgd-ce", "apgd-dlr"]
    assert (rand.eot, rand.eot_of) == (20, "losses")
    assert AutoAttack(version="rand", eot=3).eot == 3
    assert all(part.eot == 20 for part in rand.parts().values())


def linear_case(n: int = 13) -> tuple[ExactLinear, Batch]:
    model = ExactLinear(SHAPE)
    return model, classified_batch(model, SHAPE, n=n, seed=1)


def test_only_images_that_hold_meet_the_next_part(monkeypatch):
    model, batch = linear_case()
    met: dict[str, list[int]] = {}
    attacked_by = AutoAttack._attacked_by

    def watched(self, attack, name, oracle, left):
        found, fallen = attacked_by(self, attack, name, oracle, left)
        met[name] = left.rows.tolist()
        with torch.no_grad():
            wrong = model(found).argmax(1) != batch.labels[left.rows]
        assert torch.equal(wrong, fallen)
        met[name + " fallen"] = left.rows[fallen].tolist()
        return found, fallen

    monkeypatch.setattr(AutoAttack, "_attacked_by", watched)
    result = AutoAttack(eps=0.02, **SMALL)(model, batch)
    order = ["apgd-ce", "apgd-t", "fab-t", "square"]
    for before, after in itertools.pairwise(order):
        assert met[after] == [r for r in met[before] if r not in met[before + " fallen"]]
    assert met["apgd-ce fallen"] and met["square"]
    every = sorted(row for name in order for row in met[name + " fallen"])
    assert result.success[:-1].nonzero()[:, 0].tolist() == every
    held = ~result.success
    assert torch.equal(result.images[held], batch.images[held])


def test_a_scope_has_bits_of_its_own_and_gives_them_back():
    model, batch = linear_case()
    oracle = Oracle(model, batch.images, batch.labels, targeted=False, stream=Stream(1), eot=1)
    rows = torch.arange(len(batch))
    outside = oracle.random_bits(rows, 0)
    seen = []
    for name in ("one", "two", "one"):
        with oracle.scope(name):
            seen.append(oracle.random_bits(rows, 0))
    assert torch.equal(seen[0], seen[2])
    assert not (seen[0] == seen[1]).any() and not (seen[0] == outside).any()
    with pytest.raises(ValueError, match="inside"), oracle.scope("one"):
        raise ValueError("inside")
    assert torch.equal(oracle.random_bits(rows, 0), outside)


def test_parts_draw_bits_of_their_own(monkeypatch):
    model, batch = linear_case()
    drawn: list[Tensor] = []
    monkeypatch.setattr(
        APGD, "run", lambda self, oracle, x, rows: drawn.append(oracle.random_bits(rows, 0)) or x
    )
    AutoAttack(eps=0.01, version="rand", eot=2)(model, batch)
    assert len(drawn) == 2 and not (drawn[0] == drawn[1]).any()


class Few(nn.Module):
    """The first classes of a linear model."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.inner, self.classes = ExactLinear(SHAPE), classes

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)[:, : self.classes]


@pytest.mark.parametrize(
    ("classes", "version", "missing"),
    [
        (4, "plus", []),
        (3, "standard", ["apgd-t"]),
        (2, "plus", ["apgd-dlr", "apgd-t"]),
        (2, "rand", ["apgd-dlr"]),
    ],
)
def test_with_few_classes_a_note_says_what_is_left_out(classes, version, missing):
    model = Few(classes)
    batch = classified_batch(model, SHAPE, n=6, seed=2)
    result = AutoAttack(eps=0.001, version=version, eot=2, **SMALL)(model, batch)
    left_out = [note.split()[1] for note in result.notes if "left out" in note]
    assert left_out == missing


class Probabilities(Few):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class Noisy(Few):
    """Draws from the global generator without saying so."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits + 0.01 * torch.randn_like(logits)


class Stepped(Few):
    """Sees images in two levels: no gradient, but a search finds its way."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images > 0.5).to(images.dtype)) + 0 * images.sum()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Few(4), []),
        (Probabilities(4), ["probability"]),
        (Noisy(4), ["randomized"]),
        (ExactRandom(SHAPE), ["randomized"]),
        (Stepped(4), ["gradient is zero", "Square fooled"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_notes_say_what_makes_the_result_doubtful(model, said):
    batch = classified_batch(model, SHAPE, n=8, seed=4)
    notes = AutoAttack(eps=0.05, steps=5, queries=300)(model, batch).notes
    assert len(notes) == len(said), notes
    for text in said:
        assert any(text in note and note.startswith("AutoAttack: ") for note in notes)


@pytest.mark.parametrize(
    "wrong",
    [{"version": "custom"}, {"eps": float("inf")}, {"queries": 2, "eot": 3}, {"classes": 0}],
)
def test_bad_arguments(wrong):
    with pytest.raises(ArgumentError):
        AutoAttack(**wrong)
