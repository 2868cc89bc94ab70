"""The methods of DARE's studies, their models, and what is measured on each."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from typing import Any

from torch import nn

from suture.attacks import PGD
from suture.evaluate.left import Left, what_is_left
from suture.models import identity
from suture.repairs import TRADES, AdversarialTuning, PGDTraining, Repair, RepairResult, repair
from suture.repairs.dare import DARE, Grid
from suture.report.table import Row
from suture.rng import Stream
from suture.studies import shelf
from suture.studies.dare.subject import ATTACKS, DarePlan, prepared, transferred
from suture.studies.networks import in_pieces
from suture.types import Batch

ORIGINAL, OURS, JUDGED = "original", "DARE", "DARE, judged by FGSM"

ABLATIONS = ("DARE_-s", "DARE_-sl", "DARE_rand")
ONLINE = ("PGD training", "TRADES")
MAIN = (OURS, *ATTACKS)
"""The methods of Table 2."""


METHODS = Stream(0).child("dare methods")
"""The same stream for all of them: they hold out the same images."""


def method(name: str, plan: DarePlan, history: str = "history") -> Repair:
    """A method by its column's name; in records the history is named, not placed."""
    study, eps, attacks = plan.study, plan.eps, plan.attacks
    grid = Grid(rates=study.rates, epochs=study.tuning_epochs, patience=2, limit=study.limit)
    # Methods that attack in every step cost several times as much.
    searched = replace(grid, optimisers=("adam",))
    dare = DARE(history=history, grid=grid)
    online: dict[str, Any] = {"grid": searched, "held_out": dare.held_out, "judged": 256}
    known: dict[str, Repair] = {
        OURS: dare,
        JUDGED: replace(dare, judge=attacks["FGSM"]),
        "DARE_-s": replace(dare, slicing=False),
        "DARE_-sl": replace(dare, slicing=False, loss="classification"),
        "DARE_rand": replace(dare, tutors="random"),
        "PGD training": PGDTraining(eps=eps, steps=5, **online),
        "TRADES": TRADES(eps=eps, steps=5, step_size=eps / 2, **online),
    }
    for attack in ATTACKS:
        known[attack] = AdversarialTuning(attack=attacks[attack], grid=grid)
    if name.startswith("q="):
        return replace(dare, q=float(name[2:]))
    return known[name]


@cache
def repaired(name: str, plan: DarePlan) -> RepairResult:
    """The method's result on the subject; within a run its settings are tuned once."""
    subject = prepared(plan)
    way, told = method(name, plan, history=str(subject.folder)), repr(method(name, plan))
    stream = METHODS if plan.seed == 0 else METHODS.child(plan.seed)
    with shelf.shared(f"{told} {plan.seed} {identity(subject.model, subject.looked)}") as engine:
        return repair(subject.model, subject.looked, way, generator=stream, engine=engine)


def measure(name: str, plan: DarePlan, stream: Stream) -> list[Row]:
    """One column of Tables 2 to 5: the method's model on clean and on transferred images."""
    subject, started = prepared(plan), time.perf_counter()
    facts: dict[str, Any] = {
        "status": "as trained",
        "method": plan.network,
        "train_seconds": round(subject.seconds, 3),
    }
    if name != ORIGINAL:
        facts = _facts(name, plan, repaired(name, plan))
    model = _model(name, plan)
    facts |= {"seed": plan.seed, "repair_seconds": round(time.perf_counter() - started, 3)}
    rows = [{"what": "method", "name": name, **facts, **clean_counts(model, plan)}]
    for attack in ATTACKS:
        found = transferred(plan, attack)
        rows.append(
            {
                "what": "transferred",
                "name": name,
                "seed": plan.seed,
                "attack": attack,
                "n": len(found.batch),
                "right": right(model, found.batch),
                "tried": found.tried,
                "seconds": round(found.seconds, 3),
            }
        )
    return rows


def measure_adaptive(name: str, plan: DarePlan, stream: Stream) -> list[Row]:
    """What an attacker who has the method's own model leaves of it; AutoAttack is a part of it."""
    started = time.perf_counter()
    found = _counts(_original(plan)) if name == ORIGINAL else left_of(_model(name, plan), plan)
    spent = round(time.perf_counter() - started, 3)
    return [{"what": "adaptive", "name": name, "seed": plan.seed, **found, "seconds": spent}]


def left_of(model: nn.Module, plan: DarePlan) -> dict[str, Any]:
    """What an attacker who has a model leaves of it, in counts of test images."""
    found = what_is_left(
        model,
        prepared(plan).dataset.test.batch(plan.study.autoattack),
        PGD(eps=plan.eps),
        undefended=prepared(plan).model,
        before=_original(plan),
    )
    return _counts(found)


@cache
def _original(plan: DarePlan) -> Left:
    subject = prepared(plan)
    batch = subject.dataset.test.batch(plan.study.autoattack)
    return what_is_left(subject.model, batch, PGD(eps=plan.eps))


def _counts(found: Left) -> dict[str, Any]:
    alone = min(one.right for one in found.tries if one.attack.startswith("AutoAttack"))
    return {
        "n": found.n,
        "clean_right": round(found.clean),
        "autoattack": round(alone),
        "right": round(found.right),
        "tries": found.row()["tries"],
    }


def _model(name: str, plan: DarePlan) -> nn.Module:
    if name == ORIGINAL:
        return prepared(plan).model
    return repaired(name, plan).model


def _facts(name: str, plan: DarePlan, result: RepairResult) -> dict[str, Any]:
    trace = result.trace
    facts = {
        "status": result.status.name.lower(),
        "method": repr(method(name, plan)),
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
        facts |= {key: trace["search"][key] for key in ("before", "chosen", "settings")}
    return facts


def right(model: nn.Module, batch: Batch) -> int:
    """How many of a batch the model gets right."""
    return int((in_pieces(model, batch.images).argmax(1) == batch.labels).sum())


def clean_counts(model: nn.Module, plan: DarePlan) -> dict[str, int]:
    """Clean accuracy on the whole test set, in counts."""
    counts = [(right(model, b), len(b)) for b in prepared(plan).dataset.test.batches(1000)]
    return {"test_right": sum(r for r, _ in counts), "test_n": sum(n for _, n in counts)}
