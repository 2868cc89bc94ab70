"""Fields of methods as options: the right method's, with their types, and errors that name them."""

from __future__ import annotations

import json

import pytest

from suture.attacks import ATTACKS
from suture.cli.choices import make_attacks, make_repair
from suture.errors import ArgumentError
from suture.repairs import REPAIRS
from suture.settings import settings_of
from tests.cli.conftest import Suture

REPAIR = ("repair", "digits_cnn", "--data", "digits")
NOTHING = {"norm": None, "eps": None, "queries": None, "steps": None, "samples": None}


@pytest.mark.parametrize("name", list(REPAIRS))
def test_help_beside_a_method_lists_its_fields_alone(suture: Suture, name: str):
    shown = suture("repair", "--method", name, "--help").out
    assert f"Fields of {name}" in shown
    for one in settings_of(REPAIRS[name]):
        assert f"{one.name} =" in shown
    others = {s.name for kind in REPAIRS.values() for s in settings_of(kind)}
    for other in others - {s.name for s in settings_of(REPAIRS[name])}:
        assert f" {other} =" not in shown


@pytest.mark.parametrize("command", ["attack", "evaluate"])
def test_attacks_are_listed_with_their_fields(suture: Suture, command: str):
    shown = suture(command, "--attack", "apgd", "--help").out
    assert "Fields of apgd" in shown and "rho =" in shown
    words = "".join(shown.split())
    assert all(name in words for name in ("hop-skip-jump", "sparse-rs", "autoattack"))


@pytest.mark.parametrize("name", [*REPAIRS, *ATTACKS])
def test_methods_says_all_that_can_be_told(suture: Suture, name: str):
    facts = suture("methods", name, "--json").json
    kind = {**ATTACKS, **REPAIRS}[name]
    assert [field["name"] for field in facts["fields"]] == [s.name for s in settings_of(kind)]
    unsaid = [field["name"] for field in facts["fields"] if not field["help"]]
    assert unsaid == [], "every field has an entry in a docstring"


def refused(suture: Suture, *words: object) -> str:
    answer = suture(*words)
    assert answer.status == 2 and answer.err.startswith("error: ") and not answer.out
    return answer.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "dare", "--qq", "3"), "unknown option '--qq' (did you mean --q"),
        (("--method", "dare", "--q", "many"), "expected float for q; got 'many'"),
        (("--method", "dare", "--set", "q=much"), "expected float for q; got 'much'"),
        (("--method", "dare", "--set", "qu=3"), "unknown field 'qu'"),
        (("--method", "dare", "--set", "q"), "expected --set field=value; got --set q"),
        (("--method", "dare", "--grid.epochs", "few"), "expected int for grid.epochs"),
        (("--method", "dare", "--grid.ratio", "1"), "unknown option '--grid.ratio' (did you mean"),
        (("--method", "dare", "--tutors", "good"), "expected best or random for tutors"),
        (("--method", "dare", "--against", "pgd"), "got --against"),
        (("--method", "crown-ibp", "--queries", "7"), "options that crown-ibp has; got --queries"),
        (("--steps", "7"), "options that defensyn against square has; got --steps"),
        (("--attack.eps", "8/0"), "expected float for attack.eps; got '8/0'"),
        (("--method", "a5-offline", "--defence.eps", "80"), "a radius eps from 0 on"),
    ],
)
def test_errors_name_what_was_typed(suture: Suture, words: tuple[str, ...], says: str):
    assert says in refused(suture, *REPAIR, *words)


def test_the_methods_own_steps_go_before_its_attacks():
    given = NOTHING | {"steps": 7}
    assert make_repair("trades", None, {}, **given).steps == 7
    assert make_repair("advrepair", "pgd", {}, **given).attack.steps == 7


def test_nested_fields_and_fractions():
    told = {"attack.eps": "8/255", "rounds": "3", "k": "5"}
    method = make_repair("defensyn", "pgd", told, **NOTHING)
    assert method.attack.eps == 8 / 255 and (method.rounds, method.k) == (3, 5)
    assert type(method.attack) is ATTACKS["pgd"]
    short = make_repair("crown-ibp", None, {"schedule.lr": "0.01"}, **NOTHING, epochs=10)
    assert (short.schedule.epochs, short.schedule.lr) == (10, 0.01)
    assert (
        make_repair("dare", None, {"judge": "pgd", "judge.steps": "3"}, **NOTHING).judge.steps == 3
    )


def test_each_attack_takes_the_fields_that_it_has():
    pgd, square = make_attacks(["pgd", "square"], {"restarts": "2"}, eps=0.1, queries=9)
    assert (pgd.restarts, square.queries, pgd.eps, square.eps) == (2, 9, 0.1, 0.1)
    with pytest.raises(ArgumentError, match="options that pgd has; got --queries"):
        make_attacks(["pgd"], queries=9)


def test_fields_are_options_cut_short_and_switched_off(suture: Suture, tmp_path):
    words = (*REPAIR, "--method", "weight-patch", "--samples", 30, "--keep", 5, "--no-exact")
    words += ("--max-ch", 3, "--seconds", "30", "--attack", "none", "--out", tmp_path / "run")
    answer = suture(*words, "--json")
    assert answer.status == 0, answer.err
    parts = json.loads((tmp_path / "run" / "run.json").read_text())["parts"]["repair"]
    assert "max_change=3.0" in parts and "keep=5" in parts and "attack=None" in parts
