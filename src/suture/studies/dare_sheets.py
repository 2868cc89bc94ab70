"""Rows of DARE's study → its tables, the paper's figures beside them."""

from __future__ import annotations

from typing import Any

from suture.studies import dare_paper as paper
from suture.studies.base import Row
from suture.studies.dare_methods import ABLATIONS, JUDGED, ONLINE, OURS
from suture.studies.dare_paper import ATTACKS
from suture.studies.sheets import Sheet, interval, rate

BEST = "★ "
_MAIN = (OURS, *ATTACKS)


def sheets(network: str, rows: list[Row], data: str) -> list[Sheet]:
    """Everything that the rows of one network have numbers for."""
    made = [
        _robustness(network, rows, data),
        _beyond(network, rows),
        _clean(network, rows, data),
        _adaptive(network, rows),
        _ablations(network, rows),
        _sweep(network, rows),
        _settings(network, rows),
        _times(network, rows, data),
    ]
    return [sheet for sheet in made if sheet.rows]


def _cell(rows: list[Row], name: str, attack: str) -> Row | None:
    return next(
        (
            r
            for r in rows
            if r["what"] == "transferred" and r["name"] == name and r["attack"] == attack
        ),
        None,
    )


def _method(rows: list[Row], name: str) -> Row | None:
    return next((r for r in rows if r["what"] == "method" and r["name"] == name), None)


def _share(row: Row | None) -> float:
    return -1.0 if row is None else row["right"] / max(1, row["n"])


def winners(rows: list[Row], names: tuple[str, ...]) -> dict[str, list[str]]:
    """Attack → the columns with the most images right; several where they tie."""
    found = {}
    for attack in ATTACKS:
        shares = {name: _share(_cell(rows, name, attack)) for name in names}
        best = max(shares.values())
        found[attack] = [name for name, share in shares.items() if share == best and best >= 0]
    return found


def _marked(row: Row | None, best: bool) -> str:
    """A share with its interval; the count behind it stands in the row's own column."""
    if row is None or row["n"] == 0:
        return "–"
    low, high = interval(row["right"], row["n"])
    text = f"{100 * row['right'] / row['n']:.1f} [{low:.1f}, {high:.1f}]"
    return BEST + text if best else text


def _images(rows: list[Row], attack: str) -> str:
    row = _cell(rows, OURS, attack)
    return "–" if row is None else str(row["n"])


def _robustness(network: str, rows: list[Row], data: str) -> Sheet:
    best, body = winners(rows, _MAIN), []
    for attack in ATTACKS:
        if _cell(rows, OURS, attack) is None:
            continue
        theirs = {m: paper.robustness(data, attack, m) for m in _MAIN}
        printed = {m: v for m, v in theirs.items() if v is not None and m != OURS}
        top = max(printed, key=lambda m: printed[m]) if printed else None
        body.append(
            (
                attack,
                _images(rows, attack),
                *(_marked(_cell(rows, m, attack), m in best[attack]) for m in _MAIN),
                "–" if theirs[OURS] is None else f"{theirs[OURS]}",
                "–" if top is None else f"{printed[top]} ({top})",
            )
        )
    header = ("images by", "n", *_MAIN, "paper's DARE", "its best baseline")
    caption = (
        "Accuracy in percent, with 95 % intervals, on n adversarial images that were made on the "
        "original model and all fool it (it has 0). Columns: the tuned models. "
        f"{BEST.strip()} marks the best of a row. The paper's are of its VGG16."
    )
    return Sheet(
        f"Transferred adversarial images (Table 2): {network}", header, tuple(body), caption
    )


def _beyond(network: str, rows: list[Row]) -> Sheet:
    known = {row["name"] for row in rows if row["what"] == "transferred"}
    names = tuple(name for name in (JUDGED, *ONLINE) if name in known)
    body = tuple(
        (attack, _images(rows, attack), *(_marked(_cell(rows, m, attack), False) for m in names))
        for attack in ATTACKS
        if names and _cell(rows, OURS, attack) is not None
    )
    caption = (
        "The same images. Judged: the setting is the one that withstands FGSM best on held-out "
        "images, made on the original. PGD training and TRADES attack in every step."
    )
    return Sheet(f"Beside the table: {network}", ("images by", "n", *names), body, caption)


