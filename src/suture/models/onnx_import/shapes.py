"""ONNX operators that move values about or combine them: reshapes, slices, sums, means."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from suture.models.layers import Affine, Repeat
from suture.models.onnx_import.emitter import Emitter, tensor
from suture.models.onnx_import.folding import OnnxNode, slices
from suture.models.onnx_import.layers import Handler, Value, constant_pad, live, static
from suture.models.onnx_import.values import PROBES, Live, Static, unsuitable


def reshape(declared: int | None) -> Handler:
    """Reshape; a file with a fixed batch size may hold that size in its targets."""

    def run(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
        x = live(node, inputs[0])
        if "shape" in node.attributes:
            targets = (np.asarray(node.attributes["shape"]),) * len(PROBES)
        else:
            given = inputs[1]
            targets = given.at if isinstance(given, Static) else (static(node, given, "shape"),) * 2
        pairs = zip(targets, x.shapes, strict=True)
        return emitter.reshape(x, [_target(t, s, declared) for t, s in pairs])

    return run


def _target(target: np.ndarray, shape: tuple[int, ...], declared: int | None) -> list[int]:
    """The shape that a target means for a value of ``shape``; 0 copies, -1 fills up."""
    sizes = [int(v) for v in target.reshape(-1)]
    if sizes and sizes[0] == declared and shape[0] in PROBES:
        sizes[0] = shape[0]
    sizes = [shape[i] if v == 0 else v for i, v in enumerate(sizes)]
    total, known = math.prod(shape), math.prod(v for v in sizes if v != -1)
    if -1 in sizes and known and total % known == 0:
        sizes[sizes.index(-1)] = total // known
    if math.prod(sizes) != total:
        raise unsuitable(f"a reshape of {shape} to {target.tolist()}")
    return sizes


def flatten(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Two axes: those before ``axis`` and those from it on."""
    x = live(node, inputs[0])
    axis = int(node.get("axis", 1)) % (x.ndim + 1)
    return emitter.reshape(x, [(math.prod(s[:axis]), math.prod(s[axis:])) for s in x.shapes])


def _axes(node: OnnxNode, inputs: Sequence[Value], position: int = 1) -> list[int] | None:
    if "axes" in node.attributes:
        return [int(a) for a in node.attributes["axes"]]
    given = inputs[position] if len(inputs) > position else None
    return None if given is None else [int(a) for a in static(node, given, "axes").reshape(-1)]


