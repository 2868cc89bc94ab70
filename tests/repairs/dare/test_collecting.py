"""Algorithm 1 against a loop over images, and the history it reads."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from torch import nn

from suture import models
from suture.errors import BundleError
from suture.repairs.dare.collecting import collect
from suture.repairs.dare.graph import sliceable
from suture.repairs.dare.memory import Remembered, from_history
from suture.repairs.dare.regression import watch
from suture.rng import Stream
from suture.testing.small import digits
from suture.training import History

from .conftest import with_history


def memory() -> Remembered:
    return from_history(str(with_history()[1]), 0.5)


def place(model: nn.Module) -> int:
    return watch(sliceable(model, (1, 8, 8)), 1).node


def test_the_last_half_is_remembered(tmp_path):
    _, folder = with_history()
    found = memory()
    assert found.epochs == (4, 5, 6)
    last = History.open(folder).state(6)
    assert all(torch.equal(found.states[-1][name], last[name]) for name in last)
    assert from_history(str(folder), 1.0).epochs == (1, 2, 3, 4, 5, 6)
    assert from_history(str(folder), 0.1).epochs == (6,)
    run = tmp_path / "run" / "checkpoints"
    shutil.copytree(folder, run)
    assert from_history(str(run.parent), 0.5).epochs == (4, 5, 6)


def test_an_altered_history_is_refused(tmp_path):
    shutil.copytree(with_history()[1], tmp_path / "h")
    path = tmp_path / "h" / "epoch-0005.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match="SHA-256"):
        from_history(str(tmp_path / "h"), 0.5)
    with pytest.raises(BundleError, match="training history"):
        from_history(str(tmp_path), 0.5)
    manifest = json.loads((with_history()[1] / "history.json").read_text())
    empty = manifest | {"curves": [], "checkpoints": [], "optimiser": None}
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "history.json").write_text(json.dumps(empty))
    with pytest.raises(BundleError, match="remembered epoch"):
        from_history(str(tmp_path / "e"), 0.5)


def test_another_architecture_is_refused():
    other = models.build("fnn_small", in_shape=(1, 8, 8))
    with pytest.raises(BundleError, match="architecture"):
        collect(other, memory(), digits().validation.batch(30), place(other))


@pytest.mark.parametrize("batch_size", [16, 500])
def test_agrees_with_the_algorithm(batch_size: int):
    """Lines 1 to 21 of Algorithm 1, an image at a time, with forward hooks for the neurons."""
    model, past = with_history()[0], memory()
    data = digits().validation.batch()
    found = collect(model, past, data, place(model), batch_size=batch_size)
    seen = {}
    chosen, targets, tutors, wrong = [], [], [], 0
    for i in range(len(data)):
        image, label = data.images[i : i + 1], int(data.labels[i])
        with torch.no_grad():
            own = model(image).softmax(1)[0]
        confidence = float(own[label]) if int(own.argmax()) == label else 0.0
        best = None
        for index, state in enumerate(past.states):
            other = copy.deepcopy(model)
            other.load_state_dict(state)
            other[7].register_forward_hook(lambda m, a, out: seen.update(value=out))
            with torch.no_grad():
                said = other(image).softmax(1)[0]
            if int(said.argmax()) == label and float(said[label]) > confidence:
                best, confidence = (index, seen["value"][0]), float(said[label])
        if best is not None:
            chosen.append(i)
            tutors.append(best[0])
            targets.append(best[1])
            wrong += int(own.argmax()) != label
    assert 10 < len(chosen) < len(data)
    assert torch.equal(found.batch.labels, data.labels[chosen])
    assert torch.equal(found.batch.images, data.images[chosen])
    assert found.tutors.tolist() == tutors
    assert (found.looked, found.wrong) == (len(data), wrong)
    torch.testing.assert_close(found.targets, torch.stack(targets), rtol=1e-4, atol=1e-5)


def test_random_tutors_are_as_many_and_random():
    model, past = with_history()[0], memory()
    data = digits().validation.batch()
    best = collect(model, past, data, place(model))
    drawn = collect(model, past, data, place(model), tutors="random", stream=Stream(1))
    other = collect(model, past, data, place(model), tutors="random", stream=Stream(2))
    assert len(drawn) == len(best) == len(other)
    assert set(drawn.tutors.tolist()) == {0, 1, 2}
    assert not torch.equal(drawn.tutors, other.tutors)
    again = copy.deepcopy(model)
    again.load_state_dict(past.states[int(drawn.tutors[5])])
    with torch.no_grad():
        expected = again[:8](drawn.batch.images[5:6])[0]
    torch.testing.assert_close(drawn.targets[5], expected, rtol=1e-4, atol=1e-5)


def test_a_model_has_no_better_self_than_itself():
    model = with_history()[0]
    same = Remembered((6,), (model.state_dict(),), "itself")
    found = collect(model, same, digits().validation.batch(), place(model))
    assert len(found) == 0 and found.batch is None and found.targets.shape == (0, 64)
