"""What lies in a ``.pt2`` archive: the graph as JSON and tensors as plain bytes.

``torch.export.load`` unpickles parts of the archive, resolves any dotted name that a node states,
evaluates symbolic expressions and compiles guards. None of that happens here: the archive is read
as data, and anything that could only be had by unpickling is refused.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from suture.errors import ModelError

_LARGEST = 4 << 30

# The numbers that torch's export schema gives to element types.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}


@dataclass(frozen=True, eq=False)
class ProgramArchive:
    """The parts of a ``.pt2`` file: the program as plain JSON, and its tensors by name."""

    program: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def refused(got: str, expected: str = "a .pt2 file written by torch.export.save") -> ModelError:
    """The error for an archive that is not, or not only, what it should be."""
    return ModelError(
        expected=expected,
        got=got,
        remedy="Export again with torch.export.save, or convert the model to ONNX.",
    )


def read_archive(content: bytes) -> ProgramArchive:
    """The parts of a ``.pt2`` file, old format (torch 2.6, 2.7) or new, without unpickling.

    Raises:
        ModelError: if it is damaged, unknown, or holds pickled objects.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = _members(file)
        return _read(members)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
        raise refused(str(error)) from error
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise refused(
            f"an archive that cannot be read ({type(error).__name__}: {error})"
        ) from error


def _members(file: zipfile.ZipFile) -> dict[str, bytes]:
    """All members by name, without the folder that newer archives put around them."""
    if sum(info.file_size for info in file.infolist()) > _LARGEST:
        raise refused("an archive that unpacks to more than 4 GiB")
    names = [info.filename for info in file.infolist()]
    if len(set(names)) != len(names):
        raise refused("an archive with two members of one name")
    folder = names[0].split("/", 1)[0] + "/" if names and "/" in names[0] else ""
    return {name.removeprefix(folder): file.read(name) for name in names}


def _read(members: Mapping[str, bytes]) -> ProgramArchive:
    if "models/model.json" in members:
        program = json.loads(members["models/model.json"])
        parts = [_tensors(members, part) for part in ("weights", "constants")]
    elif "serialized_exported_program.json" in members:
        program = json.loads(members["serialized_exported_program.json"])
        parts = [_pickled(members, f"serialized_{p}") for p in ("state_dict", "constants")]
    else:
        raise refused("an archive without an exported program")
    return ProgramArchive(program, {**parts[0], **parts[1]})


def _tensors(members: Mapping[str, bytes], part: str) -> dict[str, Tensor]:
    """Weights or constants of the new format: a list of where each lies, and raw bytes."""
    listing = f"data/{part}/model_{part}_config.json"
    if listing not in members:
        return _pickled(members, f"data/{part}/model")
    entries = json.loads(members[listing])["config"]
    return {name: _tensor(members, f"data/{part}", entry) for name, entry in entries.items()}


def _tensor(members: Mapping[str, bytes], folder: str, entry: Mapping[str, Any]) -> Tensor:
    if entry.get("use_pickle") or entry.get("tensor_meta") is None:
        raise refused("pickled objects inside the archive", "an archive of plain tensors")
    meta, data = entry["tensor_meta"], members[f"{folder}/{entry['path_name']}"]
    storage = (
        torch.frombuffer(bytearray(data), dtype=DTYPES[meta["dtype"]])
        if data
        else (torch.empty(0, dtype=DTYPES[meta["dtype"]]))
    )
    sizes, strides = ([int(s["as_int"]) for s in meta[k]] for k in ("sizes", "strides"))
    return storage.as_strided(sizes, strides, int(meta["storage_offset"]["as_int"])).clone()


def _pickled(members: Mapping[str, bytes], stem: str) -> dict[str, Tensor]:
    """Tensors of the old format, which ``torch.load`` can read without running any code."""
    content = next((members[stem + end] for end in (".pt", ".json") if stem + end in members), b"")
    if not content:
        return {}
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refused("pickled objects inside the archive", "an archive of tensors") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise refused("pickled objects inside the archive", "an archive of tensors")
    return state
