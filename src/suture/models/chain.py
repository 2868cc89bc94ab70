"""A traced graph that is a plain chain of modules becomes the ``nn.Sequential`` it is."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from torch import fx, nn

from suture.types import BEFORE


class TracedModule(fx.GraphModule):
    """A ``GraphModule`` that keeps its suture attributes when copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        copied = super().__deepcopy__(memo)  # type: ignore[no-untyped-call]
        for name in ("suture_spec", "suture_files", "randomised", BEFORE):
            if name in self.__dict__:
                setattr(copied, name, copy.deepcopy(self.__dict__[name], memo))
        return copied


def finish(root: nn.Module, graph: fx.Graph) -> nn.Module:
    """The module of a graph: an ``nn.Sequential`` where it is a chain, else a ``GraphModule``.

    Dead nodes and unused submodules are dropped. ``root`` lends its submodules, uncopied.
    """
    traced = TracedModule(root, graph)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return as_sequential(traced) or traced


def as_sequential(traced: fx.GraphModule) -> nn.Sequential | None:
    """The chain of modules that a graph is, or ``None`` if it is anything else."""
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    previous: fx.Node | None = None
    for node in traced.graph.nodes:
        if node.op == "output":
            return nn.Sequential(chain) if node.args == (previous,) else None
        if node.op == "call_module" and node.args == (previous,) and not node.kwargs:
            name = str(node.target).replace(".", "_")
            if name in chain:
                return None
            chain[name] = traced.get_submodule(str(node.target))
        elif node.op != "placeholder" or previous is not None:
            return None
        previous = node
    return None
