"""A finished run in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suture.ecosystem.needed import needed
from suture.ecosystem.told import opened, parameters, scalars
from suture.report import verdict


def log_tensorboard(folder: str | Path, log_dir: str | Path) -> int:
    """Write a run's curves, measured accuracies and verdict as an event file.

    Args:
        folder: of the run.
        log_dir: where TensorBoard looks; one folder a run.

    Returns:
        How many numbers were written.

    Raises:
        DependencyError: TensorBoard is not installed.
        BundleError: no run there, or one that was altered.
    """
    writer_of: Any = needed("torch.utils.tensorboard", "tensorboard", "its event files")
    run, count = opened(Path(folder)), 0
    with writer_of.SummaryWriter(str(log_dir)) as writer:
        for one in scalars(run):
            writer.add_scalar(one.name, one.value, one.step)
            count += 1
        rows = [f"| {key} | {value} |" for key, value in parameters(run).items()]
        writer.add_text("run", "\n".join(["| | |", "| --- | --- |", *rows]))
        if run.records:
            writer.add_text("verdict", verdict(run.records).sentence)
    return count
