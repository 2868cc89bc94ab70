"""What the methods of adversarial training share: settings, images, the judge, and how it ends."""

from __future__ import annotations

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture.engine.threads import threads_for
from suture.errors import ArgumentError, require
from suture.repairs.adversarial_training.judging import HeldOut, Judge
from suture.repairs.adversarial_training.loop import (
    STAGE,
    AdversarialLoop,
    train_adversarially,
)
from suture.repairs.adversarial_training.planning import epochs_within
from suture.repairs.adversarial_training.progress import Standing
from suture.repairs.adversarial_training.rates import Course
from suture.repairs.adversarial_training.searched import Searched
from suture.repairs.adversarial_training.suffix import Layers, Suffix, part_of
from suture.repairs.base import Repair, check_processes
from suture.repairs.context import Context
from suture.repairs.result import RepairResult, Status
from suture.repairs.tuning import Grid, halves
from suture.training.config import Augment
from suture.types import LabelledImages, check_linf


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Repair):
    """Go on training a classifier on images that are attacked as it stands, in the L∞ ball.

    One schedule, from the given weights. Some training images are held out; on them APGD judges
    the averaged weights of the last epochs, and the best one within the limit is given back.

    Args:
        eps: radius, pixel values in [0, 1].
        steps: of the inner maximisation.
        step_size: of it, pixel values; ``None`` for half the radius, or ``2.5·eps/steps`` where
            that is less.
        reach: the radius that is trained at, in radii; the judge attacks with eps itself.
        epochs: passes over the training images.
        warm_up: share of the epochs, the first ones, whose images are made by a single step
            (N-FGSM), at half the time. A sign of catastrophic overfitting ends it at once.
        minutes: plan as many epochs as fit into so much time, from the time of the first steps;
            the number is in the trace, and ``epochs`` set to it repeats the training. Another
            machine plans another number. ``None`` leaves it to ``epochs``.
        layers: "all", or how many of the last layers with weights learn. What is before them stays
            as it is, to the bit. The attack goes through all of the network: it moves the images,
            so nothing of the frozen part can be computed once and kept.
        optimiser: "adam", or "sgd" (momentum 0.9).
        lr: largest learning rate.
        schedule: how the rate goes: "one-cycle", "cosine", "step" or "constant".
        step_images: images per step.
        average: decay per step of the exponential moving average of the weights; 0 for none.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        augment: "shift" (one pixel of 28), "flip-crop" (CIFAR-10), "crop-rotate" or "none".
        clip: largest norm of a gradient; 0 for none.
        awp: γ of adversarial weight perturbation (Wu et al. 2020, arXiv:2004.05884), relative to
            each layer's norm; 0 for none. A third more time a step with three inner steps.
        precision: "bf16" trains by autocast on a CUDA device, weights and their averages stay
            float32; the judge computes in float32.
        held_out: share of the training images that judges.
        judged: of those, how many are attacked, at most.
        judged_epochs: how many of the last epochs are judged.
        judge_steps: steps of each of the judge's attacks.
        limit: points of clean accuracy on the held-out images that may be lost.
        samples: images used, at most; ``None`` for all.
        grid: search settings with this grid in place of the one schedule, as DARE and its
            baselines do; judged by PGD with ``steps`` then.

    Raises:
        ArgumentError: a value out of range.
    """

    eps: float = 8 / 255
    steps: int = 3
    step_size: float | None = None
    reach: float = 1.15
    epochs: int = 30
    warm_up: float = 0.3
    minutes: float | None = None
    layers: Layers = "all"
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = 8e-3
    schedule: Course = "one-cycle"
    step_images: int = 256
    average: float = 0.995
    label_smoothing: float = 0.0
    augment: Augment = "shift"
    clip: float = 0.0
    awp: float = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    held_out: float = 0.05
    judged: int = 1000
    judged_epochs: int = 5
    judge_steps: int = 10
    limit: float = 10.0
    samples: int | None = None
    grid: Grid | None = None

    watched: ClassVar[bool] = False
    """Whether every epoch is checked for catastrophic overfitting."""
    collapse: ClassVar[float] = 0.5
    """It is one if PGD leaves less than this share of what it left of the best epoch."""
    dip: ClassVar[float] = 0.92
    """Less than this share ends a warm-up: it has begun to learn the single step."""

    def __post_init__(self) -> None:
        check_linf(self.eps)
        require(self._checks(), self, "See the guide on adversarial training.")

    def _checks(self) -> dict[str, bool]:
        """What must hold, in words."""
        counts = (self.steps, self.epochs, self.judged, self.judged_epochs, self.judge_steps)
        return {
            "eps in (0, 1]": 0 < self.eps <= 1,
            "steps, epochs, judged, judged_epochs, judge_steps >= 1": min(counts) >= 1,
            "step_size > 0, or None": self.step_size is None or self.step_size > 0,
            "reach > 0": 0 < self.reach < math.inf,
            "warm_up in [0, 1]": 0 <= self.warm_up <= 1,
            "minutes > 0, or None": self.minutes is None or self.minutes > 0,
            'layers "all", or >= 1': self.layers == "all" or self.layers >= 1,
            'optimiser "adam" or "sgd"': self.optimiser in ("adam", "sgd"),
            "0 < lr < inf": 0 < self.lr < math.inf,
            f"schedule out of {', '.join(get_args(Course))}": self.schedule in get_args(Course),
            "step_images >= 2": self.step_images >= 2,
            "average in [0, 1)": 0 <= self.average < 1,
            "label_smoothing in [0, 1)": 0 <= self.label_smoothing < 1,
            f"augment out of {', '.join(get_args(Augment))}": self.augment in get_args(Augment),
            "clip, awp >= 0": min(self.clip, self.awp) >= 0,
            'precision "float32" or "bf16"': self.precision in ("float32", "bf16"),
            "held_out in (0, 1)": 0 < self.held_out < 1,
            "limit >= 0, in points": self.limit >= 0,
            "samples >= 20, or None": self.samples is None or self.samples >= 20,
        }

    @property
    def widened(self) -> AdversarialTraining:
        """The method at the radius that is trained at."""
        return replace(self, eps=min(1.0, self.reach * self.eps))

    @property
    def step(self) -> float:
        """Of the inner maximisation, pixel values."""
        return self.step_size or min(self.eps / 2, 2.5 * self.eps / self.steps)

    def part(self, model: nn.Module, images: Tensor) -> Suffix:
        """What learns of the model; ``images`` are a few, for a forward."""
        return part_of(model, self.layers, images)

    @abstractmethod
    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Where the inner maximisation starts, as an offset from the images."""

    @abstractmethod
    def attacked(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        noise: Tensor,
        fixed: Sequence[nn.Parameter] = (),
    ) -> Tensor:
        """The inner maximisation; images ``(n, c, h, w)``, detached.

        Args:
            model: in eval mode.
            noise: offset of the start.
            fixed: parameters that need no gradient meanwhile.
        """

    def loss(self, model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of the attacked images, with smoothed labels."""
        return cross_entropy(model(attacked), labels, label_smoothing=self.label_smoothing)

    def batch_loss(self, model: nn.Module, images: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Mean loss of a batch, attacked in eval mode; the model is left in train mode."""
        model.eval()
        attacked = self.attacked(model, images, labels, noise)
        model.train()
        return self.loss(model, images, attacked, labels)

    def optimiser_of(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """Over these parameters."""
        if self.optimiser == "adam":
            return torch.optim.Adam(parameters, lr=self.lr)
        return torch.optim.SGD(parameters, lr=self.lr, momentum=0.9)

    @property
    def trains_together(self) -> bool:
        """Not where a grid is searched: its settings are items of the engine."""
        return self.grid is None

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        if self.grid is not None:
            return Searched.of(self, self.grid)._repair(model, data, context)
        started, work = time.perf_counter(), context.work(self, model, data)
        context = context.child("adversarial training")
        if self.samples is not None and self.samples < len(data):
            share = self.samples / len(data)
            data = halves(data, share, context.stream.child("samples"))[1]
        looked, held = halves(data, self.held_out, context.stream.child("held out"))
        with threads_for(model, looked[:2].images, self.step_images):
            return self._trained(model, looked, held, context, work, started)

    def _trained(
        self,
        model: nn.Module,
        looked: LabelledImages,
        held: LabelledImages,
        context: Context,
        work: str,
        started: float,
    ) -> RepairResult:
        check_processes(context.crew.processes, self.step_images, len(looked))
        self._check_precision(looked.device)
        judge = self._judge(held, context)
        before = judge(model)
        floor, stream = before.clean - self.limit / 100, context.stream
        run = AdversarialLoop(self, copy.deepcopy(model), looked, judge, floor, 1, stream)
        run.epochs = self._planned(run, context, work, started)
        told = replace(judge, held=context.sent(held), attacked=context.sent(judge.attacked))
        given = context.sent(model), context.sent(looked), told
        body = partial(train_adversarially, self, *given, floor, run.epochs, stream)
        progress = context.trained(body, STAGE, work, looked.device)
        return self._result(model, run, Standing.of(progress), before, started)

    def _judge(self, held: LabelledImages, context: Context) -> Judge:
        stream, attacked = context.stream.child("judge"), held
        if self.judged < len(held):
            attacked = halves(held, self.judged / len(held), stream)[1]
        return Judge(held, attacked, self.eps, self.judge_steps, stream, context.batch_size)

    def _check_precision(self, device: torch.device) -> None:
        if self.precision == "bf16" and device.type != "cuda":
            raise ArgumentError(
                expected="a CUDA device, for bf16",
                got=f"--device {device}",
                remedy="Set precision=float32, or --device cuda.",
            )

    def _planned(self, run: AdversarialLoop, context: Context, work: str, started: float) -> int:
        """The epochs; those that fit into the minutes, or that a run has planned before."""
        if self.minutes is None:
            return self.epochs
        if context.crew.processes > 1:
            raise ArgumentError(
                expected="epochs, where several processes train together",
                got=f"minutes={self.minutes:g}: how fast they are together is not known before",
                remedy="Set epochs, or train with --processes 1.",
            )
        kept = context.engine.recall("plan", work)
        if kept is None:
            kept = {"epochs": epochs_within(60 * self.minutes, run, started)}
            context.engine.note("plan", kept, work=work)
        return int(kept["epochs"])

    def _result(
        self,
        model: nn.Module,
        run: AdversarialLoop,
        progress: Standing,
        before: HeldOut,
        started: float,
    ) -> RepairResult:
        repaired, best = copy.deepcopy(model), progress.best_row
        better = best is not None and (best.robust or 0.0) > before.robust
        if better and progress.best is not None:
            repaired.load_state_dict(progress.best)
        trace: dict[str, Any] = {
            "samples": len(run.images),
            "epochs": run.epochs,
            "layers": list(run.part.layers),
            "judge": run.judge.facts(),
            "before": asdict(before),
            "floor": run.floor,
            "chosen": asdict(best) if best is not None and better else None,
            "collapsed": progress.collapsed,
            "warm_up": progress.warm_up,
            "curve": [asdict(epoch) for epoch in progress.epochs],
            "seconds": round(time.perf_counter() - started, 3),
        }
        return RepairResult(repaired, _status(progress, better), trace)


def _status(progress: Standing, better: bool) -> Status:
    if progress.collapsed:
        return Status.COLLAPSED
    if progress.best is None:
        return Status.BEYOND_LIMIT
    return Status.TUNED if better else Status.UNCHANGED
