"""Certificates: made, saved, read, altered, and checked by code that shares no bounds."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from suture import bounds
from suture.certify import Certificate, Checker, certify_box, load_certificate, save_all
from suture.certify.checking import lower_bounds
from suture.certify.matrices import steps_of
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
        steps_of(network), lower.flatten().numpy(), upper.flatten().numpy(), rows.numpy(),
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
        steps_of(bounds.read(wide, shape)), lower.flatten().numpy(), upper.flatten().numpy(),
        rows.numpy(), np.zeros(2),
    )  # fmt: skip
    with torch.no_grad():
        values = wide(points(box, 500, seed).flatten(0, 1)) @ rows.T
    assert (values.numpy() >= plain).all()


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
