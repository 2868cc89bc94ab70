"""An audit of many pictures by an attacker who tries little: what it needs is memory, not time.

    python benchmarks/scaling/auditing.py DATA --model timm:test_vit --n 5000 --out RUN

The rows of ``suture audit``, with one step where it takes many; the last line printed is a JSON
object with the process' peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from suture import data
from suture.attacks import FGSM
from suture.cli.common import fitting, held_out
from suture.data import dataset, npz, stores
from suture.engine import Run
from suture.evaluate import Plan, Role, Subject, Tier, pictures
from suture.loading import load
from suture.pipeline import assess

ATTACK = FGSM(eps=2 / 255)
PLAN = Plan(attack=ATTACK, tier=Tier("one step", steps=1, queries=2), radii=(), sanity=False)


def audit(reference: str, source: str, n: int, out: Path) -> dict[str, object]:
    """Measure the first n test images of a data set, in a run of its own."""
    found, started = data.load(source), time.process_time()
    model = load(reference, in_shape=found.in_shape, classes=found.classes)
    run = Run.create(out, kind="audit", title="Audit", command="", seed=0)
    subject = Subject(Role.UNDEFENDED, model, reference)
    with run:
        records = assess(
            [subject],
            held_out(found, n, "cpu"),
            PLAN,
            found,
            run,
            batch_size=fitting(None, found.in_shape),
        )
    run.finish()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "n": records[0].n,
        "megabytes": round(peak, 1),
        "cpu_seconds": round(time.process_time() - started, 1),
        "right": [record.right for record in records],
    }


def main() -> None:
    """Parse, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--model", default="a5_small")
    parser.add_argument("--n", type=int, default=5_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hold", type=int, help="bytes of images held, in place of the defaults")
    given = parser.parse_args()
    if given.hold is not None:
        dataset.RESIDENT = stores.CACHE_BYTES = npz.CACHE_BYTES = pictures.HELD = given.hold
    with tempfile.TemporaryDirectory(prefix="suture-") as own:
        out = given.out or Path(own) / "run"
        print(json.dumps(audit(given.model, given.data, given.n, out)), flush=True)


if __name__ == "__main__":
    main()
