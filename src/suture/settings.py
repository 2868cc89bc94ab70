"""What a method can be told, read from its dataclass: names, types, defaults, help, and values.

A field's help is its entry under ``Args:`` in the docstring of the class that has it. Values come
as text, from the command line or a recipe, and leave with the field's type.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypeVar

from suture.errors import ArgumentError, unknown_name
from suture.registry import Registry

T = TypeVar("T")
_NONE = type(None)
_NOTHING = ("none", "null")
_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Setting:
    """One field of a method.

    Attributes:
        name: as ``--set`` wants it, with dots for fields of a field.
        type: in words: "int", "float or none", "adam or gd", "attack".
        default: as text that can be set again, where there is one.
        help: a sentence or more.
    """

    name: str
    type: str
    default: str
    help: str


def settings_of(kind: type, *, nested: bool = True) -> list[Setting]:
    """The fields of a dataclass, in their order; fields of its parts follow each part."""
    return list(_settings(kind, "", nested))


def _settings(kind: type, before: str, nested: bool) -> Iterator[Setting]:
    hints, helps = typing.get_type_hints(kind), help_of(kind)
    for field in dataclasses.fields(kind):
        default = _default(field)
        told = helps.get(field.name, "")
        yield Setting(before + field.name, _in_words(hints[field.name]), _text(default), told)
        part = _part(hints[field.name])
        if nested and part is not None and _registry(part) is None:
            yield from _settings(part, f"{before}{field.name}.", nested)


def help_of(kind: type) -> dict[str, str]:
    """Field → its entry under ``Args:``, of the class or the nearest base that has one."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        found |= _entries(inspect.cleandoc(base.__doc__ or ""))
    return found


_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:[ ]+.*\n|\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}([a-z_][\w, ]*): ", re.MULTILINE)


