"""Few candidates, none missed; patches that share layers, in lists and in tables."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suture import models
from suture.models import build_from_spec, spec_of
from suture.repairs.advrepair.allocation import Allocation, Anchors
from suture.repairs.advrepair.bank import PatchBank, initial
from suture.repairs.advrepair.bundling import describe
from suture.repairs.advrepair.index import ClassGroups, CubeIndex
from suture.repairs.advrepair.patched import PatchedClassifier
from suture.rng import Stream

SIZE = 144


def drawn(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    reach=st.sampled_from([0.01, 0.1, 0.4]),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_no_cube_that_holds_an_input_is_missed(seed, reach, scale):
    """Also where the small product is least able to tell: in the cubes' corners."""
    centre, reach = scale * drawn(seed, 90, SIZE), scale * reach
    index = CubeIndex.of(centre, reach)
    corner = centre[:40] + reach * torch.where(drawn(seed + 1, 40, SIZE) > 0.5, 1.0, -1.0)
    along = centre[: index.basis.shape[1]] + reach * index.basis.T.sign()
    inputs = torch.cat([corner, along, centre, scale * drawn(seed + 2, 20, SIZE)])
    away = (inputs[:, None] - centre).abs().amax(2)
    row, cube, distance = index.pairs(inputs)
    found = torch.zeros_like(away, dtype=torch.bool)
    found[row, cube] = True
    assert torch.equal(found, away <= index.reach)
    assert torch.equal(distance, away[row, cube])


def test_few_candidates_are_left():
    centre = drawn(0, 400, SIZE).round()
    index = CubeIndex.of(centre, 0.05)
    assert index.basis.shape[1] < SIZE / 4
    row, cube = index._candidates(centre)
    assert torch.equal(row[row == cube], torch.arange(400)) and len(row) < 2000


def test_the_loop_finds_what_tensor_operations_do():
    centre = drawn(0, 60, SIZE).round()
    index = CubeIndex.of(centre, 0.3)
    inputs = torch.cat([centre, (centre + 0.2).clamp(0, 1), drawn(1, 30, SIZE)])
    loop, plain = index._candidates(inputs), index._plainly(inputs @ index.basis)
    assert 120 <= len(loop[0]) < 150 * 60
    assert all(torch.equal(*both) for both in zip(loop, plain, strict=True))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(1, 12), shared=st.booleans())
def test_the_loop_lists_what_tensor_operations_do(seed, most, shared):
    label = (4 * drawn(seed, 30)).long()  # one class has no region
    patch = (6 * drawn(seed + 1, 30)).long() if shared else torch.arange(30).flip(0)
    groups = ClassGroups.of(label, drawn(seed + 2, 30, 5) - 0.5, patch, 5)
    logits = drawn(seed + 3, 40, 5)
    loop = groups.similar(logits, logits, most)
    plain = groups._plainly(logits.argmax(1), logits, min(most, 30))
    tables = [torch.zeros(40, 30).scatter_add(1, *both) for both in (loop, plain)]
    assert torch.equal(*tables) and float(tables[0].amax()) == 1
    assert not tables[0][logits.argmax(1) == 4].any()


def bank(shared, hidden=(6, 5), count=7):
    made = PatchBank(count, 9, hidden, 3, shared)
    layers = initial(count, 9, hidden, 3, Stream(3), shared)
    made.fill([(w, b + drawn(4, *b.shape)) for w, b in layers])
    return made


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 1, 2])
def test_patches_that_share_layers_are_those_that_they_copy(shared):
    made, values = bank(shared), drawn(0, 20, 9)
    assert [w.ndim for w in made.weights] == [2] * shared + [3] * (3 - shared)
    patch = torch.stack([torch.randperm(7, generator=torch.Generator().manual_seed(i))[:3]
                         for i in range(20)])  # fmt: skip
    share = torch.ones(20, 3)
    share[::3, 2] = 0
    table = torch.zeros(20, 7).scatter_add(1, patch, share)
    expected = sum(table[:, j, None] * made.one(j)(values) for j in range(7))
    torch.testing.assert_close(made(values, table), expected)
    torch.testing.assert_close(made.few(values, patch, share), expected)


@torch.no_grad()
def test_a_constant_patch_is_its_numbers():
    made, values = bank(0, hidden=()), drawn(0, 4, 9)
    assert made.weights[0].numel() == 0
    torch.testing.assert_close(made.one(2)(values), made.biases[0][2].expand(4, 3))
    patch, share = torch.tensor([[2], [0], [1], [6]]), torch.ones(4, 1)
    assert torch.equal(made.few(values, patch, share), made.biases[0][patch[:, 0]])


def classifier(shared, hidden=(6, 5)):
    centre = drawn(5, 7, 9)
    keys = drawn(6, 7, 3)
    anchors = Anchors(
        centre, torch.full((7, 1), 0.3), torch.arange(7), keys.argmax(1),
        keys.argsort(1)[:, 1], keys,
    )  # fmt: skip
    head = models.build("fnn_small", in_shape=(1, 3, 3), classes=3)
    model = PatchedClassifier(
        nn.Identity(), head, bank(shared, hidden), Allocation(anchors, 7, "similar", 2)
    )
    describe(model, head, None)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("shared", [0, 1, 2])
def test_lists_answer_as_tables_do(shared):
    model, images = classifier(shared), drawn(8, 50, 1, 3, 3)
    inside, _ = model.allocation.indicator(images.flatten(1))
    assert 0 < int(inside.sum()) < 50
    torch.testing.assert_close(model(images), model.answer(images, model.shares(images)))


@torch.no_grad()
def test_what_was_prepared_follows_the_weights():
    """A bundle's weights come after the structure; nothing old may answer for them."""
    model, images = classifier(2), drawn(8, 50, 1, 3, 3)
    other = classifier(2)
    other.allocation.centre.add_(0.4)
    other.allocation.key.copy_(other.allocation.key.flip(0))
    expected = other(images)
    assert not torch.equal(model(images), expected)
    model.load_state_dict(other.state_dict())
    assert torch.equal(model(images), expected)


@torch.no_grad()
@pytest.mark.parametrize("hidden", [(6, 5), ()])
def test_bundles_from_before_open(hidden):
    model, images = classifier(0, hidden), drawn(8, 50, 1, 3, 3)
    spec = json.loads(json.dumps(spec_of(model)))
    state = dict(model.state_dict())
    del spec["shared"], spec["reads"]
    if not hidden:
        state["bank.weights.0"] = torch.zeros(7, 3, 9)
    old = build_from_spec(spec)
    old.load_state_dict(state)
    torch.testing.assert_close(old(images), model(images))


def test_gradients_reach_what_is_trained():
    made, values = bank(2), drawn(0, 4, 9)
    patch, share = torch.tensor([[2], [0], [1], [6]]), torch.ones(4, 1)
    with torch.no_grad():
        before = made.few(values, patch, share)
    found = made.few(values.requires_grad_(), patch, share)
    assert torch.equal(found.detach(), before)
    found.square().sum().backward()
    for tensor in (values, made.weights[-1], made.biases[-1], made.weights[0]):
        assert float(tensor.grad.abs().sum()) > 0
    with torch.no_grad():  # what was kept follows the weights
        made.biases[-1].add_(1)
        torch.testing.assert_close(made.few(values, patch, share), before + 1)
