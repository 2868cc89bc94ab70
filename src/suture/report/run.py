"""A run folder → plain data, checked once, so that everything after it can be a pure function."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suture.errors import BundleError
from suture.evaluate.records import Record, read_records

SCHEMA = 1
_REMEDY = "The file was altered or cut off: run the command again."
_PREDICTIONS = ("labels", "predicted_clean", "predicted_adversarial", "predicted_defended")


@dataclass(frozen=True, eq=False)
class Examples:
    """Images before and after an attack on the undefended classifier.

    Attributes:
        clean, adversarial: float32 ``(k, channels, height, width)`` in [0, 1].
        labels: int64 ``(k,)``.
        predicted_clean, predicted_adversarial: the undefended classifier's answers, ``(k,)``.
        predicted_defended: the defended one's answers to the adversarial images, or ``None``.
        class_names: one name a class, or empty.
    """

    clean: NDArray[np.float32]
    adversarial: NDArray[np.float32]
    labels: NDArray[Any]
    predicted_clean: NDArray[Any] | None
    predicted_adversarial: NDArray[Any] | None
    predicted_defended: NDArray[Any] | None
    class_names: tuple[str, ...] = ()

    def name(self, label: int) -> str:
        """A class in words, or its number."""
        known = 0 <= label < len(self.class_names)
        return self.class_names[label] if known else str(label)


@dataclass(frozen=True)
class RunData:
    """All that a report is made of.

    Attributes:
        info: the content of ``run.json``.
        records: every measurement, in order.
        examples, programs: what ``artifacts/`` held, ``None`` where it held nothing.
        told: the repair's trace, empty where nothing was repaired.
    """

    info: dict[str, Any]
    records: list[Record] = field(default_factory=list)
    examples: Examples | None = None
    programs: dict[str, Any] | None = None
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def trace(self) -> list[dict[str, Any]] | None:
        """DefEnSyn's search, length by length."""
        return self.told.get("lengths")


def load(run_folder: Path) -> RunData:
    """Read and check a run folder; only ``run.json`` must be there, and of anything but a repair
    ``records.jsonl``.

    Raises:
        BundleError: for a missing, cut off or altered file, or another schema.
    """
    folder = Path(run_folder)
    info = _read_object(folder / "run.json")
    if info.get("schema") != SCHEMA:
        raise BundleError(
            expected=f"a run folder of schema {SCHEMA}",
            got=f"schema {info.get('schema')!r} in {folder / 'run.json'}",
            remedy="Use the version of suture that wrote it, or run the command again.",
        )
    artifacts = folder / "artifacts"
    return RunData(
        info=info,
        records=_records(folder, str(info.get("kind"))),
        examples=_read_examples(artifacts / "examples.npz"),
        programs=_read_listing(artifacts / "programs.json", "programs"),
        told=_read_trace(artifacts / "trace.json"),
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(
            expected=f"a file {path}",
            got="nothing there",
            remedy="Name a run folder that a suture command has written.",
        ) from None
    except ValueError as error:
        raise BundleError(expected=f"JSON in {path}", got=str(error), remedy=_REMEDY) from None
    if not isinstance(data, dict):
        raise BundleError(
            expected=f"a JSON object in {path}", got=type(data).__name__, remedy=_REMEDY
        )
    return data


def _read_listing(path: Path, key: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    data = _read_object(path)
    _check_listing(path, key, data.get(key))
    return data


def _check_listing(path: Path, key: str, entries: Any) -> None:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BundleError(
            expected=f"a list of objects under {key!r} in {path}",
            got=type(entries).__name__,
            remedy=_REMEDY,
        )


def _records(folder: Path, kind: str) -> list[Record]:
    """A repair has measured nothing yet."""
    path = folder / "records.jsonl"
    return [] if kind == "repair" and not path.exists() else read_records(path)


_LISTS = ("lengths", "candidates", "curve", "game")


def _read_trace(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    told = _read_object(path)
    for key in _LISTS:
        if key in told:
            _check_listing(path, key, told[key])
    return told


def _read_examples(path: Path) -> Examples | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _examples(arrays)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(
            expected=f"example images and labels in {path}",
            got=str(error) or type(error).__name__,
            remedy=_REMEDY,
        ) from None


def _examples(arrays: dict[str, NDArray[Any]]) -> Examples:
    clean, adversarial = arrays["clean"], arrays["adversarial"]
    if clean.ndim != 4 or clean.shape != adversarial.shape:
        raise ValueError(f"images of shape {clean.shape} and {adversarial.shape}")
    for name in _PREDICTIONS:
        if name in arrays and arrays[name].shape != clean.shape[:1]:
            raise ValueError(f"{name} of shape {arrays[name].shape} for {len(clean)} images")
    return Examples(
        clean=clean.astype(np.float32),
        adversarial=adversarial.astype(np.float32),
        labels=arrays["labels"],
        predicted_clean=arrays.get("predicted_clean"),
        predicted_adversarial=arrays.get("predicted_adversarial"),
        predicted_defended=arrays.get("predicted_defended"),
        class_names=tuple(str(name) for name in arrays.get("class_names", ())),
    )
