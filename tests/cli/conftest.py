"""Running commands in this process, as the shell would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from suture.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def suture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """``suture("data", "list")`` runs that command."""

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["suture", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Answer(status, out, err)

    return run


Suture = Callable[..., Answer]
