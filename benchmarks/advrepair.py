"""AdvRepair with a thousand balls: the repair, inference, the file; and the checker.

The network is ``fnn_big`` after two epochs on MNIST, the radius 0.05; where there is no data
folder, ``digits_cnn`` on the embedded digits and as many balls as it has. ``check-pooled`` checks
certificates of ``patchpro_mnist_cnn`` (two poolings behind convolutions); without the data folder
it is left out. Seconds are CPU seconds of one thread: small networks gain nothing from several, and
other work on the machine does not count.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import harness
from suture import data, models
from suture.attacks import PGD
from suture.certify import Checker
from suture.data import Dataset
from suture.engine.threads import torch_threads
from suture.repairs import AdvRepair, RepairResult
from suture.repairs.advrepair import balls
from suture.repairs.context import Context
from suture.training import TrainConfig, train

EPS, COUNT, BATCH = 0.05, 1000, 256
_WARM, _REPEATS = 5, 101
POOLED, POOLED_EPS, POOLED_COUNT = "patchpro_mnist_cnn", 0.1, 5


def rows() -> list[harness.Row]:
    """The four cases."""
    with torch_threads(1):
        model, dataset = _case()
        method = AdvRepair(attack=PGD(eps=EPS), samples=COUNT)
        made, seconds = _repaired(model, dataset, method)
        facts = {"balls": len(made.trace["regions"]), "proved": made.trace["proved"]}
        facts["checked_again"] = _checked(made)
        first = {"case": "repair-1000", "seconds": round(seconds, 2), **facts}
        return [first, _inference(model, made, dataset), _file(made), *_pooled()]


def _case() -> tuple[nn.Module, Dataset]:
    folder = data.folder()
    name, dataset = ("digits_cnn", data.load("digits"))
    if folder is not None:
        name, dataset = "fnn_big", data.load("mnist")
    model = models.build(
        name,
        in_shape=dataset.in_shape,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )
    return train(model, dataset, config=TrainConfig(epochs=2), seed=0).model.eval(), dataset


def _repaired(model: nn.Module, dataset: Dataset, method: AdvRepair) -> tuple[RepairResult, float]:
    """The repair and its seconds, without the attack that finds its balls."""
    batch, wrong, _ = method.fooled(model, dataset.train.batch(), Context.of(0))
    assert batch is not None
    regions = balls(batch, method.attack.eps, dataset.classes)
    where, found = torch.arange(len(wrong)), list[RepairResult]()
    seconds = _seconds(
        lambda: found.append(method.of_regions(model, regions, wrong, where, Context.of(0)))
    )
    return found[0], seconds


def _checked(made: RepairResult) -> str:
    """How many of the first certificates hold: a fast repair that proves nothing is none."""
    check, some = Checker(made.model), made.certificates[:10]
    return f"{sum(check(certificate).holds for certificate in some)} of {len(some)}"


def _inference(model: nn.Module, made: RepairResult, dataset: Dataset) -> harness.Row:
    """Test images, which lie in no ball: each gets ten patches."""
    images = dataset.test.batch(BATCH).images
    with torch.no_grad():
        pairs = [
            (_seconds(lambda: made.model(images)), _seconds(lambda: model(images)))
            for _ in range(_WARM + _REPEATS)
        ][_WARM:]
    ratios = [ours / bare for ours, bare in pairs]
    return {
        "case": "inference-1000",
        "seconds": round(statistics.median(ours for ours, _ in pairs), 6),
        "overhead": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "floor": "the network without patches",
        "floor_seconds": round(statistics.median(bare for _, bare in pairs), 6),
        "batch": len(images),
    }


def _seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _file(made: RepairResult) -> harness.Row:
    """The bundle with its promise, beside no certificate."""
    with tempfile.TemporaryDirectory() as folder:
        assert made.promise is not None
        path = Path(folder) / "model"
        seconds = _seconds(
            lambda: models.save(
                made.model, path, beside={"promise.safetensors": made.promise.to_bytes()}
            )
        )
        size = sum(file.stat().st_size for file in path.iterdir())
    return {"case": "file-1000", "seconds": round(seconds, 3), "megabytes": round(size / 1e6, 2)}


def _pooled() -> list[harness.Row]:
    """Seconds a certificate; what they share is read once, and counted."""
    folder = data.folder()
    if folder is None:
        return []
    dataset = data.load("mnist")
    model = models.load(folder / "nets" / f"{POOLED}.onnx", in_shape=dataset.in_shape).eval()
    method = AdvRepair(attack=PGD(eps=POOLED_EPS, steps=10), samples=POOLED_COUNT)
    made, _ = _repaired(model, dataset, method)
    check, held = Checker(made.model), list[bool]()
    seconds = _seconds(
        lambda: held.extend(check(certificate).holds for certificate in made.certificates)
    )
    each = round(seconds / len(held), 2)
    row = {"case": "check-pooled", "seconds": each, "certificates": len(held), "hold": sum(held)}
    return [row]
