"""Folders of pictures."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from suture import data
from suture.errors import ArgumentError, DataError

CLASSES = ("ant", "bee")


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def pixels(seed, shape=(6, 5, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for c, name in enumerate(CLASSES):
        for k in range(5):
            write(tmp_path / name / f"{k}.png", pixels(10 * c + k))
    return tmp_path


def test_pixels_labels_and_names(folder):
    dataset = data.load(folder)
    assert (dataset.class_names, dataset.in_shape) == (CLASSES, (3, 6, 5))
    for split in dataset.splits.values():
        for image, label, position in zip(*split.arrays(), split.index, strict=True):
            seed = int(position) + 5 * int(label)
            assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels(seed))
            assert int(label) == int(position) // 5


def test_train_test_and_val_folders(folder, tmp_path):
    root = tmp_path / "parts"
    for part, count in (("train", 4), ("test", 2), ("val", 1)):
        for name in CLASSES:
            for k in range(count):
                write(root / part / name / f"{k}.png", pixels(k))
    dataset = data.load(root)
    assert [len(split) for split in dataset.splits.values()] == [8, 2, 4]


def test_grey_pictures_have_one_channel(tmp_path):
    for name in CLASSES:
        write(tmp_path / name / "0.png", pixels(0, (4, 4)))
    dataset = data.load(tmp_path, test_share=1.0)
    assert dataset.in_shape == (1, 4, 4)
    assert np.array_equal(dataset.test.arrays()[0][0, 0].numpy(), pixels(0, (4, 4)))


def test_one_colour_picture_makes_all_colour(folder):
    write(folder / "ant" / "grey.png", pixels(0, (6, 5)))
    assert data.load(folder).in_shape == (3, 6, 5)


def test_exif_orientation_is_ignored(folder):
    turned = Image.Exif()
    turned[0x0112] = 6
    write(folder / "ant" / "9.png", pixels(99), exif=turned)
    dataset = data.load(folder, test_share=1.0)
    assert np.array_equal(dataset.test.arrays()[0][5].permute(1, 2, 0).numpy(), pixels(99))


def test_sizes_must_agree_or_be_given(folder):
    write(folder / "bee" / "big.png", pixels(1, (12, 10, 3)))
    with pytest.raises(DataError, match=r"10x12 in .*big.png"):
        data.load(folder)
    assert data.load(folder, size=8).in_shape == (3, 8, 8)
    assert data.load(folder, size=(4, 7)).train.arrays()[0].shape[1:] == (3, 4, 7)


def test_resizing_keeps_flat_pictures_flat(tmp_path):
    for name, grey in zip(CLASSES, (40, 200), strict=True):
        write(tmp_path / name / "0.png", np.full((6, 8, 3), grey, np.uint8))
    images, labels = data.load(tmp_path, size=5, test_share=1.0).test.arrays()
    assert [int(v) for v in images.flatten(1).float().mean(1)] == [40, 200]
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("size", [0, -3, (4, 0), (10**5, 10**5)])
def test_senseless_sizes_are_refused(folder, size):
    with pytest.raises(ArgumentError, match="size"):
        data.load(folder, size=size)


def test_truncated_pictures_are_named(folder):
    path = folder / "bee" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"3\.png"):
        data.load(folder, test_share=1.0).test.batch()


def test_truncated_jpegs_are_named(tmp_path):
    for name in CLASSES:
        write(tmp_path / name / "0.jpg", pixels(0, (40, 40, 3)))
    path = tmp_path / "ant" / "0.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"0\.jpg"):
        data.load(tmp_path, test_share=1.0).test.batch()


def test_text_called_png_is_refused(folder):
    (folder / "ant" / "x.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"x\.png"):
        data.load(folder)


def test_decompression_bombs_are_refused_from_the_header(folder):
    """A PNG that announces 50 000 × 50 000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    ihdr = struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    idat = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (folder / "ant" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + ihdr + idat)
    with pytest.raises(DataError, match="bomb"):
        data.load(folder, size=8)


def test_pictures_above_the_limit_are_refused(folder, monkeypatch):
    monkeypatch.setattr("suture.data.image_folder.MAX_PIXELS", 29)
    with pytest.raises(DataError, match="at most 29 pixels"):
        data.load(folder)


def test_sixteen_bit_pictures_are_refused(folder):
    write(folder / "ant" / "deep.png", pixels(0, (6, 5)).astype(np.uint16) * 256)
    with pytest.raises(DataError, match="8-bit"):
        data.load(folder)


def test_an_empty_class_is_refused(folder):
    (folder / "cat").mkdir()
    with pytest.raises(DataError, match="no picture in 'cat'"):
        data.load(folder)


def test_a_folder_without_classes_is_refused(tmp_path):
    with pytest.raises(DataError, match="no subfolders"):
        data.load(tmp_path)


def test_test_classes_must_be_training_classes(tmp_path):
    write(tmp_path / "train" / "ant" / "0.png", pixels(0))
    write(tmp_path / "test" / "cat" / "0.png", pixels(0))
    with pytest.raises(DataError, match="'cat' in test"):
        data.load(tmp_path)
