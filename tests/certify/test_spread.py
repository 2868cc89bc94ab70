"""Proofs in pieces: whoever does them, the margins are the same, and none is done twice."""

from __future__ import annotations

import pytest
import torch

from suture.certify import certify_images
from suture.engine import Inline, Ledger, Processes, Recorded
from suture.testing.small import digits, trained

EPS = 0.05


def batch():
    return digits().test.batch(24)


def test_two_processes_prove_what_one_does():
    alone = certify_images(trained(), batch(), EPS, "crown", batch_size=5, engine=Inline())
    with Processes(2) as engine:
        spread = certify_images(trained(), batch(), EPS, "crown", batch_size=5, engine=engine)
    assert torch.equal(alone.margin, spread.margin) and torch.equal(alone.right, spread.right)
    assert 0 < int(alone.certified.sum()) < int(alone.right.sum())


@pytest.mark.slow
def test_cases_prove_more_than_crown():
    crown = certify_images(trained(), batch(), 0.04, "crown")
    cases = certify_images(trained(), batch(), 0.04, "beta-crown", seconds=5.0)
    assert bool((cases.certified >= crown.certified).all())
    assert int(cases.certified.sum()) > int(crown.certified.sum())


def test_what_is_proved_is_not_proved_again(tmp_path, monkeypatch):
    def engine():
        return Recorded(Inline(), Ledger(tmp_path))

    first = certify_images(trained(), batch(), EPS, "crown", batch_size=5, engine=engine())
    monkeypatch.setattr("suture.certify.accuracy.prove", None)
    again = certify_images(trained(), batch(), EPS, "crown", batch_size=5, engine=engine())
    assert torch.equal(first.margin, again.margin)
    with pytest.raises(TypeError):  # another radius is other work
        certify_images(trained(), batch(), 2 * EPS, "crown", batch_size=5, engine=engine())
