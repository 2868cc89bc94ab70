"""AIGENT's first images: original, adversarial, difference."""

from __future__ import annotations

from typing import Any

import numpy as np

from suture.report import Drawing
from suture.report.figures.style import draw
from suture.report.table import Row
from suture.studies.aigent.measuring import OURS


def pictures(key: str, rows: list[Row]) -> Drawing | None:
    """Original, adversarial, difference with the changed pixels marked; AIGENT's first images."""
    shown = next((row["shown"] for row in rows if row["what"] == OURS and "shown" in row), None)
    if not shown:
        return None

    def paint(figure: Any) -> None:
        axes = figure.subplots(3, len(shown), squeeze=False)
        for column, pair in enumerate(shown):
            _paint_pair([row[column] for row in axes], pair)

    lines = tuple((str(p["label"]), str(p["said"]), str(len(p["changed"]))) for p in shown)
    return Drawing(
        f"{key}-pictures",
        f"Original, adversarial, difference: {key}",
        "Below: the change (red up, blue down; of colour images its mean over channels), every "
        "changed pixel framed.",
        f"{len(shown)} images with {', '.join(line[2] for line in lines)} changed pixels.",
        draw(f"{key}-pictures", paint, height=3.4, width=5.4),
        ("label", "the network says", "changed pixels"),
        lines,
    )


def _paint_pair(axes: list[Any], pair: dict[str, Any]) -> None:
    shape = pair["shape"]
    clean, attacked = (
        np.array(pair[name], dtype=float).reshape(shape) / 255 for name in ("clean", "attacked")
    )
    for ax, image, title in (
        (axes[0], clean, str(pair["label"])),
        (axes[1], attacked, f"→ {pair['said']}"),
    ):
        picture = image.transpose(1, 2, 0)
        ax.imshow(picture if shape[0] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=8)
    axes[2].imshow((attacked - clean).mean(0), cmap="bwr", vmin=-1, vmax=1)
    for place in pair["changed"]:
        row, column = divmod(place, shape[2])
        x, y = column - 0.5, row - 0.5
        axes[2].plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color="#202124", lw=0.7)
    for ax in axes:
        ax.set_axis_off()
