"""What the survival tests run: a synthesis and an audit, small and real, and what they compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from suture import data, models
from suture.attacks import PGD, Square
from suture.engine import Engine, Run
from suture.evaluate import Plan, Subject, Tier
from suture.models import fingerprint
from suture.pipeline import assess, repair
from suture.repairs import AdvRepair, DefEnSyn
from suture.testing.small import trained

ATTACK = Square(norm="linf", eps=0.2, queries=60)
METHOD = DefEnSyn(attack=ATTACK, samples=120, k=5, max_length=2, programs_per_length=160_000,
                  temperature=20.0, improve=0.5)  # fmt: skip
PATCHES = AdvRepair(attack=PGD(eps=0.1, steps=8), samples=80, patch="large", shared=0)
PLAN = Plan(
    attack=ATTACK, eot=(1,), tier=Tier(steps=8), radii=(0.5,), also=(PGD(eps=0.1, steps=8),)
)


def synthesis(folder: Path, engine: Engine | None, on_progress: Any = None) -> dict[str, Any]:
    """A repair of the small digits model; what must be the same to the bit."""
    dataset = data.load("digits")
    run = opened(folder, "repair")
    with run:
        repair(trained(), dataset, METHOD, run, seed=3, engine=engine, batch_size=30,
             on_progress=on_progress)  # fmt: skip
    run.finish()
    return repaired(folder)


def patches(folder: Path, engine: Engine | None, on_progress: Any = None) -> dict[str, Any]:
    """Patches and proofs for balls of the small digits model; what must be the same to the bit."""
    dataset = data.load("digits")
    run = opened(folder, "repair")
    with run:
        result = repair(trained(), dataset, PATCHES, run, seed=3, engine=engine, batch_size=10,
                      on_progress=on_progress)  # fmt: skip
    run.finish()
    return {"regions": result.trace["regions"], "weights": fingerprint(result.model),
            "margins": [certificate.margin for certificate in result.certificates]}  # fmt: skip


def audit(folder: Path, engine: Engine | None, on_progress: Any = None) -> dict[str, Any]:
    """An audit of the small digits model; what must be the same to the bit."""
    dataset = data.load("digits")
    run, batch = opened(folder, "audit"), dataset.test.batch(80)
    subject = Subject("undefended", trained(), "small")
    with run:
        assess([subject], batch, PLAN, dataset, run, seed=3, engine=engine, batch_size=20,
               on_progress=on_progress)  # fmt: skip
    run.finish()
    return audited(folder)


def opened(folder: Path, kind: str) -> Run:
    return Run.create(folder, kind=kind, title=kind, command="test", seed=3, options={})


def repaired(folder: Path) -> dict[str, Any]:
    """Weights' hash, programs and counts; no seconds."""
    trace = json.loads((folder / "artifacts" / "trace.json").read_text())
    for timed in (trace, *trace["lengths"]):
        timed.pop("seconds")
    trace.pop("attack_seconds")
    manifest = models.read_manifest(folder / "artifacts" / "model")
    programs = json.loads((folder / "artifacts" / "programs.json").read_text())
    return {"trace": trace, "programs": programs, "weights": manifest["fingerprint"],
            "files": manifest["files"]}  # fmt: skip


def audited(folder: Path) -> dict[str, Any]:
    """Records less times and memory, and the examples."""
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for record in records:
        for key in ("seconds", "peak_memory_mb", "hardware", "model"):
            record.pop(key)
    with np.load(folder / "artifacts" / "examples.npz") as arrays:
        examples = {name: arrays[name].tobytes() for name in arrays.files}
    return {"records": records, "examples": examples}
