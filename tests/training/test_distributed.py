"""Several processes train as one does: the same curve for the same batches."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from suture import models
from suture.engine import Share
from suture.errors import ArgumentError, DependencyError
from suture.testing.small import digits
from suture.training import History, TrainConfig, train

CONFIG = TrainConfig(epochs=2, batch_size=50, optimiser="sgd", lr=0.05, augment="crop-rotate")


def test_a_batch_is_shared_out_whole():
    positions = torch.arange(7)
    parts = [Share(rank, 3).own(positions) for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(7))
    assert {len(part) for part in parts} == {2, 3}


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("lightning_fabric") is None,
    reason="lightning-fabric is missing: pip install 'suture[ddp]'",
)
def test_two_processes_give_the_curve_of_one(tmp_path):
    """gloo, on the processor; 1 295 images in batches of 50 leave an uneven last one of 45."""
    model = models.build("digits_cnn", seed=1)
    seen = []
    alone = train(model, digits(), config=CONFIG, seed=4, history=tmp_path / "one")
    both = train(model, digits(), config=CONFIG, seed=4, history=tmp_path / "two", processes=2,
                 on_progress=seen.append)  # fmt: skip
    for one, two in zip(alone.curves, both.curves, strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert two.validation_loss == pytest.approx(one.validation_loss, rel=1e-3)
        assert abs(two.train_accuracy - one.train_accuracy) < 0.002
    for name, value in alone.model.state_dict().items():
        assert torch.allclose(value, both.model.state_dict()[name], atol=1e-4), name
    assert len(seen) == 52 and seen[-1].epoch == 2, "the first process reports"
    assert History.open(tmp_path / "two").epochs == [1, 2], "and it alone writes the history"


def test_too_many_processes_are_refused():
    with pytest.raises(ArgumentError, match="at least two images"):
        train(models.build("digits_cnn"), digits(), config=CONFIG, processes=26)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(DependencyError, match=r"suture\[ddp\]"):
        train(models.build("digits_cnn"), digits(), config=CONFIG, processes=2)
