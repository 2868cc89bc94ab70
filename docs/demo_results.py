"""Put the demo's numbers into README.md, and its picture into ``docs/images/demo.svg``.

``python docs/demo_results.py suture-demo``, after ``make demo``. Everything comes from the run's
records.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from suture.report import load, verdict
from suture.report.cells import AccuracyCell, MeasuredCell
from suture.report.figures.style import FAINT, INK, LOOKS
from suture.report.run import RunData
from suture.report.tables import GROUPS, TableRow, accuracy_rows

HERE = Path(__file__).parent
PICTURE, README = HERE / "images" / "demo.svg", HERE.parent / "README.md"
BEGIN, END = "<!-- demo:begin -->", "<!-- demo:end -->"
SHOWN = ("clean", "paper", "adaptive")


def main(folder: Path) -> None:
    """Write both."""
    run = load(folder)
    rows = [row for row in accuracy_rows(run.records) if row.group in SHOWN]
    PICTURE.write_text(picture(rows), encoding="utf-8")
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{box(run)}{END}{after}", encoding="utf-8")


def box(run: RunData) -> str:
    """The results as Markdown: the rows that decide, and how they were measured."""
    judged = verdict(run.records)
    head = judged.headline
    decide = (
        (head.clean_before, head.clean_after),
        (head.undefended, head.paper),
        (head.undefended_adaptive, head.adaptive),
        (None, head.every),
    )
    lines = ["| | before | after |", "| --- | --- | --- |"]
    for before, after in decide:
        named = after or before
        if named:
            lines.append(f"| {named.first.row} | {_words(before)} | {_words(after)} |")
    info, n = run.info, run.records[0].n
    how = (
        f"`{info['command']}`: seed {info['seed']}, {n} test images, "
        f"{info['hardware']['cores']} cores, {info['seconds']:.0f} s. In brackets the 95 % "
        "interval, then the counts, a range where a row was measured three times. The first "
        "attacked row is the paper's protocol; in the last two the attacker knows the defence."
    )
    return "\n".join([*lines, "", how, "", f"> {judged.sentence}", ""])


def _words(m: MeasuredCell | None) -> str:
    if m is None:
        return "—"
    cell = m.cell
    return f"{cell.percent:.1f} % [{cell.low:.1f}–{cell.high:.1f}], {cell.counts}"


def picture(rows: list[TableRow]) -> str:
    """Every row before (hollow) and after (filled) the repair, with 95 % intervals, as SVG."""
    style = {"svg.hashsalt": "suture", "svg.fonttype": "path", "font.size": 10.0}
    with mpl.rc_context(style):
        figure = Figure(figsize=(10.8, 0.62 + 0.36 * len(rows)), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        _paint(figure.add_subplot(), rows)
        stream = io.StringIO()
        canvas.print_svg(stream, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return re.sub(r"[ \t]+$", "", stream.getvalue(), flags=re.M)


def _paint(axes: Axes, rows: list[TableRow]) -> None:
    for place, row in enumerate(rows):
        if row.undefended:
            _mark(axes, row.undefended, place - 0.13, LOOKS["undefended"].color, hollow=True)
        if row.defended:
            look = LOOKS["adaptive" if row.group == "adaptive" else "paper"]
            _mark(axes, row.defended, place + 0.13, look.color, hollow=False)
            axes.text(103, place, f"{row.defended.percent:.0f} %", va="center", color=look.color)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-1.5, 101.5)
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"], color=INK)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    for place in range(1, len(rows)):
        if rows[place].group != rows[place - 1].group:
            axes.axhline(place - 0.5, color=FAINT, linewidth=1)
    axes.set_title("accuracy: ○ before, ● after the repair", loc="left", fontsize=10, color=INK)
    _caption(axes, rows, "paper", 31, 0.0)
    _caption(axes, rows, "adaptive", 80, 2.5)


def _caption(axes: Axes, rows: list[TableRow], group: str, x: float, below: float) -> None:
    """What a group of rows is, beside its marks."""
    first = next((i for i, row in enumerate(rows) if row.group == group), None)
    if first is not None:
        text = GROUPS[group].lower().replace(" who ", "\nwho ")
        colour = LOOKS[group].color
        axes.text(x, first + below, text, ha="center", va="center", color=colour, style="italic")


def _mark(axes: Axes, cell: AccuracyCell, height: float, color: str, *, hollow: bool) -> None:
    axes.plot((cell.low, cell.high), (height, height), color=color, linewidth=1.6, clip_on=False)
    face = "white" if hollow else color
    axes.plot(
        cell.percent,
        height,
        marker="o",
        markersize=6,
        markerfacecolor=face,
        markeredgecolor=color,
        clip_on=False,
        zorder=3,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "suture-demo"))
