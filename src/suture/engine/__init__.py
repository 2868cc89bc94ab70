"""Map work over cores or machines, and keep what comes out of it in run folders."""

from suture.engine.base import Engine
from suture.engine.inline import Inline
from suture.engine.ledger import Ledger
from suture.engine.on_ray import Ray
from suture.engine.outcomes import Failure, Outcome
from suture.engine.points import Points
from suture.engine.processes import Processes
from suture.engine.recorded import Recorded
from suture.engine.runs import Run
from suture.engine.share import Crew, Share
from suture.engine.sharing import Handle

__all__ = [
    "Crew",
    "Engine",
    "Failure",
    "Handle",
    "Inline",
    "Ledger",
    "Outcome",
    "Points",
    "Processes",
    "Ray",
    "Recorded",
    "Run",
    "Share",
]
