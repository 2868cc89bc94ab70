"""Attacked images at rest: the records do not know where they lie."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from suture import data
from suture.attacks import PGD, Square
from suture.data import dataset
from suture.engine import Inline, Ledger, Processes, Recorded, Run
from suture.evaluate import Evaluation, Plan, Subject, Tier, evaluate
from suture.evaluate import pictures as at_rest
from suture.evaluate.pictures import CleanPictures, Store, chosen, chunk_of, labelled
from suture.evaluate.pieces import _Candidates, _Portion
from suture.models import digest
from suture.pipeline import KeepImages, assess
from suture.testing.small import digits, trained

PLAN = Plan(
    attack=Square(eps=0.2, queries=20), tier=Tier(steps=3, queries=10), radii=(0.5,),
    also=(PGD(eps=0.1, steps=3),),
)  # fmt: skip
SEEN_EACH_TIME = ("seconds", "peak_memory_mb")


def found(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = [record.to_dict() for record in evaluation.records]
    return [{k: v for k, v in row.items() if k not in SEEN_EACH_TIME} for row in rows]


def measured(**more: Any) -> Evaluation:
    subject = Subject("undefended", trained(), "digits")
    given = digits().test.select(torch.arange(30))
    return evaluate([subject], given, PLAN, data="digits", batch_size=8, **more)


@cache
def in_memory() -> Evaluation:
    return measured()


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_rest, "HELD", 0)
    monkeypatch.setattr(dataset, "RESIDENT", 0)


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("engine", ["file", "ledger", "processes"])
def test_records_do_not_know_where_the_images_lie(tmp_path: Path, engine: str) -> None:
    if engine == "processes":
        with Processes(workers=2) as workers:
            there = measured(engine=workers)
    else:
        ledger = Recorded(Inline(threads_per_item=None), Ledger(tmp_path))
        there = measured(engine=ledger if engine == "ledger" else None)
    here = in_memory()
    assert found(there) == found(here)
    assert torch.equal(there.attacked[:], here.attacked[:])
    assert there.strongest.keys() == here.strongest.keys() == {"undefended"}
    assert torch.equal(there.strongest["undefended"][:], here.strongest["undefended"][:])


def test_images_that_nobody_looks_at_again_are_not_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    measured(engine=Recorded(Inline(threads_per_item=None), ledger))
    sizes = [path.stat().st_size for path in tmp_path.glob("rows-*.safetensors")]
    image = 8 * 8 * 8 * 4
    assert any(size > image for size in sizes)
    assert any(size < image for size in sizes), "the curve's rows and the noise keep none"


@pytest.mark.parametrize("limit", [0, 700, 10**6])
def test_an_album_is_the_tensor_it_was_given(limit: int) -> None:
    images = torch.rand(10, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    album, again = Store(limit).album((10, 1, 4, 5), torch.device("cpu")), images[6:].clone()
    for start, stop in ((0, 3), (3, 4), (4, 6)):
        album.add(images[start:stop])
    assert not album.full
    album.add(images[6:], lambda: again)
    assert album.full
    assert album.digest == digest(images)
    order = torch.tensor([9, 0, 4, 3, 0])
    assert torch.equal(album[:], images)
    assert torch.equal(album[2:7], images[2:7])
    assert torch.equal(album[order], images[order])
    assert torch.equal(torch.cat(list(album.split(4))), images)
    batch = labelled(album, torch.arange(10))
    assert torch.equal(batch[order].images, images[order])
    assert batch[order].labels.tolist() == order.tolist()


def test_for_each_image_its_own_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_rest, "_CHUNK", 4)
    draw = torch.Generator().manual_seed(1)
    candidates, albums = torch.rand(3, 10, 1, 2, 2, generator=draw), []
    for images in candidates:
        album = Store(0).album((10, 1, 2, 2), torch.device("cpu"))
        for piece in images.split(3):
            album.add(piece)
        albums.append(album)
    which = torch.randint(3, (10,), generator=draw)
    assert torch.equal(chosen(albums, which)[:], candidates[which, torch.arange(10)])


def test_large_images_are_forwarded_a_few_at_a_time() -> None:
    assert chunk_of((3, 32, 32)) == chunk_of((1, 28, 28)) == 512
    assert chunk_of((3, 224, 224)) == 2**24 // (3 * 224 * 224) == 111
    assert chunk_of((3, 10_000, 10_000)) == 1


def test_what_travels_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "RESIDENT", 0)
    split = digits().test.select(torch.arange(20))
    sent = pickle.dumps(_Portion(split, 5, 9))
    assert len(sent) < len(pickle.dumps(split)), "the data set stays at home"
    there = pickle.loads(sent).get()
    assert torch.equal(there.images, split[5:9].images)
    assert torch.equal(there.labels, split[5:9].labels)
    compared = _Candidates([CleanPictures(split)], split.labels[2:4], slice(2, 4))
    (images,) = pickle.loads(pickle.dumps(compared)).each()
    assert torch.equal(images, split[2:4].images)


@pytest.mark.parametrize("kept", ["none", "some", "all"])
def test_what_stays_in_the_run(tmp_path: Path, kept: KeepImages) -> None:
    run = Run.create(tmp_path / "run", kind="audit", title="t", command="c", seed=0)
    subject = Subject("undefended", trained(), "digits")
    with run:
        assess(
            [subject], digits().test.batch(30), PLAN, digits(), run, batch_size=8, keep_images=kept
        )
        run.finish()
    names = {path.name for path in run.artifacts.glob("*.npz")}
    examples, strongest = {"examples.npz"}, {"strongest-undefended.npz"}
    assert names == {"none": set(), "some": examples, "all": examples | strongest}[kept]
    if kept == "all":
        again = data.load(run.artifacts / "strongest-undefended.npz").test.batch()
        assert torch.equal(again.images, in_memory().strongest["undefended"][:])
        assert np.array_equal(again.labels, digits().test.labels[:30])
