"""Where the numbers come from: what a reader needs to doubt them, and to measure them again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from suture.evaluate.records import Record
from suture.report.run import RunData
from suture.report.wording import MISSING, duration

Pairs = tuple[tuple[str, str], ...]
FINISHED = ("finished", "done", "complete", "ok", None)
_LONG = ("queries",)
_SHARED = ("versions", "hardware")
# Ends a script element or a comment inside it, or breaks older parsers of JavaScript.
_UNSAFE = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class RecordEntry:
    """One record as the page lists it: a summary, and its JSON without the longest lists."""

    summary: str
    json: str


@dataclass(frozen=True)
class Provenance:
    """The run's own words on itself, every value as text, with a dash for what is missing."""

    command: str
    facts: Pairs
    parts: Pairs
    versions: Pairs
    hardware: Pairs
    records: tuple[RecordEntry, ...]
    embedded: Markup


def provenance(run: RunData) -> Provenance:
    """Command, seed, times, parts, versions, hardware, and every record."""
    info = run.info
    first = run.records[0] if run.records else None
    facts = {
        "Seed": _text(info.get("seed")),
        "Status": _text(info.get("status")),
        "Started": _text(info.get("created")),
        "Finished": _text(info.get("finished")),
        "Time": duration(info.get("seconds")),
        "Peak memory": _peak(run.records),
    }
    return Provenance(
        command=_text(info.get("command")),
        facts=tuple(facts.items()),
        parts=_pairs(info.get("parts")),
        versions=_pairs(info.get("versions") or (first.versions if first else {})),
        hardware=_pairs(info.get("hardware") or (first.hardware if first else {})),
        records=tuple(_entry(record) for record in run.records),
        embedded=script_json([record.to_dict() for record in run.records]),
    )


def is_finished(info: dict[str, Any]) -> bool:
    """Whether the run says of itself that it reached its end."""
    return info.get("status") in FINISHED


def _text(value: object) -> str:
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else json.dumps(_finite(value), ensure_ascii=False)


def _pairs(mapping: object) -> Pairs:
    if not isinstance(mapping, dict):
        return ()
    return tuple((str(name), _text(value)) for name, value in mapping.items())


def _peak(records: list[Record]) -> str:
    peak = max((record.peak_memory_mb for record in records), default=0.0)
    return f"{peak:.0f} MiB" if peak else MISSING


def _entry(record: Record) -> RecordEntry:
    data = {k: v for k, v in record.to_dict().items() if k not in _SHARED}
    for name in _LONG:
        if data[name]:
            data[name] = f"{len(data[name])} numbers, in the embedded data"
    repeat = f", repeat {record.repeat}" if record.repeat else ""
    return RecordEntry(
        summary=f"{record.subject} · {record.row}{repeat} · {record.count:g}/{record.n}",
        json=json.dumps(_finite(data), ensure_ascii=False, indent=1),
    )


def script_json(data: object) -> Markup:
    """JSON that may stand inside a ``<script>`` element: it cannot end the element."""
    raw = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup("".join(_UNSAFE.get(character, character) for character in raw))


def _finite(value: Any) -> Any:
    """The same value with infinities and NaN as text, which JSON proper does not know."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
