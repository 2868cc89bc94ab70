"""An ``nn.Module`` becomes a network of operations that bounds understand.

Parameters are shared with the module, not copied. Batch norm is read as it works in eval mode.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from suture.bounds.activations import Relu, SShaped
from suture.bounds.affine import BatchNorm, Conv, Linear, Scale, average_pool
from suture.bounds.network import Input, Network, Node, Op, Shape, shape_after
from suture.bounds.pooling import MaxPool
from suture.bounds.shapes import Add, Mean, Pad, PermuteOp, ReshapeOp, Slice, whole
from suture.errors import ArgumentError, ModelError
from suture.models.layers import LEAVES, Affine, Normalise
from suture.models.layers import Permute as PermuteLayer
from suture.models.layers import Reshape as ReshapeLayer

_SKIP = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def read(model: nn.Module, in_shape: Shape) -> Network:
    """The network of a classifier, for inputs of shape ``in_shape``.

    Layers: linear, convolution, batch norm, ReLU, leaky ReLU, sigmoid, tanh, average and max
    pooling, zero or constant padding, flatten, reshape, permute, slices, sums, dropout.

    Raises:
        ModelError: a layer that bounds do not know; it is named.
        ArgumentError: inside ``torch.autocast``: what is rounded to 16 bits bounds nothing.
    """
    if any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")):
        raise ArgumentError(
            expected="bounds in the precision of their tensors",
            got="torch.autocast, which rounds to 16 bits",
            remedy="Leave the autocast block before bounds or certificates are made.",
        )
    known = getattr(model, "bounds_network", None)
    if known is not None:
        found: Network = known(in_shape)
        return found
    first = next((p for p in [*model.parameters(), *model.buffers()]), None)
    with torch.device("cpu" if first is None else first.device):
        return _Reader(model, in_shape).network()


class _LayerTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)


class _Reader:
    """Walks the graph and adds one node per operation."""

    def __init__(self, model: nn.Module, in_shape: Shape) -> None:
        self.model, self.nodes = model, [Node(Input(), (), tuple(in_shape))]
        self.place: dict[fx.Node, int] = {}

    def network(self) -> Network:
        for node in self._graph().nodes:
            if node.op == "placeholder":
                self.place[node] = 0
            elif node.op == "output":
                self._finish(node.args[0])
            elif node.op == "call_module":
                self._module(node)
            elif node.op != "get_attr":
                self._call(node)
        return Network(tuple(self.nodes))

    def _graph(self) -> fx.Graph:
        try:
            return _LayerTracer().trace(self.model)
        except Exception as error:
            raise ModelError(
                expected="a model whose forward torch.fx can trace",
                got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                remedy="Write forward without Python branches on tensor values.",
            ) from error

    def _finish(self, result: Any) -> None:
        last = self.place.get(result)
        if last is None:
            raise unknown(f"a result {result}")
        self.nodes = self.nodes[: last + 1]

    def add(self, op: Op, *sources: fx.Node) -> int:
        inputs = tuple(self.place[source] for source in sources)
        shape = shape_after(op, [self.nodes[i].shape for i in inputs])
        self.nodes.append(Node(op, inputs, shape))
        return len(self.nodes) - 1

    def _module(self, node: fx.Node) -> None:
        layer, source = self.model.get_submodule(str(node.target)), node.args[0]
        self.place[node] = self._layer(layer, source)

    def _layer(self, layer: nn.Module, source: Any) -> int:
        shape = self.nodes[self.place[source]].shape
        op = _op(layer, shape)
        return self.place[source] if op is None else self.add(op, source)

    def _call(self, node: fx.Node) -> None:
        name = node.target if isinstance(node.target, str) else node.target.__name__  # type: ignore[union-attr]
        make = _CALLS.get(name.removesuffix("_"))
        if make is None:
            raise unknown(f"the operation {name}")
        self.place[node] = make(self, node)

    def shape(self, node: Any) -> Shape:
        return self.nodes[self.place[node]].shape


def _op(layer: nn.Module, shape: Shape) -> Op | None:
    """The operation of a layer; ``None`` for layers that do nothing in eval mode."""
    if isinstance(layer, _SKIP):
        return None
    for kind, make in _LAYERS:
        if isinstance(layer, kind):
            return make(layer, shape)
    raise unknown(f"a layer {type(layer).__name__}")


def unknown(what: str) -> ModelError:
    """The error for what bounds cannot be computed through."""
    return ModelError(
        expected="layers that bounds know (linear, convolution, batch norm, ReLU, pooling, …)",
        got=what,
        remedy="Replace that layer, or use attacks instead of bounds for this model.",
    )


def _conv(layer: Any, shape: Shape) -> Conv:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise unknown(f"a convolution with padding={layer.padding!r}, {layer.padding_mode!r}")
    return Conv(
        layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups, shape
    )


def _linear(layer: Any, shape: Shape) -> Linear:
    if len(shape) != 1:
        raise unknown(f"a linear layer over values of shape {shape}")
    return Linear(layer.weight, layer.bias)


def _norm(layer: Any, shape: Shape) -> BatchNorm:
    if layer.running_var is None:
        raise unknown("batch norm without running statistics")
    return BatchNorm(layer, len(shape) - 1)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)  # type: ignore[return-value]


def _average(layer: Any, shape: Shape) -> Op:
    kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
    if layer.ceil_mode or layer.divisor_override or (any(padding) and not layer.count_include_pad):
        raise unknown("average pooling with ceil_mode, a divisor, or padding left out of the count")
    return average_pool(kernel, _pair(layer.stride), padding, shape, torch.zeros(()))


def _adaptive(layer: Any, shape: Shape) -> Op:
    out = _pair(layer.output_size)
    if out == (1, 1):
        return Mean(shape)
    if any(size % o for size, o in zip(shape[1:], out, strict=True)):
        raise unknown(f"adaptive pooling from {shape[1:]} to {out}")
    kernel = (shape[1] // out[0], shape[2] // out[1])
    return average_pool(kernel, kernel, (0, 0), shape, torch.zeros(()))


def _max(layer: Any, shape: Shape) -> Op:
    if _pair(layer.dilation) != (1, 1):
        raise unknown("max pooling with dilation")
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return MaxPool(
        _pair(layer.kernel_size), _pair(stride), _pair(layer.padding), bool(layer.ceil_mode), shape
    )


def _flat(shape: Shape) -> ReshapeOp:
    size = 1
    for part in shape:
        size *= part
    return ReshapeOp(shape, (size,))


def _flatten(layer: Any, shape: Shape) -> ReshapeOp:
    if layer.start_dim != 1 or layer.end_dim != -1:
        raise unknown("flatten over some of the axes")
    return _flat(shape)


def _reshape(layer: Any, shape: Shape) -> ReshapeOp:
    with torch.no_grad():
        after = layer(torch.zeros(2, *shape)).shape
    if after[0] != 2:
        raise unknown("a reshape that mixes examples")
    return ReshapeOp(shape, tuple(after[1:]))


def _permute(layer: Any, shape: Shape) -> PermuteOp:
    if layer.order[0] != 0:
        raise unknown("a permutation of the batch axis")
    return PermuteOp(tuple(axis - 1 for axis in layer.order[1:]))


def _fit(constant: Tensor | None, shape: Shape) -> Tensor | None:
    """A constant without superfluous leading axes."""
    while constant is not None and constant.ndim > len(shape):
        if constant.shape[0] != 1:
            raise unknown(f"a constant of shape {tuple(constant.shape)} for values {shape}")
        constant = constant[0]
    return constant


def _pad(layer: Any, shape: Shape) -> Pad:
    return Pad(_amounts(layer.padding, shape), float(getattr(layer, "value", 0.0)))


def _amounts(amounts: Any, shape: Shape) -> tuple[int, ...]:
    if len(amounts) > 2 * len(shape):
        raise unknown("padding of the batch axis")
    return tuple(int(amount) for amount in amounts)


_PADS = (nn.ZeroPad2d, nn.ConstantPad2d, nn.ConstantPad1d, nn.ConstantPad3d)
_LAYERS: list[tuple[Any, Callable[[Any, Shape], Op]]] = [
    (nn.Linear, _linear),
    (nn.Conv2d, _conv),
    ((nn.BatchNorm1d, nn.BatchNorm2d), _norm),
    (nn.ReLU, lambda layer, shape: Relu()),
    (nn.LeakyReLU, lambda layer, shape: Relu(layer.negative_slope)),
    (nn.Sigmoid, lambda layer, shape: SShaped("sigmoid")),
    (nn.Tanh, lambda layer, shape: SShaped("tanh")),
    (nn.AvgPool2d, _average),
    (nn.AdaptiveAvgPool2d, _adaptive),
    (nn.MaxPool2d, _max),
    (nn.Flatten, _flatten),
    (Normalise, lambda layer, shape: Scale(1 / layer.std, -layer.mean / layer.std)),
    (Affine, lambda layer, shape: Scale(_fit(layer.scale, shape), _fit(layer.shift, shape))),
    (ReshapeLayer, _reshape),
    (PermuteLayer, _permute),
    (_PADS, _pad),
]


def _sum(reader: _Reader, node: fx.Node, sign: int = 1) -> int:
    a, b = node.args[:2]
    if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)) or node.kwargs:
        raise unknown(f"arithmetic with constants in {node.name}")
    if reader.shape(a) != reader.shape(b):
        raise unknown(f"a sum of shapes {reader.shape(a)} and {reader.shape(b)}")
    return reader.add(Add(sign), a, b)


def _getitem(reader: _Reader, node: fx.Node) -> int:
    source, index = node.args
    parts = index if isinstance(index, tuple) else (index,)
    shape = reader.shape(source)
    if parts and parts[0] in (slice(None), Ellipsis):
        rest = whole(parts[1:], shape)
        if rest is not None:
            return reader.add(Slice(rest, shape), source)  # type: ignore[arg-type]
    raise unknown(f"the index {index}")


def _by_layer(make: Callable[..., nn.Module], *names: str) -> Callable[[_Reader, fx.Node], int]:
    """A function call as the layer that does the same."""

    def call(reader: _Reader, node: fx.Node) -> int:
        given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        given.pop("inplace", None)
        given.pop("training", None)
        return reader._layer(make(**given), node.args[0])

    return call


def _flatten_call(reader: _Reader, node: fx.Node) -> int:
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | dict(node.kwargs)
    if given.get("start_dim", 0) != 1 or given.get("end_dim", -1) != -1:
        raise unknown("flatten over some of the axes")
    return reader._layer(nn.Flatten(), node.args[0])


def _view(reader: _Reader, node: fx.Node) -> int:
    """``x.view(-1, …)`` and ``x.reshape(len(x), …)`` keep examples apart; only -1 shows it."""
    sizes = node.args[1] if isinstance(node.args[1], tuple | list) else node.args[1:]
    if not all(isinstance(size, int) for size in sizes) or sizes[0] != -1:
        raise unknown(f"a reshape to {sizes}")
    return reader._layer(ReshapeLayer([int(s) for s in sizes]), node.args[0])  # type: ignore[arg-type]


def _functional_pad(reader: _Reader, node: fx.Node) -> int:
    source, amounts = node.args[:2]
    given = dict(zip(("mode", "value"), node.args[2:], strict=False)) | dict(node.kwargs)
    if given.get("mode", "constant") != "constant":
        raise unknown(f"padding with mode {given['mode']!r}")
    amounts = _amounts(amounts, reader.shape(source))
    return reader.add(Pad(amounts, float(given.get("value") or 0.0)), source)  # type: ignore[arg-type]


_CALLS: dict[str, Callable[[_Reader, fx.Node], int]] = {
    operator.add.__name__: _sum,
    "iadd": _sum,
    "sub": lambda reader, node: _sum(reader, node, -1),
    operator.getitem.__name__: _getitem,
    "relu": _by_layer(nn.ReLU),
    "leaky_relu": _by_layer(nn.LeakyReLU, "negative_slope"),
    "sigmoid": _by_layer(nn.Sigmoid),
    "tanh": _by_layer(nn.Tanh),
    "flatten": _flatten_call,
    "view": _view,
    "reshape": _view,
    "dropout": _by_layer(nn.Dropout, "p"),
    "max_pool2d": _by_layer(nn.MaxPool2d, "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": _by_layer(nn.AvgPool2d, "kernel_size", "stride", "padding"),
    "adaptive_avg_pool2d": _by_layer(nn.AdaptiveAvgPool2d, "output_size"),
    F.pad.__name__: _functional_pad,
}
