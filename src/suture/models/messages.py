"""Other people's errors, shortened to fit into one of ours."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
