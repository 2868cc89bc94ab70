"""Bounds, losses, steps and splits against plain loops and hand-worked numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture import bounds
from suture.repairs.advrepair.bank import initial, network
from suture.repairs.advrepair.bounding import Relaxed, bound_network, joint
from suture.repairs.advrepair.descent import Adam
from suture.repairs.advrepair.epochs import Training
from suture.repairs.advrepair.start import closing_bias, gaps
from suture.repairs.advrepair.subdomains import Subdomains, divided, halved, largest, worth_halving
from suture.repairs.advrepair.training import TrainingTask, train
from suture.rng import Stream
from suture.types import Box

CLASSES, WIDTH, BOXES = 3, 4, 6


class Sum(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return self.first(x) + self.second(x)


def base():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def box(seed=1):
    centre = torch.rand(BOXES, WIDTH, generator=torch.Generator().manual_seed(seed))
    return Box.around(centre, 0.1)


def rows():
    return bounds.margin_rows(torch.arange(BOXES) % CLASSES, CLASSES, torch.float32)


def patches(count=BOXES, hidden=(6, 5), seed=2):
    layers = initial(count, WIDTH, hidden, CLASSES, Stream(seed))
    last, bias = layers[-1]
    return [*layers[:-1], (last * 100, bias)]


def plain(layers, index):
    made = []
    for weight, bias in layers:
        layer = nn.Linear(weight.shape[2], weight.shape[1])
        layer.weight.data, layer.bias.data = weight[index].clone(), bias[index].clone()
        made += [layer, nn.ReLU()]
    return nn.Sequential(*made[:-1])


def given():
    net = bounds.read(base(), (WIDTH,))
    return bound_network(net, box(), rows(), torch.zeros(BOXES, CLASSES - 1))


def test_the_joint_bound_is_crown_of_the_sum():
    layers = patches()
    lower, _ = joint(given(), layers)
    for i in range(BOXES):
        both = bounds.read(Sum(base(), plain(layers, i)), (WIDTH,))
        own = Box(box().lower[i : i + 1], box().upper[i : i + 1])
        expected = bounds.bounds_of(both, own, rows()[i : i + 1])
        torch.testing.assert_close(lower[i : i + 1], expected, atol=1e-5, rtol=1e-4)


def test_no_input_of_a_box_falls_below_the_joint_bound():
    layers, here = patches(), box()
    lower, _ = joint(given(), layers)
    share = torch.rand(500, BOXES, WIDTH, generator=torch.Generator().manual_seed(4))
    for x in here.lower + share * (here.upper - here.lower):
        out = base()(x) + network(layers)(x)
        assert (torch.einsum("nkc,nc->nk", rows(), out) >= lower - 1e-5).all()


def relax(lower, upper, region):
    net = bounds.read(base(), (WIDTH,))
    return bound_network(
        net, Box(lower, upper), rows()[region], torch.zeros(len(lower), CLASSES - 1)
    )


def how(count=BOXES, **changes):
    fields = {
        "rounds": 1,
        "epochs": 1,
        "split": 2,
        "rate": 0.1,
        "optimiser": "gd",
        "margin": torch.full((count,), 0.5),
        "clause": tuple(range(CLASSES - 1)),
    }
    return Training(**(fields | changes))


def subdomains(owner=None):
    owner = torch.arange(BOXES) if owner is None else owner
    return Subdomains(given(), torch.arange(BOXES), owner)


def trained_by(layers, given, settings):
    return train(TrainingTask(layers, given, settings, relax))


def test_a_step_descends_the_sum_of_clipped_losses():
    owner = torch.tensor([0, 0, 1, 1, 1, 2])
    layers = patches(3)
    trained = trained_by(layers, subdomains(owner), how(3))
    assert trained.epochs == 1
    for patch in range(3):
        module = plain(layers, patch)
        loss = torch.zeros(())
        for i in (owner == patch).nonzero()[:, 0].tolist():
            both = bounds.read(Sum(base(), module), (WIDTH,))
            own = Box(box().lower[i : i + 1], box().upper[i : i + 1])
            loss = loss + (0.5 - bounds.bounds_of(both, own, rows()[i : i + 1])).clamp_min(0).sum()
        loss.backward()
        linear = [layer for layer in module if isinstance(layer, nn.Linear)]
        for layer, (weight, bias) in zip(linear, trained.layers, strict=True):
            expected = layer.weight - 0.1 * layer.weight.grad
            torch.testing.assert_close(weight[patch], expected.detach(), atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(bias[patch], (layer.bias - 0.1 * layer.bias.grad).detach(),
                                       atol=1e-4, rtol=1e-3)  # fmt: skip


def test_adam_is_adam_and_leaves_finished_patches_alone():
    start = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    mine, reference = Adam(0.05), torch.optim.Adam([theirs], lr=0.05)
    for step in range(5):
        gradient = torch.rand(start.shape, generator=torch.Generator().manual_seed(step)) - 0.5
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step([ours], torch.tensor([True, True, False]))
        reference.step()
    torch.testing.assert_close(ours[:2], theirs[:2])
    assert torch.equal(ours[2], start[2])


def reached(trained):
    """Each region's worst bounds; a region's number is its patch's here."""
    own = [(weight[trained.region], bias[trained.region]) for weight, bias in trained.layers]
    lower, _ = joint(relax(trained.lower, trained.upper, trained.region), own)
    return torch.stack([lower[trained.region == r].amin(0) for r in range(BOXES)])


