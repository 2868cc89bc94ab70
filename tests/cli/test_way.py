"""The whole way through the commands, on the embedded digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suture.data import load
from tests.cli.conftest import Suture

TRAIN = ("train", "digits_cnn", "--data", "digits", "--epochs", 6)
REPAIR = ("--data", "digits", "--eps", 0.15, "--queries", 60, "--samples", 150,
          "--programs", 3000, "--max-length", 2, "--k", 6, "--temperature", 20)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("way")


@pytest.fixture
def net(suture: Suture, folder: Path) -> Path:
    """A trained network, made by whichever test asks for it first."""
    if not (folder / "net").exists():
        assert suture(*TRAIN, "--out", folder / "net").status == 0
    return folder / "net"


@pytest.fixture
def repaired(suture: Suture, folder: Path, net: Path) -> Path:
    """The network defended."""
    if not (folder / "repaired").exists():
        assert suture("repair", net, *REPAIR, "--out", folder / "repaired").status == 0
    return folder / "repaired"


@pytest.fixture
def evaluated(suture: Suture, folder: Path, repaired: Path) -> dict[str, Any]:
    """What evaluating the defended network answers."""
    if not (folder / "evaluated.json").exists():
        answer = suture("evaluate", repaired, "--data", "digits", "--n", 30, "--eot", 2,
                        "--no-curve", "--protocol", "paper", "--protocol", "adaptive", "--json",
                        "--out", folder / "evaluated")  # fmt: skip
        assert answer.status == 0
        (folder / "evaluated.json").write_text(answer.out)
    return json.loads((folder / "evaluated.json").read_text())


def test_train(suture: Suture, folder: Path):
    answer = suture(*TRAIN, "--out", folder / "trained", "--json")
    assert answer.status == 0
    facts = answer.json
    assert facts["test_accuracy"] > 94 and facts["test_n"] == len(load("digits").test)
    assert len(list((folder / "trained" / "checkpoints").glob("epoch-*.safetensors"))) == 6
    assert facts["history_epochs"] == 6 and facts["history_mb"] > 0


def test_history(suture: Suture, folder: Path, net: Path):
    answer = suture("history", net, "--data", "digits", "--n", 50, "--json",
                    "--picture", folder / "history.svg")  # fmt: skip
    assert answer.status == 0 and answer.json["split"] == "validation"
    rows = answer.json["epochs"]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["mends"] <= row["right"] <= 50 for row in rows) and rows[-1]["mends"] == 0
    assert sum(row["tutors"] for row in rows) <= 50
    assert 1 <= answer.json["effective_tutors"] <= 6
    assert (folder / "history.svg").read_text().startswith("<svg xmlns=")
    told = suture("history", net, "--data", "digits")
    assert "right where the last is wrong" in told.out
    assert "expected a split with images" in suture("history", net, "--data", "digits", "--split",
                                                   "some").err  # fmt: skip


def test_attack(suture: Suture, folder: Path, net: Path):
    words = ("attack", net, "--data", "digits", "--eps", 0.2, "--queries", 80, "--n", 60)
    first = suture(*words, "--json", "--save", folder / "attacked.npz").json
    again = suture(*words, "--json", "--batch-size", 7).json
    assert first["robust_accuracy"] < first["clean_accuracy"]
    assert {k: first[k] for k in ("robust", "median_queries")} == {
        k: again[k] for k in ("robust", "median_queries")
    }
    with np.load(folder / "attacked.npz") as saved:
        assert saved["images"].shape == (60, 1, 8, 8)
        assert 60 - saved["success"].sum() == first["robust"]
    text = suture(*words)
    assert "robust accuracy" in text.out and text.err == ""


def test_repair(suture: Suture, folder: Path, net: Path):
    answer = suture("repair", net, *REPAIR, "--out", folder / "again", "--json")
    assert answer.status == 0
    assert len(answer.json["programs"]) == 6
    assert answer.json["rescored_disagreements"] == 0


def test_evaluate_remembers_the_threat(evaluated: dict[str, Any]):
    robust = evaluated["robust_accuracy"]
    assert set(robust) >= {"before", "after_paper", "after_adaptive"}
    assert robust["after_adaptive"] <= robust["after_paper"]
    assert evaluated["n"] == 30
    assert "eps=0.15" in Path(evaluated["records"]).read_text()
    page = Path(evaluated["report"]).read_text()
    assert "<!doctype html>" in page.lower() and "http://" not in page and "https://" not in page


def test_report_again(suture: Suture, evaluated: dict[str, Any]):
    page = Path(evaluated["report"])
    before = page.read_text()
    page.unlink()
    answer = suture("report", page.parent, "--markdown")
    assert answer.status == 0 and "|" in answer.out
    assert page.read_text() == before


def test_audit(suture: Suture, folder: Path, net: Path):
    answer = suture("audit", net, "--data", "digits", "--n", 20, "--eps", 0.1,
                    "--out", folder / "audit", "--json")  # fmt: skip
    assert answer.status == 0
    assert answer.json["robust_accuracy"]["after_adaptive"] is None
    assert answer.json["robust_accuracy"]["before_adaptive"] <= answer.json["clean_accuracy"]
    assert Path(answer.json["report"]).is_file()


def test_audit_flags_a_randomised_defence(suture: Suture, folder: Path, repaired: Path):
    answer = suture("audit", repaired, "--data", "digits", "--n", 12, "--eps", 0.1,
                    "--out", folder / "audit-2", "--json")  # fmt: skip
    assert any(w.startswith("randomness") for w in answer.json["warnings"])
    assert "randomness" in Path(answer.json["report"]).read_text()


def test_audit_flags_a_quantiser(
    suture: Suture, folder: Path, net: Path, monkeypatch: pytest.MonkeyPatch
):
    """Trained weights behind a rounding of the input: gradients are zero everywhere."""
    (folder / "masked.py").write_text(
        "import suture\n"
        "from torch import nn\n"
        "class Rounding(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.inner = suture.load({str(net)!r})\n"
        "    def forward(self, images):\n"
        "        return self.inner((images * 4).round() / 4)\n"
    )
    monkeypatch.syspath_prepend(folder)
    answer = suture("audit", "masked:Rounding", "--trust-code", "--data", "digits", "--n", 60,
                    "--eps", 0.3, "--out", folder / "audit-3", "--json")  # fmt: skip
    warnings = " ".join(answer.json["warnings"])
    assert "zero gradients" in warnings
    assert "black-box Square" in warnings
    assert "unbounded radius" in warnings


def test_data(suture: Suture, folder: Path):
    listed = suture("data", "list", "--json").json["data"]
    assert {"digits", "mnist", "cifar10", "cifar10-exact"} <= {entry["name"] for entry in listed}
    shown = suture("data", "show", "digits", "--picture", folder / "digits.png", "--json").json
    assert shown["classes"] == 10 and shown["in_shape"] == [1, 8, 8]
    assert (folder / "digits.png").read_bytes().startswith(b"\x89PNG")
    assert "digits" in suture("data", "show", "digits", "--picture", folder / "digits.png").out


@pytest.mark.slow
def test_demo(suture: Suture, folder: Path):
    answer = suture("demo", "--out", folder / "demo", "--n", 60, "--json")
    assert answer.status == 0
    facts = answer.json
    assert facts["clean_accuracy"] >= 95
    robust = facts["robust_accuracy"]
    assert robust["before"] < 40 < robust["after_paper"]
    assert robust["after_adaptive"] < robust["after_paper"]
    assert Path(facts["report"]).is_file() and Path(facts["records"]).is_file()
    assert {"seconds", "report", "records"} <= set(facts)


def test_help_has_examples(suture: Suture):
    for command in ("demo", "train", "attack", "repair", "evaluate", "report", "audit"):
        answer = suture(command, "--help")
        assert answer.status == 0
        assert f"suture {command}" in " ".join(answer.out.split()), command
    for command in ("list", "show"):
        assert f"suture data {command}" in " ".join(suture("data", command, "--help").out.split())
    assert suture("--version").out.startswith("suture ")
