"""A classifier cut in two: ``head(encoder(x)) == model(x)``, with flat features in between.

A cut is possible at a value through which everything flows. Such values are the nodes that no
edge of the graph jumps over; sizes that the head reads from before the cut (a batch size, the
side of a feature map) do not count, since they can be had from the features or are constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from suture.errors import ModelError, unknown_name
from suture.models.chain import finish
from suture.models.checks import untouched
from suture.models.example import example_images
from suture.models.splitting import Flow, head_graph, measure
from suture.models.tracing import Traced, trace

PENULTIMATE = "penultimate"


@dataclass(frozen=True, eq=False)
class Cut:
    """Two modules that make up a classifier; both are copies.

    Args:
        encoder: images ``(n, c, h, w)`` to features ``(n, features)``.
        head: features to logits ``(n, classes)``; a bare ``nn.Linear`` where it is one.
        at: where the cut was asked for.
        features: number of features m.
    """

    encoder: nn.Module
    head: nn.Module
    at: str
    features: int


def cut(
    model: nn.Module, at: str = PENULTIMATE, *, in_shape: tuple[int, int, int] | None = None
) -> Cut:
    """Cut a classifier; the given model is not changed, and both parts are in eval mode.

    Args:
        model: a classifier.
        at: "penultimate" cuts before the last linear layer; a layer's name cuts after that layer.
        in_shape: ``(c, h, w)`` of the images, for models that do not carry it themselves.

    Raises:
        ModelError: for an unknown layer, a layer that a skip connection bypasses, a model that
            cannot be traced, or one whose image shape is unknown.
    """
    images, sure = example_images(model, in_shape)
    traced = trace(model, images)
    flow = measure(traced, images)
    node = _locate(traced, flow, at)
    shape = flow.shape(node)
    if len(shape) > 1 and not sure:
        raise _shape_needed()
    parts = Cut(*_split(traced, flow, node, shape), at, math.prod(shape))
    _verify(model, parts, images)
    return parts


def layer_names(
    model: nn.Module, *, in_shape: tuple[int, int, int] | None = None
) -> tuple[str, ...]:
    """The layers after which ``cut`` can cut, in order of execution; "penultimate" comes first.

    Raises:
        ModelError: if the model cannot be traced or its image shape is unknown.
    """
    images, _ = example_images(model, in_shape)
    traced = trace(model, images)
    flow = measure(traced, images)
    first = (PENULTIMATE,) if _before_last_linear(traced, flow) in flow.gates else ()
    return (*first, *_possible(traced, flow))


def _possible(traced: Traced, flow: Flow) -> tuple[str, ...]:
    return tuple(k for k, node in traced.layers.items() if node in flow.gates)


def _before_last_linear(traced: Traced, flow: Flow) -> fx.Node | None:
    """The value that the last linear layer reads."""
    for node in reversed(flow.order):
        if node.op == "call_module" and isinstance(
            traced.root.get_submodule(str(node.target)), nn.Linear
        ):
            source = node.args[0]
            return source if isinstance(source, fx.Node) else None
    return None


def _locate(traced: Traced, flow: Flow, at: str) -> fx.Node:
    if at == PENULTIMATE:
        node = _before_last_linear(traced, flow)
        if node is None:
            raise ModelError(
                expected="a model with a linear layer, to cut before the last one",
                got="a model without",
                remedy=f"Cut after a layer instead: {_list(_possible(traced, flow))}.",
            )
    elif at in traced.layers:
        node = traced.layers[at]
    else:
        raise ModelError(
            expected="the name of a layer, or 'penultimate'",
            got=unknown_name("layer", at, tuple(traced.layers)),
            remedy=f"A cut is possible after: {_list(_possible(traced, flow))}.",
        )
    if node not in flow.gates:
        raise _bypassed(traced, flow, at, node)
    return node


def _list(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 20 else shown or "nowhere"


def _bypassed(traced: Traced, flow: Flow, at: str, node: fx.Node) -> ModelError:
    edge = flow.bypass(node)
    names = {n: name for name, n in traced.layers.items()}
    path = " to ".join(repr(names.get(n, n.name)) for n in edge) if edge else "elsewhere"
    return ModelError(
        expected="a layer through which everything flows",
        got=f"{at!r}, which a skip connection from {path} bypasses",
        remedy=f"A cut is possible after: {_list(_possible(traced, flow))}.",
    )


def _shape_needed() -> ModelError:
    return ModelError(
        expected="the image shape, to cut where the features depend on it",
        got="a model that does not carry it",
        remedy="Pass in_shape=(c, h, w).",
    )


def _split(
    traced: Traced, flow: Flow, node: fx.Node, shape: tuple[int, ...]
) -> tuple[nn.Module, nn.Module]:
    """Encoder and head around ``node``, whose value for one image has ``shape``."""
    front = fx.Graph()
    env: dict[fx.Node, fx.Node] = {}
    for before in _ancestors(node):
        env[before] = front.node_copy(before, lambda n: env[n])
    value, head, features = env[node], fx.Graph(), None
    features = head.placeholder("features")
    if len(shape) > 1:
        traced.root.add_module("flatten_features", nn.Flatten())
        traced.root.add_module("unflatten_features", nn.Unflatten(1, shape))
        value = front.call_module("flatten_features", (value,))
        features = head.call_module("unflatten_features", (features,))
    front.output(value)
    head.output(head_graph(traced, flow, node, head, features))
    return finish(traced.root, front).eval(), _single(finish(traced.root, head)).eval()


def _ancestors(node: fx.Node) -> list[fx.Node]:
    """A node and everything it needs, in graph order."""
    needed, stack = {node}, [node]
    while stack:
        for source in stack.pop().all_input_nodes:
            if source not in needed:
                needed.add(source)
                stack.append(source)
    return [n for n in node.graph.nodes if n in needed]


def _single(module: nn.Module) -> nn.Module:
    """A chain of one layer is that layer."""
    return module[0] if isinstance(module, nn.Sequential) and len(module) == 1 else module


def head_is_linear(head: nn.Module) -> nn.Linear | None:
    """The one linear layer (weight ``(classes, m)``, bias) that a head is, or ``None``.

    Layers that do nothing in eval mode (dropout, identity) are looked through.
    """
    if isinstance(head, nn.Linear):
        return head
    if not isinstance(head, nn.Sequential):
        return None
    layers = [m for m in head if not isinstance(m, nn.Identity | nn.Dropout)]
    return layers[0] if len(layers) == 1 and isinstance(layers[0], nn.Linear) else None


def _verify(model: nn.Module, parts: Cut, images: Tensor) -> None:
    """No cut is believed: the parts must reproduce the whole on an example."""
    with untouched(model), torch.no_grad():
        whole = model(images)
        joined = parts.head(parts.encoder(images))
    scale = max(1.0, float(whole.abs().max()))
    if whole.shape != joined.shape or not bool(((whole - joined).abs() <= 1e-5 * scale).all()):
        raise ModelError(
            expected="two parts that reproduce the model's logits",
            got=f"a difference after cutting at {parts.at!r}",
            remedy="The model's forward changes values in place or draws random numbers; "
            "rewrite that part, or cut elsewhere.",
        )
