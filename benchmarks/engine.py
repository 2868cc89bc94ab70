"""Synthesis and audit over workers, against the inline engine held to one thread.

The synthesis is DefEnSyn's search on 1 500 samples of 512 features; the audit is the quick plan on
the embedded digits. Workers are started before the clock, as a session starts them once; results
are the same to the bit. ``microseconds_per_item`` is the price of an item that does nothing.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Iterator

import numpy as np
import torch

import harness
import scoring
from suture import data, models
from suture.attacks import PGD, Square
from suture.engine import Engine, Inline, Processes, Ray
from suture.engine.threads import available_cores
from suture.evaluate import Plan, Subject, Tier, evaluate
from suture.repairs.defensyn.scoring import LinearProblem
from suture.repairs.defensyn.synthesis import SynthesisSearch
from suture.rng import Stream
from suture.training import TrainConfig, train

PROGRAMS, LENGTHS, CHUNK = 160_000, 2, 10_000
IMAGES, EMPTY, REPEATS = 240, 1_000, 3
ATTACK = Square(norm="linf", eps=0.2, queries=300)
PLAN = Plan(
    attack=ATTACK, eot=(1,), tier=Tier(steps=20), radii=(0.5,), also=(PGD(eps=0.1, steps=20),)
)


def rows() -> list[harness.Row]:
    """Two cases a backend, and the price of an empty item."""
    torch.set_num_threads(1)
    audit, synthesis = _Audit(), _Synthesis()
    found = [_empty("inline-empty", Inline())]
    for name, engine in _backends():
        with engine:
            for case, work in (("synthesis", synthesis), ("audit", audit)):
                found.append(_row(f"{name}-{case}", work, engine))
            found.append(_empty(f"{name}-empty", engine))
    return found


def _backends() -> Iterator[tuple[str, Engine]]:
    yield "processes", Processes()
    if importlib.util.find_spec("ray") is not None:
        yield "ray", Ray()


def _row(case: str, work: _Synthesis | _Audit, engine: Engine) -> harness.Row:
    alone = Inline(threads_per_item=1)
    assert work(engine) == work(alone), "the same bits"
    return harness.speedup(
        case,
        lambda: work(engine),
        lambda: work(alone),
        named="the inline engine, one thread",
        repeats=REPEATS,
        workers=engine.workers,
        cores=available_cores(),
    )


def _empty(case: str, engine: Engine) -> harness.Row:
    engine.map(abs, range(4 * engine.workers))
    times = [harness.seconds(lambda: engine.map(abs, range(EMPTY))) for _ in range(REPEATS)]
    seconds = statistics.median(times)
    price = round(1e6 * seconds / EMPTY, 1)
    return {"case": case, "seconds": round(seconds, 6), "microseconds_per_item": price}


class _Synthesis:
    """A search of two lengths; returns what it found."""

    def __init__(self) -> None:
        head, samples = scoring.case()
        self.problem = LinearProblem.of(head, samples)

    def __call__(self, engine: Engine) -> object:
        search = SynthesisSearch(
            scorer=self.problem.score, features=scoring.FEATURES, k=30, lambda_=1.0, improve=0.0,
            temperature=20.0, constants=(-30.0, 30.0), learned=True, stream=Stream(0), chunk=CHUNK,
        )  # fmt: skip
        best = search.lengths(LENGTHS, PROGRAMS, engine, None)
        return [(str(c.program), c.adversarial, c.clean) for c in best], np.sum(search.sums.left)


class _Audit:
    """An evaluation of a small trained network; returns the counts."""

    def __init__(self) -> None:
        digits = data.load("digits")
        model = models.build("digits_cnn", mean=digits.mean, std=digits.std, seed=0)
        trained = train(model, digits, config=TrainConfig(epochs=8), seed=0).model
        self.subject, self.batch = (
            Subject("undefended", trained, "digits"),
            digits.test.batch(IMAGES),
        )

    def __call__(self, engine: Engine) -> object:
        found = evaluate(
            [self.subject], self.batch, PLAN, data="digits", batch_size=60, engine=engine
        )
        return [(record.row, record.right, record.queries) for record in found.records]
