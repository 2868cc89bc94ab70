"""Constant folding: the operators that compute reshape targets and the like, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from suture.models.onnx_import.values import PROBES, Static, unsuitable

_LARGEST = 1 << 28


@dataclass(frozen=True)
class OnnxNode:
    """One ONNX node: what it is, its attributes, and the operator-set version it follows."""

    kind: str
    name: str
    attributes: dict[str, Any]
    opset: int

    @staticmethod
    def read(proto: Any, opset: int) -> OnnxNode:
        """From a ``NodeProto``; strings and tensors are decoded."""
        decoded = {a.name: _decode(a) for a in proto.attribute}
        domain = f"{proto.domain}." if proto.domain not in ("", "ai.onnx") else ""
        return OnnxNode(domain + proto.op_type, proto.name or proto.output[0], decoded, opset)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default."""
        return self.attributes.get(name, default)


def _decode(attribute: Any) -> Any:
    from onnx import helper, numpy_helper

    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    return numpy_helper.to_array(value) if attribute.HasField("t") else value


Arrays = Sequence[np.ndarray | None]


def _axes(node: OnnxNode, arrays: Arrays, position: int = 1) -> tuple[int, ...] | None:
    """Axes, which moved from attribute to input in later operator sets."""
    if "axes" in node.attributes:
        return tuple(int(a) for a in node.attributes["axes"])
    given = arrays[position] if len(arrays) > position else None
    return None if given is None else tuple(int(a) for a in given.reshape(-1))


def _unsqueeze(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    return np.expand_dims(_first(arrays), _axes(node, arrays) or ())


def _squeeze(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    return np.squeeze(_first(arrays), axis=_axes(node, arrays))


def _first(arrays: Arrays) -> np.ndarray:
    return _nth(arrays, 0)


def _nth(arrays: Arrays, position: int) -> np.ndarray:
    array = arrays[position] if position < len(arrays) else None
    if array is None:
        raise unsuitable(f"an operator without its input {position}")
    return array


def _slice(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    return _first(arrays)[slices(node, arrays, _first(arrays).ndim)]


def slices(node: OnnxNode, arrays: Arrays, ndim: int) -> tuple[slice, ...]:
    """The Python slices of a Slice node, from its attributes (opset < 10) or its inputs.

    Args:
        node: the Slice node.
        arrays: its inputs; the first is not looked at.
        ndim: number of axes of the sliced value.
    """

    def part(name: str, position: int) -> list[int] | None:
        if name in node.attributes:
            return list(node.attributes[name])
        given = arrays[position] if len(arrays) > position else None
        return None if given is None else [int(v) for v in given.reshape(-1)]

    starts, ends = part("starts", 1) or [], part("ends", 2) or []
    axes = part("axes", 3) or list(range(len(starts)))
    steps = part("steps", 4) or [1] * len(starts)
    result = [slice(None)] * ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise unsuitable(f"Slice with the step {step}")
        result[axis] = slice(start, end, step)
    return tuple(result)


def _concat(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    return np.concatenate([a for a in arrays if a is not None], axis=int(node.get("axis", 0)))


def _cast(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    from onnx import helper

    return _first(arrays).astype(helper.tensor_dtype_to_np_dtype(int(node.get("to", 1))))


def _constant_of_shape(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    fill = node.get("value", np.zeros(1, np.float32))
    return np.full(_sized(_first(arrays)), fill.reshape(-1)[0], dtype=fill.dtype)


def _expand(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    target = _sized(arrays[1])
    return _first(arrays) * np.ones(target, dtype=_first(arrays).dtype)


def _sized(shape: np.ndarray | None) -> tuple[int, ...]:
    """A shape that a few bytes of file asked for, unless it means gigabytes."""
    sizes = tuple(int(v) for v in (shape if shape is not None else ()))
    if any(v < 0 for v in sizes) or float(np.prod([float(v) for v in sizes])) > _LARGEST:
        raise unsuitable(f"a constant of shape {sizes}")
    return sizes


def _reshape(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    data, target = _first(arrays), arrays[1]
    shape = [int(v) for v in (target if target is not None else ())]
    shape = [data.shape[i] if v == 0 else v for i, v in enumerate(shape)]
    return data.reshape(shape)


def _reduce(function: Callable[..., Any]) -> Callable[[OnnxNode, Arrays], np.ndarray]:
    def run(node: OnnxNode, arrays: Arrays) -> np.ndarray:
        keep = bool(node.get("keepdims", 1))
        return np.asarray(function(_first(arrays), axis=_axes(node, arrays), keepdims=keep))

    return run


def _elementwise(function: Callable[..., Any]) -> Callable[[OnnxNode, Arrays], np.ndarray]:
    return lambda node, arrays: np.asarray(function(*arrays))


def _divide(node: OnnxNode, arrays: Arrays) -> np.ndarray:
    """Integers divide towards zero in ONNX."""
    quotient = np.true_divide(_first(arrays), _nth(arrays, 1))
    whole = np.issubdtype(_first(arrays).dtype, np.integer)
    return np.trunc(quotient).astype(_first(arrays).dtype) if whole else quotient


_FOLD: dict[str, Callable[[OnnxNode, Arrays], np.ndarray]] = {
    "Add": _elementwise(np.add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Equal": _elementwise(np.equal),
    "Expand": _expand,
    "Floor": _elementwise(np.floor),
    "Gather": lambda node, a: np.take(_first(a), _nth(a, 1), axis=int(node.get("axis", 0))),
    "Identity": lambda node, a: _first(a),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Pow": _elementwise(np.power),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": _squeeze,
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda node, a: np.transpose(_first(a), node.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(np.where),
}

FOLDED = tuple(_FOLD)


def constant(node: OnnxNode) -> Static:
    """The value of a Constant node, in any of its spellings."""
    for name, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return Static((np.asarray(node.attributes[name], dtype=dtype),) * len(PROBES))
    raise unsuitable(f"a Constant without numbers ({', '.join(node.attributes)})")


def fold(node: OnnxNode, inputs: Sequence[Static | None]) -> Static:
    """The output of a node whose inputs are all static, at both batch sizes."""
    runs = [
        _FOLD[node.kind](node, [None if v is None else v.at[i] for v in inputs])
        for i in range(len(PROBES))
    ]
    return Static(tuple(runs))
