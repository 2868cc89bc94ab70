"""The later layers of a network without fixed phases, as rows of a mixed-integer program.

The usual encoding (Tjeng, Xiao & Tedrake 2019): ``a = ReLU(z)`` with ``l <= z <= u`` is
``a >= 0, a >= z, a <= u d, a <= z - l (1 - d), d ∈ {0, 1}``; a neuron that cannot switch needs no
d. The bounds l, u are CROWN's on a box of the values where the encoding begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from suture import bounds
from suture.attacks.aigent.tail import Tail
from suture.types import Box

_WIDER = 1e-7
"""Bounds are taken apart by this share of their size: CROWN's sums are rounded."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """Rows on ``(z, further)``: the values z of one layer, then activations and switches.

    Attributes:
        lower, upper, integer: ``(further,)`` of the further variables.
        matrix, row_lower, row_upper: sparse ``(rows, z + further)``, and the rows' bounds.
        outputs, shift: the logits are ``outputs @ (z, further) + shift``.
        switches: how many neurons may be in either phase.
    """

    lower: np.ndarray
    upper: np.ndarray
    integer: np.ndarray
    matrix: Any
    row_lower: np.ndarray
    row_upper: np.ndarray
    outputs: Any
    shift: np.ndarray
    switches: int


def known_bounds(
    tail: Tail, layer: int, lower: np.ndarray, upper: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """CROWN bounds of the values of layers ``layer`` … L-1, those of ``layer`` in a box."""
    if layer == len(tail):
        return []
    read = bounds.read(_after(tail, layer), (1, 1, len(lower)))
    box = Box(*(torch.from_numpy(side.reshape(1, 1, 1, -1).copy()) for side in (lower, upper)))
    known = bounds.prepare(read, box, "crown").known
    pairs = [tuple(side.reshape(-1).numpy() for side in known[node]) for node in sorted(known)]
    return [
        (low - _WIDER * (1.0 + np.abs(low)), high + _WIDER * (1.0 + np.abs(high)))
        for low, high in pairs
    ]


def _after(tail: Tail, layer: int) -> nn.Sequential:
    modules: list[nn.Module] = [nn.Flatten()]
    for weight, bias in zip(tail.weights[layer:], tail.biases[layer:], strict=True):
        made = nn.Linear(weight.shape[1], len(weight)).double()
        with torch.no_grad():
            made.weight.copy_(torch.from_numpy(weight))
            made.bias.copy_(torch.from_numpy(bias))
        modules += [nn.ReLU(), made]
    return nn.Sequential(*modules).requires_grad_(False)


def encode(tail: Tail, layer: int, lower: np.ndarray, upper: np.ndarray) -> Encoding:
    """The network behind the values z of a layer, for z in the box.

    Args:
        tail: the layers.
        layer: 1 … L, whose values are z.
        lower, upper: ``(neurons,)``, finite.
    """
    parts = _Parts(len(lower))
    value: Any = sparse.eye_array(len(lower), format="csr")
    shift = np.zeros(len(lower))
    known = known_bounds(tail, layer, lower, upper)
    for index, (low, high) in enumerate(known, start=layer):
        columns = parts.activations(value, shift, low, high)
        weight = tail.weights[index]
        value = sparse.csr_array((len(weight), parts.width)).tolil()
        value[:, columns] = weight
        value, shift = value.tocsr(), tail.biases[index]
    return parts.finished(value, shift)


class _Parts:
    """Variables and rows as they come; the first ``n`` columns are z."""

    def __init__(self, n: int) -> None:
        self._n, self.width, self._switches = n, n, 0
        self._lower, self._upper = list[np.ndarray](), list[np.ndarray]()
        self._integer, self._rows = list[np.ndarray](), list[tuple[Any, Any, Any]]()

    def _variables(self, upper: np.ndarray, integer: bool) -> np.ndarray:
        columns = np.arange(self.width, self.width + len(upper))
        self.width += len(upper)
        self._lower.append(np.zeros(len(upper)))
        self._upper.append(upper)
        self._integer.append(np.full(len(upper), integer))
        return columns

    def _row(self, blocks: list[tuple[Any, Any]], low: Any, high: Any) -> None:
        """``low <= Σ coefficients[columns] <= high``; a block is ``(columns, matrix)``."""
        height = blocks[0][1].shape[0]
        whole = sparse.csr_array((height, self.width))
        for columns, matrix in blocks:
            entries = sparse.coo_array(matrix)
            at = (entries.coords[0], np.asarray(columns)[entries.coords[1]])
            whole = whole + sparse.csr_array((entries.data, at), shape=whole.shape)
        self._rows.append((whole, np.broadcast_to(low, height), np.broadcast_to(high, height)))

    def activations(
        self, value: Any, shift: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Columns of ``ReLU(value @ (z, further) + shift)``, its inputs in ``[low, high]``."""
        columns, before = self._variables(np.maximum(high, 0.0), False), np.arange(value.shape[1])
        on, either = (low >= 0).nonzero()[0], ((low < 0) & (high > 0)).nonzero()[0]
        if len(on):
            unit = sparse.eye_array(len(on))
            self._row([(columns[on], unit), (before, -value[on])], shift[on], shift[on])
        if len(either):
            self._switches += len(either)
            unit, switch = (
                sparse.eye_array(len(either)),
                self._variables(np.ones(len(either)), True),
            )
            here, least, most = columns[either], low[either], high[either]
            minus, move = (before, -value[either]), shift[either]
            self._row([(here, unit), minus], move, np.inf)
            self._row([(here, unit), (switch, sparse.diags_array(-most))], -np.inf, 0.0)
            turned = (switch, sparse.diags_array(-least))
            self._row([(here, unit), minus, turned], -np.inf, move - least)
        return columns

    def finished(self, value: Any, shift: np.ndarray) -> Encoding:
        def wide(matrix: Any) -> Any:
            missing = self.width - matrix.shape[1]
            return sparse.hstack([matrix, sparse.csr_array((matrix.shape[0], missing))], "csr")

        none = np.zeros(0)
        empty = sparse.csr_array((0, self.width))
        return Encoding(
            lower=np.concatenate([none, *self._lower]),
            upper=np.concatenate([none, *self._upper]),
            integer=np.concatenate([none.astype(bool), *self._integer]),
            matrix=sparse.vstack([empty, *(wide(row) for row, _, _ in self._rows)], "csr"),
            row_lower=np.concatenate([none, *(low for _, low, _ in self._rows)]),
            row_upper=np.concatenate([none, *(high for _, _, high in self._rows)]),
            outputs=wide(value),
            shift=shift,
            switches=self._switches,
        )
