"""A study's rows → one self-contained HTML page: no network, no scripts."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

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
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("suture.studies", "templates"),
                jinja2.PackageLoader("suture.report", "templates"),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_svg"] = Markup
    return environment.get_template("study.html.j2")
