"""Tables of the AdvRepair studies: repairs, defences under both allocations, ACAS Xu, features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suture.evaluate.repair_rates import points
from suture.report.table import Column, Row, Table, Value, number, share
from suture.studies.paper import printed

if TYPE_CHECKING:
    from suture.studies.advrepair.acasxu import AdvRepairAcasXu

_MNIST_NOTES = (
    "Oracle allocation is the paper's protocol: patches are chosen from the clean image, which "
    "nobody shows a deployed network. Recomputed: they are chosen from the attacked image, by an "
    "attacker who knows the patches: PGD, APGD towards classes and Square on the repaired network, "
    "the same through the network without patches, and what fools that one; the strongest of them "
    "on each image.",
    "A constant patch reads nothing of its input. Where it scores what AdvRepair scores, the "
    "score is not the patches' doing.",
    "10 it.: APGD on cross entropy and targeted, Square, 10 iterations and 1 restart (Square: 100 "
    "queries): the paper's budget, without FAB. Quick, standard: the tiers of `suture evaluate`; "
    "AutoAttack is a part of the standard one.",
    "DSR and DGSR: images that are right and stay so. Seconds: the repair without the attack that "
    "finds its inputs; the paper's were measured on an RTX 3090.",
)
_FEATURES_NOTES = (
    "Not certified: boxes are drawn around sampled features, so no bound on them speaks of all "
    "inputs. DSR here is what attacks of 10 iterations did not find.",
    "Oracle allocation is the paper's protocol, patches chosen from the clean image. Recomputed: "
    "chosen from the attacked one, and the attacker also tries what fools the bare network.",
    "ResNet-20 of the data folder (A. Kumar's), pixel-exact CIFAR-10 images. Test images beyond "
    "the first 100 were picked by verifiers, mostly because networks classify them right.",
)
_ACASXU_NOTES = (
    "FDD: share of 5 000 inputs, drawn uniformly from the networks' domain, whose advisory "
    "changed. The patch answers in the property's box alone, less than 1/1 000 of the domain, so a "
    "repair of any kind would show 0 there. Kept in the box: safe inputs of that box whose "
    "advisory stays; this is where a patch can do harm.",
    "Largest gap: by how much N's bound falls short on the worst part of the box. Scores lie "
    "within 0.1 of each other: a patch that closes a gap of 10 decides by itself.",
)


def _lost(row: Row) -> float | None:
    return points(row["dd_before"], row["dd_after"], row["dd_n"]) if "dd_n" in row else None


def _held(row: Row) -> str:
    return f"{row['checked']} of {row['certificates']} hold"


_SIZE, _PATCH = Column("size", "n"), Column("subject", "patch")
_PLACE = (Column("network", "network"), Column("r", "r", number("g")), _SIZE, _PATCH)
_RATES = (share("rsr", "RSR"), share("rgr", "RGR"))
_LOST = Column(_lost, "DD, points", number(".2f"))
_CERTIFICATES = Column(_held, "certificates")


def mnist(rows: list[Row]) -> list[Table]:
    """The repair itself, and what it is worth under attack."""
    return [_repairs(rows), _defences(rows)]


def _theirs(name: str) -> Value:
    def read(row: Row) -> float | None:
        key = row["network"], row["r"]
        found: float | None = printed("advrepair").number(name, *key, column=str(row["size"]))
        return found if row["subject"] == "AdvRepair" or name == "seconds" else None

    return read


def _repairs(rows: list[Row]) -> Table:
    columns = (
        *_PLACE,
        *_RATES,
        _LOST,
        Column(lambda row: f"{row['proved']} of {row['found']}", "proved"),
        _CERTIFICATES,
        Column("largest_gap", "largest gap", number(".1f")),
        Column("seconds", "seconds", number(".1f"), paper=_theirs("seconds")),
    )
    caption = (
        "RSR: the given adversarial inputs, RGR: ten others of each ball, classified right. DD: "
        "test accuracy lost. Largest gap: by how many logits N's bound falls short in its worst "
        "ball. The paper has RSR 100 (fnn_small at 0.3: 94 to 99.6), RGR the same, DD 0.0."
    )
    return Table(columns, [row for row in rows if "rsr" in row], "Repair (Table 1)", caption)


_ALLOCATED = {
    "oracle": "oracle, 10 it.",
    "recomputed": "recomputed, quick",
    "autoattack": "recomputed, standard",
}


def _defences(rows: list[Row]) -> Table:
    attacked = [
        share(f"{key}_{what}", f"{key.upper()} {text}")
        for key in ("dsr", "dgsr")
        for what, text in _ALLOCATED.items()
        if any(f"{key}_{what}" in row for row in rows)
    ]
    theirs = Column(_theirs("dgsr"), "paper's DGSR", lambda value: f"{value:.1f} (oracle)")
    return Table(
        (*_PLACE, *attacked, theirs),
        [row for row in rows if "dsr_oracle" in row],
        "Defence (Table 3)",
        "Inside of the repaired balls (DSR), and in the balls of test images (DGSR).",
    )


def mnist_notes(rows: list[Row]) -> list[str]:
    """What the columns hide; cells with fewer balls than asked for, or balls without a proof."""
    few = [r for r in rows if r["subject"] in ("AdvRepair", "none") and r["found"] < r["size"]]
    open_ = [r for r in rows if r["subject"] == "AdvRepair" and r["proved"] < r["found"]]
    said = [
        f"{_named(r)}: the attack fooled {r['found']} of {r['tried']} training images only."
        for r in few
    ]
    said += [
        f"{_named(r)}: {r['proved']} of {r['found']} balls are proved, {r['failed']} failed."
        for r in open_
    ]
    return [*_MNIST_NOTES, *said]


def _named(row: Row) -> str:
    return "-".join(column.text(row) for column in _PLACE[:3])


def features(rows: list[Row]) -> list[Table]:
    """Table 4's columns, DSR and DGSR under both allocations."""
    columns = (
        Column("r", "r · 255"),
        _SIZE,
        _PATCH,
        *_RATES,
        _LOST,
        share("dsr_oracle", "DSR oracle"),
        share("dsr_recomputed", "DSR recomputed"),
        share("dgsr_oracle", "DGSR oracle"),
        share("dgsr_recomputed", "DGSR recomputed"),
        Column("seconds", "seconds", number(".1f")),
    )
    spent = [printed("advrepair").number("features", r, column="seconds") for r in (4, 8)]
    caption = (
        "The paper, ResNet-18: RSR, RGR and DSR 100, DD 0.0, DGSR 88.3 under the oracle; "
        f"{spent[0]} s (r = 4/255) and {spent[1]} s (8/255) for n = 50 on an RTX 3090."
    )
    return [Table(columns, rows, "Repair in feature space (Table 4)", caption)]


