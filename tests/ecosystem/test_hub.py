"""Bundles go to the Hub with a card made of records, and come back without a pickle."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from suture import PGD, AdvRepair, models
from suture.ecosystem import from_pretrained, model_card, push_to_hub, save_pretrained
from suture.engine import Run
from suture.errors import BundleError, DependencyError, StorageError
from suture.pipeline import repair as repair_in
from suture.report import load, verdict
from suture.testing.small import digits, trained


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(trained(), tmp_path_factory.mktemp("models") / "cnn")


def same(model: torch.nn.Module, other: torch.nn.Module) -> bool:
    images = digits().test.batch(16).images
    with torch.no_grad():
        return torch.equal(model(images), other(images))


def test_a_folder_comes_back_bit_for_bit(bundle, tmp_path):
    folder = save_pretrained(bundle, tmp_path / "out")
    assert same(from_pretrained(folder), trained())
    assert not [p for p in folder.rglob("*") if p.suffix in (".pt", ".pkl", ".bin", ".pickle")]


def test_the_card_has_the_figures_with_intervals_and_the_command(bundle, measured):
    card = model_card(bundle, measured=measured)
    records = load(measured).records
    assert card.startswith("---\nlibrary_name: suture\n") and "# A digit classifier" in card
    for record in records:
        low, high = record.interval
        assert f"{record.percent:.1f} % [{low:.1f}–{high:.1f}] {record.right}/{record.n}" in card
        assert record.row in card
    assert verdict(records).sentence in card
    assert "`suture audit cnn --data digits --eps 0.1`, seed 7" in card


def test_without_a_run_nothing_is_claimed(bundle):
    assert "Nothing is claimed about its robustness" in model_card(bundle)


def test_certificates_and_promise_go_with_it(tmp_path):
    run = Run.create(tmp_path / "run", kind="repair", title="t", command="c", seed=0)
    method = AdvRepair(attack=PGD(eps=0.1, steps=5), samples=2)
    with run:
        result = repair_in(trained(), digits(), method, run)
    run.finish()
    folder = save_pretrained(run.folder, tmp_path / "out")
    assert len(list((folder / "certificates").iterdir())) == len(result.certificates) > 0
    card = (folder / "README.md").read_text()
    assert result.promise.digest in card and "does not authenticate" in card
    assert same(from_pretrained(folder), result.model)


def test_pushing_uploads_the_folder(bundle, measured):
    class Api:
        """What is called, and what lay in the folder."""

        def __init__(self) -> None:
            self.calls: list[tuple] = []

        def create_repo(self, repo_id, *, private, exist_ok):
            self.calls.append((repo_id, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path):
            self.calls.append((repo_id, sorted(p.name for p in Path(folder_path).iterdir())))
            assert same(from_pretrained(folder_path), trained())
            return "the commit"

    api = Api()
    assert push_to_hub(bundle, "me/digits", measured=measured, api=api) == "the commit"
    assert api.calls == [
        ("me/digits", True, True),
        ("me/digits", ["README.md", "manifest.json", "weights.safetensors"]),
    ]


def test_a_name_is_fetched_at_its_revision(bundle, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="pip install 'suture[hub]'")
    asked = []
    folder = save_pretrained(bundle, tmp_path / "out")
    monkeypatch.setattr(
        hub, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(folder), raising=False
    )
    assert same(from_pretrained("me/digits", revision="abc"), trained())
    assert asked == [(("me/digits",), {"revision": "abc", "token": None})]


def test_what_was_altered_is_refused(bundle, tmp_path):
    folder = save_pretrained(bundle, tmp_path / "out")
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(BundleError):
        from_pretrained(folder)
    with pytest.raises(BundleError):
        save_pretrained(folder, tmp_path / "again")


def test_what_is_no_bundle_is_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match="no manifest"):
        from_pretrained(tmp_path)
    with pytest.raises(BundleError, match="a bundle, or the run"):
        save_pretrained(tmp_path, tmp_path / "x")
    shutil.copytree(bundle, tmp_path / "taken")
    with pytest.raises(StorageError, match="a new folder"):
        save_pretrained(bundle, tmp_path / "taken")


def test_a_missing_hub_client_is_named(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: push_to_hub(bundle, "me/x"), lambda: from_pretrained("me/x")):
        with pytest.raises(DependencyError, match=r"suture\[hub\]"):
            call()
