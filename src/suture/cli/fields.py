"""Options that a command has because the chosen methods have a field: ``--q 50`` for DARE's ``q``.

Every field of a method can be told by ``--set field=value``. In commands with ``FieldsCommand`` the
field's name is an option too, also cut short where that leaves no doubt; ``--help`` beside the
method's name lists its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from typer.core import TyperCommand

from suture.attacks import ATTACKS
from suture.errors import ArgumentError, unknown_name
from suture.registry import Registry
from suture.repairs import REPAIRS
from suture.settings import has, settings_of

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="FIELD=VALUE sets any field, as 8/255, none, a,b or schedule.epochs=20; repeatable. "
        "A field is an option as well: --FIELD VALUE.",
    ),
]


class FieldsCommand(TyperCommand):
    """A command of which fields are options; ``kinds`` says whose, from the words it was given."""

    kinds: Callable[[Sequence[str]], dict[str, type]]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fields among the options become ``--set``."""
        self._kinds = type(self).kinds(args)
        return super().parse_args(ctx, self.translated(args))

    def translated(self, args: list[str]) -> list[str]:
        """The words as typer understands them.

        Raises:
            ArgumentError: an option that neither the command nor its methods have.
        """
        own = {word for param in self.params for word in (*param.opts, *param.secondary_opts)}
        own |= {"-h", "--help"}
        return list(_translated(args, own, type(self).kinds(args), self._takes_value))

    def _takes_value(self, word: str) -> bool:
        for param in self.params:
            if word in (*param.opts, *param.secondary_opts):
                return not getattr(param, "is_flag", False)
        return False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The options of all methods, then the fields of the chosen one."""
        super().format_help(ctx, formatter)
        for name, kind in self._kinds.items():
            Console().print(panel(name, kind))


def fields_of(**kinds: type) -> type[FieldsCommand]:
    """A command that has the fields of these dataclasses; the names are for the help."""
    return type("_FieldsCommand", (FieldsCommand,), {"kinds": staticmethod(lambda args: kinds)})


def fields_of_chosen(option: str, choices: Registry, default: str) -> type[FieldsCommand]:
    """A command that has the fields of the methods that this option names."""

    def kinds(args: Sequence[str]) -> dict[str, type]:
        return {name: choices.find(name) for name in list(_values(args, option)) or [default]}

    return type("_FieldsCommand", (FieldsCommand,), {"kinds": staticmethod(kinds)})


def _values(args: Sequence[str], option: str) -> Iterator[str]:
    for at, word in enumerate(args):
        if word.startswith(f"{option}="):
            yield word.partition("=")[2]
        elif word == option and at + 1 < len(args):
            yield args[at + 1]


def _translated(
    args: list[str], own: set[str], kinds: dict[str, type], takes_value: Callable[[str], bool]
) -> Iterator[str]:
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("--") or word == "--" or name in own:
            yield word
            if not equals and takes_value(name):
                yield from (next(words, None) or "",)
            continue
        path, off = _path(name, own, kinds)
        if not equals and _is_bool(path, kinds):
            value = "false" if off else "true"
        elif not equals:
            value = next(words, "")
        yield from ("--set", f"{path}={value}")


def _path(typed: str, own: set[str], kinds: dict[str, type]) -> tuple[str, bool]:
    """The field that an option means, and whether it is switched off by ``--no-``.

    Raises:
        ArgumentError: neither an option nor a field; the nearest of both are named.
    """
    name = typed.removeprefix("--").replace("-", "_")
    for wanted, off in ((name, False), (name.removeprefix("no_"), True)):
        if any(has(kind, wanted) for kind in kinds.values()):
            return wanted, off and wanted != name
    known = sorted({s.name for kind in kinds.values() for s in settings_of(kind)})
    longer = [path for path in known if path.startswith(name) and "." not in path[len(name) :]]
    if len(longer) == 1:
        return longer[0], False
    fields = {f"--{path.replace('_', '-')}" for path in known}
    options = tuple(sorted({word for word in own if word.startswith("--")} | fields))
    raise ArgumentError(
        expected="an option of the command, or a field of " + (" or ".join(kinds) or "a method"),
        got=unknown_name("option", typed, options),
        remedy="`suture methods NAME` lists what a method can be told.",
    )


def _is_bool(path: str, kinds: dict[str, type]) -> bool:
    found = [s for kind in kinds.values() for s in settings_of(kind) if s.name == path]
    return bool(found) and found[0].type == "bool"


def panel(name: str, kind: type) -> Panel:
    """The fields of a method: name, type, default, meaning."""
    table = Table(show_header=False, show_edge=False, box=None, pad_edge=False, expand=True)
    table.add_column(ratio=2, overflow="fold")
    table.add_column(ratio=3)
    for one in settings_of(kind):
        left = f"[bold cyan]{one.name}[/] = {escape(one.default)}\n[dim]{escape(one.type)}[/]"
        table.add_row(left, escape(one.help.replace("``", "")))
    return Panel(table, title=f"Fields of {name}", title_align="left", border_style="dim")


def all_methods() -> dict[str, tuple[str, type]]:
    """Name → what it is, and its class: repairs first, then attacks."""
    found = {name: (REPAIRS.what, kind) for name, kind in REPAIRS.items()}
    return found | {name: (ATTACKS.what, kind) for name, kind in ATTACKS.items()}
