"""The methods of DARE's studies, their models, and what is measured on each."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from suture.attacks import PGD
from suture.evaluate.left import Left, what_is_left
from suture.repairs import TRADES, AdversarialTuning, PGDTraining, Repair, RepairResult, repair
from suture.repairs.dare import DARE, Grid
from suture.rng import Stream
from suture.studies.base import Row
from suture.studies.dare_paper import ATTACKS
from suture.studies.dare_subject import SubjectSettings, attacks, prepared, radius, transferred
from suture.types import Batch

ORIGINAL, OURS, JUDGED = "original", "DARE", "DARE, judged by FGSM"
ABLATIONS = ("DARE_-s", "DARE_-sl", "DARE_rand")
ONLINE = ("PGD training", "TRADES")


@dataclass(frozen=True)
class Budget:
    """What every method may spend: settings, epochs, and the limit of lost accuracy."""

    rates: tuple[float, ...]
    epochs: int
    limit: float

    def grid(self) -> Grid:
        """The search of all methods that tune on fixed images."""
        return Grid(rates=self.rates, epochs=self.epochs, patience=2, limit=self.limit)

    def online(self) -> Grid:
        """For methods that attack in every step, and so cost several times as much."""
        return Grid(
            optimisers=("adam",), rates=self.rates, epochs=self.epochs, patience=2, limit=self.limit
        )


def method(name: str, plan: SubjectSettings, budget: Budget) -> Repair:
    """A method by its column's name, with a history that is named, not placed."""
    eps, grid = radius(plan.data), budget.grid()
    dare = DARE(history="history", grid=grid)
    online: dict[str, Any] = {"grid": budget.online(), "held_out": dare.held_out, "judged": 256}
    known: dict[str, Repair] = {
        OURS: dare,
        JUDGED: replace(dare, judge=attacks(eps, plan.full)["FGSM"]),
        "DARE_-s": replace(dare, slicing=False),
        "DARE_-sl": replace(dare, slicing=False, loss="classification"),
        "DARE_rand": replace(dare, tutors="random"),
        "PGD training": PGDTraining(eps=eps, steps=5, **online),
        "TRADES": TRADES(eps=eps, steps=5, step_size=eps / 2, **online),
    }
    for attack in ATTACKS:
        known[attack] = AdversarialTuning(attack=attacks(eps, plan.full)[attack], grid=grid)
    if name.startswith("q="):
        return replace(dare, q=float(name[2:]))
    return known[name]


@cache
def repaired(name: str, plan: SubjectSettings, budget: Budget, stream: Stream) -> RepairResult:
    """The method's result on the subject; within a process it is made once."""
    subject, way = prepared(plan), method(name, plan, budget)
    if isinstance(way, DARE):
        way = replace(way, history=str(subject.folder))
    return repair(subject.model, subject.looked, way, generator=stream)


def measure(
    name: str, plan: SubjectSettings, budget: Budget, methods: Stream, stream: Stream
) -> list[Row]:
    """One column of Tables 2 to 5: the method's model on clean and on transferred images.

    Args:
        methods: the same stream for all of them: they hold out the same images.
    """
    subject, started = prepared(plan), time.perf_counter()
    facts: dict[str, Any] = {
        "status": "as trained",
        "method": plan.network,
        "train_seconds": round(subject.seconds, 3),
    }
    if name != ORIGINAL:
        facts = _facts(name, plan, budget, repaired(name, plan, budget, methods))
    model = _model(name, plan, budget, methods)
    facts |= {"repair_seconds": round(time.perf_counter() - started, 3)}
    rows = [{"what": "method", "name": name, **facts, **_clean(model, plan)}]
    for attack in ATTACKS:
        found = transferred(plan, attack)
        rows.append(
            {
                "what": "transferred",
                "name": name,
                "attack": attack,
                "n": len(found.batch),
                "right": right(model, found.batch),
                "tried": found.tried,
                "seconds": round(found.seconds, 3),
            }
        )
    return rows


def measure_adaptive(
    name: str, plan: SubjectSettings, budget: Budget, count: int, methods: Stream, stream: Stream
) -> list[Row]:
    """What an attacker who has the method's own model leaves of it; AutoAttack is a part of it."""
    started = time.perf_counter()
    if name == ORIGINAL:
        found = _original(plan, count)
    else:
        found = what_is_left(
            _model(name, plan, budget, methods),
            prepared(plan).dataset.test.batch(count),
            PGD(eps=radius(plan.data)),
            undefended=prepared(plan).model,
            before=_original(plan, count),
        )
    spent = round(time.perf_counter() - started, 3)
    return [{"what": "adaptive", "name": name, **_counts(found), "seconds": spent}]


@cache
def _original(plan: SubjectSettings, count: int) -> Left:
    subject = prepared(plan)
    batch = subject.dataset.test.batch(count)
    return what_is_left(subject.model, batch, PGD(eps=radius(plan.data)))


def _counts(found: Left) -> dict[str, Any]:
    alone = min(one.right for one in found.tries if one.attack.startswith("AutoAttack"))
    return {
        "n": found.n,
        "clean_right": round(found.clean),
        "autoattack": round(alone),
        "right": round(found.right),
        "tries": found.row()["tries"],
    }


def _model(name: str, plan: SubjectSettings, budget: Budget, methods: Stream) -> nn.Module:
    if name == ORIGINAL:
        return prepared(plan).model
    return repaired(name, plan, budget, methods).model


def _facts(
    name: str, plan: SubjectSettings, budget: Budget, result: RepairResult
) -> dict[str, Any]:
    trace = result.trace
    facts = {
        "status": result.status.name.lower(),
        "method": repr(method(name, plan, budget)),
        "stages": trace["stages"],
        "looked": trace["samples"],
    }
    names = (
        "collected",
        "collected_wrong",
        "collected_held_out",
        "collected_right",
        "tutors",
        "watched",
        "neurons",
        "key_neurons",
        "adversarial",
        "adversarial_held_out",
        "clean",
    )
    facts |= {key: trace[key] for key in names if key in trace}
    if "search" in trace:
        facts |= {
            "before": trace["search"]["before"],
            "chosen": trace["search"]["chosen"],
            "settings": trace["search"]["settings"],
        }
    return facts


@torch.no_grad()
def right(model: nn.Module, batch: Batch) -> int:
    """How many of a batch the model gets right."""
    hits = [(model(p.images).argmax(1) == p.labels).sum() for p in batch.split(256)]
    return int(sum(hits))


def _clean(model: nn.Module, plan: SubjectSettings) -> dict[str, int]:
    """Clean accuracy on the whole test set, in counts."""
    counts = [(right(model, b), len(b)) for b in prepared(plan).dataset.test.batches(1000)]
    return {"test_right": sum(r for r, _ in counts), "test_n": sum(n for _, n in counts)}
