"""Predicted beside measured: an attack and a training at two numbers of images, in CPU-seconds.

    OMP_NUM_THREADS=1 python benchmarks/scaling/costs.py [--resnet]

Unit costs are measured in this process on 1 024 images, and what a command costs whatever the
number of its images by the command with few. The network is the zoo's for MNIST, untrained, on
noise that is labelled as it classifies it, in a ball of 1e-4: every image holds, so that every
step is taken. The last line printed is a JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from suture import models
from suture.attacks import PGD
from suture.loading import load
from suture.repairs import PGDTraining
from suture.repairs.adversarial_training.steps import Steps
from suture.repairs.adversarial_training.suffix import part_of
from suture.repairs.certified_training.method import ClassifierTrainee
from suture.repairs.certified_training.trainee import Sample
from suture.rng import Stream
from suture.types import Batch

ARCH, SHAPE, COUNTS, FEW, UNIT = "cnn", (1, 28, 28), (1_000, 20_000), 64, 1_024
STEPS = 10
TRAINING = {"epochs": 1, "warm_up": 0, "steps": 3, "judged": 20, "judged_epochs": 1}


def main() -> None:
    """Measure, predict, measure; with ``--resnet`` the unit costs of ResNet-18 alone."""
    torch.set_num_threads(1)
    if "--resnet" in sys.argv:
        print(json.dumps(_resnet()), flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="suture-") as private:
        work = _Commands(Path(private))
        told = {
            "attack": _case(work.attack, work.attacked_unit()),
            "training": _case(work.train, work.trained_unit()),
        }
    print(json.dumps(told), flush=True)


def _resnet(size: int = 2) -> dict[str, float]:
    """CPU-seconds an image of torchvision's ResNet-18 at 224 x 224: a forward and backward pass,
    a step of certified training by intervals, and one by CROWN-IBP (fused loss, 1 000 classes)."""
    model = load("torchvision:resnet18").eval()
    images = torch.from_numpy(np.random.default_rng(0).random((size, 3, 224, 224), "f4"))
    sample = Sample(images, torch.arange(size), torch.arange(size))
    trainee = ClassifierTrainee(model, (3, 224, 224), 1 / 255)

    def natural() -> None:
        cross_entropy(model(images), sample.labels).backward()  # type: ignore[no-untyped-call]

    def certified(share: float) -> None:
        loss = trainee.loss(sample, share, 1 - share, Stream(0)).loss
        torch.autograd.grad(loss, trainee.parameters(), allow_unused=True)

    natural()
    found = {
        "natural": _spent(natural),
        "intervals": _spent(lambda: certified(1.0)),
        "crown-ibp": _spent(lambda: certified(0.5)),
    }
    return {name: round(spent / size, 3) for name, spent in found.items()}


def _case(command: Callable[[int], float], unit: float) -> dict[str, object]:
    start = command(FEW) - FEW * unit
    rows = [
        {"n": n, "predicted": round(start + n * unit, 1), "measured": round(command(n), 1)}
        for n in COUNTS
    ]
    return {"unit_ms": round(1e3 * unit, 4), "start": round(start, 1), "rows": rows}


class _Commands:
    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.model = models.build(ARCH, in_shape=SHAPE, classes=10, seed=0).eval()
        models.save(self.model, folder / "model")
        images = torch.from_numpy(np.random.default_rng(0).random((max(COUNTS), *SHAPE), "f4"))
        with torch.no_grad():
            labels = torch.cat([self.model(piece).argmax(1) for piece in images.split(1000)])
        self.batch = Batch(images[:UNIT], labels[:UNIT])
        for n in (FEW, *COUNTS):
            raw = (images[:n].permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
            y = labels[:n].to(torch.uint8).numpy()
            np.savez(folder / f"{n}.npz", x_train=raw, y_train=y, x_test=raw, y_test=y)

    def attacked_unit(self) -> float:
        """CPU-seconds an image of the attack alone."""
        attack = PGD(eps=1e-4, steps=STEPS)
        attack(self.model, self.batch[:256])
        return _spent(lambda: attack(self.model, self.batch, batch_size=256)) / UNIT

    def trained_unit(self) -> float:
        """CPU-seconds an image of a training step."""
        method = PGDTraining(eps=1e-4, **TRAINING)  # type: ignore[arg-type]
        part = part_of(self.model, "all", self.batch.images[:2])
        steps = Steps(method, part, self.batch, Stream(0))
        pieces = steps.pieces(1)
        steps.take(self.batch[pieces[0]], pieces[0], 1, 0, 0.5)

        def epoch() -> None:
            for index, batch in enumerate(self.batch.feed(pieces)):
                steps.take(batch, pieces[index], 1, index, 0.5)

        return _spent(epoch) / sum(map(len, pieces))

    def attack(self, n: int) -> float:
        """CPU-seconds of ``suture attack``."""
        how = ["--attack", "pgd", "--eps", "0.0001", "--steps", str(STEPS), "--n", str(n)]
        return self._suture("attack", "model", "--data", f"{n}.npz", *how)

    def train(self, n: int) -> float:
        """CPU-seconds of ``suture repair --method pgd-training``."""
        how = ["--method", "pgd-training", "--eps", "0.0001"]
        for name, value in TRAINING.items():
            how += ["--set", f"{name}={value}"]
        return self._suture("repair", "model", "--data", f"{n}.npz", *how)

    def _suture(self, command: str, *arguments: str) -> float:
        self.count += 1
        line = [sys.executable, "-c", "from suture.cli import main; main()", command, *arguments]
        if command == "repair":
            line += ["--out", f"run{self.count}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            line,
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{command} {arguments[2]}: {spent:.1f} CPU-seconds", file=sys.stderr, flush=True)
        return spent


def _spent(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
