"""The smoothed classifier, its training, the denoiser, and the doubled first layer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from suture import models
from suture.certify.smoothing import Ablation, Gaussian, certify_votes
from suture.certify.smoothing.ablating import encoded
from suture.errors import ArgumentError, ModelError
from suture.repairs import DenoisedSmoothing, RandomisedAblation, Smoothing, Status
from suture.repairs.smoothing.denoiser import build_denoiser
from suture.repairs.smoothing.noise_training import NoiseTraining
from suture.repairs.smoothing.paired import paired
from suture.repairs.smoothing.smoothed import SmoothedClassifier
from suture.rng import bits
from suture.testing.small import digits, trained

FEW = {"epochs": 2, "votes": 16, "held_out": 0.15, "step_images": 64}


def images(count: int = 12) -> torch.Tensor:
    return digits().test.batch(count).images


def model(noise=Gaussian(0.25), votes: int = 9) -> SmoothedClassifier:  # noqa: B008 - frozen
    base = trained() if noise.name == "gaussian" else paired(trained(), (1, 8, 8))
    return SmoothedClassifier(base, noise, votes, 10, 100, 0.05).eval()


def copies_of(smooth: SmoothedClassifier, keys: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Logits ``(n, votes, classes)``, one image after another."""
    chosen = bits(keys[:, None], torch.arange(smooth.votes))
    each = zip(given, chosen, strict=True)
    return torch.stack([smooth.base(smooth.noise.copies(x[None], own)) for x, own in each])


@pytest.mark.parametrize("noise", [Gaussian(0.25), Ablation(30)], ids=repr)
def test_the_answer_is_the_class_with_most_votes(noise):
    smooth, keys = model(noise), torch.arange(40) * 77
    given = images(40)
    alone = copies_of(smooth, keys, given).detach()
    counts = torch.stack([row.bincount(minlength=10) for row in alone.argmax(2)])
    logits = smooth(given, noise=keys).detach()
    assert torch.equal(counts.gather(1, logits.argmax(1, keepdim=True))[:, 0], counts.amax(1))
    soft = alone.softmax(2).mean(1)
    expected = ((counts + (soft + 0.1) / 4) / 9.5).log()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(40))


def test_gradients_are_those_of_the_mean_softmax():
    smooth, keys = model(), torch.arange(4)
    given = images(4).requires_grad_(True)
    label = smooth(given, noise=keys).argmax(1)
    own = smooth(given, noise=keys).gather(1, label[:, None])
    (found,) = torch.autograd.grad(own.exp().sum() * 9.5, given)
    soft = torch.stack(
        [
            smooth.base(x[None] + 0.25 * _normal(smooth, key)).softmax(1).sum(0)
            for x, key in zip(given, bits(keys[:, None], torch.arange(9)), strict=True)
        ]
    )
    (expected,) = torch.autograd.grad(soft.gather(1, label[:, None]).sum(), given)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def _normal(smooth: SmoothedClassifier, keys: torch.Tensor) -> torch.Tensor:
    return Gaussian(1.0).copies(torch.zeros(1, 1, 8, 8), keys)


def test_gradients_of_many_copies_are_the_same_with_less_memory(monkeypatch):
    """Blocks that are computed twice."""
    from suture.repairs.smoothing import smoothed

    found = []
    for held in (100, 0):
        monkeypatch.setattr(smoothed, "HELD", held)
        given = images(20).requires_grad_(True)
        loss = model(votes=16)(given, noise=torch.arange(20)).square().sum()
        found.append(torch.autograd.grad(loss, given)[0])
    torch.testing.assert_close(found[0], found[1])


def test_without_noise_it_draws_by_itself_and_a_seed_repeats_it():
    smooth, given = model(), images()
    assert smooth.randomised and not torch.equal(smooth(given), smooth(given))
    smooth.seed(3)
    once = smooth(given)
    smooth.seed(3)
    assert torch.equal(once, smooth(given))


def test_it_says_which_attacks_its_certificates_are_about():
    assert "L2" in model().about_attacks() and "another norm" in model().about_attacks()
    assert "L0" in model(Ablation(30)).about_attacks()


def test_no_epochs_smooth_the_network_as_it_is():
    result = Smoothing(epochs=0, sigma=0.1)(trained(), digits().train.batch(100), generator=0)
    assert result.status is Status.SMOOTHED
    assert models.fingerprint(result.model.base) == models.fingerprint(trained())
    made = certify_votes(result.model, digits().test.batch(5), n=500, generator=0)
    assert sum(one.right for one in made) >= 4


def test_training_with_noise_makes_noisy_copies_right():
    method = Smoothing(sigma=0.5, epochs=12, held_out=0.15, step_images=64)
    result = method(trained(), digits().train.batch(600), generator=0)
    before, chosen = result.trace["before"]["robust"], result.trace["chosen"]["robust"]
    assert chosen > before + 0.02
    judged = [e["robust"] for e in result.trace["curve"] if e["robust"] is not None]
    assert chosen == max(judged)


