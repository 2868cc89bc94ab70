"""``suture runs``: list, show, watch, diff and remove run folders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from suture.cli.common import Json, emit
from suture.engine import Run
from suture.engine.runs import FINISHED
from suture.engine.shelf import how_far, listed, runs_below
from suture.evaluate import Record, read_records

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Look at run folders, follow, compare and remove them.",
)
Folder = Annotated[Path, typer.Argument(help="A run folder.")]
_FACTS = (
    "kind",
    "title",
    "command",
    "seed",
    "created",
    "finished",
    "resumed",
    "seconds",
    "outcome",
)


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Where to look, two folders deep.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """All runs below a folder: what, when, how far.

    Example: suture runs list
    """
    runs = sorted(runs_below(folder), key=lambda run: str(run.info.get("created")))
    rows = [listed(run) for run in runs]
    emit(as_json, {"runs": rows}, _table(rows) if rows else f"no runs in {folder}")


@app.command()
def show(run: Folder, as_json: Json = False) -> None:
    """What a run did, with what, and where it stands; pieces that failed, with their errors.

    Example: suture runs show runs/repaired
    """
    opened = Run.open(run)
    facts = {key: opened.info[key] for key in _FACTS if opened.info.get(key) is not None}
    told: dict[str, Any] = {
        "run": str(run),
        "status": opened.state,
        **facts,
        **{f"part: {name}": part for name, part in opened.info["parts"].items()},
        "size_mb": round(_size(run) / 2**20, 1),
        "failures": opened.ledger.failures,
    }
    width = max(len(key) for key in told)
    lines = [f"{key:{width}}  {value}" for key, value in told.items() if key != "failures"]
    lines += [f"failed: {_failure(line)}" for line in told["failures"]]
    emit(as_json, told, "\n".join(lines))


@app.command()
def watch(
    run: Folder,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    as_json: Json = False,
) -> None:
    """Follow a run until it ends: its stage, how far that is, and what is kept.

    Ctrl-C ends the watching, not the run.

    Example: suture runs watch runs/repaired
    """
    shown, before = "", None
    while True:
        facts = how_far(run)
        text = _line(facts)
        if as_json and facts != before:
            emit(True, facts, "")
        elif not as_json and text != shown:
            emit(False, facts, text)
        shown, before = text, facts
        if once or facts["status"] != "running":
            return
        time.sleep(every)


def _line(facts: dict[str, Any]) -> str:
    """The same in a line."""
    parts = [f"{facts['kind']} {facts['status']}"]
    if "stage" in facts and facts["status"] != FINISHED:
        parts.append(f"{facts['stage']} {facts['done']}/{facts['total']}")
    parts += [f"{facts['epochs']} epochs kept"] if facts["epochs"] else []
    parts += [f"{facts['pieces']} pieces kept"] if facts["pieces"] else []
    parts += [f"{facts['seconds']:.1f} s"] if facts["status"] == FINISHED else []
    if facts["status"] in ("killed", "stopped", "failed", "incomplete"):
        parts.append(f"go on with: suture resume {facts['run']}")
    return ", ".join(parts)


@app.command()
def diff(first: Folder, second: Folder, as_json: Json = False) -> None:
    """What differs between two runs: options, parts, versions, machine, and every record.

    Example: suture runs diff runs/before runs/after
    """
    one, two = Run.open(first), Run.open(second)
    changed: dict[str, tuple[Any, Any]] = {}
    for group in ("kind", "seed", "options", "parts", "versions", "hardware"):
        changed |= _differences(group, one.info.get(group), two.info.get(group))
    records = _records(first, second)
    facts = {"first": str(first), "second": str(second), "facts": changed, "records": records}
    lines = [f"{name}: {a!r} → {b!r}" for name, (a, b) in changed.items()]
    lines += [f"{row['row']}: {row['first']} → {row['second']}" for row in records]
    emit(as_json, facts, "\n".join(lines) if lines else "no difference")


@app.command()
def rm(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also what suture has not written there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove run folders; one that a process works on is refused.

    Example: suture runs rm runs/old
    """
    opened = [Run.open(run) for run in runs]
    for run in opened:
        run.remove(force=force)
    names = [str(run) for run in runs]
    emit(as_json, {"removed": names}, "\n".join(f"removed {name}" for name in names))


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *([str(v if v is not None else "–") for v in r.values()] for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _failure(line: dict[str, Any]) -> str:
    where = f"{line['stage']}, piece {line['index']}"
    return f"{where}: {line.get('error')}: {line.get('message')} ({line.get('attempts')} attempts)"


def _differences(name: str, a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*a, *b}):
            found |= _differences(f"{name}.{key}", a.get(key), b.get(key))
        return found
    return {} if a == b else {name: (a, b)}


def _records(first: Path, second: Path) -> list[dict[str, Any]]:
    """Rows whose counts differ, or that only one of the runs has."""
    one, two = _by_row(first), _by_row(second)
    keys = list(dict.fromkeys([*one, *two]))
    told = [
        {"row": key, "first": _count(one.get(key)), "second": _count(two.get(key))} for key in keys
    ]
    return [row for row in told if row["first"] != row["second"]]


def _by_row(folder: Path) -> dict[str, Record]:
    if not (folder / "records.jsonl").is_file():
        return {}
    records = read_records(folder / "records.jsonl")
    return {f"{r.subject}, {r.protocol} ({r.kind}): {r.row}, repeat {r.repeat}": r for r in records}


def _count(record: Record | None) -> str:
    return "–" if record is None else f"{record.right}/{record.n}"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
