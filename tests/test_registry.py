"""Registries: names enter once, whatever the order, and a broken plugin is a warning."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from suture import registry
from suture.errors import ArgumentError
from suture.registry import Registry


@pytest.fixture
def room():
    name = "suture_room_for_a_test"
    sys.modules[name] = ModuleType(name)
    yield name
    del sys.modules[name]


def test_names_are_sorted(room):
    things = Registry("thing", room)
    second, first = things.add("second")(object()), things.add("first")(object())
    assert list(things) == ["first", "second"] and len(things) == 2
    assert things.find("second") is second and things.name_of(first) == "first"
    assert things.name_of(object()) is None
    with pytest.raises(ArgumentError, match="did you mean second"):
        things.find("secnd")


def test_a_name_is_taken_once(room):
    things = Registry("thing", room)
    one = things.add("one")(object())
    things.add("one")(one)
    with pytest.raises(ArgumentError, match="a name that no other thing has"):
        things.add("one")(object())


def test_plugins_join_and_broken_ones_are_told(room, monkeypatch):
    points = [
        EntryPoint("whole", "fractions:Fraction", "suture.things"),
        EntryPoint("broken", "no_such_module_anywhere:X", "suture.things"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    things = Registry("thing", room, group="suture.things")
    things.add("own")(object())
    with pytest.warns(UserWarning, match="the thing 'broken' of the package"):
        assert list(things) == ["own", "whole"]
