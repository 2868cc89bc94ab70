"""Whole files of every kind that suture reads: what the fuzzer starts from."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from suture import models
from suture.attacks import Square
from suture.attacks.spread import to_plain
from suture.engine import Ledger, Run, plain
from suture.evaluate import Kind, Record, Role
from suture.evaluate.labels import attack_identity
from suture.training import TrainConfig, train

Files = dict[str, bytes]
"""Relative path → content."""


class Small(nn.Module):
    """A net with the usual layers, small enough to be opened a hundred times a second."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(12, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = torch.nn.functional.max_pool2d(self.conv(images).relu(), 4)
        return self.head(values.flatten(1))


def _kept(write: Callable[[Path], object]) -> Files:
    """What a function writes into an empty folder."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def bundle() -> Files:
    return _kept(lambda folder: models.save(models.build("digits_cnn"), folder / "bundle"))


def onnx() -> Files:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((3, 1, 3, 3)).astype(np.float32),
        "shape": np.array([0, -1], np.int64),
        "v": rng.standard_normal((48, 4)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "v", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 1, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 4))],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return {"model.onnx": model.SerializeToString()}


def pt2() -> Files:
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(Small().eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=batch)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return {"model.pt2": buffer.getvalue()}


def safetensors() -> Files:
    from safetensors.torch import save

    return {"weights.safetensors": save(dict(models.build("digits_cnn").state_dict()))}


def state_dict() -> Files:
    buffer = io.BytesIO()
    torch.save(Small().state_dict(), buffer)
    return {"weights.pt": buffer.getvalue()}


def _images(n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8), (
        np.arange(n) % 3
    ).astype(np.int64)


def npz() -> Files:
    images, labels = _images()
    plainly, packed = io.BytesIO(), io.BytesIO()
    np.savez(plainly, images=images, labels=labels)
    np.savez_compressed(packed, x_train=images / 255, y_train=labels, x_test=images / 255,
                        y_test=labels, class_names=np.array(["a", "b", "c"]))  # fmt: skip
    return {"plain.npz": plainly.getvalue(), "packed.npz": packed.getvalue()}


def idx() -> Files:
    images, labels = _images()
    pixels = struct.pack(">HBBIII", 0, 8, 3, 12, 8, 8) + images.tobytes()
    answers = struct.pack(">HBBI", 0, 8, 1, 12) + labels.astype(np.uint8).tobytes()
    return {
        "idx/train-images-idx3-ubyte": pixels,
        "idx/train-labels-idx1-ubyte": answers,
        "idx/t10k-images-idx3-ubyte.gz": gzip.compress(pixels, mtime=0),
        "idx/t10k-labels-idx1-ubyte.gz": gzip.compress(answers, mtime=0),
    }


def pictures() -> Files:
    from PIL import Image

    images, files = _images(6)[0], {}
    for number, (pixels, kind) in enumerate(zip(images, ["png", "jpg", "bmp"] * 2, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, {"jpg": "jpeg"}.get(kind, kind))
        files[f"pictures/class{number % 2}/{number}.{kind}"] = buffer.getvalue()
    return files


def run() -> Files:
    def write(folder: Path) -> None:
        options = {"model": "bundle", "data": "digits", "n": 20, "eps": 0.1, "seed": 0,
                   "batch_size": 10, "engine": "inline", "workers": None}  # fmt: skip
        made = Run.create(folder / "run", kind="audit", title="t", command="suture audit",
                          seed=0, options=options)  # fmt: skip
        record = Record(Role.UNDEFENDED, Kind.CLEAN, "clean accuracy", "none", 18, 20, 0,
                        per_class=[[9, 10], [9, 10]], queries=[1, None])  # fmt: skip
        attacked = Record(Role.UNDEFENDED, Kind.ATTACK, "robust accuracy", "paper", 3, 20, 0,
                          attack=attack_identity(Square(eps=0.1)), draws=2, expected=3.5,
                          threat={"norm": "linf", "eps": 0.1})  # fmt: skip
        made.write_records([record.to_dict(), attacked.to_dict()])
        ledger = made.ledger
        value = {"images": torch.rand(2, 1, 4, 4), "notes": ["a"], "n": 3, "x": 0.25}
        for index in range(3):
            ledger.put("rows", "w", index, value)
        ledger.fail("rows", "w", 3, {"error": "ModelError", "message": "m", "attempts": 1})

    return _kept(write)


def piece() -> Files:
    from suture.attacks import AttackResult

    result = AttackResult(torch.rand(3, 1, 4, 4), torch.ones(3) > 0, torch.arange(3),
                          torch.ones(3) > 0, torch.arange(3), torch.ones(3))  # fmt: skip
    return {"piece.safetensors": plain.to_bytes({"value": to_plain(result)})}


def history() -> Files:
    from suture.testing.small import digits

    def write(folder: Path) -> None:
        net = models.build("digits_cnn")
        train(net, digits(), config=TrainConfig(epochs=1), history=folder / "history")

    return _kept(write)


def vnnlib() -> Files:
    lines = [f"(declare-const X_{i} Real)" for i in range(3)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(2)]
    lines += [f"(assert (<= X_{i} 0.5))\n(assert (>= X_{i} -0.5))" for i in range(3)]
    lines += ["(assert (or (and (<= Y_0 Y_1)) (and (>= Y_0 3.0) (<= Y_1 (+ Y_0 1.5)))))"]
    return {"property.vnnlib": "\n".join(lines).encode()}


def manifest() -> Files:
    """JSON on its own, as hostile as JSON gets."""
    deep = "[" * 5000 + "]" * 5000
    return {"run/run.json": json.dumps({"schema": 1, "options": {"a": [1]}}).encode(),
            "run/records.jsonl": deep.encode()}  # fmt: skip


KINDS: dict[str, Callable[[], Files]] = {
    made.__name__: made
    for made in (bundle, onnx, pt2, safetensors, state_dict, npz, idx, pictures, run, piece,
                 history, vnnlib, manifest)
}  # fmt: skip


@cache
def seed(kind: str) -> Files:
    """The whole files of that kind; the same ones every time, but for what tells the time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return KINDS[kind]()


def ledger_of(folder: Path) -> Ledger:
    """The ledger among the files of kind ``run``."""
    return Ledger(folder / "checkpoints" / "pieces")
