"""Callbacks measure and remember, and the training is the one without them."""

from __future__ import annotations

import pytest
import torch

pytorch_lightning = pytest.importorskip(
    "pytorch_lightning", reason="pip install 'suture[lightning]'"
)

from suture import PGD, models  # noqa: E402
from suture.ecosystem import EpochMemory, RobustAccuracy  # noqa: E402
from suture.errors import ArgumentError, StorageError  # noqa: E402
from suture.repairs import DARE  # noqa: E402
from suture.repairs.dare.memory import from_history  # noqa: E402
from suture.testing.small import digits  # noqa: E402
from suture.training import History, Retention  # noqa: E402
from suture.training.loop import fingerprint  # noqa: E402

ATTACK = PGD(eps=0.1, steps=3)


class Plain(pytorch_lightning.LightningModule):
    """A classifier with a name of its own inside, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            self.net = models.build("digits_cnn", mean=digits().mean, std=digits().std)
        self.drop = torch.nn.Dropout(0.1)

    def forward(self, images):
        return self.net(self.drop(images))

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def inner(module: Plain) -> torch.nn.Module:
    return module.net


def fit(folder, *callbacks, epochs: int = 2) -> tuple[Plain, pytorch_lightning.Trainer]:
    pytorch_lightning.seed_everything(0, verbose=False)
    batch, module = digits().train.batch(300), Plain()
    rows = torch.utils.data.TensorDataset(batch.images, batch.labels)
    trainer = pytorch_lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(rows, 50, shuffle=True))
    return module, trainer


def test_every_second_epoch_is_attacked_and_logged(tmp_path):
    held = digits().test.batch(40)
    watch = RobustAccuracy(ATTACK, held, every=2, of=inner)
    module, trainer = fit(tmp_path, watch, epochs=4)
    assert [one.epoch for one in watch.found] == [2, 4]
    last, alone = watch.found[-1], ATTACK(module.net.eval(), held, generator=0)
    assert (last.robust, last.right) == (int(alone.robust.sum()), int(alone.clean_right.sum()))
    assert float(trainer.callback_metrics["robust_accuracy"]) == pytest.approx(last.robust / 40)
    assert float(trainer.callback_metrics["robust_accuracy_clean"]) == pytest.approx(
        last.right / 40
    )
    assert last.interval[0] <= last.robust / last.n <= last.interval[1]


def test_the_training_is_as_without_callbacks(tmp_path):
    bare, _ = fit(tmp_path)
    watch, memory = RobustAccuracy(ATTACK, digits().test.batch(20)), EpochMemory(
        tmp_path / "history", digits(), of=inner
    )  # fmt: skip
    watched, _ = fit(tmp_path, watch, memory)
    states = zip(bare.state_dict().values(), watched.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    assert watched.training == bare.training


def test_the_history_is_one_that_dare_reads(tmp_path):
    memory = EpochMemory(tmp_path / "history", digits(), of=inner, images=50)
    module, _ = fit(tmp_path, memory, epochs=3)
    history = History.open(tmp_path / "history")
    history.verify()
    assert history.epochs == [1, 2, 3] and history.finished
    assert history.data == fingerprint(digits())
    last = history.load_into(models.build("digits_cnn"), 3)
    held = digits().validation.batch(50)
    assert torch.equal(last.eval()(held.images), module.net.eval()(held.images))
    right = float((last(held.images).argmax(1) == held.labels).float().mean())
    assert history.curves[-1].validation_accuracy == pytest.approx(right)
    assert from_history(str(tmp_path / "history"), 0.5).states
    assert DARE(history=str(tmp_path / "history")).history


def test_epochs_leave_by_the_rule(tmp_path):
    rule = Retention(every=2, last=1)
    fit(tmp_path, EpochMemory(tmp_path / "h", digits(), of=inner, retention=rule), epochs=3)
    kept = History.open(tmp_path / "h")
    assert len(kept.curves) == 3 and set(kept.epochs) == {2, 3, kept.best_epoch}


def test_nothing_is_written_over(tmp_path):
    fit(tmp_path, EpochMemory(tmp_path / "h", digits(), of=inner), epochs=1)
    with pytest.raises(StorageError, match="no earlier history"):
        fit(tmp_path, EpochMemory(tmp_path / "h", digits(), of=inner), epochs=1)


def test_wrong_numbers_are_refused():
    with pytest.raises(ArgumentError, match="every >= 1"):
        RobustAccuracy(ATTACK, digits().test.batch(4), every=0)
