"""What has to be said about the rows of DARE's study."""

from __future__ import annotations

from suture.report.table import Row, rate
from suture.studies.dare.columns import transferred, winners
from suture.studies.dare.methods import MAIN, OURS
from suture.studies.dare.subject import ATTACKS
from suture.studies.paper import printed


def told(per: dict[str, list[Row]]) -> list[str]:
    """The count of rows won, what the adaptive attack leaves, and how this differs.

    Args:
        per: rows by network.
    """
    found = [note for network, rows in per.items() if rows for note in _verdict(network, rows)]
    return found + list(_NOTES)


def _verdict(network: str, rows: list[Row]) -> list[str]:
    found, best = transferred(rows), winners(rows, MAIN)
    paper = printed("dare").blocks["won"][OURS,]
    complete = [a for a in ATTACKS if set(MAIN) <= found[a].keys()]
    won = sum(OURS in best[a] and len(best[a]) == 1 for a in complete)
    said = [
        f"{network}: DARE is best in {won} of {len(complete)} rows of transferred images; the "
        f"paper counts {paper['won']} of {paper['scenarios']}."
    ]
    counts = {m: sum(m in best[a] for a in complete) for m in MAIN}
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
    "One network of each kind, far smaller than the paper's; the paper names neither its "
    "radii nor its budgets. Ours: L∞ 8/255 on CIFAR-10 and 0.1 on Fashion-MNIST for BIM, FGSM and "
    "PGD, all steps taken; C&W with 3 constants of 25 steps, κ = 0; JSMA may change 4 % of the "
    "values (with --full: the attacks' own defaults).",
    "All methods get the same images, the same settings and the same limit; PGD training and "
    "TRADES, which attack in every step, get Adam alone and 5 inner steps. A baseline's setting "
    "is chosen by its own attack on held-out images, DARE's by its loss on held-out images: it "
    "sees no attack.",
)
