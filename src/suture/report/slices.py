"""A picture of a slice: how contributions are spread in every layer, and how many are key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from suture.report.figures.style import LOOKS, Drawing, draw


@dataclass(frozen=True)
class LayerSlice:
    """One layer of a slice, in numbers.

    Attributes:
        name: of its weight.
        neurons, key_neurons: how many there are, and how many touch a key synapse.
        synapses, key_synapses: the same for synapses.
        positive, negative: synapses that contribute to the class, and against it; the rest are 0.
    """

    name: str
    neurons: int
    key_neurons: int
    synapses: int
    key_synapses: int
    positive: int
    negative: int


def slice_drawing(title: str, layers: Sequence[LayerSlice]) -> Drawing:
    """Bars, layer by layer: synapses for, without, and against the class, and key neurons."""

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        figure.subplots_adjust(left=0.2, right=0.97, bottom=0.2, top=0.88, wspace=0.2)
        place = np.arange(len(layers))
        _stack(left, place, layers)
        shares = [100 * one.key_neurons / one.neurons for one in layers]
        right.barh(place, shares, color=LOOKS["other"].color, height=0.7)
        left.set_yticks(place, [one.name.removesuffix(".weight") for one in layers])
        left.invert_yaxis()
        for axes, text in ((left, "synapses, %"), (right, "key neurons, %")):
            axes.set_xlim(0, 100)
            axes.set_xlabel(text)
            axes.grid(axis="y", visible=False)

    return Drawing(
        key="slice",
        title=title,
        caption="Left: synapses that contribute to the class, that do nothing, and that work "
        "against it. Right: neurons that touch a key synapse.",
        alt="; ".join(
            f"{one.name}: {one.key_neurons} of {one.neurons} neurons key" for one in layers
        ),
        svg=draw("slice", paint, height=0.9 + 0.24 * len(layers), width=5.6),
        header=("layer", "neurons", "key", "synapses", "key", "for", "against"),
        rows=tuple(tuple(map(str, vars(one).values())) for one in layers),
    )


def _stack(axes, place, layers: Sequence[LayerSlice]) -> None:  # type: ignore[no-untyped-def]
    start = np.zeros(len(layers))
    parts = (
        ("for", [one.positive for one in layers], LOOKS["paper"].color),
        ("nothing", [one.synapses - one.positive - one.negative for one in layers], "#d5d8dc"),
        ("against", [one.negative for one in layers], LOOKS["adaptive"].color),
    )
    total = np.array([one.synapses for one in layers])
    for name, counts, color in parts:
        share = 100 * np.array(counts) / total
        axes.barh(place, share, left=start, color=color, height=0.7, label=name)
        start = start + share
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 0.98))
