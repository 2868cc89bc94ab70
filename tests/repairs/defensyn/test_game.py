"""The game of programs against the attacker who knows them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

import suture
from suture.attacks import PGD, Square
from suture.engine import Inline, Run
from suture.errors import ArgumentError
from suture.evaluate.rows import share_right
from suture.models import Cut
from suture.pipeline import recorded
from suture.repairs import DefEnSynGame, Status
from suture.repairs.defensyn import DefendedClassifier, game_method, parse
from suture.repairs.defensyn.game import IDENTITY, Board, DoubleOracle, _best
from suture.repairs.defensyn.mixture import Payoff, best_mixture
from suture.repairs.defensyn.to_the_end import PGDToTheEnd, game_attacks
from suture.testing.small import digits, trained
from suture.types import Batch


def payoff(right, image, clean) -> Payoff:
    return Payoff(np.array(right, bool), np.array(image), np.array(clean, bool))


def test_two_programs_that_each_answer_one_variant_are_drawn_equally():
    """Matching pennies: the identity loses both variants, the others win one each."""
    game = payoff([[0, 0], [1, 0], [0, 1]], [0, 0], [[1], [1], [1]])
    found = best_mixture(game, 1.0, 10)
    assert found.value == pytest.approx(0.5)
    assert found.weights == pytest.approx([0, 0.5, 0.5])
    assert found.attacker == pytest.approx([0.5, 0.5])
    assert game.kept(found.weights) == pytest.approx([0.5])


def test_clean_accuracy_limits_the_mixture():
    """Program 1 wins the attacked image but no clean one: half of it costs one of them."""
    game = payoff([[0, 1], [1, 1]], [0, 1], [[1, 1], [0, 0]])
    found = best_mixture(game, 0.5, 10)
    assert found.weights == pytest.approx([0.5, 0.5])
    assert (found.value, game.cleanly(found.weights)) == pytest.approx((0.75, 0.5))


def test_one_program_alone_is_the_best_of_all():
    """Of ten images program 2 keeps six under both variants, 1 none: it is right on one of each."""
    right = np.zeros((3, 20), bool)
    right[1, :10], right[2, 4:10], right[2, 14:20] = True, True, True
    image = np.tile(np.arange(10), 2)
    game = Payoff(right, image, np.ones((3, 10), bool))
    assert best_mixture(game, 0.0, 1).weights.tolist() == [0, 0, 1]


@pytest.mark.parametrize("seed", range(4))
def test_the_value_is_that_of_the_whole_matrix(seed: int):
    """Against SciPy on all rows, nothing left out; and no attacker's answer beats it."""
    rng = np.random.default_rng(seed)
    right = rng.random((6, 30)) < 0.5
    image = np.concatenate([np.arange(10), rng.integers(0, 10, 20)])
    game = Payoff(right, image, right[:, :10])
    found = best_mixture(game, 0.0, 99)
    rows = np.zeros((30, 16))
    rows[:, :6], rows[np.arange(30), 6 + image] = -1.0 * right.T, 1.0
    whole = linprog(
        np.r_[np.zeros(6), np.full(10, -0.1)], rows, np.zeros(30),
        np.r_[np.ones(6), np.zeros(10)][None], [1.0],
        bounds=[(0, None)] * 6 + [(None, None)] * 10,
    )  # fmt: skip
    assert found.value == pytest.approx(-whole.fun, abs=1e-6)
    assert game.kept(found.weights).mean() == pytest.approx(found.value, abs=1e-6)
    assert np.bincount(image, found.attacker) == pytest.approx(np.ones(10))
    best = (right * found.attacker).sum(1).max() / 10
    assert best == pytest.approx(found.value, abs=1e-6), "his mixture holds every program down"


def test_few_programs_are_mixed_within_the_limit():
    rng = np.random.default_rng(5)
    right = rng.random((12, 60)) < 0.4
    right[:, :20] = rng.random((12, 20)) < 0.9
    right[0, :20] = True
    game = Payoff(right, np.tile(np.arange(20), 3), right[:, :20])
    few, all_ = best_mixture(game, 0.9, 3), best_mixture(game, 0.9, 99)
    assert np.count_nonzero(few.weights) <= 3 < np.count_nonzero(all_.weights)
    assert game.cleanly(few.weights) >= 0.9 - 1e-6
    assert game.kept(few.weights).mean() <= all_.value + 1e-9 and few.value == all_.value


