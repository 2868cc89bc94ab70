"""Random programs, several attacks, counterexample rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import suture
from suture import models
from suture.attacks import Backdoor, Square, knowing
from suture.engine import Inline, Run
from suture.errors import ArgumentError
from suture.pipeline import recorded
from suture.repairs import Context, DefEnSyn, Status
from suture.repairs.defensyn.encoding import NOTHING
from suture.repairs.defensyn.execution import run_program
from suture.repairs.defensyn.gathering import Attacked, attacked, gather
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.repairs.defensyn.rounds import Rounds, SynthesisResult
from suture.repairs.defensyn.sampling import Sampler
from suture.rng import Stream, bits
from suture.testing.small import digits, trained
from suture.types import Batch


def noise(count: int, seed: int = 0) -> Tensor:
    return bits(torch.arange(count), seed)


def random_model(m: int = 5, max_length: int = 10) -> RandomPrograms:
    return RandomPrograms(nn.Flatten(), nn.Linear(m, 3), m, max_length).eval()


def test_each_row_runs_the_program_that_its_noise_stands_for():
    model, drawn = random_model(), noise(200)
    features = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    programs, repaired = model.programs_of(drawn), model.repaired(features, drawn)
    compared = 0
    for row in range(200):
        alone, finite = run_program(programs.program(row), features[row : row + 1])
        if finite and bool((alone.abs() < 1e30).all()):
            compared += 1
            assert torch.equal(alone[0], repaired[row])
    assert compared > 150


def test_random_programs_have_the_frequencies_of_algorithm_2():
    found = random_model(m=4).programs_of(noise(6000))
    lengths = (found.op != NOTHING).sum(1)
    assert set(lengths) == set(range(1, 11))
    assert np.bincount(lengths)[1:] == pytest.approx(600, abs=110)
    uniform = np.full(4, 0.25)
    theirs = Sampler(uniform, uniform, -30.0, 30.0, Stream(1)).draw(0, 6000, 10)
    used = found.op != NOTHING
    for ours, other in ((found.op, theirs.op), (found.left, theirs.left),
                        (found.right, theirs.right), (found.target, theirs.target)):  # fmt: skip
        shares = [np.bincount(a + 1, minlength=9) / len(a) for a in (ours[used], other.ravel())]
        assert np.abs(shares[0] - shares[1]).max() < 0.015
    constants = found.left_constant[used & (found.left == NOTHING)]
    assert constants.min() < -29 and constants.max() > 29 and abs(constants.mean()) < 1


def test_values_that_no_float_holds_change_nothing():
    model = random_model(m=2)
    features = torch.full((3000, 2), 3e29)
    assert bool(torch.isfinite(model(features.reshape(3000, 2), noise=noise(3000))).all())
    assert bool((model.repaired(features, noise(3000)).abs() <= 1e30).all())


def test_random_programs_can_be_repeated():
    model, images = random_model(), torch.rand(40, 1, 1, 5)
    assert torch.equal(model(images, noise=noise(40)), model(images, noise=noise(40)))
    assert not torch.equal(model(images, noise=noise(40)), model(images, noise=noise(40, 1)))
    model.seed(3)
    first, second = model(images), model(images)
    model.seed(3)
    assert torch.equal(first, model(images)) and not torch.equal(first, second)
    draws = torch.stack([noise(40, d) for d in range(3)])
    mean = torch.stack([model(images, noise=d) for d in draws]).mean(0)
    assert torch.allclose(model.average(images, draws), mean, rtol=1e-4, atol=1e-3)


def test_the_random_variant_searches_nothing_and_is_kept(tmp_path):
    method = DefEnSyn(distribution="random", max_length=3, constants=(-2.0, 2.0))
    result = suture.repair(trained(), digits().train.batch(30), method)
    assert result.status is Status.UNCHANGED and "programs" not in result.trace
    models.save(result.model, tmp_path / "bundle")
    opened, images = suture.load(tmp_path / "bundle"), digits().test.batch(20).images
    assert isinstance(opened, RandomPrograms)
    assert (opened.max_length, opened.constants) == (3, (-2.0, 2.0))
    same = opened(images, noise=noise(20)), result.model(images, noise=noise(20))
    assert torch.equal(*same)


def test_programs_are_scored_on_what_every_attack_makes():
    corners = Backdoor(), Backdoor(place="top left", patch=((1.0,) * 5,) * 5)
    method = DefEnSyn(attack=corners[0], also=corners[1:], samples=50, k=3, max_length=1,
                      programs_per_length=200)  # fmt: skip
    batch = digits().train.batch(50)
    result = suture.repair(trained(), batch, method)
    assert (result.trace["samples"], result.trace["adversarial"]) == (50, 100)
    right = [int((trained()(c.stamp(batch.images)).argmax(1) == batch.labels).sum())
             for c in corners]  # fmt: skip
    assert result.trace["unrepaired_adversarial_right"] == sum(right)
    assert right[0] != right[1], "or one attack would do for both"


def test_attacked_images_come_first_with_their_own_labels():
    parts = models.Cut(nn.Flatten(), nn.Linear(4, 3), "penultimate", 4)
    clean, adversarial = (
        Batch(torch.rand(n, 1, 2, 2), torch.full((n,), label)) for n, label in ((3, 0), (5, 2))
    )
    found = gather(parts, clean, adversarial, engine=Inline(), stage="features", work="w")
    assert found.adversarial == 5 and found.labels.tolist() == [2] * 5 + [0] * 3
    assert torch.equal(found.features[:5], adversarial.images.flatten(1))


class Fixed(nn.Module):
    """Says class 0 where the mean pixel is below a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([self.threshold - mean, mean - self.threshold], 1)


