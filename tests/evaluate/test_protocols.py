"""Protocols on models whose true robustness is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import AutoAttack, DeepFool, SparseRS, Square, knowing
from suture.errors import ArgumentError
from suture.evaluate import Kind, Plan, Record, Subject, Tier, evaluate
from suture.evaluate.sanity import with_warnings
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.testing.exact import ExactLinear, ExactRandom, classified_batch
from suture.types import Batch
from tests.evaluate.test_metrics import record

SHAPE = (1, 4, 4)
PLAN = Plan(
    attack=Square(eps=0.05, queries=60),
    eot=(1, 4),
    tier=Tier(steps=10),
    repeats=3,
    radii=(0.5, 1.0),
)


def run(*subjects: Subject, plan: Plan = PLAN, n: int = 25) -> list[Record]:
    batch = classified_batch(ExactLinear(SHAPE), SHAPE, n=n, seed=4)
    return evaluate(list(subjects), batch, plan, data="random", seed=1).records


def undefended() -> Subject:
    return Subject("undefended", ExactLinear(SHAPE), "linear")


class Halves(nn.Module):
    """The linear model cut into features (its logits) and an identity head."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = ExactLinear(SHAPE)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images)


def defended(*texts: str) -> Subject:
    head = nn.Linear(4, 4)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4))
        head.bias.zero_()
    programs = tuple(parse(text) for text in texts)
    model = DefendedClassifier(Halves(), head, programs, 4).eval()
    return Subject("defended", model, "linear + programs", "DefEnSyn()")


def of(records: list[Record], role: str, kind: Kind) -> list[Record]:
    return [r for r in records if r.role == role and r.kind is kind]


def test_a_deterministic_model_has_every_row_once():
    records = run(undefended())
    main = [r for r in records if r.kind is not Kind.CURVE]
    adaptive = [r.row for r in main if r.protocol == "adaptive"]
    assert len(adaptive) == len(set(adaptive)) == 4, "PGD, Square twice, the strongest of them"
    assert all(r.repeat == 0 for r in records)
    assert {r.n for r in records} == {25}
    (clean,) = of(records, "undefended", Kind.CLEAN)
    assert clean.right == 24, "the last image is mislabelled"


def test_the_strongest_row_is_the_worst_case_per_image():
    records = run(undefended())
    (worst,) = of(records, "undefended", Kind.STRONGEST)
    rows = [r for r in records if r.protocol == "adaptive" and r.kind is not Kind.CURVE]
    assert worst.right == min(r.right for r in rows)
    assert worst.right < 24


def test_queries_and_counts_are_recorded():
    records = run(undefended())
    (paper,) = [r for r in records if r.protocol == "paper" and r.kind is not Kind.CURVE]
    assert paper.queries.count(None) == paper.right
    assert paper.queries[-1] == 0
    assert sum(right for right, _ in paper.per_class) == paper.right
    assert sum(n for _, n in paper.per_class) == paper.n
    assert paper.threat["queries"] == 60 and paper.threat["knowledge"] == "black-box"
    assert paper.attack["name"] == "Square" and paper.attack["parameters"]["queries"] == 60


def test_a_randomised_defence_is_repeated_and_averaged():
    records = run(undefended(), defended("v0 = v0 + 1", "v1 = v1 + 1", "v2 = v2 - 1"))
    ours = [r for r in records if r.role == "defended"]
    assert {r.repeat for r in ours if r.kind is Kind.CLEAN} == {0, 1, 2}
    adaptive = [r for r in ours if r.kind is Kind.ATTACK and r.protocol == "adaptive"]
    assert {r.draws for r in adaptive} == {"exact"} and {r.repeat for r in adaptive} == {0}
    assert {r.through for r in adaptive} == {"", "undefended"}
    assert all(0 <= r.expected <= r.n for r in adaptive)
    assert {r.kind for r in ours} == set(Kind) - {Kind.CERTIFIED}
    (worst,) = of(ours, "defended", Kind.STRONGEST)
    assert worst.expected <= min(r.expected for r in adaptive) + 1e-6
    assert len(of(ours, "defended", Kind.EVERY)) == 1
    assert [r.program for r in of(ours, "defended", Kind.PROGRAM)] == [0]
    assert [r.through for r in of(ours, "defended", Kind.TRANSFER)] == ["undefended"]


def test_programs_that_change_nothing_gain_nothing():
    """K programs that do nothing are the undefended model: no protocol may show a gain."""
    records = run(undefended(), defended("v0 = v0", "v1 = v1"))
    for ours in records:
        if ours.role == "defended" and not ours.through and ours.kind is not Kind.EVERY:
            for theirs in of(records, "undefended", ours.kind):
                same = (theirs.attack, theirs.threat) == (ours.attack, ours.threat)
                if same and theirs.protocol == ours.protocol:
                    assert ours.count == pytest.approx(theirs.count), ours.row


def test_the_adaptive_attacker_sees_through_noise():
    """Large random tilts confuse a search that believes single queries, not one that averages.

    What is left is no more than the share of programs that get the paper's images right.
    """
    texts = [f"v{i} = v{i} + {sign}8" for i in range(4) for sign in "+-"]
    texts = [t.replace("+ +", "+ ").replace("+ -", "- ") for t in texts]
    records = run(undefended(), defended(*texts))
    clean = [r.right for r in of(records, "defended", Kind.CLEAN)]
    (worst,) = of(records, "defended", Kind.STRONGEST)
    assert worst.expected < min(clean)
    (every,) = of(records, "defended", Kind.EVERY)
    assert every.right <= worst.expected


