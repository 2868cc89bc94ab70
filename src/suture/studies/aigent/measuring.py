"""What the AIGENT studies share: images, attacks, and one row of Table I."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suture import data
from suture.attacks import (
    AIGENT,
    FGSM,
    JSMA,
    PGD,
    Attack,
    AutoAttack,
    DeepXplore,
    DLFuzz,
    SparseRS,
)
from suture.attacks.aigent import Finding, SearchOutcome
from suture.evaluate.naturalness import changes, frechet, pielou
from suture.report.table import Row
from suture.rng import Stream
from suture.studies.networks import in_pieces
from suture.types import Batch

SHOWN = 5
OURS, DIRECT, ALONE = "AIGENT", "AIGENT, no patches", "patches alone"
BY_CLASS = "AIGENT, linear bounds a class"


def first_of_each(split: data.Split, per_class: int) -> Batch:
    """The first images of every class, in the order of the data set."""
    seen: Counter[int] = Counter()
    chosen = []
    for row, label in enumerate(split.labels.tolist()):
        if seen[label] < per_class:
            seen[label] += 1
            chosen.append(row)
    return split.select(torch.tensor(chosen)).batch()


def right(model: nn.Module, batch: Batch) -> Batch:
    """The images that a model classifies as their label."""
    said = in_pieces(model, batch.images).argmax(1)
    return batch[(said == batch.labels).nonzero()[:, 0]]


def rivals(
    eps: float, fast: float, pixels: int, queries: int, beside: tuple[str, ...] = ()
) -> dict[str, Attack]:
    """What AIGENT is compared with, at the paper's radii.

    Args:
        eps, fast: L∞ radius, and FGSM's.
        pixels, queries: of Sparse-RS.
        beside: the other networks of DeepXplore.
    """
    return {
        "FGSM": FGSM(eps=fast),
        "PGD": PGD(eps=eps),
        "JSMA": JSMA(),
        "Sparse-RS": SparseRS(eps=pixels, queries=queries),
        "AutoAttack": AutoAttack(eps=eps),
        "DLFuzz": DLFuzz(eps=eps),
        "DeepXplore": DeepXplore(eps=eps, beside=beside),
    }


SEARCHES = {
    OURS: AIGENT(),
    DIRECT: AIGENT(patches=False),
    "AIGENT, own phases": AIGENT(chain="own"),
    "AIGENT, the paper's chain": AIGENT(chain="paper"),
    "AIGENT, linear bounds": AIGENT(patches=False, bounds=0.05),
    BY_CLASS: AIGENT(patches=False, bounds=0.05),
}
"""AIGENT's own rows of Table I."""


def measured(
    what: str,
    radii: tuple[float, float, int],
    model: nn.Module,
    batch: Batch,
    stream: Stream,
    beside: tuple[str, ...] = (),
    references: Batch | None = None,
) -> list[Row]:
    """One attack on the images that the model gets right; every success by a plain forward.

    Args:
        what: a key of ``SEARCHES`` or ``rivals``.
        radii: L∞, FGSM's, pixels of Sparse-RS.
        beside: other networks, for DeepXplore.
        references: training images, for bounds a class.
    """
    good = right(model, batch)
    facts: Row = {"n": len(good), "wrong": len(batch) - len(good)}
    if what in SEARCHES:
        known = references if what == BY_CLASS else None
        return _searched(what, SEARCHES[what], model, good, facts, known)
    attack = rivals(*radii, queries=1000, beside=beside)[what]
    started = time.process_time()
    images = attack(model, good, generator=stream).images
    spent = round((time.process_time() - started) / len(good), 6)
    facts |= {"attack": repr(attack), "cpu_seconds_mean": spent}
    return [{"what": what, **facts, **judged(model, good, images)}]


