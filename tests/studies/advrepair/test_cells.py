"""The AdvRepair studies on small settings: what their rows and tables must say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture import data, models
from suture.attacks import PGD
from suture.data import acasxu
from suture.errors import ArgumentError
from suture.repairs import AdvRepair, repair
from suture.rng import Stream
from suture.studies import STUDIES
from suture.studies.advrepair import measuring
from suture.studies.advrepair.acasxu import (
    SHAPE,
    AdvRepairAcasXu,
    _ascended,
    _box,
    _uniform,
    counterexamples,
)
from suture.studies.advrepair.baselines import AdvRepairBaselines
from suture.studies.advrepair.cells import AdvRepairMnist
from suture.testing.small import digits, trained
from suture.types import Batch


@pytest.mark.slow
def test_the_digits_in_place_of_mnist():
    small = AdvRepairMnist(
        networks=("digits_cnn",), data="digits", radii=(0.1,), sizes=(6,), attacked=4, epochs=3
    )
    (cell,) = small.cells()
    rows = cell.measure(Stream(0).child(cell.key))
    ours, constant, bare = rows
    assert [row["subject"] for row in rows] == ["AdvRepair", "constant patch", "undefended"]
    for row in (ours, constant):
        assert row["proved"] == row["found"] == row["rsr"] == row["rsr_n"] == 6
        assert row["rgr"] == row["rgr_n"] > 0
        assert row["checked"] == row["certificates"] == 6
        assert row["dsr_oracle"] == row["dsr_recomputed"] == 4
        # An attacker who moves the allocation too meets the network without patches.
        assert row["dgsr_recomputed"] <= bare["dgsr_recomputed"] <= row["dgsr_oracle"]
    assert bare["dsr_oracle"] == 0
    first, second = small.tables(rows)
    assert len(first.cells) == 2 and len(second.cells) == 3
    assert "oracle" in " ".join(small.notes(rows)).lower()


def test_full_measures_the_papers_sizes():
    assert len(STUDIES["advrepair-mnist"]().with_settings({"full": "yes"}).cells()) == 4 * 3 * 5
    assert len(STUDIES["advrepair-acasxu"]().cells()) == 35
    assert len(STUDIES["advrepair-features"]().with_settings({"full": "yes"}).cells()) == 10


def test_the_oracle_is_kinder_than_the_attacked_image():
    method = AdvRepair(attack=PGD(eps=0.1, steps=10), samples=8)
    model = repair(trained(), digits().train.batch(200), method, generator=0).model
    batch, stream = digits().test.batch(30), Stream(1)
    oracle = measuring.held(model, batch, (PGD(eps=0.1, steps=10),), stream)
    bare, known = measuring.left(trained(), batch, 0.1, "quick")
    moved, found = measuring.left(model, batch, 0.1, "quick", known)
    assert oracle["n"] == moved["n"] == 30
    assert moved["right"] <= bare["right"] < oracle["right"]
    assert any(one.attack.endswith("through undefended") for one in found.tries)


class Always(nn.Module):
    """The class 1, whatever it sees."""

    def forward(self, images):
        return torch.stack([images.flatten(1)[:, 0] * 0, images.flatten(1)[:, 0] * 0 + 1], 1)


def test_images_that_are_wrong_from_the_start_do_not_hold():
    batch = Batch(torch.rand(4, 1, 2, 2), torch.tensor([1, 0, 1, 1]))
    found = measuring.held(Always(), batch, (PGD(eps=0.1, steps=2),), Stream(0))
    assert found == {"right": 3, "n": 4}
    assert measuring.left(Always(), batch, 0.1, "quick")[0] == found


@pytest.mark.data
@pytest.mark.slow
def test_a_network_of_acas_xu():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    small = AdvRepairAcasXu(networks=1, given=50, others=200, cuts=4, draws=1)
    (cell,) = small.cells()
    for row in cell.measure(Stream(0).child(cell.key)):
        assert row["rsr"] == row["rsr_n"] == 50 and row["rgr"] == row["rgr_n"] == 200
        assert row["fdd"] == 0 and row["proved"] == 1 and row["still_violated_inside"] == 0
    assert cell.key == "N_2_1"


@pytest.mark.data
@pytest.mark.slow
def test_counterexamples_violate_the_property_however_they_were_found():
    if data.folder() is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    model, given = models.load(acasxu.network(2, 1), in_shape=SHAPE), acasxu.acas_property(2)
    low, high = _box(given)
    climbed = _ascended(model, given, _uniform(low, high, 2000, Stream(1)), low, high)
    for found in (counterexamples(model, given, 300, 1, Stream(3)), climbed):
        inputs, outputs = found.flatten(1).double().numpy(), model(found).detach().double().numpy()
        assert len(found) > 100
        assert given.admits(inputs).all() and given.violated_by(outputs).all()


def test_every_baseline_gets_the_inputs_of_the_main_study():
    small = {"networks": ("digits_cnn",), "data": "digits", "radii": (0.1,), "sizes": (4,)}
    study = AdvRepairBaselines(**small, epochs=3, methods=("prdnn", "aprnn", "advrepair"))
    assert study.cells()[0].key == "digits_cnn-r=0.1-n=4-prdnn"
    rows = [row for cell in study.cells() for row in cell.measure(Stream(1).child(cell.key))]
    (cell,) = AdvRepairMnist(**small, epochs=3, attacked=2).cells()
    main = cell.measure(Stream(0).child(cell.key))[0]
    for row in rows:
        assert (row["found"], row["tried"]) == (main["found"], main["tried"])
        assert row["rsr"] == row["rsr_n"] == 4
        assert row["rgr_n"] == main["rgr_n"] and row["dd_before"] == main["dd_before"]
    assert rows[2]["rgr"] == main["rgr"] and rows[2]["proved"] == main["proved"] == 4
    first, second = study.tables(rows)
    assert len(first.cells) == len(second.cells) == 3
    assert study.notes(rows)


def test_the_papers_columns_stand_beside_ours():
    row = {"network": "fnn_small", "r": 0.05, "size": 50, "method": "prdnn", "found": 50}
    row |= {"rsr": 50, "rsr_n": 50, "rgr": 1, "rgr_n": 2, "cpu_seconds": 1.0, "layers": ""}
    row |= {"dd_before": 966, "dd_after": 956, "dd_n": 1000, "status": "repaired"}
    table = AdvRepairBaselines.tables(
        [row, row | {"network": "cnn", "size": 1000, "method": "art"}]
    )[0]
    titles = [column.title for column in table.columns]
    found = dict(zip(titles, table.cells[0], strict=True))
    assert (found["paper's RSR"], found["paper's DD"], found["paper's s"]) == (
        "100.0",
        "30.9",
        "35.9",
    )
    assert found["DD"] == "1.00"
    assert dict(zip(titles, table.cells[1], strict=True))["paper's RSR"] == "–"


def test_an_unknown_baseline():
    with pytest.raises(ArgumentError, match="methods out of advrepair"):
        STUDIES["advrepair-baselines"]().with_settings({"methods": "prdnn,prdn"})
    assert len(STUDIES["advrepair-baselines"]().with_settings({"full": "yes"}).cells()) == 315
