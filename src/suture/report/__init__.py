"""Records → tables, figures, and one self-contained HTML page."""

from __future__ import annotations

from suture.report.about import about
from suture.report.figures import Drawing
from suture.report.judge import Verdict, verdict
from suture.report.page import render, write
from suture.report.run import Examples, RunData, load

__all__ = [
    "Drawing",
    "Examples",
    "RunData",
    "Verdict",
    "about",
    "load",
    "render",
    "verdict",
    "write",
]
