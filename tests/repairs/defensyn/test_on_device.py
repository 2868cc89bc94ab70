"""The Triton scorer: its code in Triton's interpreter, compiled for a GPU that is not there, and on
a GPU where there is one; against the compiled scorer of the CPU, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from suture.repairs.defensyn import on_device
from suture.repairs.defensyn.encoding import Encoded, encode
from suture.repairs.defensyn.language import parse
from suture.repairs.defensyn.on_device import DeviceProblem, problem_of
from suture.repairs.defensyn.sampling import Sampler
from suture.repairs.defensyn.scoring import HeadProblem, LinearProblem, Samples
from suture.rng import Stream
from tests.repairs.defensyn.test_scoring import agree, problem, whole_number_programs

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds on Linux only")
ROOT = Path(__file__).parents[3]


def any_programs(m: int, length: int, count: int, seed: int) -> Encoded:
    """As the search draws them, divisions among them; every fifth ends early."""
    uniform = np.full(m, 1 / m)
    drawn = Sampler(uniform, uniform, -8, 8, Stream(seed)).draw(0, count, length)
    op = drawn.op.copy()
    op[::5, (length + 1) // 2 :] = -1
    return replace(drawn, op=op)


def cases() -> list[tuple[nn.Linear, Samples, Encoded]]:
    """Ties, several tiles of samples and of classes, paddings, zero divisors, overflows."""
    head, samples = problem(12, 3, n=61, seed=0)
    ties = (head, samples, whole_number_programs(12, 3, 20, 0))
    head, samples = problem(7, 21, n=150, seed=1)
    samples.features[::7] *= torch.pi
    tiles = (head, samples, any_programs(7, 9, 10, 1))
    head, samples = problem(4, 2, n=9, seed=2)
    samples.features[0] = torch.tensor([0.0, 3e38, -3e38, 1.0])
    texts = ["v0 = v1 / v0", "v1 = v1 + v1; v0 = 1.0", "v2 = max(v1, v3)",
             "v0 = v1; v1 = v2; v2 = v0; v0 = v0 - v3"]  # fmt: skip
    return [ties, tiles, (head, samples, encode([parse(text) for text in texts]))]


def compare(device: str) -> None:
    for head, samples, programs in cases():
        moved = replace(samples, features=samples.features.to(device))
        with torch.no_grad():
            found = DeviceProblem.of(head, moved).score(programs)
        agree(found, LinearProblem.of(head, samples).score(programs))


@pytest.mark.slow
def test_the_interpreted_kernel_counts_what_the_compiled_scorer_counts():
    call = "from tests.repairs.defensyn.test_on_device import compare; compare('cpu')"
    found = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )  # fmt: skip
    if "only 0-dimensional arrays can be converted" in found.stderr:
        pytest.skip("the interpreter of this Triton (3.6) cannot count loops with this NumPy")
    assert found.returncode == 0, found.stderr


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_kernel_counts_what_the_compiled_scorer_counts():
    compare("cuda")


def test_compiled_for_a_gpu_nothing_is_contracted_and_division_rounds_to_nearest():
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from suture.repairs.defensyn import device_kernel

    kinds = {
        "*fp32": "values weight logits lc rc",
        "*i32": "labels attacked target op left right adversarial clean valid",
        "i32": "n classes length",
        "constexpr": "STEPS SAMPLES CLASSES",
    }
    of = {name: kind for kind, names in kinds.items() for name in names.split()}
    names = device_kernel.score.arg_names
    sizes = {"STEPS": 16, "SAMPLES": 128, "CLASSES": 16}
    source = ASTSource(
        device_kernel.score,
        {name: of[name] for name in names},
        {(names.index(name),): size for name, size in sizes.items()},
    )
    made = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}
    )
    text = made.asm["ptx"]
    assert "fma." not in text
    assert "div.rn.f32" in text
    assert "atom." not in text
    assert len(made.asm["cubin"]) > 0


def test_linear_heads_are_scored_where_their_features_lie(monkeypatch: pytest.MonkeyPatch):
    head, samples = problem(5, 3, n=8, seed=0)
    assert isinstance(problem_of(head, head, samples), LinearProblem)
    assert isinstance(problem_of(nn.Sequential(head, nn.ReLU()), None, samples), HeadProblem)
    asked = []
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda _: True))
    monkeypatch.setattr(on_device.DeviceProblem, "of", lambda *given: asked.append(given))
    problem_of(head, head, samples)
    assert len(asked) == 1
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert isinstance(problem_of(head, head, samples), LinearProblem)
