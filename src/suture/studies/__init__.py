"""The papers' tables, measured again, cell by cell: ``suture bench NAME``."""

from suture.studies.base import Cell, Row, Study
from suture.studies.registry import names, study
from suture.studies.running import run_study
from suture.studies.sheets import Sheet, interval, rate

__all__ = [
    "Cell",
    "Row",
    "Sheet",
    "Study",
    "interval",
    "names",
    "rate",
    "run_study",
    "study",
]
