"""The project's pages, and what is in them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r'title="([^"]+)"')


def pages() -> list[Path]:
    """Every Markdown page of the docs and the project, in alphabetical order."""
    return sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


def name(page: Path) -> str:
    """How a page is called in a test's id."""
    return page.relative_to(ROOT).as_posix()


def fences(page: Path) -> list[tuple[int, str, str, str]]:
    """``(line, language, title, content)`` of every fenced block, the title empty without one."""
    text = page.read_text(encoding="utf-8")
    found = []
    for m in _FENCE.finditer(text):
        title = _TITLE.search(m[2])
        found.append((text.count("\n", 0, m.start()) + 2, m[1], title[1] if title else "", m[3]))
    return found


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """``(line, content)`` of every fenced block of that language."""
    return [(line, text) for line, known, _, text in fences(page) if known == language]


def prose(page: Path) -> str:
    """The page without its fenced blocks and comments."""
    text = re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return _FENCE.sub("", text)


def run_python(page: Path) -> dict[str, object]:
    """Run all Python blocks of a page one after another; returns the names they leave."""
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    for line, block in blocks(page, "python"):
        code = compile("\n" * (line - 1) + block, str(page), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    return vars(module)


def commands(page: Path) -> list[list[str]]:
    """Every ``$ suture …`` line of a page's console blocks, as words without ``suture``."""
    lines = [line for _, block in blocks(page, "console") for line in block.splitlines()]
    found = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    own = [re.sub(r"^(\S*/)?suture ", "suture ", line) for line in found]
    return [line.split()[1:] for line in own if line.startswith("suture ")]
