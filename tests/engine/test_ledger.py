"""The ledger: what is whole counts, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from suture.engine import Engine, Inline, Ledger, Processes, Recorded, plain
from suture.errors import BundleError, DataError, EngineError, StorageError
from suture.rng import Stream
from tests.engine import work

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.floats(allow_nan=False)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(TREES)
@example({"\u0000": "00"})
@example([{"\u0000": {"\u0000": ["tensor", "0"]}}])
@settings(max_examples=60, deadline=None)
def test_plain_data_comes_back_as_it_was(value):
    assert plain.from_bytes(plain.to_bytes(value)) == value


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float64, torch.int64, torch.bool, torch.uint8, torch.bfloat16]
)
def test_tensors_come_back_to_the_bit(kind: torch.dtype):
    values = torch.tensor([[0.1, -0.0, float("nan")], [1e30, 3.0, float("-inf")]])
    tensor = (values if kind.is_floating_point else values.nan_to_num(2).clamp(0, 9)).to(kind).T
    empty = torch.zeros(0, 3, dtype=kind)
    back = plain.from_bytes(plain.to_bytes({"x": [tensor, empty]}))["x"]
    assert back[0].dtype == kind and back[0].shape == (3, 2) and back[1].shape == (0, 3)
    raw = [t.contiguous().view(torch.uint8) for t in (tensor, back[0])]
    assert torch.equal(*raw)
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    assert np.array_equal(plain.from_bytes(plain.to_bytes(array)), array)


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"\xff" * 40, b"\x02" + b"\0" * 7 + b"{}"])
def test_other_bytes_are_refused(content: bytes):
    with pytest.raises(BundleError, match="computed anew"):
        plain.from_bytes(content)


def kept(engine: Engine, folder: Path, tries: Path, what: str = "w") -> list[dict]:
    recorded = Recorded(engine, Ledger(folder))
    fn = partial(work.slow_rows, tries, 0.0)
    return list(recorded.keep("rows", fn, range(6), work=what, stream=Stream(5)))


def same(first: list[dict], second: list[dict]) -> bool:
    return all(
        a["item"] == b["item"]
        and np.array_equal(a["draw"], b["draw"])
        and torch.equal(a["half"], b["half"])
        for a, b in zip(first, second, strict=True)
    )


@pytest.fixture
def tries(tmp_path: Path) -> Path:
    (tmp_path / "tries").mkdir()
    return tmp_path / "tries"


def test_finished_pieces_are_not_done_again(tmp_path: Path, tries: Path):
    first = kept(Inline(), tmp_path / "l", tries)
    with Processes(2) as engine:
        second = kept(engine, tmp_path / "l", tries)
    assert same(first, second) and len(list(tries.iterdir())) == 6
    assert same(first, kept(Inline(), tmp_path / "l", tries, "other work"))
    assert len(list(tries.iterdir())) == 12, "other work is done anew"


def test_a_file_with_another_content_is_made_anew(tmp_path: Path, tries: Path):
    first = kept(Inline(), tmp_path / "l", tries)
    files = sorted((tmp_path / "l").glob("*.safetensors"))
    files[1].write_bytes(files[0].read_bytes())
    files[2].write_bytes(b"")
    files[3].unlink()
    assert same(first, kept(Inline(), tmp_path / "l", tries))
    assert len(list(tries.iterdir())) == 9


@pytest.mark.parametrize("cut", [0, 1, 30, 90, 170])
def test_a_ledger_that_was_cut_off_loses_only_what_is_missing(tmp_path, tries, cut: int):
    first = kept(Inline(), tmp_path / "l", tries)
    path = tmp_path / "l" / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) - cut])
    assert same(first, kept(Inline(), tmp_path / "l", tries))
    after = len(list(tries.iterdir()))
    assert after <= 8
    assert same(first, kept(Inline(), tmp_path / "l", tries))
    assert len(list(tries.iterdir())) == after, "half a line does not spoil the one after it"


def test_lines_from_elsewhere_count_for_nothing(tmp_path: Path, tries: Path):
    content = plain.to_bytes({"value": "from elsewhere"})
    (tmp_path / "secret.safetensors").write_bytes(content)
    work_of = hashlib.sha256(b"w").hexdigest()[:16]
    outside = {"stage": "rows", "work": work_of, "index": 0, "file": "../secret.safetensors",
               "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip
    rows = ["[]", "7", "null", '"x"', "{", '{"stage": 1}', json.dumps(outside)]
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "ledger.jsonl").write_text("\n".join(rows))
    found = kept(Inline(), tmp_path / "l", tries)
    assert [row["item"] for row in found] == list(range(6))


def test_a_failure_is_a_line_and_the_others_are_kept(tmp_path: Path):
    recorded = Recorded(Inline(), Ledger(tmp_path))
    with pytest.raises(DataError, match="got three"):
        list(recorded.keep("s", work.fail_at_three, range(6), work="w"))
    ledger = Ledger(tmp_path)
    assert ledger.done("s", "w", 6) == {0, 1, 2, 4, 5}
    (failure,) = ledger.failures
    assert failure["index"] == 3 and failure["error"] == "DataError" and failure["attempts"] == 1
    done = list(Recorded(Inline(), ledger).keep("s", work.square, range(6), work="w"))
    assert done == [0, 1, 2, 9, 4, 5], "only the failed one is tried again"
    assert Ledger(tmp_path).failures == []


def test_points_to_resume_from(tmp_path: Path):
    recorded = Recorded(Inline(), Ledger(tmp_path))
    assert recorded.recall("after 1", "w") is None
    list(recorded.keep("length 1", work.square, range(3), work="w"))
    recorded.note("after 1", {"x": torch.ones(2)}, work="w", instead_of="length 1")
    again = Recorded(Inline(), Ledger(tmp_path))
    assert torch.equal(again.recall("after 1", "w")["x"], torch.ones(2))
    assert again.recall("after 1", "other") is None
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert Inline().recall("after 1", "w") is None, "an engine without a run keeps nothing"


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path, tries, monkeypatch):
    first = kept(Inline(), tmp_path / "l", tries, "reference")
    written: list[int] = []
    real = os.write

    def fills_up(handle: int, data: bytes) -> int:
        written.append(len(data))
        if len(written) == 4:
            real(handle, data[: len(data) // 2])
            raise OSError(28, os.strerror(28))
        return real(handle, data)

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(StorageError, match="No space left on device"):
        kept(Inline(), tmp_path / "l", tries)
    monkeypatch.undo()
    assert same(first, kept(Inline(), tmp_path / "l", tries))
    assert len(list(tries.iterdir())) == 6 + 4 + 3, "three were kept, the fourth was lost"


@pytest.mark.parametrize("how", ["killed", "no memory"])
def test_a_run_goes_on_once_the_cause_is_gone(tmp_path: Path, tries: Path, how: str):
    """An item that takes its workers down, every time, until somebody mends it."""
    fn = partial(work.until_mended, tmp_path, tries, how)
    wanted = [item * item for item in range(5)]
    with Processes(2, retries=1) as engine:
        recorded = Recorded(engine, Ledger(tmp_path / "l"))
        with pytest.raises(EngineError, match=r"suture resume"):
            list(recorded.keep("s", fn, range(5), work="w"))
    assert Ledger(tmp_path / "l").done("s", "w", 5) == {0, 1, 3, 4}
    (failure,) = Ledger(tmp_path / "l").failures
    assert failure["attempts"] == 2
    before = len(list(tries.iterdir()))
    (tmp_path / "mended").touch()
    recorded = Recorded(Inline(), Ledger(tmp_path / "l"))
    assert list(recorded.keep("s", fn, range(5), work="w")) == wanted
    assert len(list(tries.iterdir())) == before + 1, "only what was missing is done"
