"""The import itself: walks the nodes, folds what is static, emits layers for what is live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from suture.errors import ModelError, SutureError
from suture.models.chain import finish
from suture.models.layers import Normalise
from suture.models.messages import first_line
from suture.models.onnx_import.emitter import Emitter
from suture.models.onnx_import.folding import FOLDED, OnnxNode, constant, fold
from suture.models.onnx_import.layers import LAYERS, Handler, Value
from suture.models.onnx_import.reading import Preprocessing
from suture.models.onnx_import.selecting import SELECTING
from suture.models.onnx_import.shapes import SHAPES, reshape
from suture.models.onnx_import.values import PROBES, Live, Static

Shape = tuple[int, int, int]


def supported() -> tuple[str, ...]:
    """The operators that can be imported, in alphabetical order."""
    return tuple(sorted({*LAYERS, *SHAPES, *SELECTING, "Constant", "Reshape", "Shape", *FOLDED}))


def _arrays(graph: Any) -> dict[str, np.ndarray]:
    """The initialisers by name."""
    from onnx import numpy_helper

    try:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            expected="initialisers whose content fits their shape and type",
            got=f"{type(error).__name__}: {error}",
            remedy="Export the model again.",
        ) from error


def to_module(model: Any, steps: Preprocessing) -> tuple[nn.Module, Preprocessing]:
    """The module of a checked ``ModelProto``, and the pre-processing that was settled on.

    Raises:
        ModelError: for an unsupported operator or construct.
    """
    graph = model.graph
    weights = _arrays(graph)
    values: dict[str, Value] = {k: Static((v,) * len(PROBES)) for k, v in weights.items()}
    name, sizes = _only_input(graph, set(weights))
    steps = settle(sizes, steps)
    emitter = Emitter()
    values[name] = enter(emitter, sizes, steps)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    handlers = {**LAYERS, **SHAPES, **SELECTING, "Reshape": reshape(sizes[0])}
    for proto in graph.node:
        _add(emitter, handlers, proto, values, opset)
    return _leave(emitter, graph, values), steps


def _only_input(graph: Any, weights: set[str]) -> tuple[str, list[int | None]]:
    """The network's one input: its name and sizes, ``None`` where free."""
    inputs = [i for i in graph.input if i.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelError(
            expected="a network with one input (the images) and one output (the logits)",
            got=f"{len(inputs)} inputs and {len(graph.output)} outputs",
            remedy="Export the classifier alone.",
        )
    kind = inputs[0].type.tensor_type
    sizes = [d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim]
    if kind.elem_type not in (1, 10, 11, 16) or len(sizes) < 2 or None in sizes[1:]:
        raise ModelError(
            expected="a floating-point input whose sizes after the batch axis are known",
            got=f"element type {kind.elem_type} with sizes {sizes}",
            remedy="Export the model again, from float32 images of a fixed size.",
        )
    return inputs[0].name, sizes


def settle(sizes: Sequence[int | None], steps: Preprocessing) -> Preprocessing:
    """Fill in layout and image shape from the input's sizes, and check that they agree."""
    rest = [int(s or 0) for s in sizes[1:]]
    layout = steps.layout or _likely_layout(rest)
    if layout not in ("chw", "hwc"):
        raise _misfit('layout="chw" or layout="hwc"', repr(layout))
    shape = steps.in_shape
    if len(rest) == 3:
        c, h, w = rest if layout == "chw" else (rest[2], rest[0], rest[1])
        if shape is not None and tuple(shape) != (c, h, w):
            raise _misfit(f"in_shape={(c, h, w)}, as the file says", f"in_shape={tuple(shape)}")
        shape = (c, h, w)
    if shape is None or math.prod(shape) != math.prod(rest):
        got = "none given" if shape is None else f"in_shape={tuple(shape)}"
        raise _misfit(f"an image shape (c, h, w) of {math.prod(rest)} values in all", got)
    channels = shape[0]
    mean, std = (_per_channel(v, channels) for v in (steps.mean or (0.0,), steps.std or (1.0,)))
    return Preprocessing(layout, mean, std, shape)


def _likely_layout(rest: Sequence[int]) -> str:
    """NHWC only where the sizes leave no doubt: three at the end and not at the front."""
    colours = (1, 3)
    doubtless = len(rest) == 3 and rest[2] in colours and rest[0] not in colours
    return "hwc" if doubtless else "chw"


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    wide = tuple(float(v) for v in values) * (channels if len(values) == 1 else 1)
    if len(wide) != channels:
        raise _misfit(f"mean and std with {channels} values, one per channel", f"{len(wide)}")
    return wide


def _misfit(expected: str, got: str) -> ModelError:
    remedy = "Pass in_shape=(c, h, w), layout=, mean=, std= as the network was trained with."
    return ModelError(expected=expected, got=got, remedy=remedy)


def enter(emitter: Emitter, sizes: Sequence[int | None], steps: Preprocessing) -> Live:
    """Images in [0, 1], normalised and laid out as the network wants its input."""
    assert steps.in_shape is not None
    assert steps.mean is not None
    assert steps.std is not None
    x = emitter.input(steps.in_shape)
    if any(m != 0 for m in steps.mean) or any(s != 1 for s in steps.std):
        x = emitter.module(Normalise(steps.mean, steps.std), x)
    if steps.layout == "hwc":
        x = emitter.permute(x, (0, 2, 3, 1))
    return emitter.reshape(x, [[n, *(int(s or 0) for s in sizes[1:])] for n in PROBES])


def _add(
    emitter: Emitter, handlers: dict[str, Handler], proto: Any, values: dict[str, Value], opset: int
) -> None:
    """One node: its first output joins ``values``."""
    node = OnnxNode.read(proto, opset)
    try:
        inputs = [values[name] if name else None for name in proto.input]
        values[proto.output[0]] = _value(emitter, handlers, node, inputs)
    except SutureError as error:
        got = f"{error.got} (node {node.name!r})" if node.name not in error.got else error.got
        raise ModelError(expected=error.expected, got=got, remedy=error.remedy) from error
    except (ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ModelError(
            expected="an ONNX graph whose sizes fit together",
            got=f"{node.kind} (node {node.name!r}) that fails: {first_line(error)}",
            remedy="Check the file, and in_shape= if you gave one.",
        ) from error


def _value(
    emitter: Emitter, handlers: dict[str, Handler], node: OnnxNode, inputs: list[Value]
) -> Value:
    if node.kind == "Constant":
        return constant(node)
    if node.kind == "Shape" and isinstance(inputs[0], Live):
        part = slice(node.get("start", 0), node.get("end"))
        return Static(tuple(np.asarray(s[part], dtype=np.int64) for s in inputs[0].shapes))
    statics = [v for v in inputs if not isinstance(v, Live)]
    if len(statics) == len(inputs) and node.kind in FOLDED:
        return fold(node, statics)
    if node.kind not in handlers:
        raise ModelError(
            expected=f"ONNX operators out of the {len(supported())} that can be imported",
            got=f"the operator {node.kind!r} in node {node.name!r}",
            remedy="Export with simpler operators (docs/models.md lists them), hand over a .pt2 "
            "of the same network, or load it as module:factory.",
        )
    return handlers[node.kind](emitter, node, inputs)


def _leave(emitter: Emitter, graph: Any, values: dict[str, Value]) -> nn.Module:
    """The finished module; logits of shape (n, classes, 1, 1) are flattened."""
    logits = values.get(graph.output[0].name)
    if not isinstance(logits, Live) or [s[0] for s in logits.shapes] != list(PROBES):
        raise ModelError(
            expected="an output that depends on the images, one row per image",
            got="a constant" if not isinstance(logits, Live) else f"shape {logits.shapes[0]}",
            remedy="Export the classifier's logits as the only output.",
        )
    logits = emitter.reshape(logits, [(s[0], math.prod(s[1:])) for s in logits.shapes])
    emitter.graph.output(logits.node)
    module = finish(emitter.root, emitter.graph)
    if emitter.draws:
        module.randomised = True  # type: ignore[assignment]
    return module
