"""Gradient attacks where the best attack is known: linear classifiers, and brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from suture.attacks import APGD, BIM, CW, FGSM, JSMA, PGD, DeepFool
from suture.attacks.apgd import _StepSizes
from suture.attacks.geometry import distance, project
from suture.attacks.jsma import best_pairs
from suture.attacks.losses import dlr, dlr_towards
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, random_start, steepest_l1
from suture.errors import ArgumentError
from suture.rng import Stream
from suture.testing.exact import ExactLinear, ExactRandom
from suture.types import Batch
from tests.attacks.test_pgd import grey_case


def test_fgsm_is_one_signed_gradient():
    model, batch, _, w = grey_case()
    result = FGSM(eps=0.01)(model, batch)
    towards = torch.where(batch.labels == 0, -1.0, 1.0)[:, None] * w.sign()
    expected = batch.images + 0.01 * towards.reshape(batch.images.shape)
    assert torch.allclose(result.images, expected, atol=1e-7)
    assert (result.queries == 1).all()


def test_bim_has_the_papers_steps():
    model, batch, gap, w = grey_case()
    eps = 0.9 * float(gap.min() / w.abs().sum())
    result = BIM(eps=eps)(model, batch)
    assert (result.queries == 11).all()
    small = BIM(eps=1.0, steps=3)(model, batch)
    held = ~small.success
    moved = distance("linf", small.images - batch.images)
    assert torch.allclose(moved[held], torch.tensor(3 / 255), atol=1e-6)


def minimal(norm: str, gap: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Distance to the boundary: the gap over the dual norm of the weights."""
    dual = {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().max()}
    return gap / dual[norm]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_reaches_the_exact_minimal_radius(norm: str):
    model, batch, gap, w = grey_case()
    for row in range(len(batch)):
        radius, one = float(minimal(norm, gap, w)[row]), batch[row : row + 1]
        assert not APGD(norm=norm, eps=0.99 * radius, steps=20)(model, one).success
        assert APGD(norm=norm, eps=1.01 * radius, steps=20)(model, one).success


def test_pgd_l1_reaches_the_exact_minimal_radius():
    model, batch, gap, w = grey_case()
    for row in range(len(batch)):
        radius, one = float(minimal("l1", gap, w)[row]), batch[row : row + 1]
        if radius > 0.4:  # one pixel alone cannot go further: the box matters
            continue
        assert not PGD(norm="l1", eps=0.99 * radius, steps=30)(model, one).success
        assert PGD(norm="l1", eps=1.02 * radius, steps=30)(model, one).success


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_steps_just_over_the_boundary(norm: str):
    model, batch, gap, w = grey_case()
    result = DeepFool(norm=norm)(model, batch)
    assert result.success.all()
    away = distance(norm, result.images - batch.images)
    # One step: (distance + 1e-4) stretched by 1.02, seen in the second gradient query.
    assert torch.allclose(away, (minimal(norm, gap, w) + 1e-4) * 1.02, rtol=1e-3)
    assert (result.queries == 3).all()


def test_cw_finds_nearly_the_nearest_wrong_image():
    model, batch, gap, w = grey_case()
    result = CW(steps=300, binary_search_steps=6)(model, batch)
    assert result.success.all()
    away, exact = distance("l2", result.images - batch.images), minimal("l2", gap, w)
    assert (away >= exact * 0.999).all() and (away <= exact * 1.05).all()


def test_cw_with_a_radius_stops_at_the_first_success_inside():
    model, batch, gap, w = grey_case()
    eps = 1.2 * float(minimal("l2", gap, w).max())
    free = CW(steps=300, binary_search_steps=6)(model, batch)
    bound = CW(steps=300, binary_search_steps=6, eps=eps)(model, batch)
    assert bound.success.all() and (bound.queries < free.queries).all()
    assert distance("l2", bound.images - batch.images).max() <= eps + 1e-6


def test_cw_confidence_goes_beyond_the_boundary():
    model, batch, _, _ = grey_case()
    result = CW(steps=300, binary_search_steps=6, confidence=0.5)(model, batch)
    with torch.no_grad():
        logits = model(result.images)
    assert result.success.all() and ((logits[:, 0] - logits[:, 1]).abs() >= 0.5 - 1e-4).all()


