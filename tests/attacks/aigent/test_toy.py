"""The paper's toy network as an attack, by hand numbers; the parts against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from suture import data
from suture.attacks import AIGENT
from suture.attacks.aigent import SearchOutcome
from suture.attacks.aigent import imitate as imitating
from suture.attacks.aigent.bounding import class_rows, middle_rows
from suture.attacks.aigent.network import LayeredNetwork
from suture.attacks.aigent.pixelwise import many_at_once
from suture.attacks.aigent.program import InputProgram, PixelMoves, SmallestChange
from suture.attacks.aigent.region import property_rows, step
from suture.attacks.aigent.tail import read_chain, read_tail
from suture.attacks.aigent.task import Settings, TargetSearch
from suture.attacks.aigent.tidy import fewer, smaller
from suture.errors import ArgumentError, ModelError
from suture.solvers import SolverStatus
from suture.testing.small import trained
from suture.types import Batch


def mlp(*weights: list[list[float]], shape: tuple[int, ...] = ()) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for weight in weights:
        made = nn.Linear(len(weight[0]), len(weight), bias=False)
        with torch.no_grad():
            made.weight.copy_(torch.tensor(weight))
        layers += [made, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def toy() -> nn.Sequential:
    """Fig. 1 of the paper: ⟨0.5, 0.5⟩ → ⟨1, 0.5⟩ → ⟨3.5, 1.5⟩ → ⟨-5, -6.5⟩."""
    return mlp([[1, 1], [-1, 2]], [[2, 3], [1, 1]], [[2, -8], [-4, 5]])


HALF = Batch(torch.full((1, 1, 1, 2), 0.5), torch.tensor([0]))


def test_the_worked_example():
    model = toy()
    with torch.no_grad():
        assert model(HALF.images).tolist() == [[-5.0, -6.5]]
        paper = torch.tensor([[[[1 / 12, 1 / 24]]]])
        assert model(paper)[0].tolist() == pytest.approx([-0.5, -0.375], abs=1e-5)
    for polish in (0, 4):
        result = AIGENT(max_change=0.5, polish=polish)(model, HALF)
        change = result.images - HALF.images
        assert result.success.all()
        with torch.no_grad():
            assert float((model(result.images) * torch.tensor([-1.0, 1.0])).sum()) > 0
        assert float(change.abs().max()) <= 0.5 + 1e-6
    assert float(change.abs().max()) < 11 / 24, "the paper's input moves by 11/24"


def test_the_input_imitates_the_patch_of_the_first_layer():
    """z₁ of the found input meets the targets that the chain gives the first layer."""
    network = LayeredNetwork(toy())
    task = TargetSearch(network, HALF.images[0].double().numpy(), 0, 1, True, Settings())
    image = imitating.imitate(task)
    assert image is not None and task.fooled(image)
    assert image.min() >= 0 and image.max() <= 1
    assert task.chain is not None and task.chain.status is SolverStatus.OPTIMAL
    assert task.chain.errs and task.chain.imitates
    assert [layer for layer, _, _ in task.chain.layers] == [2, 1]
    assert all(size > 0 and missed == 0 for _, size, missed in task.chain.layers)


def test_no_adversarial_input_within_a_small_change():
    """o₂ - o₁ = -6 x₃ + 13 x₄ is linear around the input; 0.05 is not enough, as a grid shows."""
    grid = torch.linspace(0.45, 0.55, 41)
    points = torch.cartesian_prod(grid, grid).reshape(-1, 1, 1, 2)
    with torch.no_grad():
        assert (toy()(points).argmax(1) == 0).all()
    (finding,) = AIGENT(max_change=0.05).findings(toy(), HALF)
    assert finding.outcome is SearchOutcome.NONE and finding.pixels == 0
    assert not AIGENT(max_change=0.05)(toy(), HALF).success.any()


def linear(rows: np.ndarray, bias: np.ndarray) -> nn.Sequential:
    layer = nn.Linear(rows.shape[1], len(rows))
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rows).float())
        layer.bias.copy_(torch.from_numpy(bias).float())
    return nn.Sequential(nn.Flatten(), layer)


def fewest(model: nn.Module, image: torch.Tensor, label: int, margin: float) -> int:
    """Pixels needed on a linear model with two classes: every subset moved to its corners."""
    weight = model[1].weight.detach()[1 - label] - model[1].weight.detach()[label]
    flat = image.flatten()
    best = torch.where(weight > 0, 1 - flat, -flat) * weight
    with torch.no_grad():
        logits = model(image[None])[0]
    gap = float(logits[label] - logits[1 - label])
    for count in range(1, len(flat) + 1):
        for chosen in itertools.combinations(range(len(flat)), count):
            if float(best[list(chosen)].sum()) >= gap + margin:
                return count
    return len(flat) + 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["lp", "milp"]))
@example(299, "lp")
def test_a_linear_model_needs_as_few_pixels_as_enumeration_says(seed: int, method: str):
    random = np.random.default_rng(seed)
    model = linear(random.normal(size=(2, 6)), random.normal(size=2))
    image = torch.from_numpy(random.uniform(size=(1, 2, 3))).float()
    with torch.no_grad():
        label = int(model(image[None]).argmax())
    # The program asks for a margin of 1e-3; what float32 leaves of it is accepted from half on.
    least, most = (fewest(model, image, label, margin) for margin in (5e-4, 1e-3))
    batch = Batch(image[None], torch.tensor([label]))
    (finding,) = AIGENT(method=method, patches=False).findings(model, batch)
    if finding.outcome is SearchOutcome.NONE:
        assert most > 6
    else:
        assert finding.outcome is SearchOutcome.FOUND and least <= finding.pixels <= most


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_programs_optimum_is_that_of_enumeration(seed: int, together: bool):
    """min Σ M on three rows, by trying every set of pixels at every corner of a fine grid."""
    random = np.random.default_rng(seed)
    clean = random.uniform(size=(2, 1, 2))
    gradients = random.normal(size=(2, 2, 1, 2))
    moves = PixelMoves.of(clean, gradients[0], 1.0, together)
    program = InputProgram(moves, clean)
    least = random.uniform(0, 0.8, size=2)
    program.add(gradients, np.zeros(2), least)
    exact, relaxed = program.exact("highs", None), program.relaxed("highs", None)
    columns = moves.columns(gradients)
    best = np.inf
    steps = np.linspace(0, 1, 6)
    pixels = moves.pixels
    options = [(u, v) for u in steps for v in steps if u + v <= 1 + 1e-9]
    for count in range(pixels + 1):
        for chosen in itertools.combinations(range(pixels), count):
            for parts in itertools.product(options, repeat=count):
                x = np.zeros(2 * pixels)
                for place, (u, v) in zip(chosen, parts, strict=True):
                    x[place], x[pixels + place] = u, v
                if (columns @ x >= least).all():
                    best = min(best, count)
            if best <= count or count > 2:
                break
    if exact.status is SolverStatus.OPTIMAL:
        assert exact.incumbent <= best + 1e-6
        assert relaxed.incumbent <= exact.incumbent + 1e-6
        assert exact.bound <= exact.incumbent + 1e-6 and exact.gap < 1e-5
        effect = np.tensordot(gradients, program.image(exact) - clean, axes=3)
        assert (effect >= least - 1e-5).all()
        differ = program.image(exact) != clean
        used = differ.any(0).sum() if together else differ.sum()
        assert used == round(exact.incumbent)
    else:
        assert best == np.inf


def test_moves_stay_in_the_unit_box():
    clean = np.array([[[0.2, 0.9]]])
    moves = PixelMoves.of(clean, np.array([[[1.0, -1.0]]]), 0.5, True)
    assert moves.towards == pytest.approx(np.array([[[0.5, -0.5]]]))
    assert moves.away == pytest.approx(np.array([[[-0.2, 0.1]]]))
    image = moves.image(np.array([1.0, 0.0, 0.0, 1.0]))
    assert image == pytest.approx(np.array([[[0.7, 1.0]]]))


def test_the_smallest_largest_change_has_a_closed_form():
    """One row with coefficients 3 and 1, gap 0.8: |δ| = 0.8 / 4."""
    clean = np.full((1, 1, 2), 0.5)
    gradients = np.array([[[[3.0, -1.0]]]])
    moves = PixelMoves.of(clean, gradients[0], 1.0, True)
    program = SmallestChange(moves, clean, np.ones((1, 1, 2), bool), "highs")
    program.add(gradients, np.zeros(1), np.array([0.8]))
    assert program.solved(None) == pytest.approx(np.array([[[0.7, 0.3]]]))
    program.add(np.array([[[[0.0, 1.0]]]]), np.zeros(1), np.array([-0.1]))
    assert program.solved(None) == pytest.approx(np.array([[[0.5 + 0.7 / 3, 0.4]]]))


def test_rows_are_derivatives_in_the_phases_of_the_point():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(),
        nn.Linear(6, 3),
    )  # fmt: skip
    network = LayeredNetwork(model)
    point = np.random.default_rng(0).uniform(size=(2, 5, 5))
    here = network.at(point)
    assert network.tail is not None and len(network.tail) == 2
    step_ = 1e-6
    for of, name in ((here.logits, "logits"), (here.units, "units"), (here.first, "first")):
        rows = here.rows(of, np.eye(len(of))[:3])
        for place in ((0, 1, 1), (1, 2, 3)):
            moved = point.copy()
            moved[place] += step_
            after = getattr(network.look(moved), name).numpy()
            slope = (after - here.values(of))[:3] / step_
            assert rows[(slice(None), *place)] == pytest.approx(slope, abs=1e-4)


def test_a_chain_is_followed_as_hooks_see_it():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 6), nn.ReLU(),
        nn.Linear(6, 3),
    )  # fmt: skip
    network, image = LayeredNetwork(model), np.random.default_rng(0).uniform(size=(2, 5, 5))
    assert network._chain is not None
    fast = network.at(image)
    network._chain = None
    slow = network.at(image)
    for name in ("logits", "units", "first", "entry"):
        ours, theirs = getattr(fast, name), getattr(slow, name)
        assert torch.equal(ours, theirs), name
        if name != "entry":
            weights = np.random.default_rng(1).normal(size=(2, len(ours)))
            assert np.array_equal(fast.rows(ours, weights), slow.rows(theirs, weights)), name
    assert network.rough(image[None])[0] == pytest.approx(slow.values(slow.logits), abs=1e-5)


def test_a_model_that_is_no_plain_chain_is_watched():
    class Doubled(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(images)

    hooked = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert read_chain(hooked) is not None
    hooked[1].register_forward_hook(lambda *_: None)
    hidden = nn.Sequential(nn.Flatten(), nn.TransformerEncoderLayer(4, 1, 4, activation=nn.ReLU()))
    for model in (hooked, hidden, Doubled(nn.ReLU()), nn.ReLU()):
        assert read_chain(model) is None


def test_the_tail_is_read_to_the_first_layer_that_is_not_linear():
    deep = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten()),
        nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 3)),
    )
    tail = read_tail(deep)
    assert tail is not None and [w.shape for w in tail.weights] == [(4, 8), (3, 4)]
    assert read_tail(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) is None
    assert read_tail(nn.Conv2d(1, 1, 1)) is None
    smooth = read_tail(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2)))
    assert smooth is not None and len(smooth) == 1


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.GELU])
def test_other_activations_are_followed_by_their_tangents(activation):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 12), activation(), nn.Linear(12, 8), activation(),
        nn.Linear(8, 3),
    )  # fmt: skip
    images = torch.rand(12, 1, 4, 4)
    with torch.no_grad():
        labels = model(images).argmax(1)
    if len(labels.unique()) < 2:
        labels = labels.clone()
    result = AIGENT(classes=2)(model, Batch(images, labels))
    with torch.no_grad():
        assert torch.equal(result.success, model(result.images).argmax(1) != labels)


def test_a_dead_first_layer_is_left_by_a_leaking_one():
    """Every hidden unit is inactive at the input: no phase of it leads anywhere."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
        model[1].bias.fill_(-0.6)
        model[3].weight.copy_(torch.tensor([[0.0, 0.0], [10.0, 0.0]]))
        model[3].bias.copy_(torch.tensor([1.0, 0.0]))
    batch = Batch(torch.full((1, 1, 1, 2), 0.3), torch.tensor([0]))
    (finding,) = AIGENT().findings(model, batch)
    assert finding.outcome is SearchOutcome.FOUND and finding.pixels == 1