def features_notes(rows: list[Row]) -> list[str]:
    """That none of it is a proof."""
    return list(_FEATURES_NOTES)


def acasxu(rows: list[Row]) -> list[Table]:
    """One row a network, their sum or mean; each kind of patch in a table of its own."""
    kinds = dict.fromkeys(row["patch"] for row in rows)
    made = [_property_2(rows, patch) for patch in kinds]
    return [table for table in made if table.rows]


def _property_2(rows: list[Row], patch: str) -> Table:
    own = [row for row in rows if row["patch"] == patch]
    columns = (
        Column("network", "network"),
        *_RATES,
        share("fdd", "FDD"),
        share("kept", "kept in the box"),
        Column("proved", "proved", lambda v: v if isinstance(v, str) else "yes" if v else "no"),
        _CERTIFICATES,
        Column("largest_gap", "largest gap", number(".2f")),
        Column("seconds", "seconds", number(".2f")),
    )
    paper = printed("advrepair").blocks["acasxu"][2,]
    caption = (
        "The paper, mean over its 35 networks: RSR {rsr}, RGR {rgr}, FDD {fdd}, {seconds} s. "
        "Seconds are the repair's, without the search for counterexamples."
    ).format(**paper)
    title = f"Property 2, {patch} (Table 2)"
    return Table(columns, [*own, _together(own)] if own else [], title, caption)


def _together(rows: list[Row]) -> Row:
    summed = ("rsr", "rgr", "fdd", "kept", "rsr_n", "rgr_n", "fdd_n", "kept_n")
    return {key: sum(row[key] for row in rows) for key in (*summed, "checked", "certificates")} | {
        "network": "all",
        "proved": f"{sum(row['proved'] for row in rows)} of {len(rows)}",
        "largest_gap": max(row["largest_gap"] for row in rows),
        "seconds": sum(row["seconds"] for row in rows) / len(rows),
    }


def acasxu_notes(study: AdvRepairAcasXu, rows: list[Row]) -> list[str]:
    """What the zeros mean, and networks without counterexamples."""
    few = [r for r in rows if r["patch"] == "AdvRepair" and r["rsr_n"] < study.given]
    said = [
        f"{r['network']}: {r['rsr_n']} counterexamples to repair from and {r['rgr_n']} "
        f"others in {r['search_seconds']:.0f} s of search."
        for r in few
    ]
    return [*_ACASXU_NOTES, *said]
