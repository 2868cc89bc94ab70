"""How varied tutors are, and what each epoch of a history knows."""

from __future__ import annotations

import copy

import pytest
import torch

from suture.repairs.dare.memory import Remembered
from suture.repairs.dare.variety import effective, epochs_told, variety
from suture.testing.repairs import trained
from suture.testing.small import digits


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([1, 1, 1, 1], 4.0), ([3, 0, 0], 1.0), ([0, 0], 0.0), ([2, 1, 1], 2 * 2**0.5), ([], 0.0)],
)
def test_effective_tutors_by_hand(counts, expected):
    """Halves and quarters: entropy 1.5 bits, so 2^1.5 of them."""
    assert effective(torch.tensor(counts, dtype=torch.int64)) == pytest.approx(expected)


def test_what_a_trace_says():
    found = variety(torch.tensor([6, 0, 2]), 20)
    assert found["distinct_tutors"] == 2 and found["own_best"] == 0.6
    assert variety(torch.zeros(3, dtype=torch.int64), 0)["own_best"] is None


def test_what_epochs_know_image_by_image():
    model, batch = trained(), digits().test.batch(40)
    states = []
    for seed in range(3):
        torch.manual_seed(seed)
        noisy = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in noisy.parameters():
                parameter.add_(0.08 * torch.randn_like(parameter))
        states.append(noisy.state_dict())
    memory = Remembered((4, 5, 6), tuple(states), "made here")
    found = epochs_told(model, memory, batch, batch_size=7)

    right, mends, tutors = [0] * 3, [0] * 3, [0] * 3
    for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
        says = []
        for past in memory.models(model):
            with torch.no_grad():
                logits = past(image[None])[0]
            says.append((int(logits.argmax()) == label, float(logits.softmax(0)[label])))
        for i, (hit, _) in enumerate(says):
            right[i] += hit
            mends[i] += hit and not says[-1][0]
        sure = [confidence if hit else 0.0 for hit, confidence in says]
        if max(sure) > 0:
            tutors[sure.index(max(sure))] += 1
    assert [(r.right, r.mends, r.tutors) for r in found] == list(
        zip(right, mends, tutors, strict=True)
    )
    assert [r.epoch for r in found] == [4, 5, 6] and max(mends) > 0
