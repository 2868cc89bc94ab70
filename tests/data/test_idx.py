"""MNIST's own file format."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from suture import data
from suture.data.idx import read_idx_array
from suture.errors import DataError

from .idx_files import idx_bytes


@pytest.fixture(params=["", ".gz"])
def folder(request, tmp_path, images, labels):
    pack = gzip.compress if request.param else bytes
    for part, count in (("train", 20), ("t10k", 8)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            path = tmp_path / f"{part}-{kind}-ubyte{request.param}"
            path.write_bytes(pack(idx_bytes(array[:count])))
    return tmp_path


@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]),
        hnp.array_shapes(max_dims=4, max_side=5),
        elements={"allow_nan": False},
    )
)
def test_round_trip(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(idx_bytes(array))
    assert np.array_equal(read_idx_array(path), array)


def test_hand_written_bytes(tmp_path):
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]))
    assert read_idx_array(tmp_path / "a").tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_folder_of_four_files(folder, images, labels):
    dataset = data.load(folder)
    assert [len(split) for split in dataset.splits.values()] == [18, 2, 8]
    assert np.array_equal(dataset.test.arrays()[0][:, 0].numpy(), images[:8])
    assert np.array_equal(dataset.train.labels, labels[dataset.train.index])


def test_truncated_files_are_refused(folder):
    path = next(folder.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="train-images"):
        data.load(folder)


def test_files_that_are_too_long_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(idx_bytes(np.zeros((2, 2), np.uint8)) + b"\0")
    with pytest.raises(DataError, match="more bytes"):
        read_idx_array(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"\x89PNG....", b"\0\0\x07\x01\0\0\0\0"])
def test_other_formats_are_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError):
        read_idx_array(tmp_path / "a")


def test_absurd_sizes_are_refused_from_the_header(tmp_path):
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, 3]) + b"\x7f\xff\xff\xff" * 3)
    with pytest.raises(DataError, match="announces"):
        read_idx_array(tmp_path / "a")


def test_missing_labels_are_named(folder):
    next(folder.glob("t10k-labels*")).unlink()
    with pytest.raises(DataError, match="label file"):
        data.load(folder)


def test_images_and_labels_must_agree_in_number(folder):
    next(folder.glob("t10k-labels*")).unlink()
    labels = idx_bytes(np.zeros(7, np.uint8))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(DataError, match="one per image"):
        data.load(folder)
