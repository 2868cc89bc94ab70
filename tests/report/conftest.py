"""Run folders on disk, built from invented records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .builders import Records, info, programs, save_examples, trace

Folder = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> Folder:
    """A function that writes a run folder: records, and as many artifacts as are asked for."""

    def make(records: Records, *, artifacts: bool = False, **changes: Any) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(json.dumps(info(**changes)), encoding="utf-8")
        lines = [json.dumps(r.to_dict()) + "\n" for r in records]
        (folder / "records.jsonl").write_text("".join(lines), encoding="utf-8")
        if artifacts:
            (folder / "artifacts").mkdir(exist_ok=True)
            save_examples(folder / "artifacts" / "examples.npz")
            for name, content in (("programs", programs()), ("trace", trace())):
                path = folder / "artifacts" / f"{name}.json"
                path.write_text(json.dumps(content), encoding="utf-8")
        return folder

    return make
