"""The packed public sets of the data folder, against what its README states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from suture import data
from suture.data import packed
from suture.data.arrays import Archive
from suture.errors import DataError

pytestmark = [pytest.mark.data, pytest.mark.usefixtures("data_folder")]

TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
PARTS = {
    "mnist": (TRAIN, TEST),
    "fashion-mnist": (None, [1000] * 10),
    "cifar10-jpeg": ([5000] * 10, [1000] * 10),
    "cifar10-exact": (None, [55, 49, 42, 34, 41, 48, 58, 47, 52, 57]),
    "imagenet-sample": (None, [1] * 1000),
}


@pytest.mark.parametrize("name", PARTS)
def test_label_counts_and_disjoint_splits(name):
    dataset = data.load(name, download=False)
    train, test = PARTS[name]
    assert torch.bincount(dataset.test.labels).tolist() == test
    learnt = torch.cat([dataset.train.labels, dataset.validation.labels])
    assert train is None or torch.bincount(learnt).tolist() == train
    both = torch.cat([dataset.train.index, dataset.validation.index])
    assert len(both.unique()) == len(both)


@pytest.mark.parametrize("name", PARTS)
def test_catalogue_tells_the_truth(name):
    entry = next(entry for entry in data.catalogue() if entry.name == name)
    dataset = data.load(name, download=False)
    assert entry.available
    assert (entry.train, entry.test) == (
        len(dataset.train) + len(dataset.validation),
        len(dataset.test),
    )
    assert (entry.shape, entry.classes) == (dataset.in_shape, dataset.classes)
    assert entry.notes in dataset.notes


def test_mnist_statistics_are_the_known_ones():
    """0.1307 and 0.3081 are on every MNIST page; 55 000 of the 60 000 images agree to 1e-3."""
    dataset = data.load("mnist", download=False)
    assert dataset.mean[0] == pytest.approx(0.1307, abs=1e-3)
    assert dataset.std[0] == pytest.approx(0.3081, abs=1e-3)


def test_float_conversion_divides_by_255():
    split = data.load("mnist", download=False).test
    stored, _ = split.select(torch.arange(50)).arrays()
    assert stored.dtype == torch.uint8
    expected = stored.numpy().astype(np.float32) / np.float32(255)
    assert np.array_equal(split.batch(50).images.numpy(), expected)


def test_the_lossy_copy_says_so():
    dataset = data.load("cifar10-jpeg", download=False)
    assert "Lossy" in dataset.notes
    cifar10 = data.load("cifar10", download=False)
    assert ("Lossy" in cifar10.notes) == (cifar10.name == "cifar10-jpeg")


def test_exact_and_lossy_pixels_belong_together():
    """README: 5.8 grey levels apart on average, worst image 13: so order and labels agree."""
    exact = data.load("cifar10-exact").test
    lossy = data.load("cifar10-jpeg").test.select(exact.index)
    assert torch.equal(exact.labels, lossy.labels)
    apart = (exact.batch().images - lossy.batch().images).abs().flatten(1).mean(1) * 255
    assert float(apart.mean()) == pytest.approx(5.8, abs=0.5)
    assert float(apart.max()) < 14


def test_exact_training_images_match_their_lossy_twins():
    exact = data.load("cifar10-exact", validation=0).train.select(torch.arange(0, 4000, 97))
    lossy = data.load("cifar10-jpeg", validation=0).train.select(exact.index)
    apart = (exact.batch().images - lossy.batch().images).abs().flatten(1).mean(1) * 255
    assert float(apart.max()) < 14


def test_unbiased_hundred_can_be_chosen():
    test = data.load("cifar10-exact").test
    assert test.select(test.index < 100).index.tolist() == list(range(100))


def test_only_the_images_asked_for_are_decoded(monkeypatch):
    decoded, honest = [], packed.PackedImages._decode

    def counted(self, row):
        decoded.append(row)
        return honest(self, row)

    monkeypatch.setattr(packed.PackedImages, "_decode", counted)
    split = data.load("cifar10-jpeg", download=False).test
    split.batch(3, start=5)
    split.batch(2, start=6)
    assert decoded == [5, 6, 7]


def test_photos_have_names_and_nothing_to_train_on():
    dataset = data.load("imagenet-sample")
    assert dataset.class_names[340] == "zebra"
    assert (dataset.mean[0], dataset.std[0]) == (0.485, 0.229)
    assert dataset.test.batch(1, start=340).shape == (3, 224, 224)


def test_damaged_packed_files_are_refused(data_folder, tmp_path):
    archive = Archive(data_folder / "imagenet_sample1000.npz")
    arrays = {key: archive.array(key) for key in ("y", "name", "offsets")}
    content = archive.array("jpeg")[: arrays["offsets"][2]].copy()
    content[arrays["offsets"][1] + 200 :] = 0
    path = tmp_path / "imagenet_sample1000.npz"
    offsets = arrays["offsets"][:3]
    np.savez(path, jpeg=content, offsets=offsets, y=arrays["y"][:2], name=arrays["name"][:2])
    store = packed.read_imagenet_sample(path).test.images
    assert store.take(torch.tensor([0])).shape == (1, 3, 224, 224)
    np.savez(path, jpeg=content[:-5], offsets=offsets, y=arrays["y"][:2], name=arrays["name"][:2])
    with pytest.raises(DataError, match="offsets"):
        packed.read_imagenet_sample(path)
