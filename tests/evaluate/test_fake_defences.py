"""No fake defence passes: it falls as the model behind it does, or its figures are distrusted.

Honest models must pass: a check that flags everything tells nothing.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from suture import models
from suture.attacks import BPDA, PGD, Square
from suture.engine.threads import torch_threads
from suture.evaluate import Kind, Plan, Record, Subject, Tier, evaluate, protocols
from suture.evaluate.health import signs
from suture.repairs import AdversarialTuning, DefEnSyn, repair
from suture.repairs.dare import Grid
from suture.report import verdict
from suture.rng import bits, uniform
from suture.testing.small import digits, trained
from suture.training import TrainConfig, train
from suture.types import Batch, RepairedModel
from tests.evaluate.fakes import Fake, JunkGradient, Rounding, fakes

EPS, POINTS = 0.1, 5.0
PLAN = Plan(
    attack=Square(eps=EPS, queries=60),
    tier=Tier(steps=12, restarts=2, queries=40),
    eot=(4,),
    repeats=1,
    radii=(),
)
SIGNS = {
    "Rounding": "zero gradients",
    "Temperature": "cross entropy underflows",
    "Probabilities": "softmax outputs",
    "Detached": "no gradients",
    "JunkGradient": "misleading gradients",
    "Shattered": "misleading gradients",
    "UnseededNoise": "randomness",
    "OneHot": "one-hot outputs",
    "JPEG": "no gradients",
    "ResizePad": "randomness",
    "DropoutOn": "randomness",
    "Nearest": "no gradients",
}
every_fake = pytest.mark.parametrize("name", SIGNS)


@cache
def held_out() -> Batch:
    return digits().test.batch(40)


@cache
def made() -> dict[str, nn.Module]:
    return fakes(trained(), digits().train.batch(400).images)


def measured(*subjects: Subject) -> list[Record]:
    with torch_threads(1):
        return evaluate(list(subjects), held_out(), PLAN, data="digits", seed=2).records


def honest() -> Subject:
    return Subject("undefended", trained(), "digits_cnn")


def strongest(records: list[Record], role: str) -> float:
    """What the strongest adaptive row of a subject leaves, in percent."""
    return next(r.percent for r in records if r.role == role and r.kind is Kind.STRONGEST)


@cache
def honest_figure() -> float:
    return strongest(measured(honest()), "undefended")


def caught(records: list[Record]) -> bool:
    """Broken down to the honest model's own figure, or flagged before any figure is said."""
    told = verdict(records)
    flagged = told.suspect and told.sentence.startswith("Not to be trusted")
    left = strongest(records, records[-1].role)
    return flagged or left <= honest_figure() + POINTS


@every_fake
def test_a_fake_defence_gains_nothing(name: str):
    records = measured(honest(), Subject("defended", made()[name], name))
    assert caught(records), verdict(records).sentence


@every_fake
def test_without_the_honest_model_it_gains_nothing_either(name: str):
    """An audit has no undefended model whose gradients could be followed."""
    records = measured(Subject("undefended", made()[name], name))
    assert caught(records), verdict(records).sentence


@every_fake
def test_the_model_itself_shows_it(name: str):
    """No attack has to be lucky: the sign alone is found, and says what to do."""
    found = [sign for sign in signs(made()[name], held_out(), EPS) if SIGNS[name] in sign]
    assert len(found) == 1 and found[0].count(".") >= 2


def test_an_evaluator_without_its_checks_would_let_them_through(monkeypatch):
    """So the tests above can fail."""
    monkeypatch.setattr(protocols, "signs", lambda *_: [])
    monkeypatch.setattr(protocols, "with_warnings", lambda records: records)
    monkeypatch.setattr(protocols, "through_of", lambda *_: {})
    passed = [
        name
        for name in ("JunkGradient", "OneHot", "ResizePad", "DropoutOn", "Nearest")
        if not caught(measured(honest(), Subject("defended", made()[name], name)))
    ]
    assert passed == ["JunkGradient", "OneHot", "ResizePad", "DropoutOn", "Nearest"]


