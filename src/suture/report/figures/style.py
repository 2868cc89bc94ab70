"""How every figure looks, and how it becomes SVG that can stand inside a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of one series: three ways to tell it apart."""

    color: str
    marker: str
    line: str


# Okabe & Ito's blue and vermilion and a neutral grey: apart under every common colour blindness.
LOOKS = {
    "undefended": Look("#5f6368", "o", "--"),
    "paper": Look("#0072b2", "s", "-"),
    "adaptive": Look("#d55e00", "^", "-"),
    "other": Look("#009e73", "D", "-"),
}
INK, FAINT = "#202124", "#d5d8dc"
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "suture",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.edgecolor": "#80868b",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Drawing:
    """A figure with all that a reader who cannot see it needs.

    Attributes:
        key: short name, unique on a page.
        title: what is shown.
        caption: what to read off.
        alt: the picture in words.
        svg: inline SVG, deterministic, ids prefixed with ``key``.
        header, rows: the numbers behind it.
    """

    key: str
    title: str
    caption: str
    alt: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def file(self) -> str:
        """The SVG as a file of its own."""
        return self.svg.replace("<svg", f"<svg {_NAMESPACES}", 1)


_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def draw(key: str, paint: Callable[[Figure], None], *, height: float, width: float = 4.7) -> str:
    """Let ``paint`` fill a figure of this size in inches; return its inline SVG."""
    # Whatever matplotlibrc the user has: the same records must give the same bytes.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        figure = Figure(figsize=(width, height), layout=None)
        canvas = FigureCanvasSVG(figure)
        paint(figure)
        stream = io.StringIO()
        canvas.print_svg(stream, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return inline(stream.getvalue(), key)


def inline(svg: str, prefix: str) -> str:
    """Cut a stand-alone SVG file down to what may stand in HTML beside other SVGs.

    Ids get a prefix (two figures share names otherwise), and the style sheet goes: inside a page
    it would apply to the whole page.
    """
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'(\sid=")', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", svg, count=1)
    return re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", svg, count=1)


def percent_axis(axes: Axes, label: str) -> None:
    """0 to 100 % on the vertical axis, with room so that lines at either end stay visible."""
    axes.set_ylim(-2, 102)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_ylabel(label)


def spread(positions: list[float], gap: float, top: float) -> list[float]:
    """Move labels apart vertically until neighbours are ``gap`` apart, as little as is simple.

    >>> spread([10.0, 11.0, 50.0], 10.0, 100.0)
    [10.0, 20.0, 50.0]
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = list(positions)
    for lower, upper in pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    ceiling = top
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed
