"""Gaussian noise as a function of a key: the same bits on every machine, and fast.

``z = SplitMix64(key, j)`` gives a pair of normals (Box & Muller 1958): ``u`` from its upper 31
bits, ``t`` turns from its lower 32, ``√(-2 ln u) · (cos 2πt, sin 2πt)``. The logarithm and the sine
are polynomials in float32 written out here, so that the compiled loop and its twin in tensor
operations make the same rounding errors: equal to the bit. ``u`` is at least 2⁻³², so no value
exceeds 6.67; what is cut off has a probability of 2.6e-11 per value.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor

from suture.rng import GOLDEN, MIX1, MIX2, bits

PAIRS = 512
"""Pairs that the compiled loop makes at a time: its scratch arrays stay in the first cache."""
_HALF, _SCALE = np.float32(0.5), np.float32(2.0**-31)
_LN2, _ROOT = np.float32(math.log(2)), 0x3504F3
"""Mantissas above √2 (their bits) belong to the next exponent."""
_LOG = tuple(np.float32(2 / k) for k in (1, 3, 5, 7, 9))
_TURN = np.float32(2.0**-32)
_SIN = tuple(
    np.float32((-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1)) for k in range(7)
)
_COS = tuple(np.float32((-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k)) for k in range(8))


def noisy(images: Tensor, keys: Tensor, sigma: float) -> Tensor:
    """``images + sigma · ε``, ε standard normal and a function of each row's key alone.

    Args:
        images: ``(n, c, h, w)``, or one ``(1, c, h, w)`` for all keys.
        keys: int64 ``(n,)``.
    """
    plain = images.device.type == "cpu" and images.dtype == torch.float32
    if plain and not images.requires_grad and not torch.compiler.is_compiling():
        flat = np.ascontiguousarray(images.detach().flatten(1).numpy())
        out = np.empty((len(keys), flat.shape[1]), np.float32)
        _fill(flat, keys.contiguous().numpy(), np.float32(sigma), out)
        return torch.from_numpy(out).view(len(keys), *images.shape[1:])
    values = normals(keys, images[0].numel()).view(-1, *images.shape[1:])
    return images + (sigma * values).to(images.dtype)


def normals(keys: Tensor, count: int) -> Tensor:
    """float32 ``(n, count)``: the first half are the cosines of the pairs, the rest the sines."""
    half = (count + 1) // 2
    z = bits(keys[:, None], torch.arange(half, device=keys.device))
    u = (((z >> 33) & 0x7FFFFFFF).to(torch.int32).to(torch.float32) + float(_HALF)) * float(_SCALE)
    # In float64 and back: torch's float32 root is not always the nearest number.
    radius = torch.sqrt((-2.0 * _logarithm(u)).double()).float()
    low = z & 0xFFFFFFFF
    low = torch.where(low > 0x7FFFFFFF, low - (1 << 32), low)
    sine, cosine = _half_turn(low.to(torch.int32).to(torch.float32) * float(_TURN))
    first = radius * (1.0 - 2.0 * (sine * sine))
    second = radius * (2.0 * (sine * cosine))
    return torch.cat([first, second[:, : count - half]], 1)


def _logarithm(u: Tensor) -> Tensor:
    word = u.view(torch.int32)
    mantissa = word & 0x7FFFFF
    above = (mantissa > _ROOT).to(torch.int32)
    exponent = ((word >> 23) - 127 + above).to(torch.float32)
    m = (mantissa | ((127 - above) << 23)).view(torch.float32)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    total = torch.full_like(q, float(_LOG[4]))
    for term in _LOG[3::-1]:
        total = total * q + float(term)
    return exponent * float(_LN2) + s * total


def _half_turn(t: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine of ``πt``, ``|t| <= 1/2``."""
    q = t * t
    sine, cosine = torch.full_like(q, float(_SIN[-1])), torch.full_like(q, float(_COS[-1]))
    for term in _SIN[-2::-1]:
        sine = sine * q + float(term)
    for term in _COS[-2::-1]:
        cosine = cosine * q + float(term)
    return t * sine, cosine


