"""ONNX operators that become layers: linear, convolution, normalisation, pooling, activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from suture.models.onnx_import.emitter import Emitter, tensor
from suture.models.onnx_import.folding import OnnxNode
from suture.models.onnx_import.values import Live, Static, unsuitable

Value = Live | Static | None
Handler = Callable[[Emitter, OnnxNode, Sequence[Any]], Live]


def static(node: OnnxNode, value: Value, what: str) -> np.ndarray:
    """A constant input, or an error that says which one is not."""
    if not isinstance(value, Static):
        raise unsuitable(f"{node.kind} whose {what} is computed from the images or missing")
    return value.value


def live(node: OnnxNode, value: Value) -> Live:
    """An input that depends on the images."""
    if not isinstance(value, Live):
        raise unsuitable(f"{node.kind} of a constant with something that depends on the images")
    return value


def linear(weight: np.ndarray, bias: np.ndarray | None) -> nn.Linear:
    """``nn.Linear`` with weight ``(out, in)``, without a draw of random numbers."""
    layer = nn.Linear(1, 1, bias=bias is not None, device="meta")
    layer.in_features, layer.out_features = int(weight.shape[1]), int(weight.shape[0])
    layer.weight = nn.Parameter(tensor(weight))
    if bias is not None:
        layer.bias = nn.Parameter(tensor(np.broadcast_to(bias.reshape(-1), weight.shape[:1])))
    return layer


def gemm(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """``alpha · A B + beta · C`` with constant B and C."""
    if node.get("transA", 0):
        raise unsuitable("Gemm with transA=1")
    weight = static(node, inputs[1], "B") * node.get("alpha", 1.0)
    weight = weight if node.get("transB", 0) else weight.T
    bias = static(node, inputs[2], "C") * node.get("beta", 1.0) if inputs[2:] else None
    if bias is not None and bias.size not in (1, len(weight)):
        raise unsuitable(f"Gemm with a C of shape {bias.shape} for {len(weight)} outputs")
    return emitter.module(linear(weight, bias), live(node, inputs[0]))


def matmul(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """A constant matrix on the right is a linear layer; anything else a product of tensors."""
    left, right = inputs
    if isinstance(left, Live) and isinstance(right, Static) and right.value.ndim == 2:
        return emitter.module(linear(right.value.T, None), left)
    operands = [emitter.constant(v.value) if isinstance(v, Static) else v for v in inputs]
    return emitter.function(torch.matmul, *operands)


def conv(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """One- or two-dimensional convolution with constant weights."""
    x, weight = live(node, inputs[0]), static(node, inputs[1], "W")
    spatial = weight.ndim - 2
    x, padding = _padding(emitter, node, x, weight.shape[2:], 0.0)
    group = int(node.get("group", 1))
    layer = _window(nn.Conv1d, nn.Conv2d, spatial)(
        weight.shape[1] * group,
        weight.shape[0],
        tuple(weight.shape[2:]),
        _sizes(node, "strides", spatial),
        padding,
        _sizes(node, "dilations", spatial),
        group,
        bias=len(inputs) > 2 and inputs[2] is not None,
        device="meta",
    )
    layer.weight = nn.Parameter(tensor(weight))
    if layer.bias is not None:
        layer.bias = nn.Parameter(tensor(static(node, inputs[2], "B")))
    return emitter.module(layer, x)


def _window(one: Any, two: Any, spatial: int) -> Any:
    if spatial not in (1, 2):
        raise unsuitable(f"a window over {spatial} axes")
    return one if spatial == 1 else two


def _sizes(node: OnnxNode, name: str, spatial: int) -> tuple[int, ...]:
    return tuple(int(v) for v in node.get(name, [1] * spatial))


def _padding(
    emitter: Emitter, node: OnnxNode, x: Live, kernel: Sequence[int], fill: float
) -> tuple[Live, tuple[int, ...]]:
    """The symmetric padding a layer can do itself; what is not symmetric becomes a layer."""
    before, after = _pads(node, x.shapes[0][2:], kernel)
    if before == after:
        return x, before
    pads = [p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair]
    return emitter.module(constant_pad(pads, fill), x), (0,) * len(before)


def constant_pad(pads: Sequence[int], fill: float) -> nn.Module:
    """A constant-padding layer for torch's order of pads (last axis first)."""
    kinds: dict[int, Any] = {2: nn.ConstantPad1d, 4: nn.ConstantPad2d, 6: nn.ConstantPad3d}
    if len(pads) not in kinds:
        raise unsuitable("a padding of the batch axis")
    return kinds[len(pads)](tuple(pads), fill)


