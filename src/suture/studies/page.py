"""A study's rows → one self-contained HTML page: no network, no scripts."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from suture.report.environment import environment
from suture.studies.base import Row, Study


def render(study: Study, rows: list[Row], info: dict[str, Any]) -> str:
    """The page as text: a pure function of settings, rows and the run's facts."""
    return _template().render(
        study=study,
        settings=repr(study),
        notes=study.notes(rows),
        tables=study.tables(rows),
        figures=study.figures(rows),
        info=info,
        rows=len(rows),
    )


@cache
def _template() -> jinja2.Template:
    return environment("suture.studies").get_template("study.html.j2")
