"""An exported program, as JSON, becomes an ``fx`` graph of ATen calls and plain layers."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from suture.errors import SutureError
from suture.models.chain import finish
from suture.models.layers import Normalise
from suture.models.messages import first_line
from suture.models.normalising import Statistics, check_channels
from suture.models.pt2_import.archive import DTYPES, ProgramArchive, refused
from suture.models.pt2_import.lower import LAYERS

_ATEN = re.compile(r"torch\.ops\.aten\.([a-zA-Z_0-9]+)\.([a-zA-Z_0-9]+)")
_INTEGERS = re.compile(r"_operator\.(add|sub|mul|floordiv|mod|neg|getitem)")
# ATen also holds operators that read or write files and devices; their names are few, but what
# gives them away is that they take text, which a network's operators hardly ever do.
_TEXTS = ("none", "tanh", "floor", "trunc", "mean", "sum")
_MEMORY = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}


def to_module(
    archive: ProgramArchive, statistics: Statistics | None = None
) -> tuple[nn.Module, list[int]]:
    """The module of an exported classifier, and the ``(c, h, w)`` it takes.

    Args:
        archive: the parts of the file.
        statistics: mean and std that images go through first.

    Raises:
        ModelError: for operators other than ATen's, several inputs or outputs, or sub-graphs.
    """
    try:
        return _ProgramReader(archive, statistics).run()
    except SutureError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        first = first_line(error)
        raise refused(f"a graph that cannot be read ({type(error).__name__}: {first})") from error


class _ProgramReader:
    """One pass over the nodes; ``values`` maps the program's names to graph nodes."""

    def __init__(self, archive: ProgramArchive, statistics: Statistics | None) -> None:
        self.statistics = statistics
        module = archive.program["graph_module"]
        self.graph_json, self.signature = module["graph"], module["signature"]
        self.tensors = archive.tensors
        self.root, self.graph = nn.Module(), fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.names: Counter[str] = Counter()

    def run(self) -> tuple[nn.Module, list[int]]:
        shape = self._inputs()
        for node in self.graph_json["nodes"]:
            self._node(node)
        outputs = [
            s["user_output"]["arg"] for s in self.signature["output_specs"] if "user_output" in s
        ]
        if len(outputs) != 1 or "as_tensor" not in outputs[0]:
            raise refused(f"{len(outputs)} outputs", "one output, the logits")
        self.graph.output(self.values[outputs[0]["as_tensor"]["name"]])
        return finish(self.root, self.graph), shape

    def _inputs(self) -> list[int]:
        """Placeholders for the images, attributes for all the rest; returns (c, h, w)."""
        shapes = []
        for spec in self.signature["input_specs"]:
            ((kind, entry),) = spec.items()
            if kind == "user_input":
                name = entry["arg"]["as_tensor"]["name"]
                shapes.append([s.get("as_int") for s in self._meta(name)["sizes"]][1:])
                self.values[name] = self._images(shapes[-1][:1])
            else:
                name, key = entry["arg"]["name"], _STORED[kind]
                self.values[name] = self._attribute(entry[key], kind == "parameter")
        if len(shapes) != 1 or len(shapes[0]) != 3 or None in shapes[0]:
            raise refused(f"inputs of the shapes {shapes}", "one input of shape (n, c, h, w)")
        return shapes[0]

    def _images(self, channels: list[int | None]) -> fx.Node:
        """The placeholder, normalised where that is asked for."""
        images = self.graph.placeholder("images")
        if self.statistics is None:
            return images
        if channels and channels[0] is not None:
            check_channels(dict(zip(("mean", "std"), self.statistics, strict=True)), channels[0])
        self.root.add_module("normalise_pixels", Normalise(*self.statistics))
        return self.graph.call_module("normalise_pixels", (images,))

    def _meta(self, name: str) -> Mapping[str, Any]:
        return self.graph_json["tensor_values"][name]

    def _attribute(self, name: str, trained: bool) -> fx.Node:
        """A tensor under its own dotted name in the module."""
        owner, (*path, last) = self.root, name.split(".")
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        tensor = self.tensors[name]
        if trained and tensor.is_floating_point():
            owner.register_parameter(last, nn.Parameter(tensor))
        else:
            owner.register_buffer(last, tensor)
        return self.graph.get_attr(name)

    def tensor(self, node: Any) -> Tensor | None:
        """The stored tensor that a graph node stands for, or ``None``."""
        if isinstance(node, fx.Node) and node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        return None

    def _node(self, node: Mapping[str, Any]) -> None:
        target = _target(node["target"])
        given = {i["name"]: self._argument(i["arg"]) for i in node["inputs"]}
        lower = LAYERS.get(node["target"].removeprefix("torch.ops.aten."))
        layer = lower(given, self.tensor) if lower else None
        if layer is not None:
            made = self._layer(layer, next(iter(given.values())))
        else:
            made = self._call(target, node["inputs"], given)
        self._name_outputs(node["outputs"], made)

    def _layer(self, layer: nn.Module, x: fx.Node) -> fx.Node:
        kind = type(layer).__name__.lower()
        self.names[kind] += 1
        name = f"{kind}{self.names[kind]}"
        self.root.add_module(name, layer.eval())
        return self.graph.call_module(name, (x,))

    def _call(
        self, target: Any, inputs: Sequence[Mapping[str, Any]], given: Mapping[str, Any]
    ) -> fx.Node:
        keywords = {i["name"] for i in inputs if i.get("kind") == 2}
        positional = tuple(v for k, v in given.items() if k not in keywords)
        return self.graph.call_function(
            target, positional, {k: v for k, v in given.items() if k in keywords}
        )

    def _name_outputs(self, outputs: Sequence[Mapping[str, Any]], made: fx.Node) -> None:
        """Bind the names of a node's results; several results are taken apart."""
        if len(outputs) == 1 and "as_tensors" not in outputs[0]:
            self.values[_result(outputs[0])] = made
            return
        several = outputs[0]["as_tensors"] if len(outputs) == 1 else outputs
        for position, output in enumerate(several):
            part = self.graph.call_function(operator.getitem, (made, position))
            self.values[output["name"] if "name" in output else _result(output)] = part

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind in ("as_int", "as_ints", "as_bool", "as_bools", "as_floats"):
            return value
        if kind not in _ARGUMENTS:
            raise refused(f"an argument of the kind {kind!r}")
        return _ARGUMENTS[kind](self, value)


