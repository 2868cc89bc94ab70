"""Bounds through R: they hold for every image of the ball, and prove less than R is worth."""

from __future__ import annotations

import pytest
import torch

from suture.attacks import PGD
from suture.repairs import A5Robustifier
from suture.repairs.a5 import Defence
from suture.repairs.a5.robustifier import build_robustifier, defended
from suture.repairs.a5.through import certify_before, handed_on_box
from suture.testing.small import digits
from suture.types import Box
from tests.repairs.a5.robust import EPS, SHORT, robust


def moving(body: str, *, rounded: bool = True) -> torch.nn.Module:
    """A robustifier whose weights are large enough to move images."""
    made = build_robustifier(body, (1, 8, 8), Defence(0.1, rounded=rounded), seed=3)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(4)
        [m for m in made.modules() if isinstance(m, torch.nn.Conv2d)][-1].weight.mul_(60)
    return made


@pytest.mark.parametrize("body", ["small", "mnist"])
@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_the_box_holds_what_is_handed_on(body, method):
    images, eps = digits().test.batch(6).images, 0.02
    robustifier = moving(body)
    wide = images.double()
    box = Box((wide - eps).clamp(0, 1), (wide + eps).clamp(0, 1))
    reached = handed_on_box(robustifier, box, method)
    draws = torch.rand(200, *images.shape, generator=torch.Generator().manual_seed(0))
    ends = torch.cat([draws, draws.round()])  # corners too
    seen = box.lower + ends * (box.upper - box.lower)
    with torch.no_grad():
        for some in seen.float():
            out = robustifier(some)
            assert bool((reached.lower <= out).all() and (out <= reached.upper).all())
        assert float((robustifier(images) - images).abs().max()) > 0.05
    width = (reached.upper - reached.lower).mean()
    assert float(width) < 0.2, "narrower than what the two radii alone allow"


def test_crown_is_tighter_than_intervals():
    wide = digits().test.batch(4).images.double()
    box = Box((wide - 0.02).clamp(0, 1), (wide + 0.02).clamp(0, 1))
    loose, tight = (handed_on_box(moving("small"), box, m) for m in ("ibp", "crown"))
    assert float((tight.upper - tight.lower).mean()) < float((loose.upper - loose.lower).mean())


def test_what_is_certified_before_r_no_attack_turns():
    train, test = digits().train.batch(400), digits().test.batch(60)
    method = A5Robustifier(
        eps=EPS, defence=Defence(0.1), body="small", schedule=SHORT, certificates=0
    )
    model = method(robust(), train, generator=2).model
    found = {inner: certify_before(model, test, 0.01, inner=inner) for inner in ("ibp", "crown")}
    sure = found["crown"].certified
    assert (
        5 < int(found["ibp"].certified.sum()) <= int(sure.sum()) <= int(found["crown"].right.sum())
    )
    assert bool(PGD(eps=0.01, steps=20)(model, test, generator=0).robust[sure].all())
    assert not bool(certify_before(model, test, 0.3).certified.any())


def test_a_r_that_moves_nothing_costs_little():
    """Untrained, R hands on the image itself: only rounding is lost."""
    test = digits().test.batch(40)
    model = defended(build_robustifier("small", (1, 8, 8), Defence(0.1, rounded=False)), robust())
    with torch.no_grad():
        for weight in model.robustifier.parameters():
            weight.zero_()
    proved = certify_before(model, test, EPS - 1e-4, "ibp").certified
    from suture.certify import certify_images

    assert torch.equal(proved, certify_images(robust(), test, EPS, "ibp").certified)
