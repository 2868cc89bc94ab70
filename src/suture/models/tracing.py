"""A model becomes an ``fx`` graph that knows which node each named layer ended in."""

from __future__ import annotations

import copy
import operator
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from suture.errors import ModelError
from suture.models.checks import untouched
from suture.models.layers import LEAVES
from suture.models.messages import first_line

# What ``x += y`` is traced to, and what it must be so that callers' tensors are left alone.
_PLAIN = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


@dataclass(frozen=True, eq=False)
class Traced:
    """A graph over a private copy of a model.

    Args:
        root: the copy, whose submodules the graph calls.
        graph: from one placeholder (the images) to the logits.
        layers: name of a layer to the node of its (last) output, in order of execution.
        images: the placeholder.
        logits: the node that is returned.
    """

    root: nn.Module
    graph: fx.Graph
    layers: OrderedDict[str, fx.Node]
    images: fx.Node
    logits: fx.Node


class _Tracer(fx.Tracer):
    """Records where every module's output went; suture's own layers stay whole."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: OrderedDict[str, fx.Node] = OrderedDict()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        name = self.path_of_module(m)
        out = super().call_module(m, forward, args, kwargs)
        if isinstance(out, fx.Proxy):
            self.outputs.pop(name, None)
            self.outputs[name] = out.node
        return out


def trace(model: nn.Module, images: Tensor) -> Traced:
    """The graph of a copy of the model in eval mode: by symbolic tracing, else by torch.export.

    Args:
        model: any classifier; it is not changed.
        images: an example ``(n, c, h, w)``, which only export looks at.

    Raises:
        ModelError: if neither way gets through the model's forward.
    """
    traced = _symbolic(model)
    if traced is not None and _agrees(traced, model, images[:2]):
        return traced
    return _exported(model, images)


def _agrees(traced: Traced, model: nn.Module, images: Tensor) -> bool:
    """Whether the graph computes what the model does; in-place tricks may stand in the way."""
    with untouched(model), torch.no_grad():
        expected = model(images)
        try:
            got = fx.GraphModule(traced.root, traced.graph)(images)
        except (RuntimeError, ValueError, TypeError, AttributeError):
            return False
    return bool(torch.allclose(got, expected, rtol=1e-4, atol=1e-5, equal_nan=True))


def _symbolic(model: nn.Module) -> Traced | None:
    root, tracer = copy.deepcopy(model).eval(), _Tracer()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tracer.trace(root)
    except Exception:  # noqa: BLE001 - whatever a foreign forward raises, export is tried next
        return None
    return _traced(root, graph, tracer.outputs)


def _exported(model: nn.Module, images: Tensor) -> Traced:
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                copy.deepcopy(model).eval(), (images,), dynamic_shapes=shapes
            )
            # No decomposition, but every in-place operation becomes a functional one.
            root = program.run_decompositions({}).module()
    except Exception as error:
        raise ModelError(
            expected="a model that torch.fx or torch.export can trace",
            got=f"{type(error).__name__}: {first_line(error)}",
            remedy="Write forward without Python branches on tensor values.",
        ) from error
    assert isinstance(root, fx.GraphModule)
    traced = _traced(root, root.graph, _stacked(root.graph))
    if traced is None:
        raise _not_a_classifier()
    return traced


def _stacked(graph: fx.Graph) -> OrderedDict[str, fx.Node]:
    """Where each module ended, from the module stacks that export leaves on its nodes."""
    layers: OrderedDict[str, fx.Node] = OrderedDict()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        for name, _ in (node.meta.get("nn_module_stack") or {}).values():
            layers.pop(name, None)
            layers[name] = node
    return layers


def _not_a_classifier() -> ModelError:
    return ModelError(
        expected="a model that takes images and returns logits",
        got="a forward with several tensors in or out",
        remedy="Wrap it in a module whose forward(images) returns the logits alone.",
    )


def _traced(root: nn.Module, graph: fx.Graph, layers: OrderedDict[str, fx.Node]) -> Traced | None:
    """The graph without in-place operations and with linear layers as modules."""
    images = [n for n in graph.nodes if n.op == "placeholder" and n.users]
    logits = _returned(graph)
    if len(images) != 1 or logits is None:
        return None
    _without_inplace(root, graph)
    moved = _with_linear_modules(root, graph)
    named = OrderedDict((k, moved.get(n, n)) for k, n in layers.items() if k)
    return Traced(root, graph, named, images[0], moved.get(logits, logits))


def _returned(graph: fx.Graph) -> fx.Node | None:
    (out,) = (n for n in graph.nodes if n.op == "output")
    value = out.args[0]
    while isinstance(value, Sequence) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, fx.Node) else None


def _without_inplace(root: nn.Module, graph: fx.Graph) -> None:
    for module in root.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False  # type: ignore[assignment]
    for node in graph.nodes:
        node.target = _functional(node)
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}


def _functional(node: fx.Node) -> Any:
    """The target that returns its result in place of writing it into an argument."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    bare = name.removesuffix("_")
    if name.endswith("_") and not name.endswith("__"):
        if node.op == "call_method" and hasattr(Tensor, bare):
            return bare
        if node.op == "call_function" and getattr(torch, name, None) is node.target:
            return getattr(torch, bare, node.target)
    return _PLAIN.get(node.target, node.target) if callable(node.target) else node.target


def _with_linear_modules(root: nn.Module, graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Functional linear layers become modules; returns which node replaced which."""
    moved: dict[fx.Node, fx.Node] = {}
    for node in list(graph.nodes):
        if node.target in (F.linear, torch.ops.aten.linear.default):
            layer = _linear(root, *node.args, **node.kwargs)
            if layer is not None:
                name = f"linear_{node.name}"
                root.add_module(name, layer)
                with graph.inserting_before(node):
                    moved[node] = graph.call_module(name, (node.args[0],))
                node.replace_all_uses_with(moved[node])
    return moved


def _linear(root: nn.Module, x: Any, weight: Any, bias: Any = None) -> nn.Linear | None:
    tensors: list[Any] = []
    for node in (weight, bias):
        if node is None:
            tensors.append(None)
        elif isinstance(node, fx.Node) and node.op == "get_attr":
            tensors.append(operator.attrgetter(str(node.target))(root))
        else:
            return None
    layer = nn.Linear(1, 1, bias=bias is not None, device="meta")
    layer.out_features, layer.in_features = tensors[0].shape
    layer.weight, layer.bias = tensors
    return layer
