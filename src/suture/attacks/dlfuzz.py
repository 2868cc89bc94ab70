"""DLFuzz (Guo, Jiang, Zhao, Chen & Sun 2018, arXiv:1808.09413), as an attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from suture.attacks.base import ATTACKS, require
from suture.attacks.coverage import CoverageAscent
from suture.attacks.geometry import row_sum


@ATTACKS.add("dlfuzz")
@dataclass(frozen=True, kw_only=True)
class DLFuzz(CoverageAscent):
    """The likeliest wrong classes up, the label down, and sleeping neurons awake.

    Raises ``Σ_{i ∈ top} p_i - p_y + weight · Σ_n z_n`` (the paper's objective), p the softmax and
    "top" the ``classes`` likeliest wrong ones.

    The paper keeps inputs that raised coverage and goes on from them, and chooses neurons by what
    all inputs have activated so far. Here every image is by itself, and wakes the neurons that are
    nearest to activation, one of the paper's strategies.

    Args:
        classes: wrong classes that are raised.
    """

    classes: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.classes >= 1, "classes >= 1", f"classes={self.classes!r}")

    def objective(self, logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """``Σ_{i ∈ top} p_i - p_y``."""
        shares = logits.softmax(1)
        own = shares.gather(1, labels[:, None])
        rest = shares.scatter(1, labels[:, None], -1.0)
        top = rest.topk(min(self.classes, rest.shape[1] - 1), dim=1).values
        return row_sum(top) - own[:, 0]