class Table:
    """Oracles that know everything: four images an image may become, all programs of a list."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.clean = Batch(torch.rand(8, 1, 1, 3, generator=generator), torch.arange(8) % 3)
        self.reach = torch.rand(4, 8, 1, 1, 3, generator=generator)
        head = nn.Linear(3, 3)
        with torch.no_grad():
            head.weight.copy_(torch.eye(3))
            head.bias.zero_()
        self.parts = Cut(nn.Flatten(), head, "penultimate", 3)
        features = range(3)
        texts = [f"v{i} = v{i} + 0.4" for i in features]
        texts += [f"v{i} = v{j} - 0.2" for i, j in itertools.permutations(features, 2)]
        self.programs = [parse(text) for text in texts]

    def attacker(self, model: DefendedClassifier, number: int) -> Batch:
        every = [self.clean.images, *self.reach]
        shares = torch.stack([share_right(model, one, self.clean.labels) for one in every])
        worst = shares.argmin(0)
        return Batch(torch.stack(every)[worst, torch.arange(8)], self.clean.labels)

    def defender(self, samples, held, number):
        def score(program):
            model = DefendedClassifier(self.parts.encoder, self.parts.head, (program,), 3)
            right = model(samples.features[:, None, None]).argmax(1) == samples.labels
            return float((right * samples.weights)[: samples.adversarial].sum())

        return sorted(self.programs, key=score, reverse=True)[:1]

    def value(self) -> float:
        """Of the whole matrix."""
        board = Board(self.parts, self.clean)
        board.add_programs([IDENTITY, *self.programs])
        for images in self.reach:
            board.add_variants(images)
        return best_mixture(board.payoff(), 0.0, 99).value


def test_the_game_comes_to_the_value_of_the_whole_matrix():
    table = Table()
    board = Board(table.parts, table.clean)
    oracle = DoubleOracle(table.attacker, table.defender, 60, 99, 1.0, 1e-6, 0.0)
    played = oracle.play(board)
    assert played.converged and len(board.programs) < 10
    assert played.kept == pytest.approx(table.value(), abs=1e-6)
    last = played.lines[-1]
    assert last["value"] == pytest.approx(last["attacked"], abs=1e-6)
    assert all(line["attacked"] <= line["value"] + 1e-6 for line in played.lines)
    assert played.lines[0]["attacked"] < played.kept, "or there is nothing to win"


def test_what_is_given_back_is_judged_on_all_images_ever_found():
    table = Table()
    board = Board(table.parts, table.clean)
    oracle = DoubleOracle(table.attacker, table.defender, 3, 99, 1.0, 0.0, 0.0)
    played = oracle.play(board)
    model, rows = board.classifier(played.weights)
    shares = torch.stack([share_right(model, i, table.clean.labels)
                          for i in (table.clean.images, *table.reach)])  # fmt: skip
    assert played.kept >= float(shares.amin(0).mean()) - 1e-6
    assert [board.programs[row] for row in rows] == list(model.programs)


def test_an_earlier_mixture_wins_where_it_keeps_more_by_hand():
    """The second was better until its own attack came; of equals the first stays."""
    late = payoff([[1, 0, 1, 1], [1, 1, 0, 0]], [0, 1, 0, 1], [[1, 1], [1, 1]])
    first, second = np.array([1.0]), np.array([0.0, 1.0])
    weights, kept = _best(late, [first, second, np.array([1.0, 0.0])])
    assert (weights.tolist(), kept) == ([1.0, 0.0], 0.5)


def test_time_ends_it_between_rounds():
    table = Table()
    oracle = DoubleOracle(table.attacker, table.defender, 60, 99, 1.0, 1e-6, 0.0, until=0.0)
    played = oracle.play(Board(table.parts, table.clean))
    assert played.stopped and len(played.lines) == 1 and played.weights.tolist() == [1.0]


def test_programs_that_give_no_numbers_are_wrong():
    table = Table()
    board = Board(table.parts, table.clean)
    board.add_programs([IDENTITY, parse("v0 = 1e38 * 10; v0 = v0 - v0")])
    assert not board.right[1].any() and len(board.programs) == 2
    board.add_programs([IDENTITY])
    assert len(board.programs) == 2, "known programs do not join again"


def margins(model, images, labels):
    with torch.no_grad():
        logits = model(images)
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], float("-inf")).amax(1)


def test_the_attack_goes_on_where_an_image_is_wrong_already():
    batch = digits().test.batch(40)
    usual = PGD(eps=0.15, steps=20, restarts=1, loss="margin")(trained(), batch, generator=0)
    full = PGDToTheEnd(eps=0.15, steps=20, restarts=1, loss="margin")(trained(), batch, generator=0)
    assert float((full.images - batch.images).abs().max()) <= 0.15 + 1e-6
    assert bool((full.share <= usual.share).all())
    turned = usual.success & usual.clean_right
    assert int(turned.sum()) > 10
    gaps = [margins(trained(), one.images, batch.labels)[turned] for one in (usual, full)]
    assert float(gaps[1].mean()) < 2 * float(gaps[0].mean()) < 0


def test_every_attack_knows_the_mixture():
    own = game_attacks(Square(norm="l2", eps=1.0, queries=9))
    assert [type(a) for a in own] == [Square, PGDToTheEnd] and all(a.adaptive for a in own)
    assert own[1].norm == "l2" and own[1].eps == 1.0
    (full,) = game_attacks(PGD(eps=0.2, steps=7, restarts=2))
    assert (full.steps, full.restarts, full.eps, full.loss) == (7, 2, 0.2, "spread")


METHOD = DefEnSynGame(
    attack=PGD(eps=0.15, steps=5, restarts=3),
    samples=80,
    rounds=3,
    k=20,
    added=9,
    max_length=2,
    programs_per_length=1_500,
    tolerance=0.0,
    limit=9.0,
    longest=0,
    refine=0,
)


def test_on_a_real_network():
    told: list[str] = []
    result = suture.repair(
        trained(), digits().train.batch(150), METHOD, on_progress=lambda *a: told.append(a[0])
    )
    lines, model = result.trace["game"], result.model
    assert [line["round"] for line in lines] == [0, 1, 2, 3]
    assert {"programs of length 1 of round 3", "attacking training images, round 3"} <= set(told)
    assert lines[0]["support"] == lines[0]["longest"] == 1
    assert result.trace["kept"] > lines[0]["attacked"] and result.status is Status.PARTLY
    assert all(line["attacked"] <= line["value"] + 1e-6 for line in lines)
    assert all(line["clean"] >= lines[0]["clean"] - 0.09 - 1e-6 for line in lines)
    programs = result.trace["programs"]
    assert model.odds() == tuple(row["weight"] for row in programs)
    assert [row["weight"] for row in programs] == sorted(model.odds(), reverse=True)
    assert result.trace["rescored_disagreements"] <= 2
    assert result.artifacts["programs"]["programs"] == programs


def test_one_program_gives_a_deterministic_classifier():
    result = suture.repair(trained(), digits().train.batch(150), replace(METHOD, k=1))
    assert not result.model.randomised and result.model.weights is None
    assert len(result.trace["programs"]) == 1


def test_a_killed_game_goes_on_where_it_was(tmp_path, monkeypatch):
    data = digits().train.batch(150)
    whole = suture.repair(trained(), data, METHOD)
    real, rounds = game_method.attacked, []

    def dies(attacks, model, batch, context, what):
        rounds.append(what)
        if what.endswith("round 2"):
            raise KeyboardInterrupt
        return real(attacks, model, batch, context, what)

    begun = Run.create(tmp_path / "run", kind="repair", title="t", command="c", seed=0)
    with begun as run, recorded(Inline(threads_per_item=None), run) as engine:
        monkeypatch.setattr(game_method, "attacked", dies)
        with pytest.raises(KeyboardInterrupt):
            suture.repair(trained(), data, METHOD, engine=engine)
        monkeypatch.setattr(game_method, "attacked", real)
        told: list[str] = []
        again = suture.repair(
            trained(), data, METHOD, engine=engine, on_progress=lambda *a: told.append(a[0])
        )
    searched = {stage for stage in told if stage.startswith("programs")}
    assert rounds[-1].endswith("round 2") and searched
    assert all(stage.endswith("round 3") for stage in searched), "earlier lengths are known"
    assert again.model.odds() == whole.model.odds()
    assert again.model.programs == whole.model.programs


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"k": 0}, {"limit": -1.0}, {"minutes": 0.0},
                                   {"added": 60_000}, {"constants": (2.0, 1.0)}])  # fmt: skip
def test_bad_settings(wrong: dict):
    with pytest.raises(ArgumentError):
        DefEnSynGame(**wrong)
