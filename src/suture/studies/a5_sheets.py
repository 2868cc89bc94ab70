"""Tables of the A5 studies: one for each threat model, never mixed."""

from __future__ import annotations

from suture.studies.a5_paper import printed
from suture.studies.base import Row
from suture.studies.sheets import Sheet, rate

ORDER = ("CROWN-IBP", "O", "R", "RC")

_AFTER = (
    "The paper's claim: the attacker sits between robustification and classifier, and meets images "
    "as stored, with 8 bits. Errors, wrong over all, with 95 % intervals. Certified error is "
    "by intervals (IBP) in float64 over all test images; under attack over the first ones (the "
    "strongest on each image of AutoAttack, PGD and Square), and beside it the certified error of "
    "these same images by the best of IBP, CROWN-IBP and CROWN. "
    "The paper's column is clean [AutoAttack, certified] where it reports the row."
)
_BEFORE = (
    "Not the paper's claim, and nothing certified: the attacker changes the image before the "
    "robustifier reads it, knows robustifier and classifier, and ascends through both, past the "
    "robustifier, and on the classifier alone; the strongest on each image. Images as above."
)
_BOUNDS = "Certified error of the same first images by each bound, in float64, attack after."


def ordered(rows: list[Row]) -> list[Row]:
    """By ε_A, ε_D, recipe."""
    return sorted(rows, key=lambda r: (r["eps"], r["eps_d"] or 0.0, ORDER.index(r["recipe"])))


def radius(value: float | None) -> str:
    """ε in pixel units, or in grey levels where it is a whole number of them."""
    if value is None:
        return "–"
    grey = 255 * value
    whole = abs(grey - round(grey)) < 1e-6 and value < 0.2
    return f"{round(grey)}/255" if whole else f"{value:g}"


def after(rows: list[Row], data: str) -> Sheet:
    """Attack after robustification."""
    header = (
        "ε_A",
        "recipe",
        "ε_D",
        "clean error",
        "error under attack",
        "certified, same images",
        "certified (IBP), all",
        "paper, %",
        "training, s",
    )
    body = tuple(
        (
            radius(r["eps"]),
            r["recipe"],
            radius(r["eps_d"]),
            rate(r["clean_wrong"], r["n"]),
            rate(r["after_wrong"], r["few"]),
            rate(r["few_certified_wrong"], r["few"]),
            rate(r["ibp_wrong"], r["n"]),
            _paper(r, data),
            f"{r['train_seconds']:.0f}",
        )
        for r in ordered(rows)
    )
    return Sheet("Attack after robustification (Tables 2 to 8)", header, body, _AFTER)


def _paper(row: Row, data: str) -> str:
    found = printed(data, row["recipe"], row["eps"], row["eps_d"])
    return "–" if found is None else f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"


def gains(rows: list[Row], data: str) -> Sheet:
    """By how much each recipe lowers the certified error of plain CROWN-IBP, beside the paper."""
    header = (
        "ε_A",
        "ε_D",
        "recipe",
        "certified error",
        "against",
        "relative gain",
        "paper's gain",
        "at least half of it",
    )
    body = []
    known = {(r["eps"], r["eps_d"], r["recipe"]): r for r in rows}
    for r in ordered(rows):
        for other in _rivals(r["recipe"]):
            rival = known.get((r["eps"], None if other == "CROWN-IBP" else r["eps_d"], other))
            if rival is not None:
                body.append(_gain(r, rival, data))
    return Sheet("Gains in certified error", header, tuple(body), _GAINS)


_GAINS = "1 - error of the recipe / error of what it is compared with; certified error by IBP."


def _rivals(recipe: str) -> tuple[str, ...]:
    return {"O": ("CROWN-IBP",), "R": ("CROWN-IBP",), "RC": ("CROWN-IBP", "R")}.get(recipe, ())


def _gain(row: Row, rival: Row, data: str) -> tuple[str, ...]:
    share = 1 - row["ibp_wrong"] / max(1, rival["ibp_wrong"])
    one = printed(data, row["recipe"], row["eps"], row["eps_d"])
    two = printed(data, rival["recipe"], rival["eps"], rival["eps_d"])
    paper = None if one is None or two is None else 1 - one[2] / two[2]
    verdict = "–" if paper is None or paper <= 0 else "yes" if share >= paper / 2 else "no"
    return (
        radius(row["eps"]),
        radius(row["eps_d"]),
        row["recipe"],
        rate(row["ibp_wrong"], row["n"]),
        rival["recipe"],
        f"{100 * share:.1f} %",
        "–" if paper is None else f"{100 * paper:.1f} %",
        verdict,
    )


def bounds(rows: list[Row]) -> Sheet:
    """What each bound certifies of the images that were attacked."""
    header = ("ε_A", "recipe", "ε_D", "error under attack", "IBP", "CROWN-IBP", "CROWN")
    body = tuple(
        (
            radius(r["eps"]),
            r["recipe"],
            radius(r["eps_d"]),
            rate(r["after_wrong"], r["few"]),
            *(rate(r[f"few_{key}_wrong"], r["few"]) for key in ("ibp", "crown-ibp", "crown")),
        )
        for r in ordered(rows)
    )
    return Sheet("Certified error by bound", header, body, _BOUNDS)


def before(rows: list[Row]) -> Sheet:
    """Attack before robustification."""
    header = ("ε_A", "recipe", "ε_D", "error under attack before", "error under attack after")
    body = tuple(
        (
            radius(r["eps"]),
            r["recipe"],
            radius(r["eps_d"]),
            rate(r["before_wrong"], r["before_n"]),
            rate(r["after_wrong"], r["few"]),
        )
        for r in ordered(rows)
        if "before_wrong" in r
    )
    return Sheet("Attack before robustification", header, body, _BEFORE)


def elsewhere(rows: list[Row]) -> list[Sheet]:
    """Robustified images in another classifier's hands."""
    own = [r for r in ordered(rows) if "other_n" in r and r["eps_d"] is not None]
    if not own:
        return []
    header = (
        "ε_A",
        "recipe",
        "ε_D",
        "clean error, original",
        "robustified",
        "attacked (PGD), original",
        "robustified",
    )
    body = tuple(
        (
            radius(r["eps"]),
            r["recipe"],
            radius(r["eps_d"]),
            *(
                rate(r[f"other_{images}_{what}"], r["other_n"])
                for what in ("wrong", "attacked")
                for images in ("original", "robustified")
            ),
        )
        for r in own
    )
    text = (
        f"Does robustification transfer? The reader is {own[0]['other']} of the data folder, "
        "trained by others to be provably robust; PGD with 40 steps at ε_A on what it reads."
    )
    return [Sheet("Robustified images, another classifier", header, body, text)]


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
