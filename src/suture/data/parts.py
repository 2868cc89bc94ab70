"""From what a source found to a data set with its three splits."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from suture.data.dataset import Dataset, Split
from suture.data.splits import stratified, validation_count
from suture.data.stores import Images
from suture.errors import ArgumentError, DataError
from suture.rng import Stream, as_stream


@dataclass(frozen=True, eq=False)
class Part:
    """One official set: all its images, their labels, their official positions.

    Args:
        images: ``n`` images.
        labels: int64 ``(n,)``.
        index: int64 ``(n,)``; ``None`` when the position in the file is the official one.
    """

    images: Images
    labels: Tensor
    index: Tensor | None = None

    def split(self, name: str, rows: Tensor) -> Split:
        """The rows, int64 or bool mask, as a split."""
        rows = torch.arange(len(self.labels))[rows]
        index = rows if self.index is None else self.index[rows]
        return Split(name, self.labels[rows], index, self.images, rows)


@dataclass(frozen=True, eq=False)
class SourceContent:
    """What a source offers: official parts, or one ``whole`` that has no official test set."""

    name: str
    source: str
    class_names: tuple[str, ...]
    train: Part | None = None
    validation: Part | None = None
    test: Part | None = None
    whole: Part | None = None
    notes: tuple[str, ...] = field(default=())
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @staticmethod
    def of(
        name: str, source: str, class_names: tuple[str, ...], parts: dict[str, Part]
    ) -> SourceContent:
        """With the parts under their names: train, validation, test, whole."""
        return SourceContent(
            name,
            source,
            class_names,
            train=parts.get("train"),
            validation=parts.get("validation"),
            test=parts.get("test"),
            whole=parts.get("whole"),
        )


def assemble(
    found: SourceContent, *, seed: int, validation: int | float | None, test_share: float
) -> Dataset:
    """The data set with three disjoint splits.

    An official test or validation set is kept as it is. Otherwise the test split is a fixed,
    stratified share of the whole that does not depend on the seed, and the validation split a
    stratified share of the rest that does.

    Raises:
        DataError: when the parts' shapes disagree or a label has no class.
        ArgumentError: for a senseless ``validation`` or ``test_share``.
    """
    shape = _common_shape(found)
    _check_labels(found)
    train, test, notes = _train_and_test(found, test_share)
    train, held_out = _hold_out(found, train, seed, validation)
    return Dataset(
        name=found.name,
        class_names=found.class_names,
        in_shape=shape,
        source=found.source,
        notes=" ".join((*found.notes, *notes)),
        train=train,
        validation=held_out,
        test=test,
        given_statistics=found.statistics,
    )


def _parts(found: SourceContent) -> dict[str, Part]:
    named = {name: getattr(found, name) for name in ("train", "validation", "test", "whole")}
    return {name: part for name, part in named.items() if part is not None}


def _common_shape(found: SourceContent) -> tuple[int, int, int]:
    shapes = {name: part.images.shape[1:] for name, part in _parts(found).items()}
    if len(set(shapes.values())) != 1:
        raise DataError(
            expected="training, validation and test images of one shape (channels, height, width)",
            got=", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no images",
            remedy="Resize the images, or store the sets apart.",
        )
    return next(iter(shapes.values()))


def _check_labels(found: SourceContent) -> None:
    for name, part in _parts(found).items():
        highest = int(part.labels.max())
        if highest >= len(found.class_names):
            raise DataError(
                expected=f"{name} labels from 0 to {len(found.class_names) - 1}, one per class",
                got=f"the label {highest} in {found.source}",
                remedy="Correct the labels, or name every class.",
            )


def _train_and_test(
    found: SourceContent, test_share: float
) -> tuple[Split, Split, tuple[str, ...]]:
    if found.whole is not None:
        return _cut_whole(found.whole, test_share)
    empty = _empty(found)
    train, test = (
        part.split(name, _all(part)) if part is not None else empty(name)
        for name, part in (("train", found.train), ("test", found.test))
    )
    return train, test, ()


def _cut_whole(whole: Part, share: float) -> tuple[Split, Split, tuple[str, ...]]:
    if not 0 <= share <= 1:
        raise ArgumentError(
            expected="test_share in [0, 1]",
            got=f"test_share={share!r}",
            remedy="Leave it out for a fifth; 1 puts every image into the test split.",
        )
    count = round(share * len(whole.labels))
    chosen = stratified(whole.labels, count, Stream(0).child("data").child("test"))
    note = f"No official test set: a fixed stratified {share:.0%} of the images is the test split."
    return whole.split("train", ~chosen), whole.split("test", chosen), (note,)


def _hold_out(
    found: SourceContent, train: Split, seed: int, wanted: int | float | None
) -> tuple[Split, Split]:
    if found.validation is not None:
        return train, found.validation.split("validation", _all(found.validation))
    count = validation_count(len(train), wanted)
    stream = as_stream(seed).child("data").child("validation")
    chosen = stratified(train.labels, count, stream)
    held_out = train.select(chosen)
    parts = (held_out.labels, held_out.index, held_out.store, held_out.rows)
    return train.select(~chosen), Split("validation", *parts)


def _all(part: Part) -> Tensor:
    return torch.ones(len(part.labels), dtype=torch.bool)


def _empty(found: SourceContent):  # type: ignore[no-untyped-def]
    """Makes splits without images where the original has no such part."""
    some = next(iter(_parts(found).values()))
    return lambda name: some.split(name, torch.zeros(len(some.labels), dtype=torch.bool))