def test_pixels_that_are_not_needed_go_back():
    """z₁ - z₀ = 3 a + b + c/2 - 2: with everything at 1 only a is needed."""
    rows = np.array([[0.0, 0.0, 0.0], [3.0, 1.0, 0.5]])
    network = LayeredNetwork(linear(rows, np.array([2.0, 0.0])))
    task = TargetSearch(network, np.zeros((1, 1, 3)), 0, 1, True, Settings())
    assert fewer(task, np.ones((1, 1, 3))).tolist() == [[[1.0, 0.0, 0.0]]]
    least = smaller(task, np.array([[[1.0, 0.0, 0.0]]]))
    assert least[0, 0, 0] == pytest.approx(2 / 3, abs=2e-3)


def test_violated_phases_become_rows():
    """From the clean phases alone the program overshoots; with rows it finds the way."""
    network = LayeredNetwork(toy())
    clean = HALF.images[0].double().numpy()
    task = TargetSearch(network, clean, 0, 1, True, Settings(repairs=8))
    here = network.at(clean)
    gradients, values = property_rows(task, here)
    assert values[0] == pytest.approx(-1.5)
    assert gradients[0].shape == (1, 1, 2)
    image = step(task, clean)
    assert image is not None and task.programs >= 1


def test_linear_bounds_on_a_box_without_switches_are_the_phases():
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 6), nn.ReLU(), nn.Linear(6, 3)
    )
    network = LayeredNetwork(model)
    base = np.random.default_rng(1).uniform(0.2, 0.8, size=(1, 4, 4))
    here = network.at(base)
    weights = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]])
    gradients, values = middle_rows(network, base, 1e-9, weights)
    assert gradients == pytest.approx(here.rows(here.logits, weights), abs=1e-6)
    assert values == pytest.approx(weights @ here.values(here.logits), abs=1e-6)