def test_noise_of_the_training_is_the_noise_of_the_votes():
    """Same width, same number of pixels."""
    generator = torch.Generator().manual_seed(0)
    gauss = NoiseTraining(kind=Gaussian(0.3)).noise((50, 1, 28, 28), generator)
    assert float(gauss.std()) == pytest.approx(0.3, rel=0.02)
    ablation = NoiseTraining(kind=Ablation(45))
    kept = ablation.noise((50, 3, 28, 28), generator)
    assert torch.equal(kept.flatten(1).sum(1), torch.full((50,), 45.0))
    shown = ablation.attacked(nn.Identity(), torch.rand(50, 3, 28, 28), torch.zeros(50), kept)
    assert shown.shape == (50, 6, 28, 28) and torch.equal(shown[:, 0] + shown[:, 3], kept[:, 0])


@pytest.mark.parametrize("objective", ["mse", "stability", "mse+stability"])
def test_a_denoiser_helps_a_network_that_stays_as_it_is(objective):
    method = DenoisedSmoothing(
        sigma=0.5, epochs=8, held_out=0.15, step_images=64, depth=3, width=16, objective=objective
    )
    result = method(trained(), digits().train.batch(600), generator=0)
    base = result.model.base
    assert models.fingerprint(base.classifier) == models.fingerprint(trained())
    assert all(p.requires_grad for p in base.parameters())
    stages = result.trace["stages"]
    assert list(stages) == objective.split("+")
    before = next(iter(stages.values()))["before"]["robust"]
    assert result.trace["chosen"]["robust"] > before + 0.02


def test_an_untrained_denoiser_changes_nothing():
    given = images()
    assert torch.equal(build_denoiser(1, 4, 8)(given), given)


def test_the_user_s_denoiser_is_used_as_it_is(tmp_path):
    own = build_denoiser(1, 3, 4, seed=5)
    with torch.no_grad():
        own.noise[-1].bias.fill_(0.01)
    models.save(own, tmp_path / "denoiser")
    method = DenoisedSmoothing(denoiser=str(tmp_path / "denoiser"), epochs=0, votes=4)
    result = method(trained(), digits().train.batch(60), generator=0)
    assert models.fingerprint(result.model.base.denoiser) == models.fingerprint(own)
    models.save(result.model, tmp_path / "model")
    again = models.load(tmp_path / "model")
    keys = torch.arange(12)
    assert torch.equal(again(images(), noise=keys), result.model(images(), noise=keys))
    models.save(trained(), tmp_path / "classifier")
    wrong = DenoisedSmoothing(denoiser=str(tmp_path / "classifier"), epochs=0)
    with pytest.raises(ArgumentError, match="denoiser from images"):
        wrong(trained(), digits().train.batch(60), generator=0)


@pytest.mark.parametrize("name", ["digits_cnn", "fnn_small", "cnn"])
@pytest.mark.parametrize("channels", [1, 3])
def test_doubled_channels_answer_as_before_on_whole_images(name, channels):
    shape = (channels, 12, 12)
    mean, std = [0.3] * channels, [0.4] * channels
    given = models.build(name, in_shape=shape, classes=5, mean=mean, std=std)
    before, doubled = models.fingerprint(given), paired(given, shape)
    x = torch.rand(6, *shape)
    torch.testing.assert_close(doubled(encoded(x)), given(x), rtol=1e-4, atol=1e-5)
    assert models.fingerprint(given) == before
    doubled.second.weight.data.fill_(0.1)
    nothing, black = torch.zeros(1, 2 * channels, 12, 12), encoded(torch.zeros(1, *shape))
    assert not torch.allclose(doubled(nothing), doubled(black))
    torch.testing.assert_close(doubled.undefended()(x), doubled(encoded(x)))


def test_a_network_without_a_first_layer_to_double_is_refused():
    odd = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))
    with pytest.raises(ModelError, match="first layer is a convolution"):
        paired(odd, (1, 8, 8))


def test_training_on_ablated_images_makes_ablated_copies_right():
    method = RandomisedAblation(keep=24, epochs=15, held_out=0.15, step_images=64, votes=16)
    result = method(trained(), digits().train.batch(800), generator=0)
    assert result.trace["chosen"]["robust"] > result.trace["before"]["robust"] + 0.1
    made = certify_votes(result.model, digits().test.batch(10), n0=50, n=500, generator=0)
    assert any(one.right and one.radius >= 1 for one in made)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (lambda: Smoothing(sigma=0.0), "sigma"),
        (lambda: Smoothing(n=0), "n0, n"),
        (lambda: Smoothing(alpha=1.0), "alpha"),
        (lambda: DenoisedSmoothing(epochs=0), "or a denoiser"),
        (lambda: DenoisedSmoothing(objective="both"), "objective"),
        (lambda: RandomisedAblation(keep=0), "keep"),
        (lambda: RandomisedAblation(epochs=0), "epochs"),
    ],
)
def test_settings_out_of_range_are_refused(method, said):
    with pytest.raises(ArgumentError, match=said):
        method()


def test_too_many_pixels_are_refused():
    with pytest.raises(ArgumentError, match="at most 64"):
        RandomisedAblation(keep=65)(trained(), digits().train.batch(60), generator=0)


def test_the_given_network_is_left_alone():
    given = copy.deepcopy(trained())
    for method in (Smoothing(**FEW), DenoisedSmoothing(**FEW, depth=2, width=2)):
        method(given, digits().train.batch(100), generator=0)
    assert all(p.requires_grad for p in given.parameters())
    assert models.fingerprint(given) == models.fingerprint(trained())
