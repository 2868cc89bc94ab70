"""Letters, the camera, and what is trained behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from suture import models
from suture.certify import Checker
from suture.errors import ArgumentError, DataError
from suture.repairs import A5Physical
from suture.repairs.a5 import (
    CHARACTERS,
    Camera,
    Defence,
    RobustifiedClassifier,
    acquisitions,
    glyphs,
)
from suture.repairs.a5.camera import keys_of
from suture.repairs.certified_training import Ramp, Schedule
from suture.rng import Stream, bits, uniform
from suture.types import Batch

pytest.importorskip("kornia")
STILL = Camera(
    shift=0, degrees=0, perspective=0, inversion=0, jitter=0, blur=(0.01, 0.01), noise=(0, 0)
)
MILD = Camera(shift=1, degrees=3, perspective=0.1, inversion=0.0, kernel=3, noise=(0.0, 0.02))
FEW = Schedule(
    epochs=6, batch_size=40, optimiser="adam", lr=5e-3, step_at=(), ramp=Ramp(2, 3), crown=False
)


def some() -> Batch:
    """Five letters of 16 × 16 pixels, numbered 0 to 4."""
    found = glyphs(16)
    chosen = torch.tensor([CHARACTERS.index(c) for c in "0LTxZ"])
    return Batch(found.images[chosen], torch.arange(5))


def test_letters_are_62_different_pictures_without_cut_edges():
    found = glyphs(32)
    assert found.images.shape == (62, 1, 32, 32) and len(CHARACTERS) == len(set(CHARACTERS)) == 62
    assert len({row.numpy().tobytes() for row in found.images}) == 62
    border = torch.cat([found.images[:, :, :1].flatten(1), found.images[:, :, -1:].flatten(1)], 1)
    assert float(border.max()) == 0.0
    assert found.images.flatten(1).amax(1).min() > 0.8


def test_a_still_camera_changes_nothing():
    images = some().images
    seen = STILL(images, keys_of(5, Stream(0)))
    torch.testing.assert_close(seen, images, atol=2e-3, rtol=0)


def test_every_picture_has_its_own_draws():
    images, keys = some().images[:1].repeat(6, 1, 1, 1), keys_of(6, Stream(1))
    camera = Camera(shift=2, kernel=3)
    seen = camera(images, keys)
    assert len({row.numpy().tobytes() for row in seen}) == 6
    torch.testing.assert_close(seen[4:5], camera(images[:1], keys[4:5]), atol=1e-5, rtol=0)
    assert float(seen.min()) >= 0 and float(seen.max()) <= 1
    assert torch.equal(seen, camera(images, keys_of(6, Stream(1))))


def test_the_projection_by_hand():
    """A shift alone moves the picture by whole pixels, right and down."""
    camera = Camera(shift=3, degrees=0, perspective=0, inversion=0, jitter=0, noise=(0, 0))
    import kornia

    matrix = camera._projection(kornia, keys_of(50, Stream(2)), 16, 16)
    shifts = matrix[:, :2, 2]
    assert float(shifts.abs().max()) <= 3 and float(shifts.abs().max()) > 2.5
    torch.testing.assert_close(
        matrix[:, :2, :2], torch.eye(2).expand(50, -1, -1), atol=1e-4, rtol=0
    )
    wide = Camera(shift=0, degrees=10, perspective=0)
    turns = wide._projection(kornia, keys_of(50, Stream(2)), 16, 16)
    angles = torch.atan2(turns[:, 1, 0], turns[:, 0, 0]).rad2deg()
    assert 8 < float(angles.abs().max()) <= 10.001


@pytest.mark.parametrize(
    ("given", "low", "high"), [({}, 1.0, 1.0), ({"inversion": 0.5}, 0.42, 0.58)]
)
def test_pictures_are_inverted_always_or_as_often_as_said(given, low, high):
    camera = Camera(shift=0, degrees=0, perspective=0, jitter=0, noise=(0, 0), **given)
    seen = camera(torch.zeros(400, 1, 16, 16), keys_of(400, Stream(3)))
    share = float(seen.flatten(1).mean(1).mean())
    assert low <= round(share, 6) <= high


def test_noise_is_blurred_too():
    """Blurred noise has neighbours alike, and less of it is left: sums of squared weights."""
    still = {"shift": 0, "degrees": 0, "perspective": 0, "inversion": 0, "jitter": 0}
    noisy = {"noise": (0.05, 0.05), "kernel": 3}
    grey, keys = torch.full((30, 1, 32, 32), 0.5), keys_of(30, Stream(5))
    sharp = Camera(**still, **noisy, blur=(0.01, 0.01))(grey, keys) - 0.5
    soft = Camera(**still, **noisy, blur=(1.0, 1.0))(grey, keys)[..., 1:-1, 1:-1] - 0.5
    weights = torch.tensor([-1.0, 0.0, 1.0]).square().div(-2).exp()
    left = float((weights / weights.sum()).square().sum())
    assert float(sharp.std()) == pytest.approx(0.05, rel=0.03)
    assert float(soft.std()) == pytest.approx(0.05 * left, rel=0.05)


def test_jitter_by_hand():
    """Brightness scales; contrast scales about the mean; which is first is drawn."""
    camera = Camera(
        shift=0, degrees=0, perspective=0, inversion=0, jitter=0.3, blur=(0.01, 0.01), noise=(0, 0)
    )
    keys, images = keys_of(40, Stream(6)), torch.tensor([0.2, 0.6]).expand(40, 1, 16, 2)
    images = torch.cat([images] * 8, 3)
    seen = camera(images, keys)
    bright, contrast = (uniform(bits(keys, i), 0.7, 1.3) for i in (21, 22))
    # Without clipping the order does not matter: both scale the mean by brightness alone.
    mean, half = 0.4 * bright, 0.2 * bright * contrast
    torch.testing.assert_close(seen[:, 0, 8, 8], mean - half, atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[:, 0, 8, 9], mean + half, atol=1e-3, rtol=0)
    white = torch.cat([torch.full((40, 1, 16, 8), 0.2), torch.ones(40, 1, 16, 8)], 3)
    # With clipping it does: white that contrast clips first is scaled by brightness afterwards.
    ends = camera(white, keys)[:, 0, 8, 12]
    expected = torch.where(
        uniform(bits(keys, 27)) < 0.5,
        (0.2 * bright + bright.clamp(max=1)) / 2
        + contrast * (bright.clamp(max=1) - 0.2 * bright) / 2,
        ((0.6 + contrast * 0.4).clamp(max=1)) * bright,
    ).clamp(0, 1)
    torch.testing.assert_close(ends, expected, atol=2e-3, rtol=0)
    assert len({round(float(e), 2) for e in ends}) > 3


def test_grey_letters_stay_grey_on_three_channels():
    images = some().images.expand(-1, 3, -1, -1)
    method = A5Physical(
        recipe="PC", eps=0.03, defence=Defence(0.2), camera=MILD, schedule=replace(FEW, epochs=5),
        draws=8, judged=2, certificates=2, grey=True,
    )  # fmt: skip
    colours = models.build("a5_small", in_shape=(3, 16, 16), classes=5, seed=0)
    moved = method(colours, Batch(images, some().labels), generator=1).images["robustified"].images
    assert moved.shape == (5, 3, 16, 16) and float((moved - images).abs().max()) > 0.02
    assert torch.equal(moved, moved[:, :1].expand_as(moved))
    seen, _ = acquisitions(Batch(moved, some().labels), MILD, 2, Stream(0), grey=True)
    assert torch.equal(seen, seen[:, :1].expand_as(seen))
    tinted = images.clone()
    tinted[0, 0] += 0.1
    with pytest.raises(DataError, match="grey"):
        method(colours, Batch(tinted.clamp(0, 1), some().labels))


def test_gradients_reach_the_object():
    images = some().images.clone().requires_grad_()
    Camera(shift=1, kernel=3)(images, keys_of(5, Stream(4))).sum().backward()
    assert bool((images.grad.abs().flatten(1).sum(1) > 0).all())


def reader():
    return models.build("a5_small", in_shape=(1, 16, 16), classes=5, seed=0)


@pytest.mark.parametrize("recipe", ["C", "P", "PC", "PRC"])
def test_each_recipe_changes_what_it_says(recipe):
    method = A5Physical(
        recipe=recipe, eps=0.03, defence=Defence(0.2), camera=MILD, body="small", schedule=FEW,
        draws=16, judged=4, certificates=4,
    )  # fmt: skip
    result = method(reader(), some(), generator=1)
    objects = result.images["robustified"]
    moved = (objects.images - some().images).abs().max()
    assert float(moved) <= 0.2 + 1e-6
    assert (float(moved) > 0.02) == ("P" in recipe)
    assert isinstance(result.model, RobustifiedClassifier) == ("R" in recipe)
    inner = result.model.classifier if "R" in recipe else result.model
    changed = models.fingerprint(inner) != models.fingerprint(reader())
    assert changed == ("C" in recipe)
    assert len(result.trace["curves"]) == 6
    check = Checker(result.model)
    assert all(check(certificate).holds for certificate in result.certificates)


def test_changed_letters_and_classifier_certify_more_than_the_classifier_alone():
    errors = {}
    schedule = Schedule(
        epochs=12,
        batch_size=40,
        optimiser="adam",
        lr=3e-3,
        step_at=(),
        ramp=Ramp(3, 5),
        crown=False,
    )
    for recipe in ("C", "PC"):
        method = A5Physical(
            recipe=recipe, eps=0.03, defence=Defence(0.3), camera=MILD, schedule=schedule, draws=40,
            judged=20, certificates=0,
        )  # fmt: skip
        trace = method(reader(), some(), generator=1).trace
        errors[recipe] = trace["curves"][trace["best_epoch"] - 1]["validation_certified_error"]
    assert errors["PC"] < 0.8 * errors["C"]


def test_pictures_are_stored_with_8_bits():
    seen, labels = acquisitions(some(), MILD, 3, Stream(0))
    assert seen.shape == (15, 1, 16, 16) and labels.tolist() == [0, 1, 2, 3, 4] * 3
    torch.testing.assert_close(seen * 255, (seen * 255).round(), atol=1e-3, rtol=0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ArgumentError, match="recipe"):
        A5Physical(recipe="X")
    with pytest.raises(ArgumentError, match="eps"):
        A5Physical(eps=0.0)
    assert A5Physical(recipe="C", eps=0.0).eps == 0.0
    with pytest.raises(ArgumentError, match="odd kernel"):
        Camera(kernel=4)
    with pytest.raises(ArgumentError, match="did|font"):
        glyphs(32, font="Comic")
