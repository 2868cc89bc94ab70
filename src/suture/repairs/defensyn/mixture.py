"""The mixture of programs that is best against attacked images that are known: a linear program.

A program of the language against an attacker who knows it is a zero-sum game. Of programs k found
and variants v of each training image i found (what attacks made of it, and the image itself), the
payoff is ``R[k, v]``: whether k gets v right. The defender's mixture w is the solution of

    maximise  1/n Σ_i t_i   with  t_i <= Σ_k w_k R[k, v]  for every variant v of i,
              Σ_k w_k C_k >= clean,   Σ_k w_k = 1,   w >= 0

with C_k the clean images that k gets right. Its value bounds what any mixture of these programs
keeps against an attacker who has these variants only. The multipliers of the rows are his best
answer: how often he plays each variant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from suture import solvers
from suture.errors import SutureError

TINY = 1e-7
"""Weights below are the solver's tolerance, not the defender's will."""


@dataclass(frozen=True, eq=False)
class Payoff:
    """What programs get right of what attacks have found.

    Attributes:
        right: bool ``(programs, variants)``.
        image: int64 ``(variants,)``, the image that each is a variant of; every image has one.
        clean: bool ``(programs, images)``.
    """

    right: NDArray[np.bool_]
    image: NDArray[np.int64]
    clean: NDArray[np.bool_]

    @property
    def images(self) -> int:
        """n."""
        return self.clean.shape[1]

    def kept(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(images,)``: share of the draws right under the worst known variant of each."""
        held = np.full(self.images, np.inf)
        np.minimum.at(held, self.image, weights @ self.right)
        return held

    def cleanly(self, weights: NDArray[np.float64]) -> float:
        """Share of clean images right, in expectation over the draw."""
        return float((weights @ self.clean).mean())


@dataclass(frozen=True, eq=False)
class Mixture:
    """The defender's optimum and the attacker's.

    Attributes:
        weights: float64 ``(programs,)``, a probability each.
        value: mean over the images of the share right under their worst variant.
        attacker: float64 ``(variants,)``: how often each is played, per image adding up to 1.
    """

    weights: NDArray[np.float64]
    value: float
    attacker: NDArray[np.float64]


def best_among(payoff: Payoff, rows: NDArray[np.int64], clean: float, most: int) -> Mixture:
    """``best_mixture`` of some programs, among them program 0; the others get no weight."""
    some = Payoff(payoff.right[rows], payoff.image, payoff.clean[rows])
    found, weights = best_mixture(some, clean, most), np.zeros(len(payoff.right))
    weights[rows] = found.weights
    return Mixture(weights, found.value, found.attacker)


def best_mixture(payoff: Payoff, clean: float, most: int) -> Mixture:
    """The best mixture of at most ``most`` programs.

    One program is found by trying all, and its attacker answers it alone. Of more than ``most`` in
    the optimum the heaviest are mixed again: the best of these, perhaps not of all choices.

    Args:
        clean: expected share of clean images that must stay right.
        most: programs in the mixture; ``value`` and ``attacker`` are those without this limit.

    Raises:
        SutureError: the program could not be solved; the identity alone always keeps ``clean``.
    """
    whole = _solved(payoff, clean)
    if np.count_nonzero(whole.weights) <= most:
        return whole
    if most == 1:
        weights = _alone(payoff, clean)
        played = _shared(payoff, weights, np.zeros(len(payoff.image)))
        return Mixture(weights, whole.value, played)
    # The identity, program 0, makes sure that a mixture within the limit exists.
    chosen = np.union1d(np.argsort(-whole.weights, kind="stable")[: most - 1], [0])
    few = Payoff(payoff.right[chosen], payoff.image, payoff.clean[chosen])
    weights = np.zeros(len(payoff.right))
    weights[chosen] = _solved(few, clean).weights
    return Mixture(weights, whole.value, whole.attacker)


def _alone(payoff: Payoff, clean: float) -> NDArray[np.float64]:
    """All the weight on the program that keeps most images right under all variants."""
    every = np.ones((len(payoff.right), payoff.images), bool)
    for row, right in enumerate(payoff.right):
        np.logical_and.at(every[row], payoff.image, right)
    kept = every.sum(1) * 1.0
    kept[payoff.clean.mean(1) < clean - 1e-9] = -1
    weights = np.zeros(len(kept))
    weights[int(kept.argmax())] = 1.0
    return weights


