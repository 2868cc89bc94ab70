"""The runs that the studio shows: those below one folder, found anew at each look."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suture.engine import Run
from suture.engine.shelf import listed, runs_below
from suture.errors import ArgumentError

DEPTH = 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunShelf:
    """A folder of runs.

    Attributes:
        folder: where they lie, up to ``DEPTH`` folders deep.
    """

    folder: Path

    def runs(self) -> list[Run]:
        """All of them, the newest first."""
        found = runs_below(self.folder, DEPTH)
        return sorted(found, key=lambda run: str(run.info.get("created")), reverse=True)

    def rows(self) -> list[dict[str, Any]]:
        """All of them as lines of a list, each with its name here."""
        return [{**listed(run), "name": self.name(run), **_holds(run)} for run in self.runs()]

    def name(self, run: Run) -> str:
        """What the studio calls it: its place below the folder, "." for the folder itself."""
        return run.folder.relative_to(self.folder).as_posix()

    def find(self, name: str) -> Run | None:
        """The run of that name; only those that the list shows are ever opened."""
        parts = [] if name == "." else name.split("/")
        if len(parts) > DEPTH or any(part in ("", ".", "..") for part in parts):
            return None
        path = self.folder.joinpath(*parts)
        return next((run for run in runs_below(path, 0) if self._shows(run)), None)

    def _shows(self, run: Run) -> bool:
        """Whether no folder above it is a run: what lies inside of a run is the run's own."""
        above = list(run.folder.relative_to(self.folder).parents)
        return not any((self.folder / path / "run.json").is_file() for path in above)

    def models(self) -> list[str]:
        """References of the models that runs have kept."""
        return [str(run.folder) for run in self.runs() if _holds(run)["model"]]

    def place(self, name: str) -> Path:
        """Where a new run of that name will be.

        Raises:
            ArgumentError: no plain name, or one that is taken.
        """
        if not _NAME.fullmatch(name):
            raise ArgumentError(
                expected="a run's name of letters, digits, dots and dashes",
                got=repr(name),
                remedy="For example robust-1.",
            )
        path = self.folder / name
        if path.exists():
            raise ArgumentError(
                expected="a name that is not taken",
                got=f"{path}, which is there",
                remedy="Choose another name.",
            )
        return path


def _holds(run: Run) -> dict[str, bool]:
    """What of it can be looked at."""
    page, records = run.folder / "report.html", run.folder / "records.jsonl"
    return {
        "report": page.is_file() or records.is_file(),
        "records": records.is_file(),
        "model": (run.artifacts / "model" / "manifest.json").is_file(),
    }
