"""PRDNN and APRNN: programs by hand, against plain forwards, and on whole boxes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from suture.attacks.aigent.tail import read_tail
from suture.errors import ArgumentError
from suture.repairs import APRNN, PRDNN, repair
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages
from suture.repairs.point_repair.layer_program import LayerDemand, LayerProgram, LayerWish
from suture.repairs.point_repair.polytopes import vertices_of
from suture.repairs.point_repair.sensitivity import Sensitivity, phases_of
from suture.testing.small import digits, trained
from suture.types import Batch, Box


def small(widths: tuple[int, ...] = (3, 12, 10, 3), seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def some(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 1, 3, generator=torch.Generator().manual_seed(seed))


def found(images: torch.Tensor, labels: list[int]) -> FooledImages:
    return FooledImages(Batch(images, torch.tensor(labels)), images, len(images))


def demand(local: Sensitivity, margin: float) -> LayerDemand:
    """The first output exceeds the second."""
    matrix = np.zeros((1, len(local.outputs)))
    matrix[0, :2] = 1.0, -1.0
    return LayerDemand(local, matrix, np.array([margin]))


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("later", [False, True])
def test_a_sensitivity_is_the_network_with_other_numbers(layer: int, later: bool) -> None:
    tail = read_tail(small())
    assert tail is not None
    draw, entry = np.random.default_rng(1), some(1).numpy().ravel().astype(float)
    local = Sensitivity.of(tail, layer, entry, later=later)
    x = 1e-4 * draw.normal(size=local.slope.shape[1])
    assert (local.phases @ x >= local.least).all()
    biases = [b.copy() for b in tail.biases]
    start = 0
    for index in range(layer - 1, len(tail) if later else layer):
        biases[index] += x[start : start + len(biases[index])]
        start += len(biases[index])
    moved = type(tail)(tail.weights, tuple(biases), tail.first)
    np.testing.assert_allclose(moved.values(entry)[1][-1], local.outputs + local.slope @ x)


def test_phases_are_those_of_the_input() -> None:
    tail, entry = read_tail(small()), some(1).numpy().ravel().astype(float)
    assert tail is not None
    signs, values = phases_of(tail, 1, entry), tail.values(entry)[1]
    assert (signs == np.where(np.concatenate(values[:-1]) > 0, 1, -1)).all()
    local = Sensitivity.of(tail, 1, entry, later=True)
    assert (local.least <= 0).all()  # no change keeps them


def test_the_smallest_change_of_a_last_layer_by_hand() -> None:
    """Two outputs of one input a = 2 with a bias: z = 0, what is asked is z0 - z1 >= 6.

    With Δ = w·2 + b for both outputs, all four numbers at m and -m give 6 m; so m = 1, the mean
    of the absolute values too: the cost is 2.
    """
    tail = read_tail(nn.Sequential(nn.Flatten(), nn.Linear(1, 2)))
    assert tail is not None
    plain = type(tail)((np.zeros((2, 1)),), (np.zeros(2),), tail.first)
    local = Sensitivity.of(plain, 1, np.array([2.0]), later=False)
    change = LayerProgram([demand(local, 6.0)], 2, LayerWish(False, False, 10.0)).solve()
    np.testing.assert_allclose(change.weights, [[1, 1], [-1, -1]], atol=1e-6)
    assert change.cost == pytest.approx(2.0) and change.programs == 1
    tight = LayerProgram([demand(local, 6.0)], 2, LayerWish(False, False, 0.5)).solve()
    assert not tight.status.found and np.isinf(tight.cost)


def test_without_a_bias_none_is_changed() -> None:
    tail = read_tail(nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False)))
    assert tail is not None
    local = Sensitivity.of(tail, 1, np.array([2.0]), later=False, biased=[False])
    change = LayerProgram([demand(local, 6.0)], 2, LayerWish(False, False, 10.0)).solve()
    assert (change.weights[:, 1] == 0).all() and (change.weights[:, 0] != 0).any()


@pytest.mark.parametrize("layer", ["1", "2", "3"])
@pytest.mark.parametrize("kind", [PRDNN, APRNN])
def test_given_inputs_are_right_and_phases_kept(kind: type[APRNN | PRDNN], layer: str) -> None:
    model, images = small(), some(6)
    wanted = [(int(model(images).argmax(1)[i]) + 1) % 3 for i in range(6)]
    method = kind(layer=layer, margin=0.01, max_change=50.0)
    given = found(images[:2], wanted[:2])
    result = method.of_fooled(model, given, Batch(images, torch.tensor(wanted)), Context.of(0))
    logits = result.model(images[:2]).detach()
    own = logits[torch.arange(2), torch.tensor(wanted[:2])]
    rest = logits.scatter(1, torch.tensor(wanted[:2])[:, None], -torch.inf).amax(1)
    assert (own - rest > 0.0099).all()
    if kind is APRNN:
        before, after = read_tail(model), read_tail(result.model)
        assert before is not None and after is not None
        for image in images[:2].double().numpy():
            signs = phases_of(before, 1, image.ravel())
            values = np.concatenate(after.values(image.ravel())[1][:-1])
            assert (signs * values > -1e-5).all()
        assert [p.shape for p in model.parameters()] == [p.shape for p in result.model.parameters()]


def test_aprnn_changes_one_layer_and_later_biases() -> None:
    model = small()
    images = some(2)
    wanted = [(int(c) + 1) % 3 for c in model(images).argmax(1)]
    given = found(images, wanted)
    method = APRNN(layer="2", margin=0.01, max_change=50.0)
    fixed = method.of_fooled(model, given, Batch(images, torch.tensor(wanted)), Context.of(0)).model
    same = [torch.equal(a, b) for a, b in zip(model.parameters(), fixed.parameters(), strict=True)]
    assert same[:2] == [True, True] and same[4], "layer 1, and the last layer's weights"
    assert not same[2] or not same[3] or not same[5]


def test_impossible_demands_are_infeasible() -> None:
    """One input with two labels."""
    model, image = small(), some(1)
    both = found(torch.cat([image, image]), [0, 1])
    for kind in (PRDNN, APRNN):
        result = kind(layer="last").of_fooled(
            model, both, Batch(image, torch.tensor([0])), Context.of(0)
        )
        assert result.trace["layers"][0]["status"] == "infeasible"
        assert result.trace["right_after"] == result.trace["right_before"]
        assert result.status.name == "INFEASIBLE"


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(ArgumentError, match="a layer from 1 to 2"):
        repair(trained(), digits().train.batch(100), PRDNN(layer="7", samples=2))
    with pytest.raises(ArgumentError, match="max_change > 0"):
        APRNN(max_change=0.0)


def test_large_layers_are_left_out_and_named() -> None:
    result = repair(trained(), digits().train.batch(200), PRDNN(samples=3, numbers=1000))
    assert result.trace["skipped"] == [1]
    assert [row["layer"] for row in result.trace["layers"]] == [2]


def test_vertices() -> None:
    low, high = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.5, 1.0, 3.0])
    corners = {tuple(corner.tolist()) for corner in vertices_of(low, high)}
    assert corners == {(a, 1.0, b) for a in (0.0, 0.5) for b in (2.0, 3.0)}
    with pytest.raises(ArgumentError, match="at most 10 coordinates"):
        vertices_of(torch.zeros(12), torch.ones(12))


def test_a_box_is_repaired_as_a_whole() -> None:
    """All of the box, by its eight vertices; certificates prove it, drawn inputs agree."""
    model, centre = small(seed=3), some(1, seed=4)
    box = Box(centre - 0.02, centre + 0.02)
    wanted = (int(model(centre).argmax(1)) + 1) % 3
    rows = torch.eye(3)[wanted] - torch.eye(3)[[c for c in range(3) if c != wanted]]
    method = APRNN(layer="first", margin=0.01, max_change=50.0)
    result = method.of_boxes(model, box, rows[None], torch.zeros(1, 2))
    assert result.status.name == "REPAIRED" and result.trace["proved"] == 1
    draws = torch.rand(500, 1, 1, 3, generator=torch.Generator().manual_seed(5))
    inside = box.lower + draws * (box.upper - box.lower)
    assert (result.model(inside).argmax(1) == wanted).all()
    assert (model(inside).argmax(1) != wanted).all()


def test_a_box_on_which_an_earlier_layer_bends() -> None:
    model, centre = small(), torch.full((1, 1, 1, 3), 0.5)
    rows = torch.tensor([[[1.0, -1.0, 0.0]]])
    result = APRNN(layer="last").of_boxes(
        model, Box(centre - 5, centre + 5), rows, torch.zeros(1, 1)
    )
    assert result.trace["layers"][0]["status"] == "not affine"
    assert result.status.name == "INFEASIBLE"
