"""Who answers: nearest centre inside, the paper's rules outside, an oracle for its protocol."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suture.errors import ArgumentError
from suture.repairs.advrepair.allocation import Allocation, Anchors
from suture.repairs.advrepair.bank import PatchBank, initial, run
from suture.repairs.advrepair.patched import (
    OracleAllocated,
    PatchedClassifier,
    answering,
    answering_pairs,
)
from suture.rng import Stream

# Three balls of radius 0.1; the first two overlap. Patches 0, 1, 1.
CENTRES = torch.tensor([[0.2, 0.2], [0.35, 0.2], [0.8, 0.8]])
LABELS, SECOND = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 2])
KEYS = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 2.0, 1.0]])


def allocation(rule="similar", most=10, reach=None):
    reach = torch.full((3, 1), 0.1) if reach is None else reach
    anchors = Anchors(CENTRES, reach, torch.tensor([0, 1, 1]), LABELS, SECOND, KEYS)
    return Allocation(anchors, 2, rule, most)


def ask(rule, logits, most=10):
    logits = torch.tensor([logits])
    return allocation(rule, most)(torch.tensor([[0.5, 0.5]]), logits, logits)[0].tolist()


def test_inside_the_nearest_centre_answers_alone():
    inputs = torch.tensor([[0.2, 0.2], [0.27, 0.2], [0.28, 0.2], [0.75, 0.85]])
    logits = torch.tensor([[0.0, 0.0, 9.0]]).expand(4, -1)
    shares = allocation()(inputs, logits, logits)
    assert shares.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_an_input_on_the_border_is_inside():
    half = allocation()
    inside, _ = half.indicator(torch.tensor([[0.9, 0.7], [0.900003, 0.7]]))
    assert inside.tolist() == [True, False]


def test_outside_the_rules_of_the_paper_decide():
    assert ask("similar", [3.0, 1.0, 0.0]) == [1, 0]
    assert ask("similar", [0.0, 3.0, 1.0]) == [0, 1]
    assert ask("similar", [0.0, 0.0, 1.0]) == [0, 0]
    assert ask("label", [3.0, 1.0, 0.0]) == [1, 0]
    assert ask("pair", [0.0, 3.0, 1.0]) == [0, 1]
    assert ask("pair", [1.0, 0.0, 3.0]) == [0, 0]
    assert ask("pair", [3.0, 0.0, 1.0]) == [0, 0]
    assert ask("none", [3.0, 1.0, 0.0]) == [0, 0]


def test_the_most_similar_are_taken():
    anchors = Anchors(
        torch.arange(4.0)[:, None] * 10, torch.full((4, 1), 0.1), torch.arange(4),
        torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64),
        torch.tensor([[1.0, 0.0], [1.0, 0.5], [1.0, 0.9], [2.0, 1.0]]),
    )  # fmt: skip
    logits = torch.tensor([[4.0, 2.0]])
    shares = Allocation(anchors, 4, "similar", 2)(torch.tensor([[5.0]]), logits, logits)
    assert shares.tolist() == [[0, 1, 0, 1]]
    # Rows 1 and 3 point the same way; in feature space the nearer one comes first.
    near = Allocation(anchors, 4, "similar-near", 1)(torch.tensor([[5.0]]), logits, logits)
    assert near.tolist() == [[0, 0, 0, 1]]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_fast_way_is_the_slow_one(seed):
    inputs = torch.rand(9, 2, generator=torch.Generator().manual_seed(seed))
    cubes, boxes = allocation(), allocation(reach=torch.full((3, 2), 0.1))
    for fast, slow in zip(cubes.distances(inputs), boxes.distances(inputs), strict=True):
        torch.testing.assert_close(fast, slow)
    assert torch.equal(cubes.indicator(inputs)[0], boxes.indicator(inputs)[0])


def classifier(rule="similar"):
    bank = PatchBank(2, 2, (5,), 3)
    layers = initial(2, 2, (5,), 3, Stream(1))
    bank.fill([(w, b + torch.rand(b.shape, generator=torch.Generator().manual_seed(0)))
               for w, b in layers])  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    return PatchedClassifier(nn.Identity(), head, bank, allocation(rule)).eval()


def image(*values):
    return torch.tensor(values).view(-1, 1, 1, 2)


@torch.no_grad()
@pytest.mark.parametrize("rule", ["similar", "none"])
def test_patches_are_added_to_the_logits(rule):
    model = classifier(rule)
    inputs = torch.rand(40, 1, 1, 2, generator=torch.Generator().manual_seed(3))
    shares, out = model.shares(inputs), model(inputs)
    assert len(shares.unique(dim=0)) >= 2
    for row in range(40):
        expected = model.head(inputs[row : row + 1])[0]
        for patch in shares[row].nonzero()[:, 0].tolist():
            expected = expected + model.bank.one(patch)(inputs[row : row + 1])[0]
        torch.testing.assert_close(out[row], expected)
        # Alone: then only some of the patches are run.
        torch.testing.assert_close(model(inputs[row : row + 1])[0], expected)
    torch.testing.assert_close(run(model.bank.layers, inputs.flatten(1))[1],
                               model.bank.one(1)(inputs))  # fmt: skip


@torch.no_grad()
def test_a_batch_that_needs_no_patch_is_left_to_the_network():
    model, inputs = classifier("none"), image(0.5, 0.5, 0.6, 0.1)
    assert torch.equal(model(inputs), model.head(inputs))


def test_every_network_that_can_answer_in_a_box_is_named():
    table = allocation()
    box = torch.tensor([0.1, 0.1]), torch.tensor([0.2, 0.3])
    assert answering(table, *box) == ([0], True)
    assert answering(table, torch.tensor([0.2, 0.1]), torch.tensor([0.3, 0.3])) == ([0, 1], True)
    assert answering(table, torch.tensor([0.1, 0.1]), torch.tensor([0.45, 0.3])) == ([0, 1], False)
    assert answering(table, torch.tensor([0.5, 0.5]), torch.tensor([0.6, 0.6])) == ([], False)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.sampled_from([0.0, 0.05, 0.3]))
def test_no_other_patch_ever_answers_in_a_box(seed, width):
    generator = torch.Generator().manual_seed(seed)
    lower = CENTRES[seed % 3] - 0.1 + 0.1 * torch.rand(2, generator=generator)
    upper = torch.minimum(
        lower + width * torch.rand(2, generator=generator), CENTRES[seed % 3] + 0.1
    )
    model = classifier()
    named, covered = answering(model.allocation, lower, upper)
    inputs = lower + (upper - lower) * torch.rand(200, 2, generator=generator)
    shares = model.shares(inputs.view(-1, 1, 1, 2))
    assert covered and shares.sum(1).eq(1).all()
    assert set(shares.argmax(1).tolist()) <= set(named)
    box, patch = answering_pairs(model.allocation, lower[None].double(), upper[None].double())
    assert patch.tolist() == named and box.tolist() == [0] * len(named)


def test_parts_are_networks_with_one_patch():
    model = classifier()
    (part,) = model.certify_parts(image(0.75, 0.75)[0], image(0.85, 0.85)[0])
    inputs = image(0.8, 0.8)
    torch.testing.assert_close(part(inputs), model(inputs))
    with pytest.raises(ArgumentError, match="inside of a repaired region"):
        model.certify_parts(image(0.1, 0.1)[0], image(0.9, 0.9)[0])
    assert len(classifier("none").certify_parts(image(0.1, 0.1)[0], image(0.9, 0.9)[0])) == 3


def test_the_oracle_keeps_the_clean_allocation():
    model = classifier()
    clean = image(0.5, 0.5, 0.8, 0.8)
    frozen = OracleAllocated(model, clean)
    moved = image(0.8, 0.84, 0.5, 0.52)
    expected = model.answer(moved, model.shares(clean)[[1, 0]])
    torch.testing.assert_close(frozen(moved), expected)
    torch.testing.assert_close(frozen(clean), model(clean))
