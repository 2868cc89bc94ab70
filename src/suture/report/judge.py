"""Records → the one honest sentence at the top of the page, and what must be said with it."""

from __future__ import annotations

from dataclasses import dataclass

from suture.evaluate.records import Record, Role
from suture.report.checks import warned
from suture.report.headline import Headline, above, claimed, gain, headline, informed
from suture.report.phrases import aside, cost, distrust, doubt, meaning, retries, sentence

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
        sentence: the headline; a failed sanity check comes before the figures.
        notes: what a reader must know with it, each a sentence or two.
        suspect: whether a sanity check failed, so that the numbers may flatter the defence.
        headline: the measurements that the sentence states.
    """

    kind: str
    sentence: str
    notes: tuple[str, ...]
    suspect: bool
    headline: Headline

    @property
    def badge(self) -> str:
        """The verdict in a few words."""
        return BADGES[self.kind]


def verdict(records: list[Record]) -> Verdict:
    """Judge a run by its lowest rows: what was gained, and what an informed attacker leaves of it.

    A gain counts only where the 95 % intervals are apart; it *holds* when at least half of the
    paper's gain is left against the attacker who knows the defence, and no sanity check failed.
    """
    head, failed = headline(records), len(warned(records))
    distrusted = len(warned(_after(records)))
    kind = _kind(head)
    if kind == "holds" and failed:
        kind = "doubtful"
    notes = (
        meaning(kind, head, trusted=not failed),
        retries(head),
        cost(head),
        doubt(failed, kind),
        aside(head),
    )
    said = distrust(distrusted) + sentence(kind, head, records)
    if any(record.tier == "quick" for record in records):
        said = f"{said.removesuffix('.')} (quick tier)."
    return Verdict(kind, said, tuple(n for n in notes if n), bool(failed), head)


def _after(records: list[Record]) -> list[Record]:
    """The records of what was repaired; of the undefended classifier where nothing was."""
    return [r for r in records if r.role is Role.DEFENDED] or records


def _kind(head: Headline) -> str:
    if head.named is None:
        return "clean" if head.clean_before or head.clean_after else "empty"
    if head.paper is None and head.adaptive is None:
        return "audit"
    if head.undefended is None:
        return "no baseline"
    return _kind_of_gain(head)


def _kind_of_gain(head: Headline) -> str:
    pair = claimed(head)
    if pair is None or not above(*pair):
        return "no gain"
    left = informed(head)
    if left is None:
        return "untested"
    if not above(*left):
        return "gone"
    return "holds" if 2 * gain(*left) >= gain(*pair) else "confusion"
