"""What flows through an ONNX graph while it is imported.

Every value is known at two batch sizes at once. What differs between them depends on the batch;
so a chain of Shape, Gather, Concat that computes a reshape target folds away without any
symbolic algebra, and every emitted reshape holds -1 at the one axis where the batch enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, fx

from suture.errors import ModelError

# Two coprime sizes, both larger than 1 so that neither hides in a broadcast.
PROBES = (2, 3)


@dataclass(frozen=True, eq=False)
class Live:
    """A value that depends on the images: its node, and its tensor at both batch sizes."""

    node: fx.Node
    probes: tuple[Tensor, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape at both batch sizes."""
        return tuple(tuple(p.shape) for p in self.probes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.probes[0].ndim


@dataclass(frozen=True, eq=False)
class Static:
    """A value that does not depend on the images, though perhaps on how many there are."""

    at: tuple[np.ndarray, ...]

    @property
    def constant(self) -> bool:
        """Whether it is the same at any batch size."""
        first = self.at[0]
        numbers = first.dtype.kind == "f"
        return all(np.array_equal(first, other, equal_nan=numbers) for other in self.at[1:])

    @property
    def value(self) -> np.ndarray:
        """The constant.

        Raises:
            ModelError: if it depends on the batch size.
        """
        if not self.constant:
            raise unsuitable("a value that depends on the batch size where a constant is needed")
        return self.at[0]

    def integers(self) -> list[int]:
        """The constant as a flat list of integers."""
        return [int(v) for v in self.value.reshape(-1)]


def unsuitable(got: str) -> ModelError:
    """The error for a construct that the importer does not take."""
    return ModelError(
        expected="a network that treats the images of a batch one by one",
        got=got,
        remedy="Export the model again, with a free batch axis and in eval mode.",
    )
