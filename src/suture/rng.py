"""One seed becomes independent named streams; every random number is a function of a counter.

Nothing here (and nothing in suture) touches the global random state. Two kinds of randomness:

* ``Stream``: a 64-bit key with named children. Turn it into a ``torch.Generator`` or a
  ``numpy.random.Generator`` where a library wants one.
* ``bits(keys, *counters)``: SplitMix64 (Steele, Lea & Flood 2014, the same finaliser that seeds
  Java's and NumPy's streams) on whole tensors: one independent stream *per row*, so an image's
  draws depend on its own key and counters, never on batch size, order or device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
MIX1, MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 that torch stores it in."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


@dataclass(frozen=True)
class Stream:
    """A named position in the tree of random streams.

    ``Stream(7).child("attack").child(3)`` is the same on every machine, and independent of every
    other path. Args: ``key``, the 64-bit root seed or a child's derived key.
    """

    key: int

    def child(self, name: str | int) -> Stream:
        """The sub-stream of that name; names and integers never collide."""
        text = f"{type(name).__name__}:{name}".encode()
        digest = hashlib.blake2b(
            text, digest_size=8, key=(self.key & _MASK).to_bytes(8, "little")
        ).digest()
        return Stream(int.from_bytes(digest, "little"))

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh torch generator at the start of this stream."""
        return torch.Generator(device).manual_seed(self.key & (_MASK >> 1))

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator (Philox, counter based) at the start of this stream."""
        return np.random.Generator(np.random.Philox(key=self.key & _MASK))


def as_stream(source: Stream | torch.Generator | int | None) -> Stream:
    """A stream from a seed, another stream, or a torch generator (which is advanced by one draw).

    ``None`` is seed 0: an unseeded run is repeatable too.
    """
    if isinstance(source, Stream):
        return source
    if isinstance(source, torch.Generator):
        draw = torch.randint(2**62, (1,), generator=source, device=source.device)
        return Stream(int(draw))
    return Stream(int(source or 0)).child("root")


def mix(state: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 tensors (bit patterns of uint64), element by element."""
    state = (state ^ _shift_right(state, 30)) * _signed(MIX1)
    state = (state ^ _shift_right(state, 27)) * _signed(MIX2)
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, by: int) -> Tensor:
    """Logical (zero-filling) right shift; torch's own shift copies the sign bit."""
    return (state >> by) & ((1 << (64 - by)) - 1)


def bits(keys: Tensor, *counters: int | Tensor) -> Tensor:
    """64 random bits per element, a pure function of the key and the counters.

    Args:
        keys: int64, any shape.
        counters: integers or int64 tensors that broadcast against ``keys``.
    """
    if compiles(keys, *(c for c in counters if isinstance(c, Tensor))):
        return _compiled_bits(keys, *counters)
    state = keys
    for counter in counters:
        step = counter + 1 if isinstance(counter, Tensor) else int(counter) + 1
        offset = step * _signed(GOLDEN) if isinstance(step, Tensor) else _signed(step * GOLDEN)
        state = mix(state + offset)
    return state


def compiles(*tensors: Tensor) -> bool:
    """Whether the compiled twins can take these tensors: plain ones on a processor."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return all(type(t) is Tensor and t.is_cpu for t in tensors)


def _compiled_bits(keys: Tensor, *counters: int | Tensor) -> Tensor:
    from suture.rng_kernels import advanced  # here, because it takes its time

    state = _unsigned(keys)
    for counter in counters:
        if isinstance(counter, Tensor):
            state = advanced(state, _unsigned(counter))
        else:
            state = advanced(state, np.uint64(counter & _MASK))
    return torch.from_numpy(np.asarray(state).view(np.int64))


def _unsigned(tensor: Tensor) -> NDArray[np.uint64]:
    return tensor.to(torch.int64).numpy().view(np.uint64)


def uniform(random_bits: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """float32 in [low, high) from random bits: the top 24 bits as a fraction."""
    fraction = _shift_right(random_bits, 40).to(torch.float32) * 2.0**-24
    return low + (high - low) * fraction


def integers(random_bits: Tensor, count: int | Tensor) -> Tensor:
    """int64 in [0, count) from random bits (the low 32 bits, scaled; bias below 2**-32)."""
    return ((random_bits & 0xFFFFFFFF) * count) >> 32


def normal(first: Tensor, second: Tensor) -> Tensor:
    """float32 standard normal from two tensors of random bits (Box-Muller)."""
    radius = torch.sqrt(-2.0 * torch.log1p(-uniform(first)))
    return radius * torch.cos(2.0 * torch.pi * uniform(second))


def image_keys(images: Tensor, stream: Stream) -> Tensor:
    """One int64 key per image, from its pixels and the stream alone.

    The same image gets the same key wherever it stands, in whatever batch: that is what makes an
    attack's result for an image independent of batch size, order and process count. Integer
    arithmetic modulo 2**64, hence exact on every device.
    """
    pixels = images.detach().flatten(1).contiguous().view(torch.int32)
    if compiles(pixels):
        from suture.rng_kernels import summed  # here, because it takes its time

        sums = np.empty(len(pixels), np.uint64)
        summed(pixels.numpy(), sums)
        return mix(torch.from_numpy(sums.view(np.int64)) + _signed(stream.key))
    pixels = pixels.to(torch.int64)
    position = torch.arange(pixels.shape[1], device=pixels.device)
    weights = bits(position, 0) | 1
    return mix((mix(pixels + 1) * weights).sum(1) + _signed(stream.key))
