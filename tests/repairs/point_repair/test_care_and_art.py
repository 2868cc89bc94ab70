"""CARE and ART: effects and scales against plain forwards, boxes and bounds against samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from suture.attacks import PGD
from suture.attacks.aigent.tail import read_tail
from suture.certify import Checker
from suture.errors import ArgumentError, ModelError
from suture.repairs import ART, CARE, repair
from suture.repairs.context import Context
from suture.repairs.fooling import fooled_images
from suture.repairs.point_repair.art import _Abstract
from suture.repairs.point_repair.causal import causal_effects, lacking, scaled_outputs
from suture.testing.small import digits, trained
from suture.types import Box


def small() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(5, 3)).double().eval()


def test_what_an_input_lacks() -> None:
    outputs = np.array([[1.0, 4.0, 2.0], [3.0, 0.0, 1.0]])
    assert lacking(outputs, np.array([0, 0])).tolist() == [3.0, -2.0]


def test_causal_effects_are_those_of_interventions() -> None:
    """Every neuron set by a hook, one level after the other."""
    model = small()
    tail = read_tail(model)
    assert tail is not None
    inputs = torch.rand(7, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    found = causal_effects(tail, inputs.flatten(1).numpy(), labels, levels=5)
    for layer, module in enumerate((model[2], model[4])):
        seen: list[torch.Tensor] = []
        hook = module.register_forward_hook(lambda _m, _i, out, to=seen: to.append(out.clone()))
        model(inputs)
        hook.remove()
        for neuron in range(seen[0].shape[1]):
            own, means = seen[0][:, neuron], []
            for level in np.linspace(own.min().item(), own.max().item(), 5):

                def do(_m: nn.Module, _i: object, out: torch.Tensor) -> torch.Tensor:
                    out = out.clone()
                    out[:, neuron] = level  # noqa: B023 - removed before the next
                    return out

                hook = module.register_forward_hook(do)
                means.append(lacking(model(inputs).detach().numpy(), labels).mean())
                hook.remove()
            effect = np.abs(np.array(means) - np.mean(means)).max()
            assert found[layer][neuron] == pytest.approx(effect, abs=1e-6)


def test_scales_are_outgoing_weights() -> None:
    model = small()
    tail = read_tail(model)
    assert tail is not None
    inputs = torch.rand(5, 1, 2, 2).double()
    scales = [np.linspace(-1, 2, 6), np.linspace(0, 1, 5)]
    first = inputs.flatten(1).numpy() @ tail.weights[0].T + tail.biases[0]
    with torch.no_grad():
        model[3].weight.mul_(torch.from_numpy(scales[0]))
        model[5].weight.mul_(torch.from_numpy(scales[1]))
    expected = model(inputs).detach().numpy()
    np.testing.assert_allclose(scaled_outputs(tail, first, scales), expected, atol=1e-12)


def test_care_scales_what_it_names_and_no_more() -> None:
    method = CARE(attack=PGD(eps=0.1, steps=5), samples=10, neurons=3, iterations=15)
    result = repair(trained(), digits().train.batch(300), method, generator=0)
    assert len(result.trace["neurons"]) == 3
    assert result.trace["cost_after"] <= result.trace["cost_before"]
    assert result.trace["right_after"] >= result.trace["right_before"] == 0
    before, after = (m[8].weight.detach() for m in (trained(), result.model))
    columns = (before != after).any(0).nonzero()[:, 0].tolist()
    assert columns and set(columns) <= {neuron for _, neuron in result.trace["neurons"]}


def test_care_needs_hidden_neurons() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ModelError, match="two fully connected layers"):
        repair(model, digits().train.batch(60), CARE(attack=PGD(eps=0.3), samples=2))
    with pytest.raises(ArgumentError, match="alpha in"):
        CARE(alpha=2.0)


def test_boxes_are_halved_and_lose_nothing() -> None:
    method = ART(attack=PGD(eps=0.2), samples=3, refine=2)
    abstract = _Abstract(method, trained(), digits().train.batch(3))
    whole = (abstract.upper - abstract.lower).flatten(1).clamp(min=1e-3).log().sum(1).exp()
    before = abstract.lacking()
    abstract.refine(before)
    halved = int((before > 0).sum().clamp(max=2))
    assert len(abstract) == 3 + halved > 3
    parts = (abstract.upper - abstract.lower).flatten(1).clamp(min=1e-3).log().sum(1).exp()
    total = torch.zeros(3).index_add_(0, abstract._ball, parts)
    torch.testing.assert_close(total, whole, rtol=1e-3, atol=0)
    assert (abstract.lower <= abstract.upper).all()


def test_what_art_calls_proved_the_checker_proves_again() -> None:
    data = digits().train.batch(300)
    method = ART(attack=PGD(eps=0.05), samples=4, epochs=30, images=300)
    result = repair(trained(), data, method, generator=0)
    found = fooled_images(method.attack, 4, trained(), data, Context.of(0))  # the same four
    assert found.clean is not None
    assert result.trace["proved"] == 4 and result.status.name == "REPAIRED"
    assert len(result.certificates) == result.trace["boxes"] >= 4
    check = Checker(result.model)
    assert all(check(one).holds for one in result.certificates)
    draws = torch.rand(50, *found.clean.images.shape, generator=torch.Generator().manual_seed(1))
    near = (found.clean.images + 0.05 * (2 * draws - 1)).clamp(0, 1)
    assert (result.model(near.flatten(0, 1)).argmax(1).view(50, 4) == found.clean.labels).all()
    for low, centre in zip(
        Box.around(found.clean.images, 0.05).lower, found.clean.images, strict=True
    ):
        inside = [
            c
            for c in result.certificates
            if (c.lower <= centre).all() and (centre <= c.upper).all()
        ]
        assert inside and min(c.lower.sub(low).abs().amax() for c in inside) < 0.1


def test_art_stops_when_there_is_nothing_left_to_prove() -> None:
    method = ART(attack=PGD(eps=0.05), samples=2, epochs=30, images=300)
    result = repair(trained(), digits().train.batch(300), method, generator=0)
    assert result.trace["epochs"] < 30 and result.trace["curve"][-1][1] == 1.0
