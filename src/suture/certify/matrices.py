"""A second reader of networks: what is deployed, as explicit matrices in float64.

Nothing here uses ``suture.bounds``. The model is traced; affine layers become sparse matrices by
sending unit vectors through the very layers that are deployed, cast to float64, and so do the
windows of max poolings. ReLUs are named. What is none of these is not read.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from suture.models.layers import Affine, Normalise, Permute, Reshape

Array = NDArray[np.float64]
Shape = tuple[int, ...]
_AT_ONCE, _NUMBERS, _LARGEST = 512, 32_000_000, 60_000_000
_DENSE = 0.3
_EXAMPLES = 7


class UnreadError(Exception):
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


Cache = dict[Any, tuple[nn.Module, Step, Shape]]
"""Steps by the layer behind them, where many networks share most of theirs; the layer is kept, so
that nobody takes its place in memory."""

_SILENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_AFFINE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.ZeroPad2d,
    nn.ConstantPad1d,
    nn.ConstantPad2d,
    nn.ConstantPad3d,
    Affine,
    Normalise,
    Permute,
    Reshape,
    *_SILENT,
)
_AFFINE_CALLS = {
    *("add", "iadd", "sub", "isub", "neg", "getitem", "flatten", "view", "reshape", "permute"),
    *("avg_pool2d", "adaptive_avg_pool2d", "mean", "contiguous"),
    F.pad.__name__,
}
_SCALED = {"mul", "imul", "truediv", "itruediv", "div"}
"""Affine where only one factor, the first, depends on the input."""


def steps_of(model: nn.Module, in_shape: Shape, cache: Cache | None = None) -> list[Step]:
    """The steps of a network, in float64; node 0, the input, is an empty step.

    Args:
        in_shape: of one input.
        cache: steps of layers met before.

    Raises:
        UnreadError: a forward that cannot be traced, a layer that is neither affine nor a ReLU nor
            a max pooling, or too large a one.
    """
    return _Reading(model, in_shape, {} if cache is None else cache).steps


class _PlainTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _AFFINE) or super().is_leaf_module(m, module_qualified_name)


class _Reading:
    """Walks a traced forward; one step per node that computes something."""

    def __init__(self, model: nn.Module, in_shape: Shape, cache: Cache) -> None:
        self.model, self.cache = model, cache
        self.steps, self.shapes = [Step(())], [tuple(in_shape)]
        self.place: dict[fx.Node, int] = {}
        for node in _graph(model).nodes:
            if node.op == "placeholder":
                self.place[node] = 0
            elif node.op == "output":
                last = self.place.get(node.args[0])
                if last is None:
                    raise UnreadError(f"a result {node.args[0]}")
                self.steps = self.steps[: last + 1]
            elif node.op != "get_attr":
                self._read(node)

    def _read(self, node: fx.Node) -> None:
        sources = [n for n in node.all_input_nodes if n.op != "get_attr"]
        if not sources or any(n not in self.place for n in sources):
            raise UnreadError(f"{node.op} {node.target}")
        places = tuple(self.place[n] for n in sources)
        shapes = tuple(self.shapes[i] for i in places)
        if node.op == "call_module":
            step, shape = self._layer(self.model.get_submodule(str(node.target)), shapes)
        else:
            call = self._call(node, sources)
            shape, step = _shape(call, shapes), _step(call, *_kind_of_call(node), shapes)
        self.place[node] = len(self.steps)
        self.steps.append(replace(step, inputs=places))
        self.shapes.append(shape)

    def _layer(self, layer: nn.Module, shapes: tuple[Shape, ...]) -> tuple[Step, Shape]:
        if isinstance(layer, nn.Linear) and len(shapes[0]) == 1:
            return _linear(layer)  # as cheap as looking it up, and dearer to keep
        key = (id(layer), shapes)
        if key not in self.cache:
            wide = copy.deepcopy(layer).double().eval()
            shape, step = _shape(wide, shapes), _step(wide, *_kind_of(layer), shapes)
            self.cache[key] = (layer, step, shape)
        return self.cache[key][1:]

    def _call(self, node: fx.Node, sources: list[fx.Node]) -> Callable[..., Any]:
        """The call as a function of the values that it reads."""

        def run(*values: Tensor) -> Any:
            known = dict(zip(sources, values, strict=True))

            def value(n: fx.Node) -> Any:
                return known[n] if n in known else _constant(self.model, n)

            args, kwargs = map_arg(node.args, value), map_arg(node.kwargs, value)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]

        return run


def _kind_of_call(node: fx.Node) -> tuple[str, float]:
    """What a call is, and a ReLU's slope."""
    target = node.target
    name = (target if isinstance(target, str) else target.__name__).removesuffix("_")
    if name in ("relu", "leaky_relu"):
        slope = node.args[1] if len(node.args) > 1 else node.kwargs.get("negative_slope", 0.01)
        return "relu", 0.0 if name == "relu" else float(slope)  # type: ignore[arg-type]
    if target is F.max_pool2d and not node.kwargs.get("return_indices"):
        return "pool", 0.0
    varying = [a for a in node.args if isinstance(a, fx.Node) and a.op != "get_attr"]
    if name in _AFFINE_CALLS or (name in _SCALED and varying == [node.args[0]]):
        return "affine", 0.0
    raise UnreadError(f"the operation {name}")


