"""Bounds against sampled truth, plain loops, exact optima, and numbers worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from suture import bounds
from suture.bounds.activations import SShaped
from suture.bounds.backward import concretise
from suture.errors import ModelError
from suture.types import Box
from tests.bounds.nets import dense_parts, networks, plain_crown, points

METHODS = ("ibp", "crown-ibp", "crown", "alpha-crown")
NETWORKS = networks()


def asymmetric(shape, n, seed, width):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(n, *shape, generator=generator)
    down, up = (torch.rand(n, *shape, generator=generator) * width for _ in range(2))
    return Box((centre - down).clamp(0, 1), (centre + up).clamp(0, 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_what_its_module_does(name):
    model, shape = NETWORKS[name]
    network = bounds.read(model, shape)
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(x), model(x))
    torch.testing.assert_close(network.to(torch.float64)(x.double()).float(), model(x))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_no_sampled_point_leaves_the_bounds(name, method, seed, width):
    model, shape = NETWORKS[name]
    box = asymmetric(shape, 3, seed, width)
    with torch.no_grad():
        lower, upper = bounds.output_bounds(bounds.read(model, shape), box, method)
        values = model(points(box, 64, seed).flatten(0, 1)).view(128, 3, -1)
    assert bool((values >= lower - 1e-5).all()) and bool((values <= upper + 1e-5).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_each_method_is_tighter_than_the_one_before(name):
    model, shape = NETWORKS[name]
    box = asymmetric(shape, 4, 0, 0.1)
    with torch.no_grad():
        widths = [
            (lambda found: found[1] - found[0])(
                bounds.output_bounds(bounds.read(model, shape), box, method)
            ).mean()
            for method in METHODS
        ]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.9 * widths[0]


def test_a_point_has_exact_bounds():
    for model, shape in NETWORKS.values():
        x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(2))
        for method in METHODS:
            with torch.no_grad():
                lower, upper = bounds.output_bounds(bounds.read(model, shape), Box(x, x), method)
            torch.testing.assert_close(lower, model(x), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(upper, model(x), atol=1e-4, rtol=1e-4)


def by_hand():
    """Two inputs in [-1, 1]; relu(x + y), relu(x - y); their sum, and their difference + 0.5."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        model[0].bias.zero_()
        model[2].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        model[2].bias.copy_(torch.tensor([0.0, 0.5]))
    return model, Box(-torch.ones(1, 2), torch.ones(1, 2))


def test_worked_by_hand():
    """Both ReLUs run over [-2, 2]: above them x/2 + 1; below 0, as 2 > 2 is false.

    Sum above: (x+y)/2 + 1 + (x-y)/2 + 1 = x + 2 <= 3, below 0.
    Difference + 0.5 above: (x+y)/2 + 1 - 0 + 0.5 <= 2.5; below 0.5 - 1 - (x-y)/2 >= -1.5.
    Intervals: sum in [0, 4], difference in [-1.5, 2.5].
    """
    model, box = by_hand()
    network = bounds.read(model, (2,))
    with torch.no_grad():
        low, up = bounds.output_bounds(network, box, "crown")
        assert low.tolist() == [[0.0, -1.5]] and up.tolist() == [[3.0, 2.5]]
        low, up = bounds.output_bounds(network, box, "ibp")
        assert low.tolist() == [[0.0, -1.5]] and up.tolist() == [[4.0, 2.5]]


def test_dense_bounds_agree_with_a_plain_loop_in_float64():
    model = NETWORKS["dense"][0]
    plain = nn.Sequential(*[nn.ReLU() if isinstance(m, nn.LeakyReLU) else m for m in model])
    box = asymmetric((1, 4, 4), 4, 3, 0.2)
    wide = Box(box.lower.double(), box.upper.double())
    network = bounds.read(plain, (1, 4, 4)).to(torch.float64)
    with torch.no_grad():
        lower, upper = bounds.output_bounds(network, wide, "crown")
    for i in range(4):
        low, high = plain_crown(
            *dense_parts(plain), wide.lower[i].flatten().numpy(), wide.upper[i].flatten().numpy()
        )
        # Ours is cut with intervals and may be tighter, never looser.
        assert (lower[i].numpy() >= low - 1e-9).all() and (upper[i].numpy() <= high + 1e-9).all()
        np.testing.assert_allclose(lower[i], low, atol=1e-6)
        np.testing.assert_allclose(upper[i], high, atol=1e-6)