_G, _M1, _M2 = (np.uint64(v) for v in (GOLDEN, MIX1, MIX2))
_L0, _L1, _L2, _L3, _L4 = _LOG
_S0, _S1, _S2, _S3, _S4, _S5, _S6 = _SIN
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7 = _COS
_ONE, _TWO = np.float32(1), np.float32(2)


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _fill(images, keys, sigma, out):  # type: ignore[no-untyped-def]
    """Rows of ``images`` (one for all, or one a key) plus noise.

    Each pass over a piece is a function of its own: then the compiler sees that its arrays do not
    overlap, and handles many values at a time.
    """
    shared, count = len(images) == 1, out.shape[1]
    half = (count + 1) // 2
    u, turn = np.empty(PAIRS, np.float32), np.empty(PAIRS, np.float32)
    m, exponent = np.empty(PAIRS, np.float32), np.empty(PAIRS, np.float32)
    for row in range(len(keys)):
        image, made, key = images[0 if shared else row], out[row], np.uint64(keys[row])
        for start in range(0, half, PAIRS):
            size = min(PAIRS, half - start)
            other, second = min(size, count - half - start), half + start
            _words(key + np.uint64(start) * _G, u[:size], turn[:size])
            _parts(u[:size].view(np.int32), exponent[:size], m[:size].view(np.int32))
            _pairs(m[:size], exponent[:size], turn[:size], u[:size])
            _added(image[start:], turn[:size], sigma, made[start:])
            _added(image[second:], u[:other], sigma, made[second:])


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _words(key, u, turn):  # type: ignore[no-untyped-def]
    """The uniform numbers behind the radii, and the turns."""
    for j in range(len(u)):
        z = key + np.uint64(j + 1) * _G
        z = (z ^ (z >> np.uint64(30))) * _M1
        z = (z ^ (z >> np.uint64(27))) * _M2
        z = z ^ (z >> np.uint64(31))
        u[j] = (np.float32(np.int32(z >> np.uint64(33))) + _HALF) * _SCALE
        turn[j] = np.float32(np.int32(z & np.uint64(0xFFFFFFFF))) * _TURN


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _parts(words, exponent, mantissas):  # type: ignore[no-untyped-def]
    """Exponents, and the bits of mantissas between √½ and √2."""
    for j in range(len(words)):
        mantissa = words[j] & np.int32(0x7FFFFF)
        above = np.int32(1) if mantissa > np.int32(_ROOT) else np.int32(0)
        exponent[j] = np.float32((words[j] >> np.int32(23)) - np.int32(127) + above)
        mantissas[j] = mantissa | ((np.int32(127) - above) << np.int32(23))


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _pairs(m, exponent, turn, second):  # type: ignore[no-untyped-def]
    """Normals: the cosines in place of the turns, the sines into ``second``."""
    for j in range(len(m)):
        s = (m[j] - _ONE) / (m[j] + _ONE)
        q = s * s
        log = s * ((((_L4 * q + _L3) * q + _L2) * q + _L1) * q + _L0)
        radius = np.sqrt(-_TWO * (exponent[j] * _LN2 + log))
        t = turn[j]
        q = t * t
        sine = (((((_S6 * q + _S5) * q + _S4) * q + _S3) * q + _S2) * q + _S1) * q + _S0
        sine = t * sine
        cosine = (((((_C7 * q + _C6) * q + _C5) * q + _C4) * q + _C3) * q + _C2) * q + _C1
        cosine = cosine * q + _C0
        turn[j] = radius * (_ONE - _TWO * (sine * sine))
        second[j] = radius * (_TWO * (sine * cosine))


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _added(image, values, sigma, made):  # type: ignore[no-untyped-def]
    for j in range(len(values)):
        made[j] = image[j] + sigma * values[j]
