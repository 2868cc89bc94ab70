"""A point between two batches is as good as one between epochs: the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from suture import models
from suture.engine import Inline, Ledger, Recorded
from suture.repairs import CrownIBP, PGDTraining, Repair, repair
from suture.repairs.certified_training import Ramp, Schedule
from suture.testing.small import digits, trained
from suture.training import TrainConfig, train
from suture.training.recording import WITHIN, Recording

SHORT = Schedule(epochs=2, batch_size=40, optimiser="adam", step_at=(), ramp=Ramp(1, 1))
METHODS: list[Repair] = [
    PGDTraining(eps=0.05, steps=2, epochs=2, held_out=0.2, judged=20, step_images=40),
    CrownIBP(eps=0.02, schedule=SHORT),
]


class _Stopped(Exception):
    """As good as killed."""


@pytest.mark.parametrize("method", METHODS, ids=["pgd", "crown-ibp"])
@pytest.mark.parametrize("batches", [2, 6])
def test_a_repair_goes_on_between_two_batches(method: Repair, batches: int, tmp_path: Path):
    """Four batches an epoch: stopped in the first, and in the second."""
    batch = digits().train.batch(200)

    def run(folder: Path, stop: int | None) -> Any:
        seen = 0

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal seen
            seen += 1
            if seen == stop:
                raise _Stopped

        engine = Recorded(Inline(), Ledger(folder))
        result = repair(
            trained(), batch, method, generator=3, engine=engine, on_progress=tell,
            checkpoint_minutes=1e-9,
        )  # fmt: skip
        return result, seen

    whole, all_ = run(tmp_path / "whole", None)
    with pytest.raises(_Stopped):
        run(tmp_path / "broken", batches)
    resumed, rest = run(tmp_path / "broken", None)
    assert models.fingerprint(resumed.model) == models.fingerprint(whole.model)
    assert rest == all_ - batches + 1, "the batch in which it was stopped is done again"
    curve = "curve" if "curve" in whole.trace else "curves"
    told = [[row["loss"] for row in r.trace[curve]] for r in (whole, resumed)]
    assert told[0] == told[1]


def test_a_training_goes_on_between_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.Dropout(0.3), torch.nn.Linear(20, 10)
    )
    how: dict[str, Any] = {
        "config": TrainConfig(epochs=2, batch_size=200),
        "seed": 4,
        "checkpoint_minutes": 1e-9,
    }
    whole = train(model, digits(), **how, history=tmp_path / "whole")
    assert not (tmp_path / "whole" / WITHIN).exists(), "gone with its epoch"
    original, count = Recording.keep, 0

    def keep(self: Recording, point: dict[str, Any]) -> None:
        nonlocal count
        original(self, point)
        count += 1
        if count == 9:
            raise _Stopped

    monkeypatch.setattr(Recording, "keep", keep)
    with pytest.raises(_Stopped):
        train(model, digits(), **how, history=tmp_path / "broken")
    monkeypatch.setattr(Recording, "keep", original)
    assert (tmp_path / "broken" / WITHIN).exists(), "stopped within the second epoch"
    resumed = train(model, digits(), **how, history=tmp_path / "broken", resume=True)
    assert models.fingerprint(resumed.model) == models.fingerprint(whole.model)
    assert [c.train_loss for c in resumed.curves] == [c.train_loss for c in whole.curves]
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / WITHIN).write_bytes(b"half a file")
    again = train(model, digits(), **how, history=tmp_path / "half", resume=True)
    assert models.fingerprint(again.model) == models.fingerprint(whole.model)
