"""Rows of the DefEnSyn study → Tables 2 to 6, and what is left of their gains."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from suture.report.table import (
    Column,
    Count,
    Row,
    Table,
    Value,
    interval,
    number,
    rate,
    rated,
    share,
)
from suture.studies.defensyn.settings import ABLATED, FULL, NONE, SETTINGS, TABLES
from suture.studies.paper import Printed, printed


def tables(rows: list[Row]) -> list[Table]:
    """Those that there are rows for."""
    defences = [row for row in rows if row["what"] == "defence"]
    made = [_table2(defences), _left(defences), _table3(rows)]
    made += [_ablation(defences, name) for name in TABLES]
    made.append(_searches(defences))
    return [table for table in made if table.rows]


def of_setting(rows: Sequence[Row], name: str, variant: str) -> Row | None:
    """The row of a setting and variant."""
    return next((r for r in rows if (r["setting"], r["variant"]) == (name, variant)), None)


def _headlines(rows: list[Row]) -> list[Row]:
    """Of every setting, the network without a defence and with it."""
    found = (of_setting(rows, name, variant) for name in SETTINGS for variant in (NONE, FULL))
    return [row for row in found if row is not None]


def spread(counts: Sequence[int], n: int) -> str:
    """Mean over repetitions, from the lowest lower to the highest upper end, and the counts.

    >>> spread([90, 92], 100)
    '91.0 % [82.4, 96.5] (90, 92 of 100)'
    """
    if len(counts) == 1:
        return rate(counts[0], n)
    ends = [interval(count, n) for count in counts]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    told = ", ".join(map(str, counts))
    return f"{100 * statistics.mean(counts) / n:.1f} % [{low:.1f}, {high:.1f}] ({told} of {n})"


def _way(way: str) -> Value:
    """What one kind of attack leaves, in expectation over the programs."""

    def read(row: Row) -> Count | None:
        left = row["left"]
        return (left[way], left["n"]) if way in left else None

    return read


_DEFENCE = Column("variant", "defence")
_CLEAN = share("clean", "clean", "n")
_LEFT = Column(_way("right"), "what is left", rated)


def _table2(rows: list[Row]) -> Table:
    columns = (
        Column(lambda row: f"{row['network']}, {_short(row['attack'])}", "setting"),
        _DEFENCE,
        _CLEAN,
        Column(lambda row: spread(row["paper"], row["n"]), "robust, paper's protocol"),
        _LEFT,
        Column(_spent, "synthesis + attack, s"),
        Column(lambda row: 1e6 * row["seconds_an_image"], "µs an image", number(".0f")),
        Column(_printed_2, "the paper: clean, robust"),
    )
    caption = (
        "Paper's protocol: every query and the final decision draw a program afresh, the search "
        "stops at the first misclassified query. What is left: on the first of these images, "
        "before the strongest attacker who knows network and programs; see the next table."
    )
    return Table(columns, _headlines(rows), "Table 2: black-box attacks", caption)


def _printed_2(row: Row) -> str:
    paper = printed("defensyn").blocks["table2"][row["setting"],]
    after = "" if row["variant"] == NONE else "_defended"
    return f"{paper[f'clean{after}']}, {paper[f'robust{after}']} ({paper['row']})"


def _spent(row: Row) -> str | None:
    if "synthesis_seconds" not in row:
        return None
    return f"{row['synthesis_seconds']:.0f} + {row['attack_seconds']:.0f}"


def _short(attack: str) -> str:
    """The attack's name, norm, radius and budget out of its ``repr``."""
    name, _, fields = attack.partition("(")
    known = dict(part.split("=", 1) for part in fields.rstrip(")").split(", ") if "=" in part)
    if name == "Pixle":
        return "Pixle (200 queries)"
    norm = known.get("norm", "").strip("'")
    return f"{name} {norm} ε={float(known['eps']):.4g}, {known['queries']} queries"


