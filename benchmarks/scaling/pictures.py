"""A folder of many pictures, to measure with: crops and flips of the data folder's ImageNet sample.

    python benchmarks/scaling/pictures.py FOLDER --train 50000 --test 5000

JPEG of 224x224 at quality 90, below ``train/`` and ``test/``, in ten classes (the sample's
thousand, by their last digit). Each picture is a crop of at least half of the original's side,
from a place of its own, mirrored or not: a function of its number. Delete the folder afterwards.
"""

from __future__ import annotations

import argparse
import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

from suture.data.places import folder as data_folder

SIDE, CLASSES, QUALITY = 224, 10, 90
PARTS = (("train", 0), ("test", 1))


def main() -> None:
    """Write both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=5_000)
    given = parser.parse_args()
    originals = _originals(data_folder() / "imagenet_sample1000.npz")
    for part, seed in PARTS:
        for number in range(getattr(given, part)):
            image, label = originals[number % len(originals)]
            path = given.folder / part / f"{label}" / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            _altered(image, random.Random(f"{seed} {number}")).save(path, quality=QUALITY)


def _originals(path: Path) -> list[tuple[Image.Image, int]]:
    """The sample's pictures, and which tenth of the classes each belongs to."""
    with np.load(path, allow_pickle=False) as held:
        content, offsets, labels = held["jpeg"], held["offsets"], held["y"]
    spans = zip(offsets, offsets[1:], labels, strict=False)
    return [
        (Image.open(io.BytesIO(content[a:b].tobytes())).convert("RGB"), int(label) % CLASSES)
        for a, b, label in spans
    ]


def _altered(image: Image.Image, draw: random.Random) -> Image.Image:
    side = int(min(image.size) * draw.uniform(0.5, 1.0))
    left, top = (draw.randint(0, length - side) for length in image.size)
    crop = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else crop


if __name__ == "__main__":
    main()
