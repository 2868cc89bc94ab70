"""``suture certify`` without ``--data``: certificates proved again, and held to the promise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from torch import nn

from suture import loading
from suture.certify import (
    Certificate,
    Checker,
    Promise,
    broken,
    export,
    files_in,
    load_certificate,
    load_promise,
    unknown_centres,
)
from suture.certify.smoothing import smoothing_files
from suture.cli import voted
from suture.cli.common import Bars, emit, open_data
from suture.cli.options import Keeping, Spreading
from suture.cli.voted import Counting
from suture.engine.sharing import Handle
from suture.errors import ArgumentError, BundleError, SutureError

_LEAST, _SHOWN = 16, 10


@dataclass(frozen=True)
class Promised:
    """Options about what a repair has promised."""

    panel: ClassVar[str] = "What the repair promised"
    promise: Annotated[
        str | None,
        typer.Option(
            "--promise",
            help="The digest that the promise must have, or its first 16 digits or more, got from "
            "where the repair was made.",
        ),
    ] = None
    centres: Annotated[
        str | None,
        typer.Option(
            "--centres", help="A data set: every promised ball must lie around an image of it."
        ),
    ] = None

    def check(self) -> None:
        """Refuse what is no digest."""
        if self.promise is not None and not re.fullmatch(f"[0-9a-f]{{{_LEAST},64}}", self.promise):
            raise ArgumentError(
                expected=f"{_LEAST} to 64 digits out of 0 … 9, a … f after --promise",
                got=repr(self.promise),
                remedy="Copy the digest that suture repair printed.",
            )


@dataclass
class _Found:
    """What came of checking, by file."""

    results: list[dict[str, Any]] = field(default_factory=list)
    certificates: dict[str, Certificate] = field(default_factory=dict)


def recheck(
    reference: Path,
    exported: Path | None,
    counting: Counting,
    promised: Promised,
    keeping: Keeping,
    spreading: Spreading,
) -> int:
    """Prove every certificate again, and compare with the promise; 0 if all holds."""
    promised.check()
    given = counting.certificates
    places = _places(reference) if given is None else _places_of(given)
    promise, sentences = None, list[str]()
    bundle = Path(loading.inside_run(reference))
    try:
        model = loading.load(reference)
        promise = load_promise(bundle)
    except BundleError as error:  # an altered network: nothing that was proved is about it
        files, counted = _certificates(places, promise)
        found = _Found([_failed(file, error) for file in (*files, *counted)])
    else:
        files, counted = _certificates(places, promise)
        found = _checked_all(files, model, exported, spreading)
        found.results += (
            voted.check_votes(counted, model, counting.pieces, keeping.seed) if counted else []
        )
        sentences = _sentences(promise, found, Checker(model).network, promised)
    return _told(reference, found.results, promise, sentences, promised, keeping)


def _sentences(
    promise: Promise | None, found: _Found, network: str, promised: Promised
) -> list[str]:
    margins = {row["file"]: row["margin"] for row in found.results if row["margin"] is not None}
    wrong = broken(promise, found.certificates, margins, network, promised.promise)
    if promised.centres is not None and promise is not None:
        splits = open_data(promised.centres).splits.values()
        batches = (batch for split in splits if len(split) for batch in split.batches(4096))
        wrong += unknown_centres(promise, batches)
    return wrong


def _told(
    reference: Path,
    results: list[dict[str, Any]],
    promise: Promise | None,
    sentences: list[str],
    promised: Promised,
    keeping: Keeping,
) -> int:
    bad = [result for result in results if not result["holds"]]
    tried = max((result.get("tried") or 0 for result in results), default=0)
    held = f"{len(results) - len(bad)} of {len(results)} certificates hold"
    held += f"; {tried} were tried" if tried else ""
    lines = [held, *_engines(results), _of_promise(promise, sentences, promised)]
    lines += _few([f"{result['file']}: {result['reason']}" for result in bad])
    facts = {
        "model": str(reference),
        "checked": len(results),
        "failed": len(bad),
        "tried": tried or None,
        "promise": None
        if promise is None
        else {
            "digest": promise.digest,
            "balls": len(promise),
            "proved": int(promise.proved.sum()),
        },
        "broken": sentences,
    }
    emit(keeping.as_json, facts | {"certificates": results}, "\n".join(filter(None, lines)))
    return 1 if bad or sentences else 0


def _of_promise(promise: Promise | None, sentences: list[str], promised: Promised) -> str:
    """The promise in words, and what is not as it says."""
    if promise is None:
        told = ["no promise lies beside the model: nobody says which balls should be proved"]
    else:
        told = [f"promise {promise.digest}: {promise.text()}"]
    if sentences:
        return "\n".join([*told, "the promise is BROKEN:", *_few(sentences)])
    if promise is not None:
        named = promised.promise is not None
        told.append("the promise is kept" + (", and it is the one that was named" if named else ""))
    return "\n".join(told)


def _few(lines: list[str]) -> list[str]:
    """The first ones, and how many more there are."""
    rest = len(lines) - _SHOWN
    return lines if rest <= 0 else [*lines[:_SHOWN], f"and {rest} more (--json has all)"]


def _engines(results: list[dict[str, Any]]) -> list[str]:
    """Who has checked which certificates, a line for each."""
    spans: dict[str, list[str]] = {}
    count = Counter(result["by"] for result in results)
    for by, group in groupby(results, lambda result: str(result["by"])):
        names = [result["file"].partition(".")[0] for result in group]
        span = names[0] if len(names) == 1 else f"{names[0]}–{names[-1]}"
        spans.setdefault(by, []).append(span)
    return [
        f"  checked by {'nobody' if by == 'none' else by}: {count[by]}, {', '.join(_few(some))}"
        for by, some in spans.items()
    ]


def _checked_all(
    files: list[Path], model: nn.Module, exported: Path | None, spreading: Spreading
) -> _Found:
    found = _Found()
    with Bars() as bars, spreading.start() as engine, engine.shared(model) as handle:
        checked = engine.imap(partial(_checked, handle), files)
        for file, (row, certificate) in zip(files, checked, strict=True):
            found.results.append(row)
            if certificate is not None:
                found.certificates[file.name] = certificate
                if exported is not None and row["holds"]:
                    export(certificate, model, exported, file.stem)
            bars("certificates", len(found.results), len(files))
    return found


def _checked(handle: Handle[nn.Module], file: Path) -> tuple[dict[str, Any], Certificate | None]:
    certificate = None
    try:
        certificate = load_certificate(file)
        verdict = _checker(handle)(certificate)
    except SutureError as error:
        return _failed(file, error), certificate
    margin = verdict.margin if verdict.margin > float("-inf") else None
    row = {
        "file": file.name,
        "holds": verdict.holds,
        "margin": margin,
        "by": verdict.by,
        "reason": verdict.reason,
        "tried": certificate.note.get("tried"),
    }
    return row, certificate


@lru_cache(maxsize=1)
def _checker(handle: Handle[nn.Module]) -> Checker:
    """One a process: what certificates share is prepared once."""
    return Checker(handle.get())


def _failed(file: Path, error: SutureError) -> dict[str, Any]:
    return {"file": file.name, "holds": False, "margin": None, "by": "none", "reason": str(error)}


def _places(reference: Path) -> list[Path]:
    """Where a run folder keeps certificates, and where they lie beside a bundle."""
    return [
        reference / "artifacts" / "certificates",
        reference / "certificates",
        reference.parent / "certificates",
    ]


def _places_of(folder: Path) -> list[Path]:
    """The folder itself, or that of a run."""
    return [folder, folder / "artifacts" / "certificates"]


def _certificates(places: Sequence[Path], promise: Promise | None) -> tuple[list[Path], list[Path]]:
    """Proofs, and counts of votes, in the first place that has any; none is an error unless a
    promise says how many there should be."""
    for place in places:
        if files_in(place) or smoothing_files(place):
            return files_in(place), smoothing_files(place)
    if promise is not None:
        return [], []
    raise BundleError(
        expected=f"certificates in {places[0]} or {places[-1]}",
        got="none",
        remedy="Name a run whose repair proves something (advrepair), name the run that has them "
        "with --certificates, or give --data to certify test images.",
    )
