"""Invented records: the numbers mean nothing, their arithmetic is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from suture.evaluate.records import Kind, Record

N = 200
Records = list[Record]


def threat(eps: float = 0.15, queries: int | None = 1000) -> dict[str, Any]:
    """A black-box threat in L∞."""
    return {"norm": "linf", "eps": eps, "queries": queries, "knowledge": "black-box"}


def attack(name: str, **parameters: Any) -> dict[str, Any]:
    """What a record says of an attack."""
    return {"name": name, "parameters": parameters}


def record(role: str, name: str, right: int, **kwargs: Any) -> Record:
    """A record on 200 images: robust accuracy under that attack unless said otherwise."""
    base = Record(
        role=role,
        kind=Kind.ATTACK,
        metric="robust accuracy",
        protocol="paper",
        right=right,
        n=N,
        seed=7,
        attack=attack(name),
        defence="DefEnSyn(k=30)" if role == "defended" else "none",
        threat=threat(),
        versions={"suture": "0.1.0", "torch": "2.9.0"},
        hardware={"processor": "test", "cores": 2, "threads": 2, "gpu": None},
    )
    return replace(base, **kwargs)


def clean(role: str, right: int) -> Record:
    """Accuracy without an attack."""
    none = {"kind": Kind.CLEAN, "metric": "clean accuracy", "protocol": "none"}
    return record(role, "", right, attack={}, threat={}, **none)


def strongest(role: str, right: int, **kwargs: Any) -> Record:
    """The strongest candidate for each image."""
    of = {"name": "strongest", "parameters": {}, "of": ["Square", "PGD"]}
    return record(role, "", right, kind=Kind.STRONGEST, protocol="adaptive", attack=of, **kwargs)


def spent(right: int, start_wrong: int, most: int = 1000) -> list[int | None]:
    """Query counts of 200 images: some wrong from the start, the rest beaten one after another."""
    beaten = N - right - start_wrong
    found = np.geomspace(2, most, num=max(beaten, 1)).round().astype(int).tolist()[:beaten]
    return [0] * start_wrong + found + [None] * right


def by_class(right: int) -> list[list[int]]:
    """The same count spread unevenly over ten classes of 20."""
    counts = [min(20, max(0, right // 10 + (i % 5 - 2) * 2)) for i in range(10)]
    return [[count, 20] for count in counts]


def defended_run(paper: int = 154, adaptive: int = 62, before: int = 4) -> Records:
    """Clean, paper and adaptive rows of an undefended and a defended classifier."""
    return [
        clean("undefended", 194),
        clean("defended", 191),
        record(
            "undefended",
            "Square",
            before,
            queries=spent(before, 6),
            per_class=by_class(before),
        ),
        record(
            "defended",
            "Square",
            paper,
            queries=spent(paper, 9),
            per_class=by_class(paper),
        ),
        record(
            "defended",
            "Square",
            adaptive,
            protocol="adaptive",
            queries=spent(adaptive, 9, 10000),
            per_class=by_class(adaptive),
            threat=threat(queries=10000),
            draws=10,
        ),
    ]


def curve() -> Records:
    """Points of accuracy against radius for all three series."""
    points = []
    for eps, undefended, paper, adaptive in (
        (0.05, 120, 182, 160),
        (0.1, 40, 170, 104),
        (0.15, 4, 154, 62),
        (0.2, 0, 120, 20),
    ):
        for subject, protocol, right in (
            ("undefended", "paper", undefended),
            ("defended", "paper", paper),
            ("defended", "adaptive", adaptive),
        ):
            own = {"protocol": protocol, "threat": threat(eps), "kind": Kind.CURVE}
            points.append(record(subject, "Square", right, **own))
    return points


def full_run() -> Records:
    """Everything a run can hold: repeats, sanity rows, a failed check, curves."""
    repeats = [
        record("defended", "SPSA", right, protocol="adaptive", repeat=i)
        for i, right in enumerate((82, 90, 86))
    ]
    sanity = {"protocol": "sanity"}
    unbounded = record(
        "defended",
        "PGD",
        30,
        kind=Kind.UNBOUNDED,
        threat=threat(float("inf")),
        warnings=["Unbounded radius leaves 15 % right instead of about 0 %: gradient masking."],
        **sanity,
    )
    checks = [
        record("undefended", "RandomNoise", 190, kind=Kind.NOISE, **sanity),
        record("defended", "RandomNoise", 188, kind=Kind.NOISE, **sanity),
        replace(
            unbounded, role="undefended", subject="undefended", defence="none", right=0, warnings=[]
        ),
        unbounded,
    ]
    return [*defended_run(), *repeats, strongest("defended", 31), *checks, *curve()]


def info(**changes: Any) -> dict[str, Any]:
    """The content of ``run.json``."""
    base: dict[str, Any] = {
        "schema": 1,
        "kind": "demo",
        "title": "Digits, repaired with DefEnSyn",
        "command": "suture demo --seed 7 --out runs/demo",
        "seed": 7,
        "created": "2025-01-02T03:04:05+00:00",
        "finished": "2025-01-02T03:06:11+00:00",
        "seconds": 126.4,
        "versions": {"suture": "0.1.0", "torch": "2.9.0", "python": "3.11.7"},
        "hardware": {"processor": "test processor", "cores": 2, "threads": 2, "gpu": None},
        "parts": {
            "model": "zoo('digits-conv')",
            "data": "digits(split='test', n=200)",
            "attack": "Square(eps=0.15, queries=1000)",
            "repair": "DefEnSyn(k=30, lambda_=1.0, lengths=10)",
        },
        "status": "finished",
    }
    return {**base, **changes}


def programs(count: int = 30) -> dict[str, Any]:
    """Synthetic programs in the format of ``artifacts/programs.json``."""
    entries = [
        {
            "text": f"v{i} = v{100 + i} + 3.267; v{136} = v2 / v{51 + i}",
            "score": 1300.5 - i,
            "adversarial_right": 600 - i,
            "clean_right": 700,
            "length": 2,
            "writes": [i, 136],
            "reads": [100 + i, 2, 51 + i],
        }
        for i in range(count)
    ]
    return {"kind": "defensyn", "features": 512, "lambda": 1.0, "programs": entries, "samples": 750}


def trace() -> dict[str, Any]:
    """A synthesis of five lengths."""
    return {
        "lengths": [
            {
                "length": i,
                "programs": 100000,
                "discarded": 120 * i,
                "best": 1200 + 60 * i - 5 * i * i,
                "top_k_sum": 36000 + 900 * i,
                "entropy_left": 6.2 - 0.9 * i,
                "entropy_right": 6.2 - 0.4 * i,
                "seconds": 1.5 * i,
            }
            for i in range(1, 6)
        ]
    }


def save_examples(path: Path, count: int = 6, channels: int = 1, side: int = 8) -> None:
    """Blobs that move a little, with invented predictions."""
    rng = np.random.default_rng(0)
    images = rng.random((count, channels, side, side), dtype=np.float32)
    noise = rng.choice([-0.15, 0.15], images.shape).astype(np.float32)
    labels = np.arange(count) % 10
    np.savez(
        path,
        clean=images,
        adversarial=np.clip(images + noise, 0, 1),
        labels=labels,
        predicted_clean=labels,
        predicted_adversarial=(labels + 3) % 10,
        predicted_defended=np.where(labels % 3 == 0, (labels + 1) % 10, labels),
    )
