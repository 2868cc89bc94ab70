"""What every page is rendered with: templates by package, the same filters and functions."""

from __future__ import annotations

import jinja2
from markupsafe import Markup

from suture.report.downloads import csv_uri, numbers_uri, svg_uri
from suture.report.marks import interval_plot
from suture.report.wording import MISSING, percent, points


def environment(*packages: str) -> jinja2.Environment:
    """Jinja with the templates of these packages, and behind them the report's."""
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(name, "templates") for name in (*packages, "suture.report")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=percent, points=points, safe_svg=Markup)
    made.filters.update(svg_uri=svg_uri, numbers_uri=numbers_uri)
    made.globals.update(missing=MISSING, interval_plot=interval_plot, csv_uri=csv_uri)
    return made