class Seldom(Fake):
    """Answers at random for one image in twenty, and says nothing of it."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.honest(images)
        seldom = torch.rand(len(images), 1) < 0.05
        return torch.where(seldom, logits.roll(1, 1), logits)


class SeldomAtOnce(Fake):
    """The same, but one draw decides for the whole batch."""

    def forward(self, images: Tensor) -> Tensor:
        logits = self.honest(images)
        return logits.roll(1, 1) if float(torch.rand(())) < 0.05 else logits


class Forgetful(Fake):
    """Says that it draws, and draws by its own generator whatever it is given."""

    randomised = True

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.honest(images + 0.1 * torch.randn_like(images))


class Declared(Fake):
    """Noise that each image's own bits decide."""

    randomised = True

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            noise = torch.randint(2**62, (len(images),))
        pixels = torch.arange(images[0].numel())
        drawn = uniform(bits(noise[:, None], pixels)).reshape(images.shape).to(images.dtype)
        return self.honest(images + 0.1 * (drawn - 0.5))


@pytest.mark.parametrize("kind", [Seldom, SeldomAtOnce])
def test_a_draw_that_seldom_shows_is_seen(kind: type[Fake]):
    few = held_out()[:5]
    hits = 0
    for seed in range(20):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            hits += any("randomness" in sign for sign in signs(kind(trained()), few))
    assert hits >= 17, "each is missed with probability 0.04 or less"


def test_randomness_beyond_what_is_declared_is_seen():
    subjects = honest(), Subject("defended", Forgetful(trained()), "forgetful")
    told = verdict(measured(*subjects))
    assert told.suspect
    assert any("hidden randomness" in s for s in signs(Forgetful(trained()), held_out()))
    (only,) = signs(Declared(trained()), held_out())
    assert only.startswith("randomness: every input draws anew")


class Excused(RepairedModel):
    """Junk gradients, and a stand-in that is said to do better."""

    def __init__(self, stand_in: nn.Module) -> None:
        super().__init__()
        self.fake, self.stand_in = JunkGradient(trained()), stand_in

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.fake(images)

    def undefended(self) -> nn.Module:
        return trained()

    def surrogates(self) -> dict[str, nn.Module]:
        return {"stand-in": self.stand_in}


def test_a_stand_in_is_an_excuse_only_where_it_leads_on():
    assert signs(Excused(trained()), held_out(), EPS) == []
    for stand_in in (JunkGradient(trained()), Rounding(trained())):
        (found,) = signs(Excused(stand_in), held_out(), EPS)
        assert found.startswith("misleading gradients")


@cache
def second() -> nn.Module:
    """Another architecture."""
    dataset = digits()
    model = models.build(
        "fnn_small", in_shape=(1, 8, 8), mean=dataset.mean, std=dataset.std, seed=1
    )
    with torch_threads(1):
        return train(model, dataset, config=TrainConfig(epochs=8), seed=1).model


HONEST = {
    "tuned": AdversarialTuning(attack=PGD(eps=EPS, steps=5), grid=Grid(rates=(1e-3,), epochs=3)),
    "programs": DefEnSyn(
        attack=Square(eps=EPS, queries=30), samples=60, k=3, max_length=1, programs_per_length=500
    ),
}


@pytest.mark.parametrize(
    "name", ["trained", "second", "tuned", pytest.param("programs", marks=pytest.mark.slow)]
)
def test_honest_models_are_not_flagged(name: str):
    if name in HONEST:
        model = repair(trained(), digits().train.batch(400), HONEST[name], generator=3).model
        records = measured(honest(), Subject("defended", model, name, repr(HONEST[name])))
    else:
        model = trained() if name == "trained" else second()
        records = measured(Subject("undefended", model, name))
    told = verdict(records)
    assert not told.suspect, [r.warnings for r in records if r.warnings]


def test_the_remedy_helps():
    """A rounding model is blind, and with the stand-in that the sign asks for it is not."""
    (blind,) = signs(Rounding(trained()), held_out(), EPS)
    assert "zero gradients" in blind and "BPDA" in blind
    seen = BPDA(trained(), forward=lambda images: (images * 16).round() / 16)
    assert signs(seen, held_out(), EPS) == []
