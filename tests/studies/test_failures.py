"""A cell that fails is a record; the others are kept, and the run goes on with what failed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from suture.engine import Processes, Run
from suture.errors import DataError, EngineError
from suture.report.table import Column, Table
from suture.rng import Stream
from suture.studies import Cell, Row, Study, run_study


def measure(marker: str, key: str, stream: Stream) -> list[Row]:
    if key == "b" and not Path(marker).exists():
        raise DataError(expected="a marker", got="none", remedy="Make it.")
    return [{"what": key, "draw": stream.key % 7}]


@dataclass(frozen=True, kw_only=True)
class Fragile(Study):
    name: ClassVar[str] = "fragile"
    title: ClassVar[str] = "Fragile"
    paper: ClassVar[str] = "none"
    marker: str = ""
    keys: tuple[str, ...] = ("a", "b", "c")

    def cells(self) -> list[Cell]:
        return [Cell(key, partial(measure, self.marker, key)) for key in self.keys]

    def tables(self, rows: list[Row]) -> list[Table]:
        return [Table((Column("what", "what"),), rows, "Rows")]


def fresh(folder: Path) -> Run:
    return Run.create(folder, kind="bench", title="t", command="c", seed=0, options={"name": "x"})


def test_the_others_are_kept_and_the_run_goes_on(tmp_path: Path):
    study, run = Fragile(marker=str(tmp_path / "marker")), fresh(tmp_path / "run")
    with (
        Processes(1) as engine,
        pytest.raises(EngineError, match="1 that failed, 'b'.*a marker"),
        run,
    ):
        run_study(study, run, engine=engine)
    opened = Run.open(tmp_path / "run")
    assert opened.state == "incomplete"
    (line,) = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["cell"] == "b" and json.loads(line)["error"] == "DataError"
    assert "<td>c</td>" in (tmp_path / "run" / "report.html").read_text()
    (tmp_path / "marker").touch()
    again = Run.again(tmp_path / "run")
    rows, _ = run_study(study, again)
    assert [row["what"] for row in rows] == ["a", "b", "c"]
    assert again.state == "finished" and (again.folder / "failures.jsonl").read_text() == ""


def test_a_study_without_any_row_raises_the_cells_own_error(tmp_path: Path):
    study = Fragile(marker=str(tmp_path / "marker"), keys=("b",))
    with pytest.raises(DataError, match="a marker"):
        run_study(study, fresh(tmp_path / "run"))
