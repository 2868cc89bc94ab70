"""CROWN-IBP training: a classifier with small certified error (Zhang et al. 2020)."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from suture.data.splits import stratified, validation_count
from suture.errors import ArgumentError, DataError
from suture.models import identity
from suture.repairs.base import REPAIRS, Repair, check_processes
from suture.repairs.certified_training.bounded import BoundedTrainee
from suture.repairs.certified_training.curves import Curve, Trained
from suture.repairs.certified_training.loop import train_certified
from suture.repairs.certified_training.loss import Judged, certified_loss, interval_margins
from suture.repairs.certified_training.schedule import Schedule
from suture.repairs.certified_training.trainee import Sample, Trainee
from suture.repairs.context import Context
from suture.repairs.result import RepairResult, Status
from suture.rng import Stream
from suture.types import LabelledImages


@REPAIRS.add("crown-ibp")
@dataclass(frozen=True, kw_only=True)
class CrownIBP(Repair):
    """Train a copy of the given classifier, from the weights it has, to be certifiably robust.

    While the radius grows, bounds are ``f · CROWN-IBP + (1 - f) · IBP`` and the loss
    ``f · CE + (1 - f) · CE_worst``, with ``f = (eps - radius) / eps``: intervals alone decide in
    the end.

    Args:
        eps: ε_A^C, the L∞ radius to be certified, pixel values in [0, 1].
        schedule: epochs, batches, rates, how the radius grows; the paper's.

    Raises:
        ArgumentError: eps out of (0, 1].
    """

    eps: float = 0.3
    schedule: Schedule = Schedule()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        check_radius("eps", self.eps)

    @property
    def trains_together(self) -> bool:
        """Processes share its batches; batch norm is as in eval mode."""
        return True

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        trained = copy.deepcopy(model)
        modes = {name: part.training for name, part in model.named_modules()}
        trainee = ClassifierTrainee(trained, data.shape, self.eps, self.schedule.fusion)
        context = context.child("crown-ibp")
        work = f"{self!r} {context.stream.key} {identity(model, data)}"
        found = run_training(trainee, data, self.schedule, self.eps, "training", context, work)
        for name, part in trained.named_modules():
            part.training = modes[name]
        return RepairResult(trained, status_of(found), trace_of(found))


class ClassifierTrainee(BoundedTrainee):
    """A classifier that is trained on its own images; ``fusion`` as for ``certified_loss``."""

    def __init__(
        self,
        model: nn.Module,
        in_shape: tuple[int, ...],
        eps: float,
        fusion: bool | None = None,
    ) -> None:
        super().__init__(model, in_shape)
        self.eps, self.fusion = eps, fusion

    def parameters(self) -> list[nn.Parameter]:
        """All that want a gradient."""
        return [p for p in self.module.parameters() if p.requires_grad]

    def loss(self, sample: Sample, share: float, crown: float, stream: Stream) -> Judged:
        """``certified_loss`` at a share of the radius."""
        eps = share * self.eps
        return certified_loss(
            self.network,
            sample.images,
            sample.labels,
            eps,
            crown,
            natural=1.0 - share,
            fusion=self.fusion,
        )

    def judge(self, sample: Sample, stream: Stream) -> tuple[Tensor, Tensor]:
        """By intervals, at the full radius."""
        right = self.network(sample.images).argmax(1) == sample.labels
        held = interval_margins(self.network, sample.images, sample.labels, self.eps) > 0
        return right, right & held


def run_training(
    trainee: Trainee,
    data: LabelledImages,
    schedule: Schedule,
    eps: float,
    stage: str,
    context: Context,
    work: str,
    *,
    from_start: bool = False,
) -> Trained:
    """Hold validation images out of the data, and run the loop.

    With ``from_start`` the weights that training begins with are kept if no epoch is better.
    """
    train, validation = held_out(data, schedule.validation)
    return trained(
        trainee, schedule, (train, validation), eps, stage, context, work, from_start=from_start
    )


def trained(
    trainee: Trainee,
    schedule: Schedule,
    data: tuple[LabelledImages, LabelledImages],
    eps: float,
    stage: str,
    context: Context,
    work: str,
    *,
    from_start: bool = False,
) -> Trained:
    """The loop over images to train on and to judge by, in all processes of the context's crew.

    The trainee has the best epoch's weights afterwards.
    """
    train, validation = data
    check_processes(context.crew.processes, schedule.batch_size, len(train))
    device, given = train.device, trainee
    if context.crew.processes > 1:
        given = copy.deepcopy(trainee).to("cpu")
    body = partial(
        train_certified,
        given,
        schedule,
        context.sent(train),
        context.sent(validation),
        context.stream,
        eps,
        stage,
        from_start,
    )
    found = context.trained(body, stage, work, device)
    trainee.module.load_state_dict(found["weights"])
    curves = tuple(Curve(**curve) for curve in found["curves"])
    start = None if found["start"] is None else (found["start"][0], found["start"][1])
    return Trained(curves, found["best"], start)


def held_out(data: LabelledImages, share: float) -> tuple[LabelledImages, LabelledImages]:
    """Images to train on, and a stratified share to judge epochs by.

    The same images for every method and seed: what judges a robustifier must not have trained the
    classifier behind it.

    Raises:
        DataError: too few images for both.
    """
    count = validation_count(len(data), share)
    if not 1 <= count < len(data):
        raise DataError(
            expected=f"enough images that {share:g} of them can be held out",
            got=f"{len(data)}",
            remedy="Give more training images.",
        )
    mask = stratified(data.labels.cpu(), count, Stream(0).child("certified training, held out"))
    return data.select((~mask).nonzero()[:, 0]), data.select(mask.nonzero()[:, 0])


def status_of(found: Trained) -> Status:
    """Judged on the validation images: some are certified now, all, or none."""
    error = found.errors[1]
    if error == 0:
        return Status.REPAIRED
    return Status.PARTLY if error < 1 else Status.UNCHANGED


def trace_of(found: Trained) -> dict[str, Any]:
    """The curves, ready for JSON."""
    clean, certified = found.errors
    return {
        "best_epoch": found.best_epoch,
        "held_out": {"clean": clean, "certified": certified},
        "curves": [asdict(curve) for curve in found.curves],
    }


def check_radius(name: str, value: float) -> None:
    """Raise ``ArgumentError`` unless it is a radius in (0, 1]."""
    if not 0 < value <= 1:
        raise ArgumentError(
            expected=f"{name} in (0, 1], pixel values in [0, 1]",
            got=f"{name}={value!r}",
            remedy=f"Grey levels are divided by 255: {value:g}/255 = {value / 255:.4g}.",
        )
