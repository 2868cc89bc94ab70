"""How many epochs fit into a time."""

from __future__ import annotations

import copy
import time

from suture.repairs.adversarial_training.loop import AdversarialLoop
from suture.repairs.adversarial_training.steps import Steps

SPARE = 0.95
"""Share of the time that is planned: the rest is for what cannot be measured beforehand."""


def epochs_within(seconds: float, run: AdversarialLoop, started: float) -> int:
    """How many epochs fit, at least one, by the time that some steps and one judgement take.

    Args:
        seconds: in all.
        run: before its first epoch; it is not changed.
        started: when the time began, by ``time.perf_counter``.
    """
    model = copy.deepcopy(run.model)
    part = run.method.part(model, run.images[:2].images)
    steps = Steps(run.method, part, run.images, run.stream)
    share, count = run.method.warm_up, len(steps.pieces(1))
    epoch = count * (1 - share) * steps.timed(0.02 * seconds)
    if share:
        epoch += count * share * steps.timed(0.02 * seconds, single=True)
    before = time.perf_counter()
    run.judge(model.eval())
    judgement = time.perf_counter() - before
    left = SPARE * (seconds - (time.perf_counter() - started))
    return fitting(left, epoch, judgement, run.method.judged_epochs)


def fitting(seconds: float, epoch: float, judgement: float, judged: int) -> int:
    """The most epochs, at least one, of which the last ``judged`` are judged.

    Args:
        seconds: for all of it.
        epoch, judgement: what one of each takes.
    """
    few = int(seconds / (epoch + judgement))
    return max(1, few if few <= judged else int((seconds - judged * judgement) / epoch))
