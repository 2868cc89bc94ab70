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
from suture.training.retention import Retention
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
        checkpoints: one file per epoch, in the same order; ``None`` where it is not remembered.
        optimiser: its state after the last epoch, for resuming.
        finished: whether the run came to its end.
        retention: which epochs are remembered.
    """

    folder: Path
    config: str
    seed: int
    data: str
    curves: tuple[EpochCurve, ...] = ()
    checkpoints: tuple[File | None, ...] = ()
    optimiser: File | None = None
    finished: bool = False
    retention: Retention = Retention()  # noqa: RUF009 - frozen

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
        return [c.epoch for c, f in zip(self.curves, self.checkpoints, strict=True) if f]

    @property
    def size(self) -> int:
        """Bytes that the remembered weights take."""
        return sum((self.folder / f.file).stat().st_size for f in self.checkpoints if f is not None)

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
        file = self.checkpoints[epoch - 1] if epoch in self.epochs else None
        if file is None:
            raise ArgumentError(
                expected=f"an epoch out of {', '.join(map(str, self.epochs))}",
                got=f"epoch {epoch}",
                remedy="See History.epochs.",
            )
        return self.read(file)

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
        for file in (*self.checkpoints, self.optimiser):
            if file is not None:
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
        """Write one more epoch; the manifest last, so that a crash leaves the history before.

        What is not to be remembered goes after that.
        """
        name, state = (
            f"epoch-{curve.epoch:04d}.safetensors",
            f"optimiser-{curve.epoch:04d}.safetensors",
        )
        metadata = {"epoch": curve.epoch, "validation_accuracy": curve.validation_accuracy}
        content, curves = to_bytes(weights, **metadata), (*self.curves, curve)
        keep = self.retention.kept(curve.epoch, best_epoch(curves), len(content))
        files = (*self.checkpoints, self._write(name, content))
        grown = dataclasses.replace(
            self,
            curves=curves,
            checkpoints=tuple(f if at in keep else None for at, f in enumerate(files, 1)),
            optimiser=self._write(state, to_bytes(optimiser, epoch=curve.epoch)),
            finished=finished,
        )
        grown.save()
        for old in {*files, self.optimiser} - {None, *grown.checkpoints}:
            (self.folder / old.file).unlink(missing_ok=True)  # type: ignore[union-attr]
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
        checkpoints=tuple(f and _file(f) for f in content["checkpoints"]),
        optimiser=None if optimiser is None else _file(optimiser),
        finished=content["finished"],
        retention=Retention(**content.get("retention", {})),
    )
    told = [curve.epoch for curve in history.curves]
    if told != list(range(1, len(history.checkpoints) + 1)) or history.checkpoints[-1:] == (None,):
        raise ValueError("curves and checkpoints do not belong together")
    return history


def _file(entry: dict[str, str]) -> File:
    name = entry["file"]
    if Path(name).name != name or "\0" in name or len(name) > 255:
        raise ValueError(f"{name!r:.300} is not a plain file name")
    return File(entry["file"], entry["sha256"])
