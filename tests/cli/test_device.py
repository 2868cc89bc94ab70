"""Whatever computes can be told where: ``--device`` of every command."""

from __future__ import annotations

import typing

import pytest

from suture.cli.commands import COMMANDS, imported

SILENT = {
    "report": "writes records again",
    "init": "writes a recipe",
    "run": "carries out a recipe, whose steps say their devices",
    "resume": "goes on where the run was",
    "data": "reads files",
    "methods": "reads docstrings",
    "runs": "looks at folders",
    "doctor": "looks at the machine",
    "cite": "prints",
}
"""Commands that compute nothing, or are told by others."""


def options(name: str) -> set[str]:
    command = typing.cast(typing.Any, imported(name))
    return {text for parameter in command.params for text in parameter.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_computes_has_a_device(name: str):
    assert ("--device" in options(name)) != (name in SILENT), SILENT.get(name)


@pytest.mark.parametrize("name", ["train", "repair"])
def test_commands_that_train_have_processes_and_an_engine(name: str):
    assert options(name) >= {"--processes", "--checkpoint-minutes", "--engine", "--address"}
