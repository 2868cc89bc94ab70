"""Progress in a log: a line now and then, with what is left where that is known."""

from __future__ import annotations

import re

import pytest

from suture.cli import bars
from suture.cli.bars import Bars, Lines, duration

LINE = re.compile(r"^[^\n]+: \d+ of \d+ after \d+ s", re.M)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_thirty_seconds_and_no_more():
    clock = Clock()
    lines = Lines(clock)
    said = []
    for step in range(1, 61):
        clock.now += 2
        said.append(lines.tell("attack", step, 60))
    found = [line for line in said if line]
    assert len(found) == 4, "120 seconds"
    assert found[0] == "attack: 15 of 60 after 30 s, about 90 s left of it"
    assert found[-1] == "attack: 60 of 60 after 2 min, about 0 s left of it"


def test_time_left_is_the_stages_own_and_not_said_before_a_step():
    clock = Clock()
    lines = Lines(clock)
    lines.tell("bounds", 1, 1)
    clock.now += 100
    assert lines.tell("proving", 40, 100) == "proving: 40 of 100 after 2 min", "40 were kept"
    clock.now += 30
    told = lines.tell("proving", 50, 100)
    assert told == "proving: 50 of 100 after 2 min, about 2 min left of it"


def test_it_says_that_it_works_while_nothing_is_told():
    clock = Clock()
    lines = Lines(clock)
    clock.now += 29
    assert lines.due() is None
    clock.now += 1
    assert lines.due() == "at work after 30 s"
    lines.tell("cells", 0, 2)
    clock.now += 31
    assert lines.due() == "cells: 0 of 2 after 61 s" and lines.due() is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5940, "99 min"), (7260, "2 h 01 min")],
)
def test_durations(seconds, told):
    assert duration(seconds) == told


def test_a_terminal_gets_bars_and_no_lines(monkeypatch, capsys):
    monkeypatch.setattr(bars, "LINE_EVERY", 0.0)
    monkeypatch.setattr(bars, "SHOW_AFTER", -1.0)
    monkeypatch.setattr(bars.stderr, "_force_terminal", True)
    with Bars() as told:
        told("attack", 1, 2, note="loss 0.5")
    assert "after" not in capsys.readouterr().err


RUN = ("--data", "digits", "--json")
LONG = {
    "attack": ("attack", "digits_cnn", *RUN, "--n", "5", "--attack", "pgd"),
    "audit": ("audit", "digits_cnn", *RUN, "--n", "4", "--eps", "0.1", "--out", "run"),
    "train": ("train", "digits_cnn", *RUN, "--epochs", "1", "--out", "run"),
    "certify": ("certify", "digits_cnn", *RUN, "--n", "5", "--method", "ibp", "--out", "run"),
    "slice": ("slice", "digits_cnn", *RUN, "--class", "3", "--n", "200"),
    "repair": ("repair", "digits_cnn", *RUN, "--method", "n-fgsm", "--epochs", "1", "--out", "run"),
    "bench": ("bench", "certified", "--json", "--set", "n=5", "--set", "steps=1", "--out", "run"),
}


@pytest.mark.parametrize("name", LONG)
def test_long_commands_say_how_far_they_are(suture, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bars, "LINE_EVERY", 0.0)
    answer = suture(*LONG[name])
    assert answer.status == 0, answer.err
    assert LINE.search(answer.err), answer.err
    assert isinstance(answer.json, dict), "stdout holds the answer alone"


def test_evaluate_and_checking_again_say_it_too(suture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("repair", "digits_cnn", "--data", "digits", "--method", "advrepair", "--samples", "2")
    assert suture(*words, "--out", "fixed").status == 0
    monkeypatch.setattr(bars, "LINE_EVERY", 0.0)
    quick = ("--n", "4", "--tier", "quick", "--repeats", "1", "--no-curve", "--out", "measured")
    answer = suture("evaluate", "fixed", "--data", "digits", *quick)
    assert answer.status == 0 and LINE.search(answer.err), answer.err
    answer = suture("certify", "fixed")
    assert re.search(r"certificates: \d of \d after", answer.err), answer.err


def test_a_proof_in_this_process_says_how_many_images_are_done(suture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bars, "LINE_EVERY", 0.0)
    words = ("certify", "digits_cnn", "--data", "digits", "--n", "60", "--batch-size", "1")
    answer = suture(*words, "--eps", "0.001", "--method", "crown", "--out", "run")
    assert re.search(r"crown, eps 0.001: \d+ of 60 after", answer.err), answer.err
