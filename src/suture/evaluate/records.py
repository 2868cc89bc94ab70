"""One record per measured number; tables, figures and pages are pure functions of records.

A record says in typed fields what was measured, on what, and how; it carries the counts behind its
percentage, the seed, versions, hardware, seconds and peak memory: enough to doubt it, and to
measure it again. Its label is made from the fields, never the other way round.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from suture import notebook
from suture.errors import ArgumentError, BundleError
from suture.evaluate.fields import checks
from suture.evaluate.labels import label
from suture.evaluate.metrics import clopper_pearson
from suture.provenance import library_versions, machine

SCHEMA = 2
Protocol = Literal["none", "paper", "adaptive", "sanity"]
Draws = int | Literal["exact"] | None


class Role(StrEnum):
    """Which side of the comparison a model stands on."""

    UNDEFENDED = "undefended"
    DEFENDED = "defended"


class Kind(StrEnum):
    """What a record measures."""

    CLEAN = "clean"
    """Accuracy without an attack."""
    ATTACK = "attack"
    """One attack on this model."""
    STRONGEST = "strongest"
    """Per image the strongest candidate of all attacks."""
    EVERY = "every"
    """Right under every program, whatever the candidate."""
    PROGRAM = "program"
    """One program of a randomised defence alone."""
    CURVE = "curve"
    """A point of accuracy against radius."""
    NOISE = "noise"
    UNBOUNDED = "unbounded"
    FEWER = "fewer"
    """The attack with fewer steps."""
    TRANSFER = "transfer"
    """Images made on another model."""
    CERTIFIED = "certified"


def as_role(role: Role | str) -> Role:
    """The role of that name.

    Raises:
        ArgumentError: there is none.
    """
    try:
        return Role(role)
    except ValueError:
        raise ArgumentError(
            expected=f"a role out of {', '.join(Role)}",
            got=repr(role),
            remedy='"undefended" is the model before the repair, "defended" the one after it; '
            "tell several of one role apart by name=.",
        ) from None


@dataclass(frozen=True)
class Record:
    """One measured accuracy.

    Attributes:
        role: of the model: undefended or defended.
        kind: what is measured.
        metric: "clean accuracy" or "robust accuracy" (``evaluation`` page of the docs).
        protocol: "paper", "adaptive", "sanity", or "none" for clean accuracy.
        right, n: images classified right, out of images measured.
        seed, repeat: the root seed, and which repetition of the row this is.
        subject: name of the model; its role where it has no other.
        model, defence: reference and ``repr``; "none" where there is none.
        attack: ``{"name": …, "parameters": {…}}``, ``{}`` for none; of the strongest candidates the
            names under ``of``.
        threat: norm, eps, queries, knowledge (empty for clean accuracy).
        draws: what each query averages: ``None`` for a deterministic model or one fresh draw,
            "exact" for the mean over the whole finite support, or so many common draws.
        through: name of the model whose gradients were followed, where it is another.
        position: "before" or "after" the defence's own step, where the attacker has the choice.
        program: number of the program that is measured alone.
        expected: sum over the images of the exact share of draws that are right: for a randomised
            model with finite support the accuracy is ``expected / n``.
        per_class: ``[right, n]`` for each class.
        queries: the attack's forwards per image at which it succeeded, ``null`` where it did not;
            images that were wrong from the start have 0.
        each: "1" or "0" for every image in its order: whether the final decision on it is right;
            empty where that is not known.
        images: SHA-256 of the evaluation's images and labels, so that two runs can be told to have
            measured the same ones; empty where that is not known.
        tags: incidental facts that no code looks at.
        warnings: sanity checks that this row fails, each a sentence.
        tier: how much was spent, where a command has tiers.
        seconds, peak_memory_mb: wall-clock of the row; the process' peak resident memory so far.
    """

    role: Role
    kind: Kind
    metric: str
    protocol: Protocol
    right: int
    n: int
    seed: int
    repeat: int = 0
    subject: str = ""
    model: str = "none"
    defence: str = "none"
    attack: dict[str, Any] = field(default_factory=dict)
    data: str = "none"
    threat: dict[str, Any] = field(default_factory=dict)
    draws: Draws = None
    through: str = ""
    position: str = ""
    program: int | None = None
    expected: float | None = None
    per_class: list[list[int]] = field(default_factory=list)
    queries: list[int | None] = field(default_factory=list)
    each: str = ""
    images: str = ""
    tags: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    tier: str = ""
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    versions: dict[str, str] = field(default_factory=library_versions)
    hardware: dict[str, Any] = field(default_factory=machine)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", as_role(self.role))
        object.__setattr__(self, "kind", Kind(self.kind))
        object.__setattr__(self, "subject", self.subject or self.role.value)

    @property
    def count(self) -> float:
        """Images right: in expectation over the draws where that is known."""
        return self.right if self.expected is None else self.expected

    @property
    def percent(self) -> float:
        """The accuracy in percent."""
        return 100.0 * self.count / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval of the accuracy, in percent."""
        low, high = clopper_pearson(self.count, self.n)
        return 100.0 * low, 100.0 * high

    def _repr_html_(self) -> str:
        """For notebooks: the row, its accuracy with counts and interval, its warnings."""
        return records_html([self])

    @property
    def row(self) -> str:
        """What is measured, in words for a table."""
        return label(
            self.kind,
            self.attack,
            self.threat,
            draws=self.draws,
            through=self.through,
            position=self.position,
            program=self.program,
        )

    @property
    def whose(self) -> tuple[Role, str]:
        """The model that was measured."""
        return self.role, self.subject

    def to_dict(self) -> dict[str, Any]:
        """All fields plus ``label``, ``percent`` and ``interval`` for readers, ready for JSON."""
        made = {"label": self.row, "percent": self.percent, "interval": list(self.interval)}
        return dataclasses.asdict(self) | made

    @staticmethod
    def from_dict(data: Any) -> Record:
        """The inverse of ``to_dict``; refuses another schema, unknown, missing and wrong fields."""
        schema = data.get("schema") if isinstance(data, dict) else None
        if type(schema) is not int or schema != SCHEMA:
            raise BundleError(
                expected=f"records of schema {SCHEMA}",
                got=f"schema {schema!r:.80}",
                remedy="Evaluate again, or read them with the version that wrote them.",
            )
        given = {key: value for key, value in data.items() if key not in _MADE}
        wrong = _wrong(given)
        if wrong:
            raise BundleError(
                expected="a complete record",
                got=wrong,
                remedy="The file was altered or cut off: evaluate again.",
            )
        return Record(**given)