def test_linear_bounds_lie_around_their_middle_line():
    """No sampled value is further from the line than the sum of what the two bounds allow."""
    model = mlp([[1.0, -1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, -1.0]])
    network, base, radius = LayeredNetwork(model), np.full((1, 1, 2), 0.5), 0.1
    gradients, values = middle_rows(network, base, radius, np.array([[1.0, 0.0]]))
    # ReLU(x - y) with x - y in ±0.2 lies between t·d and d / 2 + 0.1 with t = 0 (or 1).
    for x, y in itertools.product(np.linspace(0.4, 0.6, 9), repeat=2):
        line = values[0] + gradients[0, 0, 0] @ np.array([x - 0.5, y - 0.5])
        true = max(x - y, 0.0) + x + y
        assert abs(line - true) <= 0.1 + 1e-9


def test_linear_bounds_find_adversarial_inputs_too():
    result = AIGENT(patches=False, bounds=0.1, max_change=0.5)(toy(), HALF)
    assert result.success.all()


def test_bad_settings_are_refused():
    for wrong in (
        {"method": "qp"}, {"channels": "both"}, {"solver": "cplex"}, {"margin": 0.0},
        {"max_change": 0.0}, {"bounds": -1.0}, {"classes": 0}, {"workers": 0}, {"phases": 0},
        {"norm": "linf"},
    ):  # fmt: skip
        with pytest.raises(ArgumentError):
            AIGENT(**wrong)


