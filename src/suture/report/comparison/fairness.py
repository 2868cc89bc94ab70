"""Whether the figures of two runs may be compared, in plain sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suture.evaluate.records import Kind, Record, Role
from suture.report.comparison.compared import ComparedRun
from suture.report.comparison.paired import paired, same_images
from suture.report.pairing import likeness
from suture.report.wording import plural, threat


@dataclass(frozen=True)
class FairnessNote:
    """One remark: whether it forbids a comparison ("stop"), limits it ("mind") or allows it
    ("fine"), and the sentence."""

    weight: str
    sentence: str


def fairness(first: ComparedRun, other: ComparedRun) -> list[FairnessNote]:
    """All remarks on comparing two runs, those that forbid it first."""
    checks: tuple[Callable[[ComparedRun, ComparedRun], FairnessNote | None], ...] = (
        _images,
        _threats,
        _papers,
        _undefended,
        _tiers,
        _seeds,
        _versions,
        _finished,
    )
    found = [note for check in checks if (note := check(first, other))]
    return sorted(found, key=lambda note: ("stop", "mind", "fine").index(note.weight))


def comparable(notes: list[FairnessNote]) -> bool:
    """Whether nothing forbids the comparison."""
    return all(note.weight != "stop" for note in notes)


def _images(a: ComparedRun, b: ComparedRun) -> FairnessNote:
    one, two = a.data.records[0], b.data.records[0]
    if same_images(one, two):
        return FairnessNote("fine", f"Both measured the same {plural(one.n, 'image')}.")
    if one.data != two.data:
        return FairnessNote(
            "stop",
            f"The data differ ({a.letter}: {one.data}, {b.letter}: {two.data}): "
            "figures do not compare.",
        )
    if one.n != two.n:
        return FairnessNote(
            "stop",
            f"The images differ ({a.letter}: {one.n}, {b.letter}: {two.n} of {one.data}): "
            "figures compare only as far as both are fair samples, not image by image.",
        )
    if one.images and two.images:
        return FairnessNote(
            "stop", f"Both measured {one.n} images of {one.data}, but not the same ones."
        )
    return FairnessNote(
        "mind",
        f"Whether both measured the same {one.n} images of {one.data} is not known: a run was "
        "made before records told it. Measure again to compare image by image.",
    )


def _threats(a: ComparedRun, b: ComparedRun) -> FairnessNote | None:
    one, two = (_threat(run) for run in (a, b))
    if one == two or not one or not two:
        return None
    return FairnessNote(
        "stop",
        f"The headlines are about different threats ({a.letter}: {one}, {b.letter}: {two}): "
        "their robust accuracies do not compare.",
    )


def _threat(run: ComparedRun) -> str:
    named = run.headline.named
    return "" if named is None else threat(named.first.threat)


def _papers(a: ComparedRun, b: ComparedRun) -> FairnessNote | None:
    """One threat, and still another attack: more queries leave less."""
    one, two = a.headline.paper, b.headline.paper
    if one is None or two is None or _threat(a) != _threat(b):
        return None
    if likeness(one.first) == likeness(two.first):
        return None
    return FairnessNote(
        "stop",
        f"The figures as the papers measure them are of different attacks ({a.letter}: "
        f"{one.first.row}, {b.letter}: {two.first.row}): these two do not compare.",
    )


def _undefended(a: ComparedRun, b: ComparedRun) -> FairnessNote | None:
    one, two = _clean(a), _clean(b)
    if one is None or two is None:
        return None
    counts = paired(one, two)
    if counts is None:
        if one.model == two.model:
            return None
        return FairnessNote(
            "mind",
            f"The undefended models are named differently ({one.model}, {two.model}): what a "
            "repair gained in one run is no gain over the other's model.",
        )
    apart = counts.first + counts.second
    if apart:
        return FairnessNote(
            "mind",
            f"The undefended models differ: on clean images they disagree about {apart} of "
            f"{one.n}. Compare what was gained, not only what was reached.",
        )
    return FairnessNote("fine", "The undefended models are right on the very same clean images.")


def _clean(run: ComparedRun) -> Record | None:
    rows = run.data.records
    own = (r for r in rows if r.kind is Kind.CLEAN and r.role is Role.UNDEFENDED)
    return next(own, None)


def _tiers(a: ComparedRun, b: ComparedRun) -> FairnessNote | None:
    one, two = a.data.records[0].tier, b.data.records[0].tier
    if one == two:
        return None
    return FairnessNote(
        "mind",
        f"The attackers tried differently hard ({a.letter}: {one or 'no tier'}, {b.letter}: "
        f"{two or 'no tier'}): the strongest of more attacks leaves less.",
    )


def _seeds(a: ComparedRun, b: ComparedRun) -> FairnessNote | None:
    one, two = a.data.records[0].seed, b.data.records[0].seed
    said = f"The seeds differ ({one}, {two}): attacks that draw differ by chance too."
    return None if one == two else FairnessNote("mind", said)


def _versions(a: ComparedRun, b: ComparedRun) -> FairnessNote | None:
    one, two = a.data.records[0].versions, b.data.records[0].versions
    apart = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    if not apart:
        return None
    told = ", ".join(f"{name} {one.get(name, '—')} and {two.get(name, '—')}" for name in apart)
    return FairnessNote("mind", f"Versions differ: {told}.")


def _finished(a: ComparedRun, b: ComparedRun) -> FairnessNote | None:
    open_ = [run.letter for run in (a, b) if run.data.info.get("status") != "finished"]
    said = f"Not finished: {' and '.join(open_)}; rows may be missing."
    return FairnessNote("mind", said) if open_ else None