def exact_minimum(weights, biases, lower, upper, row):
    """Smallest ``row · output`` by one LP per assignment of the hidden phases."""
    best = np.inf
    for phases in itertools.product((0.0, 1.0), repeat=len(biases[0])):
        on = np.array(phases)
        objective = row @ (weights[1] * on) @ weights[0]
        const = row @ (weights[1] @ (on * biases[0]) + biases[1])
        side = np.where(on, -1.0, 1.0)
        found = linprog(
            objective, A_ub=side[:, None] * weights[0], b_ub=-side * biases[0],
            bounds=list(zip(lower, upper, strict=True)),
        )  # fmt: skip
        best = min(best, found.fun + const) if found.status == 0 else best
    return best


@pytest.mark.parametrize("seed", range(4))
def test_bounds_lie_below_the_exact_minimum_and_alpha_gets_close(seed):
    torch.manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    weights, biases = dense_parts(model)
    box = Box(-torch.ones(1, 3).double() * 0.7, torch.ones(1, 3).double() * 0.4)
    row = torch.tensor([[[1.0, -1.0]]]).double()
    network = bounds.read(model, (3,))
    found = {m: float(bounds.bounds_of(network, box, row, m).detach()) for m in METHODS}
    truth = exact_minimum(
        weights, biases, box.lower[0].numpy(), box.upper[0].numpy(), np.array([1.0, -1.0])
    )
    assert found["ibp"] <= found["crown"] + 1e-9 <= found["alpha-crown"] + 2e-9 <= truth + 3e-9
    assert truth - found["alpha-crown"] <= 0.6 * (truth - found["ibp"]) + 1e-9


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["sigmoid", "tanh"]), st.floats(-6, 6), st.floats(0, 8),
       st.floats(0, 1), st.floats(0, 1))  # fmt: skip
