"""Parquet files and saved Hugging Face data sets by path: the pixels, labels and parts in them."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from suture import data
from suture.data import stores
from suture.data.feeding import WORKERS
from suture.errors import DataError, DependencyError

hf = pytest.importorskip("datasets")
PIXELS = np.random.default_rng(5).integers(256, size=(30, 6, 5, 3), dtype=np.uint8)
LABELS = [k % 3 for k in range(30)]
NAMES = ["ant", "bee", "cat"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(pixels: np.ndarray) -> dict[str, Any]:
    to = io.BytesIO()
    Image.fromarray(pixels).save(to, "PNG")
    return {"bytes": to.getvalue(), "path": None}


def made(
    chosen: range = range(30),
    image: str = "image",
    label: str = "label",
    named: bool = True,
    **columns: list[int],
) -> Any:
    kind = hf.ClassLabel(names=NAMES) if named else hf.Value("int64")
    features = {image: hf.Image(), label: kind} | {n: hf.Value("int64") for n in columns}
    values = {
        image: [encoded(PIXELS[k]) for k in chosen],
        label: [LABELS[k] for k in chosen],
    }
    return hf.Dataset.from_dict(values | columns, features=hf.Features(features))


def saved(folder: Path) -> dict[str, Path]:
    """The same 30 images in each of the forms."""
    folder.mkdir()
    made().to_parquet(folder / "one.parquet")
    parts = {"train": range(20), "test": range(20, 30)}
    for name, chosen in parts.items():
        place = folder / "shards" / "data"
        place.mkdir(parents=True, exist_ok=True)
        for number, some in enumerate((chosen[:7], chosen[7:])):
            made(some).to_parquet(place / f"{name}-0000{number}-of-00002.parquet")
    made().save_to_disk(folder / "saved")
    hf.DatasetDict({name: made(chosen) for name, chosen in parts.items()}).save_to_disk(
        folder / "parts"
    )
    return {name: folder / name for name in ("one.parquet", "shards", "saved", "parts")}


@pytest.mark.parametrize("form", ["one.parquet", "shards", "saved", "parts"])
def test_each_form_gives_its_pixels_labels_and_parts(form: str, tmp_path: Path):
    found = data.load(saved(tmp_path / "files")[form], validation=5)
    assert found.class_names == tuple(NAMES) and found.in_shape == (3, 6, 5)
    official = form in ("shards", "parts")
    assert len(found.test) == (10 if official else 6)
    for split in found.splits.values():
        at = split.index + (20 if official and split.name == "test" else 0)
        images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)[at].float() / 255
        assert torch.equal(split.images, images)
        assert split.labels.tolist() == [LABELS[k] for k in at]


def test_pictures_are_decoded_when_asked_for_by_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made().save_to_disk(tmp_path / "saved")
    whole = data.load(tmp_path / "saved").undivided()
    expected = whole.images
    monkeypatch.setattr(stores, "CACHE_BYTES", 0)
    monkeypatch.setenv(WORKERS, "2")
    again = data.load(tmp_path / "saved").undivided()
    assert again.store.slow
    fed = torch.cat([batch.images for batch in again.split(7)])
    assert torch.equal(fed, expected)
    assert again.known == whole.known and again.known.startswith("files ")


def test_they_are_resized_where_that_is_asked(tmp_path: Path):
    made().save_to_disk(tmp_path / "saved")
    assert data.load(tmp_path / "saved", size=4).in_shape == (3, 4, 4)


def test_a_struct_of_bytes_and_whole_numbers_are_understood(tmp_path: Path):
    plain = made(image="picture", label="digit", named=False)
    struct = {"bytes": hf.Value("binary"), "path": hf.Value("string")}
    as_stored = plain.cast_column("picture", hf.Image(decode=False))
    rows = {name: as_stored[:][name] for name in ("picture", "digit")}
    features = hf.Features({"picture": struct, "digit": hf.Value("int32")})
    hf.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "plain")
    found = data.load(tmp_path / "plain")
    assert found.class_names == ("0", "1", "2") and found.train.store.shape == (30, 3, 6, 5)


def test_of_several_columns_the_usual_name_counts(tmp_path: Path):
    made(label="fine_label", named=False, coarse=[7] * 30).save_to_disk(tmp_path / "saved")
    assert data.load(tmp_path / "saved").classes == 3


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image": hf.Image()}, "none among image.*rename_column"),
        ({"label": hf.ClassLabel(names=NAMES)}, "encoded pictures.*none"),
        (
            {"left": hf.Image(), "right": hf.Image(), "label": hf.Value("int64")},
            'several: left, right.*rename_column\\("…", "image"\\)',
        ),
        ({"image": hf.Image(), "a": hf.Value("int64"), "b": hf.Value("int8")}, "several: a, b"),
        ({"image": hf.Image(), "label": hf.Value("string")}, "class_encode_column"),
    ],
)
def test_columns_that_are_not_clear_are_an_error(columns: dict, said: str, tmp_path: Path):
    def value(feature: Any) -> Any:
        if isinstance(feature, hf.Image):
            return encoded(PIXELS[0])
        return "ant" if getattr(feature, "dtype", "") == "string" else 0

    rows = {name: [value(feature)] * 5 for name, feature in columns.items()}
    hf.Dataset.from_dict(rows, features=hf.Features(columns)).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=said):
        data.load(tmp_path / "saved")


def test_files_that_a_row_names_elsewhere_are_not_opened(tmp_path: Path):
    Image.fromarray(PIXELS[0]).save(tmp_path / "elsewhere.png")
    cells = [{"bytes": None, "path": str(tmp_path / "elsewhere.png")}] * 5
    struct = {"bytes": hf.Value("binary"), "path": hf.Value("string")}
    features = hf.Features({"image": struct, "label": hf.Value("int64")})
    rows = {"image": cells, "label": [0] * 5}
    hf.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="no bytes at position 0"):
        data.load(tmp_path / "saved")


def test_damaged_files_are_refused(tmp_path: Path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(DataError, match="a Hugging Face data set at"):
        data.load(tmp_path / "bad.parquet")
    made().save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="a Hugging Face data set at"):
        data.load(tmp_path / "saved")


def test_parts_of_unknown_names_are_told(tmp_path: Path):
    parts = {"left": made(range(9)), "right": made(range(9, 30))}
    hf.DatasetDict(parts).save_to_disk(tmp_path / "parts")
    with pytest.raises(DataError, match=r"left \(9 rows\), right \(21 rows\)"):
        data.load(tmp_path / "parts")


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "one.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DependencyError, match=r"pip install 'suture\[datasets\]'"):
        data.load(tmp_path / "one.parquet")
