"""What a run is about, in the few words of a title: model, method, data, threat."""

from __future__ import annotations

import re
from pathlib import PurePath

from suture.evaluate.records import Record, Role
from suture.report.headline import headline
from suture.report.run import RunData
from suture.report.wording import threat

Pairs = tuple[tuple[str, str], ...]
_NONE = ("none", "None", "", "model")


def about(run: RunData) -> Pairs:
    """``(name, value)`` of what is known: Model, Method, Data, Threat, Images."""
    found = {
        "Model": model_of(run),
        "Method": method_of(run),
        "Data": data_of(run),
        "Threat": threat_of(run),
    }
    return tuple((name, value) for name, value in found.items() if value not in _NONE)


def model_of(run: RunData) -> str:
    """The classifier before any repair, as it was named."""
    before = _first(run.records, Role.UNDEFENDED)
    said = [
        before.model if before else None,
        _of(run, "parts", "model"),
        _of(run, "options", "model"),
    ]
    return next((_short(one) for one in said if isinstance(one, str) and one not in _NONE), "")


def method_of(run: RunData) -> str:
    """The repair's name without its fields."""
    after = _first(run.records, Role.DEFENDED)
    said = [after.defence if after else None, _of(run, "parts", "repair")]
    whole = next((one for one in said if isinstance(one, str) and one not in _NONE), "")
    return _cut(whole.partition("(")[0])


def data_of(run: RunData) -> str:
    """The data set's name."""
    named = re.match(r"Dataset\(name='([^']*)'", str(_of(run, "parts", "data")))
    recorded = run.records[0].data if run.records else None
    said = [_of(run, "options", "data"), named and named[1], recorded, _of(run, "parts", "data")]
    return next((_short(one) for one in said if isinstance(one, str) and one not in _NONE), "")


def threat_of(run: RunData) -> str:
    """Norm and radius of the headline; of a repair what it was made against."""
    named = headline(run.records).named
    if named is not None:
        return threat(named.first.threat)
    kept = run.info.get("threat")
    return threat(kept) if isinstance(kept, dict) else ""


def _of(run: RunData, group: str, name: str) -> object:
    """An entry of ``run.json``, which may hold anything."""
    found = run.info.get(group)
    return found.get(name) if isinstance(found, dict) else None


def _first(records: list[Record], role: Role) -> Record | None:
    return next((record for record in records if record.role is role), None)


def _short(text: str) -> str:
    """The last part of a path; of a ``repr`` the name in front."""
    return _cut(PurePath(text.partition("(")[0]).name or text)


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
