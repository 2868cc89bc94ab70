"""Certificates: made, saved, read, altered, and checked by code that shares no bounds."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from suture import bounds
from suture.certify import Certificate, Checker, certify_box, load_certificate, save_all
from suture.certify.matrices import UnreadError, steps_of
from suture.certify.plain import FEW, lower_bounds, outputs
from suture.errors import ArgumentError, BundleError
from suture.types import Box, RepairedModel
from tests.bounds.nets import networks, points

NETWORKS = networks()
PLAIN = [name for name in NETWORKS if name != "s-shaped"]


def claim(model, shape, width=0.02, seed=0):
    """A box, and rows that say "the class stays"."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).double()
    lower, upper = (x - width).clamp(0, 1), (x + width).clamp(0, 1)
    with torch.no_grad():
        label = model(x[None].float()).argmax(1)
    return lower, upper, bounds.margin_rows(label, 3, torch.float64)[0]


def certificate(name, width=0.02):
    model, shape = NETWORKS[name]
    lower, upper, rows = claim(model, shape, width)
    # An added constant makes the claim true for untrained networks.
    made = certify_box(model, lower, upper, rows, torch.full((2,), 5.0).double())
    assert made is not None
    return model, made


@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_proved_is_proved_again(name):
    model, made = certificate(name)
    verdict = Checker(model)(made)
    assert verdict.holds and verdict.margin > 0
    assert verdict.by == ("suture.bounds" if name == "s-shaped" else "plain matrices")


@pytest.mark.parametrize("name", PLAIN)
def test_plain_matrices_find_the_bounds_of_the_bounds_room(name):
    """Two codes, one relaxation; max poolings apart, whose plain relaxation is looser."""
    model, shape = NETWORKS[name]
    lower, upper, rows = claim(model, shape, 0.1)
    network = bounds.read(model, shape).to(torch.float64)
    with torch.no_grad():
        ours = bounds.bounds_of(network, Box(lower[None], upper[None]), rows[None])[0].numpy()
    plain = lower_bounds(
        steps_of(model, shape), lower.flatten().numpy(), upper.flatten().numpy(), rows.numpy(),
        np.zeros(2),
    )  # fmt: skip
    if "pools" in name:
        assert (plain <= ours + 1e-9).all()
    else:
        np.testing.assert_allclose(plain, ours, atol=1e-7)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("seed", range(3))
def test_plain_bounds_are_sound(name, seed):
    model, shape = NETWORKS[name]
    lower, upper, rows = claim(model, shape, 0.15, seed)
    wide = copy.deepcopy(model).double()
    box = Box(lower[None], upper[None])
    plain = lower_bounds(
        steps_of(model, shape), lower.flatten().numpy(), upper.flatten().numpy(),
        rows.numpy(), np.zeros(2),
    )  # fmt: skip
    with torch.no_grad():
        values = wide(points(box, 500, seed).flatten(0, 1)) @ rows.T
    assert (values.numpy() >= plain).all()


@pytest.mark.parametrize("few", [FEW, 1.0])
@pytest.mark.parametrize("name", PLAIN)
def test_sparse_rows_bound_as_dense_ones_do(name, few):
    model, shape = NETWORKS[name]
    lower, upper, rows = claim(model, shape, 0.1, 7)
    given = lower.flatten().numpy(), upper.flatten().numpy(), rows.numpy(), np.zeros(2)
    steps = steps_of(model, shape)
    np.testing.assert_allclose(lower_bounds(steps, *given, few), lower_bounds(steps, *given, 0.0))


class Functional(nn.Module):
    """Layers as calls, constants as attributes, and a link over all of it."""

    def __init__(self):
        super().__init__()
        self.first, self.scale = nn.Conv2d(1, 2, 3, padding=1), nn.Parameter(torch.rand(2, 1, 1))
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(F.leaky_relu(self.first(x) * self.scale, 0.2), 2)
        x = F.pad(x[:, :, 1:], (0, 0, 1, 0), value=0.5) - F.avg_pool2d(x, 1)
        return self.last(torch.relu(x).permute(0, 2, 3, 1).reshape(-1, 8) / 3)


