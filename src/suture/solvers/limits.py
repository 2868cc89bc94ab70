"""What a solve may cost."""

from __future__ import annotations

from dataclasses import dataclass

from suture.errors import require


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one solve.

    Args:
        seconds: wall time, ``None`` for no limit.
        gap: relative gap at which a mixed-integer solve may stop.
        threads: the solver's own threads; more than one may change the result.
        interior: an interior-point method with crossover in place of the simplex, for large linear
            programs; HiGHS only, others choose by themselves.
    """

    seconds: float | None = None
    gap: float = 1e-6
    threads: int = 1
    interior: bool = False

    def __post_init__(self) -> None:
        checks = {
            "seconds > 0, or None": self.seconds is None or self.seconds > 0,
            "gap >= 0": self.gap >= 0,
            "threads >= 1": self.threads >= 1,
        }
        require(checks, self, "Correct the limit or leave it out.")
