"""Counts of pairs by hand, and McNemar's p-value against a plain sum of binomials."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suture.report.comparison import PairedCounts, mcnemar, paired

from ..builders import record


def told(each: str, images: str = "same"):
    base = record("defended", "Square", each.count("1"))
    return replace(base, n=len(each), each=each, images=images)


def test_counts_by_hand():
    counts = paired(told("1100110"), told("1010100"))
    assert counts == PairedCounts(both=2, first=2, second=1, neither=2)


@pytest.mark.parametrize(
    "other",
    [told("101", images="others"), told("101", images=""), told(""), told("1010")],
    ids=["other images", "not known", "no outcomes", "another number"],
)
def test_nothing_is_paired_that_is_not_known_to_be_the_same(other):
    assert paired(told("110"), other) is None
    assert paired(other, told("110")) is None


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_twice_the_smaller_tail(b, c):
    n = b + c
    tail = sum(comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert mcnemar(b, c) == pytest.approx(min(1.0, 2 * tail))
