"""The repair on a real small classifier: what it changes, what it reports, how it ends."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from suture import models
from suture.attacks import PGD
from suture.errors import ArgumentError, ModelError
from suture.repairs import Status, WeightPatch, repair
from suture.repairs.weight_patch import Decoupled, LayerPatch, decoupled, tail_of, with_patch
from suture.solvers import SolverStatus
from suture.testing.small import digits, trained
from suture.types import Batch

ATTACK = PGD(eps=0.08, steps=5)


def training() -> Batch:
    return digits().train.batch(300)


def mended(**fields):
    return repair(trained(), training(), WeightPatch(attack=ATTACK, samples=60, **fields))


def test_one_matrix_changes_and_every_input_becomes_right():
    result = mended()
    assert result.status is Status.REPAIRED
    before, after = trained().state_dict(), result.model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["8.weight"]
    assert result.trace["right_before"] == 0
    assert result.trace["right_after"] == result.trace["to_repair"] > 5
    assert result.trace["kept_right_after"] >= result.trace["kept"] - 3 > 100
    (row,) = result.trace["layers"]
    change = (after["8.weight"] - before["8.weight"]).double()
    assert float(change.abs().max()) == pytest.approx(row["largest"], rel=1e-3)
    assert int((change != 0).sum()) <= row["changed"]


def test_the_table_has_a_row_for_every_layer_and_the_best_is_taken():
    result = mended(layer="best", size="l1", keep=20)
    rows = result.trace["layers"]
    assert [row["layer"] for row in rows] == [1, 2]
    best = min(rows, key=lambda row: (-row["repaired"], row["total"]))
    changed = "6.weight" if best["layer"] == 1 else "8.weight"
    assert not torch.equal(
        trained().state_dict()[changed], result.model.state_dict()[changed]
    )  # fmt: skip


def test_a_sequence_goes_on_where_the_last_layer_may_not_change_enough():
    once = mended(size="l1", max_change=0.004, keep=20)
    assert once.status is Status.PARTLY
    more = mended(size="l1", max_change=0.004, keep=20, layer="sequence")
    assert [row["layer"] for row in more.trace["layers"]] == [2, 1]
    assert more.trace["right_after"] > once.trace["right_after"]


def test_what_must_be_right_and_cannot_be_is_infeasible():
    result = mended(max_change=1e-4, hard=True)
    assert result.status is Status.INFEASIBLE
    assert models.fingerprint(result.model) == models.fingerprint(trained())


def test_no_time():
    assert mended(seconds=1e-9).status is Status.OUT_OF_TIME


def test_kept_images_have_a_price_or_are_hard():
    torn = {"layer": "2", "size": "l1", "max_change": 0.05}
    soft, firm = mended(keep_price=1e-6, **torn), mended(keep_price=float("inf"), **torn)
    assert firm.trace["kept_right_after"] == firm.trace["kept"]
    assert soft.trace["right_after"] >= firm.trace["right_after"]


def test_nothing_wrong_is_nothing_to_repair():
    batch = training()
    with torch.no_grad():
        right = Batch(batch.images, trained()(batch.images).argmax(1))
    result = repair(trained(), right, WeightPatch())
    assert result.status is Status.UNCHANGED and result.trace["to_repair"] == 0


def test_a_decoupled_network_without_change_is_the_original():
    nothing = LayerPatch(
        1,
        SolverStatus.OPTIMAL,
        torch.zeros(64, 512).numpy(),
        torch.ones(1).bool().numpy(),
        0,
        0,
        0,
        0,
        0,
    )
    images = training().images
    with torch.no_grad():
        assert torch.allclose(
            decoupled(trained(), nothing)(images), trained()(images), atol=1e-5
        )  # fmt: skip
    assert models.fingerprint(with_patch(trained(), nothing)) == models.fingerprint(trained())


def test_a_decoupled_network_keeps_the_phases_of_the_original():
    """x = 1: hidden 1·w, decided by w = 1 in the original, so a negative weight is carried on."""
    chain = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        chain[1].weight.fill_(1.0)
        chain[3].weight.copy_(torch.tensor([[1.0], [2.0]]))
        chain[3].bias.zero_()
    made = Decoupled(chain)
    with torch.no_grad():
        made.carrying[0].weight.fill_(-3.0)
    assert made(torch.ones(1, 1, 1, 1)).tolist() == [[-3.0, -6.0]]
    assert made(-torch.ones(1, 1, 1, 1)).tolist() == [[0.0, 0.0]]


def test_models_without_linear_layers_at_the_end_are_refused():
    class Odd(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :10]

    with pytest.raises(ModelError, match="linear layers"):
        tail_of(Odd())
    with pytest.raises(ModelError, match="linear layers"):
        repair(Odd(), training(), WeightPatch(attack=ATTACK, samples=20))


def test_bad_settings_are_refused():
    for wrong in (
        {"layer": "middle"},
        {"size": "l2"},
        {"margin": 0.0},
        {"max_change": -1.0},
        {"samples": 0},
        {"decoupled": True, "layer": "sequence"},
    ):
        with pytest.raises(ArgumentError, match="guide on weight patches"):
            WeightPatch(**wrong)
    with pytest.raises(ArgumentError, match="from 1 to 2"):
        mended(layer="3")


def test_the_given_model_keeps_its_weights():
    model = copy.deepcopy(trained())
    repair(model, training(), WeightPatch(attack=ATTACK, samples=30))
    assert models.fingerprint(model) == models.fingerprint(trained())


def test_the_smallest_in_any_phases_is_no_larger_and_has_a_bound():
    asked = {"layer": "1", "size": "l1", "samples": 20, "keep": 0}
    fixed = repair(trained(), training(), WeightPatch(attack=ATTACK, **asked)).trace["layers"][0]
    free = repair(
        trained(), training(), WeightPatch(attack=ATTACK, phases="free", seconds=5, **asked)
    ).trace["layers"][0]
    assert free["repaired"] >= fixed["repaired"]
    assert free["bound"] is not None and free["gap"] is not None


def test_best_says_which_layers_are_too_large_to_try():
    result = mended(layer="best", size="l1", keep=20, numbers=200)
    (skipped,) = result.trace["skipped"]
    assert skipped["layer"] == 1 and skipped["weights"] > 200 and "Not tried" in skipped["sentence"]
    assert result.trace["why"].startswith("Layer 1: Not tried")
    assert [row["layer"] for row in result.trace["layers"]] == [2]
