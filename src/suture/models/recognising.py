"""What a file is that is no model suture opens, and what to do with it; nothing is unpickled."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOST = 64 << 20
_STORAGES = ("Storage", "Tensor", "dtype", "Size", "_rebuild_parameter", "_rebuild_tensor")
OTHERS = {
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".hdf5": "a Keras file",
    ".tflite": "a TensorFlow Lite file",
    ".pb": "a TensorFlow graph",
    ".mlmodel": "a Core ML model",
    ".joblib": "a pickle of scikit-learn's kind",
    ".pkl": "a pickle",
    ".pickle": "a pickle",
}


def is_program(path: Path) -> bool:
    """Whether a file is an archive that ``torch.export.save`` wrote, whatever its name."""
    names = _members(path)
    ends = ("models/model.json", "serialized_exported_program.json")
    return any(name.endswith(ends) for name in names)


def advice(path: Path) -> tuple[str, str]:
    """``(what it is, what to do)`` for a file that is given as a model."""
    names = _members(path)
    if any("/code/" in name or name.startswith("code/") for name in names):
        return (
            f"{path}, a TorchScript archive, which holds code",
            "In the program that has the network: torch.export.save, torch.onnx.export, or "
            "suture.save(suture.wrap(net, in_shape=(c, h, w)), folder).",
        )
    if path.suffix == ".safetensors":
        return f"{path}, weights alone", _weights(path)
    whole = pickled_class(path)
    if whole is not None:
        return whole_module(path, whole)
    if path.suffix in OTHERS:
        return f"{path}, {OTHERS[path.suffix]}", _ELSEWHERE
    if any(name.endswith("data.pkl") for name in names):
        return f"{path}, weights alone (a state dict)", _weights(path)
    kind = f"a {path.suffix} file" if path.suffix else "a file without suffix"
    return f"{path}, {kind}", "Weights alone go to --weights; name the architecture first."


_ELSEWHERE = (
    "Export it to ONNX (tf2onnx, skl2onnx, coremltools) and give the .onnx file; pickles are "
    "never opened."
)


def _weights(path: Path) -> str:
    return (
        f"Name the architecture and give them as --weights {path}: a zoo name, timm:NAME, "
        "torchvision:NAME, or module:factory with --trust-code."
    )


def whole_module(path: Path, name: str) -> tuple[str, str]:
    """``(what it is, what to do)`` for a pickle of a whole module of that class."""
    return (
        f"{path}, a whole module pickled by torch.save (class {name})",
        "Opening it would run what the file says. In the program that has the class: "
        "suture.save(suture.wrap(net, in_shape=(c, h, w)), folder), torch.export.save, or "
        "torch.save(net.state_dict(), path) with --weights.",
    )


def pickled_class(path: Path) -> str | None:
    """The first class in a file's pickle that weights alone would not have; ``None`` for none.

    The pickle's opcodes are read, none is carried out.
    """
    for found in _globals(path):
        module, _, name = found.partition(" ")
        if not _is_plain(module, name):
            return f"{module}.{name}"
    return None


def _is_plain(module: str, name: str) -> bool:
    top = module.split(".")[0]
    if top == "collections" and name == "OrderedDict":
        return True
    return top == "torch" and (
        module in ("torch._utils", "torch.serialization") or name.endswith(_STORAGES)
    )


def _globals(path: Path) -> Iterator[str]:
    """``module name`` of everything that a pickle would import."""
    content = _pickle(path)
    texts: list[str] = []
    with suppress(Exception):  # whatever a damaged file makes of the opcodes
        for code, value, _ in pickletools.genops(io.BytesIO(content)):
            if code.name == "GLOBAL":
                yield str(value)
            elif code.name == "STACK_GLOBAL" and len(texts) >= 2:
                yield " ".join(texts[-2:])
            elif isinstance(value, str):
                texts.append(value)


def _pickle(path: Path) -> bytes:
    """The bytes of the pickle in a file of torch's new or old kind."""
    names = [name for name in _members(path) if name.endswith("data.pkl")]
    with suppress(OSError, zipfile.BadZipFile, KeyError, NotImplementedError, ValueError):
        if names:
            with zipfile.ZipFile(path) as file, file.open(names[0]) as member:
                return member.read(_MOST)
        with path.open("rb") as plain:
            return _after_magic(plain.read(_MOST))
    return b""


def _after_magic(content: bytes) -> bytes:
    """torch's old format puts three small pickles (magic, version, machine) before the object."""
    file = io.BytesIO(content)
    if content[:1] != b"\x80":
        return b""
    with suppress(Exception):
        for _ in range(3):
            start = file.tell()
            codes = [code.name for code, _, _ in pickletools.genops(file)]
            if any(name in ("GLOBAL", "STACK_GLOBAL") for name in codes):
                return content[start:]
        return content[file.tell() :]
    return content


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return []
