"""Any .npz file: layouts, types, and every way to be wrong."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from suture import data
from suture.data import load
from suture.data.stores import InFile
from suture.errors import DataError

SHAPES = st.tuples(
    st.integers(1, 12), st.sampled_from([1, 3]), st.integers(4, 7), st.integers(4, 7)
)


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def everything(dataset):
    """All images in the order of the file, float32 (n, c, h, w)."""
    parts = [s for s in dataset.splits.values() if len(s)]
    images = np.concatenate([s.batch().images.numpy() for s in parts])
    return images[np.argsort(np.concatenate([s.index.numpy() for s in parts]))]


@settings(deadline=None, max_examples=40)
@given(
    st.data(),
    st.sampled_from(["nchw", "nhwc", "nhw"]),
    st.sampled_from([np.uint8, np.float16, np.float32, np.float64, np.dtype(">f4")]),
)
def test_round_trip(tmp_path_factory, draw, layout, dtype):
    shape = draw.draw(SHAPES)
    shape = (shape[0], 1, *shape[2:]) if layout == "nhw" else shape
    raw = draw.draw(hnp.arrays(np.uint8, shape))
    stored = raw if dtype == np.uint8 else (raw / 255).astype(dtype)
    expected = stored.astype(np.float32) / np.float32(255 if dtype == np.uint8 else 1)
    written = {"nchw": stored, "nhwc": stored.transpose(0, 2, 3, 1), "nhw": stored[:, 0]}[layout]
    path = tmp_path_factory.mktemp("npz") / "set.npz"
    dataset = data.load(save(path, images=written, labels=np.arange(len(raw)) % 3))
    assert dataset.in_shape == shape[1:]
    assert np.array_equal(everything(dataset), expected)


def test_official_parts_and_class_names_are_kept(tmp_path, images, labels):
    path = save(
        tmp_path / "a.npz",
        x_train=images,
        y_train=labels,
        x_test=images[:3],
        y_test=labels[:3],
        x_val=images[5:9],
        y_val=labels[5:9],
        class_names=np.array(["ant", "bee", "cat", "dog", "eel"]),
    )
    dataset = data.load(path)
    assert [len(s) for s in dataset.splits.values()] == [20, 4, 3]
    assert dataset.class_names == ("ant", "bee", "cat", "dog", "eel")
    assert np.array_equal(dataset.test.arrays()[0][:, 0].numpy(), images[:3])
    assert dataset.notes == ""


def test_bytes_stay_bytes_until_asked_for(tmp_path, images, labels):
    dataset = data.load(save(tmp_path / "a.npz", images=images, labels=labels))
    assert str(dataset.train.arrays()[0].dtype) == "torch.uint8"


def test_all_images_can_be_test_images(tmp_path, images, labels):
    path = save(tmp_path / "a.npz", x=images, y=labels)
    dataset = data.load(path, test_share=1.0)
    assert (len(dataset.test), len(dataset.train)) == (20, 0)
    assert (dataset.mean, dataset.std) == ((0.0,), (1.0,))
    with pytest.raises(DataError, match="training images"):
        dataset.train.batch()


def test_a_constant_channel_can_be_divided_by(tmp_path, labels):
    path = save(tmp_path / "a.npz", x=np.full((20, 4, 4), 7, np.uint8), y=labels)
    assert data.load(path).std == (1.0,)


BAD = {
    "one axis too few": (np.zeros((20, 5), np.uint8), None, "shape"),
    "an alpha channel": (np.zeros((20, 5, 5, 4), np.uint8), None, "c = 1 or 3"),
    "empty": (np.zeros((0, 5, 5), np.uint8), np.zeros(0, np.int64), "not empty"),
    "wide integers": (np.zeros((20, 5, 5), np.int64), None, "int64"),
    "NaN": (np.full((20, 5, 5), np.nan), None, "NaN"),
    "infinity": (np.full((20, 5, 5), np.inf), None, "inf"),
    "floats up to 255": (np.full((20, 5, 5), 255.0), None, "Divide by 255"),
    "normalised floats": (np.full((20, 5, 5), -0.5), None, "normalisation"),
    "float labels": (None, np.zeros(20), "integers"),
    "one-hot labels": (None, np.zeros((20, 4), np.int64), "one per image"),
    "too few labels": (None, np.zeros(19, np.int64), "one per image"),
    "negative labels": (None, np.arange(20) - 1, "from -1"),
    "huge labels": (None, np.arange(20) * 10**6, "Number the classes"),
    "object labels": (None, np.array([{}] * 20), "Python objects"),
    "object images": (np.array([{}] * 20), None, "Python objects"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_arrays_are_refused(tmp_path, images, labels, case):
    bad_images, bad_labels, message = BAD[case]
    path = save(
        tmp_path / "bad.npz",
        images=images if bad_images is None else bad_images,
        labels=labels if bad_labels is None else bad_labels,
    )
    with pytest.raises(DataError, match=message) as caught:
        data.load(path)
    assert "bad.npz" in str(caught.value)


def test_labels_must_have_a_class_name(tmp_path, images, labels):
    path = save(tmp_path / "a.npz", x=images, y=labels, class_names=np.array(["one", "two"]))
    with pytest.raises(DataError, match="label 3"):
        data.load(path)


def test_parts_must_have_one_shape(tmp_path, images, labels):
    path = tmp_path / "a.npz"
    save(path, x_train=images, y_train=labels, x_test=images[:, 1:], y_test=labels)
    with pytest.raises(DataError, match="one shape"):
        data.load(path)


def test_unknown_keys_are_named(tmp_path, images):
    with pytest.raises(DataError, match="pictures"):
        data.load(save(tmp_path / "a.npz", pictures=images))


def damage_tail(content):
    return content[: len(content) // 2]


def damage_middle(content):
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [damage_tail, damage_middle, lambda _: b"", lambda _: b"PK\3\4"])
def test_damaged_files_are_refused(tmp_path, damage):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 9, 9), dtype=np.uint8)
    path = save(tmp_path / "a.npz", images=pixels, labels=np.arange(50) % 5)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"a\.npz"):
        data.load(path).train.batch()


def test_one_altered_pixel_is_noticed(tmp_path, images, labels):
    """Stored without compression only the archive's checksum can tell."""
    path = tmp_path / "a.npz"
    np.savez(path, images=images, labels=labels)
    content = path.read_bytes()
    assert content.count(images.tobytes()) == 1
    path.write_bytes(content.replace(images.tobytes(), (images ^ 1).tobytes()))
    with pytest.raises(DataError, match="CRC"):
        data.load(path).train.batch()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_bytes_change_nothing_but_a_data_error_comes(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    save(path, images=np.zeros((6, 4, 4)), labels=np.arange(6) % 2)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert data.load(path).train.batch().shape == (1, 4, 4)


def lying_archive(path, shape, content=b""):
    """An .npz whose images announce more than the file holds."""
    header = io.BytesIO()
    announced = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, announced)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue() + content)
        archive.writestr("labels.npy", b"")
    return path


