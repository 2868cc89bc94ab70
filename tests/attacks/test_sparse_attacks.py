"""Attacks on few pixels: moves against plain loops and the authors' schedules."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from suture.attacks import OnePixel, Pixle, SparseRS
from suture.attacks.geometry import distance
from suture.attacks.oracle import Oracle
from suture.attacks.search import Edit, Edits, Search, applied, take
from suture.attacks.sparse_moves import (
    _PATCH,
    _PIXELS,
    Patch,
    Pixels,
    frame_width,
    other_corner,
    share,
    shuffle,
)
from suture.attacks.steps import Rows
from suture.errors import ArgumentError
from suture.rng import Stream, bits, integers
from suture.testing.exact import ExactLinear, classified_batch
from suture.types import Batch

SHAPE = (3, 8, 7)


@pytest.fixture
def model() -> ExactLinear:
    return ExactLinear(SHAPE)


@pytest.fixture
def batch(model: ExactLinear) -> Batch:
    return classified_batch(model, SHAPE, n=9, seed=4)[:8]


def oracle_for(model: nn.Module, batch: Batch) -> Oracle:
    return Oracle(model, batch.images, batch.labels, targeted=False, stream=Stream(1), eot=1)


def test_schedules_are_the_authors():
    pixels = {0: 1, 1: 2, 50: 2, 51: 4, 201: 5, 501: 6, 1001: 8, 2001: 10, 4001: 12}
    for at, divisor in (pixels | {6001: 15, 8001: 20}).items():
        assert share(0.3, at, _PIXELS) == 0.3 / divisor
    patches = {10: 1, 11: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128}
    for at, divisor in (patches | {6001: 256, 8001: 512}).items():
        assert share(0.3, at, _PATCH) == 0.3 / divisor


def test_another_corner_is_another_and_every_other_is_drawn():
    draws = bits(torch.arange(4000), 0)
    corner = torch.tensor([[1.0, 0.0, 1.0]]).expand(4000, -1)
    drawn = other_corner(corner, draws)
    codes = (drawn * torch.tensor([1.0, 2.0, 4.0])).sum(1).long().bincount(minlength=8)
    assert codes[5] == 0 and (codes[codes > 0] > 400).all() and (codes > 0).sum() == 7
    inside = other_corner(torch.full((4000, 3), 0.5), draws)
    codes = (inside * torch.tensor([1.0, 2.0, 4.0])).sum(1).long().bincount(minlength=8)
    assert (codes > 400).all()


def test_shuffle_brings_distinct_places_forward_evenly():
    order = torch.arange(10).repeat(5000, 1)
    shuffle(order, 4, 10, bits(torch.arange(5000)[:, None], torch.arange(2)[None]))
    assert torch.equal(order.sort(1).values, torch.arange(10).repeat(5000, 1))
    assert torch.equal(order[:, :4], torch.arange(4).repeat(5000, 1))
    for place in (4, 5):
        counts = order[:, place].bincount(minlength=10)[4:]
        assert (counts - 5000 / 6).abs().max() < 120


@pytest.mark.parametrize("shape", ["pixels", "patch", "frame"])
def test_sparse_rs_changes_only_what_it_may(shape: str, model: ExactLinear, batch: Batch):
    attack = SparseRS(eps=26, queries=60, shape=shape, early_stop=False)
    delta = (attack(model, batch).images - batch.images).abs().amax(1)
    assert distance("l0", delta[:, None]).max() <= 26
    for changed in delta != 0:
        rows, columns = changed.nonzero().unbind(1)
        if shape == "patch":
            assert rows.max() - rows.min() < 5 and columns.max() - columns.min() < 5
        if shape == "frame":
            assert not changed[1:-1, 1:-1].any()
        if shape == "pixels":
            assert changed.sum() >= 20


def test_sparse_rs_never_gets_worse(model: ExactLinear, batch: Batch):
    def lowest(queries: int) -> torch.Tensor:
        attack = SparseRS(eps=6, queries=queries, rescale_schedule=False, early_stop=False)
        images = attack(model, batch).images
        with torch.no_grad():
            logits = model(images)
        own = logits.gather(1, batch.labels[:, None])[:, 0]
        return own - logits.scatter(1, batch.labels[:, None], -math.inf).amax(1)

    few, more = lowest(5), lowest(120)
    assert (more <= few).all() and (more < few).any()


def test_sparse_rs_keeps_account_of_changed_pixels(model: ExactLinear, batch: Batch):
    search = Search(oracle_for(model, batch), batch.images, torch.arange(8), early_stop=False)
    moves = Pixels(6, 0.9, 50)
    moves.begin(search)
    for step in range(1, 40):
        moves.step(search, step, 1)
        order = search.state["order"]
        assert torch.equal(order.sort(1).values, torch.arange(56).repeat(8, 1))
        untouched = take(search.best, order[:, 6:]) == take(search.clean, order[:, 6:])
        assert untouched.all()


def test_frame_and_patch_sizes():
    assert frame_width(26, 8, 7) == 1 and frame_width(25, 8, 7) == 0
    assert frame_width(26 + 18, 8, 7) == 2 and frame_width(56, 8, 7) == 4
    moves = Patch(26, 0.3, 100)
    assert moves.fits(8, 7) and moves.side == 5
    assert not Patch(0, 0.3, 100).fits(8, 7)
    with pytest.raises(ArgumentError, match="whole number"):
        SparseRS(eps=2.5)


def test_search_takes_back_what_does_not_help(model: ExactLinear, batch: Batch):
    oracle = oracle_for(model, batch)
    search = Search(oracle, batch.images, torch.arange(8), early_stop=False)
    search.start(batch.images)
    outcomes = torch.zeros(0, dtype=torch.bool)
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        before, loss = search.best.clone(), search.loss.clone()
        overlapping = Edits(
            Edit(torch.tensor([[0, 1]]).repeat(8, 1), torch.rand(8, 3, 2, generator=generator)),
            Edit(torch.tensor([[1, 2]]).repeat(8, 1), torch.rand(8, 3, 2, generator=generator)),
        )
        candidates = applied(before, overlapping)
        kept = search.step(overlapping)
        assert torch.equal(search.best[kept], candidates[kept])
        assert torch.equal(search.best[~kept], before[~kept])
        assert (search.loss[kept] < loss[kept]).all()
        assert torch.equal(search.loss[~kept], loss[~kept])
        outcomes = torch.cat([outcomes, kept])
    assert outcomes.any() and not outcomes.all()


def test_pixle_copies_by_a_loop(model: ExactLinear, batch: Batch):
    attack = Pixle(x_dimensions=(2, 4), y_dimensions=(1, 3))
    oracle = oracle_for(model, batch)
    base = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(9))
    state = Rows(clean=batch.images, rows=torch.arange(8), base=base)
    index, values = attack._copy(oracle, state, 5)
    made = base.flatten().put(index, values).reshape(base.shape)
    lanes = torch.arange(4 + 12)[None]
    draws = oracle.random_bits(torch.arange(8), 5, lanes)
    for k in range(8):
        top, left = int(integers(draws[k, 0], 7)), int(integers(draws[k, 2], 6))
        tall = min(1 + int(integers(draws[k, 1], 3)), 8 - top)
        wide = min(2 + int(integers(draws[k, 3], 3)), 7 - left)
        expected = base[k].clone()
        for i in range(tall):
            for j in range(wide):
                place = int(integers(draws[k, 4 + i * 4 + j], 56))
                pixel = batch.images[k, :, top + i, left + j]
                expected[:, place // 7, place % 7] = pixel
        assert torch.equal(made[k], expected)


def test_pixle_only_moves_pixels_of_the_image(model: ExactLinear, batch: Batch):
    result = Pixle(restarts=3, iterations=3)(model, batch)
    for image, attacked in zip(batch.images, result.images, strict=True):
        palette = {tuple(p) for p in image.flatten(1).T.tolist()}
        assert {tuple(p) for p in attacked.flatten(1).T.tolist()} <= palette


def test_pixle_spends_a_query_a_copy():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    batch = Batch(torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))
    assert (Pixle()(model, batch).queries == 200).all()


def test_one_pixel_draws_three_distinct_parents(model: ExactLinear, batch: Batch):
    attack = OnePixel(population=5, scale=0.5)
    members = torch.rand(8, 5, 1, 5)
    state = Rows(clean=batch.images, rows=torch.arange(8), members=members)
    children = attack._children(oracle_for(model, batch), state, 1)
    for k in range(8):
        possible = [
            (members[k, a] + 0.5 * (members[k, b] - members[k, c])).clamp(0, 1)
            for a in range(5)
            for b in range(5)
            for c in range(5)
            if len({a, b, c}) == 3
        ]
        for child in children[k]:
            assert any(torch.allclose(child, one) for one in possible)


def test_one_pixel_images_by_a_loop(model: ExactLinear, batch: Batch):
    members = torch.rand(8, 3, 2, 5, generator=torch.Generator().manual_seed(1))
    made = OnePixel(eps=2)._images(batch.images, members)
    for k in range(8):
        for m in range(3):
            expected = batch.images[k].clone()
            for row, column, *colour in members[k, m].tolist():
                expected[:, int(row * 8), int(column * 7)] = torch.tensor(colour)
            assert torch.equal(made[k, m], expected)


def test_one_pixel_counts_its_generations():
    model = ExactLinear(SHAPE)
    with torch.no_grad():
        model.bias[0] += 1e4
    batch = Batch(torch.rand(2, *SHAPE), torch.zeros(2, dtype=torch.int64))
    result = OnePixel(population=6, generations=3)(model, batch)
    assert (result.queries == 24).all() and not result.success.any()


def test_one_pixel_beats_chance_by_evolving(model: ExactLinear, batch: Batch):
    def found(generations: int, population: int) -> torch.Tensor:
        attack = OnePixel(population=population, generations=generations)
        images = attack(model, batch, generator=2).images
        with torch.no_grad():
            return nn.functional.cross_entropy(model(images), batch.labels, reduction="none")

    held = found(0, 8) < math.log(4)
    assert held.any()
    assert (found(40, 8)[held] >= found(0, 8)[held]).all()
    assert (found(40, 8)[held] > found(0, 8)[held]).any()
