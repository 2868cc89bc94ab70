"""Files of the data folder, and answers in pieces."""

from __future__ import annotations

import pytest
import torch

from suture import data
from suture.errors import DataError
from suture.studies.networks import in_folder, in_pieces, network


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"nets/none\.onnx.*no such file"):
        network("none")
    (tmp_path / "verdicts.csv").touch()
    assert in_folder("verdicts.csv") == tmp_path / "verdicts.csv"
    monkeypatch.setattr(data, "folder", lambda: None)
    with pytest.raises(DataError, match="no data folder"):
        in_folder("verdicts.csv")


def test_pieces_are_put_together():
    model, images = torch.nn.Linear(3, 2), torch.rand(10, 3)
    answers = in_pieces(model, images, 4)
    assert not answers.requires_grad
    torch.testing.assert_close(answers, model(images).detach())
