"""REASSURE: linear regions, the smallest patch of one, and that it answers there alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from suture.attacks.aigent.network import LayeredNetwork
from suture.errors import ModelError
from suture.repairs import REASSURE, repair
from suture.repairs.context import Context
from suture.repairs.fooling import FooledImages
from suture.repairs.point_repair.linear_region import linear_region, smallest_shift
from suture.repairs.point_repair.region_patched import RegionPatched, check_chain
from suture.solvers import Problem, solve
from suture.testing.small import digits, trained
from suture.types import Batch

MARGIN = 0.05


@pytest.fixture(scope="module")
def plane() -> nn.Sequential:
    """Two inputs, three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layers = [nn.Flatten(), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(5, 3)).eval()


def units(model: nn.Sequential, images: torch.Tensor) -> torch.Tensor:
    """What enters the ReLUs."""
    first = model[1](model[0](images))
    return torch.cat([first, model[3](torch.relu(first))], 1)


def grid(steps: int = 150) -> torch.Tensor:
    axis = torch.linspace(0, 1, steps)
    return torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)


def test_a_region_is_bounded_by_its_worst_input(plane: nn.Sequential) -> None:
    point, images = torch.tensor([[[[0.4, 0.6]]]]), grid()
    active = units(plane, point) > 0
    inside = images[((units(plane, images) > 0) == active).all(1)]
    assert len(inside) > 500
    label = int(plane(point).argmin(1))
    region = linear_region(LayeredNetwork(plane), point[0].double().numpy(), label, MARGIN)
    assert (region.active == active[0].numpy()).all() and region.status.found
    logits = plane(inside).detach()
    least = (logits[:, label, None] - logits).amin(0).numpy()
    for other in [c for c in range(3) if c != label]:
        # No input of the grid is worse, and one comes near.
        assert -1e-5 < region.short[other] - (MARGIN - least[other]) < 0.05


def test_no_affine_patch_is_smaller(plane: nn.Sequential) -> None:
    """The program of the paper over ``c x + d``, on the corners that a fine grid knows."""
    point, images = torch.tensor([[[[0.4, 0.6]]]]), grid()
    inside = images[((units(plane, images) > 0) == (units(plane, point) > 0)).all(1)][::7]
    label = int(plane(point).argmin(1))
    x, logits = inside.flatten(1).double().numpy(), plane(inside).detach().double().numpy()
    short = np.array([(MARGIN - logits[:, label] + logits[:, j]).max() for j in range(3)])
    short[label] = 0.0
    ours = np.abs(smallest_shift(short, label)).max()
    rows, least = [], []
    for at, own in zip(np.hstack([x, np.ones((len(x), 1))]), logits, strict=True):
        for j in range(3):
            value = np.kron(np.eye(3)[j], at)
            rows += [np.append(-value, 1.0), np.append(value, 1.0)]
            least += [0.0, 0.0]
            if j != label:
                rows.append(np.append(np.kron(np.eye(3)[label] - np.eye(3)[j], at), 0.0))
                least.append(MARGIN - own[label] + own[j])
    free = np.full(10, np.inf)
    problem = Problem(
        np.eye(10)[9], -free, free, np.stack(rows), np.array(least), np.inf + np.zeros(len(rows))
    )
    assert solve(problem).incumbent == pytest.approx(ours, abs=1e-6)


def test_a_shift_closes_every_gap() -> None:
    for label, short in ((0, [0.0, 3.0, 1.0, -2.0]), (2, [5.0, -1.0, 0.0, 5.0])):
        shift = smallest_shift(np.array(short), label)
        gaps = [shift[label] - shift[j] - short[j] for j in range(4) if j != label]
        assert min(gaps) >= 0 and np.abs(shift).max() == max(short) / 2
    assert (smallest_shift(np.array([0.0, -1.0]), 0) == 0).all()


def patched(plane: nn.Sequential) -> tuple[RegionPatched, torch.Tensor, torch.Tensor]:
    images = torch.tensor([[[[0.4, 0.6]]], [[[0.9, 0.1]]]])
    labels = plane(images).argmin(1)
    found = FooledImages(Batch(images, labels), images, 2)
    result = REASSURE(margin=MARGIN).of_fooled(plane, found, Batch(images, labels), Context.of(0))
    assert isinstance(result.model, RegionPatched)
    return result.model, images, labels


def test_all_of_a_region_is_repaired_and_nothing_beside_it(plane: nn.Sequential) -> None:
    model, points, labels = patched(plane)
    images = grid()
    values = units(plane, images)
    touched = torch.zeros(len(images), dtype=torch.bool)
    for point, label in zip(points, labels, strict=True):
        signs = torch.where(units(plane, point[None]) > 0, 1.0, -1.0)
        inside = (values * signs > 0).all(1)
        if inside.any():
            assert (model(images[inside]).argmax(1) == label).all()
        touched |= (-values * signs).relu().sum(1) * model.sharpness < 1
    assert touched.any() and (~touched).any()
    torch.testing.assert_close(model(images[~touched]), plane(images[~touched]))
    assert (model(points).argmax(1) == labels).all()


def test_the_support_is_the_papers(plane: nn.Sequential) -> None:
    """``σ(Σ_i [σ(γ h_i + 1) - σ(γ h_i)] - |I| + 1)`` and both ReLUs of a patch, one by one."""
    model, _, _ = patched(plane)
    model.sharpness.fill_(3.0)
    images = grid(40)
    values, total = units(plane, images), plane(images)
    for active, shift in zip(model.active, model.shift, strict=True):
        h = 3.0 * values * torch.where(active, 1.0, -1.0)
        g = ((h + 1).relu() - h.relu()).sum(1, keepdim=True) - len(active) + 1
        k = shift.abs().max()
        off = k * g.relu() - k
        total = total + (shift + off).relu() - (-shift + off).relu()
    torch.testing.assert_close(model(images), total)


def test_inputs_of_one_region_share_a_patch(plane: nn.Sequential) -> None:
    images = torch.tensor([[[[0.4, 0.6]]], [[[0.4, 0.6001]]]])
    labels = plane(images).argmin(1)
    found = FooledImages(Batch(images, labels), images, 2)
    result = REASSURE().of_fooled(plane, found, Batch(images, labels), Context.of(0))
    assert result.trace["regions"] == 1 and result.status.name == "REPAIRED"


def test_regions_of_max_pooling_are_refused() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10)
    )
    data = digits().train.batch(2)
    with pytest.raises(ModelError, match="got a MaxPool2d"):
        REASSURE().of_fooled(model, FooledImages(data, data.images, 2), data, Context.of(0))


def test_units_are_read_before_a_relu_in_place_changes_them(plane: nn.Sequential) -> None:
    model, _, _ = patched(plane)
    images = grid(30)
    expected = model(images)
    for module in model.network:
        if isinstance(module, nn.ReLU):
            module.inplace = True
    torch.testing.assert_close(model(images), expected)


def test_a_network_without_regions_is_refused() -> None:
    with pytest.raises(ModelError, match="got no ReLU"):
        check_chain(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


def test_convolutions_have_regions_too() -> None:
    result = repair(trained(), digits().train.batch(200), REASSURE(samples=1))
    assert result.trace["solved"] == 1 and result.trace["right_after"] == 1
