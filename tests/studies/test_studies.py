"""A study of two cells: what is kept, what is measured again, what the page shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
import torch

from suture.engine import Processes, Run
from suture.errors import ArgumentError, BundleError
from suture.report.table import Column, Table, rate, share
from suture.rng import Stream
from suture.studies import STUDIES, Cell, Row, Study, run_study
from suture.studies.networks import here

MEASURED: list[str] = []


def draw(key: str, n: int, stream: Stream) -> list[Row]:
    MEASURED.append(key)
    return [{"what": key, "right": stream.key % (n + 1), "n": n}]


@dataclass(frozen=True, kw_only=True)
class Toy(Study):
    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy <study>"
    paper: ClassVar[str] = "none"
    n: int = 10
    keys: tuple[str, ...] = ("a", "b/c")

    def cells(self) -> list[Cell]:
        return [Cell(key, partial(draw, key, self.n)) for key in self.keys]

    def tables(self, rows: list[Row]) -> list[Table]:
        columns = (Column("what", "what"), share("right", "share", "n"))
        return [Table(columns, rows, "Numbers")]


def fresh(folder, toy, **facts) -> Run:
    return Run.create(
        folder, kind="bench", title="toy", command="suture bench toy", seed=0, **facts
    )


def test_a_stopped_run_measures_only_what_is_missing(tmp_path):
    run = fresh(tmp_path / "a", Toy())
    rows, page = run_study(Toy(), run)
    (run.folder / "checkpoints" / "cells" / "b_c.json").unlink()
    MEASURED.clear()
    again, _ = run_study(Toy(), run)
    assert MEASURED == ["b/c"]
    strip = [{k: r[k] for k in ("cell", "right", "n")} for r in rows]
    assert strip == [{k: r[k] for k in ("cell", "right", "n")} for r in again]
    text = page.read_text()
    assert "Toy &lt;study&gt;" in text and rate(rows[0]["right"], 10) in text
    assert len((run.folder / "rows.jsonl").read_text().splitlines()) == 2


def test_patterns_choose_cells_and_the_page_shows_what_there_is(tmp_path):
    run, toy = fresh(tmp_path / "a", Toy()), Toy(keys=("a", "b/c", "b/d", "e"))
    MEASURED.clear()
    rows, _ = run_study(toy, run, only=["b/*"])
    assert MEASURED == ["b/c", "b/d"] == [row["cell"] for row in rows]
    rows, page = run_study(toy, run, only=["?"])
    assert MEASURED[2:] == ["a", "e"] and [row["cell"] for row in rows] == ["a", "b/c", "b/d", "e"]
    assert page.is_file()
    with pytest.raises(ArgumentError, match=r"cells of the study: a, b/c, b/d, e; got --cells x\*"):
        run_study(toy, run, only=["a", "x*"])


def test_cells_are_the_same_in_other_processes(tmp_path):
    inline, _ = run_study(Toy(), fresh(tmp_path / "a", Toy()))
    with Processes(2) as engine:
        spread, _ = run_study(Toy(), fresh(tmp_path / "b", Toy()), engine=engine)
    assert [r["right"] for r in inline] == [r["right"] for r in spread]


def whereabouts(stream: Stream) -> list[Row]:
    kinds = {here(torch.nn.Linear(2, 2)).weight.device.type, here(torch.zeros(1)).device.type}
    return [{"what": ",".join(sorted(kinds)), "right": 1, "n": 1}]


@dataclass(frozen=True, kw_only=True)
class Movable(Toy):
    name: ClassVar[str] = "movable"
    on_device: ClassVar[bool] = True

    def cells(self) -> list[Cell]:
        return [Cell("where", whereabouts)]


def test_a_cell_is_told_its_device_wherever_it_is_measured(tmp_path):
    rows, _ = run_study(Movable(), fresh(tmp_path / "a", Movable()), device="meta")
    assert [(row["what"], row["device"]) for row in rows] == [("meta", "meta")]
    with Processes(1) as engine:
        run = fresh(tmp_path / "b", Movable())
        spread, _ = run_study(Movable(), run, engine=engine, device="meta")
    assert [row["what"] for row in spread] == ["meta"]
    rows, _ = run_study(Movable(), fresh(tmp_path / "c", Movable()))  # the next is not told
    assert [row["what"] for row in rows] == ["cpu"] and "device" not in rows[0]


def test_a_study_that_stays_on_the_cpu_says_so(tmp_path):
    with pytest.raises(ArgumentError, match="toy computes there only; got --device meta"):
        run_study(Toy(), fresh(tmp_path / "a", Toy()), device="meta")


def test_altered_cells_are_refused(tmp_path):
    run = fresh(tmp_path / "a", Toy())
    run_study(Toy(), run)
    (run.folder / "checkpoints" / "cells" / "a.json").write_text(json.dumps([{"cell": "x"}]))
    with pytest.raises(BundleError, match="only that cell"):
        run_study(Toy(), run)


def test_settings_are_read_like_their_defaults():
    toy = Toy().with_settings({"n": "20", "keys": "x,y", "full": "yes"})
    assert toy == Toy(n=20, keys=("x", "y"), full=True)
    with pytest.raises(ArgumentError, match="did you mean"):
        Toy().with_settings({"kyes": "x"})
    with pytest.raises(ArgumentError, match="int for n; got 'many'"):
        Toy().with_settings({"n": "many"})


def test_an_unknown_study_is_an_error():
    with pytest.raises(ArgumentError, match="study"):
        STUDIES.find("nonesuch")
