"""ONNX operators that compare, choose, look up and draw: what repair programs are made of.

A table of programs is looked up by a draw, features are gathered and scattered by it. Whole
numbers come from draws alone: of what the images give, a cast to integers would cut the gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from suture.models.layers import Uniform
from suture.models.onnx_import.emitter import Emitter
from suture.models.onnx_import.folding import OnnxNode
from suture.models.onnx_import.layers import Handler, Value, live
from suture.models.onnx_import.values import PROBES, Live, Static, unsuitable

_INTEGERS = {6: torch.int32, 7: torch.int64, 9: torch.bool}


def operand(emitter: Emitter, node: OnnxNode, value: Value) -> Live:
    """An input as a node: constants keep their type; one row serves for all images."""
    if isinstance(value, Live):
        return value
    if value is None:
        raise unsuitable(f"{node.kind} without one of its inputs")
    if value.constant:
        return emitter.buffer(value.value)
    first = value.at[0]
    rows = first[:1] if first.ndim else first
    if first.ndim == 0 or any((array != rows).any() for array in value.at):
        raise unsuitable(f"{node.kind} of something that depends on the number of images")
    return emitter.buffer(rows)


def function(run: Callable[..., Tensor]) -> Handler:
    """A function of all its inputs, element by element."""

    def handler(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
        return emitter.function(run, *(operand(emitter, node, value) for value in inputs))

    return handler


def folded(run: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    """A function of two, over any number of inputs."""

    def handler(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
        parts = [operand(emitter, node, value) for value in inputs]
        return functools.reduce(lambda a, b: emitter.function(run, a, b), parts)

    return handler


def cast(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Every float type is float32 here; whole numbers and truth come from draws alone."""
    x, to = live(node, inputs[0]), int(node.get("to", 1))
    if to in _INTEGERS and (emitter.is_drawn(x) or not x.probes[0].is_floating_point()):
        return emitter.function(_typed, x, dtype=_INTEGERS[to])
    if to not in (1, 10, 11, 16):
        raise unsuitable("a Cast of something that depends on the images to integers")
    if x.probes[0].is_floating_point():
        return x
    return emitter.function(_typed, x, dtype=torch.float32)


def _typed(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)


def random_uniform(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """A uniform number in [low, high) for every image; ``noise`` decides it where it is given."""
    shapes = inputs[0].shapes if isinstance(inputs[0], Live) else _shapes(node, inputs[0])
    if [shape[:1] for shape in shapes] != [(n,) for n in PROBES] or any(
        set(shape[1:]) - {1} for shape in shapes
    ):
        raise unsuitable(f"{node.kind} of other than one number for each image")
    low, high = float(node.get("low", 0.0)), float(node.get("high", 1.0))
    return emitter.reshape(emitter.draw(Uniform(low, high, emitter.draws)), shapes)


def _shapes(node: OnnxNode, value: Any) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, Static):
        raise unsuitable(f"{node.kind} without an input")
    return tuple(array.shape for array in value.at)


def gather_nd(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Rows of a table, one index each."""
    table, index = operand(emitter, node, inputs[0]), live(node, inputs[1])
    if int(node.get("batch_dims", 0)) or isinstance(inputs[0], Live) or index.shapes[0][-1] != 1:
        raise unsuitable("GatherND of other than rows of a constant table")
    return emitter.function(_rows, table, index)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    return table[index[..., 0]]


def gather_elements(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Along one axis, the elements of the indices."""
    x, index = live(node, inputs[0]), operand(emitter, node, inputs[1])
    return emitter.function(torch.gather, x, _axis(node, x), index)


def scatter_elements(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Along one axis, the elements of the indices are replaced."""
    if node.get("reduction", "none") != "none":
        raise unsuitable("ScatterElements that adds or multiplies")
    x = live(node, inputs[0])
    index, updates = (operand(emitter, node, value) for value in inputs[1:3])
    return emitter.function(torch.scatter, x, _axis(node, x), index, updates)


def _axis(node: OnnxNode, x: Live) -> int:
    axis = int(node.get("axis", 0)) % x.ndim
    if x.shapes[0][axis] != x.shapes[1][axis]:
        raise unsuitable(f"{node.kind} along the batch axis")
    return axis


SELECTING: dict[str, Handler] = {
    "And": function(torch.logical_and),
    "BitwiseAnd": function(torch.bitwise_and),
    "Cast": cast,
    "Equal": function(torch.eq),
    "Floor": function(torch.floor),
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Greater": function(torch.gt),
    "GreaterOrEqual": function(torch.ge),
    "Less": function(torch.lt),
    "LessOrEqual": function(torch.le),
    "Max": folded(torch.maximum),
    "Min": folded(torch.minimum),
    "Not": function(torch.logical_not),
    "Or": function(torch.logical_or),
    "RandomUniformLike": random_uniform,
    "ScatterElements": scatter_elements,
    "Where": function(torch.where),
}
