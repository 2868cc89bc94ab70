"""Repairs one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from suture.data import Dataset
from suture.errors import SutureError, require
from suture.repairs.base import REPAIRS, Repair, Seen
from suture.repairs.context import Context
from suture.repairs.result import RepairResult
from suture.settings import has
from suture.types import LabelledImages, check_linf


@REPAIRS.add("chain")
@dataclass(frozen=True, kw_only=True)
class Chain(Repair):
    """Any repair after any other: each is given what the one before it made.

    Methods that change weights and keep the architecture (training, tuning, weight patches) can be
    followed by any other. One that puts something around the network (programs, patches, a
    robustifier) can be followed by what works on such a model; what does not says so, and which
    of the methods it was.

    Certificates and images are the last method's: those of an earlier one speak of a network that
    is no longer there. Whoever attacks the result follows the gradients of every stage.

    Args:
        methods: in their order; one's own settings are ``methods.0.epochs=3``, or by name,
            ``methods.pgd-training.epochs=3``.
        eps: the radius of all of them that have one, or whose attack has; ``None`` leaves each
            its own.
    """

    methods: tuple[Repair, ...] = ()
    eps: float | None = None

    def __post_init__(self) -> None:
        checks = {
            "methods, at least one": len(self.methods) >= 1,
            "eps > 0, or None": self.eps is None or self.eps > 0,
        }
        if self.eps is not None and all(_norm(method) == "linf" for method in self.methods):
            check_linf(self.eps)
        require(checks, self, "For example --set methods=pgd-training,defensyn.")

    @property
    def parts(self) -> tuple[Repair, ...]:
        """The methods as they run: with the common radius."""
        if self.eps is None:
            return self.methods
        return tuple(_at(method, self.eps) for method in self.methods)

    @property
    def trains_together(self) -> bool:
        """Where one of the methods does; the others run as with one process."""
        return any(method.trains_together for method in self.methods)

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        stages: list[RepairResult] = []
        for index, method in enumerate(self.parts):
            stage = context.child(f"stage {index}")
            given = stages[-1].model if stages else model
            stages.append(_run(method, given, data, stage, index))
        last = stages[-1]
        trace = {"chain": [_told(m, s) for m, s in zip(self.parts, stages, strict=True)]}
        artifacts = {
            f"{index}-{name}": artifact
            for index, stage in enumerate(stages)
            for name, artifact in stage.artifacts.items()
        }
        return replace(last, trace=trace, artifacts=artifacts)

    def seen(self, dataset: Dataset) -> Seen:
        """The training images, unless a method must see others."""
        looks = [method.seen(dataset) for method in self.methods]
        return next((look for look in looks if look.note), looks[0])

    def beside(self, folder: Path) -> Repair:
        """Every method with what it finds there."""
        return replace(self, methods=tuple(method.beside(folder) for method in self.methods))

    @property
    def threat(self) -> dict[str, Any]:
        """The last method's that is made against anything."""
        threats = [method.threat for method in self.parts]
        return next((threat for threat in reversed(threats) if threat), {})


def _run(
    method: Repair, model: nn.Module, data: LabelledImages, context: Context, index: int
) -> RepairResult:
    try:
        return context.run(method, model, data)
    except SutureError as error:
        where = f"That was method {index} of the chain, {_name(method)}."
        told = f"{error.remedy} {where}"
        raise type(error)(expected=error.expected, got=error.got, remedy=told) from error


def _at(method: Repair, eps: float) -> Repair:
    """The method with this radius, if it knows any."""
    if has(type(method), "eps"):
        return replace(method, eps=eps)  # type: ignore[call-arg]
    attack = getattr(method, "attack", None)
    return method if attack is None else replace(method, attack=replace(attack, eps=eps))  # type: ignore[call-arg]


def _norm(method: Repair) -> str:
    return str(method.threat.get("norm", "linf"))


def _name(method: Repair) -> str:
    return Repair.registry.name_of(type(method)) or type(method).__name__


def _told(method: Repair, stage: RepairResult) -> dict[str, Any]:
    kept = {key: value for key, value in stage.trace.items() if key not in stage.artifacts}
    return {
        "method": _name(method),
        "parameters": repr(method),
        "status": stage.status.name.lower(),
        "sentence": stage.status.value,
        "trace": kept,
    }
