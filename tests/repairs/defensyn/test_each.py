"""The compiled logits under every program against the plain twin, values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from suture.engine.threads import torch_threads
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.repairs.defensyn.each import _WORTH, Changed, changed, compiles
from suture.repairs.defensyn.each_kernels import BLOCK, StraightLinePrograms
from suture.repairs.defensyn.language import Constant, Feature, Instruction, Opcode, Program

FEATURES = 5
# Few features and few values: repeated targets, reads of earlier writes, ties and divisors of 0.
_operands = st.one_of(
    st.integers(0, FEATURES - 1).map(Feature),
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, -3.25, 0.1]).map(Constant),
)


@st.composite
def _instructions(draw: st.DrawFn) -> Instruction:
    op = draw(st.sampled_from(Opcode))
    right = None if op is Opcode.COPY else draw(_operands)
    return Instruction(draw(st.integers(0, FEATURES - 1)), op, draw(_operands), right)


_programs = st.lists(_instructions(), min_size=1, max_size=7).map(lambda i: Program(tuple(i)))
_banks = st.lists(_programs, min_size=1, max_size=4).map(tuple)


def _inputs(n: int, classes: int, seed: int, m: int = FEATURES) -> list[Tensor]:
    """Plain logits, features of which many are equal or 0, weight; all want gradients."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, m, generator=generator)
    coarse = torch.randint(-2, 3, (n, m), generator=generator) / 2
    features = torch.where(torch.rand(n, m, generator=generator) < 0.5, features, coarse)
    shapes = [(n, classes), (classes, m)]
    plain, weight = (torch.randn(shape, generator=generator) for shape in shapes)
    return [tensor.requires_grad_() for tensor in (plain, features, weight)]


def _both(programs: tuple[Program, ...], inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    compiled = Changed.apply(*inputs, programs, StraightLinePrograms.of(programs))
    return compiled, changed(*inputs, programs)


def _gradients(made: Tensor, inputs: list[Tensor], seed: int = 0) -> tuple[Tensor, ...]:
    slope = torch.randn(made.shape, generator=torch.Generator().manual_seed(seed))
    found = torch.autograd.grad(made, inputs, slope, allow_unused=True)
    return tuple(
        torch.zeros_like(i) if f is None else f for i, f in zip(inputs, found, strict=True)
    )


def _close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> bool:
    """By image and by tensor: sums of gradients in another order, float32."""
    scale = max(1.0, float(theirs.detach().abs().max()))
    return bool(((ours - theirs).abs() <= tolerance * scale).all())


@settings(max_examples=150, deadline=None)
@given(_banks, st.integers(1, 70), st.sampled_from([1, 2, 10]), st.integers(0, 99))
def test_the_plain_twin(programs: tuple[Program, ...], n: int, classes: int, seed: int):
    inputs = _inputs(n, classes, seed)
    ours, theirs = _both(programs, inputs)
    # Powers of powers may overflow; infinities are another matter.
    kept = theirs.abs().amax((0, 2)) < 1e6
    assert torch.equal(ours[:, kept], theirs[:, kept]), "the same operations in the same order"
    if bool(kept.all()):
        for mine, other in zip(_gradients(ours, inputs), _gradients(theirs, inputs), strict=True):
            assert _close(mine, other)


@pytest.mark.parametrize(
    ("text", "slopes"),
    [("v0 = max(v1, v2)", (0.0, 0.5, 0.5)), ("v0 = min(v1, v2)", (0.0, 0.5, 0.5)),
     ("v0 = max(v1, 1)", (0.0, 0.5, 0.0)), ("v0 = max(v1, v1)", (0.0, 1.0, 0.0)),
     ("v0 = v1 / 0", (1.0, 0.0, 0.0)), ("v0 = v1 / v2; v0 = v0 / 4", (0.0, 0.25, -0.25)),
     ("v0 = v1 * v1; v0 = v0 - v2", (0.0, 2.0, -1.0)), ("v0 = 7", (0.0, 0.0, 0.0)),
     ("v0 = v1 / 0; v0 = 3", (0.0, 0.0, 0.0))],
)  # fmt: skip
def test_gradients_by_hand(text: str, slopes: tuple[float, ...]):
    programs = (parse(text),)
    features = torch.ones(1, 3, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 0.0]])
    for made in _both(programs, [features @ weight.T, features, weight]):
        (found,) = torch.autograd.grad(made.sum(), features, retain_graph=True)
        assert found[0].tolist() == list(slopes)


