"""Altered, cut off and foreign run folders are refused with a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from suture.errors import BundleError
from suture.report import load

from .builders import clean, full_run


def test_a_whole_folder_is_read(make_run):
    run = load(make_run(full_run(), artifacts=True))
    assert run.records == full_run()
    assert run.examples.clean.shape == (6, 1, 8, 8)
    assert len(run.programs["programs"]) == 30
    assert [step["length"] for step in run.trace] == [1, 2, 3, 4, 5]


def test_unknown_keys_are_tolerated(make_run):
    assert load(make_run([], later_invention=[1])).info["later_invention"] == [1]


def test_another_schema_is_refused(make_run):
    with pytest.raises(BundleError, match="schema 2"):
        load(make_run([], schema=2))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b"{"),
        ("run.json", b"[]"),
        ("run.json", b"\xff\xfe\x00"),
        ("records.jsonl", b'{"schema": 1, "subject"'),
        ("records.jsonl", b'{"schema": 1}\n'),
        ("artifacts/examples.npz", b"PK\x03\x04 cut off"),
        ("artifacts/examples.npz", b""),
        ("artifacts/programs.json", b'{"programs": 3}'),
        ("artifacts/trace.json", b'{"lengths": [1, 2]}'),
    ],
)
def test_corrupted_files_are_refused(make_run, name, content):
    folder = make_run(full_run(), artifacts=True)
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        load(folder)
    assert Path(name).name in str(caught.value) or "complete record" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"right": 201},
        {"right": -1},
        {"right": 0, "n": 0},
        {"right": 1.5},
        {"n": 10**30},
        {"right": "4"},
        {"threat": []},
        {"row": None},
        {"per_class": [[3, 2]]},
        {"queries": [-1]},
        {"warnings": [7]},
    ],
)
def test_impossible_records_are_refused(make_run, changes):
    folder = make_run([])
    data = clean("undefended", 194).to_dict() | changes
    (folder / "records.jsonl").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BundleError, match="record 1"):
        load(folder)


def test_examples_of_unequal_shapes_are_refused(make_run):
    folder = make_run([], artifacts=True)
    images = np.zeros((2, 1, 4, 4), np.float32)
    np.savez(folder / "artifacts/examples.npz", clean=images, adversarial=images[:1], labels=[0, 1])
    with pytest.raises(BundleError, match="shape"):
        load(folder)


def test_pickled_arrays_are_never_opened(make_run):
    folder = make_run([], artifacts=True)
    np.savez(folder / "artifacts/examples.npz", clean=np.array([object()], dtype=object))
    with pytest.raises(BundleError, match="example images"):
        load(folder)