_MADE = ("label", "percent", "interval")
_CHECKS = checks(tuple(Role), tuple(Kind))
_REQUIRED = ("role", "kind", "metric", "protocol", "right", "n", "seed")
_RESULTS = ("right", "n", "expected", "per_class", "queries", "each", "warnings")
_PROVENANCE = (
    "images",
    "seed",
    "seconds",
    "peak_memory_mb",
    "versions",
    "hardware",
    "schema",
    "tags",
)


def _wrong(given: dict[str, Any]) -> str:
    """What is wrong with a record's fields, in words; empty where nothing is."""
    strange = [key for key in given if key not in _CHECKS]
    missing = [key for key in _REQUIRED if key not in given]
    if strange or missing:
        return f"unknown fields {sorted(strange)}" if strange else f"no {', '.join(missing)}"
    bad = [key for key, value in given.items() if not _CHECKS[key](value)]
    if bad:
        return f"{bad[0]}={given[bad[0]]!r:.80}"
    n, known = given["n"], (given["right"], given.get("expected") or 0)
    if n < 1 or not all(0 <= value <= n for value in known):
        return f"{known} right of n={n}"
    each = given.get("each") or ""
    told = each.count("1"), len(each)
    fits = not each or told == (given["right"], n)
    return "" if fits else f"right={given['right']} of n={n}, but each has {told[0]} of {told[1]}"


def each_of(right: Tensor) -> str:
    """One "1" or "0" an image: ``Record.each``."""
    return "".join("1" if one else "0" for one in right.tolist())


def identity(record: Record) -> str:
    """What repeats of one measurement have in common: all but results and provenance."""
    aside = {"repeat", *_RESULTS, *_PROVENANCE}
    kept = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
    return json.dumps({k: v for k, v in kept.items() if k not in aside}, sort_keys=True)


def _numbered(data: Any, number: int, path: Path) -> Record:
    try:
        return Record.from_dict(data)
    except BundleError as error:
        raise BundleError(
            expected=f"{error.expected}, as record {number} of {path}",
            got=error.got,
            remedy=error.remedy,
        ) from None


def read_records(path: Path) -> list[Record]:
    """All records of a JSON-lines file, in order."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        whole = [line for line in lines if line.strip()]
        return [_numbered(json.loads(line), n, path) for n, line in enumerate(whole, start=1)]
    except FileNotFoundError:
        raise BundleError(
            expected=f"a file {path}",
            got="nothing there",
            remedy="Name a run folder that `suture evaluate` or `suture demo` has written.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            expected=f"one JSON object a line in {path}",
            got=str(error),
            remedy="The file was altered or cut off: evaluate again.",
        ) from None


def records_html(records: Sequence[Record]) -> str:
    """The records as a small HTML table, for notebooks."""
    rows = []
    for one in records:
        low, high = one.interval
        told = f"{one.percent:.1f} % [{low:.1f}–{high:.1f}] {one.right}/{one.n}"
        rows.append((one.subject, one.protocol, one.row, told, " ".join(one.warnings)))
    columns = ("model", "protocol", "row", "accuracy", "warnings")
    return notebook.table("accuracy, 95 % interval, counts", columns, rows)