def _clean(network: str, rows: list[Row], data: str) -> Sheet:
    names = ("original", OURS, JUDGED, *ATTACKS, *ABLATIONS, *ONLINE)
    body = []
    original = _method(rows, "original")
    for name in names:
        row = _method(rows, name)
        if row is None or original is None:
            continue
        lost = 100 * (original["test_right"] - row["test_right"]) / row["test_n"]
        theirs = paper.accuracy(data, name)
        body.append(
            (
                name,
                rate(row["test_right"], row["test_n"]),
                f"{lost:+.2f}",
                row["status"],
                "–" if theirs is None else f"{theirs}",
            )
        )
    header = ("model", "test accuracy", "points lost", "ended", "paper, VGG16")
    caption = (
        "The limit holds on held-out images while tuning; the test set is looked at once, here. "
        "beyond_limit: no setting within the limit, the original model is what is measured."
    )
    return Sheet(f"Clean accuracy (Table 3): {network}", header, tuple(body), caption)


def _adaptive(network: str, rows: list[Row]) -> Sheet:
    own = [row for row in rows if row["what"] == "adaptive"]
    body = tuple(
        (
            row["name"],
            rate(row["clean_right"], row["n"]),
            rate(row["autoattack"], row["n"]),
            rate(row["right"], row["n"]),
            f"{row['seconds']:.0f}",
        )
        for row in own
    )
    caption = (
        "AutoAttack (standard) made on the tuned model itself, on the first test images; then the "
        "strongest on each image of it, PGD, Square, targeted APGD, the same through the original, "
        "and what fooled the original. This is what is left of the table above."
    )
    header = ("model", "clean, these images", "under AutoAttack", "strongest of all", "seconds")
    return Sheet(
        f"What is left before an attacker who has the model: {network}", header, body, caption
    )


def _ablations(network: str, rows: list[Row]) -> Sheet:
    names = (OURS, *ABLATIONS)
    best, body = winners(rows, names), []
    for attack in ATTACKS:
        if all(_cell(rows, name, attack) is not None for name in names):
            marked = (_marked(_cell(rows, n, attack), n in best[attack]) for n in names)
            body.append((attack, _images(rows, attack), *marked))
    caption = (
        "-s: without slicing. -sl: without slicing, and with the cross entropy of the same images. "
        "rand: as many images drawn at random, with tutors drawn at random."
    )
    return Sheet(
        f"Ablations (Table 4, Figure 3): {network}",
        ("images by", "n", *names),
        tuple(body),
        caption,
    )


def _sweep(network: str, rows: list[Row]) -> Sheet:
    swept = [r for r in rows if r["what"] == "method" and r["name"].startswith("q=")]
    ours = _method(rows, OURS)
    named = [(float(row["name"][2:]), row) for row in swept]
    if named and ours is not None:
        named.append((95.0, ours))
    body = tuple(
        (
            f"{q:g} %",
            *(_marked(_cell(rows, row["name"], a), False) for a in ATTACKS),
            rate(row["test_right"], row["test_n"]),
            _range(row),
        )
        for q, row in sorted(named, key=lambda pair: pair[0])
    )
    header = ("q", *ATTACKS, "test accuracy", "key neurons watched")
    caption = (
        "Share of each layer's synapses that are key for a class. A neuron is key if it touches "
        "one key synapse, so that nearly all are."
    )
    return Sheet(f"Slicing more or less (Figure 4): {network}", header, body, caption)


def _range(row: Row) -> str:
    counts = row["key_neurons"]
    low, high = min(counts), max(counts)
    span = str(low) if low == high else f"{low} to {high}"
    return f"{span} of {row['neurons']}"


