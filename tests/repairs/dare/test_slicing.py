"""Slicing: by hand, against loops over neurons, and its set of key synapses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from suture import models
from suture.errors import ArgumentError, DataError, ModelError
from suture.repairs.dare import slice_classes
from suture.repairs.dare.graph import observed, sliceable
from suture.repairs.dare.plain import plain_contributions, plain_profile
from suture.repairs.dare.slicing import largest, profile
from suture.testing.small import digits, trained
from suture.types import Batch


class Residual(nn.Module):
    """Batch norm of either sign, a shortcut with and without weights, average and max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.inner, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.project, self.deep = nn.Conv2d(4, 6, 1, 2), nn.Conv2d(4, 6, 3, 2, 1, groups=2)
        self.pool, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(6, 3)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = self.relu(self.second(self.inner(x)) + x)
        x = self.relu(self.deep(x) + self.project(x))
        return self.out(self.drop(torch.flatten(self.mean(self.pool(x)), 1)))


def shaken(model: nn.Module, seed: int) -> nn.Module:
    """Random weights, norms and statistics, drawn from a stream of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator)
                value.copy_(drawn.abs() + 0.1 if "running_var" in name else drawn)
    return model.eval()


def images(n: int, shape: tuple[int, int, int], classes: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    return Batch(torch.rand(n, *shape, generator=generator), labels)


NETS = {
    "linear": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(16, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)
        ),
        (1, 4, 4),
    ),
    "convolutional": (
        lambda: nn.Sequential(
            models.Normalise([0.2, 0.3], [0.5, 0.4]),
            nn.Conv2d(2, 4, 3, 2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 2, padding=1, groups=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(24, 5),
            nn.ReLU(),
            nn.Linear(5, 3),
        ),
        (2, 8, 8),
    ),
    "residual": (Residual, (1, 8, 8)),
}


def test_by_hand():
    """Two pixels, two hidden neurons, two classes; every number below was worked out on paper."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        model[1].bias.zero_()
        model[3].weight.copy_(torch.tensor([[1.0, -1.0], [-3.0, 1.0]]))
        model[3].bias.zero_()
    pixels = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 0.5]])
    batch = Batch(pixels.view(4, 1, 1, 2), torch.tensor([0, 0, 1, 1]))
    slices = slice_classes(model.eval(), batch, q=50)
    # Means of the pixels: all (0.375, 0.5), class 0 (0.75, 0.25); hidden doubles the second.
    # Logits of class 0: (0.25, -1.75), of all: (0.375 - 1, -1.125 + 1) = (-0.625, -0.125).
    first, second = slices.graph.layers
    torch.testing.assert_close(
        slices.delta[first.source][0], torch.tensor([0.375, -0.25], dtype=torch.float64)
    )
    torch.testing.assert_close(
        slices.delta[first.output][0], torch.tensor([0.375, -0.5], dtype=torch.float64)
    )
    # Output neuron 0: Δ = 0.25 + 0.625 = 0.875. Synapses: 0.875·1·0.375 and 0.875·(-1)·(-0.5).
    expected = torch.tensor([[0.328125, 0.4375], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(slices.contrib(second, 0), expected)
    # Hidden neurons have CONTRIB 1 each: 0.375·1·0.375; -0.5·2·(-0.25); their cross weights are 0.
    expected = torch.tensor([[0.140625, 0.0], [0.0, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(slices.contrib(first, 0), expected)
    assert slices.contributions[first.source][0].tolist() == [1.0, 1.0]
    assert slices.key(second, 0).tolist() == [[True, True], [False, False]]
    assert slices.key(first, 0).tolist() == [[True, False], [False, True]]
    assert slices.key_neurons(0)[second.name].tolist() == [True, False]


class Exact:
    """A batch in float64."""

    def __init__(self, batch: Batch, start: int = 0, end: int | None = None) -> None:
        self._batch = batch
        self.images, self.labels = batch.images[start:end].double(), batch.labels[start:end]

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, size: int) -> list[Exact]:
        return [Exact(self._batch, at, at + size) for at in range(0, len(self), size)]


@pytest.mark.parametrize("kind", NETS)
@given(seed=st.integers(0, 2**20))
@example(seed=226)  # mean values of 60 and more: float32 would round them by 7e-5
@settings(max_examples=4, deadline=None)
def test_agrees_with_loops_over_neurons(kind: str, seed: int):
    make, shape = NETS[kind]
    model, batch = shaken(make(), seed), images(9, shape, 3, seed)
    # In float64, where no mean of large values hides a mistake.
    graph, exact = sliceable(model, shape), Exact(batch)
    graph = replace(graph, network=graph.network.to(torch.float64))
    delta = plain_profile(graph, exact, 3)  # type: ignore[arg-type]
    for node, found in profile(graph, exact, 3, batch_size=4).items():  # type: ignore[arg-type]
        expected = torch.tensor(delta[node], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    slices = slice_classes(model, batch, batch_size=4)
    assert slices.delta.keys() == profile(graph, exact, 3, batch_size=4).keys()  # type: ignore[arg-type]
    # From the same Δy both must agree in every sign, and in every contribution to the last bit.
    same = {i: delta[i] if i not in slices.delta else slices.delta[i].tolist() for i in delta}
    for label in range(3):
        neurons, synapses = plain_contributions(slices.graph, same, label)
        for node in neurons:
            assert slices.contributions[node][label].tolist() == neurons[node], node
        for layer in slices.graph.layers:
            assert torch.equal(slices.contrib(layer, label), synapses[layer.name]), layer.name


def test_batch_norm_is_folded():
    """The slices are those of the network with the norm multiplied into its weights."""
    model, shape = shaken(NETS["linear"][0](), 5), NETS["linear"][1]
    folded = nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.ReLU(), nn.Linear(7, 3)).eval()
    norm = model[2]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        folded[1].weight.copy_(model[1].weight * scale[:, None])
        folded[1].bias.copy_((model[1].bias - norm.running_mean) * scale + norm.bias)
        folded[3].load_state_dict(model[4].state_dict())
    batch = images(12, shape, 3)
    ours, theirs = slice_classes(model, batch), slice_classes(folded, batch)
    for a, b in zip(ours.graph.layers, theirs.graph.layers, strict=True):
        torch.testing.assert_close(ours.contrib(a, 1), theirs.contrib(b, 1), rtol=1e-3, atol=1e-5)


def test_key_synapses_are_the_largest_of_each_layer():
    batch = digits().train.batch(300)
    slices = slice_classes(trained(), batch, q=90)
    for layer in slices.graph.layers:
        key, contrib = slices.key(layer, 4), slices.contrib(layer, 4)
        assert int((~key).sum()) == key.numel() // 10
        assert float(contrib[key].min()) >= float(contrib[~key].max())
    assert not all(torch.equal(slices.key(layer, 4), slices.key(layer, 7))
                   for layer in slices.graph.layers)  # fmt: skip


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=60), st.floats(0.5, 100))
@settings(max_examples=60, deadline=None)
def test_largest_is_a_stable_sort(values: list[int], q: float):
    drop = int((100 - q) / 100 * len(values) + 1e-9)
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    expected = [i in order[: len(values) - drop] for i in range(len(values))]
    assert largest(torch.tensor(values, dtype=torch.float64), q).tolist() == expected


def test_all_synapses_are_key_at_100():
    slices = slice_classes(trained(), digits().train.batch(200), q=100)
    assert all(bool(slices.key(layer, 0).all()) for layer in slices.graph.layers)
    assert all(bool(own.all()) for own in slices.key_neurons(0).values())


def test_key_neurons_touch_a_key_synapse():
    """Where nearly all synapses of a neuron are dropped it is still key; where all are, not."""
    slices = slice_classes(trained(), digits().train.batch(200), q=1)
    last = slices.graph.layers[-1]
    before = slices.graph.layers[-2]
    ends = slices.key(before, 3).any(1)
    begins = slices.key(last, 3).any(0)
    assert torch.equal(slices.key_neurons(3)[before.name], ends | begins)
    assert not bool((ends | begins).all())
    conv = slices.graph.layers[1]
    features = slices.key(before, 3).any(0).view(len(conv.op.weight), -1).any(1)
    expected = slices.key(conv, 3).flatten(1).any(1) | features
    assert torch.equal(slices.key_neurons(3)[conv.name], expected)


def test_a_branch_is_watched_at_its_sum():
    graph = sliceable(Residual().eval(), (1, 8, 8))
    names = [layer.name for layer in graph.layers]
    deep = graph.layers[names.index("deep.weight")]
    assert observed(graph, deep) > deep.output
    assert graph.layers[-1].source > observed(graph, deep)
    chain = sliceable(trained(), (1, 8, 8))
    assert observed(chain, chain.layers[-2]) == chain.layers[-2].output


@pytest.mark.parametrize("name", ["resnet18", "wrn28_4", "alexnet", "vgg16"])
def test_the_zoo_can_be_read(name: str):
    model = models.build(name)
    layers = sliceable(model, (3, 32, 32)).layers
    weights = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == len(weights)


def test_what_cannot_be_sliced_is_refused():
    batch = digits().train.batch(100)
    with pytest.raises(ArgumentError, match="q in"):
        slice_classes(trained(), batch, q=0)
    some = batch[(batch.labels != 6).nonzero()[:, 0]]
    with pytest.raises(DataError, match="none of class 6"):
        slice_classes(trained(), some)
    tied = nn.Sequential(nn.Flatten(), (layer := nn.Linear(64, 64)), nn.ReLU(), layer)
    with pytest.raises(ModelError, match="share"):
        slice_classes(tied.eval(), batch)
    with pytest.raises(ModelError, match="layers that"):
        slice_classes(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1)), batch)


def test_the_model_is_not_changed():
    before = models.fingerprint(trained())
    slice_classes(trained(), digits().train.batch(100))
    assert models.fingerprint(trained()) == before
