"""AdvRepair: patches that provably repair what surrounds adversarial inputs (Chi et al. 2024).

Around every image that the attack fools lies a ball; its patch is added to the logits of all inputs
in it, and trained until a bound proves that the class stays. Other inputs borrow the patches of
similar images.

Inside a ball the proof is easy, as a constant patch shows. What it is worth outside depends on who
allocates: read the rows under both allocations, and the constant patch beside them.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture.attacks import PGD, Attack
from suture.attacks.spread import spread
from suture.bounds import Method
from suture.engine import Engine, Inline
from suture.errors import ArgumentError, require
from suture.repairs.advrepair.bank import HIDDEN
from suture.repairs.advrepair.regions import Regions, balls
from suture.repairs.advrepair.repairing import RegionStatus, mend
from suture.repairs.advrepair.settings import RepairSettings
from suture.repairs.base import REPAIRS, OnProgress, Repair, RepairResult, Status
from suture.rng import Stream, as_stream
from suture.types import Batch


@REPAIRS.add("advrepair")
@dataclass(frozen=True, kw_only=True)
class AdvRepair(Repair):
    """Repair by provable patches; the defaults are the paper's (appendix C) where it has any.

    Args:
        attack: finds the adversarial inputs; L∞, its ``eps`` is the radius r of the balls.
        samples: balls repaired, n: training images that are classified right and then fooled.
        guidance: a patch per ball ("property"), per class ("untargeted"), or per pair of class
            and runner-up ("targeted"). Balls of one class that overlap share a patch.
        patch: hidden layers, "small" (64-64-16), "large" (256-256-64), or "constant": a bias and
            nothing else, the control row.
        rounds: M, rounds of training and splitting.
        epochs: R, steps per round.
        split: K, boxes of a patch that are halved after a round.
        optimiser: "adam" as in the authors' code, or the paper's plain "gd".
        learning_rate: of the optimiser; the patch's outputs are in units of the gap that it has
            to close (with "gd": in logits; the paper's is 10).
        start: share of the gap that the first bias closes; 0 for the paper's start.
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
    guidance: Literal["property", "untargeted", "targeted"] = "property"
    patch: Literal["small", "large", "constant"] = "small"
    rounds: int = 25
    epochs: int = 10
    split: int = 800
    optimiser: Literal["adam", "gd"] = "adam"
    learning_rate: float = 0.03
    start: float = 0.9
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
            'guidance "property", "untargeted" or "targeted"': self.guidance
            in ("property", "untargeted", "targeted"),
            f"patch out of {', '.join(HIDDEN)}": self.patch in HIDDEN,
            "rounds, epochs, split >= 1": min(self.rounds, self.epochs, self.split) >= 1,
            'optimiser "adam" or "gd"': self.optimiser in ("adam", "gd"),
            "learning_rate > 0": self.learning_rate > 0,
            "start in [0, 1]": 0 <= self.start <= 1,
            "cuts >= 1": self.cuts >= 1,
            "margin > 0": self.margin > 0,
            "most, feature_samples >= 1": min(self.most, self.feature_samples) >= 1,
            "bounds crown-ibp or crown": self.bounds in ("crown-ibp", "crown"),
        }
        require(checks, self, "See the documentation of AdvRepair.")

    def run(
        self,
        model: nn.Module,
        data: Batch,
        *,
        generator: torch.Generator | Stream | int | None = None,
        engine: Engine | None = None,
        batch_size: int = 256,
        on_progress: OnProgress | None = None,
    ) -> RepairResult:
        stream, tell = as_stream(generator), on_progress or (lambda *_: None)
        engine = engine or Inline(threads_per_item=None)
        started = time.monotonic()
        batch, found, tried = self.fooled(model, data, stream, batch_size, engine=engine, tell=tell)
        spent = time.monotonic() - started
        facts = {"samples": len(found), "tried": tried, "attack_seconds": round(spent, 3)}
        if batch is None:
            return RepairResult(copy.deepcopy(model), Status.UNCHANGED, facts)
        with torch.no_grad():
            classes = int(model(batch.images[:1]).shape[1])
        result = self.mend(
            model,
            balls(batch, self.attack.eps, classes),
            found,
            torch.arange(len(found)),
            generator=stream,
            engine=engine,
            batch_size=batch_size,
            on_progress=tell,
        )
        return RepairResult(result.model, result.status, facts | result.trace, result.certificates)

    def mend(
        self,
        model: nn.Module,
        regions: Regions,
        wrong: Tensor,
        region: Tensor,
        *,
        generator: torch.Generator | Stream | int | None = None,
        engine: Engine | None = None,
        batch_size: int = 256,
        on_progress: OnProgress | None = None,
    ) -> RepairResult:
        """Repair regions that somebody else has chosen: balls, or the boxes of a property.

        Args:
            model: classifier; not changed.
            regions: where it must behave, ``balls(...)`` or ``of_property(...)``.
            wrong: known counterexamples ``(n, *in_shape)``; a region whose proof fails counts as
                repaired when all of its own behave.
            region: int64 ``(n,)``, where each of them lies.
            generator: seed or stream.
            engine: gets patches and proofs in pieces; ``None`` uses this process.
            batch_size: inputs per forward.
            on_progress: told about each stage.

        Raises:
            ArgumentError: label guidance, or an allocation outside, for regions without labels.
        """
        if regions.labels is None and (self.guidance != "property" or self.at is not None):
            raise ArgumentError(
                expected='guidance="property" and at=None for properties that are not about labels',
                got=f"guidance={self.guidance!r}, at={self.at!r}",
                remedy="Leave both at their defaults.",
            )
        settings = RepairSettings(
            hidden=HIDDEN[self.patch],
            guidance=self.guidance,
            rounds=self.rounds,
            epochs=self.epochs,
            split=self.split,
            optimiser=self.optimiser,
            rate=self.learning_rate,
            start=1.0 if self.patch == "constant" else self.start,
            cuts=self.cuts,
            margin=self.margin,
            most=self.most,
            at=self.at,
            feature_samples=self.feature_samples,
            method=self.bounds,
        )
        started, tell = time.monotonic(), on_progress or (lambda *_: None)
        made = mend(
            model,
            regions,
            settings,
            as_stream(generator),
            batch_size=batch_size,
            engine=engine or Inline(threads_per_item=None),
            tell=tell,
        )
        states = made.judged(wrong, region, batch_size)
        trace = made.trace | {
            "seconds": round(time.monotonic() - started, 3),
            "regions": [state.value for state in states],
            **{state.value: sum(s is state for s in states) for state in RegionStatus},
        }
        made.model.train(model.training)
        return RepairResult(made.model, _status(trace, len(states)), trace, made.certificates)

    def fooled(
        self,
        model: nn.Module,
        data: Batch,
        stream: Stream,
        batch_size: int = 256,
        *,
        engine: Engine | None = None,
        tell: OnProgress = lambda *_: None,
    ) -> tuple[Batch | None, Tensor, int]:
        """The first ``samples`` images, in an order drawn by the seed, that the model gets right
        and the attack fools (``None``: not one); the adversarial images; how many were tried."""
        order = torch.randperm(len(data), generator=stream.child("samples").generator())
        images, found, count, tried = [], [], 0, 0
        for number, piece in enumerate(data[order].split(max(64, self.samples))):
            if count >= self.samples:
                break
            result = spread(
                self.attack,
                model,
                piece,
                engine=engine or Inline(threads_per_item=None),
                generator=stream.child("attack"),
                batch_size=batch_size,
                stage=f"attack {number}",
            )
            hit = (result.success & result.clean_right).nonzero()[:, 0][: self.samples - count]
            count, tried = count + len(hit), tried + len(piece)
            if len(hit):
                images.append(piece[hit])
                found.append(result.images[hit])
            tell("attacking training images", min(count, self.samples), self.samples)
        if not images:
            return None, data.images[:0], tried
        return Batch.concat(images), torch.cat(found), tried


def _status(trace: dict[str, Any], regions: int) -> Status:
    """By regions: all proved or repaired, some, or none."""
    if trace[RegionStatus.FAILED.value] == 0:
        return Status.REPAIRED
    return Status.PARTLY if trace[RegionStatus.FAILED.value] < regions else Status.UNCHANGED
