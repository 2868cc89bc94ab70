"""The embedded digits: what always works."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from suture import data
from suture.errors import ArgumentError, DataError
from suture.rng import Stream


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits")


def test_every_image_is_in_exactly_one_split(digits):
    positions = torch.cat([split.index for split in digits.splits.values()])
    assert positions.sort().values.tolist() == list(range(1797))
    assert [len(split) for split in digits.splits.values()] == [1295, 143, 359]


def test_pixels_and_labels_are_those_of_scikit_learn(digits):
    reference = load_digits()
    for split in digits.splits.values():
        batch = split.batch()
        assert np.array_equal(batch.images[:, 0].numpy(), reference.images[split.index] / 16)
        assert np.array_equal(batch.labels.numpy(), reference.target[split.index])


def test_every_class_has_its_share_of_the_test_split(digits):
    everything = np.bincount(load_digits().target)
    test = torch.bincount(digits.test.labels).numpy()
    assert np.abs(test - everything * len(digits.test) / 1797).max() < 1.5


def test_seed_chooses_validation_but_never_test(digits):
    other = data.load("digits", seed=1)
    assert torch.equal(other.test.index, digits.test.index)
    assert not torch.equal(other.validation.index, digits.validation.index)


def test_splits_are_the_same_in_another_process(digits):
    code = "from suture import data; print(data.load('digits').validation.index.tolist())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(digits.validation.index.tolist())


def test_splits_stay_as_they_were_published(digits):
    """Numbers from the first release: records made then must stay comparable."""
    assert digits.test.index[:6].tolist() == PUBLISHED_TEST
    assert digits.validation.index[:6].tolist() == PUBLISHED_VALIDATION
    sums = [int(split.index.sum()) for split in (digits.test, digits.validation)]
    assert sums == PUBLISHED_SUMS


PUBLISHED_TEST = [1, 8, 11, 12, 15, 18]
PUBLISHED_SUMS = [328338, 130355]
PUBLISHED_VALIDATION = [21, 45, 64, 68, 92, 116]


@pytest.mark.parametrize(("wanted", "count"), [(0, 0), (7, 7), (0.5, 719), (0.0, 0)])
def test_validation_as_number_or_share(wanted, count):
    digits = data.load("digits", validation=wanted)
    assert (len(digits.validation), len(digits.train)) == (count, 1438 - count)


@pytest.mark.parametrize("wanted", [-1, 1438, 1.0, -0.1, float("nan"), float("inf")])
def test_senseless_validation_is_refused(wanted):
    with pytest.raises(ArgumentError, match="validation="):
        data.load("digits", validation=wanted)


def test_batches_are_consecutive_and_at_most_as_long_as_asked(digits):
    assert torch.equal(digits.test.batch(10, start=20).labels, digits.test.labels[20:30])
    assert len(digits.test.batch(50, start=340)) == 19
    sizes = [len(batch) for batch in digits.test.batches(100)]
    assert sizes == [100, 100, 100, 59]


def test_shuffled_pieces_cover_the_split_once(digits):
    stream = Stream(3)
    pieces = list(digits.validation.batches(40, shuffle_stream=stream))
    together = torch.cat([piece.images for piece in pieces]).flatten(1)
    plain = digits.validation.batch().images.flatten(1)
    assert not torch.equal(together, plain)
    assert torch.equal(_sorted(together), _sorted(plain))
    again = digits.validation.batch(40, shuffle_stream=stream)
    assert torch.equal(again.images, pieces[0].images)


def _sorted(rows: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(rows.tolist()))


def test_select_keeps_images_labels_and_index_together(digits):
    few = digits.test.select(digits.test.index < 100)
    assert 0 < len(few) < len(digits.test)
    assert int(few.index.max()) < 100
    assert np.array_equal(few.batch().images[:, 0].numpy(), load_digits().images[few.index] / 16)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0, 0), ArgumentError), ((5, -1), ArgumentError), ((5, 359), DataError)],
)
def test_impossible_pieces_are_refused(digits, arguments, error):
    with pytest.raises(error):
        digits.test.batch(arguments[0], start=arguments[1])


def test_mean_and_std_are_those_of_the_training_pixels(digits):
    pixels = load_digits().images[digits.train.index] / 16
    assert digits.mean == pytest.approx((pixels.mean(),), abs=1e-12)
    assert digits.std == pytest.approx((pixels.std(),), abs=1e-12)


def test_loading_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    data.load("digits").train.batch(10, shuffle_stream=Stream(1))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_a_data_set_crosses_process_boundaries(digits):
    copy = pickle.loads(pickle.dumps(digits))
    assert torch.equal(copy.test.batch(5).images, digits.test.batch(5).images)
