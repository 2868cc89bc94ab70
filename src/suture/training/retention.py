"""Which epochs of a training are remembered."""

from __future__ import annotations

from dataclasses import dataclass

from suture.errors import require


@dataclass(frozen=True)
class Retention:
    """A rule; the newest epoch and the best one are kept whatever it says.

    Args:
        every: every so many epochs: 5 keeps 5, 10, ….
        last: of those, the last so many; ``None`` for all.
        megabytes: the oldest go where the weights would take more (10⁶ bytes each); ``None`` for no
            limit.

    Raises:
        ArgumentError: a value out of range.
    """

    every: int = 1
    last: int | None = None
    megabytes: float | None = None

    def __post_init__(self) -> None:
        checks = {
            "every >= 1": self.every >= 1,
            "last >= 1, or None": self.last is None or self.last >= 1,
            "megabytes > 0, or None": self.megabytes is None or self.megabytes > 0,
        }
        require(checks, self, "For example every=2, last=20, megabytes=500.")

    def kept(self, newest: int, best: int, size: int) -> set[int]:
        """Epochs to keep, counted from 1.

        Args:
            newest: epochs so far.
            best: the best of them.
            size: bytes of one epoch's weights.
        """
        chosen = [epoch for epoch in range(1, newest + 1) if epoch % self.every == 0]
        if self.last is not None:
            chosen = chosen[-self.last :]
        always = {best, newest}
        if self.megabytes is not None:
            room = max(0, int(1e6 * self.megabytes // max(1, size)) - len(always))
            others = [epoch for epoch in chosen if epoch not in always]
            chosen = others[len(others) - room :] if room < len(others) else others
        return always | set(chosen)
