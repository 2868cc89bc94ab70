"""``suture certify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from suture import loading, studies
from suture.bounds import METHODS
from suture.certify import Checker, export, files_in, load_certificate
from suture.cli.bench import show
from suture.cli.choices import Model, Weights
from suture.cli.common import (
    Bars,
    command_line,
    default_out,
    emit,
    timed,
)
from suture.cli.options import Keeping, grouped
from suture.engine import Run
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
        list[float] | None, typer.Option("--eps", help="Radius of L∞ balls; repeatable.", min=0)
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
    keeping: Keeping,
) -> None:
    """Prove what can be proved about test images, or prove a repair's certificates again.

    Without --data, every certificate beside the model is proved again in float64 from its file and
    the weights alone; the exit status is 1 if one does not hold.

    Example: suture certify runs/cnn --data mnist --eps 0.02 --method crown
    """
    if data is None:
        raise typer.Exit(_recheck(Path(model), exported, keeping.as_json))
    chosen = tuple(method or DEFAULT)
    for name in set(chosen) - set(METHODS):
        raise ArgumentError(
            expected=f"a method out of {', '.join(METHODS)}", got=repr(name), remedy="Try crown."
        )
    study = Certified(
        model=model,
        weights=str(weights or ""),
        data=data,
        eps=tuple(eps or (8 / 255,)),
        methods=chosen,
        n=n,
        batch_size=batch_size,
    )
    run = Run.create(
        default_out("certify", keeping.out),
        kind="certify",
        title=study.title,
        command=command_line(),
        seed=keeping.seed,
        replace=keeping.force,
        parts={"model": model, "study": repr(study)},
    )
    with run, timed() as clock, Bars() as bars:
        rows, page = studies.run_study(study, run, seed=keeping.seed, on_progress=bars)
    show(keeping.as_json, study, rows, run, page, clock["seconds"])


def _recheck(reference: Path, exported: Path | None, as_json: bool) -> int:
    """Prove every certificate again; 0 if all hold."""
    files = _certificates(reference)
    try:
        model = loading.load(reference)
    except BundleError as error:  # an altered network: nothing that was proved is about it
        results = [_failed(file, error) for file in files]
    else:
        results = _results(files, model, exported)
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
    emit(as_json, facts | {"certificates": results}, "\n".join([held, *lines]))
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


def _certificates(reference: Path) -> list[Path]:
    """Those of a run folder, or those beside a bundle."""
    places = [
        reference / "artifacts" / "certificates",
        reference / "certificates",
        reference.parent / "certificates",
    ]
    for place in places:
        if files_in(place):
            return files_in(place)
    raise BundleError(
        expected=f"certificates in {places[0]} or {places[2]}",
        got="none",
        remedy="Name a run whose repair proves something (advrepair), or give --data to certify "
        "test images.",
    )
