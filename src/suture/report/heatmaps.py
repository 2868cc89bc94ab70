"""Grad-CAM: where in an image a class's evidence is (Selvaraju et al. 2017).

``α_k = mean over positions of ∂logit_c / ∂A_k``, the map is ``ReLU(Σ_k α_k A_k)`` of the last
layer that still has positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from suture.errors import ModelError
from suture.report.figures.style import Drawing, draw


def grad_cam(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Heatmaps ``(n, h', w')`` in [0, 1], each divided by its maximum (0 where nothing speaks for
    the class).

    Args:
        model: a classifier with convolutions; the map is taken behind the last one.
        images: ``(n, c, h, w)``.
        labels: int64 ``(n,)``, the class that is asked about.

    Raises:
        ModelError: no convolution.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        raise ModelError(
            expected="a model with convolutions, for Grad-CAM",
            got=f"a {type(model).__name__} without",
            remedy="Heatmaps need positions; a fully connected model has none.",
        )
    seen: list[Tensor] = []
    hook = convolutions[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        with torch.enable_grad():
            # A model whose weights are frozen has gradients all the same.
            logits = model(images.detach().clone().requires_grad_(True))
            (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), seen[-1])
    finally:
        hook.remove()
    weights = gradient.mean((2, 3), keepdim=True)
    maps = (weights * seen[-1].detach()).sum(1).clamp_min(0)
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-12)


@dataclass(frozen=True)
class HeatmapPanel:
    """One picture of the grid: an image in [0, 1] (nested lists ``c, h, w``), and a heatmap over it
    or ``None``."""

    title: str
    image: Any
    heat: Any = None


def heatmap_drawing(
    key: str, title: str, caption: str, rows: Sequence[tuple[str, Sequence[HeatmapPanel]]]
) -> Drawing:
    """A grid of images, some under heatmaps; every row has a name."""
    across = max(len(panels) for _, panels in rows)

    def paint(figure: Figure) -> None:
        axes = figure.subplots(len(rows), across, squeeze=False)
        for line, (name, panels) in zip(axes, rows, strict=True):
            for ax in line:
                ax.set_axis_off()
            for ax, panel in zip(line, panels, strict=False):
                _paint(ax, panel)
            line[0].text(
                -0.12,
                0.5,
                name,
                transform=line[0].transAxes,
                rotation=90,
                va="center",
                ha="right",
                fontsize=8,
            )
        figure.subplots_adjust(left=0.06, right=0.99, top=0.93, bottom=0.01, hspace=0.3)

    told = tuple((name, *(panel.title for panel in panels)) for name, panels in rows)
    return Drawing(
        key=key,
        title=title,
        caption=caption,
        alt="; ".join(f"{row[0]}: {', '.join(row[1:])}" for row in told),
        svg=draw(key, paint, height=1.45 * len(rows) + 0.2, width=1.35 * across),
        header=("image", *(f"panel {i + 1}" for i in range(across))),
        rows=told,
    )


def _paint(ax: Any, panel: HeatmapPanel) -> None:
    image = np.asarray(panel.image, dtype=float)
    _, height, width = image.shape
    picture = image.transpose(1, 2, 0) if image.shape[0] == 3 else image[0]
    extent = (0, width, height, 0)
    faded = panel.heat is not None
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, alpha=0.55 if faded else 1.0)
    if faded:
        ax.imshow(
            np.asarray(panel.heat, dtype=float),
            cmap="inferno",
            vmin=0,
            vmax=1,
            extent=extent,
            alpha=0.55,
            interpolation="bilinear",
        )
    ax.set_title(panel.title, fontsize=7)
