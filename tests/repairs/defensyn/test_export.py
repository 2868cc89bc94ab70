"""The defended classifier outside of suture: .pt2 and ONNX keep its randomness."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from suture import models
from suture.certify.export import onnx_bytes
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.rng import bits
from suture.types import is_randomised

PROGRAMS = tuple(parse(text) for text in ("v0 = 10", "v1 = v2 / v0; v1 = v1 + 9", "v2 = 10"))
IMAGES = torch.rand(64, 1, 1, 3, generator=torch.Generator().manual_seed(0))
NOISE = bits(torch.arange(64), 7)


def made(kind: str) -> nn.Module:
    head = nn.Linear(3, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
        head.bias.zero_()
    if kind in ("programs", "weighted"):
        weights = (0.25, 0.5, 0.25) if kind == "weighted" else None
        return DefendedClassifier(nn.Flatten(), head, PROGRAMS, 3, weights).eval()
    return RandomPrograms(nn.Flatten(), head, features=3, max_length=2).eval()


both = pytest.mark.parametrize("kind", ["programs", "weighted", "random"])


@both
def test_a_pt2_file_draws_and_repeats(kind: str, tmp_path: Path):
    model, batch = made(kind), torch.export.Dim("batch", min=2, max=512)
    free = torch.export.export(model, (IMAGES,), dynamic_shapes={"images": {0: batch}})
    given = torch.export.export(
        model, (IMAGES, NOISE), dynamic_shapes={"images": {0: batch}, "noise": {0: batch}}
    )
    for name, program in (("free", free), ("given", given)):
        torch.export.save(program, tmp_path / f"{name}.pt2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        opened = torch.export.load(tmp_path / "free.pt2").module()
        assert not torch.equal(opened(IMAGES), opened(IMAGES)), "two calls draw two programs"
    opened = torch.export.load(tmp_path / "given.pt2").module()
    assert torch.equal(opened(IMAGES, NOISE), opened(IMAGES, NOISE))
    assert torch.allclose(opened(IMAGES[:5], NOISE[:5]), model(IMAGES[:5], NOISE[:5]))
    assert not torch.equal(opened(IMAGES, NOISE), opened(IMAGES, NOISE.flip(0)))


@pytest.mark.slow
@both
def test_an_onnx_file_draws_and_repeats(kind: str, tmp_path: Path):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    model = made(kind)

    def session(name: str, **inputs: Tensor) -> Callable[[], Tensor]:
        path = tmp_path / f"{name}.onnx"
        torch.onnx.export(model, tuple(inputs.values()), path, input_names=list(inputs),
                          dynamo=True, verbose=False)  # fmt: skip
        opened = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        feed = {key: value.numpy() for key, value in inputs.items()}
        return lambda: torch.from_numpy(opened.run(None, feed)[0])

    free, given = session("free", images=IMAGES), session("given", images=IMAGES, noise=NOISE)
    assert not torch.equal(free(), free()), "two calls draw two programs"
    assert torch.equal(given(), given())
    assert torch.allclose(given(), model(IMAGES, NOISE), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["programs", "weighted"])
def test_an_exported_onnx_file_opens_again_and_draws_the_same_programs(kind, tmp_path: Path):
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    model = made(kind)
    (tmp_path / "m.onnx").write_bytes(onnx_bytes(model, (1, 1, 3)))
    again = models.load(tmp_path / "m.onnx", in_shape=(1, 1, 3))
    assert is_randomised(again) and is_randomised(copy.deepcopy(again))
    images = torch.rand(2000, 1, 1, 3, generator=torch.Generator().manual_seed(1))
    noise = bits(torch.arange(2000), 3)
    with torch.no_grad():
        found = again(images, noise=noise)
    assert torch.equal(found, again(images, noise=noise))
    assert not torch.equal(found, again(images, noise=noise.flip(0)))
    away = (model.each(images) - found).abs().amax(2)
    assert float(away.amin(0).max()) < 1e-4, "each image got one of the programs"
    shares = away.argmin(0).bincount(minlength=3) / 2000
    wanted = torch.tensor(model.weights or (1 / 3, 1 / 3, 1 / 3))
    assert float((shares - wanted).abs().max()) < 0.04
    kept = models.load(models.save(again, tmp_path / "bundle"))
    assert torch.equal(kept(images, noise=noise), found)
