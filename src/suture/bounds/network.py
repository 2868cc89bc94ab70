"""A network as bounds see it: a list of operations, each with the nodes it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from suture.errors import ModelError

Shape = tuple[int, ...]


class Op(ABC):
    """An operation on values ``(n, *shape)``; the batch axis comes first everywhere.

    Class attributes say what else it can do:
        affine: ``bound_backward(rows)`` substitutes rows through it, exactly.
        relaxed: ``relaxation(lower, upper, alpha)`` bounds it by linear functions.
        windowed: ``bound_backward_patches(patches)`` keeps windows small.
        bounded: ``bound_backward(rows, lower, upper)`` needs bounds of what it reads.
        dense: ``rows(places)`` gives its own coefficients.
        mixes: an output reads several inputs, so that intervals lose what they share.
    """

    affine: ClassVar[bool] = False
    relaxed: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    windowed: ClassVar[bool] = False
    dense: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    @abstractmethod
    def forward(self, *values: Tensor) -> Tensor:
        """What the network computes."""

    @abstractmethod
    def interval(self, lower: Sequence[Tensor], upper: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Smallest box that interval arithmetic gives for the output (IBP)."""

    @abstractmethod
    def to(self, dtype: torch.dtype) -> Any:
        """The same operation with constants of that type."""

    @property
    def examples(self) -> int:
        """Networks that it stands for, where each example has constants of its own."""
        return 1

    def relaxation(self, lower: Tensor, upper: Tensor, alpha: Tensor | None = None) -> Any:
        """Linear lower and upper bounds over the interval, where it is ``relaxed``."""
        raise NotImplementedError(type(self).__name__)

    def matters(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Bool of their shape: the values read whose tighter bounds would tighten its own, where
        it is ``bounded``."""
        return torch.ones_like(lower, dtype=torch.bool)

    def part(self, examples: slice) -> Op:
        """That of some examples; itself where constants are shared."""
        return self


@dataclass(frozen=True)
class Input(Op):
    """Stands for the network's input; it computes nothing."""

    def forward(self, *values: Tensor) -> Tensor:
        """The value itself."""
        return values[0]

    def interval(self, lower: Sequence[Tensor], upper: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The box itself."""
        return lower[0], upper[0]

    def to(self, dtype: torch.dtype) -> Input:
        """Itself."""
        return self


@dataclass(frozen=True, eq=False)
class Node:
    """One step.

    Attributes:
        op: what is computed.
        inputs: positions of the nodes that are read, all smaller than the node's own.
        shape: of the value, without the batch axis.
    """

    op: Op
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Network:
    """Operations in order of execution; node 0 is the input, the last one the output.

    Constants are the tensors of the module it was read from, not copies: gradients reach them,
    and an optimiser's steps are seen.
    """

    nodes: tuple[Node, ...]

    @property
    def in_shape(self) -> Shape:
        """Shape of one input."""
        return self.nodes[0].shape

    @property
    def out_shape(self) -> Shape:
        """Shape of one output."""
        return self.nodes[-1].shape

    def __call__(self, inputs: Tensor) -> Tensor:
        """The output for inputs ``(n, *in_shape)``: what the module computes in eval mode."""
        values = [inputs]
        for node in self.nodes[1:]:
            values.append(node.op.forward(*(values[i] for i in node.inputs)))
        return values[-1]

    def to(self, dtype: torch.dtype) -> Network:
        """The same network with constants of another floating-point type."""
        return Network(tuple(replace(node, op=node.op.to(dtype)) for node in self.nodes))

    @property
    def own_numbers(self) -> int:
        """Constants that one example has for itself, where examples have weights of their own."""
        ops: list[Any] = [node.op for node in self.nodes]
        return sum(op.weight[0].numel() for op in ops if op.examples > 1)

    def part(self, examples: slice) -> Network:
        """The networks of some examples; shared constants stay shared."""
        return Network(tuple(replace(node, op=node.op.part(examples)) for node in self.nodes))


def chain(ops: Sequence[Op], in_shape: Shape) -> Network:
    """Operations one after another; with *per-example* constants ``(n, …)``, n networks at once.

    Raises:
        ModelError: the operations do not fit together.
    """
    nodes = [Node(Input(), (), tuple(in_shape))]
    for op in ops:
        nodes.append(Node(op, (len(nodes) - 1,), shape_after(op, [nodes[-1].shape])))
    return Network(tuple(nodes))


def joined(*parts: Network) -> Network:
    """Networks one after another: each reads what the one before it gives."""
    nodes = list(parts[0].nodes)
    for part in parts[1:]:
        offset = len(nodes) - 1
        nodes += [
            replace(node, inputs=tuple(i + offset for i in node.inputs)) for node in part.nodes[1:]
        ]
    return Network(tuple(nodes))


def shape_after(op: Op, shapes: Sequence[Shape]) -> Shape:
    """Shape of one output, found by running the operation on zeros."""
    count = op.examples
    try:
        with torch.no_grad():
            like = next(_tensors(op), torch.zeros(0))
            zeros = [like.new_zeros((count, *shape)) for shape in shapes]
            return tuple(op.forward(*zeros).shape[1:])
    except RuntimeError as error:
        raise ModelError(
            expected=f"an operation that takes values of shape {list(shapes)}",
            got=f"{type(op).__name__}: {str(error).splitlines()[0]}",
            remedy="Check the shapes of its weights.",
        ) from None


def _tensors(op: Op) -> Any:
    return (v for v in vars(op).values() if isinstance(v, Tensor) and v.is_floating_point())
