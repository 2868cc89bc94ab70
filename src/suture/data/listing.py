"""What data sets there are, and whether this machine has them; nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from suture.data.named import KNOWN, Known


@dataclass(frozen=True)
class Entry:
    """One known data set.

    Attributes:
        name: for ``load``.
        available: whether it can be loaded now without a network.
        source: where it would come from.
        train, test: official counts there; ``load`` takes the validation split out of ``train``.
        shape: ``(channels, height, width)``.
        classes: how many.
        notes: what a reader of its numbers should know.
    """

    name: str
    available: bool
    source: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    notes: str


def catalogue() -> list[Entry]:
    """All known data sets, in a fixed order; a look at file names only.

    Raises:
        DataError: when ``SUTURE_DATA`` names something that is not a folder.
    """
    return [_entry(name, known) for name, known in KNOWN.items()]


def _entry(name: str, known: Known) -> Entry:
    here = next((c for c in known.candidates if c.available()), None)
    shown = here or known.candidates[0]
    source = shown.place
    if here is None:
        source = "torchvision's download" if known.kind else f"missing ({shown.place})"
    return Entry(
        name=name,
        available=here is not None,
        source=source,
        train=shown.train,
        test=shown.test,
        shape=known.shape,
        classes=known.classes,
        notes=shown.notes,
    )
