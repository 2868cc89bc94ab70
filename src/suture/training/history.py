"""A training run's memory on disk: every epoch's weights, hashed, and the curves.

A folder with ``epoch-0001.safetensors``, … and ``history.json``, which names each file with its
SHA-256. ``history.json`` is replaced last and atomically: whatever it names is complete, and a run
that was killed goes on from there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from suture.errors import ArgumentError, BundleError
from suture.storage import write_bytes, write_json
from suture.training.result import EpochCurve, best_epoch
from suture.training.weights import from_bytes, to_bytes

VERSION, MANIFEST = 1, "history.json"


@dataclass(frozen=True)
class File:
    """A file of the history with its SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True)
class History:
    """The remembered epochs of a training run.

    Attributes:
        folder: where they lie.
        config: ``repr`` of the ``TrainConfig``.
        seed: of the run.
        data: fingerprint of the training images.
        curves: one entry per epoch.
        checkpoints: one file per epoch, in the same order.
        optimiser: its state after the last epoch, for resuming.
        finished: whether the run came to its end.
    """

    folder: Path
    config: str
    seed: int
    data: str
    curves: tuple[EpochCurve, ...] = ()
    checkpoints: tuple[File, ...] = ()
    optimiser: File | None = None
    finished: bool = False

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether there is a history in the folder."""
        return (Path(folder) / MANIFEST).is_file()

    @staticmethod
    def open(folder: Path) -> History:
        """Read a history's manifest.

        Raises:
            BundleError: when it is missing, malformed, or of another version.
        """
        path = Path(folder) / MANIFEST
        try:
            return _parse(Path(folder), json.loads(path.read_text("utf-8")))
        except BundleError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                expected=f"a training history at {path}",
                got=f"{type(error).__name__}: {str(error)[:300]}",
                remedy="Give the folder that train(..., history=folder) wrote, or train again.",
            ) from error

    @property
    def epochs(self) -> list[int]:
        """The remembered epochs, counted from 1."""
        return [curve.epoch for curve in self.curves]

    @property
    def best_epoch(self) -> int:
        """The epoch with the best validation accuracy; the last one without validation."""
        return best_epoch(self.curves)

    def last_half(self) -> list[int]:
        """The last half of the epochs (rounded up): DARE's historical models."""
        return self.epochs[len(self.epochs) // 2 :]

    def state(self, epoch: int) -> dict[str, Tensor]:
        """The weights after an epoch, on the CPU.

        Raises:
            ArgumentError: for an epoch that is not remembered.
            BundleError: when the file is missing or was altered.
        """
        if epoch not in self.epochs:
            raise ArgumentError(
                expected=f"an epoch from 1 to {len(self.epochs)}",
                got=f"epoch {epoch}",
                remedy="See History.epochs.",
            )
        return self.read(self.checkpoints[epoch - 1])

    def load_into(self, model: nn.Module, epoch: int) -> nn.Module:
        """Give the model the weights it had after an epoch (in place); returns it.

        Raises:
            ArgumentError, BundleError: as ``state``; ``BundleError`` too for another architecture.
        """
        return fill(model, self.state(epoch), self.folder)

    def verify(self) -> None:
        """Read every file and compare its hash.

        Raises:
            BundleError: naming the first that is missing or altered.
        """
        for file in (*self.checkpoints, *([self.optimiser] if self.optimiser else [])):
            self.read(file)

    def read(self, file: File) -> dict[str, Tensor]:
        """The tensors in one of the files, after comparing its hash."""
        path = self.folder / file.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _altered(path, f"{type(error).__name__}: {error}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise _altered(path, f"SHA-256 {found[:12]}…")
        return from_bytes(content)

    def with_epoch(
        self,
        curve: EpochCurve,
        weights: dict[str, Tensor],
        optimiser: dict[str, Tensor],
        *,
        finished: bool,
    ) -> History:
        """Write one more epoch; the manifest last, so that a crash leaves the history before."""
        name, state = (
            f"epoch-{curve.epoch:04d}.safetensors",
            f"optimiser-{curve.epoch:04d}.safetensors",
        )
        metadata = {"epoch": curve.epoch, "validation_accuracy": curve.validation_accuracy}
        grown = dataclasses.replace(
            self,
            curves=(*self.curves, curve),
            checkpoints=(*self.checkpoints, self._write(name, to_bytes(weights, **metadata))),
            optimiser=self._write(state, to_bytes(optimiser, epoch=curve.epoch)),
            finished=finished,
        )
        grown.save()
        if self.optimiser is not None:
            (self.folder / self.optimiser.file).unlink(missing_ok=True)
        return grown

    def save(self) -> None:
        """Write the manifest."""
        content = {"version": VERSION, "best_epoch": self.best_epoch if self.curves else None}
        fields = dataclasses.asdict(self)
        write_json(
            self.folder / MANIFEST, content | {k: fields[k] for k in fields if k != "folder"}
        )

    def _write(self, name: str, content: bytes) -> File:
        write_bytes(self.folder / name, content)
        return File(name, hashlib.sha256(content).hexdigest())


def fill(model: nn.Module, state: dict[str, Tensor], folder: Path) -> nn.Module:
    """``load_state_dict`` with an error that names the folder."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(
            expected=f"the architecture that was trained in {folder}",
            got=str(error).splitlines()[-1].strip(),
            remedy="Build the model as it was built for training.",
        ) from error
    return model


def _altered(path: Path, got: str) -> BundleError:
    return BundleError(
        expected=f"{path} as it was written",
        got=got,
        remedy="The history was altered or damaged: restore the file, or train again.",
    )


def _parse(folder: Path, content: dict[str, Any]) -> History:
    if content["version"] != VERSION:
        raise BundleError(
            expected=f"a training history of version {VERSION} in {folder}",
            got=f"version {content['version']}",
            remedy="Open it with the release of suture that wrote it.",
        )
    optimiser = content["optimiser"]
    history = History(
        folder=folder,
        config=content["config"],
        seed=content["seed"],
        data=content["data"],
        curves=tuple(EpochCurve(**curve) for curve in content["curves"]),
        checkpoints=tuple(_file(entry) for entry in content["checkpoints"]),
        optimiser=None if optimiser is None else _file(optimiser),
        finished=content["finished"],
    )
    if history.epochs != list(range(1, len(history.checkpoints) + 1)):
        raise ValueError("curves and checkpoints do not belong together")
    return history


def _file(entry: dict[str, str]) -> File:
    name = entry["file"]
    if Path(name).name != name or "\0" in name or len(name) > 255:
        raise ValueError(f"{name!r:.300} is not a plain file name")
    return File(entry["file"], entry["sha256"])
