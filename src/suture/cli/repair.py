"""``suture repair``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suture import report
from suture.cli.choices import (
    Eps,
    Norm,
    Queries,
    Steps,
    make_repair,
    reachable,
)
from suture.cli.common import (
    Bars,
    BatchSize,
    Data,
    Size,
    emit,
    open_data,
    say,
    timed,
)
from suture.cli.engines import noted
from suture.cli.fields import Settings, fields_of_chosen
from suture.cli.opening import (
    Model,
)
from suture.cli.options import Keeping, Opening, Spreading, TrainingTogether, grouped
from suture.cli.repaired import repair_facts, repair_text
from suture.data import Dataset
from suture.engine import Crew
from suture.pipeline import repair as repair_in
from suture.repairs import REPAIRS, Repair
from suture.settings import assignments

Command = fields_of_chosen("--method", REPAIRS, "defensyn")
_MEASURE = "What the result is worth, `suture evaluate` measures on held-out images."


@grouped
def command(
    model: Model,
    data: Data,
    size: Size = None,
    method: Annotated[
        str, typer.Option(help=f"{', '.join(REPAIRS)}. With --help: its fields.")
    ] = "defensyn",
    against: Annotated[
        str | None,
        typer.Option(help="The attack to withstand, for methods that have one; default: square."),
    ] = None,
    norm: Norm = None,
    eps: Eps = None,
    queries: Queries = None,
    steps: Steps = None,
    samples: Annotated[int | None, typer.Option(help="Training images used.", min=1)] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the training images; schedules are shortened.", min=1),
    ] = None,
    settings: Settings = None,
    batch_size: BatchSize = 256,
    *,
    opening: Opening,
    spreading: Spreading,
    together: TrainingTogether,
    keeping: Keeping,
) -> None:
    """Repair a classifier; the repaired one is kept in the run folder.

    Example: suture repair runs/cnn --data mnist --against square --norm linf --eps 0.15
    """
    dataset = open_data(data, size)
    flags = {"norm": norm, "eps": eps, "queries": queries, "steps": steps}
    flags |= {"samples": samples, "epochs": epochs}
    repair = make_repair(method, against, assignments(settings or []), **flags)
    _look_ahead(repair, dataset, together)
    repair = repair.beside(Path(model))
    classifier = opening.model(model, dataset)
    spread = spreading.start()
    title = f"{Path(model).name} repaired with {type(repair).__name__} on {Path(data).name}"
    run = keeping.begin("repair", title, model=model)
    run.info["threat"] = repair.threat
    with run, spread, timed() as clock, Bars() as bars:
        result = repair_in(
            classifier,
            dataset,
            repair,
            run,
            seed=keeping.seed,
            engine=spread,
            batch_size=batch_size,
            on_progress=bars,
            **together.how,
        )
    run.info["notes"] = [t for t in (*noted(), result.trace.get("why"), _MEASURE) if t]
    run.finish()
    report.write(run.folder)
    facts = repair_facts(result, str(run.folder), clock["seconds"], keeping.seed) | {"data": data}
    emit(keeping.as_json, facts, repair_text(facts))


def _look_ahead(repair: Repair, dataset: Dataset, together: TrainingTogether) -> None:
    """Says what is missing or in vain before anything is begun."""
    repair.check_crew(Crew(together.processes, together.checkpoint_minutes))
    if isinstance(eps := repair.threat.get("eps"), float):
        reachable(repair.threat.get("norm", "linf"), eps, dataset)
    seen = repair.seen(dataset)
    seen.split.batch(1)
    if seen.note:
        say(seen.note)
