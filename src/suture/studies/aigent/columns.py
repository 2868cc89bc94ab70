"""Tables of the AIGENT studies: attacks compared (I), transfer (II), patches by layer (III)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from suture.report.table import Column, Row, Table, Value, number, rate, rated, share
from suture.report.wording import MISSING
from suture.studies.paper import printed

if TYPE_CHECKING:
    from suture.studies.aigent.layers import AigentLayers
    from suture.studies.aigent.transfer import AigentTransfer

ATTACKED = {"mnist": "aigent_mnist_mlp6x50", "cifar10": "aigent_cifar_mlp5x50"}
"""Table II's networks, by data set."""
_SHORT = number(".4g")


def table_1(net: str, rows: list[Row], data: str) -> Table:
    """Table I of the paper on one network, measured again."""
    columns = (
        Column("what", "attack"),
        share("found", "defect detection", "n"),
        Column("pixels_median", "pixels: median", _SHORT),
        Column("pixels_max", "max", _SHORT),
        Column("l2_median", "L2: median", _SHORT),
        Column("l2_max", "max", _SHORT),
        Column("linf_median", "L∞: median", _SHORT),
        Column("linf_max", "max", _SHORT),
        Column("frechet", "Fréchet (pixels)", _SHORT),
        Column("pielou", "Pielou", _SHORT),
        Column(
            lambda row: row.get("cpu_seconds_median", row.get("cpu_seconds_mean")), "CPU s", _SHORT
        ),
        Column(partial(_found, data=data), "paper"),
    )
    return Table(columns, rows, net, CAPTION)


def _found(row: Row, data: str) -> str | None:
    paper = printed("aigent").row("found", data, row["what"])
    if paper is None:
        return None
    strict = printed("aigent").number("strict", data, row["what"], column="found")
    beside = "" if strict is None else f" ({strict} % strict)"
    return "{found} %{beside}, {pixels} pixels, {seconds} s".format(**paper, beside=beside)


CAPTION = (
    "Of the images that the network classifies right: for how many an adversarial one was found, "
    "by a forward in float32, inside [0, 1]. Pixels, L2 and L∞ of the found ones. Fréchet distance "
    "between the found ones and their originals on raw pixels, not on Inception features. CPU s: "
    "processor seconds an image; the median for AIGENT, the mean for attacks that run in batches. "
    "Patches alone: the input that imitates the patches, as the programs first give it. Paper: "
    "defect detection, pixels and seconds as printed there, on networks and machines of its own."
)


def chains(net: str, rows: list[Row]) -> Table | None:
    """What became of the patches, by the way their targets are chosen; ``None`` without patches."""
    own = [row for row in rows if row.get("chains")]
    columns = [
        Column("what", "patches"),
        share("chains_met", "every target met", "chains"),
        share("patched_errs", "patched network errs", "chains"),
        share("imitates", "input imitates patch", "chains"),
        Column("pixels_median", "its pixels: median", _SHORT),
        Column(_steps, "met by layer"),
        Column(lambda row: row["impossible"] or None, "proved impossible"),
    ]
    return Table(columns, own, f"{net}: patches", CHAINS) if own else None


def _steps(row: Row) -> str:
    return ", ".join(f"{s['layer']}: {s['met']}/{s['tried']}" for s in row["steps"])


CHAINS = (
    "Of the images that the network classifies right: for how many every patch of the chain meets "
    "its targets in the assumed phases; the network with the first layer's patch gives the clean "
    "image another class, by a forward; the network gives it to the input that imitates the patch. "
    "Patches alone: targets that the layers before can reach, in phases found for them. Own "
    "phases: such targets in the input's. The paper's chain: each patch by itself, in the input's "
    "phases. Proved impossible: a linear program has no solution, so no targets whatever can be "
    "met in the input's phases."
)


def warnings(rows: list[Row]) -> list[str]:
    """What must hold for every row, and an alarm where it does not."""
    outside = [row["what"] for row in rows if row.get("inside") is False]
    claimed = [r["what"] for r in rows if "claimed" in r and r["claimed"] != r["found"]]
    notes = [f"ALARM: images outside [0, 1] in {', '.join(outside)}."] if outside else []
    if claimed:
        notes.append(f"The float32 network disagrees with the search in {', '.join(claimed)}.")
    wrong = {row["wrong"] for row in rows}
    if wrong:
        notes.append(f"Images that the network gets wrong from the start, left out: {max(wrong)}.")
    return notes


def tables_2(study: AigentTransfer, rows: list[Row]) -> list[Table]:
    """The share of each attack's images that fool the hardened networks, by data set."""
    return [
        _table_2(name, [row for row in rows if row["set"] == name], study.repeats)
        for name in study.sets
    ]


