"""Batches, boxes and threat models refuse what makes no sense, and say why."""

from __future__ import annotations

import pickle

import pytest
import torch

from suture.errors import ArgumentError, DataError, SutureError, unknown_name
from suture.types import Batch, Box, ThreatModel, check_classes

GOOD = torch.rand(3, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (GOOD * 255, LABELS, r"pixel values in \[0, 1\].*Divide by 255"),
        (GOOD - 1, LABELS, r"pixel values in \[0, 1\]"),
        (GOOD.double(), LABELS, "float32 images.*got float64"),
        ((GOOD * 255).byte(), LABELS, "float32 images.*got uint8"),
        (GOOD[0], LABELS, r"shape \(n, channels, height, width\)"),
        (GOOD[:0], LABELS[:0], "at least one image"),
        (GOOD.clone().fill_(float("nan")), LABELS, "without NaN"),
        (GOOD.clone().fill_(float("inf")), LABELS, r"pixel values in \[0, 1\]"),
        (GOOD.numpy(), LABELS, "torch.Tensor"),
        (GOOD, LABELS[:2], r"shape \(3,\)"),
        (GOOD, LABELS.float(), "int64"),
        (GOOD, LABELS - 1, "labels of at least 0"),
        (GOOD, [0, 1, 2], "int64"),
    ],
)
def test_malformed_batches(images: object, labels: object, message: str):
    with pytest.raises(DataError, match=message):
        Batch(images, labels)  # type: ignore[arg-type]


def test_batch_pieces():
    batch = Batch(GOOD, LABELS)
    assert len(batch) == 3 and batch.shape == (1, 2, 2)
    assert [len(piece) for piece in batch.split(2)] == [2, 1]
    joined = Batch.concat([batch[:1], batch[1:]])
    assert torch.equal(joined.images, GOOD) and torch.equal(joined.labels, LABELS)


def test_labels_beyond_the_classes():
    check_classes(LABELS, 3)
    with pytest.raises(DataError, match=r"labels from 0 to 1.*got the label 2"):
        check_classes(LABELS, 2)


def test_boxes():
    box = Box.around(torch.tensor([0.0, 0.5, 0.95]), 0.125)
    assert box.lower.tolist() == [0.0, 0.375, pytest.approx(0.825)]
    assert box.upper.tolist() == [0.125, 0.625, 1.0]
    with pytest.raises(ArgumentError, match="lower <= upper"):
        Box(torch.tensor([1.0]), torch.tensor([0.0]))
    with pytest.raises(ArgumentError, match="lower <= upper"):
        Box(torch.tensor([float("nan")]), torch.tensor([0.0]))
    with pytest.raises(ArgumentError, match="one shape"):
        Box(torch.zeros(2), torch.zeros(3))


def test_threat_models():
    with pytest.raises(ArgumentError, match="norm out of"):
        ThreatModel("l3")  # type: ignore[arg-type]
    for eps in (-1.0, float("nan")):
        with pytest.raises(ArgumentError, match="eps >= 0"):
            ThreatModel("l2", eps)


def test_errors_survive_a_trip_between_processes():
    error = DataError(expected="a", got="b", remedy="c")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is DataError and str(back) == "expected a; got b. c"
    assert isinstance(back, SutureError) and isinstance(back, ValueError)


def test_near_names_are_suggested():
    assert "did you mean mnist" in unknown_name("data set", "minst", ["mnist", "svhn"])
    assert "did you mean" not in unknown_name("data set", "zzz", ["mnist"])
