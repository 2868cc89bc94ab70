"""Imports point up the list of packages only (docs/design), and no two classes share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import suture

ROOT = Path(suture.__file__).parent
ORDER = [
    "errors",
    "registry",
    "settings",
    "memory",
    "rng",
    "types",
    "provenance",
    "storage",
    "engine",
    "data",
    "models",
    "training",
    "bounds",
    "solvers",
    "certify",
    "attacks",
    "repairs",
    "loading",
    "evaluate",
    "report",
    "pipeline",
    "studies",
    "cli",
]


def imported(path: Path) -> set[str]:
    """Modules and packages of suture that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "suture":
                names = [f"suture.{alias.name}" for alias in node.names]
            else:
                names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("suture.")}
    return found - {"__version__"}


def test_every_module_is_on_the_list():
    names = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert names - {"__init__"} <= set(ORDER)


def test_imports_point_up():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in ROOT.rglob("*.py")
        if path != ROOT / "__init__.py"
        for name in imported(path)
        if ORDER.index(name) > ORDER.index(path.relative_to(ROOT).parts[0].removesuffix(".py"))
    ]
    assert wrong == []


def test_no_two_classes_share_a_name():
    places = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
