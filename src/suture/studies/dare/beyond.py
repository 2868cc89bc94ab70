"""Tables of DARE's study that the paper has not: several trainings, and the past asked again."""

from __future__ import annotations

from suture.report.table import Column, Row, Table, number, share
from suture.studies.dare.methods import MAIN, ORIGINAL
from suture.studies.dare.subject import ATTACKS


def asked(network: str, rows: list[Row]) -> Table:
    """The extension beside what costs as much."""

    def taught(row: Row, when: str) -> str | None:
        found = row.get(when)
        if found is None:
            return None
        return f"{100 * found['taught'] / found['asked']:.0f} %, {found['effective_tutors']:.1f}"

    columns = (
        Column("name", "tuned by"),
        share("test_right", "test accuracy", "test_n"),
        share("right", "strongest attack", "n"),
        Column(lambda row: taught(row, "attacked_before"), "taught, tutors: before"),
        Column(lambda row: taught(row, "attacked_after"), "after"),
        Column("status", "ended"),
        Column("cpu_seconds", "CPU seconds", number(".0f")),
    )
    caption = (
        "Asked: in every epoch images are attacked on the model as it stands, and those on which "
        "some past self is right are tuned towards it. As the clean one: the attacked image is to "
        "be seen as the clean one was. Taught: share of the attacked images that somebody in the "
        "past gets right, and how many effective tutors. FGSM tuning and PGD training have as many "
        "passes through the network."
    )
    own = [row for row in rows if row["what"] == "earning"]
    return Table(columns, own, f"Asking the past about attacked images: {network}", caption)


def over_seeds(network: str, rows: list[Row]) -> list[Table]:
    """The main table over several trainings of a network: mean, least and largest share."""
    seeds = sorted({row["seed"] for row in rows if row.get("seed") is not None})
    lines = [_line(rows, what, seeds) for what in (*ATTACKS, "clean", "strongest attack")]
    known = [line for line in lines if line]
    columns = [Column("what", "images by"), *(Column(name, name) for name in (ORIGINAL, *MAIN))]
    caption = (
        f"Mean over {len(seeds)} trainings of the network, in percent (least to largest). The last "
        "line: the strongest attack on the model itself."
    )
    title = f"Over {len(seeds)} seeds: {network}"
    return [Table(columns, known, title, caption)] if len(seeds) > 1 else []


def _line(rows: list[Row], what: str, seeds: list[int]) -> Row:
    """One line over the seeds; a method counts where every seed has been measured."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        kind, right, n = {
            "transferred": (row.get("attack"), "right", "n"),
            "method": ("clean", "test_right", "test_n"),
            "adaptive": ("strongest attack", "right", "n"),
        }.get(row["what"], (None, "", ""))
        if kind == what:
            found.setdefault(row["name"], {})[row["seed"]] = 100 * row[right] / row[n]
    whole = {name: list(v.values()) for name, v in found.items() if len(v) == len(seeds)}
    told = {
        name: f"{sum(v) / len(v):.1f} ({min(v):.1f} to {max(v):.1f})" for name, v in whole.items()
    }
    return {"what": what, **told} if told else {}
