"""Rows of DARE's study → its tables, the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from suture.report.table import BEST, Column, Count, Row, Table, bare_rate, best, number, share
from suture.studies.dare import beyond
from suture.studies.dare.methods import ABLATIONS, JUDGED, MAIN, ONLINE, ORIGINAL, OURS
from suture.studies.dare.subject import ATTACKS
from suture.studies.paper import printed

NETWORKS = ("alexnet", "vgg16", "vgg19")
"""The paper's."""


def beside(network: str) -> str:
    """The paper's network that a network's figures stand beside: itself, or VGG16."""
    return network if network in NETWORKS else "vgg16"


def tables(network: str, rows: list[Row], data: str) -> list[Table]:
    """Everything that the rows of one network have numbers for."""
    made = [
        _robustness(network, rows, data),
        _beyond(network, rows),
        _clean(network, rows, data),
        _adaptive(network, rows),
        beyond.asked(network, rows),
        _ablations(network, rows, data),
        _sweep(network, rows),
        _settings(network, rows),
        _times(network, rows, data),
    ]
    return [table for table in made if table.rows]


def transferred(rows: list[Row]) -> dict[str, dict[str, Count]]:
    """Attack → method → images that are right, out of how many."""
    found: dict[str, dict[str, Count]] = {attack: {} for attack in ATTACKS}
    for row in rows:
        if row["what"] == "transferred":
            found[row["attack"]][row["name"]] = row["right"], row["n"]
    return found


def winners(rows: list[Row], names: Iterable[str]) -> dict[str, list[str]]:
    """Attack → the columns with the most images right; several where they tie."""
    return {
        attack: best({name: _score(counts, name) for name in names})
        for attack, counts in transferred(rows).items()
    }


def _score(counts: Row, name: str) -> float | None:
    right, n = counts.get(name, (0, 0))
    return right / n if n else None


def _methods(rows: list[Row]) -> dict[str, Row]:
    return {row["name"]: row for row in rows if row["what"] == "method"}


def _compared(
    names: Iterable[str], rows: list[Row], needed: Iterable[str], *, marked: bool
) -> tuple[list[Column], list[Row]]:
    """A line an attack, a column a method: shares with intervals, n in a column of its own."""
    columns = [
        Column("attack", "images by"),
        Column(lambda line: line[OURS][1], "n"),
        *(
            Column(name, name, bare_rate, score=partial(_score, name=name) if marked else None)
            for name in names
        ),
    ]
    lines = [
        {"attack": attack, **counts}
        for attack, counts in transferred(rows).items()
        if set(needed) <= counts.keys()
    ]
    return columns, lines


def _robustness(network: str, rows: list[Row], data: str) -> Table:
    columns, lines = _compared(MAIN, rows, (OURS,), marked=True)
    theirs = [
        Column(partial(_printed, network=network, data=data), "paper's DARE"),
        Column(partial(_rival, network=network, data=data), "its best baseline"),
    ]
    caption = (
        "Accuracy in percent, with 95 % intervals, on n adversarial images that were made on the "
        "original model and all fool it (it has 0). Columns: the tuned models. "
        f"{BEST.strip()} marks the best of a row. The paper's are of its VGG16."
    )
    title = f"Transferred adversarial images (Table 2): {network}"
    return Table([*columns, *theirs], lines, title, caption)


def _printed(line: Row, network: str, data: str) -> float | None:
    keys = beside(network), data, line["attack"]
    found: float | None = printed("dare").number("robustness", *keys, column=OURS)
    return found


def _rival(line: Row, network: str, data: str) -> str | None:
    paper = printed("dare").row("robustness", beside(network), data, line["attack"])
    if paper is None:
        return None
    top = max(ATTACKS, key=lambda method: paper[method])
    return f"{paper[top]} ({top})"


def _beyond(network: str, rows: list[Row]) -> Table:
    known = {row["name"] for row in rows if row["what"] == "transferred"}
    names = [name for name in (JUDGED, *ONLINE) if name in known]
    columns, lines = _compared(names, rows, (OURS,), marked=False)
    caption = (
        "The same images. Judged: the setting is the one that withstands FGSM best on held-out "
        "images, made on the original. PGD training and TRADES attack in every step."
    )
    return Table(columns, lines if names else [], f"Beside the table: {network}", caption)


def _ablations(network: str, rows: list[Row], data: str) -> Table:
    names = (OURS, *ABLATIONS)
    caption = (
        "-s: without slicing. -sl: without slicing, and with the cross entropy of the same images. "
        "rand: as many images drawn at random, with tutors drawn at random."
    )
    columns, lines = _compared(names, rows, names, marked=True)
    theirs = Column(
        lambda line: printed("dare").number(
            "random", beside(network), data, line["attack"], column="DARE_rand"
        ),
        f"paper's DARE_rand, {beside(network)}",
    )
    title = f"Ablations (Table 4, Figure 3): {network}"
    return Table([*columns, theirs], lines, title, caption)


