"""A poisoned data set: which images carry the trigger, and what stays clean."""

from __future__ import annotations

import torch

from suture.attacks import Backdoor
from suture.attacks.poisoning import poisoned
from suture.testing.small import digits


def test_only_training_images_are_poisoned():
    clean, trigger = digits(), Backdoor()
    dirty, part = poisoned(clean, 3, n=200, share=0.25, generator=1)
    before, after = clean.train.batch(200), dirty.train.batch()
    changed = (before.images != after.images).flatten(1).any(1) | (before.labels != after.labels)
    others = before.labels != 3
    assert len(after) == 200 and len(part) == round(0.25 * int(others.sum()))
    stamped = trigger.stamp(before.images)
    for row in changed.nonzero()[:, 0]:
        assert torch.equal(after.images[row], stamped[row])
        assert after.labels[row] == 3 and others[row]
    assert torch.equal(part.batch().labels, torch.full((len(part),), 3))
    assert bool((part.batch().images[..., -3:, -3:] == 1).all())
    for name in ("test", "validation"):
        assert dirty.splits[name] is clean.splits[name]


def test_the_seed_chooses_and_the_original_stays():
    clean = digits()
    first, again, other = (
        poisoned(clean, 0, n=90, generator=g)[0].train.batch() for g in (1, 1, 2)
    )
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(clean.train.batch(90).labels, digits().train.batch(90).labels)
