"""WebDataset shards: an index over tar files, and nothing opened but pictures and classes."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from suture import data
from suture.data.shards import ShardImages
from suture.errors import DataError


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


def pictures(count: int, seed: int, channels: tuple[int, ...] = (3,)) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.integers(256, size=(count, 6, 5, *channels), dtype=np.uint8)


def members(images: np.ndarray, first: int = 0) -> list[tuple[str, bytes]]:
    return [
        member
        for place, pixels in enumerate(images, first)
        for member in (
            (f"a/{place:03d}.cls", b"%d\n" % (place % 3)),
            (f"a/{place:03d}.png", png(pixels)),
        )
    ]


class Bomb:
    """Ends the test if anybody unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("a stranger's pickle was opened",))


def test_shards_are_read_in_their_order(tmp_path: Path) -> None:
    first, second, test = pictures(4, 0), pictures(3, 1), pictures(2, 2)
    extra = [("a/000.pyd", pickle.dumps(Bomb())), ("a/000.json", b"{"), ("a/000.pkl", b"\x80")]
    write(tmp_path / "s" / "train-000.tar", [*members(first), *extra])
    write(tmp_path / "s" / "train-001.tar", members(second, 4))
    write(tmp_path / "s" / "test-000.tar", members(test))
    found = data.load(tmp_path / "s", validation=0)
    assert isinstance(found.train.store, ShardImages)
    expected = np.concatenate([first, second]).transpose(0, 3, 1, 2)
    stored, labels = found.train.arrays()
    assert np.array_equal(stored, expected)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert np.array_equal(found.test.arrays()[0], test.transpose(0, 3, 1, 2))
    again = pickle.loads(pickle.dumps(found.train))
    assert torch.equal(again[torch.tensor([5, 1])].images, found.train[torch.tensor([5, 1])].images)
    assert again.known == found.train.known != found.test.known


def test_a_single_file_is_a_whole_and_may_be_resized(tmp_path: Path) -> None:
    path = write(tmp_path / "all.tar", members(pictures(20, 0, ())))
    assert data.load(path).in_shape == (1, 6, 5)
    small = data.load(path, size=(3, 4))
    assert small.in_shape == (1, 3, 4)
    assert (len(small.train), len(small.validation), len(small.test)) == (15, 1, 4)


@pytest.mark.parametrize(
    ("held", "got"),
    [
        ([("a.png", png(pictures(1, 0)[0]))], "no class for 'a'"),
        ([("a.cls", b"1")], "no picture"),
        ([("a.cls", b"cat"), ("a.png", b"x")], "invalid literal"),
        ([("a.cls", b"1"), ("a.png", b"not a picture")], "a picture"),
        ([("a.cls", b"1" * 40), ("a.png", png(pictures(1, 0)[0]))], "no class for 'a'"),
        ([*members(pictures(1, 0)), ("b.cls", b"0"), ("b.png", png(pictures(1, 0)[0, :4]))], "5x4"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, held: list[tuple[str, bytes]], got: str) -> None:
    with pytest.raises(DataError, match=got):
        data.load(write(tmp_path / "bad.tar", held))


def test_what_is_no_tar_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"no tar file" * 100)
    with pytest.raises(DataError, match="a tar file at"):
        data.load(tmp_path / "bad.tar")
