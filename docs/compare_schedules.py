"""Compare schedules of adversarial training on MNIST's training images alone, for the guide.

    python docs/compare_schedules.py --set epochs=40,warm_up=0.7 --set augment=none --seeds 3

An MLP 784-256-256-10 is trained on the first 50 000 training images and repaired on the same ones
(L∞ 0.1, all other settings the defaults). Judged are the next 4 000, which neither has seen: APGD
with the cross entropy and with the targeted DLR loss. Test images are never seen. One line of a
table for each training.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from suture import data
from suture.attacks import APGD
from suture.data import Dataset
from suture.evaluate.metrics import clopper_pearson
from suture.repairs import PGDTraining
from suture.training import TrainConfig, train
from suture.types import Batch

EPS, SEEN, JUDGED = 0.1, 50_000, 4_000


def main() -> None:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE,…")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args()
    mnist, everything = data.load("mnist"), torch.arange(SEEN + JUDGED)
    unseen = mnist.train.select(everything[SEEN:]).batch(JUDGED)
    part = replace(mnist, train=mnist.train.select(everything[:SEEN]))
    given = train(mlp(), part, config=TrainConfig(epochs=10)).model.eval()
    print("| settings | seed | CPU s | seconds | unseen, clean | attacked | |")
    print("| --- " * 7 + "|", flush=True)
    for text in chosen.set or [""]:
        for seed in chosen.seeds:
            print(line(given, part, unseen, text, seed), flush=True)


def mlp() -> nn.Module:
    """784-256-256-10, with weights of one seed."""
    torch.manual_seed(0)
    sizes = [(784, 256), (256, 256), (256, 10)]
    layers = [layer for a, b in sizes for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def line(given: nn.Module, part: Dataset, unseen: Batch, text: str, seed: int) -> str:
    """One training, judged."""
    began, busy = time.perf_counter(), time.process_time()
    result = PGDTraining(eps=EPS, **fields(text))(given, part, generator=seed)
    spent = time.perf_counter() - began, time.process_time() - busy
    clean, left = judged(result.model.eval(), unseen)
    low, high = clopper_pearson(left, len(unseen))
    shares = f"{clean / len(unseen):.2%} | {left / len(unseen):.2%} | [{low:.2%}, {high:.2%}]"
    return f"| {text or 'defaults'} | {seed} | {spent[1]:.0f} | {spent[0]:.0f} | {shares} |"


def judged(model: nn.Module, unseen: Batch) -> tuple[int, int]:
    """How many are right, and how many no attack turns."""
    with torch.no_grad():
        left = (model(unseen.images).argmax(1) == unseen.labels).nonzero().flatten()
    clean = len(left)
    for attack in (APGD(eps=EPS, steps=50), APGD(eps=EPS, steps=50, loss="dlr-targeted")):
        found = attack(model, unseen[left], generator=0)
        left = left[found.robust]
    return clean, len(left)


def fields(text: str) -> dict[str, Any]:
    """``"epochs=30,augment=none"`` as arguments of the method."""
    return dict(_field(pair) for pair in text.split(",") if pair)


def _field(pair: str) -> tuple[str, Any]:
    name, value = pair.split("=")
    for read in (int, float):
        try:
            return name, read(value)
        except ValueError:
            continue
    return name, value


if __name__ == "__main__":
    main()