@pytest.mark.parametrize("seed", range(6))
def test_jsma_compares_all_pairs(seed: int):
    generator = torch.Generator().manual_seed(seed)
    up, down = (torch.randn(5, 17, generator=generator) for _ in range(2))
    up = up.mul(3).round() / 3  # ties
    free = torch.rand(5, 17, generator=generator) < 0.7
    free[4, 1:] = False
    pairs, scores = best_pairs(up, down, free)
    for row in range(5):
        best = 0.0
        for p, q in itertools.combinations(range(17), 2):
            alpha, beta = float(up[row, p] + up[row, q]), float(down[row, p] + down[row, q])
            if free[row, p] and free[row, q] and alpha > 0 and beta > 0:
                best = max(best, alpha * beta)
        assert float(scores[row]) == pytest.approx(best, abs=1e-6)
        if best:
            p, q = pairs[row].tolist()
            assert p != q and free[row, p] and free[row, q]
            product = (up[row, p] + up[row, q]) * (down[row, p] + down[row, q])
            assert float(product) == pytest.approx(best, abs=1e-6)


def test_jsma_changes_the_best_pair_and_no_more_than_gamma():
    model = ExactLinear((1, 4, 4), classes=3)
    images = torch.full((1, 1, 4, 4), 0.5)
    label = model(images).argmax(1)
    target = (label + 1) % 3
    result = JSMA(theta=0.2, gamma=2 / 16)(model, Batch(images, label), targets=target)
    up = model.weight[target[0]].detach()
    down = -(model.weight.detach().sum(0) - up)
    pair = best_pairs(up[None], down[None], torch.ones(1, 16, dtype=torch.bool))[0][0]
    changed = (result.images != images).flatten().nonzero()[:, 0]
    assert sorted(changed.tolist()) == sorted(pair.tolist())
    assert torch.allclose(result.images.flatten()[changed], torch.tensor(0.7))


def l1_by_sorting(clean: torch.Tensor, far: torch.Tensor, eps: float) -> torch.Tensor:
    """Soft thresholding with the λ at which the sizes sum to eps (Duchi et al. 2008)."""
    sizes = (far - clean).abs().sort(descending=True).values
    cumulated = (sizes.cumsum(0) - eps) / torch.arange(1, len(sizes) + 1)
    lambda_ = cumulated[(sizes > cumulated).nonzero()[-1, 0]].clamp_min(0)
    delta = (far - clean).sign() * ((far - clean).abs() - lambda_).clamp_min(0)
    return clean + delta


def test_l1_projection_is_the_nearest_point():
    generator = torch.Generator().manual_seed(0)
    clean, far = (torch.rand(6, 3, 5, 4, generator=generator) for _ in range(2))
    near = project("l1", 2.0, clean, far)
    assert distance("l1", near - clean).max() <= 2.0
    for row in range(6):
        expected = l1_by_sorting(clean[row].flatten(), far[row].flatten(), 2.0)
        assert torch.allclose(near[row].flatten(), expected, atol=1e-5)
    assert torch.equal(project("l1", 99.0, clean, far), far)
    assert torch.equal(project("l1", 0.0, clean, far), clean)


def test_steepest_l1_is_sparse_and_leaves_the_border_alone():
    gradient = torch.tensor([[[[5.0, -4.0, 3.0, 2.0]]]])
    images = torch.tensor([[[[1.0, 0.5, 0.5, 0.5]]]])
    along = steepest_l1(gradient, images, sparsity=0.5)
    assert along.flatten().tolist() == [0.0, -0.5, 0.5, 0.0]


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5), ("l1", 2.0)])
def test_random_starts_fill_the_ball_evenly(norm: str, eps: float):
    images = torch.full((200, 1, 2, 2), 0.5) + 1e-3 * torch.rand(200, 1, 2, 2)
    goals = torch.zeros(200, dtype=torch.int64)
    oracle = Oracle(nn.Identity(), images, goals, targeted=False, stream=Stream(0), eot=1)
    start = random_start(norm, 0.1 * eps, oracle, images, torch.arange(200), 0)
    share = distance(norm, start - images) / (0.1 * eps)
    # In four dimensions half of the ball's volume lies within 2 ** (-1/4) = 0.84 of the radius.
    assert share.max() <= 1 + 1e-5
    assert 0.38 < float((share < 2**-0.25).float().mean()) < 0.62
    assert (start - images).flatten(1).mean(0).abs().max() < 0.02 * eps


