"""A claim about a region, as a file that holds all that is needed to check it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suture.errors import ArgumentError, BundleError
from suture.models.weights import read_safetensors
from suture.provenance import library_versions
from suture.storage import write_bytes

FORMAT, VERSION = "suture-certificate", 1
SUFFIX = ".certificate"
_TENSORS = ("lower", "upper", "rows", "add")
_FACTS = {"margin": float, "method": str, "network": str, "note": dict, "versions": dict}


@dataclass(frozen=True, eq=False)
class Certificate:
    """``rows · F(x) + add > 0`` for every x with ``lower <= x <= upper``.

    Attributes:
        lower, upper: float64, shape of one input.
        rows: float64 ``(k, classes)``; ``e_label - e_j`` for all j says "the class stays".
        add: float64 ``(k,)``.
        margin: smallest lower bound that was proved, in float64.
        method: how it was proved.
        network: fingerprint of F (``suture.models.fingerprint``).
        note: anything else, ready for JSON: which patch, which label.
        versions: of the libraries that proved it.
    """

    lower: Tensor
    upper: Tensor
    rows: Tensor
    add: Tensor
    margin: float
    method: str
    network: str
    note: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=library_versions)

    def __post_init__(self) -> None:
        fits = (
            self.lower.shape == self.upper.shape
            and self.rows.ndim == 2
            and self.add.shape == self.rows.shape[:1]
            and all(getattr(self, name).dtype == torch.float64 for name in _TENSORS)
        )
        if not fits or not bool((self.lower <= self.upper).all()) or not len(self.rows):
            raise ArgumentError(
                expected="float64 lower <= upper of one shape, rows (k, classes), add (k,), k > 0",
                got=", ".join(f"{n} {tuple(getattr(self, n).shape)}" for n in _TENSORS),
                remedy="Make certificates with suture.certify.certify_box.",
            )

    def save(self, path: Path) -> Path:
        """Write the certificate as one file, with a checksum over all of it."""
        from safetensors.torch import save

        facts, tensors = self._content()
        write_bytes(path, save(tensors, {"facts": facts, "checksum": _checksum(facts, tensors)}))
        return path

    @property
    def checksum(self) -> str:
        """SHA-256 over all that it says."""
        return _checksum(*self._content())

    def _content(self) -> tuple[str, dict[str, Tensor]]:
        tensors = {name: getattr(self, name).detach().cpu().contiguous() for name in _TENSORS}
        return json.dumps(self._facts(), sort_keys=True), tensors

    def _facts(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "dtype": "float64",
            "margin": self.margin,
            "method": self.method,
            "network": self.network,
            "note": self.note,
            "versions": self.versions,
        }


def load_certificate(path: Path) -> Certificate:
    """Read a certificate.

    Raises:
        BundleError: a file that is no certificate, was altered, or is of another version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        tensors = read_safetensors(path.read_bytes(), path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        facts = json.loads(metadata["facts"])
        known = facts["format"], facts["version"]
        intact = metadata["checksum"] == _checksum(metadata["facts"], tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from None
    if known != (FORMAT, VERSION):
        raise _unreadable(path, f"format and version {known}")
    if not intact or set(tensors) != set(_TENSORS):
        raise _unreadable(path, "content that does not match its checksum")
    wrong = [key for key, kind in _FACTS.items() if not isinstance(facts.get(key), kind)]
    if wrong:
        raise _unreadable(path, f"no {wrong[0]} of the kind that belongs there")
    claim = (tensors[name] for name in _TENSORS)
    return Certificate(*claim, *(facts[key] for key in _FACTS))  # type: ignore[arg-type]


def _checksum(facts: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in _TENSORS:
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _unreadable(path: Path, got: str) -> BundleError:
    return BundleError(
        expected=f"a certificate as it was written in {path}",
        got=got,
        remedy="Copy the file again; if that does not help, prove the claim anew.",
    )


def save_all(certificates: Sequence[Certificate], folder: Path) -> list[Path]:
    """Write certificates as ``00000.certificate``, … into a folder."""
    return [
        certificate.save(Path(folder) / f"{index:05d}{SUFFIX}")
        for index, certificate in enumerate(certificates)
    ]


def files_in(folder: Path) -> list[Path]:
    """The certificates of a folder, in order of their names."""
    return sorted(Path(folder).glob(f"*{SUFFIX}"))
