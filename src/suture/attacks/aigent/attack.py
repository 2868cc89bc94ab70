"""AIGENT as an attack: patch the network, then find the input that imitates the patch.

Khan, Madhukar & Sharma, "Efficient Adversarial Input Generation via Neural Net Patching".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from suture.attacks.aigent.goals import Marking
from suture.attacks.aigent.imitate import summary
from suture.attacks.aigent.network import LayeredNetwork, Precision
from suture.attacks.aigent.search import Finding, SearchOutcome, search
from suture.attacks.aigent.task import Settings
from suture.attacks.base import ATTACKS, Attack, require
from suture.attacks.oracle import Oracle
from suture.engine import Engine, Inline, Processes
from suture.engine.threads import torch_threads
from suture.rng import bits
from suture.solvers import SOLVERS
from suture.types import Batch, Norm, OnDone, is_randomised

_DRAWS = 7
_FIRMER = 100.0


@ATTACKS.add("aigent")
@dataclass(frozen=True, kw_only=True)
class AIGENT(Attack):
    """Smallest weight patches from the middle layer to the first, and the input that imitates them.

    With phases fixed to the input's a ReLU network is affine. A patch of the middle layer that
    reaches the target is a linear program; the values it gives that layer are the next target,
    for the network that ends there, down to the first layer. The input is then the sparsest one
    inside [0, 1] that gives the first layer the values of its patch. Where the true network
    disagrees the phases that were broken become rows, or the phases of the new input are assumed
    in their place, and the program is solved again. In the end pixels that are not needed go back.

    Fully connected layers at the end of an ``nn.Sequential`` are patched (convolutions before
    them are followed with their phases fixed); any other differentiable classifier is attacked
    through the affine map of its phases alone, smooth activations by their tangents. Queries
    count the attacked model's forwards; what a float64 copy of it answers is in ``findings``.

    Args:
        patches: begin with the paper's patches; without them the whole network's phases are used.
        chain: how targets of patches are chosen. "joint": among those that the layers before can
            reach, in phases in which the whole chain is possible. "own": likewise, in the input's
            phases. "paper": each patch alone, in the input's phases.
        marking: which way a neuron may leave its target. "split": marks along every weight, an
            equation for neurons that are marked both ways (Elboher et al. 2020). "sign": one mark
            by the sign of the weighted sum. "off": equations.
        relaxed: a patched layer's values become bounds along the marks rather than equations.
        method: "lp" for the linear relaxation, "milp" to minimise the number of pixels exactly in
            the assumed phases; use the latter with ``seconds``.
        margin: by how much the target's logit must win.
        max_change: largest change of a channel's value.
        channels: colour channels of a pixel move and count "together", or "apart".
        classes: how many wrong classes an untargeted attack aims at, the likeliest first, until
            one is reached.
        phases: assignments of phases that are tried, from each beginning.
        repairs: programs in one assignment of phases, each with the rows that the last one broke.
        polish: rounds of programs that save pixels in the phases of what was found.
        candidates: single pixels that are tried by the network's own answer, where programs need
            more than ``enough`` pixels or fail; 0 for none.
        enough: number of pixels with which programs are left in peace.
        bounds: radius of a box around the input on which linear (DeepPoly) bounds take the place
            of phases in the programs on the whole network; 0 for phases.
        salient: pixels that may move, at most: those that help most by the gradient at the image;
            0 for all. For large images, of which a few thousand pixels are enough.
        precision: of values and derivatives; "single" for large images, where it takes a fraction
            of the time. Programs are solved in float64 either way.
        solver: "highs", "gurobi" or "scip".
        workers: processes that share the images; results do not depend on it.
    """

    norm: Norm = "l0"
    eps: float = math.inf
    patches: bool = True
    chain: Literal["joint", "own", "paper"] = "joint"
    marking: Marking = "split"
    relaxed: bool = True
    method: Literal["lp", "milp"] = "lp"
    margin: float = 1e-3
    max_change: float = 1.0
    channels: Literal["together", "apart"] = "together"
    classes: int = 1
    phases: int = 4
    repairs: int = 8
    polish: int = 4
    candidates: int = 48
    enough: int = 6
    bounds: float = 0.0
    salient: int = 0
    precision: Precision = "double"
    solver: str = "highs"
    workers: int = 1

    norms: ClassVar[tuple[Norm, ...]] = ("l0",)
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.method in ("lp", "milp"), 'method "lp" or "milp"', f"{self.method!r}")
        together = self.channels in ("together", "apart")
        require(together, 'channels "together" or "apart"', f"channels={self.channels!r}")
        chains, marks = ("joint", "own", "paper"), ("split", "sign", "off")
        require(self.chain in chains, 'chain "joint", "own" or "paper"', f"{self.chain!r}")
        require(self.marking in marks, 'marking "split", "sign" or "off"', f"{self.marking!r}")
        require(self.solver in SOLVERS, f"a solver out of {', '.join(SOLVERS)}", self.solver)
        precise = self.precision in ("double", "single")
        require(precise, 'precision "double" or "single"', f"{self.precision!r}")
        require(self.margin > 0, "margin > 0", f"margin={self.margin!r}")
        require(0 < self.max_change <= 1, "max_change in (0, 1]", f"{self.max_change!r}")
        require(0 <= self.bounds <= 1, "bounds in [0, 1]", f"bounds={self.bounds!r}")
        for name, least in (
            ("classes", 1),
            ("phases", 1),
            ("repairs", 1),
            ("workers", 1),
            ("polish", 0),
            ("candidates", 0),
            ("salient", 0),
            ("enough", 0),
        ):
            value = getattr(self, name)
            require(value >= least, f"{name} >= {least}", f"{name}={value!r}")

    def run(self, oracle: Oracle, images: Tensor, rows: Tensor) -> Tensor:
        if self.eps == 0:
            return images
        found, todo, margin = images.clone(), torch.arange(len(images)), self.margin
        for _ in range(2):
            goals = oracle.goals[rows[todo]].tolist()
            noise = self._noise(oracle, rows[todo])
            model, given = oracle.model, images[todo]
            findings = self._search(model, given, goals, oracle.targeted, noise, margin)
            oracle.notes.extend(_notes(findings))
            hits = [i for i, one in enumerate(findings) if one.outcome is SearchOutcome.FOUND]
            if not hits:
                break
            new = torch.stack([torch.from_numpy(findings[i].image).to(images) for i in hits])
            todo = todo[hits]
            found[todo] = new
            reached = oracle.finished(oracle.logits(new, rows[todo]), rows[todo]).cpu()
            # float32 saw it otherwise than float64: once more, by a clearer margin.
            todo, margin = todo[~reached], self.margin * _FIRMER
            if not len(todo):
                break
        return found

    def findings(
        self,
        model: nn.Module,
        batch: Batch,
        *,
        targets: Tensor | None = None,
        references: Batch | None = None,
        engine: Engine | None = None,
        on_progress: OnDone | None = None,
    ) -> list[Finding]:
        """What the search found for each image, with times, bounds and gaps.

        For images that the model classifies as their label; others are searched all the same.

        Args:
            model: images to logits; not randomised.
            batch: images and their classes.
            targets: int64 ``(n,)``, classes to reach, ``None`` for untargeted.
            references: images of the classes: with ``bounds`` one set of linear bounds a class,
                round the mean of its images, takes the place of one round each image.
            engine: spreads the images; ``workers`` processes if left out.
            on_progress: called as ``on_progress(finished, n)``.
        """
        goals = (batch.labels if targets is None else targets).tolist()
        return self._search(
            model,
            batch.images,
            goals,
            targets is not None,
            None,
            self.margin,
            engine,
            on_progress,
            _centres(references),
        )

    def _search(
        self,
        model: nn.Module,
        images: Tensor,
        goals: list[int],
        targeted: bool,
        noise: list[Tensor] | None,
        margin: float,
        engine: Engine | None = None,
        on_progress: OnDone | None = None,
        centres: dict[int, np.ndarray] | None = None,
    ) -> list[Finding]:
        arrays = images.detach().cpu().double().numpy()
        settings = self._settings(margin)
        network = None if noise else LayeredNetwork(model, precision=self.precision)
        if network is not None:
            network.centres |= centres or {}
        work = partial(_one, network, model, targeted, self.classes, self.precision, settings)
        items = list(zip(arrays, goals, noise or repeat(None, len(goals)), strict=True))
        if engine is not None:
            return engine.map(work, items, on_done=on_progress)
        many = self.workers > 1 and len(items) > 1
        with Processes(self.workers) if many else Inline() as made, torch_threads(1):
            return made.map(work, items, on_done=on_progress)

    def _settings(self, margin: float) -> Settings:
        return Settings(
            patches=self.patches,
            chain=self.chain,
            marking=self.marking,
            relaxed=self.relaxed,
            method=self.method,
            margin=margin,
            max_change=self.max_change,
            limit=self.eps,
            together=self.channels == "together",
            phases=self.phases,
            repairs=self.repairs,
            polish=self.polish,
            candidates=self.candidates,
            enough=self.enough,
            bounds=self.bounds,
            salient=self.salient,
            solver=self.solver,
            seconds=self.seconds,
        )

    def _noise(self, oracle: Oracle, rows: Tensor) -> list[Tensor] | None:
        """For a randomised model: the draws that each image's search is about."""
        if not is_randomised(oracle.model):
            return None
        return [
            torch.stack([bits(oracle.keys[row], _DRAWS, d) for d in range(self.eot)]).cpu()
            for row in rows
        ]


