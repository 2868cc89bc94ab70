"""Records → the one honest sentence at the top of the page, and what must be said with it."""

from __future__ import annotations

from dataclasses import dataclass

from suture.evaluate.records import Record
from suture.report.cells import Measured
from suture.report.headline import Headline, headline, same_threat
from suture.report.wording import attack_name, percent, plural, points, threat

BADGES = {
    "holds": "The gain holds",
    "doubtful": "Gain in doubt",
    "confusion": "Mostly the attacker's confusion",
    "gone": "The gain is gone",
    "untested": "Not tested adaptively",
    "no gain": "No clear gain",
    "no baseline": "No baseline",
    "audit": "Audit, no defence",
    "clean": "Not attacked",
    "empty": "Nothing measured",
}


@dataclass(frozen=True)
class Verdict:
    """What the records allow to be said.

    Attributes:
        kind: key of ``BADGES``.
        sentence: the headline, one sentence.
        notes: what a reader must know with it, each a sentence or two.
        suspect: whether a sanity check failed, so that the numbers may flatter the defence.
    """

    kind: str
    sentence: str
    notes: tuple[str, ...]
    suspect: bool

    @property
    def badge(self) -> str:
        """The verdict in a few words."""
        return BADGES[self.kind]


def verdict(records: list[Record]) -> Verdict:
    """Judge a run by its lowest rows: what was gained, and what an informed attacker leaves of it.

    A gain counts only where the 95 % intervals are apart; it *holds* when at least half of the
    paper's gain is left against the attacker who knows the defence, and no sanity check failed.
    """
    head = headline(records)
    warnings = _failed(records)
    kind = _kind(head)
    if kind == "holds" and warnings:
        kind = "doubtful"
    notes = (_meaning(kind, head), _retries(head), _cost(head), _doubt(warnings, kind))
    return Verdict(kind, _sentence(kind, head), tuple(n for n in notes if n), bool(warnings))


def _failed(records: list[Record]) -> set[tuple[str, str]]:
    return {(r.subject, r.row) for r in records if r.warnings}


def _kind(head: Headline) -> str:
    if head.named is None:
        return "clean" if head.clean_before or head.clean_after else "empty"
    if head.paper is None and head.adaptive is None:
        return "audit"
    if head.undefended is None:
        return "no baseline"
    return _kind_of_gain(head.undefended, head.paper, head.adaptive)


def _kind_of_gain(before: Measured, paper: Measured | None, adaptive: Measured | None) -> str:
    claimed = paper or adaptive
    assert claimed is not None
    if not _above(claimed, before):
        return "no gain"
    if adaptive is None:
        return "untested"
    if not _above(adaptive, before):
        return "gone"
    return "holds" if 2 * _gain(adaptive, before) >= _gain(claimed, before) else "confusion"


def _above(after: Measured, before: Measured) -> bool:
    return after.cell.low > before.cell.high


def _gain(after: Measured, before: Measured) -> float:
    return after.cell.percent - before.cell.percent


def _sentence(kind: str, head: Headline) -> str:
    if kind == "empty":
        return "This run holds no measurements yet."
    if kind == "clean":
        return f"Clean accuracy: {_before_after(head)}. No attack was run."
    assert head.named is not None
    if kind == "audit":
        return _audit_sentence(head, head.named)
    return f"Robust accuracy under {_attack(head.named)}: {_outcome(head)}."


def _attack(m: Measured) -> str:
    name = attack_name(m.first.attack, m.first.row)
    words = threat(m.first.threat)
    return f"{name} ({words})" if words else name


def _outcome(head: Headline) -> str:
    parts = []
    if head.paper:
        parts.append(f"{_share(head.paper)} as the paper measures it")
    if head.adaptive:
        parts.append(f"{_share(head.adaptive)} against an attacker who knows the defence")
    before = f"{_share(head.undefended)} → " if head.undefended else ""
    return before + ", ".join(parts)


def _audit_sentence(head: Headline, attacked: Measured) -> str:
    if head.clean_before is None:
        return f"Robust accuracy under {_attack(attacked)}: {_share(attacked)}."
    clean = _share(head.clean_before)
    return f"Under {_attack(attacked)} accuracy goes from {clean} to {_share(attacked)}."


def _share(m: Measured) -> str:
    return percent(m.cell.percent)


def _before_after(head: Headline) -> str:
    both = [head.clean_before, head.clean_after]
    return " → ".join(_share(m) for m in both if m)


def _meaning(kind: str, head: Headline) -> str:
    if kind == "audit":
        return _audit_meaning(head)
    if kind == "no gain":
        return _no_gain(head)
    left = _left(head)
    return {
        "holds": f"The gain holds against an attacker who knows the defence: {left}",
        "doubtful": f"The gain survives this attacker who knows the defence: {left}",
        "confusion": f"Most of the gain is the attacker's confusion: {left}",
        "gone": f"Against an attacker who knows the defence nothing clear is gained: {left}",
        "untested": "No attacker who knows the defence was tried: read the gain as an upper limit.",
        "no baseline": "The undefended classifier was not attacked, so no gain can be stated.",
    }.get(kind, "")


def _left(head: Headline) -> str:
    if head.undefended is None or head.adaptive is None:
        return ""
    kept = _gain(head.adaptive, head.undefended)
    row = f"lowest row “{head.adaptive.first.row}”"
    if head.paper is None:
        return f"{points(kept)} points ({row})."
    if not same_threat(head.adaptive, head.paper):
        row += f", {threat(head.adaptive.first.threat)}"
    if head.adaptive.cell.percent > head.paper.cell.percent:
        return f"that attack did less damage than the paper's ({row}), so the lower number counts."
    return f"{kept:.1f} of {_gain(head.paper, head.undefended):.1f} points are left ({row})."


def _no_gain(head: Headline) -> str:
    claimed = head.paper or head.adaptive
    if claimed is None or head.undefended is None:
        return ""
    change = points(_gain(claimed, head.undefended))
    if claimed.cell.high < head.undefended.cell.low:
        return f"The repair made it worse: {change} points."
    images = plural(claimed.cell.n, "image")
    return f"{images} show no clear gain: {change} points, and the 95 % intervals overlap."


def _audit_meaning(head: Headline) -> str:
    if head.clean_before is None or head.undefended is None:
        return ""
    if 2 * head.undefended.cell.percent < head.clean_before.cell.percent:
        return "The classifier is fragile: the attack takes more than half of what it gets right."
    return "The classifier withstands this attack; a stronger one may find more."


def _cost(head: Headline) -> str:
    before, after = head.clean_before, head.clean_after
    if before is None or after is None or head.named is None:
        return ""
    change = points(_gain(after, before))
    return f"Clean accuracy: {_before_after(head)} ({change} points)."


def _retries(head: Headline) -> str:
    if head.every is None or head.adaptive is None:
        return ""
    return (
        f"An attacker who may try again until a weak draw comes leaves {_share(head.every)} "
        f"(row “{head.every.first.row}”)."
    )


def _doubt(failed: set[tuple[str, str]], kind: str) -> str:
    if not failed:
        return ""
    tail = "the true robustness may be lower"
    if kind == "doubtful":
        tail += ", so this gain is not yet shown"
    where = plural(len(failed), "row")
    return f"Sanity checks failed in {where}: attacks may have been misled, and {tail}."
