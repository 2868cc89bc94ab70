"""DARE: tune a classifier towards its best remembered selves (Zhang et al., ASE 2022).

Slice it by class, look up in its training history which earlier model was right about an image
with more confidence, and tune the key synapses of the image's class until the key neurons of the
layer before the last say what they said then.

The paper measures it on adversarial images that were made on the original model. An attacker makes
them on the tuned one: read that column too.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from suture.attacks import Attack
from suture.attacks.spread import spread
from suture.data import Dataset, batch_of
from suture.errors import require
from suture.repairs.base import REPAIRS, Repair, Seen
from suture.repairs.context import Context
from suture.repairs.dare.attacked import AttackedFit
from suture.repairs.dare.collecting import Collected, Tutors, collect, wished
from suture.repairs.dare.fitting import RegressionFit
from suture.repairs.dare.graph import sliceable, units
from suture.repairs.dare.memory import Remembered, from_history, no_history, opened, retrained
from suture.repairs.dare.regression import Mask, Watch, masks, no_masks, watch
from suture.repairs.dare.slicing import slice_classes
from suture.repairs.dare.variety import variety
from suture.repairs.result import RepairResult, Status
from suture.repairs.tuning import Grid, accuracy, halves, search
from suture.training import History
from suture.training.loop import fingerprint
from suture.types import Batch, LabelledImages


@REPAIRS.add("dare")
@dataclass(frozen=True, kw_only=True)
class DARE(Repair):
    """Delta debugging of a classifier against its own training history.

    The images given are those that DARE looks at: best are images that the model was not trained
    on (the paper's other half of the training set).

    Args:
        history: the folder that ``suture train`` remembers its epochs in, or the run's.
        share: of the remembered epochs, the last so many count (paper: the last t/2).
        retrain: where there is no history: train a copy on for so many epochs on half of the
            images, and remember that; the other half is looked at.
        retrain_rate: learning rate of that training.
        p: the layer to watch, counted back from the last one with weights (paper: 1).
        q: percent of the synapses that are key for a class (paper: 95).
        slicing: tune key synapses only; without, all of them (the paper's DARE_-s).
        loss: "regression" (Formula 3), or "classification": the cross entropy of the same images
            (with ``slicing=False`` the paper's DARE_-sl).
        tutors: "best" (Algorithm 1), or "random" images and tutors (DARE_rand).
        held_out: share of the images that chooses the setting and guards the accuracy.
        judge: choose the setting by accuracy under this attack (images made on the given model);
            ``None`` for the loss on held-out images, which needs no attack.
        adversary: beyond the paper: in every epoch the images are attacked by this on the model as
            it stands and tuned on too; such attacks on held-out images choose the setting.
        asked: with ``adversary``: the past is asked about the "attacked" image (tuned on are those
            on which some past self is right), or about the "clean" one.
        samples: images looked at, at most; ``None`` for all.
        grid: which settings are tried, and the limit of lost accuracy.

    Raises (when it is called):
        ArgumentError: no history, and no wish to make one.
        BundleError: a history that was altered, or of another architecture.
        ModelError: layers that slicing does not know.
        DataError: a class without images.
    """

    history: str | None = None
    share: float = 0.5
    retrain: int = 0
    retrain_rate: float = 1e-3
    p: int = 1
    q: float = 95.0
    slicing: bool = True
    loss: Literal["regression", "classification"] = "regression"
    tutors: Tutors = "best"
    held_out: float = 0.25
    judge: Attack | None = None
    adversary: Attack | None = None
    asked: Literal["attacked", "clean"] = "attacked"
    samples: int | None = None
    grid: Grid = field(default_factory=Grid)

    def __post_init__(self) -> None:
        checks = {
            "share in (0, 1]": 0 < self.share <= 1,
            "retrain >= 0": self.retrain >= 0,
            "history or retrain, not both": not (self.history is not None and self.retrain),
            "retrain_rate > 0": self.retrain_rate > 0,
            "p >= 0": self.p >= 0,
            "q in (0, 100]": 0 < self.q <= 100,
            'loss "regression" or "classification"': self.loss in ("regression", "classification"),
            'tutors "best" or "random"': self.tutors in ("best", "random"),
            'slicing=False where loss="classification"': not (
                self.slicing and self.loss == "classification"
            ),
            "held_out in (0, 1)": 0 < self.held_out < 1,
            "adversary or judge, not both": self.adversary is None or self.judge is None,
            'adversary with tutors="best"': self.adversary is None or self.tutors == "best",
            'asked "attacked" or "clean"': self.asked in ("attacked", "clean"),
            "samples >= 20, or None": self.samples is None or self.samples >= 20,
        }
        require(checks, self, "See the guide on DARE.")

    def seen(self, dataset: Dataset) -> Seen:
        """Validation images, which training has not seen, where there are any."""
        count = len(dataset.validation)
        if not count:
            return Seen(dataset.train)
        note = f"DARE looks at the {count} validation images: training saw the others"
        if self.history is not None and opened(self.history).data != fingerprint(dataset):
            note += "\nnote: the history was trained on other images than this data set's "
            note += "training split"
        return Seen(dataset.validation, note)

    def beside(self, folder: Path) -> DARE:
        """With the history that the model's training run holds, where none is told."""
        found = Path(folder) / "checkpoints"
        if self.history is not None or self.retrain or not History.exists(found):
            return self
        return replace(self, history=str(found))

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        if self.history is None and not self.retrain:
            raise no_history()
        stream, batch_size = context.stream, context.batch_size
        work = context.work(self, model, data)
        clock, model = _Clock(), copy.deepcopy(model).eval()
        looked, held, memory = self._look(model, data, context, work)
        clock.lap("history")
        place = watch(sliceable(model, data.shape), self.p)
        mask = self._mask(model, looked, context)
        clock.lap("slicing")
        pairs = [(looked, "tutors"), (held, "held")]
        found, judged = self._collect(model, memory, pairs, place, context)
        clock.lap("collection")
        trace = self._facts(memory, found, judged, place.layer, mask)
        if self.adversary is None and not (len(found) and len(judged)):
            return RepairResult(model, Status.UNCHANGED, trace | clock.trace())
        node = place.node if self.loss == "regression" else None
        plain = RegressionFit(node, mask, found, judged, None, batch_size)
        fit = self._fit(plain, model, memory, (looked, held), place, context)
        if isinstance(fit, AttackedFit):
            trace |= fit.told(model, "attacked_before", stream.child("told"))
        clock.lap("judge")
        result = search(
            model,
            fit,
            held,
            self.grid,
            stream=stream.child("tuning"),
            engine=context.engine,
            work=work,
            batch_size=batch_size,
            on_done=partial(context.tell, "settings"),
        )
        clock.lap("tuning")
        trace |= {"search": result.trace, **_after(result.model, found, batch_size)}
        if isinstance(fit, AttackedFit):
            trace |= fit.told(result.model, "attacked_after", stream.child("told"))
        return RepairResult(result.model, result.status, trace | clock.trace())

    def _collect(
        self,
        model: nn.Module,
        memory: Remembered,
        pairs: list[tuple[LabelledImages, str]],
        place: Watch,
        context: Context,
    ) -> list[Collected]:
        """Algorithm 1 over each batch, with its own random stream."""
        made = list[Collected]()
        for batch, name in pairs:
            context.tell("looking up tutors", len(made), len(pairs))
            made.append(
                collect(
                    model,
                    memory,
                    batch,
                    place.node,
                    tutors=self.tutors,
                    stream=context.stream.child(name),
                    batch_size=context.batch_size,
                )
            )
        context.tell("looking up tutors", len(made), len(pairs))
        return made

    def _look(
        self, model: nn.Module, data: LabelledImages, context: Context, work: str
    ) -> tuple[LabelledImages, LabelledImages, Remembered]:
        """Images to look at, held-out ones, and the historical models."""
        stream = context.stream
        if self.samples is not None and self.samples < len(data):
            data = halves(data, self.samples / len(data), stream.child("samples"))[1]
        if self.history is not None:
            memory = from_history(self.history, self.share)
        else:
            data, rest = halves(data, 0.5, stream.child("retraining half"))
            memory = retrained(
                model,
                rest,
                self.retrain,
                self.retrain_rate,
                stream.child("retraining"),
                context.engine,
                work,
                context.tell,
            )
        looked, held = halves(data, self.held_out, stream.child("held out"))
        return looked, held, memory

    def _mask(self, model: nn.Module, looked: LabelledImages, context: Context) -> Mask:
        graph = sliceable(model, looked.shape)
        place, classes = watch(graph, self.p), units(graph.network.out_shape)
        if not self.slicing:
            return no_masks(classes, units(graph.network.nodes[place.node].shape))
        slices = slice_classes(
            model,
            looked,
            q=self.q,
            batch_size=context.batch_size,
            on_done=partial(context.tell, "profiling"),
        )
        return masks(slices, place)

    def _fit(
        self,
        plain: RegressionFit,
        model: nn.Module,
        memory: Remembered,
        parts: tuple[LabelledImages, LabelledImages],
        place: Watch,
        context: Context,
    ) -> RegressionFit | AttackedFit:
        """What is tuned: clean images alone, or attacked ones too."""
        looked, held = parts
        if self.adversary is None:
            return self._judged(plain, model, held, context)
        looked, held = batch_of(looked), batch_of(held)  # their attacked images are held too
        stream, node, wishes = context.stream.child("attacked"), place.node, None
        if self.asked == "clean":
            wishes = wished(model, plain.tuning, looked, node, context.batch_size)
        return AttackedFit(plain, memory, node, wishes, self.adversary, looked, held, stream)

    def _judged(
        self,
        fit: RegressionFit,
        model: nn.Module,
        held: LabelledImages,
        context: Context,
    ) -> RegressionFit:
        """The fit with attacked held-out images, where an attack judges."""
        if self.judge is None:
            return fit
        held = batch_of(held)
        attacked = spread(
            self.judge,
            model,
            held,
            engine=context.engine,
            generator=context.stream.child("judge"),
            batch_size=context.batch_size,
            stage="judge",
        )
        judge = Batch(attacked.images, held.labels)
        return RegressionFit(fit.node, fit.mask, fit.tuning, fit.held, judge, context.batch_size)

    def _facts(
        self, memory: Remembered, found: Collected, held: Collected, layer: str, mask: Mask
    ) -> dict[str, Any]:
        counts = found.tutors.bincount(minlength=len(memory.states)).cpu()
        return {
            "samples": found.looked,
            "memory": memory.origin,
            "epochs": list(memory.epochs),
            "watched": layer,
            "key_neurons": mask.neurons.sum(1).tolist(),
            "neurons": mask.neurons.shape[1],
            "collected": len(found),
            "collected_wrong": found.wrong,
            "collected_held_out": len(held),
            "tutors": dict(zip(map(str, memory.epochs), counts.tolist(), strict=True)),
            **variety(counts, found.looked),
        }


def _after(model: nn.Module, found: Collected, batch_size: int) -> dict[str, Any]:
    """How many of the collected images the result gets right."""
    if found.batch is None:
        return {"collected_right": 0}
    return {"collected_right": round(accuracy(model, found.batch, batch_size) * len(found))}


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """The time since the last lap belongs to ``stage``."""
        now = time.perf_counter()
        self._laps[stage], self._started = round(now - self._started, 3), now

    def trace(self) -> dict[str, Any]:
        """The stages so far, and their sum."""
        return {"stages": dict(self._laps), "seconds": round(sum(self._laps.values()), 3)}
