"""Scratch features, and programs that grow by affine steps down a gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import suture
from suture import models
from suture.attacks import PGD
from suture.repairs import DefEnSynGame
from suture.repairs.defensyn.descending import AffineSteps
from suture.repairs.defensyn.execution import run_program
from suture.repairs.defensyn.game import IDENTITY
from suture.repairs.defensyn.language import Feature, parse
from suture.repairs.defensyn.scratch import with_scratch
from suture.repairs.defensyn.weighted import WeightedSamples
from suture.rng import Stream, bits
from suture.testing.small import digits, trained


@pytest.mark.parametrize("at", ["penultimate", None])
def test_scratch_changes_nothing_and_is_never_seen(at: str | None):
    at = at or models.layer_names(trained())[-3]
    plain = models.cut(trained(), at=at)
    parts, images = with_scratch(plain, 2), digits().test.batch(9).images
    assert parts.features == plain.features + 2
    features = parts.encoder(images)
    assert (features[:, -2:] == 0).all()
    torch.testing.assert_close(parts.head(features), trained()(images), rtol=1e-4, atol=1e-5)
    features[:, -2:] = 1e6
    torch.testing.assert_close(parts.head(features), trained()(images), rtol=1e-4, atol=1e-5)
    assert with_scratch(plain, 0) is plain


def descent(head: nn.Module, features, labels, weights, **changes) -> AffineSteps:
    samples = WeightedSamples(features, labels, len(labels) // 2, weights)
    given = {"lambda_": 1.0, "steps": 8, "longest": 64, "share": 1.0} | changes
    return AffineSteps(head, samples, **given)


def random_problem(deep: bool, **changes) -> AffineSteps:
    torch.manual_seed(0)
    last = nn.Linear(6, 3)
    head: nn.Module = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), last) if deep else last
    with torch.no_grad():
        first = head[0] if deep else head
        first.weight[:, -1] = 0  # type: ignore[union-attr]
    features = torch.cat([torch.randn(60, 5), torch.zeros(60, 1)], 1)
    labels, weights = torch.randint(0, 3, (60,)), torch.rand(60)
    return descent(head.requires_grad_(False), features, labels, weights, **changes)


def loss(own: AffineSteps, program) -> float:
    values, finite = run_program(program, own.samples.features)
    losses = F.cross_entropy(own.head(values), own.samples.labels, reduction="none")
    return float(losses @ own.samples.weights) if finite else float("inf")


@pytest.mark.parametrize("deep", [False, True])
def test_programs_go_down(deep: bool):
    own = random_problem(deep)
    half, whole = own([IDENTITY], Stream(0))
    assert loss(own, whole) < loss(own, half) < loss(own, IDENTITY)
    assert half.instructions == whole.instructions[: len(half)]
    assert whole.instructions[0] == IDENTITY.instructions[0], "it goes on from its base"
    assert own([IDENTITY], Stream(0)) == [half, whole] != own([IDENTITY], Stream(1))


def test_what_a_step_predicts_is_what_the_language_computes():
    own = random_problem(False, steps=2)
    values = own.samples.features
    weights = own.samples.weights
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        instructions, after = own._step(values, weights, generator)
        program = type(IDENTITY)(tuple(instructions))
        found, _ = run_program(program, values)
        torch.testing.assert_close(found[:, :-1], after[:, :-1], rtol=1e-5, atol=1e-6)
        values = found


def test_the_one_step_that_helps_is_found():
    """Feature 2 tells the classes apart, the head looks at 0 alone: v0 has to take v2 in."""
    head = nn.Linear(4, 2).requires_grad_(False)
    head.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))
    head.bias.zero_()
    labels = torch.arange(40) % 2
    told = (1 - 2 * labels).float()
    zero = torch.zeros(40)
    features = torch.stack([0.1 * torch.randn(40), zero, told, zero], 1)
    own = descent(head, features, labels, torch.ones(40), steps=2, tried=24)
    program = own([IDENTITY], Stream(0))[0]
    last = program.instructions[-1]
    assert last.target == 0 and last.right == Feature(3), "what stands in scratch"
    assert program.instructions[-2].left == Feature(2)
    values, _ = run_program(program, features)
    assert (head(values).argmax(1) == labels).all()


def test_where_nothing_helps_nothing_is_added():
    own = random_problem(False)
    own.samples.weights.zero_()
    assert own([IDENTITY], Stream(0)) == []


def test_programs_end_where_they_are_long_enough():
    own = random_problem(False, steps=30, longest=9)
    assert all(len(program) <= 9 for program in own([IDENTITY], Stream(0)))
    broken = parse("v0 = 1e38 * 10")
    assert own([broken], Stream(0)) == []


def test_an_affine_game_is_kept_in_its_bundle(tmp_path):
    method = DefEnSynGame(
        attack=PGD(eps=0.15, steps=4, restarts=3),
        samples=60,
        rounds=2,
        added=5,
        max_length=1,
        programs_per_length=300,
        affine=6,
        refine=0,
        limit=9.0,
        tolerance=0.0,
    )
    result = suture.repair(trained(), digits().train.batch(100), method)
    model, images = result.model, digits().test.batch(30).images
    assert model.features == models.cut(trained()).features + 1
    models.save(model, tmp_path / "bundle")
    opened = suture.load(tmp_path / "bundle")
    noise = bits(torch.arange(30), 2)
    assert torch.equal(opened(images, noise=noise), model(images, noise=noise))
    assert models.fingerprint(opened) == models.fingerprint(model)
    torch.testing.assert_close(opened.undefended()(images), trained()(images))
