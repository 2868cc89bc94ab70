"""A claim about one image, made by counting votes, with all that is needed to count again."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suture.errors import BundleError
from suture.models.identity import digest
from suture.provenance import library_versions, machine
from suture.storage import write_text

FORMAT, VERSION = "suture-smoothing-certificate", 1
SUFFIX = ".smoothing.json"


@dataclass(frozen=True, eq=False)
class SmoothingCertificate:
    """The smoothed classifier answers ``predicted`` for every image nearer than ``radius``.

    True with probability ``1 - alpha`` over the draw of the copies, for this image. The distance is
    the noise's: L2 ``‖δ‖ < radius`` for Gaussian noise, at most ``radius`` pixels for ablation.

    Attributes:
        noise: kind and settings of the noise.
        image: float32 ``(c, h, w)``.
        label: the true class, if it is known.
        predicted: the class that is certified; -1 where the classifier abstains: no claim.
        n0, n, alpha: copies that chose the class, copies that bound its share, chance of error.
        chosen: votes of the first n0 copies, one count a class.
        hits: votes for ``predicted`` in each piece of the n copies.
        lower: lower confidence bound of its share.
        radius: what is certified; 0 without a claim.
        stream: 64-bit key of the random stream that the copies came from.
        network: fingerprint of the classifier (``suture.models.fingerprint``).
        index: number of the image in its data set, for people.
        versions, hardware: of the libraries and the machine that counted.
    """

    noise: dict[str, Any]
    image: Tensor
    label: int | None
    predicted: int
    n0: int
    n: int
    alpha: float
    chosen: list[int]
    hits: list[int]
    lower: float
    radius: float
    stream: int
    network: str
    index: int = 0
    versions: dict[str, str] = field(default_factory=library_versions)
    hardware: dict[str, Any] = field(default_factory=machine)

    @property
    def abstains(self) -> bool:
        """Whether nothing is claimed."""
        return self.predicted < 0

    @property
    def right(self) -> bool:
        """Whether the certified class is the true one."""
        return self.predicted == self.label

    def plain(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        own = {f: getattr(self, f) for f in self.__dataclass_fields__ if f != "image"}
        values = self.image.detach().cpu().contiguous().numpy().astype("<f4")
        packed = base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()
        picture = {"shape": list(values.shape), "sha256": digest(self.image), "float32": packed}
        return {**own, "stream": f"{self.stream:016x}", "image": picture}

    @staticmethod
    def of(plain: dict[str, Any]) -> SmoothingCertificate:
        """The inverse of ``plain``; raises ``ValueError`` and its like for anything else."""
        picture, fields = plain["image"], SmoothingCertificate.__dataclass_fields__
        shape = [int(side) for side in picture["shape"]]
        size = 4 * int(np.prod(shape))
        data = zlib.decompressobj().decompress(base64.b64decode(picture["float32"]), size + 1)
        image = torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).copy())
        if digest(image) != picture["sha256"]:
            raise ValueError("pixels that do not match their hash")
        own = {name: plain[name] for name in fields if name not in ("image", "stream")}
        made = SmoothingCertificate(**own, image=image, stream=int(plain["stream"], 16))
        _check_types(made)
        return made

    def save(self, path: Path) -> Path:
        """Write it as one JSON file, with a checksum over all of it."""
        body = {"format": FORMAT, "version": VERSION, **self.plain()}
        write_text(path, json.dumps({**body, "checksum": _checksum(body)}, sort_keys=True))
        return path


def _check_types(made: SmoothingCertificate) -> None:
    """Raise ``TypeError`` where a field is not what the checker counts on."""
    whole = [made.predicted, made.n0, made.n, made.index, *made.chosen, *made.hits]
    whole += [] if made.label is None else [made.label]
    real = [made.alpha, made.lower, made.radius]
    if any(type(v) is not int for v in whole) or any(type(v) not in (int, float) for v in real):
        raise TypeError("a count that is no whole number, or a bound that is no number")
    if not all(isinstance(part, dict) for part in (made.noise, made.versions, made.hardware)):
        raise TypeError("noise, versions or hardware of another type")


def _checksum(body: dict[str, Any]) -> str:
    rest = {key: value for key, value in body.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load_smoothing(path: Path) -> SmoothingCertificate:
    """Read a certificate.

    Raises:
        BundleError: a file that is no certificate, was altered, or is of another version.
    """
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
        known = body["format"], body["version"]
        intact = body["checksum"] == _checksum(body)
        made = SmoothingCertificate.of(body) if known == (FORMAT, VERSION) and intact else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise _altered(path, f"{type(error).__name__}: {error}") from None
    if known != (FORMAT, VERSION):
        raise _altered(path, f"format and version {known}")
    if made is None:
        raise _altered(path, "content that does not match its checksum")
    return made


def _altered(path: Path, got: str) -> BundleError:
    return BundleError(
        expected=f"a certificate as it was written in {path}",
        got=got,
        remedy="Copy the file again; if that does not help, certify the image anew.",
    )


def save_smoothing(certificates: Sequence[SmoothingCertificate], folder: Path) -> list[Path]:
    """Write those that claim something, each under its image's number."""
    return [
        certificate.save(Path(folder) / f"{certificate.index:05d}{SUFFIX}")
        for certificate in certificates
        if not certificate.abstains
    ]


def smoothing_files(folder: Path) -> list[Path]:
    """The certificates of a folder, in order of their names."""
    return sorted(Path(folder).glob(f"*{SUFFIX}"))
