"""What the runs were told, side by side: what differs is marked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from suture.report.comparison.compared import ComparedRun
from suture.report.wording import MISSING

_FACTS = ("kind", "command", "seed", "status", "created", "seconds")
_GROUPS = ("options", "parts", "versions", "hardware")
_EXPECTED = ("command", "created", "seconds", "out")
"""Facts that two runs never share: their difference says nothing."""


@dataclass(frozen=True)
class SettingRow:
    """One setting in every run, and whether it matters that they differ."""

    name: str
    values: tuple[str, ...]
    differs: bool


def settings(runs: Sequence[ComparedRun]) -> list[SettingRow]:
    """Every setting that some run has; those that differ first."""
    found = [_settings(run.data.info) for run in runs]
    names = list(dict.fromkeys(name for own in found for name in own))
    rows = [_row(name, [own.get(name) for own in found]) for name in names]
    return sorted(rows, key=lambda row: not row.differs)


def _settings(info: dict[str, Any]) -> dict[str, str]:
    told = {name: _text(info.get(name)) for name in _FACTS if info.get(name) is not None}
    for group in _GROUPS:
        own = info.get(group)
        if isinstance(own, dict):
            word = group.removesuffix("s")
            told |= {f"{word} {k}": _text(v) for k, v in own.items() if v is not None}
    return told


def _row(name: str, values: list[str | None]) -> SettingRow:
    aside = name.rpartition(" ")[2] in _EXPECTED
    shown = tuple(MISSING if value is None else value for value in values)
    return SettingRow(name, shown, len(set(values)) > 1 and not aside)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