def _centres(references: Batch | None) -> dict[int, np.ndarray]:
    """The mean image of every class, float64."""
    if references is None:
        return {}
    images, labels = references.images.cpu().double(), references.labels.cpu()
    return {int(c): images[labels == c].mean(0).numpy() for c in labels.unique()}


def _one(
    network: LayeredNetwork | None,
    model: nn.Module,
    targeted: bool,
    classes: int,
    precision: Precision,
    settings: Settings,
    item: tuple[np.ndarray, int, Tensor | None],
) -> Finding:
    image, goal, noise = item
    net = network or LayeredNetwork(model, noise, precision)
    if targeted:
        label = int(net.logits(image[None])[0].argmax())
        return search(net, image, label, [goal], False, settings)
    return search(net, image, goal, _likeliest(net, image, goal, classes), True, settings)


def _likeliest(network: LayeredNetwork, image: np.ndarray, label: int, count: int) -> list[int]:
    """Wrong classes by their logit, the highest first."""
    order = np.argsort(-network.logits(image[None])[0], kind="stable")
    return [int(c) for c in order if c != label][:count]


def _notes(findings: Sequence[Finding]) -> list[str]:
    late = sum(one.outcome is SearchOutcome.OUT_OF_TIME for one in findings)
    notes = [f"AIGENT: {late} images: {SearchOutcome.OUT_OF_TIME.value}"] if late else []
    chains = [one.chain for one in findings if one.chain is not None]
    if chains:
        notes.append(f"AIGENT, patches: {summary(chains)}")
    return notes + list(dict.fromkeys(f"AIGENT: {note}" for one in findings for note in one.notes))
