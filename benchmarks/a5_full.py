"""What ``suture bench a5-mnist --full`` would cost: steps of each kind timed here, and counted.

The first two epochs of the first cell's classifier are trained whole (``--epochs``); of each later
kind of step a few are timed. Seconds are CPU seconds of this process at one thread; nothing is said
about other machines. Attacks are not counted: they cost more than all trainings (see docs/a5.md).
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable

import torch
from torch import nn

from suture.repairs import A5Offline, CrownIBP
from suture.repairs.a5 import Defence, build_robustifier, defended
from suture.repairs.a5.trainees import RobustifiedTrainee
from suture.repairs.certified_training.method import ClassifierTrainee, held_out
from suture.repairs.certified_training.trainee import Sample, Trainee
from suture.rng import Stream
from suture.studies.a5 import training
from suture.studies.a5.cells import A5Mnist

STUDY = A5Mnist(full=True)
EPS = 0.3


class Enough(Exception):
    """The epochs that were asked for are over."""


def main() -> None:
    """Time, count, print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--epochs", type=int, default=2)
    asked.add_argument("--steps", type=int, default=3)
    given = asked.parse_args()
    torch.set_num_threads(1)
    images, fresh = training.training(STUDY), _fresh()
    learned, judged = held_out(images, STUDY.schedule("R").validation)
    size = STUDY.schedule("R").batch_size
    found = {"epochs": _epochs(given.epochs, fresh, -(-len(learned) // size))}
    sample = Sample(images.images[:size], images.labels[:size], torch.arange(size))
    both = defended(build_robustifier(STUDY.body, images.shape, Defence(0.3)), fresh)
    plain = ClassifierTrainee(fresh, images.shape, EPS)
    alone = RobustifiedTrainee(both, images.shape, EPS, together=False)
    pair = RobustifiedTrainee(both, images.shape, EPS, together=True)
    kinds: dict[str, tuple[Trainee, float]] = {
        "natural": (plain, 0.0),
        "growing": (plain, 0.5),
        "full": (plain, 1.0),
        "R": (alone, 1.0),
        "RC": (pair, 1.0),
    }
    for name, (trainee, share) in kinds.items():
        found[name] = _each(given.steps, _step(trainee, sample, share))
    found["judge 100 images"] = _each(given.steps, lambda: plain.judge(sample, Stream(0)))
    found["O, 100 images and one step"] = _offline(fresh, sample)
    found["sizes"] = {"train": len(learned), "validation": len(judged), "batch": size}
    print(json.dumps(found, indent=1))


def _fresh() -> nn.Module:
    from suture import models

    source = training.dataset(STUDY.data)
    return models.build(
        STUDY.network,
        in_shape=source.in_shape,
        classes=10,
        mean=source.mean,
        std=source.std,
        seed=0,
    )


def _epochs(count: int, fresh: nn.Module, pieces: int) -> list[float]:
    """CPU seconds of the first epochs of the first cell's training, validation included."""
    ends = [time.process_time()]

    def tell(label: str, done: int, total: int) -> None:
        if done % pieces == 1 and done > 1:
            ends.append(time.process_time())
            print(f"{label}: {ends[-1] - ends[-2]:.0f} s", flush=True)
            if len(ends) > count:
                raise Enough

    if count:
        try:
            method = CrownIBP(eps=EPS, schedule=STUDY.schedule("CROWN-IBP"))
            method(fresh, training.training(STUDY), generator=0, on_progress=tell)
        except Enough:
            pass
    return [round(b - a, 1) for a, b in itertools.pairwise(ends)]


def _each(steps: int, work: Callable[[], object]) -> float:
    """CPU seconds of one, after one that is not counted."""
    work()
    started = time.process_time()
    for _ in range(steps):
        work()
    return round((time.process_time() - started) / steps, 3)


def _step(trainee: Trainee, sample: Sample, share: float) -> Callable[[], object]:
    optimiser = torch.optim.RMSprop(trainee.parameters(), lr=1e-6)

    def step() -> None:
        loss = trainee.loss(sample, share, 1 - share, Stream(0)).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 8.0)
        optimiser.step()

    return step


def _offline(fresh: nn.Module, sample: Sample) -> float:
    """CPU seconds of A5/O's step on 100 images of an untrained network: none leaves early."""
    from suture.types import Batch

    batch = Batch(sample.images, sample.labels)
    method = A5Offline(eps=EPS, defence=Defence(0.3), steps=1, certificates=0)
    return _each(1, lambda: method.robustify(fresh, batch))


if __name__ == "__main__":
    main()
