"""Names for what can be added: one registry a kind, filled where the things live.

A class enters with a decorator in its own file, and its package imports that file: one line. From
the registry come the command line, its help, the tables of the documentation and the contract
suites. Other people's packages add theirs by an entry point of the registry's group.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from suture.errors import ArgumentError, unknown_name

T = TypeVar("T")
Made = TypeVar("Made")


class Registry(Mapping[str, T]):
    """Name → thing, by name: whatever was imported first.

    Args:
        what: one of the things, in words: "attack", "repair method".
        room: the package whose import fills the registry.
        group: entry points of this group are read too; each gives its thing under its own name.
        also: packages further down the list that have some more.
    """

    def __init__(
        self, what: str, room: str, group: str | None = None, also: Sequence[str] = ()
    ) -> None:
        self.what, self.rooms, self.group = what, (room, *also), group
        self._entries: dict[str, T] = {}
        self._complete = False

    def add(self, name: str) -> Callable[[Made], Made]:
        """A decorator that enters what it decorates under this name.

        Raises:
            ArgumentError: the name is taken by something else.
        """

        def enter(thing: Made) -> Made:
            self._enter(name, thing)  # type: ignore[arg-type]
            return thing

        return enter

    def find(self, name: str) -> T:
        """What has this name.

        Raises:
            ArgumentError: unknown name; the nearest known ones are named.
        """
        if name not in self:
            raise ArgumentError(
                expected=f"one of {', '.join(self)}",
                got=unknown_name(self.what, name, tuple(self)),
                remedy="Correct the name.",
            )
        return self[name]

    def name_of(self, thing: T) -> str | None:
        """The name under which it stands; ``None`` where it does not."""
        return next((name for name, own in self.items() if own is thing), None)

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T]:
        if not self._complete:
            for room in self.rooms:
                import_module(room)
            self._complete = True
            for point in entry_points(group=self.group) if self.group else ():
                self._plug(point)
        return self._entries

    def _plug(self, point: EntryPoint) -> None:
        """One plugin; one that is broken must not take the others with it."""
        try:
            self._enter(point.name, point.load())
        except Exception as error:  # noqa: BLE001 - other people's code
            warnings.warn(
                f"the {self.what} {point.name!r} of the package "
                f"{point.dist.name if point.dist else point.value!r} cannot be used: "
                f"{type(error).__name__}: {error}",
                stacklevel=2,
            )

    def _enter(self, name: str, thing: T) -> None:
        known = self._entries.setdefault(name, thing)
        if known is not thing:
            raise ArgumentError(
                expected=f"a name that no other {self.what} has",
                got=f"{name!r} for {thing!r}, which is {known!r}'s",
                remedy="Choose another name.",
            )


def exported(names: Mapping[str, Any]) -> list[str]:
    """For a package's ``__all__``: the classes and functions that it has from its own files."""
    room = f"{names['__name__']}."
    return sorted(name for name, thing in names.items() if _home(thing).startswith(room))


def _home(thing: Any) -> str:
    own = isinstance(thing, type) or callable(thing)
    return str(getattr(thing, "__module__", "")) if own else ""
