"""A second, plain way to bound a network: explicit matrices in float64, one box at a time.

Nothing here uses what ``suture.bounds`` computes. Affine steps become sparse matrices by sending
unit vectors through their ``forward``; ReLUs and max poolings are relaxed by code of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from suture.bounds import Network, Relu
from suture.bounds.network import Node
from suture.bounds.pooling import MaxPool

Array = NDArray[np.float64]
_AT_ONCE, _LARGEST = 512, 60_000_000


class TooLargeError(Exception):
    """The network does not fit this way; another one has to check."""


@dataclass(frozen=True, eq=False)
class Step:
    """One node: affine ``sum_i M_i x_i + b``, or a ReLU, or a max pooling.

    Attributes:
        inputs: nodes that are read.
        matrices: one per input, ``(out, in)``; empty for what is not affine.
        shift: ``(out,)``.
        slope: of a ReLU's negative side, else ``None``.
        windows: flat input positions of each output of a max pooling, -1 where there is none.
    """

    inputs: tuple[int, ...]
    matrices: tuple[Any, ...] = ()
    shift: Array | None = None
    slope: float | None = None
    windows: NDArray[np.int64] | None = None


Cache = dict[Any, tuple[Any, Step]]
"""Steps by the tensors behind them; the operation is kept, so that no tensor's place is reused."""


def steps_of(network: Network, cache: Cache | None = None) -> list[Step]:
    """The steps of a network, in float64; node 0 is an empty step.

    Args:
        cache: steps of operations met before, where many networks share most of them.

    Raises:
        TooLargeError: an operation that has no matrix, or too large a one.
    """
    cache = {} if cache is None else cache
    steps = [Step(())]
    for node in network.nodes[1:]:
        shapes = tuple(network.nodes[i].shape for i in node.inputs)
        key = (type(node.op), *_identity(node.op), shapes)
        if key not in cache:
            cache[key] = (node.op, _step(node, shapes))
        steps.append(replace(cache[key][1], inputs=node.inputs))
    return steps


def _identity(op: Any) -> list[Any]:
    """What an operation is made of: tensors and modules by place, the rest by value."""
    return [
        id(value) if isinstance(value, torch.Tensor | torch.nn.Module) else str(value)
        for value in vars(op).values()
    ]


def _step(node: Node, shapes: tuple[tuple[int, ...], ...]) -> Step:
    if isinstance(node.op, Relu):
        return Step(node.inputs, slope=node.op.slope)
    if isinstance(node.op, MaxPool):
        return Step(node.inputs, windows=_windows(node.op, shapes[0]))
    op = node.op.to(torch.float64)
    if not op.affine:
        raise TooLargeError(type(op).__name__)
    zeros = [torch.zeros(1, *shape, dtype=torch.float64) for shape in shapes]
    with torch.no_grad():
        shift = op.forward(*zeros).flatten().numpy()
        matrices = tuple(_matrix(op, zeros, i, shift) for i in range(len(shapes)))
    return Step(node.inputs, matrices, shift)


def _matrix(op: Any, zeros: list[torch.Tensor], which: int, shift: Array) -> Any:
    size, shape = zeros[which].numel(), zeros[which].shape[1:]
    columns, held = [], 0
    for start in range(0, size, _AT_ONCE):
        count = min(_AT_ONCE, size - start)
        unit = torch.zeros(count, size, dtype=torch.float64)
        unit[torch.arange(count), start + torch.arange(count)] = 1
        values = [z.expand(count, *z.shape[1:]) for z in zeros]
        values[which] = unit.view(count, *shape)
        columns.append(sp.csr_matrix(op.forward(*values).flatten(1).numpy() - shift))
        held += columns[-1].nnz
        if held > _LARGEST:
            raise TooLargeError(f"{held} weights in one matrix")
    whole = sp.vstack(columns).T.tocsr()
    dense = whole.nnz > 0.3 * math.prod(whole.shape)
    return np.asarray(whole.todense()) if dense else whole


def _windows(op: MaxPool, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Positions that each output looks at, found by raising one input at a time."""
    size = math.prod(shape)
    found: list[list[int]] = []
    for start in range(0, size, _AT_ONCE):
        count = min(_AT_ONCE, size - start)
        unit = torch.zeros(count, size, dtype=torch.float64)
        unit[torch.arange(count), start + torch.arange(count)] = 1
        seen = op.forward(unit.view(count, *shape)).flatten(1) > 0
        found = found or [[] for _ in range(seen.shape[1])]
        for row, column in seen.nonzero().tolist():
            found[column].append(start + row)
    longest = max(len(positions) for positions in found)
    return np.array([p + [-1] * (longest - len(p)) for p in found], dtype=np.int64)
