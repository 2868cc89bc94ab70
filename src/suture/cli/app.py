"""All commands, and the one place where errors become a message and an exit status."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from suture import __version__, forking
from suture.cli import stopping
from suture.cli.commands import Commands
from suture.cli.usage import is_help, is_usage, told
from suture.errors import SutureError

_INTERRUPTED = 130
_PROCESSES = (("--engine", "processes"), ("--engine=processes",))
_WORK = ("suture.certify", "suture.evaluate", "suture.repairs")
"""What items of most commands run."""

app = typer.Typer(
    name="suture",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"suture {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Attack image classifiers, repair them, and report honestly what that was worth."""


def main() -> None:
    """Run a command; 2 for an error the user can mend, 1 for a defect of suture, 130 for Ctrl-C."""
    stopping.working_on(None)
    _prepare(sys.argv[1:])
    try:
        status = app(standalone_mode=False)
        if status == _INTERRUPTED:  # typer turns Ctrl-C into it
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except SutureError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        _say(stopping.words())
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if is_help(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        if is_usage(error):
            _say(f"error: {told(error)}")
            sys.exit(2)
        if os.environ.get("SUTURE_DEBUG"):
            raise
        _say(
            f"internal error: {type(error).__name__}: {error}\n"
            "This is a defect of suture: please report it, with what SUTURE_DEBUG=1 prints."
        )
        sys.exit(1)


def _prepare(arguments: list[str]) -> None:
    """Let workers' modules be imported while this process imports its own."""
    given = " ".join(arguments)
    if any(" ".join(words) in given for words in _PROCESSES):
        forking.prepare(_WORK)


def _say(text: str) -> None:
    from suture.cli.common import say

    say(text)
