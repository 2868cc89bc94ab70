"""What is measured: the paper's protocol, and an attacker who knows the defence.

*paper*: as the authors measured it; every query and the final decision draw afresh, the search
stops at the first misclassified query.

*adaptive*: the attacker has code, weights and programs; only the next draw is hidden from him. Of
a model with finitely many classifiers every query is the exact mean over them, of another
randomised one the mean over common draws. Nothing is accepted because one draw or one average
crossed the line: he keeps the image that the smallest share of draws gets right. He follows the
gradients of the model, of the surrogates it names, and of the undefended one, and judges every
candidate on the defended one. Then, per image, the strongest candidate decides.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from suture.data import images_of
from suture.data.given import Data
from suture.engine import Engine, Inline
from suture.errors import ArgumentError
from suture.evaluate.certified import certified
from suture.evaluate.health import signs
from suture.evaluate.pictures import CleanPictures, Pictures, Store, labelled, moved
from suture.evaluate.pieces import measure_all
from suture.evaluate.plan import Plan, View, clean_row, rows_of, through_of
from suture.evaluate.records import Kind, Record, Role, records_html
from suture.evaluate.rows import Measured, Row, Subject, fresh_logits, restated
from suture.evaluate.sanity import with_warnings
from suture.evaluate.strongest import CANDIDATES, handed_on, strongest, transferred
from suture.models import digest, pixels, untouched
from suture.rng import Stream
from suture.types import LabelledImages, OnProgress, check_classes, described, is_randomised


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Records in table order, and attacked images.

    Attributes:
        records: all of them.
        attacked: the undefended model's, by the first row, for pictures. What memory does not
            hold lies in the run's ledger, until the run is finished, or in a temporary file.
        strongest: per image the strongest attack, by subject and position; adaptive only.
    """

    records: list[Record]
    attacked: Pictures
    strongest: dict[str, Pictures] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """For notebooks: one row a record."""
        return records_html(self.records)


def evaluate(
    subjects: list[Subject],
    batch: LabelledImages | Data,
    plan: Plan,
    *,
    data: str,
    seed: int = 0,
    batch_size: int = 256,
    engine: Engine | None = None,
    on_row: OnProgress | None = None,
) -> Evaluation:
    """Measure every row of the plan on every subject, with the same images and seeds.

    Args:
        subjects: the undefended classifier first, then the defended one if there is one.
        batch: held-out images; or ``(images, labels)``, a data loader, a data set (its test
            images).
        data: name of the data set, for the records.
        seed: root seed of all rows.
        batch_size: images attacked at a time; a matter of memory, not of results.
        engine: spreads rows and images; ``None`` works here, with this process' threads.
        on_row: called as ``on_row(label, pieces finished, pieces in all)``.

    Raises:
        ArgumentError: two subjects of one role and one name.
        DataError: labels that a model has no class for.
    """
    _all_different(subjects)
    batch, store = images_of(batch), Store()
    engine = engine or Inline(threads_per_item=None)
    with ExitStack() as modes:
        for subject in subjects:
            modes.enter_context(untouched(subject.model))
        views = _views(subjects, batch, plan, seed, store)
        measured = _measured(views, batch, plan, data, seed, engine, batch_size, on_row, store)
        first = next(m for m in measured if m.record.metric == "robust accuracy")
        for view in views:
            measured += _summed_up(view, views[0], first, measured, plan, seed, engine)
        if "before" in plan.positions and "adaptive" in plan.protocols:
            measured += handed_on(subjects, views[0], measured, plan, seed)
        records = with_warnings([replace(m.record, tier=plan.tier.name) for m in measured])
        for view in views:
            records += certified(view, plan.attack, data, seed)
        which = hashlib.sha256((pixels(batch) + digest(batch.labels)).encode()).hexdigest()
        records = [replace(record, images=which) for record in records]
        if plan.sanity:
            records = [_with_signs(record, subjects, batch, plan) for record in records]
    assert first.images is not None, "the first row's are kept"
    return Evaluation(records, first.images, _strongest(measured))


def _strongest(measured: list[Measured]) -> dict[str, Pictures]:
    """Of every subject and position the first repetition's."""
    found: dict[str, Pictures] = {}
    for one in measured:
        if one.record.kind is Kind.STRONGEST and one.images is not None:
            _, name = one.record.whose
            found.setdefault("-".join(filter(None, (name, one.record.position))), one.images)
    return found