def _table_2(name: str, rows: list[Row], repeats: int) -> Table:
    columns = (
        Column("what", "attack"),
        share("found", "found on the original", "n"),
        *(
            Column(partial(_fooled, place=i), f"of these fool hardened {i + 1}", rated)
            for i in range(repeats)
        ),
        Column(
            lambda row: printed("aigent").number("transferred", name, row["what"], column="fool"),
            "paper",
            lambda value: f"{value} %",
        ),
    )
    text = (
        "Transferability: of the adversarial images that fool the original network, the share that "
        "the hardened network also gets wrong. “Clean” are the same images unattacked: what the "
        "hardened network gets wrong anyway."
    )
    return Table(columns, rows, f"{name}: {ATTACKED[name]}", text)


def _fooled(row: Row, place: int) -> tuple[int, int]:
    return row["fool"][place], row["found"]


def hardened(rows: list[Row]) -> list[str]:
    """Clean accuracy of the hardened networks."""
    return [
        f"{row['set']}: clean accuracy {rate(row['right'], row['test'])}, hardened "
        f"{', '.join(rate(right, row['test']) for right in row['right_hard'])}."
        for row in rows
        if row["what"] == "AIGENT"
    ]


def tables_3(study: AigentLayers, rows: list[Row]) -> list[Table]:
    """One for every number of points and size."""
    return [
        _table_3(study.networks, [r for r in rows if (r["points"], r["size"]) == (count, size)])
        for count in study.points
        for size in study.sizes
    ]


def _table_3(networks: Sequence[str], rows: list[Row]) -> Table:
    """Patches of every layer, network beside network; below, the gap and the last layer's best.

    Args:
        rows: of one number of points, and one size.
    """
    names = [name for name in networks if any(row["network"] == name for row in rows)]
    columns = [Column("layer", "layer")]
    for name in names:
        for key, what in _OF_PATCHES.items():
            heading = f"N_{name.replace('_', ',')}: {what}"
            columns.append(Column(_entry(name, key), heading))
    lines: list[Row] = [
        {"layer": layer, **{row["network"]: row for row in rows if row["layer"] == layer}}
        for layer in sorted({row["layer"] for row in rows})
    ]
    last = {row["network"]: row for row in rows}
    lines.append({"layer": "gap", **{n: {"total": f"{r['gap']:.3g}"} for n, r in last.items()}})
    some = rows[0] if rows else {"points": 0, "size": ""}
    smallest = "total" if some["size"] == "l1" else "largest"
    if some["points"] == 1:
        closed = "closed_sum" if some["size"] == "l1" else "closed_largest"
        best = {name: {smallest: f"{row[closed]:.4g}"} for name, row in last.items()}
        lines.append({"layer": "closed form, last", **best})
    title = f"{some['points']} input(s), smallest {'sum' if some['size'] == 'l1' else 'maximum'}"
    caption = (
        "n: weights changed; mod: sum of their changes; largest: of them; s: seconds. ∞: no patch "
        "of that layer in the phases of the inputs. gap: by how much the first input violates."
    )
    return Table(columns, lines, title, caption)


_OF_PATCHES = {"changed": "n", "total": "mod", "largest": "largest", "seconds": "s"}
_DIGITS = {"changed": "d", "total": ".4g", "largest": ".4g", "seconds": ".2g"}


def _entry(name: str, key: str) -> Value:
    """One network's value of a line: a patch, or texts of a line below."""

    def read(line: Row) -> Any:
        patch = line.get(name)
        if patch is None:
            return None
        if "solved" not in patch:
            return patch.get(key, "")
        if patch["solved"] or key == "seconds":
            return format(patch[key], _DIGITS[key])
        return "∞" if patch["status"] == "infeasible" else MISSING

    return read


def layer_notes(rows: list[Row]) -> list[str]:
    """What the paper's table says of its last layers, and how far it can be compared."""
    wrong = [row for row in rows if row["solved"] and row["right"] < row["points"]]
    sums = [row["sums"] for row in printed("aigent").blocks["layers"].values()]
    notes = [
        "Sums that the paper prints for its two last layers (Networks 1 to 4): "
        f"{', '.join(map(' / '.join, sums))}. Which networks and inputs they belong to is not "
        "published: a sum depends on by how much the chosen input violates the property, which "
        "here is the gap column. Per unit of gap the last layer is optimal (closed form in the "
        "table).",
    ]
    if wrong:
        notes.append(f"ALARM: {len(wrong)} patches do not do in the network what they claim.")
    return notes