def _left(rows: list[Row]) -> Table:
    columns = (
        Column("setting", "setting"),
        _DEFENCE,
        Column(_way("clean"), "clean", rated),
        Column(_way("black_box"), "black-box, K known", rated),
        Column(_way("white_box"), "white-box, K known", rated),
        Column(_way("transferred"), "through the undefended", rated),
        Column(_way("right"), "strongest of all", rated),
        Column(_way("every"), "right under every program", rated),
        Column(_decisive, "first to be strongest, images"),
        Column("tier", "tier"),
    )
    caption = (
        "Robust accuracy on the first images as the attacker learns what is drawn from: every "
        "query is the exact mean over the K programs, and he keeps the candidate that the largest "
        "share of them gets wrong. Figures are expected over the draw. Strongest: per image, over "
        "all attacks, those through the undefended network, and what turned that network. The "
        "same attacker meets the undefended network: the difference is what the defence is worth."
    )
    title = "What is left before an attacker who knows the programs"
    return Table(columns, _headlines(rows), title, caption)


def _decisive(row: Row) -> str | None:
    best = max(row["left"]["tries"], key=lambda one: one["decisive"])
    return f"{best['attack']} ({best['decisive']})" if best["decisive"] else None


def _pair(paper: Printed) -> str:
    return "{clean}, {robust}".format(**paper)


def _theirs(name: str) -> Value:
    return lambda row: printed("defensyn").row(name, row["variant"])


def _table3(rows: list[Row]) -> Table:
    columns = (
        Column("{architecture} on {train} images of {data}".format_map, "network"),
        _DEFENCE,
        _CLEAN,
        share("triggered", "with the trigger", "n"),
        Column(_seconds_3, "seconds"),
        Column(_theirs("table3"), "the paper", _pair),
    )
    caption = (
        "A 3 × 3 white square in the bottom right corner stands on 5 % of the training images of "
        "other classes, relabelled as class 0. The trigger is what it is and knows of no defence. "
        "Rows without a figure of the paper were chosen on training images that nothing else used. "
        "The paper: NNRepair reaches 71.65 and 19.66."
    )
    own = [row for row in rows if row["what"] == "backdoor"]
    return Table(columns, own, "Table 3: a backdoor", caption)


def _seconds_3(row: Row) -> str:
    if "seconds" in row:
        return f"{row['seconds']:.0f}"
    return f"{row['train_seconds']:.0f} (training)"


def _ablation(rows: list[Row], name: str) -> Table:
    title, variants = TABLES[name]
    found = (of_setting(rows, ABLATED, variant) for variant in variants)
    columns = (
        Column(lambda row: _LABELS.get(row["variant"], row["variant"]), "defence"),
        _CLEAN,
        Column(lambda row: (row["paper"][0], row["n"]), "robust, paper's protocol", rated),
        _LEFT,
        Column(_theirs(name), "the paper", _pair),
    )
    own = [row for row in found if row is not None]
    return Table(columns, own, title, f"PaperSetting {ABLATED}.")


_LABELS = {
    "constants=5": "[−5, 5]",
    "constants=15": "[−15, 15]",
    "lambda=0": "λ = 0",
    "lambda=0.5": "λ = 0.5",
    "lambda=5": "λ = 5",
    "lambda=100": "λ = 100",
    "temperature 20": "DefEnSyn, temperature 20 (ours)",
    "2 rounds": "DefEnSyn, 2 counterexample rounds (ours)",
    FULL: "DefEnSyn ([−30, 30], λ = 1)",
}


def _searches(rows: list[Row]) -> Table:
    """Per length: best score, and how many features are still in play."""
    columns = (
        Column("setting", "setting"),
        Column("variant", "variant"),
        Column("length", "length"),
        Column("best", "best score", number("g")),
        Column(lambda e: e["top_k_sum"] / max(1, e["kept"]), "mean of the top K", number(".1f")),
        Column("entropy_left", "entropy, written", number(".2f")),
        Column("entropy_right", "entropy, read", number(".2f")),
        Column("discarded", "discarded"),
        Column("seconds", "seconds", number(".1f")),
    )
    lines = [
        {key: row[key] for key in ("setting", "variant", "kept")} | entry
        for row in rows
        if row["variant"] in (FULL, "Uniform-DefEnSyn", "temperature 20")
        for entry in row["lengths"]
    ]
    caption = (
        "Scores are counts of training images, attacked + λ · clean. Entropies in nats, of what "
        "the length was drawn from; near 0 the search has settled on a single feature."
    )
    return Table(columns, lines, "The searches, length by length", caption)
