"""The built wheel alone: everything is in it, and it works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import suture

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
EVERY_MODULE = """
import importlib, pkgutil, sys
import suture
assert not any(path == {source!r} for path in sys.path), sys.path
left = []
for found in pkgutil.walk_packages(suture.__path__, "suture."):
    try:
        importlib.import_module(found.name)
    except suture.errors.DependencyError as error:
        left.append(f"{{found.name}}: {{error}}")
print(suture.__file__)
print(left)
"""

pytestmark = pytest.mark.slow


def ran(*words: str | Path, cwd: Path) -> str:
    bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    ran(sys.executable, "-m", "pip", "wheel", *quiet, "--wheel-dir", place, ROOT, cwd=place)
    (built,) = place.glob("suture-*.whl")
    return built


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with the wheel; its dependencies are this environment's."""
    place = tmp_path_factory.mktemp("alone")
    ran(sys.executable, "-m", "venv", "--without-pip", place / "env", cwd=place)
    binary = place / "env" / "bin"
    pip = ["--python", binary / "python", "install", "--quiet", "--no-deps", "--no-index"]
    ran(sys.executable, "-m", "pip", *pip, wheel, cwd=place)
    (packages,) = (place / "env" / "lib").glob("python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))  # after its own: the wheel wins
    return binary


def test_every_file_of_the_package_is_in_it_and_nothing_else(wheel: Path):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in (".nbi", ".nbc")
    }
    assert inside == there
    assert "suture/py.typed" in inside and any("/templates/" in name for name in inside)
    assert any(name.endswith("papers.bib") for name in inside)


def test_it_answers_as_a_command(alone: Path, tmp_path: Path):
    assert (
        ran(alone / "suture", "--version", cwd=tmp_path).strip() == f"suture {suture.__version__}"
    )
    told = ran(alone / "suture", "doctor", cwd=tmp_path)
    assert "nothing is wrong" in told and str(SOURCE) not in told


def test_every_module_can_be_imported(alone: Path, tmp_path: Path):
    code = EVERY_MODULE.format(source=str(SOURCE))
    place, left = ran(alone / "python", "-c", code, cwd=tmp_path).strip().splitlines()
    assert Path(place).is_relative_to(alone.parent), place
    assert left == "[]", "an extra of suture[dev] is missing here"
