"""Tables of AdvRepair's baselines: Table 1's columns as rows, the paper's figures in brackets."""

from __future__ import annotations

from typing import Any

from suture.evaluate.repair_rates import points
from suture.report.table import Column, Row, Table, Value, number, share
from suture.studies.paper import printed

_NOTES = (
    "All methods are told of the same inputs, those of advrepair-mnist at seed 0. RSR: these are "
    "classified right; RGR: ten others of each ball. DD: points of accuracy on the test images. "
    "DSR and DGSR: balls and test images that hold before an attacker who knows the repair; the "
    "paper's attacker is AutoAttack with 10 iterations, and for its own patches an allocation that "
    "is told the clean image.",
    "In brackets the paper's figures, of its own networks; – is its timeout (10 000 s) or memory "
    "overflow. A — in brackets: its text has no whole row for it. CPU s: of one thread, without "
    "the attack that finds the inputs; the paper's seconds are of 64 cores and an RTX 3090.",
    "TRADES trains on the n clean images, as the paper's times suggest; a fifth of them judges.",
)


def _lost(row: Row) -> float | None:
    return points(row["dd_before"], row["dd_after"], row["dd_n"]) if "dd_n" in row else None


def _theirs(metric: str) -> Value:
    """The paper's number of a row, in its Table 1, 3 or 5; a dash where it has none."""

    def read(row: Row) -> Any:
        key, column = (row["network"], row["r"], row["size"]), f"{row['method']}_{metric}"
        every = (printed("advrepair").number(block, *key, column=column) for block in _BLOCKS)
        return next((found for found in every if found is not None), "—")

    return read


def _either(spec: str) -> Any:
    return lambda value: value if isinstance(value, str) else format(value, spec)


_BLOCKS = ("columns", "generalisation", "patches")
_PLACE = (
    Column("network", "network"),
    Column("r", "r", number("g")),
    Column("size", "n"),
    Column("method", "method"),
)


def tables(rows: list[Row]) -> list[Table]:
    """Table 1's and Table 3's columns."""
    measured = [row for row in rows if "rsr" in row]
    repairs = (
        *_PLACE,
        share("rsr", "RSR"),
        Column(_theirs("rsr"), "paper's RSR", _either(".1f")),
        Column(_lost, "DD", number(".2f")),
        Column(_theirs("dd"), "paper's DD", _either(".1f")),
        Column("cpu_seconds", "CPU s", number(".1f")),
        Column(_theirs("seconds"), "paper's s", _either(".1f")),
        Column(lambda row: row["layers"] or None, "layers tried"),
        Column("status", "ended"),
    )
    general = (
        *_PLACE,
        share("rgr", "RGR"),
        Column(_theirs("rgr"), "paper's RGR", _either(".1f")),
        share("dsr", "DSR"),
        Column(_theirs("dsr"), "paper's DSR", _either(".1f")),
        share("dgsr", "DGSR"),
        Column(_theirs("dgsr"), "paper's DGSR", _either(".1f")),
    )
    return [
        Table(repairs, measured, "Repair (Tables 1 and 5)"),
        Table(general, measured, "Generalisation and defence (Tables 3 and 5)"),
    ]


def notes(rows: list[Row]) -> list[str]:
    """What the columns mean; inputs that the attack did not find."""
    few = {(r["network"], r["r"], r["size"], r["found"]) for r in rows if r["found"] < r["size"]}
    said = [f"{a}, r = {b:g}: {d} of {c} inputs were found." for a, b, c, d in sorted(few)]
    return [*_NOTES, *said]
