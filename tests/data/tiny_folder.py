"""A small copy of TinyImageNet's layout: random pictures, official file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NUMBERS = ("n02124075", "n01443537", "n04067472")
"""In the order of ``wnids.txt``, which is not the alphabet's."""


def written(root: Path, each: int = 4, tested: int = 2, numbers: tuple[str, ...] = NUMBERS) -> Path:
    """``tiny-imagenet-200`` under ``root``: so many pictures a class."""
    folder = root / "tiny-imagenet-200"
    draws = np.random.default_rng(0)
    for c, number in enumerate(numbers):
        for k in range(each):
            _picture(folder / "train" / number / "images" / f"{number}_{k}.JPEG", draws, c)
        (folder / "train" / number / f"{number}_boxes.txt").write_text("x\t0\t0\t9\t9\n")
    lines = []
    for k in range(tested * len(numbers)):
        _picture(folder / "val" / "images" / f"val_{k}.JPEG", draws, k % len(numbers), grey=k == 0)
        lines.append(f"val_{k}.JPEG\t{numbers[k % len(numbers)]}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    _picture(folder / "test" / "images" / "test_0.JPEG", draws, 0)
    (folder / "wnids.txt").write_text("\n".join(numbers))
    words = (
        "n01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn09999999\telsewhere\n"
    )
    (folder / "words.txt").write_text(words)
    return folder


def _picture(path: Path, draws: np.random.Generator, kind: int, *, grey: bool = False) -> None:
    """Bright in the channel of its class, so that there is something to learn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = draws.integers(0, 90, (64, 64, 3), dtype=np.uint8)
    pixels[..., kind % 3] += 150 - 40 * (kind // 3)
    image = Image.fromarray(pixels)
    (image.convert("L") if grey else image).save(path, quality=95)