@pytest.mark.parametrize("name", [*PLAIN, "functional"])
def test_what_is_read_computes_what_is_deployed(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model, shape = NETWORKS.get(name) or (Functional().eval(), (1, 4, 4))
    images = torch.rand(7, *shape, generator=torch.Generator().manual_seed(1)).double()
    found, largest = outputs(steps_of(model, shape), images.flatten(1).numpy())
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(images)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert largest >= np.abs(found).max()


class Crosswise(nn.Module):
    """Mixes examples, or branches, or multiplies: nothing that has one matrix."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x):
        if self.way == "examples":
            return x.reshape(2, -1)
        if self.way == "product":
            return x * x
        if self.way == "divisor":
            return 1 / x
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("way", ["examples", "product", "divisor", "branch"])
def test_what_has_no_matrix_is_not_read(way):
    with pytest.raises(UnreadError):
        steps_of(Crosswise(way), (3, 4))


def test_a_reader_that_is_mistaken_is_found_out():
    """Whoever bounds, what he read must answer as what is deployed."""
    model, made = certificate("convolutions")
    check = Checker(model)
    assert check(made).holds
    for key, (layer, step, shape) in check._cache.items():
        if step.matrices and "Conv" in type(layer).__name__:
            wrong = dataclasses.replace(step, shift=step.shift + 0.1)
            check._cache[key] = (layer, wrong, shape)
    verdict = check(made)
    assert not verdict.holds and "does not answer as the deployed model" in verdict.reason


def test_files_come_back_as_they_were(tmp_path):
    _, made = certificate("dense")
    (path,) = save_all([made], tmp_path)
    again = load_certificate(path)
    for part in dataclasses.fields(Certificate):
        a, b = getattr(made, part.name), getattr(again, part.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_any_flipped_byte_is_caught(tmp_path):
    _, made = certificate("dense")
    (path,) = save_all([made], tmp_path)
    whole = path.read_bytes()
    for place in range(8, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((BundleError, ArgumentError)):
            load_certificate(path)


def test_a_changed_weight_is_caught():
    model, made = certificate("dense")
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[1].weight[0, 0] += 1e-6
    verdict = Checker(other)(made)
    assert not verdict.holds and "other weights" in verdict.reason


def test_a_false_claim_does_not_hold():
    model, made = certificate("dense")
    for wrong in (
        dataclasses.replace(made, add=made.add - made.margin - 1e-6 - 5),
        dataclasses.replace(made, lower=made.lower - 50, upper=made.upper + 50),
    ):
        assert not Checker(model)(wrong).holds


def test_nothing_is_certified_that_has_a_counterexample():
    model, shape = NETWORKS["convolutions"]
    lower, upper, rows = claim(model, shape)
    assert certify_box(model, lower, upper, -rows, torch.zeros(2).double()) is None


class Switch(RepairedModel):
    """Answers with one network or another, and says which may answer where."""

    def __init__(self, parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def certify_parts(self, lower, upper):
        return list(self.parts)

    def forward(self, x):
        return torch.where(x.flatten(1)[:, :1] > 0.5, self.parts[0](x), self.parts[1](x))


def test_every_part_that_may_answer_must_be_proved():
    good, shape = NETWORKS["dense"]
    bad = copy.deepcopy(good)
    with torch.no_grad():
        bad[-1].weight.neg_()
        bad[-1].bias.neg_()
    lower, upper, rows = claim(good, shape, 0.001)
    add = torch.zeros(2).double()
    assert certify_box(Switch([good, good]), lower, upper, rows, add) is not None
    assert certify_box(Switch([good, bad]), lower, upper, rows, add) is None


def test_shapes_that_make_no_sense_are_refused():
    _, made = certificate("dense")
    with pytest.raises(ArgumentError, match="float64"):
        dataclasses.replace(made, rows=made.rows.float())
    with pytest.raises(ArgumentError, match="lower <= upper"):
        dataclasses.replace(made, lower=made.upper + 1)