def _pads(
    node: OnnxNode, size: Sequence[int], kernel: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pads before and after each spatial axis, from ``pads`` or ``auto_pad``."""
    spatial, mode = len(kernel), node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        pads = [int(p) for p in node.get("pads", [0] * 2 * spatial)] if mode == "NOTSET" else []
        pads = pads or [0] * 2 * spatial
        return tuple(pads[:spatial]), tuple(pads[spatial:])
    strides, dilations = _sizes(node, "strides", spatial), _sizes(node, "dilations", spatial)
    total = [
        max(0, (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n)
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
    ]
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def max_pool(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Maximum over windows."""
    x, kernel = live(node, inputs[0]), [int(k) for k in node.get("kernel_shape")]
    x, padding = _padding(emitter, node, x, kernel, -math.inf)
    spatial = len(kernel)
    layer = _window(nn.MaxPool1d, nn.MaxPool2d, spatial)(
        tuple(kernel),
        _sizes(node, "strides", spatial),
        padding,
        _sizes(node, "dilations", spatial),
        ceil_mode=bool(node.get("ceil_mode", 0)),
    )
    return emitter.module(layer, x)


def average_pool(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Mean over windows."""
    x, kernel = live(node, inputs[0]), [int(k) for k in node.get("kernel_shape")]
    counted, before = bool(node.get("count_include_pad", 0)), x
    x, padding = _padding(emitter, node, x, kernel, 0.0)
    if (x is not before and not counted) or any(d != 1 for d in node.get("dilations", [])):
        raise unsuitable("AveragePool with one-sided padding that is not counted, or dilations")
    layer = _window(nn.AvgPool1d, nn.AvgPool2d, len(kernel))(
        tuple(kernel),
        _sizes(node, "strides", len(kernel)),
        padding,
        ceil_mode=bool(node.get("ceil_mode", 0)),
        count_include_pad=counted,
    )
    return emitter.module(layer, x)


def global_pool(one: Any, two: Any) -> Handler:
    """Mean or maximum over the whole image."""

    def run(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
        x = live(node, inputs[0])
        return emitter.module(_window(one, two, x.ndim - 2)(1), x)

    return run


def batch_norm(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Batch normalisation with the stored statistics."""
    x = live(node, inputs[0])
    scale, shift, mean, var = (static(node, v, "statistics") for v in inputs[1:5])
    kind = nn.BatchNorm2d if x.ndim == 4 else nn.BatchNorm1d
    layer = kind(len(scale), eps=float(node.get("epsilon", 1e-5)))
    layer.weight, layer.bias = nn.Parameter(tensor(scale)), nn.Parameter(tensor(shift))
    layer.running_mean, layer.running_var = tensor(mean), tensor(var)
    return emitter.module(layer, x)


def layer_norm(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Layer normalisation over the last axes."""
    x, scale = live(node, inputs[0]), static(node, inputs[1], "scale")
    axis = int(node.get("axis", -1)) % x.ndim
    bias = static(node, inputs[2], "B") if len(inputs) > 2 and inputs[2] else np.zeros_like(scale)
    layer = nn.LayerNorm(x.shapes[0][axis:], eps=float(node.get("epsilon", 1e-5)))
    layer.weight, layer.bias = nn.Parameter(tensor(scale)), nn.Parameter(tensor(bias))
    return emitter.module(layer, x)


def activation(make: Callable[[OnnxNode], nn.Module]) -> Handler:
    """A layer without weights."""
    return lambda emitter, node, inputs: emitter.module(make(node), live(node, inputs[0]))


def clip(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
    """Clip to constants; [0, 6] is ReLU6, and [0, ∞) a ReLU."""

    def bound(name: str, position: int, default: float) -> float:
        if len(inputs) > position and inputs[position] is not None:
            return float(static(node, inputs[position], name).reshape(-1)[0])
        return float(node.get(name, default))

    low, high = bound("min", 1, -math.inf), bound("max", 2, math.inf)
    if low == 0.0:
        layer = {6.0: nn.ReLU6(), math.inf: nn.ReLU()}.get(high, nn.Hardtanh(low, max(high, 1e-30)))
    else:
        layer = nn.Hardtanh(low, high)
    return emitter.module(layer, live(node, inputs[0]))


def softmax(kind: type[nn.Module]) -> Handler:
    """Softmax over one axis; before operator set 13 it ran over all axes from ``axis`` on."""

    def run(emitter: Emitter, node: OnnxNode, inputs: Sequence[Value]) -> Live:
        x = live(node, inputs[0])
        axis = int(node.get("axis", -1 if node.opset >= 13 else 1)) % x.ndim
        if node.opset < 13 and axis != x.ndim - 1:
            raise unsuitable(f"{node.kind} over several axes at once")
        return emitter.module(kind(axis), x)

    return run


LAYERS: dict[str, Handler] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "Conv": conv,
    "Elu": activation(lambda n: nn.ELU(n.get("alpha", 1.0))),
    "Gelu": activation(lambda n: nn.GELU(n.get("approximate", "none"))),
    "Gemm": gemm,
    "GlobalAveragePool": global_pool(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    "GlobalMaxPool": global_pool(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
    "HardSwish": activation(lambda n: nn.Hardswish()),
    "LayerNormalization": layer_norm,
    "LeakyRelu": activation(lambda n: nn.LeakyReLU(n.get("alpha", 0.01))),
    "LogSoftmax": softmax(nn.LogSoftmax),
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Relu": activation(lambda n: nn.ReLU()),
    "Selu": activation(lambda n: nn.SELU()),
    "Sigmoid": activation(lambda n: nn.Sigmoid()),
    "Softmax": softmax(nn.Softmax),
    "Softplus": activation(lambda n: nn.Softplus()),
    "Tanh": activation(lambda n: nn.Tanh()),
}
