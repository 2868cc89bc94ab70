"""TinyImageNet in its official layout, on a copy of that layout."""

from __future__ import annotations

import pytest

from suture import data
from suture.errors import DataError
from tests.data.tiny_folder import NUMBERS, written


def test_the_official_layout_is_read(tmp_path):
    found = data.load(written(tmp_path))
    assert found.in_shape == (3, 64, 64) and found.classes == 3
    assert found.class_names == ("n01443537 goldfish", "n02124075 Egyptian cat", "n04067472")
    assert len(found.train) + len(found.validation) == 12 and len(found.test) == 6
    batch = found.test.batch(6)
    # Classes are in alphabetic order, whatever the order of wnids.txt: channel 0 is the cat's.
    means = batch.images.mean((2, 3))
    coloured = means.amax(1) - means.amin(1) > 0.2
    assert int(coloured.sum()) == 5, "one is grey, and gets three equal channels"
    told = [sorted(NUMBERS).index(NUMBERS[c]) for c in means[coloured].argmax(1).tolist()]
    assert told == batch.labels[coloured].tolist() and "secret" in found.notes


def test_it_has_a_name_in_the_data_folder(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.setenv("SUTURE_DATA", str(tmp_path))
    assert data.load("tiny-imagenet").name == "tiny-imagenet"
    monkeypatch.setenv("SUTURE_DATA", str(tmp_path / "tiny-imagenet-200"))
    with pytest.raises(DataError, match="tiny-imagenet"):
        data.load("tiny-imagenet")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda f: (f / "wnids.txt").write_text("n02124075\nn00000001\n"), "n00000001"),
        (lambda f: (f / "val" / "images" / "val_3.JPEG").unlink(), "val_3"),
        (lambda f: (f / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn7\n"), "n7"),
        (lambda f: (f / "val" / "val_annotations.txt").write_text("../../x\n"), "x"),
        (lambda f: (f / "wnids.txt").write_bytes(b"\xff\xfe"), "list of TinyImageNet"),
    ],
)
def test_a_damaged_copy_says_where(tmp_path, damage, match):
    folder = written(tmp_path)
    damage(folder)
    with pytest.raises(DataError, match=match):
        data.load(folder)