def test_a_model_that_cannot_run_in_float64_is_refused():
    class Half(nn.Module):
        def forward(self, images):
            return images.flatten(1) @ torch.ones(4, 3, dtype=torch.float32)

    with pytest.raises(ModelError, match="float64"):
        AIGENT().findings(Half(), Batch(torch.rand(1, 1, 2, 2), torch.tensor([0])))


def test_the_notes_say_what_became_of_the_patches():
    (note,) = AIGENT(max_change=0.5)(toy(), HALF).notes
    assert note.startswith("AIGENT, patches: 1 of 1 chains meet every target")


@pytest.mark.parametrize("patches", [True, False])
def test_only_salient_pixels_move(patches: bool):
    """A linear model: pixels help by their weight, and three of them are needed."""
    gains = torch.tensor([0.1, 0.9, 0.2, 0.8, 0.7, 0.3])
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros(6), gains]))
        model[1].bias.copy_(torch.tensor([2.0, 0.0]))
    batch = Batch(torch.zeros(1, 1, 2, 3), torch.tensor([0]))
    attack = AIGENT(salient=3, patches=patches)
    result = attack(model, batch)
    assert result.success.all()
    assert result.images[0].flatten().nonzero()[:, 0].tolist() == [1, 3, 4]
    for salient, found in ((2, False), (5, True)):
        few = AIGENT(salient=salient, patches=patches)(model, batch)
        assert bool(few.success.all()) is found
        moved = few.images[0].flatten().nonzero()[:, 0].tolist()
        assert set(moved) <= {1, 3, 4, 5, 2} and len(moved) <= salient