def test_gradients_by_differences():
    """Where everything is smooth, against quotients of differences (no autograd at all)."""
    programs = tuple(map(parse, ("v0 = v1 * v2; v3 = v0 / v1; v0 = v3 - v4", "v1 = v1 / v2 + 0.5"
                                 .replace(" + 0.5", "; v1 = v1 + 0.5"))))  # fmt: skip
    _, features, weight = _inputs(6, 3, 1)
    features = (features.detach().abs() + 1.0).requires_grad_()
    weight = weight.detach()

    def value(features: Tensor) -> Tensor:
        plain = features @ weight.T
        return (
            Changed.apply(plain, features, weight, programs, StraightLinePrograms.of(programs))
            .double()
            .sin()
        )

    (slope,) = torch.autograd.grad(value(features).sum(), features)
    step = 1e-3
    with torch.no_grad():
        for feature in range(FEATURES):
            move = torch.zeros_like(features)
            move[:, feature] = step
            quotient = (value(features + move) - value(features - move)).sum((0, 2)) / (2 * step)
            assert torch.allclose(quotient.float(), slope[:, feature], atol=5e-3, rtol=5e-3)


TEXTS = ("v0 = v1 * v2; v1 = v0 - 3", "v2 = v0 / v1; v2 = max(v2, 0.2)", "v4 = min(v3, v0)")


def test_an_image_does_not_see_the_others():
    programs = tuple(map(parse, TEXTS))
    lines, n = StraightLinePrograms.of(programs), 3 * BLOCK + 5
    inputs = _inputs(n, 10, 0)
    whole = Changed.apply(*inputs, programs, lines)
    slopes = _gradients(whole, inputs[:2])
    slope = torch.randn(whole.shape, generator=torch.Generator().manual_seed(0))
    for rows in (slice(0, 1), slice(7, BLOCK + 20), slice(n - 1, n)):
        part = [t.detach()[rows].requires_grad_() for t in inputs[:2]]
        made = Changed.apply(*part, inputs[2], programs, lines)
        assert torch.equal(made, whole[:, rows])
        found = torch.autograd.grad(made, part, slope[:, rows])
        assert all(torch.equal(f, s[rows]) for f, s in zip(found, slopes, strict=True))


def test_threads_change_nothing():
    programs = tuple(map(parse, TEXTS))
    n = _WORTH // (3 * 10 * 2) + 1
    inputs = _inputs(n, 10, 0)
    found = []
    for count in (1, 3):
        with torch_threads(count):
            made = Changed.apply(*inputs, programs, StraightLinePrograms.of(programs))
            found.append((made, *_gradients(made, inputs[:2])))
    assert all(torch.equal(one, three) for one, three in zip(*found, strict=True))


def test_second_derivatives():
    programs = tuple(map(parse, TEXTS))
    _, features, weight = _inputs(9, 4, 3)
    found = []
    for made in _both(programs, [features @ weight.T, features, weight]):
        value = made.square().sum()
        first = torch.autograd.grad(value, [features, weight], create_graph=True)
        total = sum(slope.square().sum() for slope in first)
        second = torch.autograd.grad(total, [features, weight], retain_graph=True)
        found.append((*first, *second))
    for ours, theirs in zip(*found, strict=True):
        assert _close(ours, theirs)


def test_where_the_kernels_do_not_fit():
    fits = torch.zeros(2, 3)
    assert compiles(fits, nn.Parameter(fits))
    assert not compiles(fits.double()) and not compiles(fits[0])
    model = DefendedClassifier(nn.Flatten(), nn.Linear(5, 4), tuple(map(parse, TEXTS)), 5)
    images = torch.rand(3, 1, 1, 5)
    along = torch.ones_like(images)
    _, slope = torch.func.jvp(model.each, (images,), (along,))
    quotient = (model.each(images + 1e-3) - model.each(images - 1e-3)) / 2e-3
    assert torch.allclose(slope, quotient, atol=2e-2, rtol=2e-2)
    double = model.double()
    assert double.each(images.double()).dtype == torch.float64


def test_heads_in_blocks(monkeypatch: pytest.MonkeyPatch):
    head = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
    model = DefendedClassifier(nn.Flatten(), head, tuple(map(parse, TEXTS)), 5)
    images = torch.rand(6, 1, 1, 5)
    whole = model.each(images)
    monkeypatch.setattr("suture.repairs.defensyn.defended.ROWS", 12)
    assert torch.allclose(model.each(images), whole, atol=1e-6)
    for index, logits in enumerate(whole):
        assert torch.allclose(logits, model.fixed(index)(images), atol=1e-6)
