"""What a finished run tells other tools: parameters, numbers over steps, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suture.engine import Run
from suture.evaluate import Record
from suture.report import RunData, load

_FILES = ("run.json", "recipe.yaml", "records.jsonl", "report.html")


@dataclass(frozen=True)
class Scalar:
    """A number.

    Attributes:
        name: with slashes between its parts.
        value: percent where it is an accuracy under ``accuracy/``, else as the run has it.
        step: the epoch; 0 for what is measured once.
    """

    name: str
    value: float
    step: int = 0


def opened(folder: Path) -> RunData:
    """The run, of whatever command; what it does not hold stays empty.

    Raises:
        BundleError: no run, or one that was altered.
    """
    info = Run.open(folder).info
    measured = (folder / "records.jsonl").is_file() or info.get("kind") == "repair"
    return load(folder) if measured else RunData(info)


def parameters(run: RunData) -> dict[str, str]:
    """What was typed and what it was made with, as text."""
    info = run.info
    found = {key: info.get(key) for key in ("kind", "title", "command", "seed", "status")}
    found |= {f"option.{k}": v for k, v in info.get("options", {}).items() if v is not None}
    found |= {f"part.{k}": v for k, v in info.get("parts", {}).items()}
    found |= {f"version.{k}": v for k, v in info.get("versions", {}).items()}
    return {key: str(value) for key, value in found.items() if value is not None}


def scalars(run: RunData) -> Iterator[Scalar]:
    """Every number: the curves of a training or a repair, then what was measured."""
    for curve in (*run.info.get("curves", ()), *run.told.get("curve", ())):
        for key, value in curve.items():
            if key != "epoch" and isinstance(value, int | float) and not isinstance(value, bool):
                yield Scalar(f"epoch/{key}", float(value), int(curve["epoch"]))
    for record in run.records:
        name = name_of(record)
        low, high = record.interval
        yield Scalar(f"accuracy/{name}", record.percent, record.repeat)
        yield Scalar(f"accuracy_low/{name}", low, record.repeat)
        yield Scalar(f"accuracy_high/{name}", high, record.repeat)
    if isinstance(seconds := run.info.get("seconds"), int | float):
        yield Scalar("seconds", float(seconds))


def name_of(record: Record) -> str:
    """Role, protocol and row, in letters that every tool takes."""
    return "/".join(plain(part) for part in (record.subject, record.protocol, record.row))


def plain(text: str) -> str:
    """Letters, digits and what MLflow takes besides; L∞ and ε are written out."""
    text = text.replace("ε", "eps").replace("∞", "inf").replace("×", "x").replace("=", " ")
    return " ".join(re.sub(r"[^\w .:-]", " ", text, flags=re.ASCII).split())


def files(folder: Path) -> list[Path]:
    """What is worth keeping beside the numbers, where it is there."""
    return [folder / name for name in _FILES if (folder / name).is_file()]
