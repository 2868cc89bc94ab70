"""Sampling follows Algorithm 2; the search keeps what Algorithm 1 keeps, for any chunk size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from suture.engine import Processes
from suture.repairs.defensyn.encoding import NOTHING, Encoded
from suture.repairs.defensyn.language import Opcode
from suture.repairs.defensyn.sampling import LANES, Sampler
from suture.repairs.defensyn.scoring import LinearProblem, Samples
from suture.repairs.defensyn.synthesis import SynthesisSearch, entropy, mean_scores, softmax
from suture.rng import Stream
from tests.test_rng import splitmix

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def sampler(m: int = 6, **fields: object) -> Sampler:
    uniform = np.full(m, 1 / m)
    given = {"left": uniform, "right": uniform, "low": -30.0, "high": 30.0, "stream": Stream(5)}
    return Sampler(**(given | fields))  # type: ignore[arg-type]


def test_algorithm_2_by_a_loop():
    """Every choice of one program, from the counters, in Python integers."""
    left = np.array([0.1, 0.2, 0.3, 0.4])
    right = np.array([0.4, 0.3, 0.2, 0.1])
    drawn = sampler(left=left, right=right, low=-2.0, high=5.0).draw(17, 40, 3)
    for row in range(40):
        own = splitmix((5 + (17 + row + 1) * GOLDEN) & MASK)
        for step in range(3):
            u = [
                (splitmix((own + (step * LANES + lane + 1) * GOLDEN) & MASK) >> 11) * 2.0**-53
                for lane in range(LANES)
            ]
            target = int(np.searchsorted(np.cumsum(left), u[0], side="right"))
            first, second = (
                int(np.searchsorted(np.cumsum(right), v, side="right")) for v in u[1:3]
            )
            constant = np.float32(-2.0 + 7.0 * u[3])
            operand = {0: (NOTHING, constant), 1: (first, 0.0), 2: (second, 0.0)}
            kind = int(3 * u[7])
            wanted = {
                0: (Opcode.COPY, operand[0], (NOTHING, 0.0)),
                1: (Opcode.COPY, operand[1], (NOTHING, 0.0)),
                2: (Opcode(1 + int(6 * u[6])), operand[int(3 * u[4])], operand[int(3 * u[5])]),
            }[kind]
            found = (
                drawn.op[row, step],
                (drawn.left[row, step], drawn.left_constant[row, step]),
                (drawn.right[row, step], drawn.right_constant[row, step]),
            )
            assert drawn.target[row, step] == target
            assert found == wanted


def test_frequencies():
    drawn = sampler(m=4, left=np.array([0.7, 0.1, 0.1, 0.1])).draw(0, 30_000, 1)
    assert (drawn.target == 0).mean() == pytest.approx(0.7, abs=0.02)
    is_copy = drawn.op == Opcode.COPY
    assert is_copy.mean() == pytest.approx(2 / 3, abs=0.02)
    assert (drawn.left[is_copy] == NOTHING).mean() == pytest.approx(1 / 2, abs=0.02)
    counts = np.bincount(drawn.op[~is_copy])[1:]
    assert counts / counts.sum() == pytest.approx(np.full(6, 1 / 6), abs=0.02)
    constants = drawn.left_constant[drawn.left_constant != 0]
    assert constants.min() >= -30 and constants.max() < 30
    assert abs(constants.mean()) < 0.5


def test_chunks_are_pieces_of_one_sequence():
    whole = sampler().draw(0, 100, 4)
    pieces = [sampler().draw(start, 20, 4) for start in range(0, 100, 20)]
    for index, array in enumerate(whole.arrays):
        assert np.array_equal(array, np.concatenate([p.arrays[index] for p in pieces]))


def search(
    scorer, chunk: int, learned: bool = True, k: int = 5, lambda_: float = 0.5
) -> SynthesisSearch:
    return SynthesisSearch(
        scorer=scorer,
        features=6,
        k=k,
        lambda_=lambda_,
        improve=1.01,
        temperature=1.0,
        constants=(-30.0, 30.0),
        learned=learned,
        stream=Stream(3),
        chunk=chunk,
    )


@pytest.fixture
def scorer():
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(6, 3)
    samples = Samples(
        torch.randn(60, 6, generator=generator), torch.randint(0, 3, (60,), generator=generator), 25
    )
    return LinearProblem.of(head, samples).score


def outline(found: SynthesisSearch) -> tuple:
    rows = [{k: v for k, v in entry.items() if k != "seconds"} for entry in found.trace]
    return found.top(), rows


def test_any_chunk_size_gives_the_same_search(scorer):
    results = []
    for chunk in (50, 333, 1000):
        found = search(scorer, chunk)
        found.lengths(3, 1000, None, None)
        results.append(outline(found))
    assert results[0] == results[1] == results[2]


def test_processes_give_the_same_search(scorer):
    alone, spread = search(scorer, 100), search(scorer, 100)
    alone.lengths(2, 500, None, None)
    with Processes(2) as engine:
        spread.lengths(2, 500, engine, None)
    assert outline(alone) == outline(spread)


@pytest.mark.parametrize("length", [1, 4])
def test_algorithm_1_by_a_loop(scorer, length: int):
    """One length: sums, means, distribution and the best program per set, the obvious way."""
    found = search(scorer, chunk=64)
    found._length(length, 400, None, None)
    drawn = sampler(stream=Stream(3).child(length)).draw(0, 400, length)
    scores = scorer(drawn)
    best: dict[frozenset[int], tuple[float, int]] = {}
    left = [[] for _ in range(6)]
    right = [[] for _ in range(6)]
    for row in range(400):
        if not scores.valid[row]:
            continue
        program = drawn.program(row)
        score = scores.adversarial[row] + 0.5 * scores.clean[row]
        for feature in program.writes:
            left[feature].append(score)
        for feature in program.reads:
            right[feature].append(score)
        if program.writes not in best or best[program.writes][0] < score:
            best[program.writes] = (score, row)
    expected = sorted(best.items(), key=lambda item: (-item[1][0], item[1][1]))[:5]
    assert [(c.program.writes, (c.score, c.order[1])) for c in found.top()] == expected
    for side, lists in ((found.sums.left, left), (found.sums.right, right)):
        means = [np.mean(values) if values else 0.0 for values in lists]
        assert mean_scores(side, 0.5) == pytest.approx(means)
        assert side[:, 2].tolist() == [len(values) for values in lists]


def test_the_next_length_samples_from_the_learned_distribution(scorer):
    found = search(scorer, chunk=1000)
    found.lengths(1, 1000, None, None)
    expected = softmax(mean_scores(found.sums.left, 0.5), 1.0)
    assert np.array_equal(found._sampler(2).left, expected)
    assert found._sampler(2).left.max() > 1 / 6
    uniform = search(scorer, chunk=1000, learned=False)
    uniform.lengths(1, 1000, None, None)
    assert uniform._sampler(2).left.tolist() == [1 / 6] * 6


class Constantly:
    """A scorer that gives every program the same score: no length can improve on the first."""

    def __call__(self, programs: Encoded):
        from suture.repairs.defensyn.scoring import Scores

        n = len(programs)
        return Scores(np.full(n, 7, np.int32), np.full(n, 4, np.int32), np.ones(n, bool))


def test_stops_when_nothing_improves():
    found = search(Constantly(), chunk=100)
    best = found.lengths(10, 300, None, None)
    assert [entry["length"] for entry in found.trace] == [1, 2]
    assert all(candidate.score == 9.0 for candidate in best)
    # Ties: the earliest program of each set stays.
    assert [c.order for c in best] == sorted(c.order for c in best)
    assert all(c.order[0] == 1 for c in best)


def test_distinct_sets_only(scorer):
    found = search(scorer, chunk=100, k=8)
    best = found.lengths(3, 600, None, None)
    writes = [candidate.program.writes for candidate in best]
    assert len(set(writes)) == len(writes) == 8
    assert [c.score for c in best] == sorted((c.score for c in best), reverse=True)


def test_softmax_and_entropy_by_hand():
    assert softmax(np.array([0.0, math.log(3)]), 1.0) == pytest.approx([0.25, 0.75])
    assert softmax(np.array([0.0, 2 * math.log(3)]), 2.0) == pytest.approx([0.25, 0.75])
    assert softmax(np.array([0.0, 1500.0]), 1.0).tolist() == [0.0, 1.0], "raw counts collapse"
    assert entropy(np.array([0.5, 0.5])) == pytest.approx(math.log(2))
    assert entropy(np.array([1.0, 0.0])) == 0.0
