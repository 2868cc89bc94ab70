"""What typer says of a wrong command line, in the words of all other errors."""

from __future__ import annotations

import re
from typing import Any

from suture.errors import ArgumentError, SutureError, unknown_name

_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")


def is_usage(error: BaseException) -> bool:
    """Whether typer (or click, on which it stands) refused the command line."""
    return any(kind.__name__ == "UsageError" for kind in type(error).__mro__)


def is_help(error: BaseException) -> bool:
    """Whether no word was given where one is needed: the help is the answer."""
    return type(error).__name__ == "NoArgsIsHelpError"


def told(error: Any) -> SutureError:
    """The error in suture's form: expected, got, what to do."""
    if isinstance(error.__cause__, SutureError):
        return error.__cause__
    name = type(error).__name__
    command = error.ctx.command_path if error.ctx is not None else "suture"
    if name in ("NoSuchOption", "NoSuchCommand"):
        return _unknown(error, command)
    if name == "MissingParameter" and error.param is not None:
        return ArgumentError(
            expected=_named(error.param),
            got="nothing",
            remedy=_example(error.ctx) or f"`{command} --help` says more.",
        )
    if getattr(error, "param", None) is not None:
        return _bad_value(error)
    return _other(error, command)


def _unknown(error: Any, command: str) -> ArgumentError:
    own = error.ctx.command if error.ctx is not None else None
    if type(error).__name__ == "NoSuchCommand":
        known, what = tuple(getattr(own, "commands", ())), "command"
        given = getattr(error, "command_name", None) or _first_quoted(error)
    else:
        words = (w for p in getattr(own, "params", ()) for w in (*p.opts, *p.secondary_opts))
        known, what = tuple(w for w in words if w.startswith("-")), "option"
        given = error.option_name
    return ArgumentError(
        expected=f"{'a command' if what == 'command' else 'an option'} of `{command}`",
        got=unknown_name(what, given, known),
        remedy=f"`{command} --help` lists them.",
    )


def _bad_value(error: Any) -> ArgumentError:
    message = re.sub(r"^Value error, ", "", str(error.message)).rstrip(".")
    wanted, given = _of_pydantic(error) or _of_click(error)
    if choices := re.search(r"is not one of (.*)", message):
        wanted, given = f"one of {choices[1].replace(chr(39), '')}", _first_quoted(error)
    return ArgumentError(
        expected=f"{wanted or 'another value'} for {_name(error.param)}",
        got=repr(given) if given and wanted else message,
        remedy=_help(error.param) or "Correct the value.",
    )


_WANTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than_equal": "a number of at most {le:g}",
    "greater_than": "a number above {gt:g}",
    "less_than": "a number below {lt:g}",
}


def _of_pydantic(error: Any) -> tuple[str, str] | None:
    """What was wanted and given, where typer lets pydantic read the value (0.20 and later)."""
    cause: Any = getattr(error, "__cause__", None)
    if not hasattr(cause, "errors"):
        return None
    first = cause.errors()[0]
    wanted = _WANTED.get(first["type"], "").format(**first.get("ctx", {}))
    return wanted, str(first.get("input", ""))


def _of_click(error: Any) -> tuple[str, str]:
    """The same where click reads it."""
    kind = getattr(error.param, "type", None)
    name = type(kind).__name__
    numbers = {"Int": "a whole number", "Float": "a number"}
    wanted = next((words for start, words in numbers.items() if name.startswith(start)), "")
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    ends = [f"of at least {low}"] if low is not None else []
    ends += [f"of at most {high}"] if high is not None else []
    return " ".join([wanted, " and ".join(ends)]).strip() if wanted else "", _first_quoted(error)


def _other(error: Any, command: str) -> ArgumentError:
    message = str(error.message).strip().rstrip(".")
    if message.startswith("No such command"):
        return _unknown_command(error, command)
    if surplus := re.search(r"unexpected extra argument\S* \((.*)\)", message):
        return ArgumentError(
            expected=f"no more words than `{command}` takes",
            got=surplus[1],
            remedy=_example(error.ctx) or "Options begin with --, as --data digits.",
        )
    if "requires an argument" in message:
        return ArgumentError(
            expected=f"a value after {_first_quoted(error)}",
            got="nothing",
            remedy=f"`{command} --help` says which.",
        )
    return ArgumentError(
        expected=f"a command line that `{command}` understands",
        got=message,
        remedy=f"`{command} --help` says more.",
    )


def _unknown_command(error: Any, command: str) -> ArgumentError:
    known = tuple(getattr(error.ctx.command, "commands", ()))
    return ArgumentError(
        expected=f"a command of `{command}`",
        got=unknown_name("command", _first_quoted(error), known),
        remedy=f"`{command} --help` lists them.",
    )


def _first_quoted(error: Any) -> str:
    found = _QUOTED.search(str(error.message))
    return found[1] if found else ""


def _name(param: Any) -> str:
    return param.opts[0] if param.param_type_name == "option" else param.name.upper()


def _named(param: Any) -> str:
    text = _help(param).rstrip(".")
    return f"{_name(param)}" + (f" ({text[0].lower()}{text[1:]})" if text else "")


def _help(param: Any) -> str:
    return " ".join((getattr(param, "help", None) or "").split())


def _example(ctx: Any) -> str:
    """The command's example, out of its help."""
    _, _, example = ((ctx.command.help or "") if ctx is not None else "").partition("Example:")
    return f"For example: {' '.join(example.split())}" if example else ""
