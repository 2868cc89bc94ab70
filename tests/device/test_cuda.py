"""Attacks, bounds, proofs and repairs on a CUDA device say what they say on the CPU.

``make gpu`` runs them where a device is; elsewhere they are skipped, and the same tests on the CPU
(``DEVICES``) only show that they are sound.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from suture import bounds
from suture.attacks import Attack
from suture.bounds import METHODS
from suture.certify import certify_images
from suture.repairs import A5Offline, Repair, repair
from suture.testing.small import digits, trained
from suture.types import Batch, Box, is_randomised
from tests.contract.test_attacks import ATTACKS
from tests.contract.test_repairs import REPAIRS

CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
on_cuda = pytest.mark.parametrize("device", [CUDA])
everywhere = pytest.mark.parametrize("device", ["cpu", CUDA])


def there(device: str) -> nn.Module:
    return copy.deepcopy(trained()).to(device)


def images(device: str, n: int) -> Batch:
    return digits().test.batch(n).to(device)


@on_cuda
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_attacks_stay_on_the_device_and_turn_as_many(attack: Attack, device: str):
    alone = attack(trained(), images("cpu", 20), generator=0)
    found = attack(there(device), images(device, 20), generator=0)
    assert found.images.device.type == device
    # Sums round otherwise there: an image at the boundary may fall on its other side.
    assert abs(int(found.success.sum()) - int(alone.success.sum())) <= 2
    assert float((found.images.cpu() - digits().test.batch(20).images).abs().max()) <= 1.0


@everywhere
@pytest.mark.parametrize("method", METHODS)
def test_bounds_are_those_of_the_cpu(method: str, device: str):
    def margins(place: str) -> torch.Tensor:
        batch = images(place, 12)
        network = bounds.read(there(place), batch.shape).to(torch.float64)
        some = batch.images.double()
        box = Box((some - 0.03).clamp(0, 1), (some + 0.03).clamp(0, 1))
        return bounds.margins(network, box, batch.labels, method).detach().cpu()

    assert torch.allclose(margins(device), margins("cpu"), rtol=1e-6, atol=1e-9)


@everywhere
def test_proofs_take_no_reduced_precision(device: str):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            found = certify_images(there(device), images(device, 24), 0.03, "crown")
    finally:
        torch.set_float32_matmul_precision(before)
    alone = certify_images(trained(), images("cpu", 24), 0.03, "crown")
    finite = alone.right & found.right
    assert int(finite.sum()) > 15
    assert torch.allclose(found.margin[finite], alone.margin[finite], rtol=1e-6, atol=1e-9)


@on_cuda
@pytest.mark.slow
@pytest.mark.parametrize("method", REPAIRS, ids=lambda m: f"{type(m).__name__}-{REPAIRS.index(m)}")
def test_repairs_stay_on_the_device(method: Repair, device: str):
    result = repair(there(device), digits().train.batch(400).to(device), method, generator=3)
    assert {p.device.type for p in result.model.parameters()} <= {device}
    test = images(device, 200)
    with torch.no_grad():
        logits = result.model(test.images)
    assert logits.device.type == device and bool(torch.isfinite(logits).all())
    right = float((logits.argmax(1) == test.labels).double().mean())
    assert right > 0.1 or is_randomised(result.model)
    if isinstance(method, A5Offline):
        assert result.images["robustified"].images.device.type == device
