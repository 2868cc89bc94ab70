"""What a study is: cells that can be measured one by one, and tables made from their rows."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from suture.errors import ArgumentError
from suture.registry import Registry
from suture.report import Drawing
from suture.report.table import Row, Table
from suture.rng import Stream
from suture.settings import made


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
        on_device: whether its cells compute where ``suture.studies.networks.here`` says; others
            compute on the CPU.
        full: the paper's own sizes, also where two cores need hours for them.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    on_device: ClassVar[bool] = False
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

    def check_device(self, device: str) -> None:
        """Raise ``ArgumentError`` for another device than "cpu" where cells compute there only."""
        if device != "cpu" and not self.on_device:
            raise ArgumentError(
                expected=f"--device cpu: {self.name} computes there only",
                got=f"--device {device}",
                remedy="Leave --device out.",
            )

    def with_settings(self, given: dict[str, str]) -> Study:
        """The study with some fields replaced by values given as text (``n=500``).

        Raises:
            ArgumentError: no such field, or text that is not a value of its type.
        """
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return made(type(self), own | given, self.name)


STUDIES: Registry[type[Study]] = Registry("study", "suture.studies")
"""All studies by their names."""
