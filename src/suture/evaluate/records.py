"""One record per measured number; tables, figures and pages are pure functions of records.

A record carries the counts behind its percentage, the seed, the ``repr`` of every part, versions,
hardware, seconds and peak memory: enough to doubt it, and to measure it again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from suture.errors import BundleError
from suture.evaluate.metrics import clopper_pearson
from suture.provenance import library_versions, machine

SCHEMA = 1
Protocol = Literal["none", "paper", "adaptive", "sanity"]


@dataclass(frozen=True)
class Record:
    """One measured accuracy.

    Attributes:
        subject: whose accuracy: "undefended" or "defended".
        row: what is measured, in words for a table ("PGD linf, EOT 10").
        metric: "clean accuracy" or "robust accuracy" (``evaluation`` page of the docs).
        protocol: "paper", "adaptive", "sanity", or "none" for clean accuracy.
        right, n: images classified right, out of images measured.
        seed, repeat: the root seed, and which repetition of the row this is.
        model, defence, attack: ``repr`` or reference of each part; "none" where there is none.
        threat: norm, eps, queries, knowledge (empty for clean accuracy).
        per_class: ``[right, n]`` for each class.
        queries: the attack's forwards per image at which it succeeded, ``null`` where it did not;
            images that were wrong from the start have 0.
        tags: machine-readable markers (eot draws, program index, …).
        warnings: sanity checks that this row fails, each a sentence.
        seconds, peak_memory_mb: wall-clock of the row; the process' peak resident memory so far.
    """

    subject: str
    row: str
    metric: str
    protocol: Protocol
    right: int
    n: int
    seed: int
    repeat: int = 0
    model: str = "none"
    defence: str = "none"
    attack: str = "none"
    data: str = "none"
    threat: dict[str, Any] = field(default_factory=dict)
    per_class: list[list[int]] = field(default_factory=list)
    queries: list[int | None] = field(default_factory=list)
    tags: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    versions: dict[str, str] = field(default_factory=library_versions)
    hardware: dict[str, Any] = field(default_factory=machine)
    schema: int = SCHEMA

    @property
    def percent(self) -> float:
        """The accuracy in percent."""
        return 100.0 * self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of the accuracy, in percent."""
        low, high = clopper_pearson(self.right, self.n)
        return 100.0 * low, 100.0 * high

    def to_dict(self) -> dict[str, Any]:
        """All fields plus ``percent`` and ``interval``, ready for JSON."""
        data = dataclasses.asdict(self)
        data["percent"], data["interval"] = self.percent, list(self.interval)
        return data

    @staticmethod
    def from_dict(data: Any) -> Record:
        """The inverse of ``to_dict``; refuses another schema and unknown or missing fields."""
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA:
            raise BundleError(
                expected=f"records of schema {SCHEMA}",
                got=f"schema {schema!r}",
                remedy="Evaluate again, or read them with the version that wrote them.",
            )
        known = {f.name for f in dataclasses.fields(Record)}
        extra = set(data) - known - {"percent", "interval"}
        try:
            if extra:
                raise TypeError(f"unknown fields {sorted(extra)}")
            wrong = [f.name for f in dataclasses.fields(Record) if not _fits(data, f)]
            wrong += [] if wrong or _flat(data.get("threat", {})) else ["threat"]
            wrong += [] if wrong else [k for k in ("right", "n") if abs(data.get(k, 0)) > _MOST]
            if wrong:
                raise TypeError(f"{wrong[0]}={data[wrong[0]]!r:.80}")
            return Record(**{k: v for k, v in data.items() if k in known})
        except TypeError as error:
            raise BundleError(
                expected="a complete record",
                got=str(error),
                remedy="The file was altered or cut off: evaluate again.",
            ) from None


_MOST = 2**53
"""Counts beyond this are no counts, and no float holds them."""
_KINDS: dict[str, Any] = {
    "str": str,
    "Protocol": str,
    "int": int,
    "float": (int, float),
    "dict": dict,
    "list": list,
}


def _fits(data: dict[str, Any], field: dataclasses.Field[Any]) -> bool:
    """Whether a field is left out, or has a value of its type."""
    kind = _KINDS[str(field.type).split("[", 1)[0]]
    return field.name not in data or isinstance(data[field.name], kind)


def _flat(values: dict[str, Any]) -> bool:
    """Whether a threat model has nothing below it."""
    return not any(isinstance(value, (dict, list)) for value in values.values())


def _numbered(data: Any, number: int, path: Path) -> Record:
    try:
        return Record.from_dict(data)
    except BundleError as error:
        raise BundleError(
            expected=f"{error.expected}, as record {number} of {path}",
            got=error.got,
            remedy=error.remedy,
        ) from None


def read_records(path: Path) -> list[Record]:
    """All records of a JSON-lines file, in order."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        whole = [line for line in lines if line.strip()]
        return [_numbered(json.loads(line), n, path) for n, line in enumerate(whole, start=1)]
    except FileNotFoundError:
        raise BundleError(
            expected=f"a file {path}",
            got="nothing there",
            remedy="Name a run folder that `suture evaluate` or `suture demo` has written.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            expected=f"one JSON object a line in {path}",
            got=str(error),
            remedy="The file was altered or cut off: evaluate again.",
        ) from None
