"""Exported properties: read back, decided again, and run by onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from suture.certify import certify_box
from suture.certify.export import export
from suture.certify.verifying import verify
from suture.data.vnnlib import read_vnnlib


def small():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def claim(add):
    model, lower, upper = small(), torch.zeros(3).double(), torch.full((3,), 0.3).double()
    rows = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.0, -1.0]]).double()
    return model, certify_box(model, lower, upper, rows, torch.full((2,), add).double())


def test_the_property_is_the_negated_claim(tmp_path):
    model, made = claim(3.0)
    path, network = export(made, model, tmp_path, "ball")
    assert network.name == "ball.onnx"
    again = read_vnnlib(path)
    ((low, high),) = again.boxes
    assert low.tolist() == made.lower.tolist() and high.tolist() == made.upper.tolist()
    outputs = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double() * 4
    broken = ((outputs @ made.rows.T + made.add) <= 0).any(1)
    assert again.violated_by(outputs.numpy()).tolist() == broken.tolist()
    assert 0 < int(broken.sum()) < 200
    assert verify(model, (3,), again, seconds=20).answer == "unsat"


def test_the_network_computes_the_same_elsewhere(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model, made = claim(3.0)
    _, network = export(made, model, tmp_path, "ball")
    session = runtime.InferenceSession(str(network))
    x = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    with torch.no_grad():
        np.testing.assert_allclose(found, model(torch.from_numpy(x)), atol=1e-5)
