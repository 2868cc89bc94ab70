"""``suture repair --method auto``: its table in the terminal and on the page."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Suture


def test_the_command_prints_the_table_and_draws_it(suture: Suture, tmp_path: Path):
    assert suture("train", "digits_cnn", "--data", "digits", "--epochs", 3,
                  "--out", tmp_path / "net").status == 0  # fmt: skip
    out = tmp_path / "auto"
    answer = suture("repair", tmp_path / "net", "--data", "digits", "--method", "auto", "--eps",
                    "0.15", "--epochs", 8, "--judged", 30, "--attacker.steps", 5,
                    "--attacker.queries", 5, "--out", out, "--json")  # fmt: skip
    assert answer.status == 0
    assert next(r["name"] for r in answer.json["candidates"]) == "as given"
    assert answer.json["why"]
    assert json.loads((out / "artifacts" / "trace.json").read_text())["candidates"]
    page = (out / "report.html").read_text()
    assert "What was tried" in page and "pgd-training" in page
