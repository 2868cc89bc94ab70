"""Every example on a page runs."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from suture.cli import main
from suture.cli.app import app
from suture.cli.fields import FieldsCommand
from suture.engine.threads import torch_threads
from suture.errors import ArgumentError
from suture.testing import AttackContract, RepairContract
from suture.testing.attacks import SHAPE
from suture.testing.exact import ExactLinear, classified_batch

from .pages import DOCS, ROOT, blocks, commands, name, pages, run_python

ran = cache(run_python)  # once per process: a page may register what it makes
LONG = {"quickstart.md"}
PAGES = [page for page in pages() if page.parent.name != "tutorials"]  # those: test_tutorials
SHORT = [page for page in PAGES if blocks(page, "python") and page.name not in LONG]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Examples write files: not into the checkout."""
    monkeypatch.chdir(tmp_path)
    with torch_threads(1):
        yield


def suture(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["suture", *words])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.parametrize("page", SHORT, ids=name)
def test_python(page: Path):
    ran(page)


@pytest.mark.slow
def test_quickstart_in_python():
    left: dict[str, Any] = ran(DOCS / "quickstart.md")
    assert left["outcome"].page.is_file()
    assert torch.equal(
        left["again"].fixed(0)(left["digits"].test.batch(4).images),
        left["result"].model.fixed(0)(left["digits"].test.batch(4).images),
    )


@pytest.mark.slow
def test_quickstart_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    lines = [words for words in commands(DOCS / "quickstart.md") if "digits" in words]
    lines += [["report", "runs/measured", "--markdown"]]
    verbs = ["data", "train", "audit", "attack", "repair", "evaluate", "report"]
    assert [words[0] for words in lines] == verbs
    for words in lines:
        assert suture(words, monkeypatch) == 0, " ".join(words)
    assert Path("digits.png").is_file()
    assert Path("attacked.npz").is_file()
    assert (
        "| Attacker who knows the defence: strongest attack per image |" in capsys.readouterr().out
    )


def _known(words: list[str]) -> bool:
    """Whether the command line understands the words, up to what it would have to do."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return words[0].startswith("-")
        command, words = command.commands[words[0]], words[1:]
    if isinstance(command, FieldsCommand):
        try:
            words = command.translated(words)
        except ArgumentError:
            return False
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return all(word in options for word in words if word.startswith("--"))


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=name)
def test_commands_exist(page: Path):
    for words in commands(page):
        assert _known(words), f"suture {' '.join(words)}"


def test_unknown_commands_would_be_noticed():
    assert not _known(["mend", "--data", "digits"])
    assert not _known(["repair", "cnn", "--colour", "red"])


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    for page in pages():
        text = page.read_text(encoding="utf-8")
        wanted = set(re.findall(r"(?:^\$ |`)make ([a-z]+)", text, re.M))
        assert wanted <= targets, name(page)


def test_the_examples_keep_the_contract(tmp_path: Path):
    page = ran(DOCS / "add-a-method.md")
    attacks, attack = AttackContract(), page["Brightness"](eps=0.5, tries=30)  # type: ignore[operator]
    for check in ("stays_in_the_ball_and_in_the_unit_box", "counts_every_forward",
                  "an_image_does_not_depend_on_the_others", "leaves_global_state_alone",
                  "an_image_that_is_wrong_already_is_not_attacked", "bad_arguments_are_refused",
                  "a_spent_budget_stops_the_image", "a_zero_radius_changes_nothing"):  # fmt: skip
        model = ExactLinear(SHAPE)
        batch = classified_batch(model, SHAPE, n=13, seed=1)
        model.forwards = 0
        getattr(attacks, f"test_{check}")(attack, model, batch)
    attacks.test_a_randomised_model_is_met_the_same_way_in_any_batch(attack)
    repair, repairs = page["Refit"](steps=5), RepairContract()  # type: ignore[operator]
    repairs.test_the_given_model_is_not_changed(repair)
    repairs.test_the_result_classifies(repair)
    repairs.test_leaves_the_global_random_state_alone(repair)
    repairs.test_the_result_can_be_saved_and_opened(repair, tmp_path)
    repairs.test_the_result_works_wherever_the_original_did(repair)
    repairs.test_unusable_input_is_refused(repair)
