"""Models and data that are open, and the one hand that computes on them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from torch import nn

from suture.data import Dataset
from suture.studio.tools import StudioTools
from suture.types import undefended_of

T = TypeVar("T")
_MOST = 4
"""Models, and data sets, that stay open."""


class Workbench:
    """Opens each model and data set once, and computes one thing at a time.

    Args:
        tools: how they are opened.
    """

    def __init__(self, tools: StudioTools) -> None:
        self.tools = tools
        self.lock = Lock()
        self._open: OrderedDict[Hashable, Any] = OrderedDict()

    def data(self, name: str) -> Dataset:
        """The data set."""
        return self._kept(("data", name), lambda: self.tools.open_data(name))

    def sides(self, reference: str, data: str) -> dict[str, nn.Module]:
        """The classifier as "after" and what it was repaired from as "before"; of one that nobody
        has repaired "before" alone."""
        model = self._kept(
            ("model", reference, data, _stamp(reference)),
            lambda: self.tools.open_model(reference, self.data(data)),
        )
        before = undefended_of(model)
        return {"before": model} if before is None else {"before": before, "after": model}

    def _kept(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._open:
            self._open[key] = make()
            while len(self._open) > 2 * _MOST:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        found: T = self._open[key]
        return found


def _stamp(reference: str) -> int:
    """Changes when a run or file of this name is written anew."""
    for path in (Path(reference) / "artifacts" / "model" / "manifest.json", Path(reference)):
        with suppress(OSError, ValueError):
            return path.stat().st_mtime_ns
    return 0
