"""What the studio is given by the command line: how to open, check and start things."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from suture.data import Dataset


@dataclass(frozen=True)
class StudioTools:
    """The command line's own ways, so that the studio has none of its own.

    Attributes:
        open_data: a data set by its name or path.
        open_model: a classifier by its reference, checked on the data set.
        check_repair: raises a ``SutureError`` for options of ``suture repair`` that make no sense.
        command: the words that carry a command line of suture out in a process of its own.
        resumable: kinds of runs that ``suture resume`` goes on with.
    """

    open_data: Callable[[str], Dataset]
    open_model: Callable[[str, Dataset], nn.Module]
    check_repair: Callable[[Mapping[str, object]], None]
    command: Callable[[Sequence[str]], list[str]]
    resumable: tuple[str, ...]