def _kind_of(layer: nn.Module) -> tuple[str, float]:
    if isinstance(layer, nn.ReLU | nn.LeakyReLU):
        return "relu", float(getattr(layer, "negative_slope", 0.0))
    if isinstance(layer, nn.MaxPool2d) and not layer.return_indices:
        return "pool", 0.0
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_var is None:
        raise UnreadError("batch norm without running statistics")
    if isinstance(layer, _AFFINE):
        return "affine", 0.0
    raise UnreadError(f"a layer {type(layer).__name__}")


def _graph(model: nn.Module) -> fx.Graph:
    tracer = _PlainTracer()
    try:
        return tracer.trace(model)
    except Exception as error:  # noqa: BLE001 - whatever a foreign forward raises
        raise UnreadError(f"{type(error).__name__}: {error}") from None


def _constant(model: nn.Module, node: fx.Node) -> Any:
    value = operator.attrgetter(str(node.target))(model)
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.detach().double() if floating else value


def _shape(call: Callable[..., Any], shapes: tuple[Shape, ...]) -> Shape:
    """Of an output, from a few zeros: a layer that mixes examples shows it."""
    try:
        with torch.no_grad():
            out = call(*(torch.zeros(_EXAMPLES, *shape, dtype=torch.float64) for shape in shapes))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise UnreadError(str(error)) from None
    if not isinstance(out, Tensor) or out.shape[0] != _EXAMPLES:
        raise UnreadError("a layer that gives no value per example")
    return tuple(out.shape[1:])


def _step(call: Callable[..., Any], kind: str, slope: float, shapes: Sequence[Shape]) -> Step:
    if kind == "relu":
        return Step((), slope=slope)
    with torch.no_grad():
        if kind == "pool":
            return Step((), windows=_windows(call, shapes[0]))
        zeros = [torch.zeros(1, *shape, dtype=torch.float64) for shape in shapes]
        shift = call(*zeros).flatten().numpy()
        matrices = tuple(_matrix(call, zeros, i, shift) for i in range(len(shapes)))
    return Step((), matrices, shift)


def _linear(layer: nn.Linear) -> tuple[Step, Shape]:
    weight = layer.weight.detach().double().cpu().numpy()
    bias = np.zeros(len(weight))
    if layer.bias is not None:
        bias = layer.bias.detach().double().cpu().numpy()
    return Step((), (weight,), bias), (len(weight),)


def _matrix(call: Callable[..., Any], zeros: list[Tensor], which: int, shift: Array) -> Any:
    columns, held = [], 0
    for unit in _units(tuple(zeros[which].shape[1:]), len(shift)):
        values = [z.expand(len(unit), *z.shape[1:]) for z in zeros]
        values[which] = unit
        columns.append(sp.csr_matrix(call(*values).flatten(1).numpy() - shift))
        held += columns[-1].nnz
        if held > _LARGEST:
            raise UnreadError(f"{held} weights in one matrix")
    whole = sp.vstack(columns).T.tocsr()
    return whole.toarray() if whole.nnz > _DENSE * math.prod(whole.shape) else whole


def _windows(call: Callable[..., Any], shape: Shape) -> NDArray[np.int64]:
    """Positions that each output looks at, found by raising one input at a time."""
    start, found = 0, list[list[int]]()
    for unit in _units(shape, math.prod(shape)):
        seen = call(unit).flatten(1) > 0
        found = found or [[] for _ in range(seen.shape[1])]
        for row, column in seen.nonzero().tolist():
            found[column].append(start + row)
        start += len(unit)
    longest = max(len(positions) for positions in found)
    return np.array([p + [-1] * (longest - len(p)) for p in found], dtype=np.int64)


def _units(shape: Shape, out: int) -> Any:
    """All unit vectors of a shape, ``(b, *shape)`` at a time."""
    size = math.prod(shape)
    at_once = max(1, min(_AT_ONCE, _NUMBERS // max(size, out)))
    for start in range(0, size, at_once):
        count = min(at_once, size - start)
        unit = torch.zeros(count, size, dtype=torch.float64)
        unit[torch.arange(count), start + torch.arange(count)] = 1
        yield unit.view(count, *shape)
