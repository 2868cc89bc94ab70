"""Repairs that stand: what adversarial training costs and leaves, whole and of a suffix.

The network is ``reassure_mnist_mlp256x2`` of the data folder on MNIST at L∞ 0.1; where there is no
data folder, a small one on the embedded digits, trained here. ``autoattack`` and ``clean`` are
percent of ``n`` test images; ``floor`` of a training is the same steps without anything but
forwards, backwards and the optimiser. ``smoothing`` counts noisy copies a second, ``game`` is one
round of the double oracle.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

import harness
import smoothing
from suture import data, models
from suture.attacks import PGD, AutoAttack
from suture.data import Dataset
from suture.repairs import DefEnSynGame, PGDTraining
from suture.training import TrainConfig, train

NETWORK, EPS = "reassure_mnist_mlp256x2", 0.1
COUNT = 1000
SUFFIXES = {1: 5, 2: 8}
"""Layers that learn → epochs."""


def rows() -> list[harness.Row]:
    """One row a case."""
    model, dataset = _case()
    made = [_trained("mlp-at", model, dataset, PGDTraining(eps=EPS))]
    for layers, epochs in SUFFIXES.items():
        method = PGDTraining(eps=EPS, layers=layers, epochs=epochs, warm_up=0.0, reach=1.0)
        made.append(_trained(f"suffix-{layers}", model, dataset, method))
    return [*made, smoothing.rows()[0], _game(model, dataset)]


def _case() -> tuple[nn.Module, Dataset]:
    folder = data.folder()
    if folder is not None:
        path = folder / "nets" / f"{NETWORK}.onnx"
        return models.load(path, in_shape=(1, 28, 28)).eval(), data.load("mnist")
    digits = data.load("digits")
    model = models.build("digits_cnn", mean=digits.mean, std=digits.std, seed=0)
    return train(model, digits, config=TrainConfig(epochs=8)).model.eval(), digits


def _trained(case: str, model: nn.Module, dataset: Dataset, method: PGDTraining) -> harness.Row:
    began = time.perf_counter()
    repaired = method(model, dataset, generator=0).model.eval()
    seconds = time.perf_counter() - began
    test = dataset.test.batch(COUNT)
    with torch.no_grad():
        clean = (repaired(test.images).argmax(1) == test.labels).float().mean()
    left = AutoAttack(eps=EPS)(repaired, test, generator=0).robust.float().mean()
    steps = method.epochs * (-(-len(dataset.train) // method.step_images))
    floor = _floor(model, dataset, method) * steps
    return {
        "case": case,
        "seconds": round(seconds, 2),
        "overhead": round(seconds / floor, 2),
        "floor": f"{steps} bare steps",
        "autoattack": round(100 * float(left), 1),
        "clean": round(100 * float(clean), 1),
        "n": len(test),
    }


def _floor(model: nn.Module, dataset: Dataset, method: PGDTraining, repeats: int = 20) -> float:
    """Seconds of a step: the forwards and backwards that it cannot do without, and the optimiser.

    The mean over the epochs: a warm-up's steps have two of them, others one more than inner steps.
    """
    net, images = copy.deepcopy(model), dataset.train.batch(method.step_images)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4)

    def step(passes: int) -> None:
        here = images.images.clone().requires_grad_(True)
        for _ in range(passes - 1):
            loss = nn.functional.cross_entropy(net(here), images.labels)
            torch.autograd.grad(loss, here)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(images.images), images.labels).backward()
        optimiser.step()

    spent = 0.0
    for passes, share in ((2, method.warm_up), (1 + method.steps, 1 - method.warm_up)):
        step(passes)
        spent += share * min(harness.seconds(lambda n=passes: step(n)) for _ in range(repeats))
    return spent


def _game(model: nn.Module, dataset: Dataset) -> harness.Row:
    began = time.perf_counter()
    result = DefEnSynGame(attack=PGD(eps=EPS, steps=20), rounds=3)(model, dataset, generator=0)
    rounds = len(result.trace["game"])
    each = (time.perf_counter() - began) / rounds
    return {"case": "game", "seconds": round(each, 2), "rounds": rounds}
