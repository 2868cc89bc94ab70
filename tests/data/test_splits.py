"""Seeded choices: permutations, stratified shares."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from suture.data.splits import permutation, stratified, validation_count
from suture.rng import Stream


@given(st.integers(0, 200), st.integers(0, 2**64 - 1))
def test_a_permutation_holds_every_position_once(count, key):
    assert permutation(count, Stream(key)).sort().values.tolist() == list(range(count))


def test_permutations_are_uniform():
    """Chi-square on where the first of six ends up, over 6 000 streams: 20.5 is p = 0.001."""
    firsts = [int(permutation(6, Stream(0).child(k))[0]) for k in range(6000)]
    counts = torch.bincount(torch.tensor(firsts), minlength=6).float()
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 20.5


@given(st.lists(st.integers(0, 4), min_size=1, max_size=120), st.data())
def test_every_class_gets_its_share_to_within_one(labels, draw):
    count = draw.draw(st.integers(0, len(labels)))
    labels = torch.tensor(labels)
    chosen = stratified(labels, count, Stream(5))
    assert int(chosen.sum()) == count
    share = torch.bincount(labels, minlength=5) * count / len(labels)
    got = torch.bincount(labels[chosen], minlength=5)
    assert float((got - share).abs().max()) <= 1


def test_default_share_is_a_tenth_and_at_most_five_thousand():
    assert validation_count(1438, None) == 143
    assert validation_count(60_000, None) == 5_000
    assert validation_count(0, None) == 0
