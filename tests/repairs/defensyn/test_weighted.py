"""Weighted scores, programs that grow, constants that are refined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from suture.repairs.defensyn.encoding import encode
from suture.repairs.defensyn.execution import run_program
from suture.repairs.defensyn.growing import GrowingSampler
from suture.repairs.defensyn.language import Program, parse
from suture.repairs.defensyn.refining import Refining
from suture.repairs.defensyn.sampling import Sampler
from suture.repairs.defensyn.scoring import score_plain
from suture.repairs.defensyn.synthesis import SynthesisSearch
from suture.repairs.defensyn.weighted import (
    WeightedHead,
    WeightedLinear,
    WeightedSamples,
    weighted_problem_of,
)
from suture.rng import Stream

UNIFORM = np.full(6, 1 / 6)
SAMPLER = Sampler(UNIFORM, UNIFORM, -3.0, 3.0, Stream(4))


def samples(cap: float = 0.0, n: int = 50, weights: torch.Tensor | None = None) -> WeightedSamples:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(n, 6, generator=generator)
    labels = torch.randint(0, 4, (n,), generator=generator)
    given = torch.rand(n, generator=generator) if weights is None else weights
    return WeightedSamples(features, labels, 30, given, cap)


def linear() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(6, 4).requires_grad_(False)


@pytest.mark.parametrize("cap", [0.0, 0.7])
def test_scores_are_those_of_a_plain_loop(cap: float):
    head, given, programs = linear(), samples(cap), SAMPLER.draw(0, 300, 3)
    found = WeightedLinear.of(head, given).score(programs)
    any_head = WeightedHead(head, given, rows=200).score(programs)
    for row in range(300):
        values, finite = run_program(programs.program(row), given.features)
        assert bool(found.valid[row]) == bool(any_head.valid[row]) == finite
        if not finite:
            continue
        logits = head(values)
        own = logits.gather(1, given.labels[:, None])[:, 0]
        gap = own - logits.scatter(1, given.labels[:, None], float("-inf")).amax(1)
        worth = (gap > 0).float() if cap == 0 else ((gap / cap).clamp(-1, 1) + 1) / 2
        parts = (slice(None, 30), found.adversarial, any_head.adversarial), (
            slice(30, None), found.clean, any_head.clean)  # fmt: skip
        for rows, ours, other in parts:
            expected = float((worth * given.weights)[rows].sum())
            # Thousandths of a weight, hundredths of a worth.
            assert ours[row] / 100_000 == pytest.approx(expected, abs=0.02 * 30 + 0.01)
            assert other[row] == pytest.approx(ours[row], abs=2_000)


def test_equal_weights_count_as_ever():
    head, programs = linear(), SAMPLER.draw(0, 200, 2)
    given = samples(weights=torch.ones(50))
    found = WeightedLinear.of(head, given).score(programs)
    plain = score_plain(head, given, programs)
    ok = plain.valid
    assert np.array_equal(found.adversarial[ok], plain.adversarial[ok] * 100_000)
    assert np.array_equal(found.clean[ok], plain.clean[ok] * 100_000)


def test_the_weights_decide_which_program_is_best():
    """Feature 0 answers sample 0, feature 1 sample 1: the one that is played counts."""
    head = nn.Linear(2, 2).requires_grad_(False)
    head.weight.copy_(torch.eye(2))
    head.bias.zero_()
    programs = encode((parse("v0 = 9"), parse("v1 = 9")))
    for played, best in ((torch.tensor([0.9, 0.1]), 0), (torch.tensor([0.1, 0.9]), 1)):
        given = WeightedSamples(torch.zeros(2, 2), torch.tensor([0, 1]), 2, played)
        problem = weighted_problem_of(head, head, given)
        assert int(problem.score(programs).adversarial.argmax()) == best


def test_programs_grow_from_their_base():
    bases = (parse("v0 = 2"), parse("v1 = v0 + 1; v2 = v1 * v1"))
    grown, fresh = GrowingSampler(SAMPLER, bases).draw(4, 90, 2), SAMPLER.draw(4, 90, 2)
    for row in range(90):
        base = [*bases, None][(4 + row) % 3]
        before = () if base is None else base.instructions
        assert grown.program(row) == Program(before + fresh.program(row).instructions)


def test_a_search_that_grows_counts_only_what_is_there():
    """Padding is no instruction: its feature 0 is not among the repaired ones."""
    head, given = linear(), samples(weights=torch.ones(50))
    base = parse("v3 = v3 + 1; v4 = v5; v3 = max(v3, 0)")
    search = SynthesisSearch(
        WeightedLinear.of(head, given).score, 6, 5, 1.0, 1.0, 1e6, (-3.0, 3.0), True, Stream(1),
        chunk=250, bases=(base,),
    )  # fmt: skip
    best = search.lengths(1, 500, None, None)
    assert len({candidate.program.writes for candidate in best}) == 5
    lengths = {len(candidate.program) for candidate in best}
    assert lengths <= {1, 4}
    right = [score_plain(head, given, encode((c.program,))) for c in best]
    assert [c.adversarial for c in best] == [int(r.adversarial[0]) * 100_000 for r in right]
    used = search.sums.left[:, 2]
    assert 0 < used[0] < 200, "half of the programs go on from the base, few of them write v0"
    assert used[3] >= 250 and used[4] >= 250


def test_refining_finds_the_constant():
    """Class 0 wins where v0 > 0.3: only constants above that difference help."""
    head = nn.Linear(2, 2).requires_grad_(False)
    head.weight.copy_(torch.eye(2))
    head.bias.zero_()
    features = torch.stack([torch.zeros(40), torch.linspace(0.1, 4.0, 40)], 1)
    given = WeightedSamples(features, torch.zeros(40, dtype=torch.int64), 40, torch.ones(40))
    problem = weighted_problem_of(head, head, given)
    start = [parse("v0 = v0 + 0.5"), parse("v1 = v0")]
    found = Refining(problem.score, 1.0, turns=12)(start, Stream(0))
    before, after = (problem.score(encode(p)).adversarial for p in (start, found))
    assert before[0] == 5 * 100_000 and after[0] > 30 * 100_000
    assert found[1] == start[1], "a program without constants stays as it is"
    assert Refining(problem.score, 1.0, turns=0)(start, Stream(0)) is start
    assert Refining(problem.score, 1.0, turns=12)(start, Stream(0)) == found
