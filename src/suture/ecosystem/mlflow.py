"""A finished run in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suture.ecosystem.needed import needed
from suture.ecosystem.told import files, opened, parameters, scalars
from suture.report import verdict

_MOST = 500
"""Characters of a parameter that every store takes."""


def log_mlflow(
    folder: str | Path, *, experiment: str = "suture", tracking_uri: str | None = None
) -> str:
    """Log a run's parameters, numbers, page and records.

    Args:
        folder: of the run.
        experiment: its name in MLflow; made if there is none.
        tracking_uri: of the store; default: MLflow's own (``MLFLOW_TRACKING_URI``).

    Returns:
        MLflow's id of the run.

    Raises:
        DependencyError: MLflow is not installed.
        BundleError: no run there, or one that was altered.
    """
    run = opened(Path(folder))
    tracking: Any = needed("mlflow.tracking", "mlflow", "its store")
    client = tracking.MlflowClient(tracking_uri=tracking_uri)
    known = client.get_experiment_by_name(experiment)
    place = known.experiment_id if known else client.create_experiment(experiment)
    made = client.create_run(place, run_name=str(run.info.get("title", "")))
    name = str(made.info.run_id)
    for key, value in parameters(run).items():
        client.log_param(name, key, value[:_MOST])
    for one in scalars(run):
        client.log_metric(name, one.name, one.value, step=one.step)
    if run.records:
        client.set_tag(name, "verdict", verdict(run.records).sentence)
    for path in files(Path(folder)):
        client.log_artifact(name, str(path))
    client.set_terminated(name)
    return name