def wide_model() -> nn.Sequential:
    """Two classes of 400 pixels: the second wins once 230 of them are white."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.zeros(400), torch.ones(400)]))
        model[1].bias.copy_(torch.tensor([229.5, 0.0]))
    return model


def test_many_pixels_at_once_double_until_the_network_gives_in():
    clean = np.zeros((1, 20, 20))
    task = TargetSearch(LayeredNetwork(wide_model()), clean, 0, 1, True, Settings())
    image = many_at_once(task, 400.0)
    assert image is not None and task.fooled(image) and task.count(image) == 256
    assert many_at_once(task, 200.0) is None


def test_very_many_pixels_go_back_by_shares():
    clean = np.zeros((1, 20, 20))
    task = TargetSearch(LayeredNetwork(wide_model()), clean, 0, 1, True, Settings())
    image = np.where(np.arange(400).reshape(1, 20, 20) < 390, 1.0, 0.0)
    image.flat[:100] = 0.1
    thinned = fewer(task, image)
    assert task.fooled(thinned) and 230 <= task.count(thinned) < 390
    assert not (thinned.flat[:100] == 0.1).all()


def test_single_precision_finds_what_double_finds():
    model, batch = trained(), data.load("digits").test.batch(6)
    double = AIGENT()(model, batch)
    single = AIGENT(precision="single")(model, batch)
    assert torch.equal(double.success, single.success) and bool(single.success.any())


def test_bounds_a_class_are_made_once():
    model, digits = trained(), data.load("digits")
    attack = AIGENT(patches=False, bounds=0.05)
    batch = digits.test.batch(6)
    found = attack.findings(model, batch, references=digits.train.batch(200))
    assert all(one.outcome is SearchOutcome.FOUND for one in found)
    network = LayeredNetwork(model)
    network.centres[3] = np.full(digits.in_shape, 0.5)
    weights = np.eye(10)[:1] - np.eye(10)[3:4]
    base = digits.test.images[0].double().numpy()
    once = class_rows(network, 3, 0.05, weights, base)
    again = class_rows(network, 3, 0.05, weights, base)
    assert once[0] is again[0] and len(network.forms) == 1
    gradients, values = middle_rows(network, network.centres[3], 0.05, weights)
    moved = values + np.tensordot(gradients, base - network.centres[3], axes=3)
    assert np.allclose(once[1], moved)


def test_a_time_limit_ends_guesses_too():
    clean = np.zeros((1, 20, 20))
    task = TargetSearch(LayeredNetwork(wide_model()), clean, 0, 1, True, Settings(seconds=1e-9))
    assert task.late and (task.guessed(np.zeros((3, 1, 20, 20))) == -np.inf).all()
    rich = TargetSearch(LayeredNetwork(wide_model()), clean, 0, 1, True, Settings(seconds=1e9))
    free = TargetSearch(LayeredNetwork(wide_model()), clean, 0, 1, True, Settings())
    images = np.random.default_rng(0).uniform(size=(19, 1, 20, 20))
    assert rich.guessed(images) == pytest.approx(free.guessed(images))


def test_a_search_that_runs_out_of_time_says_so():
    model, batch = trained(), data.load("digits").test.batch(2)
    found = AIGENT(seconds=1e-6).findings(model, batch)
    assert {one.outcome for one in found} == {SearchOutcome.OUT_OF_TIME}
