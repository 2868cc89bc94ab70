"""Counter-based streams: known values, independence of layout, uniformity."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from suture import rng
from suture.rng import Stream, as_stream, bits, image_keys, integers, mix, normal, uniform


def splitmix(state: int) -> int:
    """The reference finaliser in Python integers."""
    mask = (1 << 64) - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


@given(st.integers(0, 2**64 - 1))
def test_mix_is_splitmix64(value: int):
    signed = value - (1 << 64) if value >> 63 else value
    assert int(mix(torch.tensor([signed]))) % (1 << 64) == splitmix(value)


def test_splitmix_published_value():
    # First output of SplitMix64 seeded with 1234567 (Vigna's reference implementation).
    assert splitmix((1234567 + 0x9E3779B97F4A7C15) % 2**64) == 6457827717110365317
    assert int(bits(torch.tensor([1234567]), 0)) == 6457827717110365317


def test_bits_do_not_depend_on_shape():
    keys = torch.arange(6)
    table = bits(keys[:, None], 3, torch.arange(4)[None])
    assert int(table[4, 2]) == int(bits(torch.tensor(4), 3, 2))


def test_uniform_and_integers_are_uniform():
    draws = bits(torch.arange(20_000), 0)
    values = uniform(draws, -2.0, 2.0)
    assert values.min() >= -2 and values.max() < 2
    assert abs(float(values.mean())) < 0.03
    counts = integers(draws, 5).bincount(minlength=5)
    assert counts.sum() == 20_000 and (counts - 4000).abs().max() < 300


def test_normal_has_unit_variance():
    draws = torch.arange(50_000)
    values = normal(bits(draws, 0), bits(draws, 1))
    assert abs(float(values.mean())) < 0.02 and abs(float(values.std()) - 1) < 0.02


def test_streams_are_named():
    root = Stream(7)
    assert root.child("a") == root.child("a") != root.child("b")
    assert root.child("1") != root.child(1)
    assert root.child("a").child("b") != root.child("b").child("a")
    first, again = (np.array(root.child("x").numpy().random(4)) for _ in range(2))
    assert (first == again).all()


def test_a_torch_generator_is_advanced():
    generator = torch.Generator().manual_seed(0)
    assert as_stream(generator) != as_stream(generator)
    assert as_stream(3) == as_stream(3) != as_stream(4)
    assert as_stream(None) == as_stream(0)


def test_image_keys_follow_the_image():
    images = torch.rand(5, 2, 3, 3)
    keys = image_keys(images, Stream(1))
    order = torch.tensor([3, 0, 4])
    assert torch.equal(image_keys(images[order], Stream(1)), keys[order])
    assert not (image_keys(images, Stream(2)) == keys).any()
    nudged = images.clone()
    nudged[0, 0, 0, 0] += 1e-6
    assert image_keys(nudged, Stream(1))[0] != keys[0]
    assert len(set(keys.tolist())) == 5


def test_the_compiled_passes_draw_the_same_bits(monkeypatch):
    images = torch.randn(5, 2, 3, 3)
    counters = (3, torch.arange(-2, 5)[None], -1)

    def drawn() -> list[torch.Tensor]:
        keys = image_keys(images, Stream(2**63 + 5))
        return [keys, bits(keys), bits(keys[:, None], *counters), bits(keys[0], 7)]

    compiled = drawn()
    monkeypatch.setattr(rng, "compiles", lambda *_: False)
    for one, plain in zip(compiled, drawn(), strict=True):
        assert one.dtype == torch.int64
        assert torch.equal(one, plain)
