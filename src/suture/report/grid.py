"""Example images as PNG data URIs: clean, adversarial, and their difference made visible."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from suture.report.run import Examples

MOST = 12
_STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Answer:
    """What a classifier said of a picture: whose, the class in words, and whether it is right."""

    whose: str
    name: str
    right: bool


@dataclass(frozen=True)
class Example:
    """One row of the grid; the images are ``data:`` URIs."""

    label: str
    clean: str
    adversarial: str
    difference: str
    on_clean: Answer | None
    on_adversarial: Answer | None
    defended: Answer | None


@dataclass(frozen=True)
class ExampleGrid:
    """The examples on show, how many there were, and by how much differences are amplified."""

    examples: tuple[Example, ...]
    total: int
    amplification: int


def grid(examples: Examples | None) -> ExampleGrid | None:
    """The first examples with their answers; ``None`` when the run kept none."""
    if examples is None or len(examples.clean) == 0:
        return None
    change = examples.adversarial - examples.clean
    factor = amplification(change[:MOST])
    shown = range(min(MOST, len(examples.clean)))
    rows = tuple(_example(examples, i, change[i] * factor) for i in shown)
    return ExampleGrid(rows, len(examples.clean), factor)


def amplification(change: NDArray[np.float32]) -> int:
    """The largest round factor that still shows the largest change without clipping."""
    largest = float(np.abs(change).max(initial=0.0))
    fitting = [step for step in _STEPS if step * largest <= 0.5 + 1e-6]
    return fitting[-1] if fitting and largest > 0 else 1


def _example(examples: Examples, index: int, amplified: NDArray[np.float32]) -> Example:
    label = int(examples.labels[index])

    def answer(whose: str, predicted: NDArray[Any] | None) -> Answer | None:
        if predicted is None:
            return None
        said = int(predicted[index])
        return Answer(whose, examples.name(said), said == label)

    return Example(
        label=examples.name(label),
        clean=png_uri(examples.clean[index]),
        adversarial=png_uri(examples.adversarial[index]),
        difference=png_uri(0.5 + amplified),
        on_clean=answer("undefended", examples.predicted_clean),
        on_adversarial=answer("undefended", examples.predicted_adversarial),
        defended=answer("defended", examples.predicted_defended),
    )


def png_uri(image: NDArray[np.float32]) -> str:
    """A ``(channels, height, width)`` image in [0, 1] as a PNG data URI.

    Neither one nor three channels cannot be shown as a picture: their mean is.
    """
    finite = np.nan_to_num(image, nan=0.5)
    pixels = np.clip(np.rint(finite * 255.0), 0, 255).astype(np.uint8)
    if pixels.shape[0] == 3:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    else:
        picture = Image.fromarray(pixels.mean(axis=0).round().astype(np.uint8))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
