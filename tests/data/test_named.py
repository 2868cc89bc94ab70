"""Names, where they lead, and what is said when they lead nowhere."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from suture import data
from suture.data.torchvision_files import FILES
from suture.errors import ArgumentError, DataError

from .idx_files import idx_bytes


def mnist_files(root, kind, count=10):
    """Tiny files where torchvision keeps its own."""
    images = np.arange(count * 28 * 28, dtype=np.int64).reshape(count, 28, 28).astype(np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for name in FILES[kind]:
        path = root / "torchvision" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx_bytes(images if "images" in name else labels))
    return images


def test_torchvision_files_on_disk_are_found(nowhere):
    images = mnist_files(nowhere, "MNIST")
    dataset = data.load("mnist", download=False)
    assert "torchvision MNIST" in dataset.source
    assert np.array_equal(dataset.test.arrays()[0][:, 0].numpy(), images)


def test_a_complete_copy_beats_the_data_folders_part(nowhere, images, labels):
    path = nowhere / "empty" / "fashion_mnist.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    partial = data.load("fashion-mnist", download=False)
    assert partial.source == "data folder: fashion_mnist.npz"
    assert "first 20 000" in partial.notes
    mnist_files(nowhere, "FashionMNIST")
    complete = data.load("fashion-mnist", download=False)
    assert "torchvision" in complete.source
    assert complete.notes == ""


def test_exact_cifar10_beats_the_lossy_copy(nowhere):
    (nowhere / "empty" / "cifar10_jpeg.npz").touch()
    assert {e.name: e.source for e in data.catalogue()}["cifar10"].endswith("cifar10_jpeg.npz")
    for name in FILES["CIFAR10"]:
        (nowhere / "torchvision" / name).parent.mkdir(parents=True, exist_ok=True)
        (nowhere / "torchvision" / name).touch()
    sources = {entry.name: entry.source for entry in data.catalogue()}
    assert sources["cifar10"] == "torchvision CIFAR10 files"
    assert sources["cifar10-jpeg"] == "data folder: cifar10_jpeg.npz"


def test_damaged_torchvision_files_are_named(nowhere):
    mnist_files(nowhere, "MNIST")
    path = nowhere / "torchvision" / FILES["MNIST"][0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="torchvision's MNIST"):
        data.load("mnist", download=False)


@pytest.mark.parametrize("kind", ["CIFAR10", "SVHN"])
def test_torchvision_files_with_a_wrong_checksum_are_never_opened(nowhere, kind):
    for name in FILES[kind]:
        path = nowhere / "torchvision" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x80\x02c__builtin__\neval\n")
    with pytest.raises(DataError, match="corrupted"):
        data.load(kind.lower(), download=False)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "svhn"])
def test_everything_tried_is_listed(nowhere, name):
    with pytest.raises(DataError, match="switched off") as caught:
        data.load(name, download=False)
    assert "not there" in str(caught.value)
    assert "digits" in caught.value.remedy


def test_a_failing_download_is_reported(nowhere, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.SVHN", unreachable)
    with pytest.raises(DataError, match="no route to host"):
        data.load("svhn")


def test_sets_of_the_data_folder_alone_say_so(nowhere):
    with pytest.raises(DataError, match="SUTURE_DATA"):
        data.load("cifar10-exact")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", "did you mean mnist"),
        ("no/such/folder", "nothing there"),
        ("missing.npz", "nothing there"),
    ],
)
def test_unknown_names_and_missing_paths(name, message):
    with pytest.raises(DataError, match=message):
        data.load(name)


def test_a_lone_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(DataError, match="Give the folder"):
        data.load(tmp_path / "a.gz")


def test_size_is_for_pictures_alone():
    with pytest.raises(ArgumentError, match="size"):
        data.load("digits", size=16)


def test_a_wrong_data_folder_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("SUTURE_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="SUTURE_DATA"):
        data.folder()


def test_the_folder_beside_the_current_directory_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("SUTURE_DATA", raising=False)
    monkeypatch.setattr("suture.data.places._checkout", lambda: None)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert data.folder() == tmp_path / "shared" / "data"


def test_catalogue_without_any_files(nowhere):
    entries = {entry.name: entry for entry in data.catalogue()}
    assert [name for name, entry in entries.items() if entry.available] == ["digits"]
    assert entries["svhn"].source == "torchvision's download"
    digits = data.load("digits")
    assert (entries["digits"].train, entries["digits"].test) == (
        len(digits.train) + len(digits.validation),
        len(digits.test),
    )