def _views(
    subjects: list[Subject], batch: LabelledImages, plan: Plan, seed: int, store: Store
) -> list[View]:
    """Each subject once, or once for each position that an attacker can take."""
    views: list[View] = []
    for subject in subjects:
        classes = fresh_logits(subject.model, batch[:1].images, Stream(seed)).shape[1]
        check_classes(batch.labels, classes)
        parts = described(subject.model).preemptive()
        places = ("",) if parts is None else _places(subject, plan)
        for place in places:
            own, seen = subject, batch
            if parts is not None and place == "after":
                own = replace(subject, model=parts[1])
                move = described(subject.model).handed_on
                album = moved(CleanPictures(batch), batch.labels, move, store)
                seen = labelled(album, batch.labels)
            through = through_of(own, subjects[0])
            views.append(View(own, seen, place, through, classes, first=not views))
    return views


def _places(subject: Subject, plan: Plan) -> tuple[str, ...]:
    """Where an attacker who searches can stand."""
    searched = described(subject.model).searched_before
    return tuple(place for place in plan.positions if searched or place == "after")


def _measured(
    views: list[View],
    batch: LabelledImages,
    plan: Plan,
    data: str,
    seed: int,
    engine: Engine,
    batch_size: int,
    on_row: OnProgress | None,
    store: Store,
) -> list[Measured]:
    """Every row, measured once where several ask for the same."""
    rows: list[Row] = []
    for view in views:
        if all(row.subject.whose != view.subject.whose for row in rows):
            rows.append(clean_row(view, plan))
        rows += rows_of(view, plan)
    jobs = [(row, repeat) for row in rows for repeat in range(row.repeats)]
    # An attack may be adaptive and on the curve as well.
    keys = [
        (id(row.subject.model), id(row.source), id(row.batch), row.attack, row.position, repeat)
        for row, repeat in jobs
    ]
    needed: dict[Any, tuple[Row, int]] = {}
    kept: dict[Any, bool] = {}
    for key, job in zip(keys, jobs, strict=True):
        needed.setdefault(key, job)
        seen_again = job[0].kind in CANDIDATES or (
            job[0].attack is not None and not any(kept.values())
        )
        kept[key] = kept.get(key, False) or seen_again
    found = measure_all(
        list(needed.values()),
        batch,
        data,
        seed,
        engine=engine,
        batch_size=batch_size,
        on_row=on_row,
        kept=[kept[key] for key in needed],
        store=store,
    )
    known = dict(zip(needed, found, strict=True))
    return [restated(known[key], row) for key, (row, _) in zip(keys, jobs, strict=True)]


def _summed_up(
    view: View,
    first: View,
    source: Measured,
    measured: list[Measured],
    plan: Plan,
    seed: int,
    engine: Engine,
) -> list[Measured]:
    """What follows from the rows of a view: transferred images, and the strongest of all."""
    made: list[Measured] = []
    if view is not first and view.position != "after":
        made.append(transferred(view, source, seed))
    if "adaptive" in plan.protocols:
        made.extend(strongest(view, [*measured, *made], plan, seed, engine))
    return made


def _all_different(subjects: list[Subject]) -> None:
    names = [f"{role} {name!r}" for role, name in (subject.whose for subject in subjects)]
    if len(set(names)) < len(names):
        raise ArgumentError(
            expected="subjects that differ in role or name",
            got=", ".join(names),
            remedy='Tell them apart: Subject("defended", model, reference, name="A5").',
        )


def _with_signs(
    record: Record, subjects: list[Subject], batch: LabelledImages, plan: Plan
) -> Record:
    """What the model itself shows goes onto its first clean row."""
    if record.metric != "clean accuracy" or record.repeat:
        return record
    model = next(s.model for s in subjects if s.whose == record.whose)
    bounded = plan.attack.norm == "linf" and 0 < plan.attack.eps < 1
    found = signs(model, batch, plan.attack.eps) if bounded else signs(model, batch)
    if is_randomised(model) and record.role is Role.DEFENDED:
        # A defence that says how it draws is measured by the rows that average.
        found = [sentence for sentence in found if not sentence.startswith("randomness")]
    return replace(record, warnings=[*record.warnings, *found])
