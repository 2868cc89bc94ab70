"""Every error a user can meet: what was expected, what was found, what to do.

The library raises these for anything that comes from outside (arguments, files, models, data).
The command line prints the message and exits with status 2. ``assert`` is for what cannot happen.
"""

from __future__ import annotations


class SutureError(Exception):
    """Base of all errors a user can meet.

    Args:
        expected: what the code needed, as a noun phrase ("float32 images in [0, 1]").
        got: what it found instead ("values up to 255.0").
        remedy: what the user can do about it ("divide by 255").
    """

    def __init__(self, *, expected: str, got: str, remedy: str) -> None:
        self.expected, self.got, self.remedy = expected, got, remedy
        super().__init__(f"expected {expected}; got {got}. {remedy}")

    def __reduce__(self):  # type: ignore[no-untyped-def]
        """Errors cross process boundaries with all their parts."""
        return (_rebuild, (type(self), self.expected, self.got, self.remedy))


def _rebuild(kind: type[SutureError], expected: str, got: str, remedy: str) -> SutureError:
    return kind(expected=expected, got=got, remedy=remedy)


class ArgumentError(SutureError, ValueError):
    """A hyper-parameter or option has a value that makes no sense."""


class DataError(SutureError, ValueError):
    """Images or labels are malformed, missing, truncated or out of range."""


class ModelError(SutureError, ValueError):
    """A model cannot be found, read, cut or run, or its outputs are unusable."""


class BundleError(SutureError, ValueError):
    """A bundle or run folder is incomplete, altered, or of an unknown version."""


class StorageError(SutureError, OSError):
    """A file or folder cannot be written: read-only, full, or in the way."""


class DependencyError(SutureError, ImportError):
    """An optional package is missing; the message says how to install it."""


class ProgramError(SutureError, ValueError):
    """The text of a repair program does not follow the grammar."""


class EngineError(SutureError, RuntimeError):
    """A worker failed or a backend could not start."""


def require(checks: dict[str, bool], got: object, remedy: str) -> None:
    """Refuse arguments that do not hold.

    Args:
        checks: what is expected, as a noun phrase → whether it holds.
        got: the object that was given, shown as it prints.
        remedy: what to do.

    Raises:
        ArgumentError: names the first check that fails.
    """
    for expected, holds in checks.items():
        if not holds:
            raise ArgumentError(
                expected=expected, got=got if isinstance(got, str) else repr(got), remedy=remedy
            )


def unknown_name(kind: str, name: str, known: list[str] | tuple[str, ...]) -> str:
    """The ``got`` part for a misspelt name, with the nearest known names first."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return f"the unknown {kind} {name!r}{hint}"
