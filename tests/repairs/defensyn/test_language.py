"""The language: text and data are the same thing, and meaning is hand-checked."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from suture.errors import ProgramError
from suture.repairs.defensyn.encoding import encode
from suture.repairs.defensyn.execution import ProgramBank, run_program
from suture.repairs.defensyn.language import (
    Constant,
    Feature,
    Instruction,
    Opcode,
    Program,
    check_features,
    parse,
)

FEATURES = 6
operands = st.one_of(
    st.integers(0, FEATURES - 1).map(Feature),
    st.floats(-30, 30, width=32).map(Constant),
)


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    op = draw(st.sampled_from(Opcode))
    right = None if op is Opcode.COPY else draw(operands)
    return Instruction(draw(st.integers(0, FEATURES - 1)), op, draw(operands), right)


programs = st.lists(instructions(), min_size=1, max_size=5).map(lambda i: Program(tuple(i)))


@given(programs)
def test_parse_undoes_print(program: Program):
    assert parse(str(program)) == program


@given(programs)
def test_decode_undoes_encode(program: Program):
    other = parse("v0 = 1; v1 = 2; v2 = 3; v3 = 4; v4 = 5; v5 = 6")
    encoded = encode([program, other])
    assert encoded.program(0) == program
    assert encoded.program(1) == other


def test_the_papers_notation():
    program = parse("v3 = v100 + 3.267; v136 = v2 / v51")
    assert str(program) == "v3 = v100 + 3.267; v136 = v2 / v51"
    assert program.writes == {3, 136} and program.reads == {100, 2, 51}
    assert len(program) == 2
    assert parse("v1=max( v2,-.5 ) ;") == parse("v1 = max(v2, -0.5)")
    assert parse("v1 = v2 - -3") == parse("v1 = v2 - -3.0")


@pytest.mark.parametrize(
    "text",
    ["", "v1", "v1 =", "x1 = 2", "v1 = v2 ^ v3", "v1 = max(v2)", "v1 = v2 + v3 + v4", "v1 = 1e99",
     "v1 = nan", "v1 = inf", "v1 = 2;; v2 = 3", "v-1 = 2", "v1 = __import__('os')"],
)  # fmt: skip
def test_other_texts_are_refused(text: str):
    with pytest.raises(ProgramError):
        parse(text)


def test_features_beyond_the_encoder_are_refused():
    check_features(parse("v5 = v4"), 6)
    for text in ("v6 = 1", "v0 = v6"):
        with pytest.raises(ProgramError, match=r"v0 to v5.*got v6"):
            check_features(parse(text), 6)


def run(text: str, *values: float) -> list[float]:
    repaired, _ = run_program(parse(text), torch.tensor([values]))
    return repaired[0].tolist()


def test_meaning_by_hand():
    assert run("v0 = v1 + 2", 1.0, 5.0) == [7.0, 5.0]
    assert run("v0 = v1; v1 = v0 * v0", 1.0, 5.0) == [5.0, 25.0], "later steps see earlier writes"
    assert run("v0 = v0 - 1; v0 = v0 - 1", 1.0) == [-1.0]
    assert run("v1 = min(v0, v1); v0 = max(v0, 9)", 3.0, 4.0) == [9.0, 3.0]
    assert run("v0 = v1 / v2", 1.0, 5.0, 0.0) == [1.0, 5.0, 0.0], "x / 0 skips the instruction"
    assert run("v0 = v1 / v2; v1 = 7", 1.0, 5.0, 0.0) == [1.0, 7.0, 0.0], "… and only that one"
    assert run("v0 = v1 / -0.0", 1.0, 5.0) == [1.0, 5.0]


def test_division_is_skipped_row_by_row():
    features = torch.tensor([[1.0, 6.0, 0.0], [1.0, 6.0, 2.0]])
    repaired, finite = run_program(parse("v0 = v1 / v2"), features)
    assert repaired[:, 0].tolist() == [1.0, 3.0] and finite


def test_a_non_finite_value_is_noticed_even_if_overwritten():
    big = torch.full((1, 2), 3e38)
    _, finite = run_program(parse("v0 = v0 * v1; v0 = 1"), big)
    assert not finite


@given(st.lists(programs, min_size=1, max_size=4), st.integers(0, 2**31))
def test_the_bank_runs_each_rows_own_program(chosen: list[Program], seed: int):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(7, FEATURES, generator=generator)
    features[torch.rand(features.shape, generator=generator) < 0.3] = 0.0
    choice = torch.randint(0, len(chosen), (7,), generator=generator)
    bank = ProgramBank(tuple(chosen))
    with torch.no_grad():
        fast = bank(features, choice)
    tracked = bank(features.clone().requires_grad_(True), choice).detach()
    for row in range(7):
        alone, _ = run_program(chosen[int(choice[row])], features[row : row + 1])
        for found in (fast[row], tracked[row]):
            same = (found == alone[0]) | (found.isnan() & alone[0].isnan())
            assert same.all()


def test_constants_are_float32():
    assert Constant(0.1).value != 0.1
    assert math.isclose(Constant(0.1).value, 0.1, rel_tol=1e-7)
    assert str(Constant(0.1)) == "0.1"
