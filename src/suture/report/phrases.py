"""The sentences of a verdict: plain words around the numbers of a headline."""

from __future__ import annotations

from suture.evaluate.records import Record
from suture.report.cells import MeasuredCell
from suture.report.headline import Headline, above, claimed, gain, informed, same_threat
from suture.report.wording import attack_name, percent, plural, points, threat

_NOTHING = "This run has no measurements yet."


def distrust(failed: int) -> str:
    """What comes before all figures where sanity checks failed."""
    return f"Not to be trusted: {plural(failed, 'sanity check')} failed. " if failed else ""


def sentence(kind: str, head: Headline, records: list[Record]) -> str:
    """The verdict itself: attack, radius, and the numbers before and after."""
    if kind == "empty":
        return "Neither clean nor robust accuracy was measured." if records else _NOTHING
    if head.named is None:
        attacked = any(r.attack and r.protocol != "sanity" for r in records)
        what = "No robust accuracy was measured" if attacked else "No attack was run"
        return f"Clean accuracy: {_before_after(head)}. {what}."
    beside = "".join(f"; {_under(*pair)}" for pair in head.unbounded)
    if kind == "audit":
        return f"{_audit_sentence(head, head.named)}{beside}."
    return f"Robust accuracy under {_attack(head.named)}: {_outcome(head)}{beside}."


def _under(before: MeasuredCell | None, after: MeasuredCell | None) -> str:
    both = [m for m in (before, after) if m]
    return f"under {_attack(both[-1])} {' → '.join(map(_share, both))}"


def _attack(m: MeasuredCell) -> str:
    name = attack_name(m.first)
    words = threat(m.first.threat)
    return f"{name} ({words})" if words else name


def _outcome(head: Headline) -> str:
    before = f"{_share(head.undefended)} → " if head.undefended else ""
    if head.adaptive is None:
        return f"{before}{_share(head.paper)} as the paper measures it" if head.paper else ""
    known = f"{_share(head.adaptive)} against an attacker who knows the defence"
    if head.paper is None:
        return before + known
    return (
        f"{before}{_share(head.paper)} as the paper measures it, {_own_baseline(head)}{known}"
        f"{_positions(head)}"
    )


def _positions(head: Headline) -> str:
    """For a defence that moves images: who comes when, and what is proved."""
    if head.preempted is None and head.certified is None:
        return ""
    proved = f" ({_share(head.certified)} certified)" if head.certified else ""
    if head.preempted is None:
        return f" and comes after the move{proved}"
    return f" and comes after the move{proved}, {_share(head.preempted)} if he comes before it"


def _own_baseline(head: Headline) -> str:
    """``9 % → `` where the adaptive attack does more to the undefended classifier as well."""
    own = head.undefended_adaptive
    if own is None or head.undefended is None or own.cell.percent == head.undefended.cell.percent:
        return ""
    return f"{_share(own)} → "


def _audit_sentence(head: Headline, attacked: MeasuredCell) -> str:
    if head.clean_before is None:
        return f"Robust accuracy under {_attack(attacked)}: {_share(attacked)}"
    clean = _share(head.clean_before)
    return f"Under {_attack(attacked)} accuracy goes from {clean} to {_share(attacked)}"


def _share(m: MeasuredCell) -> str:
    return percent(m.cell.percent)


def _before_after(head: Headline) -> str:
    both = [head.clean_before, head.clean_after]
    return " → ".join(_share(m) for m in both if m)


def meaning(kind: str, head: Headline, *, trusted: bool) -> str:
    """What the numbers mean for whoever wants to rely on them."""
    if kind == "audit":
        return _audit_meaning(head, trusted=trusted)
    if kind == "no gain":
        return _no_gain(head)
    left = _left(head)
    return {
        "holds": f"The gain holds against an attacker who knows the defence: {left}",
        "doubtful": f"Most of the gain is left, but under attacks that fail their checks: {left}",
        "confusion": f"Most of the gain is the attacker's confusion: {left}",
        "gone": f"Against an attacker who knows the defence nothing clear is gained: {left}",
        "untested": "No attacker who knows the defence was tried: read the gain as an upper limit.",
        "no baseline": "The undefended classifier was not attacked, so no gain can be stated.",
    }.get(kind, "")


def _left(head: Headline) -> str:
    whole, left = claimed(head), informed(head)
    if whole is None or left is None or head.adaptive is None:
        return ""
    row = f"lowest row “{head.adaptive.first.row}”"
    if head.paper is None:
        return f"{points(gain(*left))} points ({row})."
    if not same_threat(head.adaptive, head.paper):
        row += f", {threat(head.adaptive.first.threat)}"
    if gain(*left) > gain(*whole):
        return f"that attack did less damage than the paper's ({row}), so the lower number counts."
    if gain(*left) < 0:
        return f"it ends {-gain(*left):.1f} points below the undefended classifier ({row})."
    overlap = "" if above(*left) else ", and the 95 % intervals overlap"
    return f"{gain(*left):.1f} of {gain(*whole):.1f} points are left ({row}){overlap}."


def _no_gain(head: Headline) -> str:
    pair = claimed(head)
    if pair is None:
        return ""
    after, before = pair
    change = points(gain(after, before))
    if after.cell.high < before.cell.low:
        return f"The repair made it worse: {change} points."
    images = plural(after.cell.n, "image")
    return f"{images} show no clear gain: {change} points, and the 95 % intervals overlap."


def _audit_meaning(head: Headline, *, trusted: bool) -> str:
    if head.clean_before is None or head.undefended is None:
        return ""
    if 2 * head.undefended.cell.percent < head.clean_before.cell.percent:
        return "The classifier is fragile: the attack takes more than half of what it gets right."
    if not trusted:
        return "The attack may have failed for another reason than robustness."
    return "The classifier withstands this attack; a stronger one may find more."


def cost(head: Headline) -> str:
    """What the repair costs without an attack."""
    before, after = head.clean_before, head.clean_after
    if before is None or after is None or head.named is None:
        return ""
    change = points(gain(after, before))
    return f"Clean accuracy: {_before_after(head)} ({change} points)."


def retries(head: Headline) -> str:
    """What is left when the attacker may wait for an unlucky draw."""
    if head.every is None or head.adaptive is None:
        return ""
    return (
        f"An attacker who may try again until a weak draw comes leaves {_share(head.every)} "
        f"(row “{head.every.first.row}”)."
    )


def doubt(failed: int, kind: str) -> str:
    """Why failed sanity checks matter here."""
    if not failed:
        return ""
    tail = "the true robustness may be lower"
    if kind == "doubtful":
        tail += ", so this gain is not yet shown"
    checks = plural(failed, "sanity check")
    return f"With {checks} failed, attacks may have been misled, and {tail}."


def aside(head: Headline) -> str:
    """Which classifiers the sentence is not about."""
    return f"Only in the table: {', '.join(head.others)}." if head.others else ""
