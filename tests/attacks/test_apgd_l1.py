"""APGD in L1 against the authors' code from the same start, and its schedule by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture.attacks import APGD, apgd_l1
from suture.attacks.apgd_l1 import _check, _moved, _stages
from suture.attacks.geometry import distance
from suture.attacks.steps import Rows
from tests.attacks.test_fab import curved  # noqa: F401 — a fixture
from tests.attacks.test_pgd import grey_case


def test_stages_take_all_steps():
    assert _stages(100) == [(3, 30), (2, 30), (1, 40)]
    assert _stages(12) == [(3, 4), (2, 4), (1, 4)]
    assert _stages(1) == [(3, 1), (2, 1), (1, 0)]


def state(**more: torch.Tensor) -> Rows:
    clean = torch.full((1, 1, 1, 10), 0.5)
    return Rows(clean=clean, here=clean.clone(), **more)


def test_a_step_goes_along_the_largest_entries():
    gradient = torch.tensor([1.0, -9, 2, 8, -3, 7, 0, 1, 2, 3]).reshape(1, 1, 1, 10)
    here = state(gradient=gradient, share=torch.tensor([0.3]), step=torch.tensor([0.6]))
    moved = _moved(here, 1.0) - here.clean
    expected = torch.tensor([0, -0.2, 0, 0.2, 0, 0.2, 0, 0, 0, 0])
    # The authors' threshold is the entry of rank (1 - share)·d from below: here the eighth.
    assert torch.allclose(moved.flatten(), expected, atol=1e-6)


def test_the_check_sets_sparsity_and_step():
    best = torch.full((1, 1, 1, 10), 0.5)
    best[..., :6] = 0.6
    zero = torch.zeros_like(best)
    here = state(
        best=best,
        changed=torch.tensor([10.0]),
        step=torch.tensor([0.5]),
        gradient=zero,
        best_gradient=zero + 1,
    )
    _check(here, 1.0)  # from 10 entries to 6: sparser, so the step is eps again
    assert float(here.share) == pytest.approx(6 / 10 / 1.5) and float(here.step) == 1.0
    assert torch.equal(here.here, best) and bool((here.gradient == 1).all())
    _check(here, 1.0)  # the same 6 entries: shorter
    assert float(here.step) == pytest.approx(1 / 1.5)
    for _ in range(9):
        _check(here, 1.0)
    assert float(here.step) == pytest.approx(0.1)


def test_it_needs_the_exact_minimal_radius_and_little_more():
    model, batch, gap, w = grey_case()
    for row in range(len(batch)):
        radius, one = float((gap / w.abs().max())[row]), batch[row : row + 1]
        assert not APGD(norm="l1", eps=0.99 * radius, steps=40)(model, one).success
        assert APGD(norm="l1", eps=3 * radius, steps=40)(model, one).success


@pytest.mark.parametrize("decreasing", [True, False])
@pytest.mark.parametrize("eps", [0.05, 0.3, 0.8])
def test_it_is_the_authors(curved, monkeypatch, decreasing, eps):  # noqa: F811
    package = pytest.importorskip(
        "pyautoattack.autopgd_base", reason="needs pyautoattack: pip install pyautoattack"
    )
    model, batch = curved
    batch = batch[:-1]
    drawn = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(apgd_l1, "_direction", lambda oracle, left, start: drawn[: len(left)])
    ours = APGD(norm="l1", eps=eps, steps=50, decreasing=decreasing)(model, batch)
    monkeypatch.setattr(torch, "randn_like", lambda like: drawn.clone())
    monkeypatch.setattr(torch, "randn", lambda shape: drawn.clone())
    theirs = package.APGDAttack(model, n_iter=50, norm="L1", eps=eps, device="cpu")
    theirs.init_hyperparam(batch.images)
    with torch.no_grad():
        if decreasing:
            found = theirs.decr_eps_pgd(
                batch.images, batch.labels, [3 * eps, 2 * eps, eps], [15, 15, 20]
            )
        else:
            found = theirs.attack_single_run(batch.images, batch.labels)
    best, held, _, _ = found
    assert torch.equal(ours.success, ~held)
    losses = [
        nn.functional.cross_entropy(model(x), batch.labels, reduction="none")[held]
        for x in (ours.images, best)
    ]
    # Where sums round otherwise the paths may part (1.2 % on one processor): ours may end higher.
    assert bool((losses[0] >= (1 - 1e-2) * losses[1]).all())
    assert torch.allclose(*losses, rtol=3e-2)
    assert (distance("l1", ours.images - batch.images) <= eps * (1 + 1e-6)).all()
