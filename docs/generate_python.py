"""Write ``docs/python/*.md``, one page a package: ``python docs/generate_python.py``.

A page lists every public name in a line; mkdocstrings puts signatures and docstrings below when the
site is built. Names come from each package's ``__all__``.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import suture

FOLDER = Path(__file__).with_name("python")
ROOMS = (
    "data",
    "models",
    "training",
    "attacks",
    "bounds",
    "solvers",
    "certify",
    "repairs",
    "auto",
    "evaluate",
    "report",
    "loading",
    "pipeline",
    "ecosystem",
    "studies",
    "engine",
    "testing",
    "types",
    "errors",
)
NOTE = "<!-- Written by docs/generate_python.py from the docstrings in src/suture. -->"


def pages() -> dict[Path, str]:
    """Every page by its file."""
    made = {FOLDER / "suture.md": _top()}
    return made | {FOLDER / f"{room}.md": _room(room) for room in ROOMS}


def public(module: ModuleType) -> list[str]:
    """The module's public names: ``__all__``, or what is defined in its file."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.lower)
    tree = _tree(module)
    kinds = (ast.FunctionDef, ast.ClassDef)
    return sorted(n.name for n in tree.body if isinstance(n, kinds) and n.name[0] != "_")


def documented(module: ModuleType, name: str) -> str:
    """The docstring of a public name, its own: of a class, a function, or below an assignment."""
    thing = getattr(module, name)
    if inspect.ismodule(thing) or inspect.isfunction(thing) or inspect.isclass(thing):
        return inspect.cleandoc(vars(thing).get("__doc__") or thing.__doc__ or "")
    if callable(thing) and getattr(thing, "__wrapped__", None):
        return inspect.cleandoc(thing.__doc__ or "")
    return _below(module, name)


def home(module: ModuleType, name: str) -> ModuleType:
    """The module whose file assigns the name; imports are followed."""
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return home(import_module(node.module), alias.name)
    return module


def _below(module: ModuleType, name: str) -> str:
    """The text under ``name = …`` in the file that has it."""
    body = _tree(home(module, name)).body
    for node, after in pairwise(body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == name for one in targets):
            told = after.value if isinstance(after, ast.Expr) else None
            if isinstance(told, ast.Constant) and isinstance(told.value, str):
                return inspect.cleandoc(told.value)
    return ""


@cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))


def _room(room: str) -> str:
    module = import_module(f"suture.{room}")
    names = public(module)
    parts = [f"# suture.{room}\n", NOTE, "", _summary(module.__doc__ or ""), ""]
    parts += ["| name | in a sentence |", "| --- | --- |"]
    parts += [f"| `{name}` | {_cell(documented(module, name))} |" for name in names]
    parts += ["", *(f"::: suture.{room}.{name}\n" for name in names)]
    return "\n".join(parts)


def _top() -> str:
    """What ``import suture`` gives: each name, and the page that explains it."""
    parts = ["# suture\n", NOTE, "", _summary(suture.__doc__ or ""), ""]
    parts += ["| name | in a sentence | page |", "| --- | --- | --- |"]
    for name in dir(suture):
        if not name.startswith("_"):
            parts.append(f"| `suture.{name}` | {_cell(_of_top(name))} | {_link(name)} |")
    return "\n".join([*parts, ""])


def _of_top(name: str) -> str:
    if name in ROOMS:
        return inspect.cleandoc(getattr(suture, name).__doc__ or "")
    return documented(import_module(f"suture.{_where(getattr(suture, name))}"), name)


def _link(name: str) -> str:
    room = name if name in ROOMS else _where(getattr(suture, name))
    return f"[suture.{room}]({room}.md)"


def _where(thing: Any) -> str:
    """The package of ``ROOMS`` that exports it."""
    for room in ROOMS:
        module = import_module(f"suture.{room}")
        if any(getattr(module, name, None) is thing for name in public(module)):
            return room
    raise LookupError(f"{thing!r} is exported by no package of ROOMS")


def _summary(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split()).replace("``", "`")


def _cell(text: str) -> str:
    return _summary(text).replace("|", "\\|")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