def squeeze(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Axes of length 1 vanish."""
    x = live(node, inputs[0])
    axes = _axes(node, inputs)
    gone = (
        {i for i, s in enumerate(x.shapes[0]) if s == 1}
        if axes is None
        else {a % x.ndim for a in axes}
    )
    return emitter.reshape(x, [[v for i, v in enumerate(s) if i not in gone] for s in x.shapes])


def unsqueeze(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Axes of length 1 appear."""
    x = live(node, inputs[0])
    axes = _axes(node, inputs) or []
    new = {a % (x.ndim + len(axes)) for a in axes}

    def widened(shape: tuple[int, ...]) -> list[int]:
        sizes = iter(shape)
        return [1 if i in new else next(sizes) for i in range(len(shape) + len(new))]

    return emitter.reshape(x, [widened(s) for s in x.shapes])


def transpose(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Axes in another order."""
    x = live(node, inputs[0])
    return emitter.permute(x, [int(a) for a in node.get("perm", range(x.ndim)[::-1])])


def concat(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Values side by side; a constant among them is repeated for every image."""
    base = next(v for v in inputs if isinstance(v, Live))
    axis = int(node.get("axis", 0)) % base.ndim
    if base.shapes[0][axis] != base.shapes[1][axis]:
        raise unsuitable("Concat along the batch axis")
    parts = [v if isinstance(v, Live) else _repeated(emitter, v, base) for v in inputs if v]
    return emitter.function(torch.cat, parts, dim=axis)


def _repeated(emitter: Emitter, value: Static, base: Live) -> Live:
    first = value.at[0]
    rows = first[:1]
    if first.ndim != base.ndim or len(first) not in (1, PROBES[0]) or (first != rows).any():
        raise unsuitable(f"a constant of shape {first.shape} beside the images")
    return emitter.module(Repeat(tensor(rows)), base)


def pad(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Constant padding; none at all disappears."""
    x = live(node, inputs[0])
    pads = node.get("pads")
    pads = static(node, inputs[1], "pads").reshape(-1) if pads is None else pads
    fill = node.get("value", 0.0)
    if len(inputs) > 2 and inputs[2] is not None:
        fill = float(static(node, inputs[2], "value").reshape(-1)[0])
    if not any(int(p) for p in pads):
        return x
    if node.get("mode", "constant") != "constant" or len(pads) != 2 * x.ndim or len(inputs) > 3:
        raise unsuitable(f"Pad with mode {node.get('mode', 'constant')!r} or chosen axes")
    pairs = [(int(pads[i]), int(pads[i + x.ndim])) for i in range(x.ndim)]
    while len(pairs) > 1 and pairs[0] == (0, 0):
        pairs = pairs[1:]
    return emitter.module(constant_pad([p for pair in pairs[::-1] for p in pair], fill), x)


def slice_(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """A range of every axis but the batch axis."""
    x = live(node, inputs[0])
    arrays = [None, *(None if v is None else static(node, v, "range") for v in inputs[1:])]
    return _checked(emitter.function(operator.getitem, x, slices(node, arrays, x.ndim)), x)


def gather(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """One index, which drops the axis, or several, which shorten it."""
    x, index = live(node, inputs[0]), static(node, inputs[1], "indices")
    axis = int(node.get("axis", 0)) % x.ndim
    if x.shapes[0][axis] != x.shapes[1][axis] or index.ndim > 1:
        raise unsuitable("Gather along the batch axis, or with a table of indices")
    before = (slice(None),) * axis
    chosen = int(index) if index.ndim == 0 else [int(i) for i in index]
    return emitter.function(operator.getitem, x, (*before, chosen))


def _checked(value: Live, before: Live) -> Live:
    if [s[0] for s in value.shapes] != [s[0] for s in before.shapes]:
        raise unsuitable("a slice of the batch axis")
    return value


def reduce(function: Callable[..., Any]) -> Handler:
    """Mean, sum, maximum or minimum over axes of each image."""

    def run(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
        x = live(node, inputs[0])
        axes = _axes(node, inputs)
        axes = [a % x.ndim for a in axes] if axes is not None else list(range(x.ndim))
        if any(x.shapes[0][a] != x.shapes[1][a] for a in axes):
            raise unsuitable(f"{node.kind} over the batch axis")
        return emitter.function(function, x, dim=axes, keepdim=bool(node.get("keepdims", 1)))

    return run


def arithmetic(function: Callable[[Any, Any], Any]) -> Handler:
    """Two live values combine by the operator; a constant becomes an ``Affine`` or a bias."""

    def run(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
        left, right = inputs
        if isinstance(left, Live) and isinstance(right, Live):
            return emitter.function(function, left, right)
        if isinstance(left, Static):
            x, c = live(node, right), left.value.astype(np.float32)
            scale, shift = _LEFT[node.kind](c)
        else:
            x, c = live(node, left), static(node, right, "constant").astype(np.float32)
            scale, shift = _RIGHT[node.kind](c)
        return affine(emitter, x, scale, shift)

    return run


Part = np.ndarray | None


def _quotient(c: np.ndarray) -> tuple[Part, Part]:
    raise unsuitable("a constant divided by something that depends on the images")


# constant ∘ x and x ∘ constant as scale · x + shift.
_LEFT: dict[str, Callable[[np.ndarray], tuple[Part, Part]]] = {
    "Add": lambda c: (None, c),
    "Sub": lambda c: (-np.ones(1, np.float32), c),
    "Mul": lambda c: (c, None),
    "Div": _quotient,
}
_RIGHT: dict[str, Callable[[np.ndarray], tuple[Part, Part]]] = {
    "Add": lambda c: (None, c),
    "Sub": lambda c: (None, -c),
    "Mul": lambda c: (c, None),
    "Div": lambda c: (1 / c, None),
}


def affine(emitter: Emitter, x: Live, scale: Part, shift: Part) -> Live:
    """``scale · x + shift``: nothing where it changes nothing, a bias where that is enough."""
    scale = None if scale is None or _idle(scale, 1.0, x) else scale
    shift = None if shift is None or _idle(shift, 0.0, x) else shift
    if scale is None and shift is None:
        return x
    merged = _bias(emitter, x, shift) if scale is None and shift is not None else None
    if merged is not None:
        return merged
    parts = [None if part is None else tensor(part) for part in (scale, shift)]
    return emitter.module(Affine(*parts), x)


def _idle(part: np.ndarray, neutral: float, x: Live) -> bool:
    """Whether a constant changes neither the values nor the shape."""
    same = np.broadcast_shapes(part.shape, x.shapes[0]) == x.shapes[0]
    return same and bool((part == neutral).all())


def _bias(emitter: Emitter, x: Live, shift: np.ndarray) -> Live | None:
    """A linear or convolution layer without bias takes a shift per output as its bias."""
    origin = emitter.source(x, nn.Linear, nn.Conv2d)
    if origin is None or origin[0].bias is not None:
        return None
    layer, source = origin
    axis = x.ndim - 1 if isinstance(layer, nn.Linear) else 1
    wide = (1,) * (x.ndim - shift.ndim) + shift.shape
    width = x.shapes[0][axis]
    if len(wide) != x.ndim or any(s != 1 for i, s in enumerate(wide) if i != axis):
        return None
    bias = tensor(np.broadcast_to(shift.reshape(-1), (width,)))
    return emitter.module(_with_bias(layer, bias), source)


def _with_bias(layer: nn.Module, bias: torch.Tensor) -> nn.Module:
    layer = copy.copy(layer)
    layer._parameters = {**layer._parameters, "bias": nn.Parameter(bias)}
    return layer


def power(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """A constant power."""
    exponent = float(static(node, inputs[1], "exponent").reshape(-1)[0])
    return emitter.function(torch.pow, live(node, inputs[0]), exponent)


def unary(function: Callable[[Any], Any]) -> Handler:
    """A function of every element."""
    return lambda emitter, node, inputs: emitter.function(function, live(node, inputs[0]))


def same(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """What changes nothing in eval mode."""
    return live(node, inputs[0])


SHAPES: dict[str, Handler] = {
    "Abs": unary(torch.abs),
    "Add": arithmetic(operator.add),
    "Concat": concat,
    "Div": arithmetic(operator.truediv),
    "Dropout": same,
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Flatten": flatten,
    "Gather": gather,
    "Identity": same,
    "Mul": arithmetic(operator.mul),
    "Neg": unary(operator.neg),
    "Pad": pad,
    "Pow": power,
    "ReduceMax": reduce(torch.amax),
    "ReduceMean": reduce(torch.mean),
    "ReduceMin": reduce(torch.amin),
    "ReduceSum": reduce(torch.sum),
    "Slice": slice_,
    "Sqrt": unary(torch.sqrt),
    "Squeeze": squeeze,
    "Sub": arithmetic(operator.sub),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
