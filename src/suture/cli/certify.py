"""``suture certify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from suture import loading, studies
from suture.bounds import METHODS
from suture.certify import Checker, export, files_in, load_certificate
from suture.certify.smoothing import smoothing_files, votes
from suture.cli import voted
from suture.cli.bench import show
from suture.cli.choices import (
    radius,
)
from suture.cli.common import Bars, emit, open_data, timed
from suture.cli.opening import (
    Model,
    Weights,
)
from suture.cli.options import Keeping, Spreading, grouped
from suture.cli.voted import Counting
from suture.errors import ArgumentError, BundleError, SutureError
from suture.studies.certified import Certified

DEFAULT = ("ibp", "crown-ibp", "crown")


@grouped
def command(
    model: Model,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Certify test images; without it, re-check certificates."),
    ] = None,
    eps: Annotated[
        list[float] | None,
        typer.Option(
            "--eps",
            help="Radius of L∞ balls, 8/255 is understood; repeatable.",
            parser=radius,
            metavar="RADIUS",
        ),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(METHODS)}; repeatable.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="How many test images.", min=1)] = 200,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images bounded together: memory.", min=1)
    ] = 64,
    exported: Annotated[
        Path | None,
        typer.Option("--export", help="Write each certificate as ONNX and VNN-LIB to this folder."),
    ] = None,
    weights: Weights = None,
    *,
    counting: Counting,
    spreading: Spreading,
    keeping: Keeping,
) -> None:
    """Prove what can be proved about test images, or prove a repair's certificates again.

    A model that votes over noisy copies is certified by counting (randomised smoothing): a table of
    certified accuracy by radius, and a certificate an image. Without --data, every certificate
    beside the model is checked again from its file and the weights alone; the exit status is 1 if
    one does not hold.

    Example: suture certify runs/cnn --data mnist --eps 0.02 --method crown
    """
    if data is None:
        raise typer.Exit(_recheck(Path(model), exported, counting, keeping))
    opened = _opened(model, weights, data)
    _check(counting.certificates, votes(opened) and bool(eps or method))
    if votes(opened):
        voted.count(opened, model, data, n, counting.copies, keeping=keeping, spreading=spreading)
    else:
        chosen = _methods(method)
        study = Certified(
            model=model,
            weights=str(weights or ""),
            data=data,
            eps=tuple(eps or (8 / 255,)),
            methods=chosen,
            n=n,
            batch_size=batch_size,
        )
        _bound(study, keeping, spreading)


def _check(certificates: Path | None, settled: bool) -> None:
    if certificates is not None:
        raise ArgumentError(
            expected="--data to certify images, or --certificates to check some again",
            got="both",
            remedy="Leave one out.",
        )
    if settled:
        raise ArgumentError(
            expected="neither --eps nor --method: of a model that votes each image has a radius",
            got="one of them",
            remedy="Leave them out.",
        )


def _methods(given: list[str] | None) -> tuple[str, ...]:
    chosen = tuple(given or DEFAULT)
    for name in set(chosen) - set(METHODS):
        raise ArgumentError(
            expected=f"a method out of {', '.join(METHODS)}", got=repr(name), remedy="Try crown."
        )
    return chosen


def _bound(study: Certified, keeping: Keeping, spreading: Spreading) -> None:
    """Certified accuracy of a deterministic model, by bounds."""
    run = keeping.begin("certify", study.title, model=study.model, study=repr(study))
    spread = spreading.start(threads=None if spreading.engine == "inline" else 1)
    with run, spread, timed() as clock, Bars() as bars:
        rows, page = studies.run_study(
            study, run, seed=keeping.seed, engine=spread, on_progress=bars
        )
    show(keeping.as_json, study, rows, run, page, clock["seconds"])


def _opened(model: str, weights: Path | None, data: str) -> nn.Module:
    shape = {"in_shape": open_data(data).in_shape} if model.endswith(".onnx") else {}
    return loading.load(model, weights=weights, **shape)


def _recheck(reference: Path, exported: Path | None, counting: Counting, keeping: Keeping) -> int:
    """Prove every certificate again; 0 if all hold."""
    given = counting.certificates
    places = _places(reference) if given is None else _places_of(given)
    files, counted = _certificates(places)
    try:
        model = loading.load(reference)
    except BundleError as error:  # an altered network: nothing that was proved is about it
        results = [_failed(file, error) for file in (*files, *counted)]
    else:
        results = _results(files, model, exported) if files else []
        results += (
            voted.check_votes(counted, model, counting.pieces, keeping.seed) if counted else []
        )
    bad = [result for result in results if not result["holds"]]
    tried = max((result.get("tried") or 0 for result in results), default=0)
    held = f"{len(results) - len(bad)} of {len(results)} certificates hold"
    held += f"; {tried} were tried" if tried else ""
    lines = [f"{result['file']}: {result['reason']}" for result in bad]
    facts = {
        "model": str(reference),
        "checked": len(results),
        "failed": len(bad),
        "tried": tried or None,
    }
    emit(keeping.as_json, facts | {"certificates": results}, "\n".join([held, *lines]))
    return 1 if bad else 0


def _results(files: list[Path], model: nn.Module, exported: Path | None) -> list[dict[str, Any]]:
    checker, results = Checker(model), []
    with Bars() as bars:
        for done, file in enumerate(files, start=1):
            results.append(_checked(checker, file))
            if exported is not None and results[-1]["holds"]:
                export(load_certificate(file), model, exported, file.stem)
            bars("certificates", done, len(files))
    return results


def _failed(file: Path, error: SutureError) -> dict[str, Any]:
    return {"file": file.name, "holds": False, "margin": None, "by": "none", "reason": str(error)}


def _checked(checker: Checker, file: Path) -> dict[str, Any]:
    try:
        certificate = load_certificate(file)
        verdict = checker(certificate)
    except SutureError as error:
        return _failed(file, error)
    margin = verdict.margin if verdict.margin > float("-inf") else None
    return {
        "file": file.name,
        "holds": verdict.holds,
        "margin": margin,
        "by": verdict.by,
        "reason": verdict.reason,
        "tried": certificate.note.get("tried"),
    }


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


def _certificates(places: list[Path]) -> tuple[list[Path], list[Path]]:
    """Proofs, and counts of votes, in the first place that has any."""
    for place in places:
        if files_in(place) or smoothing_files(place):
            return files_in(place), smoothing_files(place)
    raise BundleError(
        expected=f"certificates in {places[0]} or {places[-1]}",
        got="none",
        remedy="Name a run whose repair proves something (advrepair), name the run that has them "
        "with --certificates, or give --data to certify test images.",
    )