def _searched(
    what: str,
    attack: AIGENT,
    model: nn.Module,
    good: Batch,
    facts: dict[str, Any],
    references: Batch | None,
) -> list[Row]:
    findings = attack.findings(model, good, references=references)
    images = torch.stack([torch.from_numpy(one.image).float() for one in findings])
    times = {
        "seconds": np.array([one.seconds for one in findings]),
        "cpu_seconds": np.array([one.cpu_seconds for one in findings]),
    }
    facts = facts | {"attack": repr(attack)}
    facts |= {
        f"{name}_{what}": round(float(measure(values)), 5)
        for name, values in times.items()
        for what, measure in (("mean", np.mean), ("median", np.median), ("max", np.max))
    }
    facts |= {
        "programs_median": float(np.median([one.programs for one in findings])),
        "by_patches": sum(one.origin == "patches" for one in findings),
        "claimed": sum(one.outcome is SearchOutcome.FOUND for one in findings),
    }
    rows = [{"what": what, **facts, **judged(model, good, images)}]
    if attack.patches:
        alone = ALONE + what.removeprefix(OURS)
        rows.append({"what": alone, "n": len(good), "wrong": facts["wrong"], **_alone(findings)})
    return rows


def _alone(findings: list[Finding]) -> dict[str, Any]:
    """How far the imitated patches come before anything is repaired or saved."""
    pixels = [one.imitated for one in findings if one.imitated >= 0]
    some = {"pixels_median": float(np.median(pixels)), "pixels_max": max(pixels)} if pixels else {}
    return {
        "found": len(pixels),
        "attack": "as AIGENT, before repairs and polishing",
        **some,
        **_chains(findings),
    }


def _chains(findings: list[Finding]) -> dict[str, Any]:
    """What became of the patches, step by step."""
    chains = [one.chain for one in findings if one.chain is not None]
    facts: dict[str, Any] = {
        "chains": len(chains),
        "chains_met": sum(one.status.found for one in chains),
        "own_phases": sum(one.own for one in chains),
        "impossible": sum(one.impossible for one in chains),
        "patched_errs": sum(one.errs for one in chains),
        "imitates": sum(one.imitates for one in chains),
        "steps": [],
    }
    for layer in sorted({step[0] for one in chains for step in one.layers}, reverse=True):
        steps = [step for one in chains for step in one.layers if step[0] == layer]
        facts["steps"].append(
            {
                "layer": layer,
                "tried": len(steps),
                "met": sum(not missed for _, _, missed in steps),
                "largest_median": float(np.median([size for _, size, _ in steps])),
            }
        )
    return facts


def judged(model: nn.Module, clean: Batch, images: Tensor) -> dict[str, Any]:
    """Found, changed, natural and even: by a forward in the model's own precision."""
    logits = in_pieces(model, images)
    said = logits.argmax(1)
    hits = (said != clean.labels).nonzero()[:, 0]
    inside = bool((images >= 0).all() and (images <= 1).all())
    facts: dict[str, Any] = {"found": len(hits), "inside": inside}
    if len(hits) < 2:
        return facts
    before, after = clean.images[hits], images[hits]
    facts |= {key: round(value, 5) for key, value in changes(before, after).items()}
    facts |= {
        "frechet": round(frechet(before, after), 6),
        "pielou": round(pielou(said[hits], logits.shape[1]), 4),
        "shown": _shown(before, after, clean.labels[hits], said[hits]),
    }
    return facts


def _shown(before: Tensor, after: Tensor, labels: Tensor, said: Tensor) -> list[dict[str, Any]]:
    """The first pairs as bytes: for the page."""
    pairs = zip(before[:SHOWN], after[:SHOWN], labels, said, strict=False)
    return [
        {
            "shape": list(one.shape),
            "clean": (one * 255).round().int().flatten().tolist(),
            "attacked": (other * 255).round().int().flatten().tolist(),
            "changed": (one != other).any(0).flatten().nonzero()[:, 0].tolist(),
            "label": int(label),
            "said": int(answer),
        }
        for one, other, label, answer in pairs
    ]