def _clean(network: str, rows: list[Row], data: str) -> Table:
    known = _methods(rows)
    names = (ORIGINAL, OURS, JUDGED, *ATTACKS, *ABLATIONS, *ONLINE)
    own = [known[name] for name in names if name in known and ORIGINAL in known]

    def lost(row: Row) -> float:
        return 100 * (known[ORIGINAL]["test_right"] - row["test_right"]) / row["test_n"]

    columns = (
        Column("name", "model"),
        share("test_right", "test accuracy", "test_n"),
        Column(lost, "points lost", number("+.2f")),
        Column("status", "ended"),
        Column(
            lambda row: printed("dare").number(
                "accuracy", beside(network), data, column=row["name"]
            ),
            f"paper, {beside(network)}",
        ),
    )
    caption = (
        "The limit holds on held-out images while tuning; the test set is looked at once, here. "
        "beyond_limit: no setting within the limit, the original model is what is measured."
    )
    return Table(columns, own, f"Clean accuracy (Table 3): {network}", caption)


def _adaptive(network: str, rows: list[Row]) -> Table:
    columns = (
        Column("name", "model"),
        share("clean_right", "clean, these images", "n"),
        share("autoattack", "under AutoAttack", "n"),
        share("right", "strongest of all", "n"),
        Column("seconds", "seconds", number(".0f")),
    )
    caption = (
        "AutoAttack (standard) made on the tuned model itself, on the first test images; then the "
        "strongest on each image of it, PGD, Square, targeted APGD, the same through the original, "
        "and what fooled the original. This is what is left of the table above."
    )
    own = [row for row in rows if row["what"] == "adaptive"]
    title = f"What is left before an attacker who has the model: {network}"
    return Table(columns, own, title, caption)


def _sweep(network: str, rows: list[Row]) -> Table:
    known, found = _methods(rows), transferred(rows)
    shares = {name: float(name[2:]) for name in known if name.startswith("q=")}
    if shares and OURS in known:
        shares[OURS] = 95.0
    lines = [
        known[name] | {"q": q} | {a: found[a].get(name) for a in ATTACKS}
        for name, q in sorted(shares.items(), key=lambda pair: pair[1])
    ]
    columns = (
        Column("q", "q", lambda q: f"{q:g} %"),
        *(Column(attack, attack, bare_rate) for attack in ATTACKS),
        share("test_right", "test accuracy", "test_n"),
        Column(_range, "key neurons watched"),
    )
    caption = (
        "Share of each layer's synapses that are key for a class. A neuron is key if it touches "
        "one key synapse, so that nearly all are."
    )
    return Table(columns, lines, f"Slicing more or less (Figure 4): {network}", caption)


def _range(row: Row) -> str:
    low, high = min(row["key_neurons"]), max(row["key_neurons"])
    span = str(low) if low == high else f"{low} to {high}"
    return f"{span} of {row['neurons']}"


def _settings(network: str, rows: list[Row]) -> Table:
    def tuned_on(row: Row) -> Any:
        return row.get("collected", row.get("adversarial", row["looked"]))

    def within(row: Row) -> str:
        inside = sum(setting["score"] is not None for setting in row["settings"])
        return f"{inside} of {len(row['settings'])}"

    percent = number(".1f")
    columns = (
        Column("name", "method"),
        Column(tuned_on, "images tuned on"),
        Column("collected_wrong", "of them wrong before"),
        Column("chosen", "chosen", "{0[optimiser]} {0[rate]:g}, epoch {0[epoch]}".format),
        Column(within, "settings in limit"),
        Column(lambda row: 100 * row["before"]["accuracy"], "held-out accuracy before, %", percent),
        Column("chosen", "after", lambda chosen: percent(100 * chosen["accuracy"])),
    )
    caption = (
        "Images tuned on: collected ones for DARE; those that the attack turned for a baseline "
        "(as many clean ones come with them); all for the methods that attack in every step."
    )
    own = [row for row in _methods(rows).values() if "settings" in row]
    return Table(columns, own, f"What was chosen: {network}", caption)


def _times(network: str, rows: list[Row], data: str) -> Table:
    known, theirs = _methods(rows), printed("dare").row("minutes", beside(network), data) or {}
    if ORIGINAL in known:
        whole = {"training, every epoch kept": known[ORIGINAL]["train_seconds"]}
        known[ORIGINAL] = known[ORIGINAL] | {"stages": whole}
    own = [known[m] for m in (ORIGINAL, *MAIN, *ONLINE) if "stages" in known.get(m, {})]
    columns = (
        Column("name", "method"),
        Column("stages", "seconds of each stage", _stages),
        Column(lambda row: sum(row["stages"].values()), "seconds", number(".1f")),
        Column(
            lambda row: theirs.get(row["name"]),
            f"paper, {beside(network)}, minutes",
            lambda minutes: " + ".join(map(str, minutes)),
        ),
    )
    caption = (
        "History: reading and checking the remembered epochs. The paper's minutes: generation + "
        "tuning; for DARE collection + slicing + tuning, on ten cores."
    )
    return Table(columns, own, f"Time (Table 5): {network}", caption)


def _stages(stages: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items())
