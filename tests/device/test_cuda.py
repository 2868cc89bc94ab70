"""Attacks, bounds, proofs and repairs on a CUDA device say what they say on the CPU.

``make gpu`` runs them where a device is; elsewhere they are skipped, and the same tests on the CPU
(``DEVICES``) only show that they are sound.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from suture import bounds, models
from suture.attacks import Attack
from suture.bounds import METHODS
from suture.bounds.crown import budget
from suture.certify import certify_images
from suture.repairs import A5Offline, A5Physical, Repair, repair
from suture.repairs.a5 import Camera, glyphs
from suture.repairs.certified_training import Ramp, Schedule
from suture.rng import Stream
from suture.testing.small import digits, trained
from suture.training.augment import augmented
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


@everywhere
def test_letters_are_trained_where_they_are(device: str):
    """PRC: letters, camera, robustifier and reader on one device."""
    pytest.importorskip("kornia")
    letters = glyphs(16)[:5]
    reader = models.build("a5_small", in_shape=(1, 16, 16), classes=62, seed=0)
    schedule = Schedule(epochs=2, batch_size=40, optimiser="adam", step_at=(), ramp=Ramp(1, 1))
    method = A5Physical(recipe="PRC", eps=0.03, body="small", schedule=schedule, draws=8, judged=2)
    result = method(reader.to(device), letters.to(device), generator=1)
    assert {p.device.type for p in result.model.parameters()} == {device}
    assert result.images["robustified"].images.device.type == device


@pytest.mark.parametrize("kind", ["none", "shift", "flip-crop", "crop-rotate"])
def test_augmented_images_never_leave_their_device(kind: str):
    """A tensor without data cannot come to the CPU."""
    images = torch.empty(6, 1, 28, 28, device="meta")
    moved = augmented(images, torch.arange(6), kind, Stream(0))
    assert moved.device.type == "meta" and moved.shape == images.shape


def test_the_noise_of_a_camera_is_drawn_where_the_picture_is():
    like = torch.empty(6, 1, 8, 8, device="meta")
    assert Camera()._noise(torch.arange(6), like).device.type == "meta"


def test_pieces_of_bounds_are_larger_where_no_cache_is():
    assert budget(torch.device("meta")) > 10 * budget(torch.device("cpu"))
