"""Settings: fields of methods as text, read back with their types; errors name what was typed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suture.errors import ArgumentError
from suture.settings import assignments, has, help_of, made, number, read, settings_of


@dataclass(frozen=True)
class Inner:
    """A part.

    Args:
        depth, width: how far down
            and how wide.
    """

    depth: int = 2
    width: float = 0.5


@dataclass(frozen=True)
class Base:
    """Args:
    shared: told by the base.
    """

    shared: bool = False


@dataclass(frozen=True)
class Method(Base):
    """A method.

    Args:
        eps: the radius.
        kind: how: "hard", or "soft".
        steps: where they change, from 1.

    Raises:
        ArgumentError: never.
    """

    eps: float = 0.1
    kind: Literal["hard", "soft"] = "hard"
    steps: tuple[int, ...] = (1, 2)
    limit: int | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None


def test_settings_are_the_fields_with_their_parts():
    found = {one.name: one for one in settings_of(Method)}
    assert list(found) == [
        "shared", "eps", "kind", "steps", "limit", "pair", "inner", "inner.depth", "inner.width",
        "maybe", "maybe.depth", "maybe.width",
    ]  # fmt: skip
    assert (found["eps"].type, found["eps"].default) == ("float", "0.1")
    assert found["kind"].type == "hard or soft"
    assert found["steps"].type == "ints with commas" and found["steps"].default == "1,2"
    assert found["limit"].type == "int or none" and found["limit"].default == "none"
    assert found["shared"].default == "false"
    assert found["inner.depth"].help == found["inner.width"].help == "how far down and how wide."
    assert help_of(Method)["kind"] == 'how: "hard", or "soft".'


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        ({"eps": "8/255"}, "eps", 8 / 255),
        ({"eps": "inf"}, "eps", math.inf),
        ({"kind": "soft"}, "kind", "soft"),
        ({"steps": "3,4,5"}, "steps", (3, 4, 5)),
        ({"steps": ""}, "steps", ()),
        ({"limit": "none"}, "limit", None),
        ({"limit": "7"}, "limit", 7),
        ({"pair": "-1, 1/2"}, "pair", (-1.0, 0.5)),
        ({"shared": "yes"}, "shared", True),
        ({"inner.depth": "9"}, "inner", Inner(depth=9)),
        ({"maybe.width": "2"}, "maybe", Inner(width=2.0)),
        ({"inner": Inner(1, 2), "inner.width": "3"}, "inner", Inner(1, 3.0)),
    ],
)
def test_text_becomes_the_type(given, path, value):
    assert getattr(made(Method, given), path) == value


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"epz": "1"}, "unknown field 'epz' (did you mean eps"),
        ({"inner.dept": "1"}, "unknown field 'dept' (did you mean depth?)"),
        ({"eps": "much"}, "expected float for eps; got 'much'"),
        ({"eps": "1/0"}, "expected float for eps"),
        ({"eps": "nan"}, "expected float for eps"),
        ({"limit": "1.5"}, "expected int or none for limit; got '1.5'"),
        ({"kind": "mild"}, "expected hard or soft for kind; got 'mild'"),
        ({"pair": "1"}, "expected float,float for pair"),
        ({"shared": "maybe"}, "Give true or false"),
        ({"inner.depth": "x"}, "expected int for inner.depth"),
        ({"eps.more": "1"}, "a field without parts"),
        ({"inner": "deep"}, "expected inner for inner"),
    ],
)
def test_errors_name_what_was_typed(given, says):
    with pytest.raises(ArgumentError) as error:
        made(Method, given)
    assert says in str(error.value)


def test_assignments():
    assert assignments(["a=1", "b.c = x=y", "a=2"]) == {"a": "2", "b.c": "x=y"}
    for wrong in ("a", "=1"):
        with pytest.raises(ArgumentError, match="field=value"):
            assignments([wrong])


def test_has_looks_into_parts():
    assert has(Method, "eps") and has(Method, "inner.depth") and has(Method, "maybe.width")
    assert not has(Method, "eps.depth") and not has(Method, "inner.eps") and not has(Method, "x")


@given(st.floats(allow_nan=False, width=32))
def test_numbers_are_read_as_they_print(value):
    assert read(str(value), float, "x") == value


@given(st.integers(-99, 99), st.integers(1, 99))
def test_fractions(above, below):
    assert number(f"{above}/{below}") == above / below
