"""AIGENT on the data folder's networks: detection, pixels, limits, processes, and its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from suture.attacks import AIGENT
from suture.attacks.aigent import SearchOutcome
from suture.attacks.geometry import distance
from suture.engine import Processes
from suture.types import Batch

pytestmark = pytest.mark.data

Network = Callable[[str], nn.Module]
Images = Callable[[nn.Module, str, int], Batch]


@pytest.mark.parametrize("name", ["aigent_mnist_mlp8x16", "aigent_mnist_mlp6x50"])
def test_detection_and_pixels_beat_the_paper(name: str, network: Network, right_images: Images):
    model = network(name)
    batch = right_images(model, "mnist", 24)
    result = AIGENT()(model, batch)
    with torch.no_grad():
        assert (model(result.images).argmax(1) != batch.labels).float().mean() >= 0.914
    pixels = distance("l0", result.images - batch.images)
    assert float(pixels.median()) <= 24
    assert result.images.min() >= 0 and result.images.max() <= 1


def test_convolutions_and_colours(network: Network, right_images: Images):
    model = network("marabou_cifar_small")
    batch = right_images(model, "cifar10-exact", 2)
    for channels in ("together", "apart"):
        attack = AIGENT(channels=channels)
        findings = attack.findings(model, batch)
        assert all(one.outcome is SearchOutcome.FOUND for one in findings)
        for one, image in zip(findings, batch.images.double().numpy(), strict=True):
            differ = one.image != image
            count = differ.any(0).sum() if channels == "together" else differ.sum()
            assert one.pixels == count <= 60


def test_targets_are_reached(network: Network, right_images: Images):
    model = network("aigent_mnist_mlp6x50")
    batch = right_images(model, "mnist", 6)
    targets = (batch.labels + 3) % 10
    result = AIGENT()(model, batch, targets=targets)
    assert int(result.success.sum()) >= 5
    assert torch.equal(result.predictions[result.success], targets[result.success])


def test_limits_are_kept(network: Network, right_images: Images):
    model = network("aigent_mnist_mlp6x50")
    batch = right_images(model, "mnist", 8)
    free = AIGENT()(model, batch)
    most = AIGENT(eps=6)(model, batch)
    assert distance("l0", most.images - batch.images).max() <= 6
    assert 0 < int(most.success.sum()) <= int(free.success.sum())
    mild = AIGENT(max_change=0.4)(model, batch)
    assert float((mild.images - batch.images).abs().max()) <= 0.4 + 1e-6
    assert mild.success.any()


@pytest.mark.slow
def test_processes_find_the_same(network: Network, right_images: Images):
    model = network("aigent_mnist_mlp8x16")
    batch = right_images(model, "mnist", 6)
    one = AIGENT()(model, batch)
    many = AIGENT(workers=2)(model, batch)
    assert torch.equal(one.images, many.images)
    with Processes(2) as engine:
        findings = AIGENT().findings(model, batch, engine=engine)
    images = torch.from_numpy(np.stack([f.image for f in findings])).float()
    assert torch.equal(images, one.images)


def test_the_exact_program_reports_incumbent_bound_and_gap(network: Network, right_images: Images):
    model = network("aigent_mnist_mlp8x16")
    batch = right_images(model, "mnist", 2)
    exact = AIGENT(method="milp", patches=False, seconds=6)
    for one in exact.findings(model, batch):
        assert one.outcome is SearchOutcome.FOUND
        assert one.bound <= one.incumbent + 1e-6 and one.gap >= 0


def test_time_runs_out(network: Network, right_images: Images):
    model = network("aigent_mnist_mlp6x50")
    batch = right_images(model, "mnist", 2)
    attack = AIGENT(seconds=1e-6)
    assert {one.outcome for one in attack.findings(model, batch)} == {SearchOutcome.OUT_OF_TIME}
    result = attack(model, batch)
    assert not result.success.any() and "Time ran out" in result.notes[0]


def test_variants_of_the_patches(network: Network, right_images: Images):
    model = network("aigent_mnist_mlp6x50")
    batch = right_images(model, "mnist", 10)
    base = AIGENT()
    found = {}
    for name, change in {
        "joint": {}, "free": {"marking": "off"}, "equal": {"relaxed": False},
        "sign": {"marking": "sign"}, "own": {"chain": "own"}, "paper": {"chain": "paper"},
        "none": {"patches": False},
    }.items():  # fmt: skip
        findings = dataclasses.replace(base, **change).findings(model, batch)
        assert sum(one.outcome is SearchOutcome.FOUND for one in findings) >= 9, name
        chains = [one.chain for one in findings if one.chain is not None]
        found[name] = sum(one.status.found and one.errs for one in chains)
        assert len(chains) == (0 if name == "none" else 10)
        if name == "own":
            assert sum(one.impossible for one in chains) >= 8
    assert found["joint"] >= 9 and found["free"] >= 9 and found["equal"] >= 9
    assert found["own"] <= 2 and found["paper"] <= 2


def test_an_unusable_solver_falls_back_and_says_so(
    network: Network, right_images: Images, monkeypatch
):
    from suture.solvers import choosing
    from suture.solvers.solution import Unusable

    def refuse(problem, limits):
        raise Unusable("Gurobi refused the problem: Model too large for size-limited license.")

    monkeypatch.setattr(choosing, "SOLVERS", {**choosing.SOLVERS, "gurobi": refuse})
    model = network("aigent_mnist_mlp8x16")
    batch = right_images(model, "mnist", 2)
    result = AIGENT(solver="gurobi")(model, batch)
    assert result.success.all()
    assert any("HiGHS solved it instead" in note for note in result.notes)
