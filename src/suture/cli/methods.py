"""``suture methods``: what there is, and what each method can be told."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from suture.cli.common import Json, emit, stdout
from suture.cli.fields import all_methods, panel
from suture.errors import ArgumentError, unknown_name
from suture.settings import settings_of


def command(
    name: Annotated[
        str | None, typer.Argument(help="A repair method or an attack; default: list them all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """All repair methods and attacks, or every field of one: type, default, meaning, source.

    Example: suture methods dare
    """
    known = all_methods()
    if name is None:
        _list(known, as_json)
        return
    if name not in known:
        raise ArgumentError(
            expected=f"a method out of {', '.join(known)}",
            got=unknown_name("method", name, tuple(known)),
            remedy="Correct the name.",
        )
    what, kind = known[name]
    facts: dict[str, Any] = {"name": name, "what": what, "text": _text(kind)}
    facts["fields"] = [asdict(one) for one in settings_of(kind)]
    if as_json:
        emit(True, facts, "")
        return
    stdout.print(f"[bold]{name}[/]: {what} {kind.__name__}\n\n{facts['text']}\n", highlight=False)
    stdout.print(panel(name, kind))


def _list(known: dict[str, tuple[str, type]], as_json: bool) -> None:
    facts = {name: {"what": what, "text": _line(kind)} for name, (what, kind) in known.items()}
    if as_json:
        emit(True, facts, "")
        return
    for what in dict.fromkeys(what for what, _ in known.values()):
        table = Table("name", "", title=f"{what.capitalize()}s", title_justify="left", box=None)
        for name, fact in facts.items():
            if fact["what"] == what:
                table.add_row(f"[bold cyan]{name}[/]", fact["text"])
        stdout.print(table)
        stdout.print()


def _text(kind: type) -> str:
    """The docstring up to its sections."""
    text = inspect.cleandoc(kind.__doc__ or "")
    for section in ("\nArgs:", "\nRaises", "\nAttributes:"):
        text = text.split(section)[0]
    paragraphs = text.strip().replace("``", "").split("\n\n")
    return "\n\n".join(" ".join(part.split()) for part in paragraphs)


def _line(kind: type) -> str:
    return _text(kind).split("\n\n")[0]