def test_the_same_seed_gives_the_same_records():
    def outline() -> list[tuple]:
        records = run(undefended(), defended("v0 = v0 + 1", "v1 = v1 + 1"))
        return [(r.row, r.repeat, r.right, r.queries) for r in records]

    assert outline() == outline()


def test_batch_size_does_not_change_a_record():
    batch = classified_batch(ExactLinear(SHAPE), SHAPE, n=12, seed=4)
    subject = [undefended()]
    found = [
        [(r.row, r.right, r.queries) for r in
         evaluate(subject, batch, PLAN, data="x", batch_size=size).records]
        for size in (5, 100)
    ]  # fmt: skip
    assert found[0] == found[1]


def test_the_averaging_attacker_keeps_his_candidates():
    """A budget counts candidates for him, whatever each of them costs."""
    model = ExactRandom(SHAPE)
    batch = classified_batch(model, SHAPE, n=6, seed=4)
    model.forwards = 0
    result = knowing(Square(eps=0.05, queries=20), 4)(model, batch, generator=0)
    assert set(result.queries.tolist()) <= {0, 80}, "common draws never finish an image early"
    assert knowing(AutoAttack(version="rand"), 7).eot == 7


def test_the_page_may_not_be_fooled_by_a_stuck_attack():
    class Masked(nn.Module):
        """Rounds its input: no gradient reaches it, and small changes vanish."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = ExactLinear(SHAPE)

        def forward(self, images: Tensor) -> Tensor:
            return self.inner((images * 4).round() / 4)

    records = run(Subject("undefended", Masked(), "masked"), n=60, plan=Plan(
        attack=Square(eps=0.2, queries=200), tier=Tier(steps=10), radii=()
    ))  # fmt: skip
    flagged = [r.row for r in records if r.warnings]
    assert any("PGD" in row for row in flagged)
    assert any("unbounded" in row for row in flagged)


def test_warnings_by_hand():
    def attacked(right: int, attack: str, knowledge: str, **fields: object) -> Record:
        given = {"metric": "robust accuracy", "protocol": "adaptive", "right": right, "n": 100}
        named = {"kind": "attack", "attack": {"name": attack, "parameters": {}}}
        return record(threat={"knowledge": knowledge}, **named | given | fields)

    white = attacked(60, "PGD", "white-box")
    black = attacked(20, "Square", "black-box")
    noise = attacked(90, "RandomNoise", "black-box", kind="noise", protocol="sanity")
    judged = {r.attack["name"]: r.warnings for r in with_warnings([white, black, noise])}
    assert len(judged["PGD"]) == 1 and "gradient masking" in judged["PGD"][0]
    assert judged["Square"] == [] and judged["RandomNoise"] == []
    close = with_warnings([attacked(25, "PGD", "white-box"), black, noise])
    assert not any(r.warnings for r in close), "within the intervals is no warning"
    weak = with_warnings([white, attacked(20, "RandomNoise", "black-box", kind="noise")])
    assert "weaker than noise" in weak[0].warnings[0]
    unbounded = attacked(7, "PGD", "white-box", kind="unbounded", protocol="sanity")
    assert "unbounded radius" in with_warnings([unbounded])[0].warnings[0]


def test_bad_plans():
    for wrong in ({"protocols": ()}, {"protocols": ("x",)}, {"repeats": 0}, {"eot": (0,)},
                  {"radii": (-1.0,)}, {"positions": ("x",)}):  # fmt: skip
        with pytest.raises(ArgumentError):
            Plan(**wrong)


def test_a_batch_is_all_it_needs():
    batch = Batch(torch.rand(3, *SHAPE), torch.tensor([0, 1, 2]))
    records = evaluate([undefended()], batch, PLAN, data="three").records
    assert {r.n for r in records} == {3}


def test_an_l0_attack_can_be_evaluated():
    plan = Plan(attack=SparseRS(eps=3, queries=20), eot=(1,), tier=Tier(steps=4), repeats=1)
    records = run(undefended(), plan=plan, n=8)
    white = [r for r in records if r.attack.get("name") == "PGD"]
    assert {r.kind for r in white} == {Kind.UNBOUNDED}
    radii = [r.threat["eps"] for r in records if r.kind is Kind.CURVE]
    assert radii == [1.0, 2.0, 3.0, 4.0]
    unbounded = Plan(attack=DeepFool(norm="l2"), tier=Tier(steps=4), eot=(1,))
    records = run(undefended(), plan=unbounded, n=8)
    assert {r.threat["eps"] for r in records if r.attack.get("name") == "DeepFool"} == {"inf"}


def test_a_model_that_knows_nothing_is_flagged():
    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :4] * 0 + torch.tensor([1.0, 0.0, 0.0, 0.0])

    labels = torch.arange(40) % 4
    batch = Batch(torch.rand(40, *SHAPE), labels)
    records = evaluate([Subject("undefended", Blind(), "blind")], batch, PLAN, data="x").records
    clean = next(r for r in records if r.metric == "clean accuracy")
    assert any("not above chance (25 %)" in warning for warning in clean.warnings)
