"""Beyond the paper: does the past help against attacks when it is asked about attacked images?

All ways see the same images and may take as many passes through the network as the extension.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from suture.models import identity
from suture.repairs import PGDTraining, Repair, repair
from suture.repairs.baselines import AdversarialTuning
from suture.repairs.dare import DARE, Grid
from suture.repairs.dare.attacked import mean_of
from suture.repairs.dare.collecting import collect
from suture.repairs.dare.graph import sliceable
from suture.repairs.dare.memory import from_history
from suture.repairs.dare.regression import watch
from suture.report.table import Row
from suture.rng import Stream
from suture.studies import shelf
from suture.studies.dare import methods
from suture.studies.dare.subject import AllSteps, DarePlan, prepared

STEPS, EPOCHS, FORWARD, BACKWARD = 5, 6, 1, 2
"""Of the attack within tuning; passes over the images for each setting; cost of a pass."""
PLAIN, MEAN, FGSM, TRAINED = "DARE", "mean of the tutors", "FGSM tuning", "PGD training"
ASKED: dict[str, dict[str, Any]] = {
    "asked, last layer but one": {"p": 1},
    "asked, a layer deeper": {"p": 2},
    "asked, logits": {"p": 0},
    "as the clean one, last layer but one": {"p": 1, "asked": "clean"},
    "as the clean one, logits": {"p": 0, "asked": "clean"},
    "as the clean one, no history": {"p": 1, "asked": "clean"},
}
"""The extension: who is asked (the attacked image or the clean one), and the layer watched."""
WAYS = (PLAIN, *ASKED, MEAN, FGSM, TRAINED)


@dataclass(frozen=True)
class EqualPasses:
    """What the extension costs, in forwards of one image (a backward is two).

    Attributes:
        images: tuned on. tutors: past selves. settings: tried.
    """

    images: int
    tutors: int
    settings: int

    @property
    def passes(self) -> int:
        """Of the tuning: in every epoch the attack, all tutors, and a step on two images."""
        attack = STEPS * (FORWARD + BACKWARD)
        asked = (1 + self.tutors + 1) * FORWARD
        return self.settings * EPOCHS * self.images * (attack + asked + 2 * (FORWARD + BACKWARD))

    def fgsm_epochs(self) -> int:
        """Epochs of tuning on made images and as many clean ones, for each setting."""
        epoch = 2 * self.images * (FORWARD + BACKWARD)
        return max(1, round(self.passes / self.settings / epoch))

    def training_epochs(self, steps: int) -> int:
        """Epochs of adversarial training, which has one setting."""
        return max(1, round(self.passes / (self.images * (steps + 1) * (FORWARD + BACKWARD))))


def way(name: str, plan: DarePlan, history: str = "history", tutors: int = 1) -> Repair:
    """A way by its name; in records the history is named, not placed."""
    study, eps = plan.study, plan.eps
    grid = _grid(plan, EPOCHS)
    dare = DARE(history=history, grid=grid)
    budget = EqualPasses(round(study.looked * (1 - dare.held_out)), tutors, len(study.rates))
    if name in ASKED:
        attack = AllSteps(eps=eps, steps=STEPS, step_size=eps / 2)
        # Without a history the last epoch alone is asked.
        share = 1 / study.epochs if name.endswith("no history") else dare.share
        given: dict[str, Any] = {"adversary": attack, "share": share, **ASKED[name]}
        return replace(dare, **given)
    if name == FGSM:
        grid = _grid(plan, budget.fgsm_epochs())
        return AdversarialTuning(attack=plan.attacks["FGSM"], grid=grid)
    if name == TRAINED:
        trained = PGDTraining(eps=eps, held_out=dare.held_out, limit=study.limit, warm_up=0.0)
        return replace(trained, epochs=budget.training_epochs(trained.steps))
    return dare


def _grid(plan: DarePlan, epochs: int) -> Grid:
    """The study's rates with Adam, all epochs taken."""
    rates, limit = plan.study.rates, plan.study.limit
    return Grid(optimisers=("adam",), rates=rates, epochs=epochs, patience=epochs, limit=limit)


def measure(name: str, plan: DarePlan, stream: Stream) -> list[Row]:
    """One way: clean accuracy, what an attacker who has its model leaves, and what it was told."""
    started = time.process_time()
    model, facts = _made(name, plan)
    facts["cpu_seconds"] = round(time.process_time() - started, 1)
    found = methods.left_of(model, plan)
    return [
        {"what": "earning", "name": name, **facts, **found, **methods.clean_counts(model, plan)}
    ]


def _made(name: str, plan: DarePlan) -> tuple[nn.Module, dict[str, Any]]:
    subject = prepared(plan)
    tutors = len(from_history(str(subject.folder), 0.5).states)
    if name == MEAN:
        return _mean(plan), {"status": "averaged"}
    told = repr(way(name, plan, tutors=tutors))
    method = way(name, plan, str(subject.folder), tutors)
    with shelf.shared(f"{told} {identity(subject.model, subject.looked)}") as engine:
        result = repair(
            subject.model, subject.looked, method, generator=methods.METHODS, engine=engine
        )
    names = ("attacked_before", "attacked_after", "effective_tutors", "distinct_tutors", "own_best")
    facts = {key: result.trace[key] for key in names if key in result.trace}
    return result.model, {"status": result.status.name.lower(), "method": told, **facts}


def _mean(plan: DarePlan) -> nn.Module:
    """The past selves' weights, averaged by how many images each taught."""
    subject = prepared(plan)
    memory = from_history(str(subject.folder), 0.5)
    node = watch(sliceable(subject.model, subject.looked.shape), 1).node
    found = collect(subject.model, memory, subject.looked, node)
    return mean_of(memory, found.tutors.bincount(minlength=len(memory.states)), subject.model)