def _entries(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in _SECTION.findall(docstring + "\n"):
        _, *parts = _ENTRY.split(section)
        for names, text in zip(parts[::2], parts[1::2], strict=True):
            for name in names.split(","):
                found[name.strip()] = " ".join(text.split())
    return found


def made(kind: type[T], given: Mapping[str, Any], where: str = "", before: str = "") -> T:
    """The method with these settings.

    Args:
        given: field → value; names may have dots (``schedule.epochs``). Text is read as the
            field's type; other values are taken as they are.
        where, before: for the errors, what the settings are for, in words, and the names of the
            fields whose part this is; default: the class' name, and nothing.

    Raises:
        ArgumentError: an unknown field, or a value that is none of its type.
    """
    where, hints = where or kind.__name__, typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    own: dict[str, Any] = {}
    deeper: dict[str, dict[str, Any]] = {}
    for path, value in given.items():
        name, _, rest = path.partition(".")
        if name not in fields:
            raise _unknown(before + path, name, tuple(fields), where)
        if rest:
            deeper.setdefault(name, {})[rest] = value
        else:
            own[name] = read(value, hints[name], before + path) if isinstance(value, str) else value
    for name, settings in deeper.items():
        start = own.get(name, _default(fields[name]))
        own[name] = _changed(start, hints[name], settings, where, before + name)
    return kind(**own)


def _changed(start: Any, hint: Any, settings: dict[str, Any], where: str, name: str) -> Any:
    """A part with some of its own fields set; made anew where there was none."""
    if isinstance(start, tuple):
        return _members(start, settings, where, name)
    if not dataclasses.is_dataclass(start):
        part = _part(hint)
        if part is None or inspect.isabstract(part):
            raise ArgumentError(
                expected=f"a field without parts, or a value for {name} first",
                got=f"{name}.{next(iter(settings))}",
                remedy=f"Set {name} itself.",
            )
        return made(part, settings, f"{where}, {name}", f"{name}.")
    kind: type = type(start)
    kept = {f.name: getattr(start, f.name) for f in dataclasses.fields(kind) if f.init}
    return made(kind, kept | settings, f"{where}, {name}", f"{name}.")


def _members(
    start: tuple[Any, ...], settings: dict[str, Any], where: str, name: str
) -> tuple[Any, ...]:
    """Several parts, some with fields set: ``{"0.epochs": 3}``, or by a part's registered name."""
    members, deeper = list(start), dict[int, dict[str, Any]]()
    for path, value in settings.items():
        which, _, rest = path.partition(".")
        deeper.setdefault(_which(which, start, f"{name}.{path}"), {})[rest] = value
    for index, own in deeper.items():
        members[index] = _changed(start[index], type(start[index]), own, where, f"{name}.{index}")
    return tuple(members)


def _which(text: str, members: tuple[Any, ...], path: str) -> int:
    """The place of a part, given as a number from 0 or by its name, if that is there once."""
    names = [_text(member) for member in members]
    known = [str(index) for index in range(len(members))]
    if text in known:
        return int(text)
    if names.count(text) == 1:
        return names.index(text)
    raise ArgumentError(
        expected=f"one of {', '.join([*known, *dict.fromkeys(names)])} in {path}",
        got=repr(text),
        remedy="Parts are counted from 0; a name is understood where it stands once.",
    )


def has(kind: type, path: str) -> bool:
    """Whether ``made`` knows the field; a part counts by what it is by default."""
    name, _, rest = path.partition(".")
    for field in dataclasses.fields(kind):
        if field.name == name:
            default = _default(field)
            part = type(default) if dataclasses.is_dataclass(default) else None
            part = part or _part(typing.get_type_hints(kind)[name])
            return not rest or (part is not None and has(part, rest))
    return False


def assignments(given: Sequence[str]) -> dict[str, str]:
    """``["a=1", "b.c=2"]`` as a mapping; the later of equals counts.

    Raises:
        ArgumentError: an entry without ``=``.
    """
    found: dict[str, str] = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise ArgumentError(
                expected="--set field=value",
                got=f"--set {entry}",
                remedy="Write the field, an equals sign and the value without spaces.",
            )
        found[name.strip()] = value.strip()
    return found


def read(text: str, hint: Any, name: str) -> Any:
    """Text as a value of this type.

    Raises:
        ArgumentError: it is none; the message names the field.
    """
    try:
        return _read(text, hint, name)
    except ArgumentError:
        raise
    except (ValueError, ZeroDivisionError, OverflowError):
        pass
    raise ArgumentError(
        expected=f"{_in_words(hint)} for {name}",
        got=repr(text),
        remedy=_EXAMPLES.get(hint, "Correct the value."),
    )


_EXAMPLES: dict[Any, str] = {
    float: "Numbers and fractions are understood: 0.1, 8/255, inf.",
    int: "Give a whole number.",
    bool: "Give true or false.",
}


def _read(text: str, hint: Any, name: str) -> Any:
    if hint in _READERS:
        return _READERS[hint](text)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return _chosen(text, inner)
    if origin in (typing.Union, types.UnionType):
        return _any_of(text, inner, name)
    if origin is tuple:
        return _tuple(text, inner, name)
    registry = _registry(hint)
    if registry is not None:
        return registry.find(text)()
    return _refuse()


def _chosen(text: str, values: Sequence[Any]) -> Any:
    """The value that the text names, also with other case and dashes (``L_inf``, ``LINF``)."""
    plain = {_bare(str(value)): value for value in values}
    exact = {str(value): value for value in values}
    found = exact.get(text, plain.get(_bare(text), plain.get(f"l{_bare(text)}", _refuse)))
    return _refuse() if found is _refuse else found


def _bare(text: str) -> str:
    return re.sub(r"[\s_-]", "", text.lower().replace("∞", "inf").replace("infinity", "inf"))


def _refuse() -> Any:
    raise ValueError


def _any_of(text: str, kinds: Sequence[Any], name: str) -> Any:
    if _NONE in kinds and text.lower() in _NOTHING:
        return None
    for kind in kinds:
        if kind is _NONE:
            continue
        try:
            return _read(text, kind, name)
        except ValueError as error:
            if isinstance(error, ArgumentError):
                raise
    return _refuse()


def _tuple(text: str, kinds: Sequence[Any], name: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = [kinds[0]] * len(parts)
    if len(parts) != len(kinds):
        return _refuse()  # type: ignore[no-any-return]
    return tuple(_read(part, kind, name) for part, kind in zip(parts, kinds, strict=True))


def number(text: str) -> float:
    """A decimal, a fraction such as ``8/255``, or ``inf``."""
    text = text.strip()
    return float(Fraction(text)) if "/" in text else float(text)


def _float(text: str) -> float:
    value = number(text)
    return _refuse() if math.isnan(value) else value


def _int(text: str) -> int:
    return int(text.replace("_", ""))


def _bool(text: str) -> bool:
    return _WORDS[text.lower()] if text.lower() in _WORDS else _refuse()


_READERS: dict[Any, Any] = {bool: _bool, int: _int, float: _float, str: str}


def _part(hint: Any) -> type | None:
    """The dataclass among what the field may be."""
    for kind in (hint, *typing.get_args(hint)):
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return kind
    return None


def _registry(hint: Any) -> Registry | None:
    """Where a name stands for a thing of this kind."""
    found = getattr(hint, "registry", None) if isinstance(hint, type) else None
    return found if isinstance(found, Registry) else None


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return dataclasses.MISSING


def _text(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "must be given"
    if value is None:
        return "none"
    registry = _registry(type(value))
    if registry is not None:
        return registry.name_of(type(value)) or repr(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if dataclasses.is_dataclass(value):
        return "its own defaults"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _in_words(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is _NONE:
        return "none"
    if origin is Literal:
        return _listed([str(value) for value in inner])
    if origin in (typing.Union, types.UnionType):
        return _listed([_in_words(kind) for kind in inner])
    if origin is tuple:
        many = len(inner) == 2 and inner[1] is Ellipsis
        return f"{_in_words(inner[0])}s with commas" if many else ",".join(map(_in_words, inner))
    registry = _registry(hint)
    if registry is not None:
        return registry.what
    return str(getattr(hint, "__name__", hint)).lower()


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _unknown(path: str, name: str, known: tuple[str, ...], where: str) -> ArgumentError:
    return ArgumentError(
        expected=f"a field of {where}: {', '.join(known)}",
        got=unknown_name("field", name, known) + (f" in {path}" if path != name else ""),
        remedy="Correct the name, or leave it out.",
    )