@pytest.mark.parametrize("optimiser", ["adam", "gd"])
def test_patches_do_not_meet(optimiser, monkeypatch):
    settings = {"rounds": 2, "epochs": 6, "optimiser": optimiser, "rate": 0.05}
    # Adam makes whole steps of gradients that are nothing but rounding: a start that has none.
    start = patches(seed=1)
    together = trained_by(start, subdomains(), how(**settings))
    monkeypatch.setattr("suture.repairs.advrepair.epochs._CACHE", 1)
    alone = trained_by(start, subdomains(), how(**settings))
    torch.testing.assert_close(reached(together), reached(alone), atol=1e-4, rtol=1e-3)
    for one, other in zip(together.layers, alone.layers, strict=True):
        torch.testing.assert_close(one[0], other[0], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(one[1], other[1], atol=1e-4, rtol=1e-3)


def test_training_ends_when_everything_is_proved():
    settings = how(rounds=30, epochs=10, optimiser="adam", rate=0.05)
    trained = trained_by(patches(), subdomains(), settings)
    assert trained.epochs < 300
    found = relax(trained.lower, trained.upper, trained.region)
    # A region has its own patch here, so that its number is the patch's.
    lower, _ = joint(found, [(w[trained.region], b[trained.region]) for w, b in trained.layers])
    assert (lower >= 0.5 - 1e-5).all()


def test_an_unclipped_loss_goes_on():
    settings = how(rounds=2, epochs=10, optimiser="adam", rate=0.05, clipped=False)
    assert trained_by(patches(), subdomains(), settings).epochs == 20


def test_a_constant_patch_stays_constant():
    layers = initial(BOXES, WIDTH, (), CLASSES, Stream(2))
    settings = how(rounds=1, epochs=10, optimiser="adam", rate=0.05, clipped=False)
    ((weight, bias),) = trained_by(layers, subdomains(), settings).layers
    assert not weight.any() and bias.all()


def test_boxes_are_halved_where_slope_times_width_islargest():
    linear = Relaxed(
        torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 1.0]]),
        torch.tensor([[[3.0, 1.0, 0.0], [0.0, 0.0, 9.0]]]), torch.zeros(1, 2), torch.zeros(1, 2, 2),
    )  # fmt: skip
    # The second form is not violated, so its slope does not count: 3·1 against 1·2.
    axis = worth_halving(linear, torch.tensor([[1.0, -1.0]]), linear.slope)
    assert axis.tolist() == [0]

    def again(lower, upper, region):
        return Relaxed(lower, upper, *(t.expand(len(lower), *t.shape[1:]) for t in
                                      (linear.slope, linear.shift, linear.rows)))  # fmt: skip

    parts = halved(
        Subdomains(linear, torch.tensor([7]), torch.tensor([3])), torch.tensor([0]), axis, again
    )
    assert parts.linear.lower.tolist() == [[0, 0, 0], [0.5, 0, 0]]
    assert parts.linear.upper.tolist() == [[0.5, 2, 1], [1, 2, 1]]
    assert parts.region.tolist() == [7, 7] and parts.owner.tolist() == [3, 3]


def test_cutting_covers_the_box_and_narrows_the_gap():
    cut = divided(subdomains(), 40, relax)
    assert len(cut.region) <= 40
    volume = (cut.linear.upper - cut.linear.lower).double().prod(1)
    for region in range(BOXES):
        whole = (box().upper - box().lower)[region].double().prod()
        torch.testing.assert_close(volume[cut.region == region].sum(), whole, atol=1e-9, rtol=1e-5)
    worst = -cut.linear.alone().amin()
    assert worst <= -given().alone().amin()


def test_refinement_takes_the_worst_boxes_of_each_patch():
    losses = torch.tensor([1.0, 5.0, 0.0, 2.0, 3.0, 4.0])
    owner = torch.tensor([0, 0, 1, 1, 1, 1])
    assert sorted(largest(losses, owner, 2).tolist()) == [0, 1, 4, 5]
    assert sorted(largest(losses, owner, 1).tolist()) == [1, 5]
    assert sorted(largest(losses, owner, 9).tolist()) == [0, 1, 3, 4, 5]


def test_gaps_and_the_constants_that_close_them():
    alone = torch.tensor([[-2.0, 1.0], [-1.0, -4.0], [0.5, float("-inf")]])
    found = gaps(alone, torch.tensor([0, 0, 1]), 2)
    assert found.tolist() == [[2, 4], [0, 1]]
    label = torch.tensor([[[1.0, -1, 0], [1, 0, -1]]])
    assert closing_bias(torch.tensor([[2.0, 4]]), label, (0, 1)).tolist() == [[4, 0, 0]]
    # Of an "or" the form that lacks least is closed.
    either = torch.tensor([[[-1.0, 1, 0], [-1, 0, 1]]])
    assert closing_bias(torch.tensor([[2.0, 4]]), either, (0, 0)).tolist() == [[0, 2, 0]]
    # Raising would close neither of y0 > y1 + 1 and y1 > y2 + 1 alone.
    chain = torch.tensor([[[1.0, -1, 0], [0, 1, -1]]])
    bias = closing_bias(torch.tensor([[1.0, 1]]), chain, (0, 1))
    torch.testing.assert_close(torch.einsum("pkc,pc->pk", chain, bias), torch.ones(1, 2))
