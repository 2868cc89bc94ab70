"""Augmentation: per sample, repeatable, and really the operation it is called."""

from __future__ import annotations

import math

import pytest
import torch

from suture.rng import Stream
from suture.training.augment import augmented, rotated, shifted

KINDS = ["flip-crop", "crop-rotate"]


@pytest.fixture
def images():
    return torch.rand(40, 3, 16, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [*KINDS, "shift"])
def test_an_images_draw_does_not_depend_on_its_batch(images, kind):
    positions, stream = torch.arange(40) + 7, Stream(1)
    together = augmented(images, positions, kind, stream)
    apart = torch.cat(
        [augmented(images[k : k + 7], positions[k : k + 7], kind, stream) for k in range(0, 40, 7)]
    )
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_images_epochs_and_streams_differ(images, kind):
    same = images[:1].expand(40, -1, -1, -1)
    drawn = augmented(same, torch.arange(40), kind, Stream(1))
    assert len({tuple(image.flatten().tolist()) for image in drawn}) > 10
    assert not torch.equal(drawn, augmented(same, torch.arange(40), kind, Stream(2)))


@pytest.mark.parametrize("kind", KINDS)
def test_images_stay_images(images, kind):
    drawn = augmented(images, torch.arange(40), kind, Stream(0))
    assert drawn.shape == images.shape
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1


def test_none_changes_nothing(images):
    assert torch.equal(augmented(images, torch.arange(40), "none", Stream(0)), images)


def test_shifts_are_shifts_by_at_most_an_eighth():
    """A single bright pixel per image moves to every place that is allowed, and to no other."""
    images = torch.zeros(2000, 1, 8, 16)
    images[:, :, 4, 8] = 1
    found = shifted(images, torch.arange(2000) * 0x9E3779B97F4A7C1 + 5).nonzero()
    offsets = {(int(row) - 4, int(column) - 8) for _, _, row, column in found}
    assert offsets == {(down, across) for down in (-1, 0, 1) for across in (-2, -1, 0, 1, 2)}
    assert len(found) == 2000


def test_a_small_shift_goes_one_pixel_of_twenty_eight_in_every_direction():
    images = torch.zeros(500, 1, 28, 60)
    images[:, :, 14, 30] = 1
    found = augmented(images, torch.arange(500), "shift", Stream(3)).nonzero()
    offsets = {(int(row) - 14, int(column) - 30) for _, _, row, column in found}
    assert offsets == {(down, across) for down in (-1, 0, 1) for across in (-2, -1, 0, 1, 2)}


def test_half_of_the_images_are_mirrored():
    ramp = torch.linspace(0, 1, 16).expand(2000, 1, 16, 16)
    drawn = augmented(ramp, torch.arange(2000), "flip-crop", Stream(0))
    mirrored = int((drawn[:, 0, 8, 4] > drawn[:, 0, 8, 11]).sum())
    assert abs(mirrored - 1000) < 4 * math.sqrt(500)


def test_a_quarter_turn_is_a_quarter_turn():
    image = torch.rand(1, 1, 9, 9)
    turned = rotated(image, torch.tensor([math.pi / 2]))
    torch.testing.assert_close(turned, image.rot90(1, (2, 3)), rtol=0, atol=1e-5)


def test_oblong_images_turn_without_shear():
    """Two pixels of a 5 × 9 image, each two from the centre, on the long and on the short axis."""
    image = torch.zeros(1, 1, 5, 9)
    image[0, 0, 2, 6] = image[0, 0, 0, 4] = 1
    turned = rotated(image, torch.tensor([math.pi / 2]))
    assert turned.round().nonzero()[:, 2:].tolist() == [[0, 4], [2, 2]]
