"""Images that are decoded when asked for: the same bits in the same order, whoever decodes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from suture import data
from suture.data import Split, dataset, images_of, stores
from suture.data.feeding import WORKERS, fed
from suture.errors import ArgumentError
from suture.models import digest, pixels
from suture.models.identity import identity
from suture.testing.small import digits, trained
from suture.types import Batch, LabelledImages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(3)
    for number in range(24):
        place = tmp_path / "pictures" / "train" / f"{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels_ = draw.integers(256, size=(6, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels_).save(place / f"{number:02d}.png")
    return tmp_path / "pictures"


@pytest.fixture
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture is decoded anew, and no split is held as a tensor."""
    monkeypatch.setattr(stores, "CACHE_BYTES", 0)
    monkeypatch.setattr(dataset, "RESIDENT", 0)


@pytest.mark.usefixtures("nothing_is_remembered")
@pytest.mark.parametrize("workers", ["0", "1", "3"])
def test_workers_give_what_the_store_gives(
    folder: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv(WORKERS, workers)
    split = data.load(folder, validation=0).train
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(1))
    pieces = list(order.split(5))
    before = torch.random.get_rng_state()
    found = list(split.feed(pieces))
    assert torch.equal(torch.random.get_rng_state(), before), "nobody else's numbers are drawn"
    whole = split.batch()
    assert [len(one) for one in found] == [5, 5, 5, 5, 4]
    assert torch.equal(torch.cat([one.images for one in found]), whole.images[order])
    assert torch.equal(torch.cat([one.labels for one in found]), whole.labels[order])


class Counting(stores.Memory):
    """Says that it is slow; worker processes must not be missed by who asks."""

    slow = True

    def take(self, rows: Tensor) -> Tensor:
        if 13 in rows.tolist():
            raise ArgumentError(expected="no 13", got="13", remedy="Leave it out.")
        return super().take(rows)


def test_a_workers_error_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS, "2")
    images = torch.zeros(20, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ArgumentError, match="no 13"):
        list(fed(Counting(images), list(torch.arange(20).split(4))))


def both() -> list[LabelledImages]:
    split = digits().train.select(torch.arange(30))
    return [split.batch(), split]


@pytest.mark.parametrize("images", both(), ids=["batch", "split"])
def test_a_split_answers_like_a_batch(images: LabelledImages) -> None:
    whole = digits().train.batch(30)
    some = torch.tensor([4, 2, 29])
    mask = whole.labels == 3
    assert len(images) == 30
    assert images.shape == (1, 8, 8)
    assert images.device == torch.device("cpu")
    for ours, theirs in (
        (images[:7], whole[:7]),
        (images[some], whole[some]),
        (images[[1, 5]], whole[[1, 5]]),
        (images.select(some)[:], whole[some]),
        (images.select(mask)[:], whole[mask]),
        (next(iter(images.split(8))), whole[:8]),
        (next(iter(images.feed([some]))), whole[some]),
        (images.to("cpu")[:2], whole[:2]),
        (pickle.loads(pickle.dumps(images))[:3], whole[:3]),
    ):
        assert isinstance(ours, Batch)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(images.images, whole.images)
    assert torch.equal(images.labels, whole.labels)
    assert [len(piece) for piece in images.split(8)] == [8, 8, 8, 6]
    assert pixels(images) == digest(whole.images)
    assert identity(trained(), images) == identity(trained(), whole)


def test_a_store_leaves_what_it_remembers_at_home(folder: Path) -> None:
    split = data.load(folder, validation=0).train
    split.batch()
    assert len(pickle.dumps(split)) < len(pickle.dumps(split.batch().images.byte())) + 8_000
    again = pickle.loads(pickle.dumps(split))
    assert torch.equal(again.batch().images, split.batch().images)


def test_pictures_are_named_by_their_files(folder: Path) -> None:
    split = data.load(folder, validation=0).train
    before = split.known
    assert before.startswith("files ")
    assert split.select(torch.arange(5)).known != before
    assert data.load(folder, validation=0).train.known == before
    assert data.load(folder, validation=0, size=4).train.known != before
    Image.new("RGB", (5, 6)).save(folder / "train" / "0" / "00.png")
    assert data.load(folder, validation=0).train.known != before


@pytest.mark.usefixtures("nothing_is_remembered")
def test_only_what_is_small_becomes_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    split = digits().test
    assert isinstance(split.resident(), Split)
    assert isinstance(images_of(digits()), Split)
    monkeypatch.setattr(dataset, "RESIDENT", split.nbytes)
    assert isinstance(split.resident(), Batch)
    monkeypatch.setattr(dataset, "MOST", split.nbytes - 1)
    with pytest.raises(ArgumentError, match=f"samples={len(split) - 1}"):
        assert split.images is not None


@pytest.mark.usefixtures("nothing_is_remembered")
def test_statistics_are_those_of_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digits().mean, digits().std
    monkeypatch.setattr(dataset, "_PIECE_VALUES", 640)
    found = dataset.channel_statistics(digits().train)
    assert found[0] == pytest.approx(expected[0], abs=1e-12)
    assert found[1] == pytest.approx(expected[1], abs=1e-12)


class Weighing(stores.Memory):
    """Gives how much memory of its own the process has that is asked, in megabytes."""

    slow = True
    portable = True

    def take(self, rows: Tensor) -> Tensor:
        told = Path("/proc/self/smaps_rollup").read_text().split("Anonymous:")[1]
        return torch.tensor([int(told.split()[0]) // 1024])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
def test_who_decodes_holds_nothing_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS, "1")
    store, pieces = Weighing(torch.zeros(4, 1, 2, 2)), list(torch.arange(4).split(2))
    held = torch.ones(400 * 2**18)  # 400 MB that were written
    with_it = max(int(told) for told in fed(store, pieces))
    monkeypatch.setattr(Weighing, "portable", False)
    forked = max(int(told) for told in fed(store, pieces))
    assert held.numel() and with_it < forked - 300


SCRIPT = """
import sys
from suture import data
from suture.data import stores

stores.CACHE_BYTES = 0
split = data.load(sys.argv[1], validation=0).train
print(sum(len(batch) for batch in split.batches(5)))
"""


def test_a_script_needs_no_guard(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = os.environ | {WORKERS: "2"}
    done = subprocess.run(
        [sys.executable, script, folder], env=env, check=True, capture_output=True, text=True
    )
    assert done.stdout == "24\n", "once, and not once for each process"


KILLED = """
import os, signal, sys, time
from pathlib import Path
from suture import data
from suture.data import stores

stores.CACHE_BYTES = 0
batches = data.load(sys.argv[1], validation=0).train.batches(5)
next(batches)
mine = f"PPid:\\t{os.getpid()}"
statuses = [p for p in Path("/proc").glob("[0-9]*/status") if mine in p.read_text()]
servers = [p.parent.name for p in statuses if "forkserver" in (p.parent / "cmdline").read_text()]
print(servers[0], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
def test_who_decodes_ends_with_a_session_that_is_killed(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    env = os.environ | {WORKERS: "1"}
    # Its output ends when the last process that has it ends.
    done = subprocess.run(
        [sys.executable, script, folder], env=env, stdout=subprocess.PIPE, text=True, timeout=120
    )
    server = int(done.stdout)
    end = time.monotonic() + 30
    while Path(f"/proc/{server}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not Path(f"/proc/{server}").exists()
