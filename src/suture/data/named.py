"""The public data sets by name, and every place each of them may come from, best first.

The most exact and complete copy on this machine wins; a download is the last resort.
``Dataset.name`` and ``Dataset.source`` say which one it was, so that nobody takes a lossy copy for
the exact one: ``cifar10`` out of the data folder calls itself ``cifar10-jpeg``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from suture.data import packed
from suture.data.digits import DIGITS, read_digits
from suture.data.parts import SourceContent
from suture.data.places import folder, torchvision_root
from suture.data.tiny_imagenet import is_tiny_imagenet, read_tiny_imagenet
from suture.data.torchvision_files import on_disk, read_torchvision
from suture.errors import DataError

FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
TINY = "tiny-imagenet-200"
_LOSSY = (
    "Lossy: JPEG of quality about 75, 5.8 grey levels off on average; resnet20 loses 13 points. "
    "Compare published accuracies on cifar10-exact."
)
_BIASED = (
    "Pixel-exact part of CIFAR-10. Test images beyond official index 99 were chosen by verifiers, "
    "mostly because some net classifies them right: for an unbiased accuracy use "
    "test.select(test.index < 100), or the training images."
)
_FIRST = "The first 20 000 of the official 60 000 training images; the test set is complete."
_PHOTOS = (
    "One photo per class, most likely ImageNet training photos: an accuracy on them is not a "
    "validation accuracy. All are in the test split; there is nothing to train on."
)


@dataclass(frozen=True)
class DataSource:
    """One place a data set may come from.

    Args:
        place: in words.
        train, test: official counts there.
        available: whether it is there now (a look at file names, nothing is read).
        read: opens it.
        notes: what is special about this copy.
    """

    place: str
    train: int
    test: int
    available: Callable[[], bool]
    read: Callable[[], SourceContent]
    notes: str = ""

    def open(self, name: str) -> SourceContent:
        """The parts under the data set's name, with this copy's notes."""
        found = self.read()
        return replace(found, name=name, notes=(self.notes,) if self.notes else found.notes)


@dataclass(frozen=True)
class Known:
    """A public data set: shape, number of classes, and where it may come from, best first.

    ``kind`` is its class in torchvision, if it has one; then torchvision can also download it.
    """

    shape: tuple[int, int, int]
    classes: int
    candidates: tuple[DataSource, ...]
    kind: str = ""
    class_names: tuple[str, ...] = ()


def in_folder(file: str) -> Path | None:
    """That file of the data folder, if it is there."""
    place = folder()
    return place / file if place is not None and (place / file).is_file() else None


def _file(
    file: str, train: int, test: int, read: Callable[[Path], SourceContent], notes: str = ""
) -> DataSource:
    def opened() -> SourceContent:
        path = in_folder(file)
        assert path is not None, "only available candidates are opened"
        return read(path)

    return DataSource(
        f"data folder: {file}", train, test, lambda: in_folder(file) is not None, opened, notes
    )


def _torchvision(kind: str, train: int, test: int, class_names: tuple[str, ...]) -> DataSource:
    return DataSource(
        f"torchvision {kind} files",
        train,
        test,
        partial(on_disk, kind),
        partial(read_torchvision, kind, kind, class_names),
    )


def _plain(class_names: tuple[str, ...]) -> Callable[[Path], SourceContent]:
    return lambda path: packed.read_plain(path, class_names)


def _tiny() -> Path | None:
    place = folder()
    found = None if place is None else place / TINY
    return found if found is not None and is_tiny_imagenet(found) else None


def _open_tiny() -> SourceContent:
    found = _tiny()
    assert found is not None, "only available candidates are opened"
    return read_tiny_imagenet(found)


_JPEG = _file("cifar10_jpeg.npz", 50_000, 10_000, packed.read_cifar10_jpeg, _LOSSY)
_EXACT = _file("cifar10_lossless.npz", 4_000, 483, packed.read_cifar10_lossless, _BIASED)
_PHOTO = _file("imagenet_sample1000.npz", 0, 1_000, packed.read_imagenet_sample, _PHOTOS)

_TINY = DataSource(f"data folder: {TINY}", 100_000, 10_000, lambda: _tiny() is not None, _open_tiny)

KNOWN: dict[str, Known] = {
    "digits": Known(
        (1, 8, 8),
        10,
        (DataSource("scikit-learn (embedded)", 1_438, 359, lambda: True, read_digits),),
    ),
    "mnist": Known(
        (1, 28, 28),
        10,
        (
            _file("mnist.npz", 60_000, 10_000, _plain(DIGITS)),
            _torchvision("MNIST", 60_000, 10_000, DIGITS),
        ),
        "MNIST",
        DIGITS,
    ),
    "fashion-mnist": Known(
        (1, 28, 28),
        10,
        (
            _torchvision("FashionMNIST", 60_000, 10_000, FASHION),
            _file("fashion_mnist.npz", 20_000, 10_000, _plain(FASHION), _FIRST),
        ),
        "FashionMNIST",
        FASHION,
    ),
    "cifar10": Known(
        (3, 32, 32),
        10,
        (_torchvision("CIFAR10", 50_000, 10_000, packed.CIFAR10), _JPEG),
        "CIFAR10",
        packed.CIFAR10,
    ),
    "cifar10-jpeg": Known((3, 32, 32), 10, (_JPEG,)),
    "cifar10-exact": Known((3, 32, 32), 10, (_EXACT,)),
    "svhn": Known((3, 32, 32), 10, (_torchvision("SVHN", 73_257, 26_032, DIGITS),), "SVHN", DIGITS),
    "imagenet-sample": Known((3, 224, 224), 1_000, (_PHOTO,)),
    "tiny-imagenet": Known((3, 64, 64), 200, (_TINY,)),
}


def find(name: str, *, download: bool) -> SourceContent:
    """The best copy of a known data set on this machine, or a fresh download.

    ``name`` must be in ``KNOWN``.

    Raises:
        DataError: listing every place that was tried, and what to do.
    """
    known = KNOWN[name]
    for candidate in known.candidates:
        if candidate.available():
            return candidate.open("cifar10-jpeg" if candidate is _JPEG else name)
    return _download(name, known, download)


def _download(name: str, known: Known, allowed: bool) -> SourceContent:
    tried = [f"{candidate.place}: not there" for candidate in known.candidates]
    if known.kind and allowed:
        try:
            return read_torchvision(known.kind, name, known.class_names, download=True)
        except DataError as error:
            tried.append(f"torchvision's download: {error.got}")
    elif known.kind:
        tried.append("torchvision's download: switched off (download=False)")
    raise DataError(
        expected=f"the data set {name!r} somewhere",
        got="; ".join(tried),
        remedy=_remedy(known),
    )


def _remedy(known: Known) -> str:
    ways = ["use digits, which needs no files"]
    if any(candidate.place.startswith("data folder") for candidate in known.candidates):
        ways.append("set SUTURE_DATA to the data folder")
    if known.kind:
        ways.append(f"put torchvision's {known.kind} files under {torchvision_root()}")
    return f"Either {', or '.join(reversed(ways))}."
