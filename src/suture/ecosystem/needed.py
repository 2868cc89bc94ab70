"""Optional packages, with a plain word where one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from suture.errors import DependencyError


def needed(module: str, extra: str, purpose: str) -> Any:
    """The module, imported.

    Args:
        module: its name.
        extra: of suture, that brings it.
        purpose: what it is wanted for.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0].replace("_", "-")
        raise DependencyError(
            expected=f"the package {package}, for {purpose}",
            got="an environment without it",
            remedy=f"pip install 'suture[{extra}]'",
        ) from None
