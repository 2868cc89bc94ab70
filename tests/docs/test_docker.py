"""The Dockerfile fits the checkout; it is read here, not built."""

from __future__ import annotations

import re
import tomllib

from .pages import DOCS, ROOT, name

FILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def arguments() -> dict[str, str]:
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", FILE, re.M))


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", FILE, re.M):
        for path in line.split():
            assert (ROOT / path).exists(), path
            assert f"!{path}" in ignored, path


def test_extras_and_pins_exist():
    assert set(arguments()["EXTRAS"].split(",")) <= set(PROJECT["optional-dependencies"])
    pinned = re.findall(r"^(torch|torchvision)==", (ROOT / "constraints.txt").read_text(), re.M)
    assert sorted(pinned) == ["torch", "torchvision"]


def test_python_is_one_that_the_package_takes():
    low, high = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert int(low) <= int(arguments()["PYTHON"].split(".")[1]) < int(high)


def test_the_page_names_every_argument():
    page = (DOCS / "docker.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \|", page, re.M))
    assert rows == arguments(), name(DOCS / "docker.md")


def test_the_container_is_not_root_and_names_no_host():
    assert FILE.index("USER suture") < FILE.index("ENTRYPOINT")
    assert not re.findall(r"https?://", FILE)
