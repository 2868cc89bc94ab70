"""Table 3 and Figure 7: a network that was trained on poisoned images, repaired."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from suture import data, models
from suture.attacks import Backdoor
from suture.attacks.poisoning import poisoned
from suture.data import Dataset
from suture.evaluate import decisions
from suture.repairs import DefEnSyn
from suture.repairs.defensyn import DefendedClassifier, Program, parse
from suture.report.table import Row
from suture.rng import Stream
from suture.studies.defensyn.settings import BACKDOOR, NONE
from suture.training import TrainConfig, train
from suture.types import Batch

TARGET = 0
"""The class that the trigger means."""
BY_LENGTH = "DefEnSyn-30"
"""The variant that Figure 7 follows length by length."""
_EPOCHS, _LR, _SHARE = 4, 2e-3, 0.05


@dataclass(frozen=True)
class Poisoning:
    """The network: ``architecture`` trained on the first ``train`` images of ``data``.

    ``test`` images measure it; ``samples`` and ``programs`` are DefEnSyn's.
    """

    architecture: str
    data: str
    train: int
    test: int
    samples: int
    programs: int


def measure(what: Poisoning, stream: Stream) -> list[Row]:
    """The poisoned network as it is, and repaired with K = 30 and K = 1; then by length."""
    started = time.perf_counter()
    dataset, model = _trained(what)
    facts = {
        "what": "backdoor",
        "architecture": what.architecture,
        "data": dataset.name,
        "train": what.train,
        "poisoned_share": _SHARE,
        "epochs": _EPOCHS,
        "train_seconds": round(time.perf_counter() - started, 1),
    }
    trigger, test = Backdoor(), dataset.test.batch(what.test)
    parts = models.cut(model)
    seen = [
        _features(parts.encoder, images) for images in (test.images, trigger.stamp(test.images))
    ]
    rows = [{**facts, "variant": NONE, **_counts(parts.head, seen, test.labels, stream)}]
    # Images that the network was not trained on: on those it knows by heart it errs too little.
    clean = dataset.validation.batch(what.samples)
    attacked = Batch(trigger.stamp(clean.images), clean.labels)
    for variant, fields in BACKDOOR.items():
        method = DefEnSyn(
            attack=trigger, samples=what.samples, programs_per_length=what.programs, **fields
        )
        result = method.mend(model, clean, attacked, generator=stream)
        trace = result.trace
        programs = tuple(parse(row["text"]) for row in trace["programs"])
        made = _on_features(programs, parts.head, parts.features)
        row = {**facts, "variant": variant, "defence": repr(method), "seconds": trace["seconds"]}
        counts = _counts(made, seen, test.labels, stream)
        rows.append({**row, **counts, "programs": [str(program) for program in programs]})
        for entry in trace["lengths"] if variant == BY_LENGTH else ():
            kept = tuple(parse(top["text"]) for top in entry["top"])
            made = _on_features(kept, parts.head, parts.features)
            row = {"what": "backdoor length", "length": entry["length"]}
            rows.append({**row, **_counts(made, seen, test.labels, stream)})
    return rows


@cache
def _trained(what: Poisoning) -> tuple[Dataset, nn.Module]:
    clean = data.load(what.data)
    dirty, _ = poisoned(clean, TARGET, n=what.train, share=_SHARE, generator=0)
    made = models.build(
        what.architecture,
        in_shape=clean.in_shape,
        classes=clean.classes,
        mean=clean.mean,
        std=clean.std,
    )
    return clean, train(made, dirty, config=TrainConfig(epochs=_EPOCHS, lr=_LR), seed=0).model


def _features(encoder: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([encoder(piece) for piece in images.split(500)])


def _on_features(
    programs: tuple[Program, ...], head: nn.Module, features: int
) -> DefendedClassifier:
    """The defence from the features on; they are the same for all programs."""
    return DefendedClassifier(nn.Identity(), head, programs, features).eval()


def _counts(model: nn.Module, seen: list[Tensor], labels: Tensor, stream: Stream) -> Row:
    clean, triggered = (int((decisions(model, v, stream) == labels).sum()) for v in seen)
    return {"n": len(labels), "clean": clean, "triggered": triggered}
