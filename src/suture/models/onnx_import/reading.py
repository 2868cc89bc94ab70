"""An ONNX file becomes a checked proto: no path outside its folder is ever followed."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suture.errors import ModelError
from suture.models.messages import first_line

_LARGEST = 2 << 30

# Image shapes of the data sets an index may name, for networks that take flat vectors.
DATASET_SHAPES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
}


@dataclass(frozen=True)
class Preprocessing:
    """What lies between a plain image and the network's input; ``None`` is not stated."""

    layout: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    in_shape: tuple[int, int, int] | None = None


def read_bytes(path: Path) -> bytes:
    """The content of a model file.

    Raises:
        ModelError: if it is missing, unreadable, empty, or above 2 GiB.
    """
    try:
        size = path.stat().st_size if path.is_file() else -1
        content = path.read_bytes() if 0 < size <= _LARGEST else b""
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not content:
        reason = {True: "no such file", False: f"a file of {size} bytes"}[size < 0]
        raise _unreadable(path, reason)
    return content


def _unreadable(path: Path, reason: str) -> ModelError:
    return ModelError(
        expected=f"a readable model file at {path}",
        got=reason,
        remedy="Check the path and its permissions; copy the file again if it is empty.",
    )


def parse(content: bytes, folder: Path | None, name: str) -> Any:
    """The ``ModelProto`` in ``content``, with external data from ``folder`` loaded.

    Raises:
        ModelError: if this is not a valid ONNX file, or its data lies outside ``folder``.
    """
    import onnx

    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        model = onnx.load_model_from_string(content)
        _load_external(model, folder, name)
        onnx.checker.check_model(model)
    except ModelError:
        raise
    except (decode_error, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(
            expected="a valid ONNX file",
            got=f"{name}: {first_line(error)}",
            remedy="Check that the file is ONNX and complete; export it again.",
        ) from error
    return model


def _load_external(model: Any, folder: Path | None, name: str) -> None:
    from onnx import external_data_helper as helper

    external = [t for t in _tensors(model.graph) if helper.uses_external_data(t)]
    for tensor in external:
        location = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        _check_inside(location, folder, name)
    for tensor in external:
        helper.load_external_data_for_tensor(tensor, str(folder))
        tensor.data_location = 0
        del tensor.external_data[:]


def _check_inside(location: str, folder: Path | None, name: str) -> None:
    if folder is not None and location:
        path = folder / location
        inside = path.resolve().is_relative_to(folder.resolve())
        if inside and path.is_file():
            return
    raise ModelError(
        expected="weights inside the ONNX file, or in a plain file in the same folder",
        got=f"{name} refers to external data at {location!r}",
        remedy="Put the data file beside the model, or export with all weights in one file.",
    )


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


def look_up(path: Path, content: bytes) -> Preprocessing | None:
    """What ``index.json`` beside the file says of it, matched by name and sha256.

    ``None`` if there is no index or it does not name the file.

    Raises:
        ModelError: if the index names the file but with another hash, or cannot be read.
    """
    index = path.parent / "index.json"
    if not index.is_file():
        return None
    entry = next((e for e in _entries(index) if Path(str(e.get("file"))).name == path.name), None)
    if entry is None:
        return None
    if entry.get("sha256") != hashlib.sha256(content).hexdigest():
        raise ModelError(
            expected=f"the {path.name} that index.json beside it describes (by sha256)",
            got="a file with another content",
            remedy="Restore the file, or move it elsewhere and pass layout=, mean=, std=.",
        )
    return Preprocessing(
        layout=entry.get("layout"),
        mean=tuple(entry["mean"]) if "mean" in entry else None,
        std=tuple(entry["std"]) if "std" in entry else None,
        in_shape=DATASET_SHAPES.get(entry.get("dataset", "")),
    )


def _entries(index: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            expected=f"a JSON list in {index}",
            got=str(error),
            remedy="Repair or remove the index.",
        ) from error
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
