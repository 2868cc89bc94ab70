"""Bundles: a folder with a manifest, the weights, and the files the structure needs.

``manifest.json`` holds the format's name and version, suture's version, the spec, the sha256 of
every other file, and the fingerprint of the weights. A bundle appears all at once or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import suture
from suture.errors import BundleError, ModelError, StorageError
from suture.models.checks import fingerprint, untouched
from suture.models.example import example_images
from suture.models.spec import build_from_spec, files_of, spec_of
from suture.models.weights import apply_weights, read_safetensors
from suture.storage import atomic_folder
from suture.types import remember, remembered

FORMAT, VERSION = "suture-bundle", 1
MANIFEST, WEIGHTS, BEFORE = "manifest.json", "weights.safetensors", "before.safetensors"


def save(
    model: nn.Module,
    path: str | Path,
    *,
    extra: Mapping[str, Any] | None = None,
    beside: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a model as a bundle folder; an older bundle at that path is replaced.

    Args:
        model: one that carries a ``suture_spec``; the classifier that it was repaired from
            (``suture.types.undefended_of``) is kept with it.
        path: the folder to make.
        extra: anything JSON-able to keep beside the spec (accuracy, provenance, …).
        beside: further files by name: without them, or with others, the bundle does not open.

    Raises:
        ModelError: if the model has no spec.
        StorageError: if the folder cannot be written, or something else is in the way.
    """
    path = Path(path)
    before = _before(model)
    files = {**files_of(model), **(beside or {}), WEIGHTS: _weights(model)}
    if before is not None:
        files |= {**files_of(before), BEFORE: _weights(before)}
    manifest = _manifest(model, before, files, extra)
    content = {MANIFEST: json.dumps(manifest, indent=1, sort_keys=True).encode(), **files}
    _check_free(path)
    with atomic_folder(path) as draft:
        for name, data in content.items():
            (draft / name).write_bytes(data)
        if manifest["spec"]["kind"] == "pt2":
            _check_round_trip(model, _built(draft, manifest, WEIGHTS, trust_code=False))
    return path


def _check_round_trip(model: nn.Module, again: nn.Module) -> None:
    """What the bundle gives back answers as the model does: its graph was somebody else's."""
    images = example_images(model)[0]
    with untouched(model), torch.no_grad():
        same = torch.allclose(model(images), again.to(images.device)(images), rtol=1e-4, atol=1e-5)
    if not same:
        raise ModelError(
            expected="a bundle that gives the model's own logits",
            got="others",
            remedy="The model was changed beyond its weights; wrap it anew: suture.wrap(net, …).",
        )


def _before(model: nn.Module) -> nn.Module | None:
    """The classifier before the repair, where the model itself does not hold it."""
    before = remembered(model)
    with contextlib.suppress(ModelError):
        return before if before is not None and spec_of(before) else None
    return None


def _weights(model: nn.Module) -> bytes:
    """Every tensor on its own: safetensors keeps no shared memory."""
    from safetensors.torch import save as to_bytes

    state = model.state_dict()
    return to_bytes({k: v.detach().cpu().contiguous().clone() for k, v in state.items()})


def _manifest(
    model: nn.Module,
    before: nn.Module | None,
    files: Mapping[str, bytes],
    extra: Mapping[str, Any] | None,
) -> dict[str, Any]:
    body = {
        "format": FORMAT,
        "version": VERSION,
        "suture": suture.__version__,
        "spec": spec_of(model),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "fingerprint": fingerprint(model),
        "extra": dict(extra or {}),
    }
    if before is not None:
        body["before"] = {"spec": spec_of(before), "fingerprint": fingerprint(before)}
    return {**body, "checksum": _checksum(body)}


def _checksum(body: Mapping[str, Any]) -> str:
    """sha256 over everything else that the manifest says."""
    rest = {key: value for key, value in body.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_free(path: Path) -> None:
    if path.exists() and not is_bundle(path):
        raise StorageError(
            expected=f"nothing, or an older bundle, at {path}",
            got="something else",
            remedy="Choose another path, or move what is there.",
        )


def is_bundle(path: str | Path) -> bool:
    """Whether a folder looks like a bundle."""
    return (Path(path) / MANIFEST).is_file()


def load_bundle(
    path: str | Path, *, trust_code: bool = False, device: torch.device | str = "cpu"
) -> nn.Module:
    """The model in a bundle, bit for bit as it was saved, in eval mode.

    Args:
        path: the folder.
        trust_code: whether a model made by ``module:factory`` may import that module.
        device: where to put the model.

    Raises:
        BundleError: if anything is missing, altered, or of an unknown version.
        ModelError: if the spec cannot be built here.
    """
    path = Path(path)
    manifest = read_manifest(path)
    _check_files(path, manifest["files"])
    model = _built(path, manifest, WEIGHTS, trust_code)
    if "before" in manifest:
        remember(model, _built(path, manifest["before"], BEFORE, trust_code))
    model.suture_extra = manifest.get("extra", {})
    return model.to(device).eval()


def _built(path: Path, entry: Mapping[str, Any], weights: str, trust_code: bool) -> nn.Module:
    """The module of a spec with the weights of a file, which must have the fingerprint noted."""
    model = build_from_spec(entry["spec"], path, trust_code=trust_code)
    apply_weights(model, read_safetensors((path / weights).read_bytes(), path / weights))
    if fingerprint(model) != entry["fingerprint"]:
        raise _altered("weights with the manifest's fingerprint", "others")
    return model


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a bundle, checked for form and version.

    Raises:
        BundleError: if there is none, or it cannot be understood.
    """
    file = Path(path) / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _altered(f"a bundle with a {MANIFEST} at {path}", "none") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _altered(f"JSON in {file}", str(error)) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _altered(f"a manifest of the format {FORMAT!r}", f"another in {file}")
    if manifest.get("version") != VERSION:
        raise BundleError(
            expected=f"a bundle of version {VERSION}",
            got=f"version {manifest.get('version')!r}, written by suture {manifest.get('suture')}",
            remedy="Open it with the version of suture that wrote it.",
        )
    _check_form(manifest)
    return manifest


def _check_form(manifest: dict[str, Any]) -> None:
    if manifest.get("checksum") != _checksum(manifest):
        raise _altered("a manifest as it was written (by sha256)", "one that was changed since")
    kinds = {"spec": dict, "files": dict, "fingerprint": str}
    wrong = [key for key, kind in kinds.items() if not isinstance(manifest.get(key), kind)]
    before = manifest.get("before", {"spec": {}, "fingerprint": ""})
    if not isinstance(before, dict) or not {"spec", "fingerprint"} <= set(before):
        wrong.append("before")
    named = [WEIGHTS, BEFORE] if "before" in manifest else [WEIGHTS]
    absent = [name for name in named if name not in manifest.get("files", ())]
    if wrong or absent:
        missing = ", ".join(wrong or absent)
        raise _altered("a complete manifest", f"one without {missing}")


def _check_files(path: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name:
            raise _altered("files that lie in the bundle", f"the name {name!r}")
        file = path / name
        if file.is_symlink() or not file.is_file():
            raise _altered(f"the file {name} in the bundle {path}", "nothing of that name")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise _altered(f"{name} as the manifest describes it (by sha256)", "another content")


def _altered(expected: str, got: str) -> BundleError:
    return BundleError(
        expected=expected, got=got, remedy="Copy the bundle again, as a whole, or save it anew."
    )
