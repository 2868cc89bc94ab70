"""``suture certify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from suture import studies
from suture.certify.accuracy import PROOFS
from suture.certify.smoothing import votes
from suture.cli import voted
from suture.cli.bench import show
from suture.cli.choices import radius
from suture.cli.common import Bars, Size, held_out, open_data, timed
from suture.cli.opening import Model
from suture.cli.options import Keeping, Opening, Spreading, grouped
from suture.cli.recheck import Promised, recheck
from suture.cli.voted import Counting
from suture.data import Dataset, batch_of
from suture.engine import Run
from suture.errors import ArgumentError
from suture.studies.certified import Certified
from suture.studies.smoothing import CertifiedByVotes
from suture.types import Batch

DEFAULT = ("ibp", "crown-ibp", "crown")
Balls = Annotated[
    list[float] | None,
    typer.Option(
        "--eps",
        help="Radius of L∞ balls, 8/255 is understood; repeatable. Default: what the repair was "
        "made for, else 8/255.",
        parser=radius,
        metavar="RADIUS",
    ),
]

Methods = Annotated[list[str] | None, typer.Option(help=f"{', '.join(PROOFS)}; repeatable.")]


@grouped
def command(
    model: Model,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Certify test images; without it, re-check certificates."),
    ] = None,
    size: Size = None,
    eps: Balls = None,
    method: Methods = None,
    n: Annotated[int, typer.Option("--n", help="How many test images.", min=1)] = 200,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images bounded together: memory.", min=1)
    ] = 64,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Time limit of an image, for beta-crown.", min=0)
    ] = 30.0,
    attacked: Annotated[
        int, typer.Option("--attacked", help="How many of them meet PGD too; 0 for all.", min=0)
    ] = 0,
    exported: Annotated[
        Path | None,
        typer.Option("--export", help="Write each certificate as ONNX and VNN-LIB to this folder."),
    ] = None,
    *,
    opening: Opening,
    counting: Counting,
    promised: Promised,
    spreading: Spreading,
    keeping: Keeping,
) -> None:
    """Prove what can be proved about test images, or prove a repair's certificates again.

    A model that votes over noisy copies is certified by counting (randomised smoothing). Without
    --data, every certificate beside the model is checked again from its file and the weights alone,
    and all are held to the promise that the repair left. The exit status is 1 if one fails.

    Example: suture certify runs/cnn --data mnist --eps 0.02 --method crown
    """
    if data is None:
        given = (exported, counting, promised, keeping, spreading)
        raise typer.Exit(recheck(Path(model), *given, trusted=_check_alone(opening, size)))
    opened, batch = _opened(opening, model, open_data(data, size), n)
    _check(counting.certificates, votes(opened) and bool(eps or method))
    if votes(opened):
        counted = CertifiedByVotes(model=model, data=data, n=len(batch))
        voted.count(counted, opened, batch, counting.copies, keeping=keeping, spreading=spreading)
    else:
        study = Certified(
            model=model,
            weights=str(opening.weights or ""),
            data=data,
            eps=tuple(eps or (_recorded(model) or 8 / 255,)),
            methods=_methods(method),
            n=n,
            batch_size=batch_size,
            seconds=seconds,
            attacked=attacked,
            opened=(opened, batch),
        )
        _bound(study, keeping, spreading)


def _check_alone(opening: Opening, size: str | None) -> bool:
    """Certificates speak of the model as it was kept: all that may be said is whether to trust."""
    said = {"--weights": opening.weights, "--size": size}
    said |= {f"--{'range' if k == 'pixels' else k}": v for k, v in opening.said.items()}
    if given := [name for name, value in said.items() if value is not None]:
        raise ArgumentError(
            expected="--data to certify test images, beside " + ", ".join(given),
            got="no --data",
            remedy="Add it; or leave them out to check certificates again.",
        )
    return opening.trust_code


def _opened(opening: Opening, model: str, dataset: Dataset, n: int) -> tuple[nn.Module, Batch]:
    return opening.model(model, dataset), batch_of(held_out(dataset, n, opening.place))


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


def _recorded(model: str) -> float | None:
    """The L∞ radius that a repair run was made for, if it says one."""
    if not (Path(model) / "run.json").is_file():
        return None
    threat = Run.open(Path(model)).info.get("threat", {})
    radius = float(threat.get("eps") or 0)
    return radius if threat.get("norm") == "linf" and 0 < radius <= 1 else None


def _methods(given: list[str] | None) -> tuple[str, ...]:
    chosen = tuple(given or DEFAULT)
    for name in set(chosen) - set(PROOFS):
        raise ArgumentError(
            expected=f"a method out of {', '.join(PROOFS)}", got=repr(name), remedy="Try crown."
        )
    return chosen


def _bound(study: Certified, keeping: Keeping, spreading: Spreading) -> None:
    """Certified accuracy of a deterministic model, by bounds."""
    run = keeping.begin("certify", study.title, model=study.model, study=repr(study))
    spread = spreading.start(threads=None if spreading.engine == "inline" else 1)
    with run, spread, timed() as clock, Bars() as bars:
        rows, page = studies.run_study(
            study, run, seed=keeping.seed, pieces=spread, on_progress=bars
        )
    show(keeping.as_json, study, rows, run, page, clock["seconds"])
