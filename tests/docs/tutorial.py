"""Do what a tutorial says, in the current folder: ``python -m tests.docs.tutorial PAGE``.

Blocks run in the order of the page: ``python`` in one namespace; ``py``, ``toml``, ``yaml`` with a
title become the file of that name; of ``console`` the lines after ``$`` are run, and what stands
below them must be answered, numbers aside. ``pip install`` writes what pip would have written.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from suture.cli import main

from .pages import fences

_NUMBER = r"[\d.,]*\d"
_STATUS = re.compile(r"^\(exit status (\d+)\)$")
"""What a page says below a command that is meant to end that way; others end with 0."""


def pattern(shown: str) -> re.Pattern[str]:
    """What a shown line stands for: other numbers and gaps may come, and anything for "…"."""
    return re.compile(r"\s*" + ".*".join(map(_spaced, shown.split("…"))) + r"\s*")


def _spaced(text: str) -> str:
    plain = r"\s+".join(map(_masked, text.split()))
    return plain + (r"\s*" if text[-1:].isspace() else "")


def _masked(word: str) -> str:
    return _NUMBER.join(map(re.escape, re.split(_NUMBER, word)))


def missing(shown: list[str], answered: str) -> list[str]:
    """The shown lines that are not among the answered ones, in this order."""
    left, lost = iter(answered.splitlines()), []
    for line in filter(str.strip, shown):
        wanted, passed = pattern(line), []
        if line.strip() != "…" and not any(
            wanted.fullmatch(other) or passed.append(other) for other in left
        ):
            lost.append(line)
            left = iter(passed)
    return lost


def installed() -> None:
    """The project of the current folder as pip would have installed it."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    information = Path(f"{project['name']}-{project['version']}.dist-info")
    information.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (information / "METADATA").write_text(head, encoding="utf-8")
    points = [
        "\n".join([f"[{group}]", *(f"{name} = {place}" for name, place in some.items())])
        for group, some in project["entry-points"].items()
    ]
    (information / "entry_points.txt").write_text("\n\n".join(points), encoding="utf-8")


def suture(words: list[str]) -> None:
    sys.argv = ["suture", *words]
    main()


KNOWN: dict[str, Callable[[list[str]], object]] = {
    "suture": suture,
    "python": lambda words: runpy.run_path(words[0], run_name="__main__"),
    "cp": lambda words: shutil.copytree(words[-2], words[-1]),
    "pip": lambda _: installed(),
    "pytest": lambda words: sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *words])),
}


def called(line: str) -> tuple[str, int]:
    """What a command answers on both streams, and its exit status."""
    (name, *words), answer = shlex.split(line), io.StringIO()
    with contextlib.redirect_stdout(answer), contextlib.redirect_stderr(answer):
        try:
            KNOWN[name](words)
        except SystemExit as ended:
            return answer.getvalue(), int(ended.code or 0)
    return answer.getvalue(), 0


def commands(block: str) -> list[tuple[str, list[str]]]:
    """``(line, what is shown below it)`` of a console block; a backslash continues a line."""
    found: list[tuple[str, list[str]]] = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def console(block: str) -> None:
    """Run a console block.

    Raises:
        SystemExit: a command ends or answers otherwise than the page says.
    """
    for line, shown in commands(block):
        print(f"$ {line}", flush=True)
        wanted = [int(m[1]) for m in map(_STATUS.match, shown) if m]
        answer, status = called(line)
        print(answer, flush=True)
        lost = missing([one for one in shown if not _STATUS.match(one)], answer)
        if status != (wanted or [0])[0]:
            sys.exit(f"{line}: exit status {status}")
        if lost:
            sys.exit(f"{line}: not answered: {lost}")


def follow(page: Path) -> None:
    """Everything on the page."""
    module = ModuleType("__main__")  # as in a script: what it defines goes to workers by value
    sys.modules[module.__name__] = module
    sys.path.insert(0, "")
    for line, language, title, block in fences(page):
        if title:
            Path(title).write_text(block, encoding="utf-8")
        elif language == "python":
            code = compile("\n" * (line - 1) + block, str(page), "exec", dont_inherit=True)
            exec(code, module.__dict__)
        elif language == "console":
            console(block)


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
