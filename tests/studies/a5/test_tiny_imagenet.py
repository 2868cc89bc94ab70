"""The study of TinyImageNet, on a copy of its layout."""

from __future__ import annotations

from suture.engine import Run
from suture.studies import STUDIES, run_study
from suture.studies.a5 import training
from tests.data.tiny_folder import NUMBERS, written


def test_all_recipes_run_on_the_official_layout(tmp_path, monkeypatch):
    # Five classes: some of the attacks compare four.
    numbers = (*NUMBERS, "n07749582", "n09256479")
    folder = written(tmp_path, each=20, tested=4, numbers=numbers)
    given = {"data": str(folder), "train": "60", "test": "20", "attacked": "2"}
    given |= {"epochs": "3,1,1", "ramp": "1", "offline_steps": "2"}
    study = STUDIES["a5-tiny-imagenet"]().with_settings(given)
    assert study.with_settings({"full": "true"}).body == "cifar"
    assert [cell.key for cell in study.cells()][1].startswith("eps=0.003922-R-eps_d=0.007843")
    training.classifier.cache_clear()
    rows, page = run_study(
        study, Run.create(tmp_path / "run", kind="bench", title="", command="", seed=0), seed=0
    )
    assert [row["recipe"] for row in rows] == ["CROWN-IBP", "R", "RC", "O"]
    assert {row["n"] for row in rows} == {20}
    assert "A5 on TinyImageNet" in page.read_text()
