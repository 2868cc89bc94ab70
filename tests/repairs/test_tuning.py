"""The search: the limit holds, the best within it wins, patience ends it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from suture.engine import Inline
from suture.errors import ArgumentError
from suture.repairs.result import Status
from suture.repairs.tuning import Grid, accuracy, halves, orders, search
from suture.rng import Stream
from suture.testing.small import digits
from suture.types import Batch

HELD = Batch(torch.eye(2).view(2, 1, 1, 2).repeat(5, 1, 1, 1), torch.tensor([0, 1] * 5))


def model() -> nn.Module:
    """Says class i to the i-th unit vector; its bias decides how well the fit likes it."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)).eval()
    with torch.no_grad():
        made[1].weight.copy_(torch.eye(2))
        made[1].bias.zero_()
    return made


@dataclass(frozen=True)
class Pulls:
    """Every step moves the first bias by the rate (SGD without its momentum's past)."""

    best: float
    steps_an_epoch: int = 1

    def steps(self, model, stream, size):
        for _ in range(self.steps_an_epoch):
            yield {"1.bias": torch.tensor([-1.0, 0.0])}

    def score(self, model):
        return -abs(model[1].bias[0].item() - self.best)


def found(fit, **fields):
    grid = Grid(**({"optimisers": ("adam",), "rates": (0.1,), "epochs": 6, "patience": 2} | fields))
    return search(model(), fit, HELD, grid, stream=Stream(0), engine=Inline(), work="w",
                  batch_size=4)  # fmt: skip


def test_the_best_epoch_wins():
    """Adam moves by its rate: 0.1, 0.2, 0.3; beyond 0.2 it gets worse, twice, and stops."""
    result = found(Pulls(best=0.2))
    assert result.status is Status.TUNED
    chosen = result.trace["chosen"]
    assert chosen["epoch"] == 2 and len(chosen["epochs"]) == 4
    assert result.model[1].bias[0].item() == pytest.approx(0.2, abs=1e-5)
    assert torch.equal(result.model[1].weight, model()[1].weight)


def test_the_best_setting_wins():
    result = found(Pulls(best=1.0), rates=(0.01, 0.15, 0.1), epochs=4, limit=100.0)
    assert result.trace["chosen"]["rate"] == 0.15
    assert [row["rate"] for row in result.trace["settings"]] == [0.01, 0.15, 0.1]


def test_accuracy_stays_within_the_limit():
    """From a bias of 1 on, class 0 wins everywhere: half of the accuracy is lost."""
    loose = found(Pulls(best=3.0), rates=(0.4,), limit=50.0, patience=9)
    assert loose.model[1].bias[0].item() == pytest.approx(2.4, abs=1e-4)
    tight = found(Pulls(best=3.0), rates=(0.4,), limit=49.0, patience=9)
    assert tight.status is Status.TUNED
    assert tight.model[1].bias[0].item() == pytest.approx(0.8, abs=1e-4)
    assert accuracy(tight.model, HELD, 4) == 1.0
    rows = tight.trace["chosen"]["epochs"]
    assert [row["within"] for row in rows] == [True, True, False, False, False, False]


def test_beyond_the_limit_it_is_the_original_with_its_own_status():
    result = found(Pulls(best=3.0), rates=(2.0, 5.0))
    assert result.status is Status.BEYOND_LIMIT
    assert "within the limit" in result.status.value
    before, after = model().state_dict(), result.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert result.trace["chosen"] is None


def test_nothing_better_is_unchanged():
    result = found(Pulls(best=-1.0))
    assert result.status is Status.UNCHANGED
    assert torch.equal(result.model[1].bias, torch.zeros(2))


def test_weights_that_are_no_numbers_end_a_setting():
    class Explodes(Pulls):
        def steps(self, model, stream, size):
            yield {"1.bias": torch.tensor([float("nan"), 0.0])}

    result = found(Explodes(best=1.0))
    assert result.status is Status.BEYOND_LIMIT
    assert len(result.trace["settings"][0]["epochs"]) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"optimisers": ()}, {"optimisers": ("lion",)}, {"rates": (0.0,)}, {"rates": ()},
     {"epochs": 0}, {"patience": 0}, {"step_images": 1}, {"limit": -1.0}],
)  # fmt: skip
def test_senseless_grids_are_refused(wrong):
    with pytest.raises(ArgumentError):
        Grid(**wrong)


def test_halves_are_disjoint_and_keep_proportions():
    data = digits().train.batch(400)
    one, other = halves(data, 0.25, Stream(3))
    assert (len(one), len(other)) == (300, 100)
    keys = {tuple(image.flatten().tolist()) for image in one.images}
    assert not any(tuple(image.flatten().tolist()) in keys for image in other.images)
    quarter = other.labels.bincount(minlength=10) - data.labels.bincount(minlength=10) / 4
    assert float(quarter.abs().max()) <= 1.0


def test_orders_cover_the_images_once():
    pieces = orders(21, Stream(1), 5)
    assert [len(piece) for piece in pieces] == [5, 5, 5, 5]
    assert len(set(torch.cat(pieces).tolist())) == 20
    assert sorted(torch.cat(orders(20, Stream(1), 6)).tolist()) == list(range(20))


def test_the_given_model_is_left_alone():
    given = model()
    before = copy.deepcopy(given.state_dict())
    search(given, Pulls(best=0.2), HELD, Grid(epochs=1), stream=Stream(0), engine=Inline(),
           work="w", batch_size=4)  # fmt: skip
    assert all(torch.equal(given.state_dict()[name], before[name]) for name in before)
