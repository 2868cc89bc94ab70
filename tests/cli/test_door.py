"""The door is light: what answers at once imports neither torch nor what it does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from suture.cli import app, commands

HEAVY = ("torch", "numba", "scipy", "sklearn", "ray", "matplotlib", "onnx")


def imported(code: str) -> set[str]:
    """Packages that a fresh interpreter has imported after the code."""
    lines = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_no_command_is_imported_for_a_word(option):
    code = f"sys.argv = ['suture', {option!r}]\nimport suture.cli\n"
    code += "try:\n    suture.cli.main()\nexcept SystemExit:\n    pass"
    assert not imported(code) & set(HEAVY)


def test_the_package_is_the_command():
    """``python -m suture`` is the script, also in what its help calls itself."""
    call = [sys.executable, "-m", "suture"]
    said = subprocess.run([*call, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("suture ")
    told = subprocess.run([*call, "--help"], capture_output=True, text=True, check=True).stdout
    assert "Usage: suture" in told or "Usage: python -m suture" in told


def test_load_brings_torch_and_little_else():
    assert not imported("import suture; suture.load") & set(HEAVY[1:])


def test_the_list_of_commands_is_their_help():
    made = app.typer.main.get_command(app.app)
    assert list(made.commands) == list(commands.COMMANDS)
    for name, command in made.commands.items():
        first = (command.help or "").strip().split("\n\n")[0]
        assert " ".join(first.split()) == commands.COMMANDS[name]


def test_a_slip_is_answered_with_the_nearest(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["suture", "reapir"])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert stopped.value.code == 2 and "repair" in capsys.readouterr().err
