"""A growing ``fx`` graph of named layers that runs at both batch sizes as it grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from suture.models.layers import Permute, Reshape
from suture.models.onnx_import.values import PROBES, Live, unsuitable


class Emitter:
    """Adds layers and function calls to a graph, and knows every value it has made."""

    def __init__(self) -> None:
        self.root = nn.Module()
        self.graph = fx.Graph()
        self._names: Counter[str] = Counter()
        self._lives: dict[fx.Node, Live] = {}
        self._drawn: set[fx.Node] = set()
        self._images: fx.Node | None = None
        self._noise: fx.Node | None = None
        self.draws = 0

    def input(self, shape: Sequence[int]) -> Live:
        """The placeholder for images of ``shape`` (c, h, w)."""
        self._images = node = self.graph.placeholder("images")
        return self._keep(node, tuple(torch.full((n, *shape), 0.5) for n in PROBES))

    def module(self, layer: nn.Module, value: Live) -> Live:
        """A call of a layer, under a name made of its kind and a running number."""
        name = self._name(type(layer).__name__.lower())
        self.root.add_module(name, layer.eval())
        node = self.graph.call_module(name, (value.node,))
        with torch.no_grad():
            return self._keep(node, tuple(layer(p) for p in value.probes))

    def function(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Live:
        """A call of a function; live arguments, also within a list, become nodes."""
        node = self.graph.call_function(function, tuple(_map(a, _node) for a in args), kwargs)
        with torch.no_grad():
            runs = [function(*_at(args, i), **kwargs) for i in range(len(PROBES))]
        return self._keep(node, tuple(runs))

    def constant(self, value: np.ndarray) -> Live:
        """A constant as a buffer of the module."""
        name = self._name("constant")
        self.root.register_buffer(name, tensor(value))
        return self._keep(self.graph.get_attr(name), (tensor(value),) * len(PROBES))

    def buffer(self, value: np.ndarray) -> Live:
        """A constant of its own type as a buffer; floats are float32."""
        if value.dtype.kind == "f":
            return self.constant(value)
        name, kept = self._name("constant"), torch.from_numpy(np.array(value))
        self.root.register_buffer(name, kept)
        return self._keep(self.graph.get_attr(name), (kept,) * len(PROBES))

    def draw(self, layer: nn.Module) -> Live:
        """One random number an image; the module takes ``noise`` then, which decides it."""
        assert self._images is not None
        if self._noise is None:
            with self.graph.inserting_after(self._images):
                self._noise = self.graph.placeholder("noise", default_value=None)
        name = self._name("draw")
        self.root.add_module(name, layer)
        self.draws += 1
        node = self.graph.call_module(name, (self._images, self._noise))
        self._drawn.add(node)
        return self._keep(node, tuple(torch.full((n,), 0.5) for n in PROBES))

    def is_drawn(self, value: Live) -> bool:
        """Whether a value comes from draws and constants alone."""
        return value.node in self._drawn

    def _name(self, kind: str) -> str:
        self._names[kind] += 1
        return f"{kind}{self._names[kind]}"

    def _keep(self, node: fx.Node, probes: tuple[Tensor, ...]) -> Live:
        self._lives[node] = Live(node, probes)
        origins = [origin for origin in node.all_input_nodes if origin.op != "get_attr"]
        if origins and self._drawn.issuperset(origins):
            self._drawn.add(node)
        return self._lives[node]

    def source(self, value: Live, *kinds: type[nn.Module]) -> tuple[nn.Module, Live] | None:
        """The layer of those kinds that made a value, with its input; else ``None``."""
        if value.node.op != "call_module":
            return None
        layer = self.root.get_submodule(str(value.node.target))
        origin = value.node.args[0]
        assert isinstance(origin, fx.Node)
        return (layer, self._lives[origin]) if isinstance(layer, kinds) else None

    def reshape(self, value: Live, shapes: Sequence[Sequence[int]]) -> Live:
        """``value`` in a new shape, given at both batch sizes; consecutive reshapes merge."""
        first, second = (tuple(int(s) for s in shape) for shape in shapes)
        if (first, second) == value.shapes:
            return value
        pairs = list(zip(first, second, strict=True))
        free = [a for a, b in pairs if a != b]
        if any(a * PROBES[1] != b * PROBES[0] for a, b in pairs if a != b):
            raise unsuitable(f"a reshape from {value.shapes[0]} to {first} that mixes images")
        origin = self.source(value, Reshape, nn.Flatten)
        value = origin[1] if origin else value
        if (first, second) == value.shapes:
            return value
        flat = (
            len(first) == 2 <= value.ndim
            and first[0] == PROBES[0] == value.shapes[0][0]
            and free == [first[0]]
        )
        target = [-1 if a != b else a for a, b in pairs]
        return self.module(nn.Flatten() if flat else Reshape(target), value)

    def permute(self, value: Live, order: Sequence[int]) -> Live:
        """``value`` with its axes reordered; permutations that cancel disappear."""
        origin = self.source(value, Permute)
        if origin is not None:
            layer, value = origin
            assert isinstance(layer, Permute)
            order = [layer.order[axis] for axis in order]
        if list(order) == list(range(value.ndim)):
            return value
        return self.module(Permute(order), value)


def _map(argument: Any, convert: Callable[[Live], Any]) -> Any:
    if isinstance(argument, list):
        return [_map(item, convert) for item in argument]
    return convert(argument) if isinstance(argument, Live) else argument


def _at(arguments: Sequence[Any], index: int) -> list[Any]:
    """The arguments' values at one of the batch sizes."""
    return [_map(argument, lambda live: live.probes[index]) for argument in arguments]


def _node(value: Live) -> fx.Node:
    return value.node


def tensor(value: np.ndarray) -> Tensor:
    """A float32 tensor of its own memory."""
    return torch.from_numpy(np.array(value, dtype=np.float32))
