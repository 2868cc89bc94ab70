"""Draw ``docs/images/house.svg``, who imports whom: ``python docs/generate_house.py``.

The order is that of ``tests/test_layering.py``; the sentences are the packages' docstrings.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
PICTURE = HERE / "images" / "house.svg"
ROOT = HERE.parent / "src" / "suture"
LAYERING = HERE.parent / "tests" / "test_layering.py"
ROW, TEXT, CELL, NAME, EDGE, END = 20, 680, 15, 104, 14, 90
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}"
    ".name{font-family:ui-monospace,monospace;font-weight:600}"
    ".end{fill:#78909c}.folder{fill:#eef3f6}.file{fill:#fafafa}.own{fill:#90a4ae}.uses{fill:#00695c}"
)


def order() -> list[str]:
    """Packages and modules from the ground up, as the test of the layering has them."""
    for node in ast.parse(LAYERING.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER":
            return [str(name) for name in ast.literal_eval(node.value)]
    raise LookupError(f"ORDER in {LAYERING}")


def files(name: str) -> list[Path]:
    """The files of a package, or the module alone."""
    folder = ROOT / name
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{name}.py"]


def uses(name: str) -> set[str]:
    """What of suture a package imports from, also later, inside its functions."""
    found = set()
    for path in files(name):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("suture"):
                parts = str(node.module).split(".")
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                names = (alias.name.split(".") for alias in node.names)
                found |= {one[1] for one in names if one[0] == "suture" and len(one) > 1}
    return found - {name, "__version__"}


def sentence(name: str) -> str:
    """The first line of the docstring."""
    tree = ast.parse(files(name)[0].read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n")[0].replace("``", "")


def picture() -> str:
    """The drawing: a row a package, the ground at the bottom, a dot for each one imported."""
    names = order()
    width, height = EDGE + TEXT + CELL * len(names) + END, EDGE + ROW * len(names) + EDGE
    rows = [_row(index, names) for index in range(len(names))]
    title = "The packages of suture, and which of the lower ones each imports"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{title}"><title>{title}</title><style>{STYLE}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )


def _row(index: int, names: list[str]) -> str:
    name, top = names[index], EDGE + ROW * (len(names) - 1 - index)
    kind = "folder" if (ROOT / name).is_dir() else "file"
    length, middle = TEXT + CELL * (index + 1), top + ROW / 2
    parts = [
        f'<rect class="{kind}" x="{EDGE}" y="{top}" width="{length}" height="{ROW - 2}" rx="3"/>',
        f'<text class="name" x="{EDGE + 6}" y="{top + 13}">{name}</text>',
        f'<text x="{EDGE + NAME}" y="{top + 13}">{escape(sentence(name))}</text>',
    ]
    end = EDGE + length + 4
    parts.append(f'<text class="end" x="{end}" y="{top + 13}">{name}</text>')
    used = uses(name)
    for column, other in enumerate(names[: index + 1]):
        kind = "own" if column == index else "uses" if other in used else ""
        if kind:
            told = f"{name} imports {other}" if kind == "uses" else name
            x, radius = EDGE + TEXT + CELL * column + CELL / 2, 3 if kind == "own" else 4.5
            dot = f'<circle class="{kind}" cx="{x:g}" cy="{middle - 1:g}" r="{radius}">'
            parts.append(f"{dot}<title>{told}</title></circle>")
    return "".join(parts)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
