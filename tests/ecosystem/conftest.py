"""A run with a handful of records and a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from suture import PGD
from suture.engine import Run
from suture.evaluate import Plan, Subject, Tier
from suture.pipeline import assess
from suture.report import write
from suture.testing.small import digits, trained


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    command = "suture audit cnn --data digits --eps 0.1"
    folder = tmp_path_factory.mktemp("runs") / "audit"
    options = {"eps": 0.1, "n": None}
    run = Run.create(
        folder, kind="audit", title="A digit classifier", command=command, seed=7, options=options
    )
    tier = Tier(steps=3, queries=10)
    plan = Plan(attack=PGD(eps=0.1, steps=3), tier=tier, repeats=1, radii=(), sanity=False)
    subjects = [Subject("undefended", trained(), "cnn")]
    with run:
        assess(subjects, digits().test.batch(20), plan, digits(), run)
    run.finish()
    write(folder)
    return folder
