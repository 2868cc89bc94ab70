"""Map work over cores, and keep what comes out of it in run folders."""

from suture.engine.base import Engine
from suture.engine.inline import Inline
from suture.engine.processes import Processes
from suture.engine.runs import Run

__all__ = ["Engine", "Inline", "Processes", "Run"]
