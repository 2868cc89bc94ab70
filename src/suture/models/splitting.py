"""What flows where in a traced classifier, and how to rebuild the part behind a cut."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from suture.errors import ModelError
from suture.models.tracing import Traced

_PROBES = (2, 3)


@dataclass(frozen=True, eq=False)
class Flow:
    """The nodes that carry what depends on the images, and what every node's value looks like.

    Args:
        order: those nodes, in order of execution; each lies on a path to the logits.
        gates: those of them at which a cut is possible.
        shapes: the value's shape of every tensor node, for ``_PROBES`` images.
        plain: the value of every node that is not a tensor, for ``_PROBES`` images.
    """

    order: tuple[fx.Node, ...]
    gates: frozenset[fx.Node]
    shapes: Mapping[fx.Node, tuple[tuple[int, ...], ...]]
    plain: Mapping[fx.Node, tuple[Any, ...]]

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of one image's value."""
        return self.shapes[node][0][1:]

    def bypass(self, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
        """An edge that jumps over ``node``, if there is one."""
        position = {n: i for i, n in enumerate(self.order)}
        here = position.get(node)
        for target in self.order:
            for source in target.all_input_nodes:
                if here is not None and position.get(source, here) < here < position[target]:
                    return source, target
        return None


class _ShapeInterpreter(fx.Interpreter):
    """Runs the graph and notes what its values look like, not the values themselves."""

    def __init__(self, traced: Traced) -> None:
        root = fx.GraphModule(traced.root, traced.graph)
        super().__init__(root, graph=traced.graph)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.seen[n] = _look(value)
        return value


class _Shape(tuple):  # type: ignore[type-arg]
    """Marks a tensor's shape, apart from tuples that are values."""


def _look(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Shape(value.shape)
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return [_look(item) for item in value]
    return value


def _holds_tensor(look: Any) -> bool:
    return isinstance(look, _Shape) or (isinstance(look, list) and any(map(_holds_tensor, look)))


def measure(traced: Traced, images: Tensor) -> Flow:
    """Run the graph on two and three images, and find what flows where.

    Args:
        traced: the graph.
        images: at least three images.
    """
    runs = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for count in _PROBES:
            watch = _ShapeInterpreter(traced)
            watch.run(images[:count])
            runs.append(watch.seen)
    tensors = {n for n, look in runs[0].items() if _holds_tensor(look)}
    order = _carriers(traced, tensors)
    shapes = {n: (runs[0][n], runs[1][n]) for n in tensors if isinstance(runs[0][n], _Shape)}
    plain = {n: (runs[0][n], runs[1][n]) for n in runs[0] if n not in tensors}
    return Flow(order, _gates(order, shapes), shapes, plain)


def _carriers(traced: Traced, tensors: set[fx.Node]) -> tuple[fx.Node, ...]:
    """Tensor nodes that the images reach through tensors, and that reach the logits so."""
    reached = {traced.images}
    for node in traced.graph.nodes:
        if node in tensors and any(s in reached for s in node.all_input_nodes):
            reached.add(node)
    needed = {traced.logits}
    for node in reversed(list(traced.graph.nodes)):
        if node in needed:
            needed.update(s for s in node.all_input_nodes if s in reached)
    return tuple(n for n in traced.graph.nodes if n in reached and n in needed)


def _gates(
    order: tuple[fx.Node, ...], shapes: Mapping[fx.Node, tuple[tuple[int, ...], ...]]
) -> frozenset[fx.Node]:
    """Nodes that no edge jumps over, one row per image: found in one sweep."""
    position = {n: i for i, n in enumerate(order)}
    last_use = [
        max((position[u] for u in n.users if u in position), default=i) for i, n in enumerate(order)
    ]
    gates, furthest = set(), 0
    for i, node in enumerate(order):
        rows = [s[0] if s else 0 for s in shapes.get(node, ())]
        if furthest <= i and rows == list(_PROBES) and len(shapes[node][0]) > 1:
            gates.add(node)
        furthest = max(furthest, last_use[i])
    return frozenset(gates)


def head_graph(
    traced: Traced, flow: Flow, gate: fx.Node, graph: fx.Graph, features: fx.Node
) -> fx.Node:
    """Copy everything behind ``gate`` into ``graph``; returns the node of the logits.

    Values that are not tensors (sizes, mostly) are not computed again: they are constants, or
    multiples of the batch size, which the features know.
    """
    env: dict[fx.Node, Any] = {gate: features}
    sizes: list[fx.Node] = []

    def batch(multiple: int) -> fx.Node:
        if not sizes:
            sizes.append(graph.call_method("size", (features, 0)))
        return (
            sizes[0] if multiple == 1 else graph.call_function(operator.mul, (sizes[0], multiple))
        )

    def value(two: Any, three: Any) -> Any:
        if isinstance(two, tuple | list) and len(two) == len(three):
            return tuple(value(a, b) for a, b in zip(two, three, strict=True))
        if type(two) is type(three) and two == three:
            return two
        if isinstance(two, int) and two * _PROBES[1] == three * _PROBES[0]:
            return batch(two // _PROBES[0])
        raise _opaque(gate)

    def resolve(node: fx.Node) -> Any:
        if node not in env:
            if node.op == "placeholder":
                raise _opaque(gate)
            env[node] = (
                value(*flow.plain[node])
                if node in flow.plain
                else graph.node_copy(node, lambda n: env[n])
            )
        return env[node]

    for node in _needed(traced.logits, gate, flow):
        resolve(node)
    logits = env[traced.logits]
    assert isinstance(logits, fx.Node)
    return logits


def _needed(logits: fx.Node, gate: fx.Node, flow: Flow) -> list[fx.Node]:
    """What the logits need, back to the gate and to values that are not tensors."""
    needed, stack = {logits}, [logits]
    while stack:
        node = stack.pop()
        if node is gate or node in flow.plain:
            continue
        for source in node.all_input_nodes:
            if source not in needed:
                needed.add(source)
                stack.append(source)
    return [n for n in logits.graph.nodes if n in needed]


def _opaque(gate: fx.Node) -> ModelError:
    return ModelError(
        expected="a head that can be computed from the features alone",
        got=f"something else that it reads from before {gate.name!r}",
        remedy="Cut at another layer; layer_names(model) lists them.",
    )