def _solved(payoff: Payoff, clean: float) -> Mixture:
    variants = _binding(payoff)
    right, image = payoff.right[:, variants], payoff.image[variants]
    programs, n = len(right), payoff.images
    matrix, low, high = _rows(payoff, right, image, clean)
    problem = solvers.Problem(
        cost=np.concatenate([np.zeros(programs), np.full(n, -1.0 / n)]),
        lower=np.concatenate([np.zeros(programs), np.full(n, -np.inf)]),
        upper=np.full(programs + n, np.inf),
        matrix=matrix,
        row_lower=low,
        row_upper=high,
    )
    found = solvers.solve(problem)
    if not found.status.found:
        raise SutureError(
            expected="a mixture of programs",
            got=found.status.value,
            remedy="The identity is always one of them: please report this.",
        )
    weights = np.where(found.x[:programs] > TINY, found.x[:programs], 0.0)
    weights /= weights.sum()
    played = np.zeros(len(payoff.image))
    played[variants] = np.abs(found.duals[: len(variants)]) * n
    return Mixture(weights, -found.incumbent, _shared(payoff, weights, played))


def _rows(
    payoff: Payoff, right: NDArray[np.bool_], image: NDArray[np.int64], clean: float
) -> tuple[sparse.csr_array, NDArray[np.float64], NDArray[np.float64]]:
    """``t_i - Σ w R <= 0`` for every variant, then the simplex, then clean accuracy."""
    programs, n, rows = len(right), payoff.images, len(image)
    own = sparse.csr_array((np.ones(rows), (np.arange(rows), image)), (rows, n))
    ones, none = np.ones((1, programs)), sparse.csr_array((1, n))
    cleans = payoff.clean.mean(1)[None]
    parts = ((-right.T.astype(float), own), (ones, none), (cleans, none))
    matrix = sparse.vstack(
        [sparse.hstack([sparse.csr_array(a), b], format="csr") for a, b in parts], format="csr"
    )
    low = np.concatenate([np.full(rows, -np.inf), [1.0, clean - 1e-9]])
    return matrix, low, np.concatenate([np.zeros(rows), [1.0, np.inf]])


def _binding(payoff: Payoff) -> NDArray[np.int64]:
    """Variants that no other variant of their image makes superfluous, in their order.

    One that every program right on another is right on too bounds no more than that other does;
    of equal ones the first stays.
    """
    order = np.argsort(payoff.image, kind="stable")
    ends = np.cumsum(np.bincount(payoff.image, minlength=payoff.images))
    kept = []
    for variants in np.split(order, ends[:-1]):
        right = payoff.right[:, variants].astype(np.float32)
        # [a, b]: programs right on a and wrong on b; where there are none, b needs no row.
        below = right.T @ (1 - right) == 0
        equal = below & below.T
        earlier = np.arange(len(variants))[:, None] < np.arange(len(variants))
        kept.append(variants[~((below & ~equal) | (equal & earlier)).any(0)])
    return np.sort(np.concatenate(kept))


def _shared(
    payoff: Payoff, weights: NDArray[np.float64], played: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The attacker's frequencies, what is equally good for him played equally often.

    Variants that the same programs get right share a row of the linear program; a new program
    should answer all of them. An image without a multiplier plays its worst variants.
    """
    held = weights @ payoff.right
    worst = held <= payoff.kept(weights)[payoff.image] + 1e-9
    total = np.bincount(payoff.image, played, payoff.images)
    mine = np.where(total[payoff.image] > 1e-6, played, worst)
    groups: dict[tuple[int, bytes], list[int]] = {}
    packed = np.packbits(payoff.right, axis=0)
    for variant in range(len(mine)):
        key = (int(payoff.image[variant]), packed[:, variant].tobytes())
        groups.setdefault(key, []).append(variant)
    for members in groups.values():
        mine[members] = mine[members].sum() / len(members)
    return mine / np.bincount(payoff.image, mine, payoff.images)[payoff.image]
