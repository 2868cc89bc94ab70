"""CROWN-IBP training: its schedule and loss by hand, its promises on the digits."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from suture import bounds, models
from suture.certify import certify_images
from suture.engine import Inline, Recorded
from suture.engine.ledger import Ledger
from suture.errors import ArgumentError, DataError
from suture.repairs import CrownIBP
from suture.repairs.certified_training import Curve, Ramp, Schedule
from suture.repairs.certified_training.curves import best_of
from suture.repairs.certified_training.loss import (
    FUSED_FROM,
    certified_loss,
    interval_margins,
)
from suture.repairs.certified_training.method import held_out
from suture.testing.small import digits, trained
from suture.types import Batch, Box

SHORT = Schedule(
    epochs=4, batch_size=50, optimiser="adam", lr=2e-3, step_at=(), ramp=Ramp(start=1, length=2)
)


def reference(step: int, start: int, end: int, mid: float, beta: float) -> float:
    """auto_LiRPA's SmoothedScheduler, in steps, with a final value of 1."""
    middle = start + int((end - start) * mid)
    t = (middle - start) ** (beta - 1)
    alpha = 1 / ((end - middle) * beta * t + (middle - start) * t)
    value = alpha * (middle - start) ** beta
    if step <= start:
        return 0.0
    if step < middle:
        return alpha * (step - start) ** beta
    return min(1.0, value + (1 - value) * (step - middle) / (end - middle))


