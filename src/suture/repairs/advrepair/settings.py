"""What AdvRepair is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from suture.attacks import PGD, Attack
from suture.bounds import Method
from suture.errors import require
from suture.repairs.advrepair.bank import HIDDEN, QUIET


@dataclass(frozen=True, kw_only=True)
class PatchSettings:
    """The fields of ``AdvRepair``; the defaults are the paper's (appendix C) where it has any.

    Args:
        attack: finds the adversarial inputs; L∞, its ``eps`` is the radius r of the balls.
        samples: balls repaired, n: training images that are classified right and then fooled.
        guidance: a patch per ball ("property"), per class ("untargeted"), per pair of class and
            runner-up ("targeted"), or "one" for all, which has to read its input and answers
            inside of balls only (ours). Balls of one class that overlap share a patch.
        patch: hidden layers, "small" (64-64-16), "large" (256-256-64), or "constant": a bias and
            nothing else, the control row.
        shared: hidden layers, from the input on, that all patches have in common; they are drawn
            and not trained. 3, all of them, makes a patch an affine function of common features,
            170 numbers in place of 55 610, and costs an input little however many patches there
            are; the paper's patches share none (0).
        rounds: M, rounds of training and splitting.
        epochs: R, steps per round.
        split: K, boxes of a patch that are halved after a round.
        optimiser: "adam" as in the authors' code, or the paper's plain "gd".
        learning_rate: of the optimiser; the patch's outputs are in units of the gap that it has
            to close (with "gd": in logits; the paper's is 10).
        start: share of the gap that the first bias closes; 0 for the paper's start, above 1 to
            leave room: a box alone may be bounded worse than among others.
        quiet: factor on the first weights of the last layer; 0 begins with a constant, and what
            ``start=1`` proves at once stays one.
        cuts: boxes that a region is cut into before training, where N alone is not proved: smaller
            boxes have smaller gaps. 1, the paper's, leaves regions whole.
        margin: by how much every logit must be beaten in the proof; the paper's 0 allows ties.
        most: patches that answer together outside of the balls.
        at: a layer to cut after; patches then live in its feature space, and nothing is proved.
        feature_samples: inputs drawn per ball for its box in feature space.
        bounds: how boxes are bounded.
    """

    attack: Attack = field(default_factory=PGD)
    samples: int = 100
    guidance: Literal["property", "untargeted", "targeted", "one"] = "property"
    patch: Literal["small", "large", "constant"] = "small"
    shared: int = 3
    rounds: int = 25
    epochs: int = 10
    split: int = 800
    optimiser: Literal["adam", "gd"] = "adam"
    learning_rate: float = 0.03
    start: float = 0.9
    quiet: float = QUIET
    cuts: int = 1
    margin: float = 1e-3
    most: int = 10
    at: str | None = None
    feature_samples: int = 1000
    bounds: Method = "crown"

    def __post_init__(self) -> None:
        checks = {
            "an L∞ attack with eps > 0": self.attack.norm == "linf" and 0 < self.attack.eps <= 1,
            "samples >= 1": self.samples >= 1,
            'guidance "property", "untargeted", "targeted" or "one"': self.guidance
            in ("property", "untargeted", "targeted", "one"),
            f"patch out of {', '.join(HIDDEN)}": self.patch in HIDDEN,
            "shared out of 0 to 3": self.shared in range(4),
            "rounds, epochs, split >= 1": min(self.rounds, self.epochs, self.split) >= 1,
            'optimiser "adam" or "gd"': self.optimiser in ("adam", "gd"),
            "learning_rate > 0": self.learning_rate > 0,
            "start in [0, 2]": 0 <= self.start <= 2,
            "quiet in [0, 1]": 0 <= self.quiet <= 1,
            "cuts >= 1": self.cuts >= 1,
            "margin > 0": self.margin > 0,
            "most, feature_samples >= 1": min(self.most, self.feature_samples) >= 1,
            "bounds crown-ibp or crown": self.bounds in ("crown-ibp", "crown"),
        }
        require(checks, self, "See the documentation of AdvRepair.")

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of a patch's hidden layers."""
        return HIDDEN[self.patch]

    @property
    def common(self) -> int:
        """Hidden layers that patches share."""
        return min(self.shared, len(self.hidden))

    @property
    def closed(self) -> float:
        """Share of the gap that the first bias closes: all of it where there is nothing else."""
        if self.guidance == "one" and self.patch != "constant":
            return 0.0  # (A constant for several classes closes the gap of none.)
        return 1.0 if self.patch == "constant" else self.start