def test_dlr_by_hand():
    logits = torch.tensor([[4.0, 3.0, 1.0, 0.0], [4.0, 3.0, 1.0, 0.0]])
    labels, targets = torch.tensor([0, 1]), torch.tensor([2, 3])
    assert dlr(logits, labels).tolist() == pytest.approx([-1 / 3, 1 / 3])
    towards = dlr_towards(targets)(logits, labels)
    assert towards.tolist() == pytest.approx([-3 / 3.5, -3 / 3.5])
    with pytest.raises(ArgumentError, match="at least 3 classes"):
        dlr(logits[:, :2], labels)


def test_dlr_is_scale_invariant():
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    labels = logits.argmin(1)
    assert torch.allclose(dlr(logits, labels), dlr(logits * 1000, labels), rtol=1e-4)


def test_apgds_checkpoints_are_the_papers():
    schedule, periods = _StepSizes(100, 0.75), []
    flat = torch.zeros(1)
    image = torch.zeros(1, 1, 1, 1)
    state = Rows(value=flat, top=flat, here=image, best=image, gradient=image)
    state.best_gradient, state.step = image, torch.ones(1)
    for index in range(101):
        before = state.step.clone()
        schedule.check(index, state)
        if not torch.equal(state.step, before):
            periods.append(index)
    # w_j = ceil(p_j * 100), p_1 = 0.22, differences shrinking by 0.03 down to 0.06; a loss that
    # never rises halves the step at every one of them.
    assert periods == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("loss", ["dlr-targeted", "margin-targeted"])
def test_targeted_losses_run_through_the_classes(loss):
    model = ExactLinear((1, 3, 3), classes=5)
    images = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    batch = Batch(images, model(images).argmax(1))
    result = APGD(eps=1e-6, loss=loss, steps=3, classes=2)(model, batch)
    assert (result.queries == 1 + 2 * 4).all()


def test_bare_differences_go_to_the_border_between_two_classes():
    # A linear model: the slope of z_t - z_y is a constant, so one step of 2 eps along its sign ends
    # in the corner of the ball that is best for t, unless the box is in the way.
    draw = torch.Generator().manual_seed(3)
    weights, images = torch.randn(3, 9, generator=draw), torch.rand(60, 1, 3, 3, generator=draw)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    images = 0.4 + 0.2 * images
    with torch.no_grad():
        model[1].weight.copy_(weights)
        model[1].bias.copy_(-weights.sum(1) / 2)
    batch = Batch(images, model(images).argmax(1))
    for eps in (0.002, 0.01, 0.03):
        result = APGD(eps=eps, loss="margin-targeted", steps=30, classes=2)(model, batch)
        logits, own = model(images), batch.labels[:, None]
        slopes = weights[None] - weights[batch.labels][:, None]
        best = (logits - logits.gather(1, own) + eps * slopes.abs().sum(2)).scatter(1, own, -9.0)
        assert torch.equal(result.success, best.max(1).values > 0)
        assert 0 < int(result.success.sum()) < 60


def test_averaging_losses_differs_from_averaging_logits():
    model = ExactRandom((1, 3, 3), classes=4)
    images = torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(3))
    goals = torch.zeros(5, dtype=torch.int64)
    rows = torch.arange(5)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits.gather(1, labels[:, None])[:, 0] ** 2

    values = {}
    for eot_of in ("logits", "losses"):
        oracle = Oracle(
            model, images, goals, targeted=False, stream=Stream(0), eot=8, eot_of=eot_of
        )
        logits, values[eot_of] = oracle.losses(images, rows, loss)
        assert (oracle.queries == 8).all()
        again = Oracle(model, images, goals, targeted=False, stream=Stream(0), eot=8, eot_of=eot_of)
        _, gradients, grad_values = again.gradients(images, rows, [loss])
        assert torch.allclose(grad_values[0], values[eot_of], rtol=1e-5)
        if eot_of == "logits":
            assert torch.allclose(values[eot_of], loss(logits, goals))
            by_hand = 2 * logits[:, :1] * model.weight[0].detach()
            assert torch.allclose(gradients[0].flatten(1), by_hand, rtol=1e-4)
    # The mean of squares is the square of the mean plus the variance of the draws.
    assert (values["losses"] > values["logits"] + 0.1).all()


def test_seconds_stop_an_image():
    import time

    class Slow(ExactLinear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02)
            return super().forward(images)

    model, (_, batch, _, _) = Slow((1, 4, 4), classes=2), grey_case()
    result = PGD(eps=1e-6, steps=500, seconds=0.05)(model, batch)
    # Six images share the clock: about 0.3 s, 15 steps.
    assert 3 <= int(result.queries.max()) <= 40
    assert math.isclose(float(result.queries.float().std()), 0.0)
