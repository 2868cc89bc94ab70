"""TinyImageNet as its authors pack it: ``tiny-imagenet-200`` with ``wnids.txt`` and annotations.

``train/WNID/images/*.JPEG``, ``val/images/*.JPEG`` with their classes in ``val_annotations.txt``,
names in ``words.txt``. The labels of ``test`` were never published, so ``val`` is the test split,
as everywhere in the literature.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from suture.data.image_folder import Size, kind_of_files, part_of, pictures_in
from suture.data.parts import SourceContent
from suture.data.reading import reading
from suture.errors import DataError

_CLASSES, _WORDS, _ANNOTATIONS = "wnids.txt", "words.txt", "val_annotations.txt"
_NOTE = "The official validation images are the test split; labels of the official test are secret."


def is_tiny_imagenet(folder: Path) -> bool:
    """Whether the folder has the official layout."""
    files = (folder / _CLASSES, folder / "val" / _ANNOTATIONS)
    return all(file.is_file() for file in files) and (folder / "train").is_dir()


def read_tiny_imagenet(folder: Path, size: int | Size | None = None) -> SourceContent:
    """The data set in such a folder; classes in the alphabetic order of their WordNet numbers.

    Args:
        folder: ``tiny-imagenet-200``, or another of that layout.
        size: as for ``read_image_folder``.

    Raises:
        DataError: a class without pictures, an annotation of a class or a picture that is none.
    """
    numbers = tuple(sorted(line for line in _lines(folder / _CLASSES) if line))
    train = {n: pictures_in(folder / "train" / n / "images") for n in numbers if _there(folder, n)}
    _all_there(train, numbers, folder)
    files = {"train": train, "test": _annotated(folder, numbers)}
    kind = kind_of_files([f for part in files.values() for fs in part.values() for f in fs], size)
    parts = {name: part_of(found, numbers, kind) for name, found in files.items()}
    said = SourceContent.of(str(folder), f"{folder} (TinyImageNet)", _names(folder, numbers), parts)
    return replace(said, notes=(_NOTE,))


def _lines(path: Path) -> list[str]:
    with reading(path, "a list of TinyImageNet"):
        return [line.rstrip("\r") for line in path.read_text("utf-8").split("\n")]


def _there(folder: Path, number: str) -> bool:
    return (folder / "train" / number / "images").is_dir()


def _all_there(train: dict[str, list[Path]], numbers: tuple[str, ...], folder: Path) -> None:
    missing = [number for number in numbers if not train.get(number)]
    if missing or not numbers:
        raise DataError(
            expected=f"pictures of every class of {_CLASSES} in {folder}/train/CLASS/images",
            got=f"none of {missing[0]!r}" if missing else "no class at all",
            remedy="Unpack tiny-imagenet-200.zip again.",
        )


def _annotated(folder: Path, numbers: tuple[str, ...]) -> dict[str, list[Path]]:
    """Class → its files among the official validation images."""
    path, found = folder / "val" / _ANNOTATIONS, {number: list[Path]() for number in numbers}
    for line in filter(None, _lines(path)):
        name, number = (*line.split("\t"), "")[:2]
        picture = folder / "val" / "images" / Path(name).name
        if number not in found or not picture.is_file():
            raise DataError(
                expected=f"in each line of {path} a file of val/images and its class",
                got=repr(line[:80]),
                remedy="Unpack tiny-imagenet-200.zip again.",
            )
        found[number].append(picture)
    return found


def _names(folder: Path, numbers: tuple[str, ...]) -> tuple[str, ...]:
    """``n01443537 goldfish``: the number, and the first word where there is one."""
    path, words = folder / _WORDS, dict[str, str]()
    if path.is_file():
        for line in _lines(path):
            number, _, text = line.partition("\t")
            words[number] = text.split(",")[0].strip()
    return tuple(f"{number} {words.get(number, '')}".strip() for number in numbers)
