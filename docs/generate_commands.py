"""Write ``docs/commands.md`` from the command line itself: ``python docs/generate_commands.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from suture.cli.app import app

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# Commands

<!-- Written by docs/generate_commands.py from the help texts in src/suture/cli. -->

Results go to stdout, progress and errors to stderr. With `--json` stdout holds one JSON object.
Long work shows a bar in a terminal, and elsewhere a line every 30 seconds: the stage, how far it
is, and the time that is left of it where that is known.
Every command takes `-h` or `--help`.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | a defect of suture; `SUTURE_DEBUG=1` prints the traceback |
| 2 | an error that you can mend: the message says what was expected, found, and what to do |
| 130 | stopped with Ctrl-C: what is kept is told, and the line that goes on |

| environment variable | meaning |
| --- | --- |
| `SUTURE_DATA` | the data folder ([Data](data.md)) |
| `SUTURE_TORCHVISION` | where torchvision keeps its files |
| `SUTURE_DEBUG` | set it to see tracebacks of internal errors |
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, in the order of ``suture --help``."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        if below is None:
            yield f"suture {name}", command
        else:
            yield from ((f"suture {name} {sub}", inner) for sub, inner in below.items())


def page() -> str:
    """The whole page."""
    top = typer.main.get_command(app)
    parts = [HEAD, "## suture\n", _rows(_options(top))]
    for name, command in commands():
        parts += [f"## {name}\n", _help(command), _usage(name, command)]
        parts += [_rows(table) for table in (_arguments(command), _options(command)) if table]
    return "\n".join(parts)


def _help(command: Any) -> str:
    """The docstring, with its example as a block of code."""
    text, _, example = (command.help or "").partition("Example:")
    lines = [text.strip(), ""]
    if example:
        lines += ["```console", f"$ {' '.join(example.split())}", "```", ""]
    return "\n".join(lines)


def _usage(name: str, command: Any) -> str:
    words = [p.name.upper() for p in command.params if p.param_type_name == "argument"]
    words += [f"{p.opts[0]} …" for p in command.params if _is_option(p) and p.required]
    return f"Usage: `{' '.join([name, *words, '[OPTIONS]'])}`\n"


def _is_option(parameter: Any) -> bool:
    return parameter.param_type_name == "option"


Table = list[tuple[str, ...]]


def _arguments(command: Any) -> Table:
    own = [p for p in command.params if p.param_type_name == "argument"]
    rows = [(f"`{p.name.upper()}`", _meaning(p)) for p in own]
    return [("argument", "meaning"), *rows] if rows else []


def _options(command: Any) -> Table:
    own = [p for p in command.params if _is_option(p) and not getattr(p, "hidden", False)]
    rows = [(_names(p), _default(p), _meaning(p)) for p in own]
    return [("option", "default", "meaning"), *rows] if rows else []


def _names(parameter: Any) -> str:
    names = [f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts)]
    return ", ".join(names) + (" (repeatable)" if getattr(parameter, "multiple", False) else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or (parameter.name == "version"):
        return "—"
    if value is True:
        return f"`{parameter.opts[0]}`"
    return f"`{value:.4g}`" if isinstance(value, float) else f"`{value}`"


def _meaning(parameter: Any) -> str:
    return re.sub(r"\s+", " ", parameter.help or "—").replace("|", "\\|")


def _rows(table: Table) -> str:
    head, *rows = table
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
