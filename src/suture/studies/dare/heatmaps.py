"""Figure 1 of DARE: an image, two attacks on it, and where each model looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suture.report import Drawing
from suture.report.heatmaps import HeatmapPanel, grad_cam, heatmap_drawing
from suture.report.table import Row
from suture.rng import Stream
from suture.studies.dare.methods import OURS, repaired
from suture.studies.dare.subject import PREPARED, DarePlan, prepared
from suture.types import Batch

_SHOWN = ("C&W", "BIM")


def measure(plan: DarePlan, stream: Stream) -> list[Row]:
    """The first test image that the original gets right and both attacks turn; a row a version."""
    subject = prepared(plan)
    models = {
        "original": subject.model,
        "C&W-tuned": repaired("C&W", plan).model,
        OURS: repaired(OURS, plan).model,
    }
    batch = subject.dataset.test.batch(100)
    made = {
        name: plan.attacks[name](subject.model, batch, generator=PREPARED.child(f"heatmaps {name}"))
        for name in _SHOWN
    }
    turned = torch.stack([r.success & r.clean_right for r in made.values()]).all(0)
    if not bool(turned.any()):
        return []
    index = int(turned.nonzero()[0])
    versions = {"clean": batch.images[index]} | {n: r.images[index] for n, r in made.items()}
    label = batch.labels[index]
    names = subject.dataset.class_names
    return [
        _row(n, Batch(image[None], label[None]), models, names) for n, image in versions.items()
    ]


def _row(version: str, one: Batch, models: dict[str, nn.Module], names: tuple[str, ...]) -> Row:
    heats, said = {}, {}
    for name, model in models.items():
        heats[name] = _plain(grad_cam(model, one.images, one.labels)[0])
        with torch.no_grad():
            said[name] = names[int(model(one.images).argmax())]
    return {
        "what": "heatmap",
        "version": version,
        "label": names[int(one.labels)],
        "image": _plain(one.images[0]),
        "heats": heats,
        "said": said,
    }


def _plain(values: Tensor) -> list[object]:
    return torch.round(values.double() * 1000).div(1000).tolist()


def drawing(network: str, rows: list[Row]) -> Drawing | None:
    """The grid of Figure 1; ``None`` without rows."""
    own = [row for row in rows if row["what"] == "heatmap"]
    if not own:
        return None
    grid = []
    for row in own:
        panels = [HeatmapPanel(row["label"], row["image"])]
        for name, heat in row["heats"].items():
            panels.append(HeatmapPanel(f"{name}: {row['said'][name]}", row["image"], heat))
        grid.append((row["version"], panels))
    return heatmap_drawing(
        f"heatmaps-{network}",
        f"Where the models look (Figure 1): {network}",
        "Grad-CAM of the true class behind the last convolution. Above each: what that model says. "
        "The adversarial versions were made on the original.",
        grid,
    )
