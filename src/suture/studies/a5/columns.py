"""Tables of the A5 studies: one for each threat model, never mixed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from suture.report.table import Column, Row, Table, number, share
from suture.report.wording import MISSING
from suture.studies.paper import Printed, printed

if TYPE_CHECKING:
    from suture.studies.a5.cells import A5Mnist

ORDER = ("vanilla", "CROWN-IBP", "O", "R", "RC", "P", "PC", "PRC")
_RIVALS = {"O": ("CROWN-IBP",), "R": ("CROWN-IBP",), "RC": ("CROWN-IBP", "R")}
"""What the certified error of each recipe is compared with."""


def ordered(rows: list[Row]) -> list[Row]:
    """By ε_A, ε_D, recipe."""
    return sorted(
        rows,
        key=lambda r: (
            r["eps"],
            r.get("eps_c", 0.0),
            r.get("eps_r", 0.0),
            r["eps_d"] or 0.0,
            ORDER.index(r["recipe"]),
        ),
    )


def radius(value: float | None) -> str:
    """ε in pixel units, or in grey levels where it is a whole number of them."""
    if value is None:
        return MISSING
    grey = 255 * value
    whole = abs(grey - round(grey)) < 1e-6 and value < 0.2
    return f"{round(grey)}/255" if whole else f"{value:g}"


_RECIPE = Column("recipe", "recipe")
_PLACE = (Column("eps", "ε_A", radius), _RECIPE, Column("eps_d", "ε_D", radius))
_APART = (
    _PLACE[0],
    Column("eps_c", "ε_A^C", radius),
    Column("eps_r", "ε_A^R", radius),
    *_PLACE[1:],
)
_ATTACKED = share("after_wrong", "error under attack", "few")
_BOUNDS = (
    _ATTACKED,
    share("few_ibp_wrong", "IBP", "few"),
    share("few_crown-ibp_wrong", "CROWN-IBP", "few"),
    share("few_crown_wrong", "CROWN", "few"),
)
_WHOLE = share("ibp_wrong", "certified (IBP), all", "n")
_SECONDS = Column("train_seconds", "training, s", number(".0f"))


def errors(row: Row, data: str) -> Printed | None:
    """The paper's errors in percent at these radii; ``None`` if it has no such row."""
    radii: list[float] = [row["eps"], row["eps_c"], row["eps_r"], row["eps_d"] or 0]
    if data.startswith("cifar10"):
        data, radii = "cifar10", [round(255 * value, 6) for value in radii]
    return printed("a5").row("errors", data, row["recipe"], *radii)


def tables(study: A5Mnist, rows: list[Row]) -> list[Table]:
    """The paper's claim; the gains; the threat models that it does not claim."""
    own, data = ordered(rows), study.data
    return [after(own, data), gains(own, data), _by_bound(own), before(own), *elsewhere(own)]


def after(rows: list[Row], data: str) -> Table:
    """Attack after robustification."""
    columns = (
        *_place(rows),
        share("clean_wrong", "clean error", "n"),
        _ATTACKED,
        share("few_certified_wrong", "certified, same images", "few"),
        _WHOLE,
        Column(partial(errors, data=data), "paper, %", _triple),
        _SECONDS,
    )
    return Table(
        columns,
        rows,
        "Attack after robustification (Tables 2 to 8)",
        "The paper's claim: the attacker sits between robustification and classifier, and meets "
        "images as stored, with 8 bits. Errors, wrong over all, with 95 % intervals. Certified "
        "error is by intervals (IBP) in float64 over all test images; under attack over the first "
        "ones (the strongest on each image of AutoAttack, PGD and Square), and beside it the "
        "certified error of these same images by the best of IBP, CROWN-IBP and CROWN. "
        "The paper's column is clean [AutoAttack, certified] where it reports the row.",
    )


def _place(rows: list[Row]) -> tuple[Column, ...]:
    """The columns that say which setting a row is; ε_A^C and ε_A^R where they differ from ε_A."""
    return _PLACE if all(diagonal(row) for row in rows) else _APART


def diagonal(row: Row) -> bool:
    """Whether ε_A^C = ε_A^R = ε_A."""
    return bool(row["eps"] == row["eps_c"] == row["eps_r"])


def _triple(paper: Printed) -> str:
    return "{clean:.2f} [{attacked:.2f}, {certified:.2f}]".format(**paper)


def gains(rows: list[Row], data: str) -> Table:
    """By how much each recipe lowers the certified error of plain CROWN-IBP, beside the paper."""
    known = {_setting(r): r for r in rows}
    pairs = (
        (r, known.get(_setting(r, other))) for r in rows for other in _RIVALS.get(r["recipe"], ())
    )
    columns = (
        *(column for column in _place(rows) if column is not _RECIPE),
        _RECIPE,
        share("ibp_wrong", "certified error", "n"),
        Column("against", "against"),
        Column("gain", "relative gain", _percent, paper=lambda r: r["paper"]),
        Column(_half, "at least half of it"),
    )
    return Table(
        columns,
        [r | _gain(r, rival, data) for r, rival in pairs if rival is not None],
        "Gains in certified error",
        "1 - error of the recipe / error of what it is compared with; certified error by IBP.",
    )


def _setting(row: Row, recipe: str | None = None) -> tuple[Any, ...]:
    """What tells a row apart; of another recipe at the same radii, if one is named."""
    if (recipe or row["recipe"]) == "CROWN-IBP":
        return row["eps"], row["eps_c"], row["eps"], None, "CROWN-IBP"
    return row["eps"], row["eps_c"], row["eps_r"], row["eps_d"], recipe or row["recipe"]


