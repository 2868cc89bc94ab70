"""The options of commands as keys of a recipe: checked by pydantic, with the nearest key named."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from suture.errors import SutureError, unknown_name
from suture.settings import has, number, settings_of

STEPS = ("train", "attack", "audit", "repair", "evaluate", "certify", "slice", "export", "bench")
NEVER = ("trust_code", "force", "as_json", "resume")
"""Options that no recipe may hold: leave to run code and to overwrite is the user's to give."""


@dataclass(frozen=True)
class StepOption:
    """One option of a command.

    Attributes:
        key: as a recipe has it.
        name: the parameter of the command's function.
        hint: its type.
        default: ``inspect.Parameter.empty`` where it must be given.
    """

    key: str
    name: str
    hint: Any
    default: Any


@cache
def options_of(command: str) -> dict[str, StepOption]:
    """Key → option of the command of that name."""
    body = body_of(command)
    hints = typing.get_type_hints(body, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(body).parameters.items():
        if name not in NEVER:
            kind, *told = (
                typing.get_args(hints[name]) if _annotated(hints[name]) else (hints[name],)
            )
            key = _key(name, told)
            found[key] = StepOption(key, name, kind, parameter.default)
    return found


def body_of(command: str) -> Callable[..., Any]:
    """The function that carries the command out."""
    return import_module(f"suture.cli.{command}").command  # type: ignore[no-any-return]


def _annotated(hint: Any) -> bool:
    return typing.get_origin(hint) is Annotated


def _key(name: str, told: Sequence[Any]) -> str:
    """``--batch-size`` → ``batch_size``; arguments and plain options by their name."""
    # Inside Annotated, typer keeps the first name of an option as its "default".
    words = [
        word
        for one in told
        for word in (getattr(one, "default", None), *(getattr(one, "param_decls", None) or ()))
    ]
    long = [word for word in words if isinstance(word, str) and word.startswith("--")]
    return (long[0][2:] if long else name).replace("-", "_")


def _number(value: Any) -> Any:
    """``8/255`` as a number; anything else as it is."""
    try:
        return number(value) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError):
        return value


def _text(value: Any) -> Any:
    """A number where text is wanted: ``size: 32``, ``class: 3``."""
    return str(value) if type(value) in (int, float) else value


def _listed(value: Any) -> Any:
    """One value where several may be."""
    return value if isinstance(value, list) or value is None else [value]


def _read(hint: Any) -> Any:
    """The type with what people may write for it."""
    inner = typing.get_args(hint) or (hint,)
    if any(typing.get_origin(one) is list for one in inner):
        many = next(one for one in inner if typing.get_origin(one) is list)
        (one,) = typing.get_args(many)
        return Annotated[list[_read(one)] | None, BeforeValidator(_listed)]  # type: ignore[misc]
    if float in inner:
        return Annotated[hint, BeforeValidator(_number)]
    if str in inner or Path in inner:
        return Annotated[hint, BeforeValidator(_text)]
    return hint


@cache
def model_of(command: str) -> type[BaseModel]:
    """A pydantic model with the command's options as fields."""
    fields: dict[str, Any] = {
        option.key: (_read(option.hint) | None, None) for option in options_of(command).values()
    }
    config = ConfigDict(extra="forbid", protected_namespaces=(), strict=False)
    return create_model(command, __config__=config, **fields)


@dataclass(frozen=True)
class Mistake:
    """What is wrong at a place below a step."""

    key: str
    sentence: str


def checked(command: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    """``(parameters of the command, mistakes)`` for a step's keys.

    Fields of the chosen methods (``programs: 20000``) become settings of theirs.
    """
    plain = {str(key).replace("-", "_"): value for key, value in given.items()}
    own, kinds, mistakes = options_of(command), {}, list[Mistake]()
    try:
        kinds = _kinds(command, plain)
    except SutureError as error:
        mistakes.append(Mistake(_method_key(command), f"{error.got}; expected {error.expected}"))
    fields = {} if mistakes else {k: v for k, v in plain.items() if k not in own}
    settings, wrong = _settings(fields, kinds, tuple(own))
    mistakes += wrong
    values, wrong = _validated(command, {k: v for k, v in plain.items() if k in own})
    mistakes += wrong
    if settings:
        values["settings"] = [*(values.get("settings") or []), *settings]
    return values, mistakes


def _method_key(command: str) -> str:
    return "method" if command == "repair" else "attack"


def _kinds(command: str, given: Mapping[str, Any]) -> dict[str, type]:
    """The methods whose fields are keys here."""
    module = import_module(f"suture.cli.{command}")
    kind = getattr(module, "Command", None)
    if kind is None:
        return {}
    words = [
        word
        for key in ("method", "attack")
        for value in _listed(given.get(key)) or ()
        for word in (f"--{key}", str(value))
    ]
    return dict(kind.kinds(words))


def _settings(
    fields: Mapping[str, Any], kinds: Mapping[str, type], own: tuple[str, ...]
) -> tuple[list[str], list[Mistake]]:
    """``field=value`` for every key that is a field; mistakes for what is neither."""
    made, mistakes = list[str](), list[Mistake]()
    known = sorted({s.name for kind in kinds.values() for s in settings_of(kind)})
    for key, value in fields.items():
        longer = [path for path in known if path.startswith(key) and "." not in path[len(key) :]]
        path = key if any(has(kind, key) for kind in kinds.values()) else None
        path = path or (longer[0] if len(longer) == 1 else None)
        if path is None:
            mistakes.append(Mistake(key, unknown_name("key", key, (*own, *known))))
        else:
            made.append(f"{path}={_as_text(value)}")
    return made, mistakes


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_as_text, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _validated(command: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    own = options_of(command)
    try:
        made = model_of(command)(**given)
    except ValidationError as error:
        found: dict[str, Mistake] = {}
        for one in error.errors():
            key = str(one["loc"][0])
            wanted = _in_words(own[key].hint)
            found.setdefault(key, Mistake(key, f"{one['input']!r} for {key}; expected {wanted}"))
        return {}, list(found.values())
    return {own[key].name: getattr(made, key) for key in made.model_fields_set}, []


def _in_words(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        Path: "a path",
    }
    inner = [one for one in (typing.get_args(hint) or (hint,)) if one is not type(None)]
    words = [
        names.get(one)
        or ("a list" if typing.get_origin(one) is list else getattr(one, "__name__", ""))
        for one in inner
    ]
    return " or ".join(dict.fromkeys(word for word in words if word)) or "another value"


def missing(command: str, values: Mapping[str, Any]) -> list[str]:
    """Keys that must be given and are not."""
    return [
        option.key
        for option in options_of(command).values()
        if option.default is inspect.Parameter.empty and values.get(option.name) is None
    ]


def recipe_of(command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The step that repeats a command: its options by key, where they are not the defaults."""
    step = {}
    for option in options_of(command).values():
        value = options.get(option.name)
        if option.name != "out" and value is not None and value != option.default:
            step[option.key] = value
    return step
