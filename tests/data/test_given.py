"""Data of other libraries' kinds, by what it can do: nothing of theirs is imported here."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import suture
from suture import data
from suture.errors import DataError
from suture.repairs.base import Repair
from suture.repairs.result import RepairResult, Status
from suture.types import Batch

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (30, 8, 8), dtype=np.uint8)
LABELS = np.arange(30) % 3


class TorchvisionLike:
    """Pictures, ``targets`` and ``classes``, as torchvision's data sets have them."""

    targets = LABELS.tolist()
    classes = ("ant", "bee", "cat")
    decoded = 0

    def __len__(self):
        return 30

    def __getitem__(self, index):
        TorchvisionLike.decoded += 1
        return Image.fromarray(PIXELS[index]), int(LABELS[index])


class HuggingFaceLike:
    """Rows as mappings, columns by name, names of classes among the features."""

    column_names = ("image", "label")
    features: Mapping = {"image": None, "label": SimpleNamespace(names=["ant", "bee", "cat"])}

    def __len__(self):
        return 30

    def __getitem__(self, index):
        if index == "label":
            return LABELS.tolist()
        return {"image": Image.fromarray(PIXELS[index]), "label": int(LABELS[index])}


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(torch.from_numpy(PIXELS)[:, None] / 255, LABELS, strict=True)


FLOATS = torch.from_numpy(PIXELS)[:, None] / 255
KINDS = {
    "arrays": (PIXELS, LABELS),
    "channels last": (PIXELS[..., None], LABELS.tolist()),
    "tensors": (FLOATS, torch.from_numpy(LABELS)),
    "a tensor data set": TensorDataset(FLOATS, torch.from_numpy(LABELS)),
    "a loader": DataLoader(TensorDataset(FLOATS, torch.from_numpy(LABELS)), batch_size=7),
    "a loader of a stream": DataLoader(Stream(), batch_size=7),
    "torchvision's kind": TorchvisionLike(),
    "Hugging Face's kind": HuggingFaceLike(),
    "a mapping": {"image": PIXELS, "label": LABELS},
    "a batch": Batch(FLOATS, torch.from_numpy(LABELS)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_gives_the_same_images_and_labels(kind):
    batch = data.batch_of(KINDS[kind])
    assert torch.equal(batch.images, FLOATS) and batch.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "a batch"])
def test_each_is_a_data_set_with_disjoint_splits(kind):
    made = data.load(KINDS[kind])
    rows = torch.cat([split.index for split in made.splits.values()])
    assert sorted(rows.tolist()) == list(range(30)) and made.in_shape == (1, 8, 8)
    assert len(made.test) == 6 and made.classes == 3


@pytest.mark.parametrize("kind", [TorchvisionLike, HuggingFaceLike])
def test_names_of_classes_are_kept_and_pictures_decoded_when_asked_for(kind):
    TorchvisionLike.decoded = 0
    made = data.load(kind())
    assert made.class_names == ("ant", "bee", "cat") and TorchvisionLike.decoded <= 1


def test_parts_by_name():
    made = data.load({"train": (PIXELS[:20], LABELS[:20]), "test": HuggingFaceLike()})
    assert len(made.test) == 30 and len(made.train) + len(made.validation) == 20
    assert made.class_names == ("ant", "bee", "cat")
    assert len(data.batch_of({"train": (PIXELS[:20], LABELS[:20]), "test": KINDS["arrays"]})) == 30


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, "got int"),
        ((FLOATS * 4 - 2, LABELS), "suture.wrap"),
        ((PIXELS.astype(np.int32), LABELS), "astype"),
        ((PIXELS, LABELS[:7]), "one per image"),
        ((PIXELS, np.eye(3)[LABELS]), "argmax"),
        ([], "without images"),
        ([1, 2, 3], "an item that is int"),
        ({"picture": PIXELS, "class": LABELS}, "a mapping with picture, class"),
        ([(np.zeros((1, 4, 4)), 0), (np.zeros((1, 5, 5)), 1)], "different shapes"),
        (iter(()), "without batches"),
    ],
)
def test_what_is_no_data_says_what_it_should_be(given, said):
    with pytest.raises(DataError, match=said):
        data.batch_of(given)


def test_attack_repair_and_training_take_them():
    from suture.training import TrainConfig, train

    loader = DataLoader(TensorDataset(FLOATS, torch.from_numpy(LABELS)), batch_size=7)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    model = train(suture.wrap(net, in_shape=(1, 8, 8)), loader, config=TrainConfig(epochs=1)).model
    found = suture.PGD(eps=0.1, steps=2)(model, loader, generator=0)
    assert len(found.success) == 30
    again = suture.PGD(eps=0.1, steps=2)(model, (FLOATS, LABELS), generator=0)
    assert torch.equal(found.images, again.images)
    whole = data.load(loader)
    for given, seen in ((loader, 30), ((FLOATS, LABELS), 30), (whole, len(whole.train))):
        assert suture.repair(model, given, Counting()).trace["images"] == seen


@dataclass(frozen=True, kw_only=True)
class Counting(Repair):
    """Changes nothing and says how many images it was shown."""

    def _repair(self, model, data, context):
        return RepairResult(copy.deepcopy(model), Status.UNCHANGED, {"images": len(data)})
