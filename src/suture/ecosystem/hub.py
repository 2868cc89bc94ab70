"""Bundles on the Hugging Face Hub, with a model card made of the run's records."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from suture.certify import load_promise
from suture.ecosystem.needed import needed
from suture.errors import BundleError, StorageError
from suture.loading import inside_run, load
from suture.models import is_bundle, load_bundle, read_manifest
from suture.report import RunData, verdict
from suture.report import load as load_run
from suture.report.tables import markdown
from suture.storage import write_text

CARD = "README.md"
_CERTIFICATES = "certificates"


def save_pretrained(
    model: str | Path, folder: str | Path, *, measured: str | Path | None = None
) -> Path:
    """Write what the Hub gets: the bundle, its certificates, and the model card.

    Args:
        model: a bundle, or the run whose model it is.
        folder: to make; it must not be there, or be empty.
        measured: the run that evaluated it; without one the card says that nothing was measured.

    Raises:
        BundleError: no bundle there, a broken one, or a run that was altered.
        StorageError: something is in the folder already.
    """
    bundle, place = Path(inside_run(model)), Path(folder)
    if not is_bundle(bundle):
        raise BundleError(
            expected=f"a bundle, or the run of a model, at {model}",
            got="none",
            remedy="Make one: suture export MODEL --to bundle --out FOLDER.",
        )
    if place.exists() and any(place.iterdir()):
        raise StorageError(
            expected=f"a new folder at {place}", got="files in it", remedy="Choose another one."
        )
    load_bundle(bundle)  # whole, and nothing that would have to be executed
    shutil.copytree(bundle, place, dirs_exist_ok=True)
    if (bundle.parent / _CERTIFICATES).is_dir():
        shutil.copytree(bundle.parent / _CERTIFICATES, place / _CERTIFICATES)
    write_text(place / CARD, model_card(bundle, measured=measured))
    return place


def model_card(bundle: str | Path, *, measured: str | Path | None = None) -> str:
    """The card: what it is, what was measured and how, what is proved, how to open it.

    Args:
        bundle: the folder of the model.
        measured: the run that evaluated it.

    Raises:
        BundleError: an altered manifest, promise or run.
    """
    manifest = read_manifest(Path(bundle))
    promise = load_promise(Path(bundle))
    run = None if measured is None else load_run(Path(measured))
    proved = (
        []
        if promise is None
        else ["## Proved\n", _PROMISE.format(text=promise.text(), digest=promise.digest)]
    )
    parts = [
        _HEAD,
        f"# {_title(run, Path(bundle))}\n",
        f"An image classifier (kind `{manifest['spec']['kind']}`), kept by suture "
        f"{manifest['suture']}. Images are float32 in [0, 1], `(n, channels, height, width)`; "
        "normalisation is inside.\n",
        "## Measured\n",
        _measured(run),
        *proved,
        "## Use\n",
        _USE,
    ]
    return "\n".join(parts) + "\n"


def _title(run: RunData | None, bundle: Path) -> str:
    return bundle.name if run is None else str(run.info.get("title", bundle.name))


def _measured(run: RunData | None) -> str:
    if run is None or not run.records:
        return "Nothing was measured. Nothing is claimed about its robustness.\n"
    told = f"`{run.info.get('command', '')}`, seed {run.info.get('seed')}."
    how = f"In brackets 95 % Clopper–Pearson intervals, then counts. {told}"
    return "\n\n".join([verdict(run.records).sentence, markdown(run.records), how, ""])


def push_to_hub(
    model: str | Path,
    repo_id: str,
    *,
    measured: str | Path | None = None,
    private: bool = True,
    token: str | None = None,
    api: Any = None,
) -> str:
    """Upload a bundle with its card; returns the commit's address.

    Args:
        model: a bundle, or the run whose model it is.
        repo_id: "owner/name"; made if there is none.
        measured: the run that evaluated it.
        private: whether a repository that is made is private.
        token: of the Hub; default: the one that ``hf auth login`` has left.
        api: something with ``create_repo`` and ``upload_folder``; default: the Hub's client.

    Raises:
        DependencyError: huggingface_hub is not installed.
        BundleError: as ``save_pretrained``.
    """
    if api is None:
        api = needed("huggingface_hub", "hub", "the Hub").HfApi(token=token)
    with tempfile.TemporaryDirectory() as draft:
        folder = save_pretrained(model, Path(draft) / "model", measured=measured)
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=str(folder)))


def from_pretrained(
    name: str | Path, *, revision: str | None = None, token: str | None = None, device: str = "cpu"
) -> nn.Module:
    """The classifier of a local folder, or of a repository on the Hub.

    A bundle is safetensors and JSON, checked against its hashes: nothing is unpickled or executed.

    Args:
        name: a folder, or "owner/name".
        revision: branch, tag or commit; name a commit to get the same model tomorrow.
        token: of the Hub, for private repositories.
        device: where it goes.

    Raises:
        DependencyError: huggingface_hub is not installed.
        BundleError: no bundle there, or an altered one.
    """
    place = Path(name)
    if not place.is_dir():
        hub = needed("huggingface_hub", "hub", "the Hub")
        place = Path(hub.snapshot_download(str(name), revision=revision, token=token))
    if not is_bundle(place):
        raise BundleError(
            expected=f"a bundle of suture at {name}",
            got="no manifest.json",
            remedy="It was not pushed by suture; give its files to suture.load.",
        )
    return load(place, device=device)


_HEAD = """\
---
library_name: suture
pipeline_tag: image-classification
tags:
- adversarial-robustness
- suture
---
"""
_PROMISE = """\
{text}. Digest: `{digest}`

A promise binds and does not authenticate: ask the author for the digest by another way, then

```console
$ suture certify FOLDER --promise DIGEST
```
"""
_USE = """\
```python
from suture.ecosystem import from_pretrained

model = from_pretrained("OWNER/NAME")
logits = model(images)
```

No pickle, no code: `manifest.json` has the hash of every file."""
