"""What A5 can do beyond the paper: tighter bounds for O, and an adversary in R's training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from suture import bounds
from suture.attacks import PGD
from suture.certify import certify_images
from suture.errors import ArgumentError
from suture.repairs import A5CoTraining, A5Offline, A5Robustifier
from suture.repairs.a5 import Defence
from suture.repairs.a5.robustifier import build_robustifier, defended
from suture.repairs.a5.trainees import RobustifiedTrainee
from suture.repairs.certified_training.trainee import Sample
from suture.rng import Stream
from suture.testing.small import digits, trained
from tests.repairs.a5.robust import EPS, SHORT, robust


def test_offline_by_crown_certifies_what_intervals_cannot():
    """A classifier that was never trained on intervals."""
    batch, small = digits().test.batch(30), 0.01
    by = {
        bound: A5Offline(eps=small, defence=Defence(0.1), steps=4, bound=bound, certificates=0)
        .robustify(trained(), batch)
        for bound in ("ibp", "crown")
    }  # fmt: skip
    held = {b: certify_images(trained(), f.batch, small, "crown").certified for b, f in by.items()}
    # Certified in float32 there, in float64 with slack here.
    assert int((by["crown"].certified & ~held["crown"]).sum()) <= 1
    assert int(by["ibp"].certified.sum()) < int(by["crown"].certified.sum())
    assert int(held["crown"].sum()) >= int(held["ibp"].sum())
    assert float((by["crown"].batch.images - batch.images).abs().max()) <= 0.1 + 1e-6
    with pytest.raises(ArgumentError, match="bound"):
        A5Offline(bound="alpha-crown")


def trainee(before: PGD | None) -> RobustifiedTrainee:
    both = defended(build_robustifier("small", (1, 8, 8), Defence(0.1)), robust())
    return RobustifiedTrainee(both, (1, 8, 8), EPS, together=False, before=before)


def test_the_adversary_changes_what_r_reads_and_only_that():
    batch = digits().test.batch(60)
    sample = Sample(batch.images, batch.labels, torch.arange(60))
    attack = PGD(eps=0.05, steps=5)
    met = trainee(attack)._met(sample, Stream(0))
    assert 0.02 < float((met - batch.images).abs().max()) <= 0.05 + 1e-6
    assert torch.equal(trainee(None)._met(sample, Stream(0)), batch.images)
    calm, hard = (trainee(a).loss(sample, 1.0, 0.0, Stream(0)) for a in (None, attack))
    assert float(hard.loss) > float(calm.loss) and hard.loss.requires_grad
    right, held = trainee(attack).judge(sample, Stream(0))
    with torch.no_grad():
        stored = trainee(None).robustifier(trainee(attack)._met(sample, Stream(0)))
        network = bounds.read(robust(), (1, 8, 8))
        assert torch.equal(right, network(stored).argmax(1) == batch.labels)
    assert bool((held <= right).all())


def test_r_against_an_attacker_before_it_leaves_him_less():
    """Where the defence moves as far as he does, plain R helps him."""
    train, test = digits().train.batch(800), digits().test.batch(120)
    schedule = replace(SHORT, epochs=8)
    attack = PGD(eps=0.15, steps=20, restarts=2)
    left = {}
    for before in (0.0, 0.15):
        method = A5Robustifier(
            eps=EPS, defence=Defence(0.2), body="small", schedule=schedule, certificates=0,
            before=before,
        )  # fmt: skip
        model = method(robust(), train, generator=2).model
        left[before] = int(attack(model, test, generator=0).robust.sum())
    assert left[0.15] > left[0.0] + 3


def test_cotraining_hands_the_adversary_on():
    method = A5CoTraining(before=0.1, before_steps=3)
    assert (method._first().before, method._first().before_steps) == (0.1, 3)
    with pytest.raises(ArgumentError, match="before"):
        A5CoTraining(before=8.0)
    with pytest.raises(ArgumentError, match="before"):
        A5Robustifier(before=-0.1)
