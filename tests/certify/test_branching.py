"""Proofs by cases against exact minima, sampled points, and other people's verdicts."""

from __future__ import annotations

import csv

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from suture import bounds, data, models
from suture.bounds.alpha_crown import optimised, optimised_inside
from suture.certify import certify_images
from suture.certify.branching import Branching, _Tree, prove_by_cases
from suture.certify.proving import network64
from suture.studies.vnncomp import _claim
from suture.types import Batch, Box
from tests.bounds.nets import dense_parts, networks, points
from tests.bounds.test_bounds import exact_minimum

QUICK = Branching(seconds=60, steps=15, at_once=16)
NAMES = ["dense", "convolutions", "tiled pools", "residual"]


def shifted(model: nn.Module, by: float, outputs: int) -> nn.Module:
    """The difference of the first two outputs, plus a constant."""
    last = nn.Linear(outputs, 1)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[1.0, -1.0] + [0.0] * (outputs - 2)]))
        last.bias.fill_(by)
    return nn.Sequential(model, last).double().eval()


def claim() -> torch.Tensor:
    return torch.ones(1, 1, 1, dtype=torch.float64)


def tried(model: nn.Module, box: Box) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(p) for p in points(box, 400)]).min()


@pytest.mark.parametrize("seed", range(2))
def test_what_is_true_is_proved_and_what_is_false_is_not(seed: int):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    box = Box(-torch.ones(1, 3).double() * 0.7, torch.ones(1, 3).double() * 0.4)
    truth = exact_minimum(*dense_parts(inner), box.lower[0].numpy(), box.upper[0].numpy(),
                          torch.tensor([1.0, -1.0]).numpy())  # fmt: skip
    for above in (1e-3, -1e-3):
        network = bounds.read(shifted(inner, above - truth, 2), (3,))
        assert prove_by_cases(network, box, claim(), QUICK).proved is (above > 0)


def gap(name: str) -> tuple[nn.Module, tuple[int, ...], Box, float, float]:
    """A network and a box; what slopes prove, and what a point has."""
    model, shape = networks()[name]
    middle = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1)).double()
    box = Box(middle - 0.3, middle + 0.3)
    plain = shifted(model, 0.0, 3)
    with torch.no_grad():
        slopes = float(optimised(bounds.read(plain, shape), box, claim()))
    least = float(tried(plain, box))
    assert slopes < least
    return model, shape, box, slopes, least


@pytest.mark.parametrize("name", ["dense", "residual"])
def test_cases_prove_more_than_slopes(name: str):
    model, shape, box, slopes, least = gap(name)
    network = bounds.read(shifted(model, 0.8 * (least - slopes) - least, 3), shape)
    found = prove_by_cases(network, box, claim(), QUICK)
    assert found.proved and found.count > 1


@pytest.mark.parametrize("name", NAMES)
def test_what_a_point_refutes_is_not_proved(name: str):
    model, shape, box, slopes, least = gap(name)
    network = bounds.read(shifted(model, -1e-4 * (least - slopes) - least, 3), shape)
    assert not prove_by_cases(network, box, claim(), Branching(seconds=1.5)).proved


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(NAMES))
def test_any_slopes_and_multipliers_give_a_bound_where_the_case_holds(seed: int, name: str):
    model, shape = networks()[name]
    model = shifted(model, 0.0, 3)
    generator = torch.Generator().manual_seed(seed)
    middle = torch.rand(1, *shape, generator=generator).double()
    box = Box(middle - 0.4, middle + 0.4)
    network = bounds.read(model, shape)
    _, known = optimised_inside(network, box, claim(), QUICK.first)
    tree = _Tree(network, box, claim(), known, QUICK)
    case = tree._first()
    for _ in range(3):
        worth = tree._worth(case)
        if not bool((worth > 0).any()):
            break
        source, neuron = tree._named(worth.argmax(1, keepdim=True))
        case = case.split(source[:, 0], neuron[:, 0], 1 if seed % 2 else -1)
    slope, multiplier = (
        {s: torch.rand(v.shape, generator=generator, dtype=v.dtype) * top for s, v in part.items()}
        for part, top in ((case.slope, 1.0), (case.multiplier, 3.0))
    )
    with torch.no_grad():
        bound = float(tree._bound(case, tree._relaxations(case, slope), multiplier))
        inputs = points(box, 300, seed).flatten(0, 1)
        values = [inputs]
        for node in network.nodes[1:]:
            values.append(node.op.forward(*(values[i] for i in node.inputs)))
    inside = torch.ones(len(inputs), dtype=torch.bool)
    for source in tree.sources:
        inside &= (case.sign[source] * values[source] >= 0).flatten(1).all(1)
    assert not inside.any() or bound <= float(values[-1][inside].min()) + 1e-9


def test_no_time_no_claim():
    model, shape = networks()["dense"]
    box = Box.around(torch.full((1, *shape), 0.5).double(), 0.5)
    found = prove_by_cases(bounds.read(shifted(model, 0.3, 3), shape), box, claim(),
                           Branching(seconds=-1.0))  # fmt: skip
    assert not found.proved


def refuted():
    folder = data.folder()
    if folder is None or not (folder / "vnncomp2021_verdicts.csv").is_file():
        return []
    with (folder / "vnncomp2021_verdicts.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [r for r in rows if r["benchmark"] == "mnistfc" and r["verdict"] == "sat"]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not refuted(), reason="needs the data folder: set SUTURE_DATA")
def test_what_others_refuted_is_not_proved():
    test = data.load("mnist").test
    for row in refuted():
        batch = test.select((test.index == int(row["test_index"])).nonzero()[:, 0]).batch()
        model, eps = models.load(data.folder() / row["net"]), float(row["eps_times_255"]) / 255
        images = batch.images.double()
        box = Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
        found = prove_by_cases(network64(model, batch.shape), box, _claim(row, batch),
                               Branching(seconds=2))  # fmt: skip
        assert not found.proved, row["property"]


def test_images_that_crown_leaves_open_are_proved_by_cases():
    model, shape = networks()["dense"]
    images = torch.rand(12, *shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        batch = Batch(images, model(images).argmax(1))
    found = {
        method: certify_images(model, batch, 0.4, method, seconds=1)
        for method in ("crown", "beta-crown")
    }
    crown, cases = (found[name].certified for name in ("crown", "beta-crown"))
    assert int(crown.sum()) < int(cases.sum()) and not bool((crown & ~cases).any())
    box = Box((images - 0.4).clamp(0, 1), (images + 0.4).clamp(0, 1))
    with torch.no_grad():
        said = model(points(box, 400).flatten(0, 1)).argmax(1).view(-1, 12)
    held = (said == batch.labels).all(0)
    assert not bool((cases & ~held).any())
    # Without time nothing is proved that CROWN does not prove.
    hurried = certify_images(model, batch, 0.4, "beta-crown", seconds=0).certified
    assert bool((crown <= hurried).all()) and int(hurried.sum()) <= int(cases.sum())
