"""Two or more runs side by side: settings, headline figures, and the same images row by row."""

from __future__ import annotations

from suture.report.comparison.compared import ComparedRun, opened
from suture.report.comparison.page import render, write
from suture.report.comparison.paired import PairedCounts, mcnemar, paired

__all__ = ["ComparedRun", "PairedCounts", "mcnemar", "opened", "paired", "render", "write"]
