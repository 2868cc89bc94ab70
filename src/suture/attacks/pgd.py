"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from suture.attacks.ascent import drop
from suture.attacks.base import ATTACKS, Attack, require, require_finite_eps
from suture.attacks.losses import LOSSES, negated
from suture.attacks.oracle import Oracle
from suture.attacks.steps import Rows, ascended, cross_entropies, random_start, steepest
from suture.types import Knowledge, Norm

Ascended = Literal["ce", "margin", "clipped", "spread"]
SPREAD = ("ce", "margin", "clipped")


@ATTACKS.add("pgd")
@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Steps along the loss gradient, projected back into the ball.

    ``x ← Π(x + α·sign(∇ℓ))`` for L∞, ``x ← Π(x + α·∇ℓ/‖∇ℓ‖₂)`` for L2, with ℓ the cross entropy.
    For L1 the step goes along the signs of the largest gradient entries (SLIDE, Tramèr & Boneh
    2019, arXiv:1904.13000), and Π is onto the ball and the box together.
    An image leaves the batch as soon as a query finds it misclassified (an ``adaptive`` attack:
    under every draw).

    Args:
        loss: what is raised: "ce"; the "margin" by which another class leads, which does not
            saturate; its mean over the draws, "clipped" where a draw is fooled already; or
            "spread": the restarts take these three in turn.
        steps: gradient steps per restart, each one query (times ``eot``).
        step_size: α; ``None`` for ``2.5·eps/steps``, which can reach the boundary from anywhere
            (Madry et al., section 5).
        restarts: independent starts; later ones only for images that still hold.
        random_start: start uniformly in the ball rather than at the image.
        sparsity: L1 only: the share of entries that a step leaves alone (SLIDE: 0.99).
    """

    loss: Ascended = "ce"
    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = True
    sparsity: float = 0.99

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")
    knowledge: ClassVar[Knowledge] = "white-box"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, type(self).__name__)
        known = self.loss in get_args(Ascended)
        require(known, f"a loss out of {get_args(Ascended)}", f"loss={self.loss!r}")
        require(self.steps >= 1, "steps >= 1", f"steps={self.steps!r}")
        require(self.restarts >= 1, "restarts >= 1", f"restarts={self.restarts!r}")
        positive = self.step_size is None or self.step_size > 0
        require(positive, "step_size > 0 or None", f"step_size={self.step_size!r}")
        sparse = 0 <= self.sparsity < 1
        require(sparse, "sparsity in [0, 1)", f"sparsity={self.sparsity!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        best = images.clone()
        active = torch.arange(len(images), device=images.device)
        for restart in range(self.restarts):
            found, done = self._descend(oracle, images[active], rows[active], restart)
            best[active] = found
            active = active[~done]
            if not len(active):
                break
        return best

    def _descend(
        self, oracle: Oracle, clean: Tensor, rows: Tensor, restart: int
    ) -> tuple[Tensor, Tensor]:
        """One start: the last iterate or the first success, and which images need no other."""
        found, done = clean.clone(), torch.ones_like(rows, dtype=torch.bool)
        state = Rows(clean=clean, rows=rows, here=self._start(oracle, clean, rows, restart))
        loss = LOSSES[SPREAD[restart % len(SPREAD)] if self.loss == "spread" else self.loss]
        loss = negated(loss) if oracle.targeted else loss
        for _ in range(self.steps):
            logits, gradient = oracle.gradient(state.here, state.rows, loss)
            state.gradient = gradient
            drop(state, oracle.finished(logits, state.rows), found, done)
            if not len(state):
                return found, done
            state.here = self._moved(state)
        logits = oracle.logits(state.here, state.rows)
        found[state.place] = state.here
        done[state.place] = oracle.finished(logits, state.rows)
        return found, done

    def _moved(self, state: Rows) -> Tensor:
        step = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        return ascended(self.norm, self.eps, state, step, self.sparsity)

    def _start(self, oracle: Oracle, clean: Tensor, rows: Tensor, restart: int) -> Tensor:
        if not self.random_start:
            return clean
        return random_start(self.norm, self.eps, oracle, clean, rows, restart)


@ATTACKS.add("bim")
@dataclass(frozen=True, kw_only=True)
class BIM(PGD):
    """The basic iterative method (Kurakin, Goodfellow & Bengio 2017, arXiv:1607.02533).

    PGD from the image itself, with the paper's steps of one grey level; its rule for the number
    of iterations, ``min(eps·255 + 4, 1.25·eps·255)``, gives 10 at 8/255.
    """

    steps: int = 10
    step_size: float | None = 1 / 255
    random_start: bool = False

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1")


@ATTACKS.add("fgsm")
@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """The fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572).

    ``x + eps·sign(∇ℓ)``, for L2 ``x + eps·∇ℓ/‖∇ℓ‖₂``: one gradient, one query.
    """

    draws: ClassVar[bool] = False
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite_eps(self.eps, "FGSM")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        _, gradient = oracle.gradient(images, rows, cross_entropies)
        sign = -1.0 if oracle.targeted else 1.0
        return images + sign * self.eps * steepest(self.norm, gradient)