def test_relaxations_touch_where_they_are_told_and_enclose_the_curve(
    name, low, width, up_at, low_at
):
    op = SShaped(name)
    lower, upper = (torch.full((1, 1), v, dtype=torch.float64) for v in (low, low + width))
    alpha = torch.tensor([up_at, low_at], dtype=torch.float64).view(2, 1, 1, 1)
    x = low + width * torch.linspace(0, 1, 201, dtype=torch.float64)
    relaxation = op.relaxation(lower, upper, alpha)
    assert (relaxation.up[0, 0] * x + relaxation.up_shift[0, 0] >= op.forward(x) - 1e-7).all()
    assert (relaxation.low[0, 0] * x + relaxation.low_shift[0, 0] <= op.forward(x) + 1e-7).all()


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_without_an_alpha_the_relaxation_is_that_of_the_start(name):
    op, ends = SShaped(name), torch.linspace(-5, 5, 21, dtype=torch.float64)
    lower, upper = ends[:, None].expand(21, 21), ends[:, None] + ends.abs()[None]
    plain, given_ = op.relaxation(lower, upper), op.relaxation(lower, upper, op.start(lower, upper))
    for ours, theirs in zip(vars(given_).values(), vars(plain).values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_optimised_relaxations_are_tighter_and_sound():
    model, shape = networks()["s-shaped"]
    middle = torch.full((2, *shape), 0.5).double()
    box = Box(middle - 4, middle + 4)
    network = bounds.read(model, shape).to(torch.float64)
    rows = torch.tensor([[[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]]).double()
    plain = bounds.bounds_of(network, box, rows, "crown").detach()
    tight = bounds.bounds_of(network, box, rows, "alpha-crown").detach()
    assert (tight >= plain).all() and (tight > plain + 1e-2).any()
    with torch.no_grad():
        values = torch.stack([network(p) for p in points(box, 300)])
    assert (tight <= torch.einsum("pnc,krc->pnr", values, rows).amin(0) + 1e-9).all()


def test_one_network_per_example_is_the_loop_over_them():
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 6, 4), (5, 3, 6)]
    weights = [torch.randn(*s, generator=generator) for s in shapes]
    biases = [torch.randn(*s[:2], generator=generator) for s in shapes]
    ops = [
        bounds.Linear(weights[0], biases[0]),
        bounds.Relu(),
        bounds.Linear(weights[1], biases[1]),
    ]
    box = asymmetric((4,), 5, 0, 0.3)
    together = bounds.output_bounds(bounds.chain(ops, (4,)), box)
    for i in range(5):
        own = [bounds.Linear(w[i], b[i]) for w, b in zip(weights, biases, strict=True)]
        alone = bounds.output_bounds(
            bounds.chain([own[0], bounds.Relu(), own[1]], (4,)),
            Box(box.lower[i : i + 1], box.upper[i : i + 1]),
        )
        torch.testing.assert_close(together[0][i : i + 1], alone[0])
        torch.testing.assert_close(together[1][i : i + 1], alone[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_what_is_not_finite_is_never_proved(method, bad):
    model, _ = by_hand()
    with torch.no_grad():
        model[0].weight[0, 0] = bad
    network = bounds.read(model, (2,))
    box = Box(-torch.ones(2, 2), torch.ones(2, 2))
    assert not bool(bounds.certified(network, box, torch.tensor([0, 1]), method).any())
    assert not bool(torch.isnan(bounds.margins(network, box, torch.tensor([0, 1]), method)).any())


@pytest.mark.parametrize("method", METHODS)
def test_no_images_have_no_bounds(method):
    model, shape = NETWORKS["convolutions"]
    network, none = bounds.read(model, shape), torch.zeros(0, *shape)
    found = bounds.margins(network, Box(none, none), torch.zeros(0, dtype=torch.long), method)
    assert found.shape == (0, 3)


def test_an_affine_network_is_bounded_exactly_by_any_mixture():
    """x and -x on [1, 2]: the margin of the first is 2x, at least 2."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False))
    model[0].weight = nn.Parameter(torch.tensor([[1.0], [-1.0]]))
    box = Box(torch.tensor([[1.0]]), torch.tensor([[2.0]]))
    for share in (0.0, 0.5, 1.0):
        found = bounds.mixed_margins(bounds.read(model, (1,)), box, torch.tensor([0]), share)
        assert torch.allclose(found, torch.tensor([[0.0, 2.0]]))


@pytest.mark.parametrize("method", METHODS)
def test_a_network_may_end_in_an_activation(method):
    """relu(x) and relu(-x) on [-1, 2]: by hand."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU())
    model[0].weight = nn.Parameter(torch.tensor([[1.0], [-1.0]]))
    network = bounds.read(model, (1,))
    box = Box(torch.tensor([[-1.0]]), torch.tensor([[2.0]]))
    lower, upper = bounds.output_bounds(network, box, method)
    assert lower.amax() <= 0 and torch.allclose(upper, torch.tensor([[2.0, 1.0]]))


@pytest.mark.parametrize("method", METHODS)
def test_margins_are_at_least_the_difference_of_bounds(method):
    model, shape = NETWORKS["convolutions"]
    network, labels = bounds.read(model, shape), torch.tensor([0, 1, 2, 0])
    box = asymmetric(shape, 4, 5, 0.05)
    with torch.no_grad():
        found = bounds.margins(network, box, labels, method)
        lower, upper = bounds.output_bounds(network, box, method)
    loose = lower.gather(1, labels[:, None]) - upper
    own = nn.functional.one_hot(labels, 3).bool()
    assert bool((found[own] == 0).all())
    assert bool((found >= loose - 1e-5)[~own].all())


@pytest.mark.parametrize("method", METHODS[:3])
def test_gradients_reach_the_weights(method):
    model, shape = NETWORKS["convolutions"]
    network, labels = bounds.read(model, shape), torch.tensor([0, 1])
    box = asymmetric(shape, 2, 5, 0.1)
    loss = bounds.worst_case_cross_entropy(bounds.margins(network, box, labels, method), labels)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    assert all(bool(torch.isfinite(g).all()) and bool((g != 0).any()) for g in grads)


def test_chunks_do_not_change_bounds(monkeypatch):
    for model, shape in NETWORKS.values():
        box = asymmetric(shape, 3, 7, 0.1)
        network = bounds.read(model, shape)
        with torch.no_grad():
            whole = bounds.output_bounds(network, box)
            monkeypatch.setattr("suture.bounds.crown.BUDGET", 2_000)
            pieces = bounds.output_bounds(network, box)
            monkeypatch.undo()
        torch.testing.assert_close(whole, pieces)


@pytest.mark.parametrize("name", ["convolutions", "s-shaped", "residual", "tiled pools"])
def test_windows_and_dense_coefficients_give_the_same(name, monkeypatch):
    model, shape = NETWORKS[name]
    if name in ("s-shaped", "residual"):
        shape = (1, 17, 16)
    body = nn.Sequential(*list(model)[:4]) if name == "s-shaped" else model
    network, box = bounds.read(body, shape), asymmetric(shape, 2, 3, 0.1)
    with torch.no_grad():
        windows = bounds.output_bounds(network, box)
        monkeypatch.setattr("suture.bounds.coefficients.Patches.wasteful", True)
        dense = bounds.output_bounds(network, box)
    torch.testing.assert_close(windows, dense)


def test_affine_networks_have_exact_bounds_also_at_the_rim():
    """Two convolutions without an activation between them are one linear map: its rows decide."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=(2, 0)), nn.ReLU()
        )
    box = asymmetric((1, 7, 6), 2, 4, 0.3)
    with torch.no_grad():
        network = bounds.read(model, (1, 7, 6))
        lower, upper = bounds.prepare(network, box).known[2]
        start = model[:2](torch.zeros(1, 1, 7, 6)).flatten()
        unit = torch.eye(42).view(42, 1, 7, 6)
        rows = (model[:2](unit).flatten(1) - start).T
        high = (rows.clamp(min=0) @ box.upper.flatten(1).T
                + rows.clamp(max=0) @ box.lower.flatten(1).T).T + start  # fmt: skip
        low = (rows.clamp(min=0) @ box.lower.flatten(1).T
               + rows.clamp(max=0) @ box.upper.flatten(1).T).T + start  # fmt: skip
    unstable = ((low < 0) & (high > 0)).any(0)
    torch.testing.assert_close(lower.flatten(1)[:, unstable], low[:, unstable])
    torch.testing.assert_close(upper.flatten(1)[:, unstable], high[:, unstable])


def test_an_unknown_layer_is_named():
    with pytest.raises(ModelError, match="Softmax"):
        bounds.read(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Softmax(1)), (1, 2, 2))


def test_gradients_of_the_least_value_are_those_of_its_formula():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    lower = torch.rand(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    width = torch.rand(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64)

    def plain():
        upper = lower + width
        return torch.where(rows > 0, rows * lower[:, None], rows * upper[:, None]).sum(-1)

    def ours():
        return concretise(rows, torch.zeros(()).double(), lower, lower + width)

    torch.testing.assert_close(ours(), plain())
    inputs = (rows, lower, width)
    for a, b in zip(
        torch.autograd.grad((ours() * weight).sum(), inputs),
        torch.autograd.grad((plain() * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
