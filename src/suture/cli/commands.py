"""All commands by name; the file of a command is imported when it is called, and torch with it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS: Mapping[str, str] = {
    "demo": "Train on embedded digits, attack, repair, evaluate both ways, and write the page.",
    "train": "Train a classifier and keep its history, an epoch at a time.",
    "attack": "Attack a classifier on held-out images and count what holds.",
    "repair": "Repair a classifier; the repaired one is kept in the run folder.",
    "evaluate": "Measure clean and robust accuracy, as the paper does and against an adaptive "
    "attacker.",
    "report": "Write a run's page again from its records, or a page that compares several runs.",
    "studio": "A local page over runs: reports, single images under live attacks, repairs, "
    "comparisons.",
    "audit": "Find out how fragile a classifier is: black-box, white-box, noise, accuracy against "
    "radius.",
    "certify": "Prove what can be proved about test images, or prove a repair's certificates "
    "again.",
    "export": "Write a model, or a part of it, as one file for deployment; the batch size stays "
    "free.",
    "bench": "Measure a paper's tables again; the same --out goes on where a stopped run was.",
    "init": "Write a commented recipe to begin with; `suture run` carries it out.",
    "run": "Carry out a recipe, step by step; after Ctrl-C the same line goes on.",
    "resume": "Go on with a run that was stopped or killed; the result is that of an unbroken one.",
    "history": "What every remembered epoch of a training knows: accuracy, and where the last one "
    "is wrong.",
    "slice": "Which neurons and synapses decide a class, layer by layer (DARE's slicer).",
    "data": "Data sets: what there is, and what is in one.",
    "methods": "All repair methods and attacks, or every field of one: type, default, meaning, "
    "source.",
    "runs": "Look at run folders, follow, compare and remove them.",
    "doctor": "What is installed, what this machine has, and how to mend what is missing.",
    "cite": "BibTeX of suture and of the papers behind methods and attacks.",
}
"""Command → the first line of its help: what ``suture --help`` shows without importing them."""


class _Imported(dict[str, Any]):
    """Name → command, imported when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        return imported(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping."""
        return imported(name) if name in self else default

    def items(self) -> Any:
        """All of them, imported."""
        return [(name, imported(name)) for name in self]


class Commands(TyperGroup):
    """The group of all commands, in the order of the way through."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Imported.fromkeys(COMMANDS)  # type: ignore[assignment]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, without importing them."""
        own = self.commands
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS.items()}
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = own


def imported(name: str) -> Any:
    """The command of this name, ready to be called."""
    from suture.cli.engines import remembered

    module = import_module(f"suture.cli.{name}")
    own = getattr(module, "app", None)
    if own is None:
        own = typer.Typer(
            add_completion=False,
            rich_markup_mode="rich",
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        kind = getattr(module, "Command", None)
        own.command(name, cls=kind)(remembered(module.command))
    made = typer.main.get_command(own)
    made.name = name
    return made
