"""Write ``docs/methods.md`` from the registries: ``python docs/generate_methods.py``."""

from __future__ import annotations

import inspect
from pathlib import Path

from suture.repairs import REPAIRS
from suture.settings import settings_of

PAGE = Path(__file__).with_name("methods.md")
HEAD = """# Repair methods and their fields

<!-- Written by docs/generate_methods.py from the docstrings in src/suture/repairs. -->

Each field is set by `--set FIELD=VALUE`, or as an option of its own: `--rounds 2`,
`--attack.eps 8/255`, `--grid.epochs 1`; a name may be cut short where that leaves no doubt.
`suture methods NAME` says the same in the terminal, for attacks too, and knows the methods of
other packages ([Add a method](add-a-method.md)). Values: numbers and fractions (`8/255`, `inf`),
`true` and `false`, `none`, lists with commas, and for an attack its name.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, kind in REPAIRS.items():
        parts += [f"## {name}\n", f"`suture.repairs.{kind.__name__}`. {_summary(kind)}\n"]
        parts += ["| field | default | type | meaning |", "| --- | --- | --- | --- |"]
        for one in settings_of(kind):
            cells = (f"`{one.name}`", f"`{one.default}`", one.type, one.help or "—")
            parts.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts)


def _summary(kind: type) -> str:
    text = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).replace("``", "`")


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
