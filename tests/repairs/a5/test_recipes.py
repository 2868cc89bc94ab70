"""O, R and RC: fewer errors that an attack can cause, and certificates that hold."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

import suture
from suture import bounds, models
from suture.attacks import APGD, PGD
from suture.certify import Checker, certify_images
from suture.engine import Inline, Recorded
from suture.engine.ledger import Ledger
from suture.errors import ArgumentError
from suture.repairs import (
    A5CoTraining,
    A5Offline,
    A5Robustifier,
    Context,
    RepairResult,
    Status,
)
from suture.repairs.a5 import Defence, RobustifiedClassifier
from suture.repairs.certified_training import Ramp, Schedule
from suture.testing.small import digits
from suture.types import Batch, Box
from tests.repairs.a5.robust import EPS, SHORT, robust

DEFENCE = Defence(0.2)
R = A5Robustifier(eps=EPS, defence=DEFENCE, body="small", schedule=SHORT, certificates=10)
RC = A5CoTraining(
    eps=EPS,
    defence=DEFENCE,
    body="small",
    alone=SHORT,
    schedule=replace(SHORT, epochs=16),  # long enough that some epoch is better than the start
    certificates=10,
)


def test_images() -> Batch:
    return digits().test.batch(150)


test_images.__test__ = False  # type: ignore[attr-defined]


@cache
def online(method: A5Robustifier | A5CoTraining) -> RepairResult:
    return method(robust(), digits().train.batch(800), generator=2)


def certified(model: torch.nn.Module, batch: Batch) -> int:
    return int(certify_images(model, batch, EPS, "ibp").certified.sum())


def stored(model: RobustifiedClassifier) -> Batch:
    batch = test_images()
    with torch.no_grad():
        return Batch(model.robustifier(batch.images), batch.labels)


def in_the_ball(moved: torch.Tensor, original: torch.Tensor) -> bool:
    return float((moved - original).abs().max()) <= DEFENCE.eps + 1e-6


def test_offline_certifies_more_and_its_certificates_hold():
    batch = test_images()
    result = A5Offline(eps=EPS, defence=DEFENCE, steps=12, certificates=15)(robust(), batch)
    moved = result.images["robustified"]
    assert in_the_ball(moved.images, batch.images)
    assert certified(robust(), moved) > certified(robust(), batch) + 5
    assert abs(result.trace["certified_after_the_move"] - certified(robust(), moved)) <= 1
    assert models.fingerprint(result.model.undefended()) == models.fingerprint(robust())
    assert result.status is Status.PARTLY
    check = Checker(result.model)
    assert len(result.certificates) >= 8
    for certificate in result.certificates:
        assert check(certificate).holds
        centre = moved.images[certificate.note["image"]].double()
        assert torch.equal(certificate.lower, (centre - EPS).clamp(0, 1))
        assert certificate.note["threat"] == "attack after robustification"


def test_no_attack_after_robustification_breaks_a_certified_image():
    batch = test_images()[:60]
    found = A5Offline(eps=EPS, defence=DEFENCE, steps=12).robustify(robust(), batch)
    sure = found.certified.nonzero()[:, 0]
    result = PGD(eps=EPS, steps=30)(robust(), found.batch[sure], generator=0)
    assert bool(result.robust.all())


def test_offline_images_do_not_depend_on_their_neighbours():
    batch, method = test_images()[:40], A5Offline(eps=EPS, defence=DEFENCE, steps=5)
    whole = method.robustify(robust(), batch, Context.of(batch_size=7))
    # The last one that stays in work, when those before it have left.
    hard = int((whole.steps == whole.steps.max()).nonzero()[-1, 0])
    assert int(whole.steps[hard]) >= 2 and int((whole.steps[:hard] == 0).sum()) > 5
    alone = method.robustify(robust(), batch[hard : hard + 1])
    # Sums over other batches may round otherwise; a grey level may then fall the other way.
    near = (whole.batch.images[hard : hard + 1] - alone.batch.images).abs()
    assert float(near.max()) <= 1.01 / 255
    assert float((alone.batch.images - batch.images[hard]).abs().max()) > 0.01
    assert int(whole.steps[hard]) == int(alone.steps[0])


def test_offline_stops_at_once_where_nothing_is_to_do():
    batch = test_images()
    held = certify_images(robust(), batch, EPS, "ibp").certified
    grey = Batch((batch.images * 255).round() / 255, batch.labels)[held.nonzero()[:, 0]]
    found = A5Offline(eps=EPS * 0.9, defence=DEFENCE, steps=3).robustify(robust(), grey)
    assert int(found.steps.sum()) == 0 and bool(found.certified.all())
    torch.testing.assert_close(found.batch.images, grey.images)


def test_offline_goes_on_where_it_was(tmp_path):
    batch, method = test_images()[:30], A5Offline(eps=EPS, defence=DEFENCE, steps=4)
    engine = Recorded(Inline(), Ledger(tmp_path))
    first = method.robustify(robust(), batch, Context.of(engine=engine))
    kept = list(tmp_path.glob("robustify-*"))
    assert len(kept) == 1
    context = Context.of(engine=Recorded(Inline(), Ledger(tmp_path)))
    again = method.robustify(robust(), batch, context)
    assert torch.equal(first.batch.images, again.batch.images)


@pytest.mark.parametrize("method", [R, RC], ids=["R", "RC"])
def test_online_recipes_certify_more_after_robustification(method):
    model = online(method).model
    batch, moved = test_images(), stored(model)
    assert in_the_ball(moved.images, batch.images)
    torch.testing.assert_close(moved.images * 255, (moved.images * 255).round(), atol=1e-3, rtol=0)
    assert certified(model.classifier, moved) > certified(robust(), batch)
    same = models.fingerprint(model.classifier) == models.fingerprint(robust())
    assert same == (method is R)


@pytest.mark.parametrize("method", [R, RC], ids=["R", "RC"])
def test_saved_certificates_are_proved_again(method, tmp_path):
    result = online(method)
    models.save(result.model, tmp_path / "bundle")
    check = Checker(suture.load(tmp_path / "bundle"))
    assert len(result.certificates) >= 5
    assert all(check(certificate).holds for certificate in result.certificates)
    named = {"A5Robustifier": "A5/R", "A5CoTraining": "A5/RC"}[type(method).__name__]
    assert {certificate.note["repair"] for certificate in result.certificates} == {named}
    changed = suture.load(tmp_path / "bundle")
    with torch.no_grad():
        next(changed.classifier.parameters()).add_(0.1)
    assert not Checker(changed)(result.certificates[0]).holds


def test_certificates_do_not_speak_of_attacks_before_robustification():
    """An attacker who moves what R reads is not met by the certificates, and does better."""
    model, batch = online(R).model, test_images()[:60]
    attack = APGD(eps=EPS, steps=20)
    before = attack(model, batch, generator=0).robust
    after = attack(model.classifier, stored(model)[:60], generator=0).robust
    assert int(before.sum()) < int(after.sum())


def test_training_of_both_goes_on_from_a_robustifier():
    first = online(R).model
    method = A5CoTraining(eps=EPS, defence=DEFENCE, schedule=SHORT, certificates=0)
    result = method(first, digits().train.batch(300), generator=2)
    assert "alone" not in result.trace and "alone" in online(RC).trace
    assert result.model.robustifier.body[0].kernel_size == (6, 6)
    assert certified(result.model.classifier, stored(result.model)) > 0


def test_a_robustifier_for_another_ball_is_refused():
    """Its images would move by 0.2 while the trace said 0.05."""
    method = A5CoTraining(eps=EPS, defence=Defence(0.05), schedule=SHORT, certificates=0)
    with pytest.raises(ArgumentError, match=r"eps=0\.2.*--defence\.eps 0\.2"):
        method(online(R).model, digits().train.batch(50), generator=2)


def test_what_training_of_both_makes_worse_is_not_kept():
    first = online(R).model
    wild = replace(SHORT, lr=1.0, epochs=2, ramp=Ramp(start=1, length=1), clip=0.0)
    method = A5CoTraining(eps=EPS, defence=DEFENCE, schedule=wild, certificates=0)
    result = method(first, digits().train.batch(300), generator=2)
    assert result.trace["best_epoch"] == 0 and len(result.trace["curves"]) == 2
    assert models.fingerprint(result.model) == models.fingerprint(first)
    ends = [c["validation_certified_error"] for c in result.trace["curves"]]
    assert result.trace["held_out"]["certified"] <= min(ends)


def test_the_gradient_reaches_the_robustifier_through_the_bound():
    """Against finite differences of the worst-case loss, in float64."""
    from suture.repairs.a5 import build_robustifier, defended
    from suture.repairs.a5.trainees import RobustifiedTrainee
    from suture.repairs.certified_training.trainee import Sample
    from suture.rng import Stream

    body = build_robustifier("small", (1, 8, 8), DEFENCE, seed=1).double()
    batch = digits().train.batch(4)
    both = defended(body, robust().double())
    try:
        trainee = RobustifiedTrainee(both, (1, 8, 8), EPS, together=False)
        sample = Sample(batch.images.double(), batch.labels, torch.arange(4))
        bias = body.body[0].bias
        judged = trainee.loss(sample, 1.0, 0.0, Stream(0))
        (slope,) = torch.autograd.grad(judged.loss, bias)
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                bias[3] += step
            values.append(float(trainee.loss(sample, 1.0, 0.0, Stream(0)).loss.detach()))
            with torch.no_grad():
                bias[3] -= step
        assert float(slope[3]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3, abs=1e-9)
        assert float(slope.abs().max()) > 0
    finally:
        robust().float()


def test_the_training_loss_bounds_every_attack():
    """The worst-case loss is above the loss at attacked points (Eq. 3)."""
    batch = test_images()[:20]
    network = bounds.read(robust(), (1, 8, 8))
    worst = bounds.margins(network, Box.around(batch.images, EPS), batch.labels, "ibp")
    attacked = PGD(eps=EPS, steps=20)(robust(), batch, generator=0).images
    with torch.no_grad():
        at = torch.nn.functional.cross_entropy(robust()(attacked), batch.labels)
    assert float(bounds.worst_case_cross_entropy(worst, batch.labels).detach()) >= float(at)


def test_what_makes_no_sense_is_refused():
    for make in (A5Offline, A5Robustifier, A5CoTraining):
        with pytest.raises(ArgumentError, match="eps"):
            make(eps=0.0)
        with pytest.raises(ArgumentError, match="certificates"):
            make(certificates=-1)
    with pytest.raises(ArgumentError, match="steps"):
        A5Offline(steps=0)
    with pytest.raises(ArgumentError, match="ramp"):
        Schedule(epochs=2, ramp=Ramp(start=2, length=3))