def _settings(network: str, rows: list[Row]) -> Sheet:
    body = []
    for row in rows:
        if row["what"] != "method" or "settings" not in row:
            continue
        chosen, within = row["chosen"], sum(s["score"] is not None for s in row["settings"])
        what = (
            "–"
            if chosen is None
            else (f"{chosen['optimiser']} {chosen['rate']:g}, epoch {chosen['epoch']}")
        )
        body.append(
            (
                row["name"],
                str(row.get("collected", row.get("adversarial", row["looked"]))),
                str(row.get("collected_wrong", "–")),
                what,
                f"{within} of {len(row['settings'])}",
                f"{100 * row['before']['accuracy']:.1f}",
                "–" if chosen is None else f"{100 * chosen['accuracy']:.1f}",
            )
        )
    header = (
        "method",
        "images tuned on",
        "of them wrong before",
        "chosen",
        "settings in limit",
        "held-out accuracy before, %",
        "after",
    )
    caption = (
        "Images tuned on: collected ones for DARE; those that the attack turned for a baseline "
        "(as many clean ones come with them); all for the methods that attack in every step."
    )
    return Sheet(f"What was chosen: {network}", header, tuple(body), caption)


def _times(network: str, rows: list[Row], data: str) -> Sheet:
    body = []
    original = _method(rows, "original")
    if original is not None:
        spent = original["train_seconds"]
        body.append(("original", f"training, every epoch kept {spent:.1f}", f"{spent:.1f}", "–"))
    for name in (*_MAIN, *ONLINE):
        row = _method(rows, name)
        if row is None or "stages" not in row:
            continue
        stages: dict[str, Any] = row["stages"]
        body.append(
            (
                name,
                ", ".join(f"{k} {v:.1f}" for k, v in stages.items()),
                f"{sum(stages.values()):.1f}",
                paper.minutes(data, name),
            )
        )
    caption = (
        "History: reading and checking the remembered epochs. The paper's minutes: generation + "
        "tuning; for DARE collection + slicing + tuning, on ten cores."
    )
    header = ("method", "seconds of each stage", "seconds", "paper, VGG16, minutes")
    return Sheet(f"Time (Table 5): {network}", header, tuple(body), caption)


def notes(per: dict[str, list[Row]]) -> list[str]:
    """The count of rows won, what the adaptive attack leaves, and how this differs."""
    found = [note for network, rows in per.items() if rows for note in _verdict(network, rows)]
    return found + list(_NOTES)


def _verdict(network: str, rows: list[Row]) -> list[str]:
    complete = [a for a in ATTACKS if all(_cell(rows, m, a) is not None for m in _MAIN)]
    best = winners(rows, _MAIN)
    won = sum(OURS in best[a] and len(best[a]) == 1 for a in complete)
    said = [
        f"{network}: DARE is best in {won} of {len(complete)} rows of transferred images; the "
        f"paper counts {paper.WON} of {paper.SCENARIOS}."
    ]
    counts = {m: sum(m in best[a] for a in complete) for m in _MAIN}
    top = max(counts, key=lambda m: counts[m])
    if top != OURS:
        said.append(f"{network}: {top} is best in {counts[top]}.")
    beyond = [r["name"] for r in rows if r["what"] == "method" and r["status"] == "beyond_limit"]
    if beyond:
        said.append(
            f"{network}: no setting of {', '.join(beyond)} keeps the accuracy within the limit; "
            "what stands in their columns is the original model."
        )
    hard = {r["name"]: r for r in rows if r["what"] == "adaptive"}
    if OURS in hard and "original" in hard:
        row, base = hard[OURS], hard["original"]
        said.append(
            f"{network}: an attacker who has the tuned model leaves {rate(row['right'], row['n'])} "
            f"of DARE, {rate(base['right'], base['n'])} of the original: nothing of the gain on "
            "transferred images is left before him."
            if row["right"] <= base["right"] + 0.05 * row["n"]
            else f"{network}: an attacker who has the tuned model leaves "
            f"{rate(row['right'], row['n'])} of DARE, {rate(base['right'], base['n'])} of the "
            "original."
        )
    return said


_NOTES = (
    "One seed, one network of each kind, far smaller than the paper's; the paper names neither its "
    "radii nor its budgets. Ours: L∞ 8/255 on CIFAR-10 and 0.1 on Fashion-MNIST for BIM, FGSM and "
    "PGD, all steps taken; C&W with 3 constants of 25 steps, κ = 0; JSMA may change 4 % of the "
    "values (with --full: the attacks' own defaults).",
    "All methods get the same images, the same settings and the same limit; PGD training and "
    "TRADES, which attack in every step, get Adam alone and 5 inner steps. A baseline's setting "
    "is chosen by its own attack on held-out images, DARE's by its loss on held-out images: it "
    "sees no attack.",
)
