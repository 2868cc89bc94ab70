"""Each tutorial, from the first line to the last, in an empty folder and a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, ROOT
from .tutorial import commands, missing

TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
NEEDS = {"two-nodes": "ray", "timm": "timm", "onnx": "onnxruntime", "own-model": "onnxscript"}


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path):
    package = NEEDS.get(page.stem)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is missing: pip install 'suture[dev]'")
    own = {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.tutorial", str(page)],
        cwd=tmp_path,
        env=os.environ | own,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_there_is_one_for_each_need():
    names = {page.stem for page in TUTORIALS}
    assert names == {"own-model", "onnx", "timm", "hand-over", "read-the-report", "own-repair",
                     "two-nodes"}  # fmt: skip


def test_what_a_page_shows_is_compared_numbers_aside():
    answered = "a head\nrobust accuracy  52.0 % (26/50)\nnote: so it is, and more\nend"
    assert missing(["robust accuracy  0.5 % (1/2)", "note: so … more", "end"], answered) == []
    assert missing(["…", "end", ""], answered) == []
    assert missing(["clean accuracy  52.0 %"], answered) == ["clean accuracy  52.0 %"]
    assert missing(["end", "a head"], answered) == ["a head"], "in this order"
    assert missing(["a.head"], answered) == ["a.head"], "no pattern of its own"


def test_a_backslash_continues_a_command():
    block = "$ suture a \\\n    --b c\nanswer\n$ suture d\n"
    assert commands(block) == [("suture a      --b c", ["answer"]), ("suture d", [])]
