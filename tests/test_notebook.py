"""Results show themselves in notebooks, whatever text they hold."""

from __future__ import annotations

import torch

import suture
from suture import notebook
from suture.evaluate import Record
from suture.repairs.dare import slice_classes
from suture.repairs.defensyn.language import parse
from suture.repairs.result import RepairResult, Status
from suture.testing.small import digits, trained


def test_everything_is_escaped():
    page = notebook.facts("<b>", {"<script>": "a & b"}) + notebook.table("t", ["<"], [["<i>"]])
    assert "<script>" not in page and "<i>" not in page and "&lt;b&gt;" in page and "&amp;" in page


def test_an_attack_tells_its_counts():
    model, batch = trained(), digits().test.batch(12)
    found = suture.PGD(eps=0.3, steps=5)(model, batch, generator=0)
    right, robust = int(found.clean_right.sum()), int(found.robust.sum())
    page = found._repr_html_()
    assert f"({right}/12)" in page and f"({robust}/12)" in page


def test_a_repair_tells_how_it_ended():
    result = RepairResult(torch.nn.Identity(), Status.PARTLY, {"samples": 7}, certificates=(1, 2))
    page = result._repr_html_()
    assert "Some of the given inputs are repaired" in page and ">7<" in page and ">2<" in page


def test_a_record_tells_accuracy_interval_and_warnings():
    record = Record(
        role="undefended", kind="clean", metric="clean accuracy", protocol="none", right=3, n=4,
        seed=0, subject="mine & yours", warnings=["odd"],
    )  # fmt: skip
    page = record._repr_html_()
    assert "75.0 % [19.4–99.4] 3/4" in page and "mine &amp; yours" in page and "odd" in page


def test_a_program_tells_its_instructions():
    page = parse("v3 = v100 + 3.25; v1 = max(v7, 1)")._repr_html_()
    assert page.count("<tr>") == 3 and "v3 = v100 + 3.25" in page and "v1 = max(v7, 1" in page


def test_slices_tell_key_neurons_by_layer_and_class():
    slices = slice_classes(trained(), digits().train.batch(100), q=95.0)
    page = slices._repr_html_()
    layer = slices.graph.layers[-1]
    count = int(slices.key_neurons(3)[layer.name].sum())
    assert "q = 95 %" in page and f">{layer.name}</td>" in page and f">{count}</td>" in page
    assert page.count("<tr>") == 1 + len(slices.graph.layers)