def test_rounds_add_what_is_turned_and_keep_the_best_on_held_out_images(monkeypatch):
    used = []

    def spy(attacks, *args, **kwargs):
        used.extend(attacks)
        return attacked(attacks, *args, **kwargs)

    monkeypatch.setattr("suture.repairs.defensyn.rounds.attacked", spy)
    levels = torch.linspace(0.0, 1.0, 21)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    images = Batch(levels, torch.zeros(21, dtype=torch.int64))
    # The threshold after each round; the attack is able to add 0.1 to every pixel.
    thresholds, seen = [0.57, 0.77, 0.67, 0.77], []

    def synthesise(attacked: Batch, number: int) -> SynthesisResult:
        seen.append((number, len(attacked)))
        return SynthesisResult(Fixed(thresholds[number]), {"number": number})  # type: ignore[arg-type]

    rounds = Rounds(synthesise, (Square(eps=0.1, queries=100),), images, images, 3, 2,
                    Context.of(0, Inline(), 64))  # fmt: skip
    best, lines = rounds.run(synthesise(images, 0), images)
    assert best.trace == {"number": 1}
    assert [line["held_out_right"] for line in lines] == [10, 14, 12, 14]
    # Two images in the reach of his attack and of his gradients.
    assert [line["added"] for line in lines] == [0, 4, 4, 4]
    assert seen == [(0, 21), (1, 25), (2, 29), (3, 33)]
    assert knowing(rounds.attacks[0], 2) in used and all(attack.adaptive for attack in used)
    assert {attack.knowledge for attack in used} == {"black-box", "white-box"}


def test_rounds_judge_by_the_share_of_programs_and_the_strongest_attack():
    share = torch.tensor([1.0, 0.25, 0.0, 0.75, 0.75, 0.5])
    right = torch.tensor([True, True, False, True, True, True])
    images = Batch(torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64))
    found = Attacked(images, ~right, right, share)
    assert found.held(3) == pytest.approx(0.75 + 0.25 + 0.0)
    assert found.turned is not None
    assert torch.equal(found.turned.images, images.images[1:2]), "most programs are wrong"


def test_rounds_end_when_nothing_is_turned():
    images = Batch(torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64))
    rounds = Rounds(lambda *_: pytest.fail("nothing to add"), (Square(eps=0.1, queries=9),),
                    images, images, 3, 2, Context.of(0, Inline(), 64))  # fmt: skip
    first = SynthesisResult(Fixed(0.9), {})  # type: ignore[arg-type]
    best, lines = rounds.run(first, images)
    assert best is first and [line["held_out_right"] for line in lines] == [4]


def test_rounds_on_a_real_network():
    method = DefEnSyn(attack=Square(eps=0.15, queries=30), samples=60, k=4, max_length=2,
                      programs_per_length=500, rounds=1, eot=3, held_out=40)  # fmt: skip
    data, told = digits().train.batch(120), []
    result = suture.repair(trained(), data, method, on_progress=lambda *a: told.append(a[0]))
    again = suture.repair(trained(), data, method)
    first, second = result.trace["rounds"]
    assert first["held_out"] == second["held_out"] == 40 and second["added"] > 0
    assert "programs of length 1 of round 1" in told
    kept = 60 if first["held_out_right"] >= second["held_out_right"] else 60 + second["added"]
    assert result.trace["adversarial"] == kept
    texts = [[row["text"] for row in r.trace["programs"]] for r in (result, again)]
    assert texts[0] == texts[1]


def test_rounds_need_images_of_their_own():
    with pytest.raises(ArgumentError, match="choose by others"):
        suture.repair(trained(), digits().train.batch(20), DefEnSyn(samples=20, rounds=1, k=1,
                      programs_per_length=5, attack=Backdoor()))  # fmt: skip
    with pytest.raises(ArgumentError, match="no rounds"):
        DefEnSyn(distribution="random", rounds=1)
    with pytest.raises(ArgumentError, match="distribution"):
        DefEnSyn(distribution="best")  # type: ignore[arg-type]


def test_the_trace_has_the_best_of_each_length():
    method = DefEnSyn(attack=Backdoor(), samples=40, k=3, max_length=2, programs_per_length=300,
                      improve=0.1)  # fmt: skip
    trace = suture.repair(trained(), digits().train.batch(40), method).trace
    last = trace["lengths"][-1]["top"]
    assert last == [{"text": p["text"], "score": p["score"]} for p in trace["programs"]]
    for entry in trace["lengths"]:
        assert entry["best"] == entry["top"][0]["score"]
        assert entry["top_k_sum"] == sum(top["score"] for top in entry["top"])


def test_a_run_keeps_every_length_of_every_round(tmp_path):
    method = DefEnSyn(
        attack=Square(eps=0.15, queries=20),
        samples=40,
        k=3,
        max_length=2,
        programs_per_length=300,
        improve=0.1,
        rounds=1,
        eot=2,
        held_out=20,
    )
    data, texts = digits().train.batch(80), []
    with Run.create(tmp_path / "run", kind="repair", title="t", command="c", seed=0) as run:
        for _ in range(2):
            told: list[str] = []
            with recorded(None, run) as engine:
                result = suture.repair(
                    trained(),
                    data,
                    method,
                    engine=engine,
                    on_progress=lambda *a, told=told: told.append(a[0]),
                )
            texts.append(([p["text"] for p in result.trace["programs"]], result.trace["rounds"]))
            searched = [stage for stage in told if stage.startswith("programs")]
            assert bool(searched) == (len(texts) == 1), "the second time all lengths are known"
    assert texts[0] == texts[1]
