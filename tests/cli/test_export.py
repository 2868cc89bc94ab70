"""``suture export``: what is deployed computes what the model computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from suture import models
from suture.cli import main
from suture.models import import_pt2
from suture.repairs.a5 import Defence, build_robustifier, defended
from suture.testing.small import digits, trained


@pytest.fixture
def bundle(tmp_path):
    both = defended(build_robustifier("small", (1, 8, 8), Defence(0.2), seed=3), trained())
    with torch.no_grad():
        both.robustifier.body[4].weight.mul_(3000)
    models.save(both, tmp_path / "both")
    return both, tmp_path


def run(monkeypatch, capsys, *words: object) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["suture", *map(str, words)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0), capsys.readouterr().out
    return 0, capsys.readouterr().out


def test_the_robustifier_alone_as_onnx(bundle, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    both, place = bundle
    file, images = place / "r.onnx", digits().test.batch(7).images
    code, out = run(
        monkeypatch, capsys, "export", place / "both", "--to", "onnx", "--part", "robustifier",
        "--out", file, "--json",
    )  # fmt: skip
    assert code == 0 and json.loads(out)["in_shape"] == [1, 8, 8]
    session = onnxruntime.InferenceSession(file.read_bytes())
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        wanted = both.robustifier(images).numpy()
    assert np.abs(wanted - images.numpy()).max() > 0.1
    # A pixel whose value lies between two grey levels may fall either way.
    assert np.mean(np.abs(found - wanted) > 1e-5) < 0.01
    assert np.abs(found - wanted).max() <= 1.01 / 255


def test_the_suffix_names_the_format_and_outputs_have_names(bundle, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    _, place = bundle
    file = place / "whole.onnx"
    assert run(monkeypatch, capsys, "export", place / "both", "--out", file)[0] == 0
    session = onnxruntime.InferenceSession(file.read_bytes())
    assert [x.name for x in session.get_inputs()] == ["images"]
    assert [x.name for x in session.get_outputs()] == ["logits"]
    code, _ = run(monkeypatch, capsys, "export", place / "both", "--out", place / "whole.bin")
    assert code == 2 and not (place / "whole.bin").exists()


def test_the_whole_as_a_program(bundle, monkeypatch, capsys):
    both, place = bundle
    file, images = place / "both.pt2", digits().test.batch(5).images
    assert run(monkeypatch, capsys, "export", place / "both", "--to", "pt2", "--out", file)[0] == 0
    program = torch.export.load(file)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), both(images), atol=1e-3, rtol=1e-3)


def test_the_classifier_alone_comes_back(bundle, monkeypatch, capsys):
    _, place = bundle
    file, images = place / "c.pt2", digits().test.batch(5).images
    words = ("export", place / "both", "--to", "pt2", "--part", "classifier", "--out", file)
    assert run(monkeypatch, capsys, *words)[0] == 0
    with torch.no_grad():
        torch.testing.assert_close(import_pt2(file)(images), trained()(images))
    assert run(monkeypatch, capsys, *words)[0] == 2  # the file is there already
    assert run(monkeypatch, capsys, *words, "--force")[0] == 0


def test_a_part_that_is_not_there(bundle, monkeypatch, capsys):
    _, place = bundle
    words = ("export", place / "both", "--to", "onnx", "--part", "lens", "--out", place / "x")
    assert run(monkeypatch, capsys, *words)[0] == 2
    assert not (place / "x").exists()


def test_an_evaluation_says_where_its_attacks_come(bundle, monkeypatch, capsys):
    _, place = bundle
    code, _ = run(
        monkeypatch, capsys, "evaluate", place / "both", "--data", "digits", "--n", 8, "--attack",
        "pgd", "--steps", 2, "--no-curve", "--protocol", "paper", "--out", place / "run",
    )  # fmt: skip
    assert code == 0
    page = (place / "run" / "report.html").read_text(encoding="utf-8")
    assert "about those A5 promises nothing" in page
