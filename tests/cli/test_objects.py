"""``suture repair --method a5-physical``: a file of pictures is a set of objects."""

from __future__ import annotations

import json

import numpy as np
import pytest

from suture.cli import main
from suture.repairs.a5 import glyphs


@pytest.mark.slow
def test_all_objects_are_changed_none_is_held_out(tmp_path, monkeypatch, capsys):
    letters = glyphs(16, "DejaVuSansMono")
    file = tmp_path / "letters.npz"
    np.savez(file, images=letters.images.numpy(), labels=letters.labels.numpy())
    words = ["suture", "repair", "a5_small", "--data", file, "--method", "a5-physical",
             "--recipe", "P", "--eps", 0.05, "--defence.eps", 0.2, "--epochs", 1,
             "--out", tmp_path / "run", "--json"]  # fmt: skip
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    told = capsys.readouterr()
    assert "all 62 images are objects" in told.err
    facts = json.loads(told.out)
    assert 0 <= facts["held_out"]["clean"] <= facts["held_out"]["certified"] <= 1
    with np.load(tmp_path / "run" / "artifacts" / "robustified.npz") as made:
        assert made["y_test"].tolist() == letters.labels.tolist()
        moved = np.abs(made["x_test"] - letters.images.numpy())
    assert 0 < moved.max() <= 0.2 + 1e-6
