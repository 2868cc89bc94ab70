"""What a study is: cells that can be measured one by one, and tables made from their rows."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from suture.errors import ArgumentError, unknown_name
from suture.registry import Registry
from suture.report import Drawing
from suture.report.table import Row, Table
from suture.rng import Stream


@dataclass(frozen=True)
class Cell:
    """A piece of a study that is measured, kept and resumed on its own.

    Attributes:
        key: stable, unique within the study; names the file that keeps the rows.
        measure: an importable function (or a ``functools.partial`` of one, so that it can be sent
            to another process) called with the cell's random stream; returns the cell's rows.
    """

    key: str
    measure: Callable[[Stream], list[Row]]


@dataclass(frozen=True, kw_only=True)
class Study(ABC):
    """A table or figure of a paper, with its settings as fields.

    Attributes:
        full: the paper's own sizes, also where two cores need hours for them.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    full: bool = False

    @property
    def name(self) -> str:
        """What ``suture bench`` calls it."""
        return STUDIES.name_of(type(self)) or type(self).__name__

    @abstractmethod
    def cells(self) -> list[Cell]:
        """What has to be measured, in order."""

    @abstractmethod
    def tables(self, rows: list[Row]) -> list[Table]:
        """From the rows measured so far, the paper's figures beside ours."""

    def figures(self, rows: list[Row]) -> list[Drawing]:
        """Pictures from the rows measured so far."""
        return []

    def notes(self, rows: list[Row]) -> list[str]:
        """Sentences a reader needs before believing the tables."""
        return []

    def with_settings(self, given: dict[str, str]) -> Study:
        """The study with some fields replaced by values given as text (``n=500``).

        Raises:
            ArgumentError: no such field, or text that is not a value of its type.
        """
        known = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        changes = {}
        for key, text in given.items():
            if key not in known:
                raise ArgumentError(
                    expected=f"a setting of {self.name}: {', '.join(sorted(known))}",
                    got=unknown_name("setting", key, sorted(known)),
                    remedy="Give it as --set NAME=VALUE.",
                )
            changes[key] = _like(known[key], text, key)
        return dataclasses.replace(self, **changes)


STUDIES: Registry[type[Study]] = Registry("study", "suture.studies")
"""All studies by their names."""


def _like(value: Any, text: str, key: str) -> Any:
    """Text read as a value of the same type; tuples are separated by commas."""
    try:
        if isinstance(value, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if isinstance(value, tuple):
            return tuple(type(value[0])(part) for part in text.split(","))
        return str(text) if value is None else type(value)(text)
    except (ValueError, KeyError, IndexError):
        raise ArgumentError(
            expected=f"a value like {value!r} for {key}",
            got=repr(text),
            remedy="Lists are written with commas: 0.05,0.1",
        ) from None
