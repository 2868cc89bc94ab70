"""Options that commands share, in groups: a command takes a group as one argument."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer
from torch import nn

from suture.cli.common import Device, Force, Json, Out, Seed, check_device
from suture.cli.engines import Address, EngineName, Workers, begin, make_engine
from suture.cli.opening import (
    Mean,
    Preset,
    Range,
    Std,
    Trust,
    Weights,
    open_model,
    opening_statistics,
)
from suture.data import Dataset
from suture.engine import Engine, Run
from suture.engine.share import MINUTES
from suture.loading import load


@dataclass(frozen=True)
class Opening:
    """How a model is opened, and where it computes."""

    panel: ClassVar[str] = "The model"
    weights: Weights = None
    trust_code: Trust = False
    mean: Mean = None
    std: Std = None
    pixels: Range = None
    preset: Preset = None
    device: Device = "cpu"

    @property
    def place(self) -> str:
        """The device, if torch can use it here."""
        return check_device(self.device)

    def model(self, reference: str, dataset: Dataset) -> nn.Module:
        """The classifier, checked on one image of the data set."""
        return open_model(
            reference,
            dataset,
            weights=self.weights,
            trust_code=self.trust_code,
            device=self.place,
            **self.said,
        )

    def plain(self, reference: str, shape: tuple[int, ...] | None) -> nn.Module:
        """The classifier without a look at data; ``shape`` of its images where that is known."""
        return load(
            reference,
            weights=self.weights,
            trust_code=self.trust_code,
            device=self.place,
            **({"in_shape": shape} if shape and reference.endswith(".onnx") else {}),
            **opening_statistics(**self.said),
        )

    @property
    def said(self) -> dict[str, str | None]:
        """What was said of the network's normalisation."""
        return {k: getattr(self, k) for k in ("mean", "std", "pixels", "preset")}


@dataclass(frozen=True)
class Spreading:
    """Where the work runs."""

    panel: ClassVar[str] = "Where it runs"
    engine: EngineName = "inline"
    workers: Workers = None
    address: Address = None

    def start(self, threads: int | None = None) -> Engine:
        """The engine; ``threads`` of inline work, ``None`` for this process'."""
        return make_engine(self.engine, self.workers, self.address, threads)


@dataclass(frozen=True)
class TrainingTogether:
    """How many train, and what a crash may cost."""

    panel: ClassVar[str] = "Training by several processes"
    processes: Annotated[
        int,
        typer.Option(
            help="Train together, each on its share of a batch; of this machine, or with --engine "
            "ray of the cluster.",
            min=1,
        ),
    ] = 1
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            "--checkpoint-minutes", help="Between two points to resume from, within an epoch."
        ),
    ] = MINUTES

    @property
    def how(self) -> dict[str, Any]:
        """As repairs and training take it."""
        return {"processes": self.processes, "checkpoint_minutes": self.checkpoint_minutes}


@dataclass(frozen=True)
class Keeping:
    """The run that is written, and how the command answers."""

    panel: ClassVar[str] = "What is kept and said"
    out: Out = None
    force: Force = False
    seed: Seed = 0
    as_json: Json = False

    def begin(self, kind: str, title: str, **parts: str) -> Run:
        """A new run, or the one that ``suture resume`` goes on with."""
        return begin(kind, title=title, out=self.out, seed=self.seed, force=self.force, parts=parts)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each argument that is a group spread into options, a field each."""
    groups: dict[str, type] = {}
    spread: list[inspect.Parameter] = []
    hints = typing.get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            groups[name] = typing.cast(type, hints[name])
            spread += _options(groups[name])
        else:
            spread.append(parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def call(**options: Any) -> None:
        made = {}
        for name, kind in groups.items():
            own = [field.name for field in dataclasses.fields(kind)]
            made[name] = kind(**{field: options.pop(field) for field in own if field in options})
        command(**options, **made)

    del call.__wrapped__  # type: ignore[attr-defined]
    call.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in spread}
    return call


def _options(group: Any) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_in_panel(hints[field.name], group.panel),
        )
        for field in dataclasses.fields(group)
    ]


def _in_panel(hint: Any, panel: str) -> Any:
    """The option, listed under the group's title."""
    kind, option = typing.get_args(hint)
    titled = copy.copy(option)
    titled.rich_help_panel = panel
    return Annotated[kind, titled]
