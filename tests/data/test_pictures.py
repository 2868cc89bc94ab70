"""Picture grids and summaries."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from suture import data
from suture.errors import ArgumentError, StorageError
from suture.types import Batch


@pytest.fixture
def batch():
    return data.load("digits").test.batch(7)


def test_tiny_images_are_enlarged_without_smoothing(batch):
    sheet = np.asarray(data.grid(batch, columns=3, captions=()))
    first = sheet[4:68, 4:68, 0]
    grey = (batch.images[0, 0].numpy() * 255).round()
    assert np.array_equal(first, np.kron(grey, np.ones((8, 8))))


def test_rows_and_columns(batch):
    with_text, without = data.grid(batch, columns=3), data.grid(batch, columns=3, captions=[])
    assert without.size == (3 * 68 + 4, 3 * 68 + 4)
    assert with_text.height > without.height
    assert data.grid(batch[:2], columns=10).width == 2 * 68 + 4


def test_captions_are_written_below(batch):
    plain = np.asarray(data.grid(batch, captions=[""] * 7))
    named = np.asarray(data.grid(batch, captions=["seven letters and more"] * 7))
    assert np.array_equal(plain[:68], named[:68])
    assert (plain[68:] == 255).all()
    assert (named[68:] < 128).any()


def test_large_colour_images_stay_as_they_are():
    image = torch.rand(1, 3, 70, 90)
    sheet = np.asarray(data.grid(Batch(image, torch.tensor([0])), captions=()))
    expected = (image[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(sheet[4:74, 4:94], expected)


@pytest.mark.parametrize("arguments", [{"columns": 0}, {"captions": ["one"]}])
def test_senseless_grids_are_refused(batch, arguments):
    with pytest.raises(ArgumentError):
        data.grid(batch, **arguments)


def test_png_round_trip(batch, tmp_path):
    sheet = data.grid(batch)
    data.save_png(sheet, tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(sheet))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_cannot_be_written_is_reported(batch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        data.save_png(data.grid(batch), tmp_path / "file" / "a.png")


def test_summary_is_json_and_counts_every_image():
    digits = data.load("digits")
    summary = json.loads(json.dumps(data.summary(digits)))
    assert summary["mean"] == list(digits.mean)
    for name, split in digits.splits.items():
        assert summary["splits"][name]["images"] == len(split)
        assert sum(summary["splits"][name]["per_class"]) == len(split)
    assert summary["in_shape"] == [1, 8, 8]
    assert "No official test set" in summary["notes"]