def test_the_ramp_is_the_smoothed_schedule():
    ramp, batches = Ramp(start=3, length=18, mid=0.3, beta=4), 100
    for step in range(0, 2500, 37):
        found = ramp.share(step // batches + 1, step % batches / batches)
        assert found == pytest.approx(reference(step, 200, 2000, 0.3, 4), abs=1e-9)
    assert ramp.full_from == 21
    assert ramp.share(21, 0.0) == 1.0 and ramp.share(20, 0.99) < 1.0
    assert Ramp(start=1, length=0).share(1, 0.0) == 1.0


def toy() -> nn.Module:
    """One hidden neuron that is open, so that IBP and CROWN-IBP differ."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 1.0]]))
        model[1].bias.copy_(torch.tensor([-1.0]))
        model[3].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[3].bias.copy_(torch.tensor([0.1, 0.0]))
    return model


def test_the_loss_by_hand():
    network = bounds.read(toy(), (1, 1, 2))
    images, labels = torch.full((1, 1, 1, 2), 0.6), torch.tensor([0])
    # x + y - 1 in [0, 0.4] for eps 0.1; h in [0, 0.4]; margin 2 h + 0.1 >= 0.1
    judged = certified_loss(network, images, labels, 0.1, 0.0, 0.0)
    assert float(judged.loss.detach()) == pytest.approx(math.log1p(math.exp(-0.1)))
    assert bool(judged.right) and bool(judged.certified)
    # eps 0.2: pre-activation in [-0.2, 0.6], chord irrelevant below, slope 1: h >= x + y - 1,
    # margin >= 2·(-0.2) + 0.1 = -0.3 by CROWN-IBP, 0.1 by IBP (h >= 0).
    for share, margin in ((0.0, 0.1), (1.0, -0.3), (0.25, 0.0)):  # shares of CROWN-IBP
        box = Box.around(images, 0.2)
        found = bounds.mixed_margins(network, box, labels, share)
        assert float(found[0, 1]) == pytest.approx(margin, abs=1e-6)
    mixed = certified_loss(network, images, labels, 0.2, 0.25, 0.5)
    natural = F.cross_entropy(network(images), labels)
    worst = torch.log(torch.tensor(2.0))
    assert float(mixed.loss.detach()) == pytest.approx(float(0.5 * natural + 0.5 * worst), abs=1e-6)
    half = certified_loss(network, images, labels, 0.2, 1.0, 0.0)
    assert not bool(half.certified) and bool(half.right)
    assert float(certified_loss(network, images, labels, 0.0, 1.0, 1.0).loss) == pytest.approx(
        float(natural)
    )


def test_the_fused_loss_by_hand():
    """The toy at eps 0.2, t = -(2 h + 0.1): intervals say [-1.3, -0.1], CROWN-IBP at most 0.3."""
    network = bounds.read(toy(), (1, 1, 2))
    images, labels = torch.full((1, 1, 1, 2), 0.6), torch.tensor([0])
    slope = (math.exp(-0.1) - math.exp(-1.3)) / 1.2
    chord = math.log1p(math.exp(-1.3) + slope * (0.3 + 1.3))
    plain = math.log1p(math.exp(-0.1))
    for share, expected in ((0.0, plain), (1.0, chord), (0.25, 0.25 * chord + 0.75 * plain)):
        judged = certified_loss(network, images, labels, 0.2, share, 0.0, fusion=True)
        assert float(judged.loss.detach()) == pytest.approx(expected, abs=1e-6)
        assert bool(judged.certified)  # by intervals


@pytest.mark.parametrize("eps", [0.002, 0.02, 0.2])
def test_the_fused_loss_holds_in_the_ball_and_is_that_of_intervals(eps: float):
    network = bounds.read(trained(), (1, 8, 8))
    batch = digits().test.batch(20)
    box = Box.around(batch.images, eps)
    margins = bounds.mixed_margins(network, box, batch.labels, 0.0)
    plain = F.cross_entropy(-margins, batch.labels, reduction="none")
    found, held = bounds.fused_cross_entropy(network, box, batch.labels, 0.0)
    torch.testing.assert_close(found, plain)
    assert torch.equal(held, bounds.certified(network, box, batch.labels, "ibp"))
    fused, kept = bounds.fused_cross_entropy(network, box, batch.labels, 1.0)
    assert bool((kept >= held).all()) and bool(torch.isfinite(fused).all())
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        share = torch.rand(box.lower.shape, generator=generator).round()  # corners
        logits = network(box.lower + share * (box.upper - box.lower))
        loss = F.cross_entropy(logits, batch.labels, reduction="none")
        assert bool((loss <= fused + 1e-5).all())
        assert bool((logits.argmax(1) == batch.labels)[kept].all())


def test_many_classes_are_fused_and_few_are_not():
    images, labels = (
        torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.arange(3),
    )
    for classes, fused in ((10, False), (FUSED_FROM, True)):
        network = bounds.read(models.build("digits_cnn", classes=classes, seed=0), (1, 8, 8))
        losses = [
            float(certified_loss(network, images, labels, 0.05, 1.0, 0.0, fusion=f).loss.detach())
            for f in (None, fused, not fused)
        ]
        assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_mixed_margins_are_the_mean_of_both(share: float):
    network = bounds.read(trained(), (1, 8, 8))
    batch = digits().test.batch(6)
    box = Box.around(batch.images, 0.03)
    found = bounds.mixed_margins(network, box, batch.labels, share)
    both = [bounds.margins(network, box, batch.labels, m) for m in ("crown-ibp", "ibp")]
    torch.testing.assert_close(found, share * both[0] + (1 - share) * both[1])


def run(method: CrownIBP, seed: int = 0, engine=None, tell=None):
    fresh = models.build("digits_cnn", mean=digits().mean, std=digits().std, seed=1)
    return method(fresh, digits().train.batch(600), generator=seed, engine=engine, on_progress=tell)


def test_training_certifies_more_than_natural_training():
    method = CrownIBP(eps=0.05, schedule=Schedule(
        epochs=12, batch_size=25, optimiser="adam", lr=2e-3, step_at=(10,), ramp=Ramp(2, 3)
    ))  # fmt: skip
    told: list[str] = []
    found = run(method, tell=lambda stage, done, total: told.append(stage))
    batch = digits().test.batch(200)
    ours, plain = (certify_images(m, batch, 0.05, "ibp") for m in (found.model, trained()))
    assert int(plain.certified.sum()) < 20
    assert int(ours.certified.sum()) > 100
    assert found.trace["best_epoch"] >= 5 and len(found.trace["curves"]) == 12
    assert "eps 0.050" in told[-1] and "clean / certified error" in told[-1]
    assert len(told) == 12 * 22


class Killed(Exception):
    pass


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    method = CrownIBP(eps=0.05, schedule=SHORT)
    whole = run(method).model

    def kill(stage: str, done: int, total: int) -> None:
        if done == 2 * 11 + 5:
            raise Killed

    with pytest.raises(Killed):
        run(method, engine=Recorded(Inline(), Ledger(tmp_path)), tell=kill)
    seen: list[int] = []
    again = run(
        method, engine=Recorded(Inline(), Ledger(tmp_path)), tell=lambda s, d, t: seen.append(d)
    )
    assert seen[0] == 2 * 11 + 1
    assert models.fingerprint(again.model) == models.fingerprint(whole)
    assert len(again.trace["curves"]) == 4
    seen.clear()
    done = run(
        method, engine=Recorded(Inline(), Ledger(tmp_path)), tell=lambda s, d, t: seen.append(d)
    )
    assert not seen and models.fingerprint(done.model) == models.fingerprint(whole)
    other = run(method, seed=1, engine=Recorded(Inline(), Ledger(tmp_path)))
    assert models.fingerprint(other.model) != models.fingerprint(whole)


def curve(epoch: int, clean: float, certified: float) -> Curve:
    return Curve(epoch, 1.0, 1.0, 0.0, 0.0, clean, certified)


def test_the_best_epoch_is_one_at_the_full_radius():
    curves = (curve(1, 0, 0.1), curve(2, 0.2, 0.3), curve(3, 0.1, 0.3), curve(4, 0.1, 0.3))
    assert best_of(curves, Ramp(start=1, length=1)) == 3
    assert best_of(curves[:1], Ramp(start=1, length=1)) == 1
    assert best_of(curves, Ramp(start=1, length=0)) == 1


def test_the_start_is_the_best_unless_an_epoch_beats_it():
    curves, ramp = (curve(1, 0, 0.1), curve(2, 0.1, 0.3)), Ramp(start=1, length=1)
    assert best_of(curves, ramp, start=(0.2, 0.2)) == 0
    assert best_of(curves, ramp, start=(0.1, 0.3)) == 0
    assert best_of(curves, ramp, start=(0.2, 0.3)) == 2
    assert best_of(curves[:1], ramp, start=(1.0, 1.0)) == 0


def test_intervals_at_radius_zero_are_the_margins():
    network, batch = bounds.read(trained(), (1, 8, 8)), digits().test.batch(20)
    with torch.no_grad():
        logits = network(batch.images)
    own = logits.gather(1, batch.labels[:, None])
    rest = logits.scatter(1, batch.labels[:, None], float("-inf")).amax(1, keepdim=True)
    found = interval_margins(network, batch.images, batch.labels, 0.0)
    torch.testing.assert_close(found[:, None], own - rest, rtol=1e-4, atol=1e-4)


def test_every_method_is_judged_by_the_same_images():
    """A robustifier's validation images must not have trained the classifier behind it."""
    data = digits().train.batch(100)
    train, validation = held_out(data, 0.2)
    again = held_out(Batch(1 - data.images, data.labels), 0.2)
    assert torch.equal(1 - validation.images, again[1].images)
    assert len(train) == 80 and len(validation) == 20
    seen = {row.numpy().tobytes() for row in train.images}
    assert not any(row.numpy().tobytes() in seen for row in validation.images)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ArgumentError, match="ramp that ends"):
        Schedule(epochs=10)
    with pytest.raises(ArgumentError, match="76.5/255"):
        CrownIBP(eps=76.5)
    with pytest.raises(DataError, match="held out"):
        CrownIBP(eps=0.1, schedule=SHORT)(
            copy.deepcopy(trained()), digits().train.batch(3), generator=0
        )
