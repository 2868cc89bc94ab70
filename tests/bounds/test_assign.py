"""Instructions of repair programs: bounds of each, and of programs between encoder and head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture import bounds
from suture.bounds import assign
from suture.bounds.network import chain
from suture.certify import Branching, network64, prove_by_cases
from suture.errors import ModelError
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.repairs.defensyn.execution import run_program
from suture.repairs.defensyn.sampling import Sampler
from suture.rng import Stream
from suture.types import Box

METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")
NAMES = ("copy", "add", "sub", "mul", "div", "max", "min")


def span(ops, low, high, method="crown", m=3):
    """Bounds of every value behind the operations, for one box."""
    box = Box(torch.tensor([low]).double(), torch.tensor([high]).double())
    lower, upper = bounds.output_bounds(chain(ops, (m,)), box, method)
    return lower[0], upper[0]


def test_a_product_by_hand():
    """x in [1, 2], y in [-1, 3]: xy in [-2, 6]; McCormick reaches both corners."""
    lower, upper = span([assign(2, "mul", 0, 1)], [1.0, -1.0, 0.0], [2.0, 3.0, 0.0], "crown")
    assert (float(lower[2]), float(upper[2])) == pytest.approx((-2.0, 6.0))
    assert lower[:2].tolist() == [1, -1] and upper[:2].tolist() == [2, 3]


def test_a_quotient_by_hand():
    """x in [2, 4], y in [-2, -1]: x / y in [-4, -1]; a divisor around 0 tells nothing."""
    lower, upper = span([assign(2, "div", 0, 1)], [2.0, -2.0, 0.0], [4.0, -1.0, 0.0], "ibp")
    assert (float(lower[2]), float(upper[2])) == pytest.approx((-4.0, -1.0))
    lower, upper = span([assign(2, "div", 0, 1)], [2.0, -0.1, 0.0], [4.0, 1.0, 0.0])
    assert not torch.isfinite(lower[2]) and not torch.isfinite(upper[2])


@pytest.mark.parametrize("method", METHODS)
def test_a_divisor_that_is_0_skips_the_instruction(method: str):
    lower, upper = span([assign(2, "div", 0, 1)], [2.0, 0.0, 5.0], [4.0, 0.0, 6.0], method)
    assert (float(lower[2]), float(upper[2])) == pytest.approx((5.0, 6.0))
    lower, upper = span([assign(2, "div", 0, 0.0)], [2.0, 0.0, 5.0], [4.0, 0.0, 6.0], method)
    assert (float(lower[2]), float(upper[2])) == pytest.approx((5.0, 6.0))


def test_what_is_affine_loses_nothing():
    """v0 - v1 after v1 = v0 - 3 is 3, whatever v0 is; intervals alone do not see it."""
    ops = [assign(1, "sub", 0, 3.0), assign(2, "sub", 0, 1)]
    lower, upper = span(ops, [-9.0, 0.0, 0.0], [9.0, 0.0, 0.0])
    assert (float(lower[2]), float(upper[2])) == pytest.approx((3.0, 3.0))
    lower, upper = span(ops, [-9.0, 0.0, 0.0], [9.0, 0.0, 0.0], "ibp")
    assert (float(lower[2]), float(upper[2])) == pytest.approx((3.0, 3.0)), "rows go back through"


def test_maxima_that_are_decided_are_exact():
    ops = [assign(1, "max", 0, -20.0), assign(2, "sub", 1, 0), assign(1, "min", 0, -20.0)]
    lower, upper = span(ops, [-9.0, 0.0, 0.0], [9.0, 0.0, 0.0])
    assert (float(lower[2]), float(upper[2])) == pytest.approx((0.0, 0.0))
    assert (float(lower[1]), float(upper[1])) == pytest.approx((-20.0, -20.0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_every_operation_lies_within_its_bounds(name: str, seed: int):
    """Random boxes, operands and rows; values on a grid with the corners."""
    generator = torch.Generator().manual_seed(seed)
    n, m = 40, 3
    low = torch.randn(n, m, generator=generator).double()
    high = low + torch.rand(n, m, generator=generator) * 2
    low[:5], high[:5] = low[:5].abs(), low[:5].abs() + 0.5
    for left, right in ((0, 1), (0, 0), (1, 2), (1.5, 0), (2, -0.7)):
        network = chain([assign(2, name, left, right)], (m,))
        rows = torch.randn(1, 6, m, generator=generator).double()
        grid = torch.cartesian_prod(*[torch.linspace(0, 1, 5).double()] * m)
        points = low[:, None] + grid * (high - low)[:, None]
        values = network(points.flatten(0, 1)).view(n, len(grid), m) @ rows[0].T
        for method in ("ibp", "crown"):
            found = bounds.bounds_of(network, Box(low, high), rows, method)
            known = torch.isfinite(found)
            assert (found <= values.amin(1) + 1e-9)[known].all()
            divides = name == "div" and isinstance(right, int)
            assert known.all() or (divides and known.any())


def classifier(texts: str, seed: int = 0, deep: bool = False) -> DefendedClassifier:
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU())
    head: nn.Module = nn.Linear(8, 3)
    if deep:
        head = nn.Sequential(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3))
    return DefendedClassifier(encoder, head, (parse(texts),), 8).eval()


def texts(seed: int, length: int) -> str:
    uniform = torch.full((8,), 1 / 8).double().numpy()
    return str(Sampler(uniform, uniform, -2.0, 2.0, Stream(seed)).draw(0, 1, length).program(0))


def test_the_network_computes_what_the_classifier_does():
    for seed in range(30):
        text = texts(seed, 4)
        model, images = classifier(text, seed, deep=seed % 2 == 0), torch.rand(9, 1, 2, 3)
        network = bounds.read(model, (1, 2, 3))
        torch.testing.assert_close(network(images), model(images), rtol=1e-4, atol=1e-4)
        features = model.encoder(images)
        torch.testing.assert_close(
            network(images), model.head(run_program(parse(text), features)[0]),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip


def violations(seed: int, points: int, methods=METHODS) -> tuple[int, int]:
    """Sampled and attacked points outside of what was proved; and bounds that are known."""
    model = classifier(texts(seed, 1 + seed % 5), seed, deep=seed % 2 == 0)
    network = network64(model, (1, 2, 3))
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 1, 2, 3, generator=generator).double()
    eps = [0.01, 0.05, 0.2][seed % 3]
    box = Box.around(images, eps)
    rows = torch.randn(1, 5, 3, generator=generator).double()
    here = box.lower + torch.rand(points, *images.shape, generator=generator).double() * (
        box.upper - box.lower
    )
    corners = torch.rand(here.shape, generator=generator) < 0.5
    half = points // 2
    here[half:] = torch.where(corners[half:], box.lower, box.upper)
    here = attacked(network, here, rows[0], box)
    values = network(here.flatten(0, 1)).view(points, 4, 3) @ rows[0].T
    broken = known = 0
    for method in methods:
        found = bounds.bounds_of(network, box, rows, method)
        broken += int((values < found - 1e-9).sum())
        known += int(torch.isfinite(found).sum())
    return broken, known


def attacked(network, here, rows, box):
    """A quarter of the points after signed steps down the first rows."""
    quarter = len(here) // 4
    moved = here[:quarter].clone()
    for row in rows[:2]:
        moved.requires_grad_(True)
        (slope,) = torch.autograd.grad((network(moved.flatten(0, 1)) @ row).sum(), moved)
        step = 0.5 * (box.upper - box.lower)
        moved = (moved - step * slope.sign()).detach().clamp(box.lower, box.upper)
    return torch.cat([moved, here[quarter:]])


def test_no_point_lies_outside_of_what_is_proved():
    counts = [violations(seed, 60) for seed in range(12)]
    assert sum(broken for broken, _ in counts) == 0
    assert sum(known for _, known in counts) > 0.6 * 12 * 80, "or nothing was tested"


@pytest.mark.slow
def test_none_of_a_hundred_thousand_points_lies_outside():
    methods = ("ibp", "crown-ibp", "crown")
    counts = [violations(seed, 250, METHODS if seed % 4 == 0 else methods) for seed in range(100)]
    assert sum(broken for broken, _ in counts) == 0
    assert sum(known for _, known in counts) > 5_000


def test_crown_proves_more_than_intervals_through_programs():
    model = classifier("v0 = v1 * v2; v3 = max(v0, v4); v5 = v3 - v0", 3)
    network = network64(model, (1, 2, 3))
    box = Box.around(torch.rand(6, 1, 2, 3).double(), 0.1)
    lower, upper = bounds.output_bounds(network, box, "crown")
    wide = bounds.output_bounds(network, box, "ibp")
    assert float((upper - lower).sum()) < 0.9 * float((wide[1] - wide[0]).sum())


def test_cases_are_split_through_programs():
    model = classifier("v0 = v1 * v2; v3 = max(v0, 0.1)", 1, deep=True)
    image = torch.rand(1, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    rows = bounds.margin_rows(model(image).argmax(1), 3, torch.float64)
    box = Box.around(image.double(), 0.001)
    assert prove_by_cases(network64(model, (1, 2, 3)), box, rows, Branching(seconds=5)).proved


def test_a_mixture_has_no_one_network():
    model = DefendedClassifier(nn.Flatten(), nn.Linear(6, 3), (parse("v0 = 1"), parse("v1 = 1")), 6)
    with pytest.raises(ModelError, match="fixed"):
        bounds.read(model, (1, 2, 3))
