"""What the papers print, read from ``paper.toml`` beside each study.

A block has the paper's ``table``, what ``keys`` tell its rows apart, its ``columns``, and ``rows``:
the keys of a row, then its numbers. Blocks of one name, from several of the paper's tables, are
looked up together.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

Printed = dict[str, Any]
"""A row as the paper prints it: its numbers by column, and "table" for where they stand."""


@dataclass(frozen=True, eq=False)
class Paper:
    """The printed numbers of one paper.

    Attributes:
        citation: authors, title, where.
        blocks: rows by the name of their block and their keys.
    """

    citation: str
    blocks: dict[str, dict[tuple[Any, ...], Printed]]

    def row(self, name: str, *keys: Any) -> Printed | None:
        """The row with these keys; ``None`` where the paper has none."""
        return self.blocks[name].get(keys)

    def number(self, name: str, *keys: Any, column: str) -> Any:
        """One number of a row; ``None`` where the paper has none."""
        return (self.row(name, *keys) or {}).get(column)


@cache
def printed(system: str) -> Paper:
    """The paper of one system, by the name of its folder."""
    text = files("suture.studies").joinpath(system, "paper.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    citation = content.pop("citation")
    return Paper(citation, {name: _rows(blocks) for name, blocks in content.items()})


def _rows(blocks: list[dict[str, Any]]) -> dict[tuple[Any, ...], Printed]:
    found: dict[tuple[Any, ...], Printed] = {}
    for block in blocks:
        columns, keys = block["columns"], len(block["keys"])
        for row in block["rows"]:
            numbers = dict(zip(columns, row[keys:], strict=True))
            found[tuple(row[:keys])] = {"table": block["table"], **numbers}
    return found
