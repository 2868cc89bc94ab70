"""The past asked about images that are attacked on the model as it stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from suture.attacks import FGSM, PGD
from suture.errors import ArgumentError
from suture.repairs import DARE, Status, repair
from suture.repairs.dare import Grid
from suture.repairs.dare.attacked import AttackedFit, mean_of
from suture.repairs.dare.collecting import collect, wished
from suture.repairs.dare.fitting import RegressionFit
from suture.repairs.dare.graph import sliceable, unit_values, units, values_at
from suture.repairs.dare.memory import Remembered, from_history
from suture.repairs.dare.regression import no_masks, watch
from suture.repairs.tuning import accuracy
from suture.rng import Stream
from suture.testing.small import digits
from suture.types import Batch

from .conftest import with_history

EPS = 0.1


def past() -> Remembered:
    return from_history(str(with_history()[1]), 1.0)


def fit(wishes=None, looked=None) -> AttackedFit:
    model, memory = with_history()[0], past()
    looked = digits().validation.batch(60) if looked is None else looked
    node = watch(sliceable(model, looked.shape), 1).node
    network = sliceable(model, looked.shape).network
    found = collect(model, memory, looked, node)
    mask = no_masks(10, units(network.nodes[node].shape))
    plain = RegressionFit(node, mask, found, found, None, 32)
    held = digits().validation.batch(50, start=60)
    return AttackedFit(plain, memory, node, wishes, FGSM(eps=EPS), looked, held, Stream(5))


def test_tutors_are_right_on_the_attacked_image():
    made, model = fit(), with_history()[0]
    found = made.asked(model, made.looked, Stream(3))
    assert found.batch is not None and found.wrong > 0
    original = made.looked.images[found.rows]
    moved = (found.batch.images - original).abs().amax((1, 2, 3))
    assert float(moved.max()) <= EPS + 1e-6 and float(moved.median()) > 0
    assert torch.equal(found.batch.labels, made.looked.labels[found.rows])
    with torch.no_grad():
        for index, other in enumerate(made.memory.models(model)):
            own = found.tutors == index
            if bool(own.any()):
                said = other(found.batch.images[own]).argmax(1)
                assert torch.equal(said, found.batch.labels[own])


def test_what_nobody_knows_better_stays_the_models_own():
    model, made = with_history()[0], fit()
    clean = made.plain.tuning
    values = wished(model, clean, made.looked, made.watched)
    network = sliceable(model, made.looked.shape).network
    with torch.no_grad():
        own = unit_values(values_at(network, made.looked.images, {made.watched})[made.watched])
    others = torch.ones(len(own), dtype=torch.bool)
    others[clean.rows] = False
    assert 0 < int(others.sum()) < len(own)
    assert torch.allclose(values[others], own[others], atol=1e-6)
    assert torch.equal(values[clean.rows], clean.targets)


def test_every_image_is_attacked_where_the_clean_one_was_asked():
    made = fit()
    model = with_history()[0]
    wishes = wished(model, made.plain.tuning, made.looked, made.watched)
    asking = replace(made, wishes=wishes)
    found = asking._taught(model, Stream(3))
    assert len(found) == len(made.looked) and torch.equal(found.targets, wishes)
    assert not torch.equal(found.batch.images, made.looked.images)


def test_the_score_is_accuracy_under_attacks_on_this_model():
    made, model = fit(), with_history()[0]
    pieces = [made.attack(model, piece, generator=Stream(5).child(i)).images
              for i, piece in enumerate(made.held.split(32))]  # fmt: skip
    expected = accuracy(model, Batch(torch.cat(pieces), made.held.labels), 32)
    assert made.score(model) == expected < accuracy(model, made.held, 32)


def test_mean_of_two_selves_by_hand():
    model, memory = with_history()[0], past()
    two = Remembered((1, 2), memory.states[:2], "two")
    mean = mean_of(two, torch.tensor([3, 1]), model).state_dict()
    for name, value in mean.items():
        first, second = (state[name] for state in two.states)
        if value.is_floating_point():
            assert torch.allclose(value, 0.75 * first + 0.25 * second, atol=1e-7)
    even = mean_of(two, torch.tensor([0, 0]), model).state_dict()
    name = "1.weight"
    assert torch.allclose(even[name], (two.states[0][name] + two.states[1][name]) / 2, atol=1e-7)


def tuned(asked: str):
    model, folder = with_history()
    data = Batch.concat([digits().train.batch(300), digits().validation.batch()])
    method = DARE(
        history=str(folder),
        share=1.0,
        adversary=PGD(eps=EPS, steps=3),
        asked=asked,
        grid=Grid(optimisers=("adam",), rates=(1e-3,), epochs=2, limit=30.0),
    )
    return repair(model, data, method, generator=1)


def test_seeing_attacked_images_as_clean_ones_earns_robustness():
    result = tuned("clean")
    search = result.trace["search"]
    assert result.status is Status.TUNED
    assert search["chosen"]["score"] > search["before"]["score"] + 0.02
    before, after = result.trace["attacked_before"], result.trace["attacked_after"]
    assert after["taught_wrong"] < before["taught_wrong"]
    again = tuned("clean").model.state_dict()
    assert all(torch.equal(v, again[k]) for k, v in result.model.state_dict().items())


def test_it_tells_what_the_past_knew_of_attacked_images():
    result = tuned("attacked")
    for told in (result.trace["attacked_before"], result.trace["attacked_after"]):
        assert told["asked"] == result.trace["samples"]
        assert 0 < told["taught_wrong"] <= told["taught"] <= told["asked"]
        assert 1 <= told["effective_tutors"] <= told["distinct_tutors"] <= 6
    assert len(result.trace["search"]["settings"][0]["epochs"]) == 2


def test_what_cannot_go_together():
    with pytest.raises(ArgumentError, match="adversary or judge, not both"):
        DARE(adversary=FGSM(), judge=FGSM())
    with pytest.raises(ArgumentError, match="adversary with tutors"):
        DARE(adversary=FGSM(), tutors="random")
    with pytest.raises(ArgumentError, match="asked"):
        DARE(asked="nobody")
