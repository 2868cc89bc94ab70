"""The few smallest or largest of many numbers, without sorting them all."""

from __future__ import annotations

import numpy as np


def smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` smallest of ``values (n,)``, the smallest first.

    >>> import numpy as np
    >>> smallest(np.array([3.0, 1.0, 2.0, 9.0]), 2).tolist()
    [1, 2]
    """
    if count >= len(values):
        return np.argsort(values, kind="stable")
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    few = np.sort(np.argpartition(values, count - 1)[:count])
    return few[np.argsort(values[few], kind="stable")]


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` largest of ``values (n,)``, the largest first."""
    return smallest(-values, count)
