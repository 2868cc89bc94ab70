"""Options of every command that maps work, and the runs that such commands begin or go on with."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

from suture.cli.common import command_line, default_out, say
from suture.cli.stopping import working_on
from suture.engine import Engine, Inline, Processes, Ray, Run
from suture.engine.runs import RECIPE
from suture.errors import ArgumentError, BundleError, unknown_name
from suture.storage import write_text

ENGINES = ("inline", "processes", "ray")

EngineName = Annotated[
    str,
    typer.Option("--engine", help="Where work runs: inline, processes or ray; same results."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Of processes or ray; default: every core there is.", min=1),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Of a running Ray cluster; default: one on this machine."),
]


def make_engine(
    name: str,
    workers: int | None = None,
    address: str | None = None,
    threads: int | None = None,
) -> Engine:
    """The engine of that name; workers have one thread each.

    Args:
        threads: of inline work; ``None`` keeps this process' threads.

    Raises:
        ArgumentError: unknown name, or options that the engine does not have.
    """
    if name not in ENGINES:
        raise ArgumentError(
            expected=f"an engine out of {', '.join(ENGINES)}",
            got=unknown_name("engine", name, ENGINES),
            remedy="Leave it away for inline.",
        )
    if (workers is not None and name == "inline") or (address is not None and name != "ray"):
        raise ArgumentError(
            expected="--workers with --engine processes or ray, --address with --engine ray",
            got=f"--engine {name}",
            remedy="Choose another engine, or leave them out.",
        )
    if name == "inline":
        return Inline(threads_per_item=threads)
    return Processes(workers) if name == "processes" else Ray(workers, address=address)


_OPTIONS: ContextVar[dict[str, Any] | None] = ContextVar("options", default=None)
_RESUMED: ContextVar[Run | None] = ContextVar("resumed", default=None)


def begin(
    kind: str,
    *,
    title: str,
    out: Path | None,
    seed: int,
    force: bool = False,
    parts: dict[str, str] | None = None,
) -> Run:
    """A new run of the command that is being executed, or the one that ``resume`` goes on with."""
    run = resumed() or Run.create(
        default_out(kind, out),
        kind=kind,
        title=title,
        command=command_line(),
        seed=seed,
        replace=force,
        parts=parts,
        options=given_options(),
    )
    run.info["notes"] = [*noted()]
    if resumed() is None:
        _keep_recipe(run, kind)
    watched(run, kind)
    return run


def _keep_recipe(run: Run, kind: str) -> None:
    """Beside ``run.json``, the recipe that repeats the command."""
    from suture.cli.recipe_steps import STEPS, recipe_of
    from suture.cli.recipe_text import written

    if kind in STEPS:
        step = recipe_of(kind, given_options() or {})
        comment = f"Repeats: {run.info['command']}\nRun it with: suture run {run.folder}"
        write_text(run.folder / RECIPE, written({"suture": 1, "steps": [{kind: step}]}, comment))


RESUMABLE = ("demo", "train", "repair", "certify", "evaluate", "audit", "bench")
"""Commands whose runs ``suture resume`` takes."""


def watched(run: Run, kind: str) -> None:
    """From now on Ctrl-C tells about this run, and progress is kept in it."""
    trusted = bool((_OPTIONS.get() or {}).get("trust_code"))
    working_on(run.folder, goes_on=kind in RESUMABLE, trusted=trusted)


_NOTES: ContextVar[tuple[str, ...]] = ContextVar("notes", default=())


def note(text: str) -> None:
    """Say something to the user at once, and keep it for the run that the command begins."""
    if text not in _NOTES.get():
        say(f"note: {text}")
        _NOTES.set((*_NOTES.get(), text))


def noted() -> tuple[str, ...]:
    """What ``note`` was told by the running command."""
    return _NOTES.get()


def remembered(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with its parsed options kept at hand for the run that it begins."""

    @functools.wraps(command)
    def call(**options: Any) -> None:
        tokens = _OPTIONS.set(options), _NOTES.set(())
        try:
            command(**options)
        finally:
            _OPTIONS.reset(tokens[0])
            _NOTES.reset(tokens[1])

    return call


def given_options() -> dict[str, Any] | None:
    """The running command's parsed options as JSON; leave to run code is never kept."""
    options = _OPTIONS.get()
    if options is None:
        return None
    kept = {key: value for key, value in options.items() if key not in ("trust_code", "force")}
    return {key: _json(value) for key, value in kept.items()}


def _json(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_json(part) for part in value]
    return str(value) if isinstance(value, Path) else value


@contextmanager
def resuming(run: Run) -> Iterator[None]:
    """Inside, ``begin`` gives this run."""
    token = _RESUMED.set(run)
    try:
        yield
    finally:
        _RESUMED.reset(token)


def resumed() -> Run | None:
    """The earlier run that the command goes on with, if it does."""
    return _RESUMED.get()


def checked_options(command: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Kept options with the types that the command's parameters have.

    Raises:
        BundleError: options that the command does not have, or of another type.
    """
    hints, made = typing.get_type_hints(command), {}
    if not isinstance(options, dict):
        raise _altered("options by name", type(options).__name__)
    for name, value in options.items():
        if name not in hints:
            raise _altered(f"options that {command.__module__.rsplit('.', 1)[-1]} has", name)
        made[name] = _typed(name, value, hints[name])
    return made


def _typed(name: str, value: Any, hint: Any) -> Any:
    choices = typing.get_args(hint) or (hint,)
    if value is None and type(None) in choices:
        return None
    for choice in choices:
        of = typing.get_origin(choice) or choice
        if of is Path and isinstance(value, str):
            return Path(value)
        if of is float and type(value) is int:
            return float(value)
        if isinstance(of, type) and of is not type(None) and type(value) is of:
            return value
    raise _altered(f"a value for {name}", repr(value))


def _altered(expected: str, got: str) -> BundleError:
    return BundleError(
        expected=expected,
        got=got,
        remedy="run.json was altered: restore it, or run the command again.",
    )
