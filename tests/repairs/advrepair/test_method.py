"""Whole repairs: what is called proved holds, what is not proved is never called so."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from suture.attacks import PGD, Square
from suture.certify import Checker
from suture.data.vnnlib import parse_vnnlib
from suture.errors import ArgumentError
from suture.models import fingerprint
from suture.repairs import AdvRepair, Context, Status, repair
from suture.repairs.advrepair import balls, of_property
from suture.testing.small import digits, trained
from suture.types import Batch

EPS = 0.1
METHODS = {
    "property": AdvRepair(attack=PGD(eps=EPS, steps=10), samples=10),
    "untargeted": AdvRepair(attack=PGD(eps=EPS, steps=10), samples=10, guidance="untargeted"),
    "targeted": AdvRepair(attack=PGD(eps=EPS, steps=10), samples=10, guidance="targeted"),
    "constant": AdvRepair(attack=PGD(eps=EPS, steps=10), samples=10, patch="constant"),
    "as published": AdvRepair(
        attack=PGD(eps=EPS, steps=10),
        samples=10,
        optimiser="gd",
        learning_rate=10.0,
        start=0.0,
        shared=0,
    ),
    "some shared": AdvRepair(attack=PGD(eps=EPS, steps=10), samples=6, shared=2),
    "one for all": AdvRepair(
        attack=PGD(eps=EPS, steps=10), samples=10, guidance="one", shared=0, epochs=50
    ),
    "cut": AdvRepair(attack=PGD(eps=EPS, steps=10), samples=4, cuts=3),
}
every_method = pytest.mark.parametrize("name", METHODS)


@cache
def repaired(name):
    return repair(trained(), digits().train.batch(200), METHODS[name], generator=1)


def in_balls(model):
    """The centres of the repaired balls with their labels."""
    table = model.allocation
    return Batch(table.centre.view(-1, 1, 8, 8), table.label)


@every_method
def test_everything_is_proved_and_the_independent_checker_agrees(name):
    result = repaired(name)
    assert result.status is Status.REPAIRED
    assert result.trace["proved"] == result.trace["samples"] == METHODS[name].samples
    check = Checker(result.model)
    for certificate in result.certificates:
        verdict = check(certificate)
        assert verdict.holds and verdict.by == "plain matrices"
        assert certificate.margin == pytest.approx(verdict.margin, abs=1e-3, rel=1e-3)


@every_method
def test_no_attack_succeeds_inside_the_balls(name):
    model = repaired(name).model
    for attack in (PGD(eps=EPS, steps=40, restarts=2), Square(eps=EPS, queries=300)):
        assert bool(attack(model, in_balls(model), generator=5).robust.all())
        assert not bool(attack(trained(), in_balls(model), generator=5).robust.all())


def test_certificates_cover_their_balls():
    result = repaired("cut")
    model, volume = result.model, {}
    for certificate in result.certificates:
        region = certificate.note["region"]
        centre = model.allocation.centre[region].view(1, 8, 8).double()
        low, high = (centre - EPS).clamp(0, 1), (centre + EPS).clamp(0, 1)
        assert (certificate.lower >= low - 1e-6).all() and (certificate.upper <= high + 1e-6).all()
        share = ((certificate.upper - certificate.lower) / (high - low)).prod()
        volume[region] = volume.get(region, 0.0) + float(share)
        assert certificate.note["label"] == int(model.allocation.label[region])
    assert volume == pytest.approx(dict.fromkeys(range(4), 1.0), abs=1e-4)
    assert len(result.certificates) > 4


def test_a_changed_weight_is_noticed():
    result = repaired("property")
    first = result.certificates[0]
    with torch.no_grad():
        bias = result.model.bank.biases[-1]
        before = bias.clone()
        bias[first.note["patch"], first.note["label"]] -= 1e3
        try:
            assert not Checker(result.model)(first).holds
            renamed = replace(first, network=fingerprint(result.model))
            assert not Checker(result.model)(renamed).holds
        finally:
            bias.copy_(before)
    assert Checker(result.model)(first).holds


def test_outside_nothing_is_claimed_and_the_model_stays_good():
    model, batch = repaired("property").model, digits().test.batch(200)
    with torch.no_grad():
        before, after = (m(batch.images).argmax(1) == batch.labels for m in (trained(), model))
    assert after.sum() >= before.sum() - 2
    outside = batch.images[0]
    with pytest.raises(ArgumentError, match="inside of a repaired region"):
        model.certify_parts(outside - EPS, outside + EPS)


def test_feature_space_repairs_are_never_proved():
    method = AdvRepair(
        attack=PGD(eps=EPS, steps=10), samples=5, at="penultimate", rounds=2, feature_samples=30
    )
    result = repair(trained(), digits().train.batch(200), method, generator=1)
    assert result.certificates == () and result.trace["proved"] == 0
    assert result.trace["repaired"] == 5 and result.status is Status.REPAIRED
    assert result.trace["epochs"] == 20
    with pytest.raises(ArgumentError, match="feature space"):
        result.model.certify_parts(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))


def test_balls_of_two_classes_that_overlap_are_not_both_proved():
    batch = digits().train.batch(60)
    with torch.no_grad():
        right = (trained()(batch.images).argmax(1) == batch.labels).nonzero()[:, 0]
    one = batch[right[:1]]
    near = (one.images + 0.05).clamp(0, 1)
    other = (int(one.labels) + 1) % 10
    both = Batch(torch.cat([one.images, near]), torch.tensor([int(one.labels), other]))
    method = AdvRepair(rounds=1)
    none = (both.images[:0], torch.zeros(0).long())
    result = method.of_regions(trained(), balls(both, EPS, 10), *none, Context.of())
    assert result.trace["patches"] == 2 and result.trace["proved"] == 0
    assert result.certificates == ()
    assert result.trace["failed"] + result.trace["repaired"] == 2


def small_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = nn.Sequential(nn.Flatten(), nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 3))
    return net.eval()


TEXT = """
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
(assert (>= X_0 -1)) (assert (<= X_0 1)) (assert (>= X_1 -1)) (assert (<= X_1 1))
(assert (or (and (<= Y_1 Y_0) (<= Y_2 Y_0)) (and (<= Y_1 -0.2))))
"""


@pytest.mark.parametrize("cuts", [1, 8])
def test_a_property_is_repaired_on_its_box_and_nowhere_else(cuts):
    net, given = small_network(), parse_vnnlib(TEXT)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(4000, 1, 1, 2, generator=generator) * 4 - 2
    inside = torch.from_numpy(given.admits(inputs.flatten(1).double().numpy()))
    with torch.no_grad():
        bad = torch.from_numpy(given.violated_by(net(inputs).double().numpy())) & inside
    assert 10 < int(bad.sum()) < 900
    wrong = inputs[bad][:50]
    region = torch.zeros(len(wrong), dtype=torch.int64)
    regions = of_property(given, (1, 1, 2))
    result = AdvRepair(cuts=cuts).of_regions(net, regions, wrong, region, Context.of())
    assert result.status is Status.REPAIRED and result.trace["proved"] == 1
    with torch.no_grad():
        out, before = result.model(inputs), net(inputs)
    assert not given.violated_by(out[inside].double().numpy()).any()
    assert torch.equal(out[~inside], before[~inside])
    check = Checker(result.model)
    assert all(check(certificate).holds for certificate in result.certificates)
    assert len(result.certificates) >= min(cuts, 2)


def test_labels_are_needed_for_label_guidance():
    regions = of_property(parse_vnnlib(TEXT), (1, 1, 2))
    with pytest.raises(ArgumentError, match="guidance"):
        AdvRepair(guidance="targeted").of_regions(
            small_network(), regions, torch.zeros(0, 1, 1, 2), torch.zeros(0).long(), Context.of()
        )


def test_fields_are_checked():
    with pytest.raises(ArgumentError, match="L∞"):
        AdvRepair(attack=PGD(norm="l2", eps=1.0))
    with pytest.raises(ArgumentError, match="margin"):
        AdvRepair(margin=0.0)


def test_without_fooled_images_nothing_changes():
    method = AdvRepair(attack=PGD(eps=1e-6, steps=1), samples=3)
    result = repair(trained(), digits().train.batch(20), method, generator=1)
    assert result.status is Status.UNCHANGED and result.certificates == ()
    assert fingerprint(result.model) == fingerprint(trained())


@pytest.mark.slow
def test_onnxruntime_computes_the_same():
    onnxruntime = pytest.importorskip("onnxruntime")
    model = repaired("property").model
    images = torch.cat([digits().test.batch(20).images, in_balls(model).images])
    batch, buffer = torch.export.Dim("batch", min=2, max=256), io.BytesIO()
    program = torch.onnx.export(
        model, (images[:3],), dynamo=True, dynamic_shapes=({0: batch}, None)[:1], verbose=False
    )
    assert program is not None
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue())
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(images).numpy(), rtol=1e-3, atol=1e-3)


def test_one_patch_for_all_has_to_read_its_input():
    """The balls are of several classes: no constant raises all of their labels."""
    result = repaired("one for all")
    assert result.trace["patches"] == 1
    assert len(in_balls(result.model).labels.unique()) > 2
    constant = replace(METHODS["one for all"], patch="constant", rounds=1)
    control = repair(trained(), digits().train.batch(200), constant, generator=1)
    assert control.trace["proved"] < 6


def test_what_a_constant_proves_stays_a_constant():
    method = replace(METHODS["property"], start=1.0, quiet=0.0)
    result = repair(trained(), digits().train.batch(200), method, generator=1)
    assert result.trace["proved"] == method.samples and result.trace["epochs"] == 0
    assert not result.model.bank.weights[-1].any() and result.model.bank.biases[-1].any()
