"""Imports point up the list of packages only (docs/design), and no two classes share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import suture.types

ROOT = Path(suture.__file__).parent
ORDER = [
    "errors",
    "notebook",
    "registry",
    "settings",
    "memory",
    "forking",
    "rng_kernels",
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
    "auto",
    "testing",
    "report",
    "pipeline",
    "ecosystem",
    "studies",
    "studio",
    "cli",
    "__main__",
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


def test_a_module_is_found_without_importing_the_methods(monkeypatch):
    """``from suture import memory`` asks the package first; methods import what asks."""
    asked = []
    monkeypatch.setattr(suture, "import_module", asked.append)
    assert suture.__getattr__("memory") is None and asked == ["suture.memory"]


def test_no_two_classes_share_a_name():
    places = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_functions_are_short():
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": size
        for path, node in functions()
        if (size := (node.end_lineno or 0) - node.lineno + 1) > 60
    }
    assert long == {}


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from at_run_time(node)


def modules() -> dict[str, set[str]]:
    """Module → what it imports of suture, also later, inside its functions."""
    names = {
        ".".join(["suture", *path.relative_to(ROOT).with_suffix("").parts]): path
        for path in ROOT.rglob("*.py")
    }
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        own: set[str] = set()
        for node in at_run_time(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("suture"):
                below = {f"{node.module}.{alias.name}" for alias in node.names}
                own |= {one for one in below if one in names} or {str(node.module)}
            elif isinstance(node, ast.Import):
                own |= {alias.name for alias in node.names if alias.name in names}
        found[name] = own - {name}
    return found


def test_no_module_imports_itself_in_a_circle():
    left = modules()
    while left:
        free = {name for name, wanted in left.items() if not wanted & set(left)}
        if not free:
            break
        left = {name: wanted for name, wanted in left.items() if name not in free}
    assert left == {}


def test_nobody_outside_asks_which_method_it_is():
    """What a method needs from the rest of the house it says itself."""
    from suture.attacks import ATTACKS
    from suture.repairs import REPAIRS

    known = {kind.__name__ for registry in (ATTACKS, REPAIRS) for kind in registry.values()}
    asked = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] not in ("attacks", "repairs")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "isinstance"
        and {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)} & known
    ]
    assert asked == []


def test_only_one_place_probes_what_a_model_tells_about_itself():
    """``types.described`` answers for models of all kinds; nobody else asks by attribute."""
    told = {name for name in vars(suture.types.RepairedModel) if not name.startswith("_")}
    assert {"undefended", "support", "surrogates", "randomised"} <= told
    probes = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in ROOT.rglob("*.py")
        if path.relative_to(ROOT).parts[0] != "types"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("getattr", "hasattr")
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in told
    ]
    assert probes == []
