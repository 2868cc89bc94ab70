"""The compiled scorer against the plain one, exactly; and ties as argmax breaks them."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch
from torch import nn

from suture.repairs.defensyn.encoding import Encoded, encode
from suture.repairs.defensyn.execution import run_many, run_program
from suture.repairs.defensyn.language import parse
from suture.repairs.defensyn.sampling import Sampler
from suture.repairs.defensyn.scoring import (
    HeadProblem,
    LinearProblem,
    Samples,
    Scores,
    score_plain,
)
from suture.rng import Stream


def dyadic(*shape: int, generator: torch.Generator, step: float = 0.25, span: int = 8):
    """Random multiples of a power of two: sums and products of them are exact in float32."""
    return torch.randint(-span, span + 1, shape, generator=generator).float() * step


def problem(m: int, classes: int, n: int, seed: int) -> tuple[nn.Linear, Samples]:
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(m, classes)
    with torch.no_grad():
        head.weight.copy_(dyadic(classes, m, generator=generator))
        head.bias.copy_(dyadic(classes, generator=generator))
    labels = torch.randint(0, classes, (n,), generator=generator)
    return head, Samples(dyadic(n, m, generator=generator), labels, n // 2)


def whole_number_programs(m: int, length: int, count: int, seed: int) -> Encoded:
    """Random programs without division, constants rounded: they stay exact."""
    uniform = np.full(m, 1 / m)
    drawn = Sampler(uniform, uniform, -8, 8, Stream(seed)).draw(0, count, length)
    op = np.where(drawn.op == 4, 5, drawn.op)
    left, right = np.round(drawn.left_constant), np.round(drawn.right_constant)
    return Encoded(drawn.target, op, drawn.left, drawn.right, left, right)


def agree(one: Scores, other: Scores) -> None:
    assert np.array_equal(one.valid, other.valid)
    assert np.array_equal(one.adversarial, other.adversarial)
    assert np.array_equal(one.clean, other.clean)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("m", "classes"), [(5, 2), (12, 3), (7, 10)])
def test_compiled_equals_plain_bit_for_bit(length: int, m: int, classes: int):
    head, samples = problem(m, classes, n=61, seed=length)
    programs = whole_number_programs(m, min(length, 3), count=60, seed=length)
    if length > 3:
        # Long chains of products leave the exact grid; long chains of copies and sums do not.
        drawn = whole_number_programs(m, length, count=60, seed=length)
        op = np.where(drawn.op == 3, 1, drawn.op)
        programs = Encoded(drawn.target, op, *drawn.arrays[2:])
    fast = LinearProblem.of(head, samples).score(programs)
    agree(fast, score_plain(head, samples, programs))
    assert fast.clean.max() > fast.clean.min(), "scores that never differ test nothing"


def both_kernels(head: nn.Linear, samples: Samples, programs: Encoded) -> Scores:
    """The counts of the kernel that skips rivals, after a look that the plain one agrees."""
    skipping = LinearProblem.of(head, samples, many=0).score(programs)
    agree(skipping, LinearProblem.of(head, samples, many=10**6).score(programs))
    return skipping


@pytest.mark.parametrize("classes", [2, 5, 40, 301])
@pytest.mark.parametrize("length", [1, 2, 5, 9])
def test_skipping_rivals_changes_nothing(classes: int, length: int):
    generator = torch.Generator().manual_seed(classes + length)
    head = nn.Linear(30, classes)
    with torch.no_grad():
        head.weight.copy_(torch.randn(classes, 30, generator=generator))
    features = torch.randn(290, 30, generator=generator).relu()
    clean = head(features[:200]).argmax(1)
    labels = torch.cat([clean, torch.randint(0, classes, (90,), generator=generator)])
    uniform = np.full(30, 1 / 30)
    for span in (0.01, 1.0, 30.0):
        programs = Sampler(uniform, uniform, -span, span, Stream(length)).draw(0, 80, length)
        found = both_kernels(head, Samples(features, labels, 120), programs)
        assert found.clean.max() > found.clean.min()


@pytest.mark.parametrize("classes", [3, 60])
def test_skipping_sees_ties_as_argmax_does(classes: int):
    head, samples = problem(6, classes, n=300, seed=classes)
    programs = whole_number_programs(6, 3, count=60, seed=4)
    with torch.no_grad():
        head.weight[1::2], head.bias[1::2] = head.weight[:-1:2], head.bias[:-1:2]
    agree(both_kernels(head, samples, programs), score_plain(head, samples, programs))


def test_the_bound_allows_for_rounding():
    """A tie in float32 that exact arithmetic, or another order of additions, would not see."""
    draw, close = np.random.default_rng(0), 0
    program = encode([parse("v0 = 1; v1 = 1; v2 = 1")])
    for _ in range(300):
        weights, z = draw.normal(size=3).astype(np.float32), np.float32(draw.normal())
        tie = np.float32(np.float32(np.float32(z + weights[0]) + weights[1]) + weights[2])
        close += np.float32(z + np.float32(np.float32(weights[0] + weights[1]) + weights[2])) < tie
        # Class 0 rises to the tie; five look likelier by logit, five by weight; 11 is right.
        head = nn.Linear(3, 12)
        with torch.no_grad():
            head.weight.zero_()
            head.weight[0], head.weight[1:6] = torch.from_numpy(weights), 50.0
            head.bias[0], head.bias[1:6] = float(z), -1000.0
            head.bias[6:11], head.bias[11] = float(tie) - 1e-3, float(tie)
        sample = Samples(torch.zeros(1, 3), torch.tensor([11]), 0)
        assert both_kernels(head, sample, program).clean.tolist() == [0], "the tie goes to class 0"
    assert close > 30, "or the bound was never put to the test"


def test_skipping_survives_what_no_bound_holds():
    head, samples = problem(4, 50, n=40, seed=2)
    samples.features[3, 0], samples.features[7, 0] = -3e38, 3e38
    texts = ["v0 = 3e38", "v0 = 1e37; v1 = -1e37", "v1 = 3e38; v2 = 3e38", "v0 = v1", "v3 = 1e-30"]
    found = both_kernels(head, samples, encode([parse(text) for text in texts]))
    assert found.valid.all()


def test_ties_fall_as_argmax_does():
    # Three classes with identical weights: every sample is a three-way tie, won by class 0.
    head = nn.Linear(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0]]).expand(3, 2))
        head.bias.zero_()
    samples = Samples(torch.randn(9, 2).round(), torch.arange(3).repeat(3), 0)
    programs = encode([parse("v0 = v1"), parse("v1 = 3")])
    fast = LinearProblem.of(head, samples).score(programs)
    assert fast.clean.tolist() == [3, 3]
    agree(fast, score_plain(head, samples, programs))


def test_random_floats_agree_but_for_near_ties():
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(40, 10)
    samples = Samples(
        torch.randn(400, 40, generator=generator).relu(), torch.arange(10).repeat(40), 200
    )
    uniform = np.full(40, 1 / 40)
    programs = Sampler(uniform, uniform, -30, 30, Stream(2)).draw(0, 300, 4)
    fast, plain = (
        LinearProblem.of(head, samples).score(programs),
        score_plain(head, samples, programs),
    )
    assert np.array_equal(fast.valid, plain.valid)
    differences = np.abs(fast.clean - plain.clean) + np.abs(fast.adversarial - plain.adversarial)
    assert differences.sum() <= 3


def test_division_by_zero_and_overflow():
    head, samples = problem(4, 3, n=30, seed=1)
    samples.features[::2, 3] = 0.0
    texts = ["v0 = v1 / v3", "v0 = 1 / v3; v3 = 2", "v0 = 3e38; v1 = v0 * v0", "v0 = 3e38 + 3e38"]
    texts += ["v0 = 3e38; v1 = v0 * v0; v1 = 0", "v2 = v2 / 0"]
    programs = encode([parse(text) for text in texts])
    fast = LinearProblem.of(head, samples).score(programs)
    plain = score_plain(head, samples, programs)
    assert fast.valid.tolist() == [True, True, False, False, False, True]
    assert np.array_equal(fast.valid, plain.valid)
    assert fast.clean[5] == plain.clean[5] and fast.adversarial[5] == plain.adversarial[5]
    assert (fast.clean[2:5] == 0).all()


def test_programs_of_different_lengths_may_be_mixed():
    head, samples = problem(4, 3, n=30, seed=1)
    programs = encode([parse("v0 = 1"), parse("v0 = v1; v1 = v2; v2 = v0"), parse("v3 = -2")])
    agree(LinearProblem.of(head, samples).score(programs), score_plain(head, samples, programs))


def test_classes_without_samples_still_compete():
    head, samples = problem(5, 6, n=20, seed=3)
    samples = Samples(samples.features, samples.labels.clamp(2, 3), 10)
    programs = whole_number_programs(5, 2, count=40, seed=9)
    agree(LinearProblem.of(head, samples).score(programs), score_plain(head, samples, programs))


def test_thread_count_does_not_matter():
    head, samples = problem(8, 4, n=80, seed=5)
    programs = whole_number_programs(8, 3, count=1500, seed=5)
    linear = LinearProblem.of(head, samples)
    whole = linear.score(programs)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        agree(whole, linear.score(programs))
    finally:
        numba.set_num_threads(before)


def test_torch_keeps_its_threads():
    head, samples = problem(4, 3, n=30, seed=1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        LinearProblem.of(head, samples).score(whole_number_programs(4, 1, 10, 0))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_many_programs_at_once_are_one_program_at_a_time():
    _, samples = problem(4, 3, n=30, seed=1)
    samples.features[::2, 3] = 0.0
    texts = [
        "v0 = v1 / v3",
        "v0 = 3e38; v1 = v0 * v0; v1 = 0",
        "v2 = v0; v2 = v2 * v2; v0 = v2 - 1",
    ]
    programs = [parse(text) for text in texts]
    arrays = [torch.from_numpy(array) for array in encode(programs).arrays]
    tensors = tuple(a if a.is_floating_point() else a.long() for a in arrays)
    values, finite = run_many(tensors, samples.features)
    assert finite.tolist() == [True, False, True]
    for one, program in zip(values, programs, strict=True):
        assert torch.equal(one, run_program(program, samples.features)[0])


@pytest.mark.parametrize("alone", [1, 10**6])
def test_general_heads_in_batches_of_any_size(alone: int, monkeypatch):
    monkeypatch.setattr("suture.repairs.defensyn.scoring.ALONE", alone)
    generator = torch.Generator().manual_seed(0)
    head = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4))
    samples = Samples(
        torch.randn(50, 6, generator=generator), torch.randint(0, 4, (50,), generator=generator), 20
    )
    uniform = np.full(6, 1 / 6)
    programs = Sampler(uniform, uniform, -30, 30, Stream(2)).draw(0, 70, 3)
    plain = score_plain(head, samples, programs)
    for rows in (1, 130, 100_000):
        agree(HeadProblem(head, samples, rows).score(programs), plain)