def _result(output: Mapping[str, Any]) -> str:
    """The name of a single result: a tensor or a size."""
    ((kind, entry),) = output.items()
    if kind not in ("as_tensor", "as_sym_int", "as_none"):
        raise refused(f"a result of the kind {kind!r}")
    return "" if kind == "as_none" else str(entry.get("name") or entry["as_name"])


def _size(reader: _ProgramReader, value: Mapping[str, Any]) -> Any:
    return value["as_int"] if "as_int" in value else reader.values[value["as_name"]]


def _text(value: str) -> str:
    if value not in _TEXTS:
        raise refused(f"the text {value!r} as an argument")
    return value


def _optional(reader: _ProgramReader, value: Mapping[str, Any]) -> fx.Node | None:
    tensor = value.get("as_tensor")
    return reader.values[tensor["name"]] if tensor else None


_STORED = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}
_ARGUMENTS: dict[str, Any] = {
    "as_none": lambda reader, value: None,
    "as_float": lambda reader, value: float(value),
    "as_string": lambda reader, value: _text(value),
    "as_tensor": lambda reader, value: reader.values[value["name"]],
    "as_tensors": lambda reader, value: [reader.values[v["name"]] for v in value],
    "as_optional_tensor": _optional,
    "as_optional_tensors": lambda reader, value: [_optional(reader, v) for v in value],
    "as_sym_int": _size,
    "as_sym_ints": lambda reader, value: [_size(reader, v) for v in value],
    "as_scalar_type": lambda reader, value: DTYPES[value],
    "as_memory_format": lambda reader, value: _MEMORY[value],
    "as_layout": lambda reader, value: torch.strided,
    "as_device": lambda reader, value: torch.device("cpu"),
}


def _target(name: str) -> Any:
    """The function that a node calls: an ATen operator, or arithmetic on sizes.

    Raises:
        ModelError: for any other name; a file must not choose which Python function runs.
    """
    aten, integer = _ATEN.fullmatch(name), _INTEGERS.fullmatch(name)
    if integer:
        return getattr(operator, integer[1])
    packet = getattr(torch.ops.aten, aten[1], None) if aten and aten[1] != "from_file" else None
    overload = getattr(packet, aten[2], None) if aten else None
    if not isinstance(overload, torch._ops.OpOverload):
        raise refused(f"the operator {name!r}", "operators of torch.ops.aten")
    return overload
