"""Other people's methods: an entry point makes them known everywhere, contracts included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = '''
from dataclasses import dataclass
import copy
import torch
from suture.attacks import Attack
from suture.repairs import Context, Repair, RepairResult, Status


@dataclass(frozen=True, kw_only=True)
class Darker(Attack):
    """Every pixel is as dark as the ball allows.

    Args:
        share: of the radius that is used.
    """

    share: float = 1.0
    draws = False

    def run(self, oracle, images, rows):
        made = (images - self.share * self.eps).clamp_min(0)
        oracle.logits(made, rows)
        return made


@dataclass(frozen=True, kw_only=True)
class Nothing(Repair):
    """Changes nothing.

    Args:
        patience: how long nothing is done.
    """

    patience: int = 3

    def _repair(self, model, data, context):
        return RepairResult(copy.deepcopy(model), Status.UNCHANGED, {"patience": self.patience})
'''
TESTS = """
from toy import Darker, Nothing
from suture.testing import AttackContract, RepairContract

class TestDarker(AttackContract):
    attacks = (Darker(eps=0.3),)

class TestNothing(RepairContract):
    repairs = (Nothing(),)
    seedless = (Nothing,)
"""
POINTS = """[suture.attacks]
darker = toy:Darker
missing = toy:NotThere

[suture.repairs]
nothing = toy:Nothing
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package as pip would have installed it."""
    (tmp_path / "toy.py").write_text(CODE)
    (tmp_path / "test_toy.py").write_text(TESTS)
    information = tmp_path / "toy-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(POINTS)
    return tmp_path


def run(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(package), *sys.path])
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=package,
        env=os.environ | {"PYTHONPATH": path},
    )


def suture(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(package, "-c", "from suture.cli import main; main()", *words)


def test_they_are_listed_with_their_fields_and_a_broken_one_is_told(package: Path):
    answer = suture(package, "methods", "--json")
    known = json.loads(answer.stdout)
    assert known["darker"] == {
        "what": "attack",
        "text": "Every pixel is as dark as the ball allows.",
    }
    assert known["nothing"]["what"] == "repair method" and "missing" not in known
    assert "the attack 'missing' of the package 'toy' cannot be used" in answer.stderr
    fields = json.loads(suture(package, "methods", "nothing", "--json").stdout)["fields"]
    assert fields == [
        {"name": "patience", "type": "int", "default": "3", "help": "how long nothing is done."}
    ]


def test_they_work_on_the_command_line(package: Path):
    told = suture(package, "repair", "--method", "nothing", "--help").stdout
    assert "how long nothing is done" in told
    repair = ("repair", "digits_cnn", "--data", "digits", "--method", "nothing", "--patience", "5")
    done = suture(package, *repair, "--out", "run", "--json")
    assert json.loads(done.stdout)["status"] == "unchanged", done.stderr
    assert json.loads((package / "run/artifacts/trace.json").read_text())["patience"] == 5
    attack = ("attack", "run", "--data", "digits", "--attack", "darker", "--share", "1/2")
    found = json.loads(suture(package, *attack, "--n", "5", "--json").stdout)
    assert "Darker(" in found["attack"] and "share=0.5" in found["attack"]


@pytest.mark.slow
def test_they_meet_the_contracts(package: Path):
    done = run(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_toy.py")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
