"""Table 3 and Figure 7: a network that was trained on poisoned images, repaired."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor, nn

from suture import data, models
from suture.attacks import Backdoor
from suture.attacks.poisoning import poisoned
from suture.data import Dataset
from suture.evaluate import decisions
from suture.repairs import DefEnSyn
from suture.repairs.context import Context
from suture.repairs.defensyn import DefendedClassifier, Program, parse
from suture.report.table import Row
from suture.rng import Stream
from suture.studies.defensyn.settings import BACKDOOR, NONE
from suture.studies.networks import in_pieces
from suture.training import TrainConfig, train
from suture.types import Batch

if TYPE_CHECKING:
    from suture.studies.defensyn.cells import DefEnSynTables

TARGET = 0
"""The class that the trigger means."""
BY_LENGTH = "DefEnSyn-30"
"""The variant that Figure 7 follows length by length."""
_EPOCHS, _LR, _SHARE = 4, 2e-3, 0.05


def measure(study: DefEnSynTables, stream: Stream) -> list[Row]:
    """The poisoned network as it is, and repaired with K = 30 and K = 1; then by length."""
    started = time.perf_counter()
    dataset, model = _trained(study)
    facts = {
        "what": "backdoor",
        "architecture": study.backdoor_network,
        "data": dataset.name,
        "train": study.backdoor_train,
        "poisoned_share": _SHARE,
        "epochs": _EPOCHS,
        "train_seconds": round(time.perf_counter() - started, 1),
    }
    trigger, test = Backdoor(), dataset.test.batch(study.backdoor_test)
    parts = models.cut(model)
    seen = [
        in_pieces(parts.encoder, images, 500)
        for images in (test.images, trigger.stamp(test.images))
    ]
    rows = [{**facts, "variant": NONE, **_counts(parts.head, seen, test.labels, stream)}]
    # Images that the network was not trained on: on those it knows by heart it errs too little.
    clean = dataset.validation.batch(study.samples)
    attacked = Batch(trigger.stamp(clean.images), clean.labels)
    for variant, fields in BACKDOOR.items():
        method = DefEnSyn(
            attack=trigger, samples=study.samples, programs_per_length=study.drawn, **fields
        )
        result = method.from_attacked(model, clean, attacked, Context.of(stream))
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
def _trained(study: DefEnSynTables) -> tuple[Dataset, nn.Module]:
    clean = data.load(study.backdoor_data)
    dirty, _ = poisoned(clean, TARGET, n=study.backdoor_train, share=_SHARE, generator=0)
    made = models.build(
        study.backdoor_network,
        in_shape=clean.in_shape,
        classes=clean.classes,
        mean=clean.mean,
        std=clean.std,
    )
    return clean, train(made, dirty, config=TrainConfig(epochs=_EPOCHS, lr=_LR), seed=0).model


def _on_features(
    programs: tuple[Program, ...], head: nn.Module, features: int
) -> DefendedClassifier:
    """The defence from the features on; they are the same for all programs."""
    return DefendedClassifier(nn.Identity(), head, programs, features).eval()


def _counts(model: nn.Module, seen: list[Tensor], labels: Tensor, stream: Stream) -> Row:
    clean, triggered = (int((decisions(model, v, stream) == labels).sum()) for v in seen)
    return {"n": len(labels), "clean": clean, "triggered": triggered}
