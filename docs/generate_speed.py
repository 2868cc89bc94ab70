"""Write ``docs/speed.md`` from ``benchmarks/records``: ``python docs/generate_speed.py``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from suture.report.table import Column, Row, Table, number

PAGE = Path(__file__).with_name("speed.md")
RECORDS = PAGE.parents[1] / "benchmarks" / "records"
HEAD = """# Speed

<!-- Written by docs/generate_speed.py from benchmarks/records. -->

Every benchmark measures a ratio against something plain, in the same process and in turns with it:
times slower than a floor that nobody could go below, or times faster than a reference that does the
same work the obvious way. The ratio is the median of the turns; in brackets the smallest and the
largest. `make bench` runs them all and writes the records that this page is made of.
"""
WHAT = {
    "a5": "A5: a whole CROWN-IBP step over a natural one; R before C over C alone.",
    "advrepair": "AdvRepair, 1 000 balls of radius 0.05, 784-200-32-10 neurons, one thread: the "
    "repair without its attack; 256 images, each of which gets ten patches, over the bare network; "
    "the bundle; and a certificate of a network with poolings, checked again.",
    "aigent": "AIGENT, an image: median processor seconds, 95th percentile, programs solved, "
    "images for which an adversarial one was found, patch chains that meet every target.",
    "attacks": "Attacks on a network for CIFAR-10, beside the forwards and backwards they need.",
    "bounds": "Bounds, batches of 64; per example: a hundred small networks at once.",
    "defensyn": "DefEnSyn: the paper's whole search; programs before 1 000 classes; ResNet-18 with "
    "programs over ResNet-18 without.",
    "engine": "Engines: two workers beside one; the price of an item that does nothing.",
    "evaluate": "All attacks of the tier `standard` on one model, 1 000 MNIST images; 30 programs, "
    "and none; CPU seconds.",
    "scale": "Past one machine: an epoch fed by the loader over bare steps; peak memory of an "
    "evaluation at two numbers of images; two processes over one, training here and over Ray "
    "(epochs after the first), and certifying 10 000 images (the whole command).",
    "slicing": "DARE: slices of all classes, of VGG16 and of a small network.",
    "smoothing": "Votes of 20 000 noisy copies of an MNIST image, counted and bounded; a "
    "network of two layers of 256.",
    "square": "Square with 1 000 queries.",
    "standing": "Adversarial training of an MNIST network of two layers of 256, L∞ 0.1, on two "
    "cores: all of it, the last layer, the last two, under AutoAttack; copies that vote; a round "
    "of DefEnSyn's game.",
}


def page() -> str:
    """The whole page."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted(RECORDS.glob("*.json"))]
    return "\n".join([HEAD, *map(_section, records)])


def _section(record: dict[str, Any]) -> str:
    name, hardware, versions = record["name"], record["hardware"], record["versions"]
    columns = [
        Column("case", "case"),
        Column("seconds", "seconds", number(".3g")),
        Column(_ratio, "ratio"),
        Column(lambda row: row.get("floor") or row.get("reference"), "against"),
    ]
    if any("microseconds_per_item" in row for row in record["rows"]):
        columns.append(Column("microseconds_per_item", "µs an item", number(".1f")))
    if any("megabytes" in row for row in record["rows"]):
        columns.append(Column("megabytes", "MB", number(".3g")))
    plain = {"p95": "p95", "solves": "solves", "multiplied": "products, × those of the floor"}
    for key, heading in plain.items():
        if any(key in row for row in record["rows"]):
            columns.append(Column(key, heading, number(".3g")))
    for key in ("found", "chains"):
        if any(key in row for row in record["rows"]):
            columns.append(Column(partial(_of, key=key), key))
    where = (
        f"`make bench NAME={name}`; {hardware['processor']}, {hardware['cores']} cores, "
        f"torch {versions['torch']}, Numba {versions['numba']}."
    )
    table = Table(columns, record["rows"]).markdown()
    return f"## {name}\n\n{WHAT[name]}\n\n{table}\n{where}\n"


def _of(row: Row, key: str) -> str | None:
    return f"{row[key]} of {row['n']}" if key in row else None


def _ratio(row: Row) -> str | None:
    if "spread" not in row:
        return None
    ratio = f"{row['speedup']:.3g} × faster" if "speedup" in row else f"{row['overhead']:.3g}"
    low, high = row["spread"]
    return f"{ratio} [{low:.3g}–{high:.3g}]"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