def _percent(gain: float) -> str:
    return f"{100 * gain:.1f} %"


def _gain(row: Row, rival: Row, data: str) -> Row:
    one, two = errors(row, data), errors(rival, data)
    return {
        "against": rival["recipe"],
        "gain": 1 - row["ibp_wrong"] / max(1, rival["ibp_wrong"]),
        "paper": 1 - one["certified"] / two["certified"] if one and two else None,
    }


def _half(row: Row) -> str | None:
    paper = row["paper"]
    if paper is None or paper <= 0:
        return None
    return "yes" if row["gain"] >= paper / 2 else "no"


def _by_bound(rows: list[Row]) -> Table:
    return Table(
        (*_place(rows), *_BOUNDS),
        rows,
        "Certified error by bound",
        "Certified error of the same first images by each bound, in float64, attack after.",
    )


def before(rows: list[Row]) -> Table:
    """Attack before robustification."""
    return Table(
        (
            *_place(rows),
            share("before_wrong", "error under attack before", "before_n"),
            share("after_wrong", "error under attack after", "few"),
        ),
        [row for row in rows if "before_wrong" in row],
        "Attack before robustification",
        "Not the paper's claim, and nothing certified: the attacker changes the image before the "
        "robustifier reads it, knows robustifier and classifier, and ascends through both, past "
        "the robustifier, and on the classifier alone; the strongest on each image. Images "
        "as above, or the first of them.",
    )


def elsewhere(rows: list[Row]) -> list[Table]:
    """Robustified images in another classifier's hands."""
    own = [r for r in rows if "other_n" in r and r["eps_d"] is not None]
    if not own:
        return []
    columns = (
        *_place(rows),
        share("other_original_wrong", "clean error, original", "other_n"),
        share("other_robustified_wrong", "robustified", "other_n"),
        share("other_original_attacked", "attacked (PGD), original", "other_n"),
        share("other_robustified_attacked", "robustified", "other_n"),
    )
    text = (
        f"Does robustification transfer? The reader is {own[0]['other']} of the data folder, "
        "trained by others to be provably robust; PGD with 40 steps at ε_A on what it reads."
    )
    return [Table(columns, own, "Robustified images, another classifier", text)]


def contradictions(rows: list[Row]) -> int:
    """Images that were certified and broken nevertheless: must be 0."""
    return sum(
        bool(sure) and not held
        for r in rows
        for sure, held in zip(r["certified_few"], r["after_held"], strict=True)
    )


def proofs(rows: list[Row]) -> str:
    """Whether certificates and attack agree."""
    broken = contradictions(rows)
    spared = sum(r["few"] - r.get("after_attacked", r["few"]) for r in rows)
    if spared and not broken:
        return (
            f"{spared} certified images did not meet the attack after, and count as right under "
            "it: nobody can turn them. Their bounds were not checked by attacking them."
        )
    if not broken:
        return "No certified image was broken by the attack."
    return (
        f"ALARM: {broken} certified images were broken by the attack. Do not use these "
        "numbers, and report the defect."
    )


def notes(rows: list[Row]) -> list[str]:
    """What a reader needs first."""
    return [
        "Three threat models in three tables: attack after robustification, attack before it, and "
        "robustified images that another classifier reads. Only the first is certified.",
        proofs(rows),
        "Epochs were chosen on a tenth of the training images, among those at the full radius; "
        "the test images were measured once.",
        "A5/O knows the true class of every image it moves, also of those that the classifier "
        "gets wrong: it is a reference, not a defence that could be deployed.",
    ]


def letter_tables(rows: list[Row]) -> list[Table]:
    """Table 9: clean, attacked and certified error, and how far the letters moved; each bound."""
    own = ordered(rows)
    columns = (
        _RECIPE,
        share("clean_wrong", "clean error", "n"),
        _ATTACKED,
        share("few_certified_wrong", "certified, same pictures", "few"),
        _WHOLE,
        Column(
            lambda r: printed("a5").row("letters", r["recipe"]),
            "paper: error [certified], %",
            lambda paper: f"{paper['clean']:.2f} [{paper['certified']:.2f}]",
        ),
        Column("mean_moved", "mean change of a pixel", number(".3f")),
        _SECONDS,
    )
    text = (
        "The attacker sits between camera and reader, and changes pictures by at most ε_A; the "
        "letters themselves are out of its reach. Errors over fresh pictures that no training saw, "
        "the same draws of the camera for every recipe, with 95 % intervals over pictures, not "
        "over trainings. PRC is the recipe that the paper leaves open: behind the camera stands a "
        "robustifier, which may move every picture by ε_D again, and its attacker comes after that."
    )
    return [
        Table(columns, own, "Letters before a camera (Table 9)", text),
        Table(
            (_RECIPE, *_BOUNDS),
            own,
            "Certified error by bound",
            "Errors on the same pictures by each bound, in float64.",
        ),
    ]


def letter_notes(rows: list[Row]) -> list[str]:
    """What a reader needs first."""
    told = [
        proofs(rows),
        "The reader knows 62 letters of one font and nothing else, and the recipes move exactly "
        "those: certified error is over the camera's randomness, not over new fonts.",
        "Epochs were chosen by certified error on pictures of their own; the pictures measured "
        "here were taken once.",
    ]
    own = {r["recipe"]: r for r in rows}
    if {"CROWN-IBP", "PC"} <= own.keys():
        ratio = own["PC"]["ibp_wrong"] / max(1, own["CROWN-IBP"]["ibp_wrong"])
        told.append(
            f"PC's certified error is {ratio:.2f} of CROWN-IBP's (paper: 0.30), after as many "
            "epochs from the same vanilla reader."
        )
    return told