@pytest.mark.parametrize(
    ("shape", "message"), [((10**6, 10**4, 10**4), "announces"), ((10, 5, 5), "header of")]
)
def test_headers_are_checked_before_memory_is_taken(tmp_path, shape, message):
    with pytest.raises(DataError, match=message):
        data.load(lying_archive(tmp_path / "a.npz", shape))


def test_undivided_is_the_file_in_its_order(tmp_path):
    images = np.arange(40 * 4, dtype=np.uint8).reshape(40, 1, 2, 2)
    labels = np.arange(40) % 4
    np.savez(tmp_path / "all.npz", images=images, labels=labels)
    found = data.load(str(tmp_path / "all.npz"))
    whole, kept = found.undivided().arrays()
    assert whole.numpy().tolist() == images.tolist() and kept.tolist() == labels.tolist()
    assert len(found.train) < 40


LAYOUTS = {"nhw": (30, 6, 5), "nhwc": (30, 6, 5, 3), "nchw": (30, 3, 6, 5)}


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_large_array_is_read_in_place(tmp_path, monkeypatch, layout, kind):
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=LAYOUTS[layout], dtype=np.uint8)
    images = images if kind == "uint8" else (images / 255).astype(kind)
    path = tmp_path / "set.npz"
    np.savez(path, images=images, labels=np.arange(30) % 3)
    held = load(path).train
    monkeypatch.setattr("suture.data.npz.CACHE_BYTES", 0)
    found = load(path)
    assert isinstance(found.train.store, InFile)
    assert found.notes == load(path).notes
    assert "compressed" not in found.notes
    rows = torch.tensor([7, 0, 20, 7])
    for split in (found.train, pickle.loads(pickle.dumps(found.train))):
        assert split.store.shape == held.store.shape
        assert torch.equal(split[rows].images, held[rows].images)
        assert torch.equal(split.batch().images, held.batch().images)


def test_what_is_compressed_or_transposed_is_held_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr("suture.data.npz.CACHE_BYTES", 0)
    images, labels = np.zeros((20, 4, 4), dtype=np.uint8), np.arange(20) % 2
    np.savez_compressed(tmp_path / "small.npz", images=images, labels=labels)
    np.savez(tmp_path / "fortran.npz", images=np.asfortranarray(images), labels=labels)
    for name in ("small", "fortran"):
        found = load(tmp_path / f"{name}.npz")
        assert not isinstance(found.train.store, InFile)
        assert "saved with numpy.savez they are read one by one" in found.notes
    damaged = np.full((20, 4, 4), 1.5, dtype=np.float32)
    np.savez(tmp_path / "range.npz", images=damaged, labels=labels)
    with pytest.raises(DataError, match="values from 1.5 to 1.5"):
        load(tmp_path / "range.npz")


def test_a_file_that_is_cut_off_later_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("suture.data.npz.CACHE_BYTES", 0)
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((20, 4, 4), dtype=np.uint8), labels=np.arange(20) % 2)
    split = load(path).train
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match="the file ends before image"):
        split.batch()
