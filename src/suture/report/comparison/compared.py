"""A run as one side of a comparison."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suture.errors import ArgumentError, BundleError
from suture.report.about import Pairs, about
from suture.report.headline import Headline, headline
from suture.report.run import RunData, load

MOST = len(string.ascii_uppercase)


@dataclass(frozen=True)
class ComparedRun:
    """One side: a letter that stands for it, its name, and what it holds.

    Attributes:
        letter: A, B, …
        name: the run's folder.
        data: its content.
    """

    letter: str
    name: str
    data: RunData

    @property
    def title(self) -> str:
        """The run's own title."""
        return str(self.data.info.get("title") or self.name)

    @property
    def about(self) -> Pairs:
        """Model, method, data and threat in words."""
        return about(self.data)

    @property
    def headline(self) -> Headline:
        """The rows that speak for it."""
        return headline(self.data.records)


def opened(folders: Sequence[Path]) -> list[ComparedRun]:
    """The runs in these folders.

    Raises:
        ArgumentError: fewer than two, too many, or one twice.
        BundleError: one cannot be read, or has no records.
    """
    if not 2 <= len(folders) <= MOST or len({f.resolve() for f in folders}) < len(folders):
        raise ArgumentError(
            expected=f"2 to {MOST} different runs to compare",
            got=", ".join(map(str, folders)) or "none",
            remedy="Name each run folder once: suture report runs/a runs/b.",
        )
    letters = string.ascii_uppercase
    runs = [
        ComparedRun(letter, str(folder), load(folder))
        for letter, folder in zip(letters, folders, strict=False)
    ]
    for run in runs:
        if not run.data.records:
            raise BundleError(
                expected=f"records to compare in {run.name}",
                got=f"none: a run of {run.data.info.get('kind')!r} that has measured nothing",
                remedy=f"Measure it first: suture evaluate {run.name} --data ….",
            )
    return runs
