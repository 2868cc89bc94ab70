"""What a repair vouches for: all its balls, and which certificates prove them.

A certificate alone says what is proved, not what was to be proved. The promise lists every ball,
proved or not, and the SHA-256 of each certificate, and has a SHA-256 of its own, the digest. That
binds and does not authenticate: whoever writes promise and certificates anew makes another promise,
with another digest. Who wants to be sure compares the digest with one that he got elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from suture.certify.certificate import Certificate
from suture.errors import ArgumentError, BundleError
from suture.models.weights import read_safetensors

FILE, FORMAT = "promise.safetensors", "suture-promise 1"
SHARE = 0.5
"""Of the margin that was proved: the promised one, which another checker must reach."""
_TENSORS = {
    "centre": torch.float32,
    "radius": torch.float64,
    "label": torch.int64,
    "margin": torch.float64,
    "proved": torch.bool,
}


@dataclass(frozen=True, eq=False)
class Promise:
    """For every x in a ball: ``logit_label(x) - logit_j(x) > margin`` for all other j.

    Attributes:
        centre: float32 ``(m, *in_shape)``.
        radius: float64 ``(m,)``; L∞, the balls are clipped to [0, 1].
        label: int64 ``(m,)``.
        margin: float64 ``(m,)``; 0 where nothing is proved.
        proved: bool ``(m,)``; of the others nothing is promised, they are counted.
        network: fingerprint of the model that it speaks of.
        certificates: checksums of the certificates of each ball, sorted.
    """

    centre: Tensor
    radius: Tensor
    label: Tensor
    margin: Tensor
    proved: Tensor
    network: str
    certificates: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        count = len(self.centre)
        fits = self.centre.ndim > 1 and len(self.certificates) == count and count > 0
        for name, dtype in _TENSORS.items():
            tensor = getattr(self, name)
            fits = fits and tensor.dtype == dtype and len(tensor) == count
            fits = fits and (name == "centre" or tensor.ndim == 1)
        if not fits or any(
            bool(own) != sure
            for own, sure in zip(self.certificates, self.proved.tolist(), strict=True)
        ):
            raise ArgumentError(
                expected="centre, radius, label, margin, proved of m > 0 balls, and certificates "
                "for those that are proved",
                got=", ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in _TENSORS),
                remedy="Take the promise that the repair made.",
            )

    def __len__(self) -> int:
        return len(self.centre)

    @staticmethod
    def of(
        centre: Tensor,
        radius: float,
        label: Tensor,
        network: str,
        certificates: Sequence[Certificate],
    ) -> Promise:
        """That of a repair; certificates note their ball as "region".

        Args:
            centre: ``(m, *in_shape)``.
            label: int64 ``(m,)``.
        """
        own: list[list[Certificate]] = [[] for _ in centre]
        for certificate in certificates:
            own[certificate.note["region"]].append(certificate)
        least = [min((one.margin for one in some), default=0.0) for some in own]
        return Promise(
            centre.detach().float().cpu(),
            torch.full((len(centre),), radius, dtype=torch.float64),
            label.cpu(),
            SHARE * torch.tensor(least, dtype=torch.float64),
            torch.tensor([bool(some) for some in own]),
            network,
            tuple(tuple(sorted(one.checksum for one in some)) for some in own),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over all of it: names, types, shapes and little-endian bytes of the tensors in
        their order, then fingerprint and checksums as JSON."""
        found = hashlib.sha256(f"{FORMAT}\n".encode())
        for name in _TENSORS:
            array = getattr(self, name).contiguous().numpy()
            found.update(f"{name}|{array.dtype}|{array.shape}\n".encode())
            found.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        found.update(json.dumps([self.network, self.certificates]).encode())
        return found.hexdigest()

    def text(self) -> str:
        """Counts and radii in words."""
        low, high = (f"{float(value):.4g}" for value in torch.aminmax(self.radius))
        radius = low if low == high else f"{low} to {high}"
        count = int(self.proved.sum())
        least = float(self.margin[self.proved].min()) if count else 0.0
        rest = f", margin at least {least:.4g}" if count else ""
        return (
            f"{len(self)} balls of radius {radius}: {count} proved{rest}, {len(self) - count} not"
        )

    def to_bytes(self) -> bytes:
        """As a file."""
        from safetensors.torch import save

        facts = {"format": FORMAT, "digest": self.digest, "network": self.network}
        listed = json.dumps(self.certificates)
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        return save(tensors, facts | {"certificates": listed})


def load_promise(folder: Path) -> Promise | None:
    """The promise in a bundle; ``None`` if there is none.

    Raises:
        BundleError: a file that is no promise, or was altered.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        tensors = read_safetensors(path.read_bytes(), path)
        with safe_open(path, framework="pt") as file:
            facts: Mapping[str, str] = file.metadata() or {}
        listed = tuple(tuple(map(str, own)) for own in json.loads(facts["certificates"]))
        told = {name: tensors[name] for name in _TENSORS}
        promise = Promise(**told, network=facts["network"], certificates=listed)
        known = facts["format"], facts["digest"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from None
    if known != (FORMAT, promise.digest):
        raise _unreadable(path, "another version, or content that does not match its digest")
    return promise


def _unreadable(path: Path, got: str) -> BundleError:
    return BundleError(
        expected=f"a promise as the repair wrote it in {path}",
        got=got,
        remedy="Copy the bundle again, as a whole, or repair anew.",
    )
