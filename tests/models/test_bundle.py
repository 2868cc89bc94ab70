"""Bundles: bit-exact there and back, all at once or not at all, and every damage noticed."""

import json
import os

import pytest
import torch
from torch import nn

from suture import models
from suture.errors import BundleError, ModelError, StorageError


@pytest.fixture
def bundle(tmp_path):
    return models.save(models.build("digits_cnn", seed=3), tmp_path / "digits")


def test_round_trip_is_bit_exact(tmp_path, rand):
    model = models.build("wrn28_4", in_shape=(1, 8, 8), classes=4, seed=3)
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer += rand(*buffer.shape)
    path = models.save(model, tmp_path / "deep" / "b", extra={"accuracy": 0.5})
    again = models.load_bundle(path)
    images = rand(4, 1, 8, 8)
    assert torch.equal(again(images), model(images))
    assert models.fingerprint(again) == models.fingerprint(model)
    assert models.spec_of(again) == models.spec_of(model)
    assert again.suture_extra == {"accuracy": 0.5}
    assert not again.training


def test_tied_weights_stay_equal(tmp_path):
    model = models.build("digits_cnn")
    model[-1].bias = nn.Parameter(torch.zeros(10))
    model.register_buffer("view", None)
    again = models.load_bundle(models.save(model, tmp_path / "b"))
    assert torch.equal(again[-1].bias, model[-1].bias)


def test_saving_again_replaces_the_older_bundle(bundle):
    model = models.build("digits_cnn", seed=4)
    models.save(model, bundle)
    assert models.fingerprint(models.load(bundle)) == models.fingerprint(model)
    assert [p.name for p in bundle.parent.iterdir()] == ["digits"]


def test_manifest_states_format_versions_and_hashes(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("suture-bundle", 1)
    assert manifest["spec"]["kind"] == "zoo"
    assert set(manifest["files"]) == {"weights.safetensors"}


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.999])
def test_a_flipped_byte_is_noticed(bundle, name, place):
    content = bytearray((bundle / name).read_bytes())
    content[int(place * len(content))] ^= 0x01
    (bundle / name).write_bytes(bytes(content))
    with pytest.raises(BundleError) as raised:
        models.load(bundle)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new"), [('"accuracy": 0.5', '"accuracy": 0.9'), ("0.1307", "0.5")]
)
def test_an_edited_manifest_is_noticed(tmp_path, old, new):
    bundle = models.save(models.build("cnn"), tmp_path / "b", extra={"accuracy": 0.5})
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace(old, new))
    with pytest.raises(BundleError, match="changed since"):
        models.load(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_a_missing_file_is_noticed(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        models.load_bundle(bundle)


def test_a_cut_off_file_is_noticed(bundle):
    content = (bundle / "weights.safetensors").read_bytes()
    (bundle / "weights.safetensors").write_bytes(content[:-10])
    with pytest.raises(BundleError):
        models.load_bundle(bundle)


def _rewrite(bundle, **changes):
    """A manifest with changes and a correct checksum, as a forger would write it."""
    from suture.models.bundle import _checksum

    manifest = json.loads((bundle / "manifest.json").read_text()) | changes
    manifest["checksum"] = _checksum(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_another_version_is_refused(bundle):
    _rewrite(bundle, version=99)
    with pytest.raises(BundleError, match="version 99"):
        models.load_bundle(bundle)


def test_another_format_is_refused(bundle):
    _rewrite(bundle, format="zip")
    with pytest.raises(BundleError, match="suture-bundle"):
        models.load_bundle(bundle)


@pytest.mark.parametrize("name", ["../weights.safetensors", "/etc/hostname", "..", "a\\b"])
def test_file_names_stay_inside(bundle, name):
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    _rewrite(bundle, files={**files, name: "0" * 64})
    with pytest.raises(BundleError, match="lie in the bundle"):
        models.load_bundle(bundle)


def test_a_link_is_not_followed(bundle, tmp_path):
    (bundle / "weights.safetensors").rename(tmp_path / "elsewhere")
    (bundle / "weights.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError):
        models.load_bundle(bundle)


def test_onnx_spec_cannot_name_a_file_elsewhere(bundle, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"x")
    spec = {"kind": "onnx", "file": "../net.onnx", "layout": "chw"}
    _rewrite(bundle, spec=spec | {"mean": [0.0], "std": [1.0], "in_shape": [1, 8, 8]})
    with pytest.raises(BundleError, match="beside the manifest"):
        models.load_bundle(bundle)


@pytest.mark.parametrize("spec", [{}, {"kind": "unheard"}, {"kind": "zoo"}, {"kind": ["zoo"]},
                                  {"kind": "zoo", "name": "cnn", "in_shape": 3, "classes": 10,
                                   "mean": [0.0], "std": [1.0]}])  # fmt: skip
def test_a_spec_that_makes_no_sense(bundle, spec):
    _rewrite(bundle, spec=spec)
    with pytest.raises((ModelError, ValueError)) as raised:
        models.load_bundle(bundle)
    assert hasattr(raised.value, "remedy")


def test_weights_of_another_architecture_are_refused(bundle):
    spec = json.loads((bundle / "manifest.json").read_text())["spec"] | {"classes": 11}
    _rewrite(bundle, spec=spec)
    with pytest.raises(ModelError, match="shape"):
        models.load_bundle(bundle)


def test_something_else_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(StorageError, match="something else"):
        models.save(models.build("digits_cnn"), tmp_path / "notes")
    assert (tmp_path / "notes" / "diary.txt").read_text() == "mine"


def _failing(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_half_written(bundle, monkeypatch, step):
    before = models.fingerprint(models.load(bundle))
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", _failing)
    else:
        from pathlib import Path

        replace = Path.replace

        def only_the_last_fails(self, to):
            return _failing() if self.suffix == ".tmp" else replace(self, to)

        monkeypatch.setattr(Path, "replace", only_the_last_fails)
    with pytest.raises(StorageError, match="No space left"):
        models.save(models.build("digits_cnn", seed=9), bundle)
    assert [p.name for p in bundle.parent.iterdir()] == ["digits"]
    assert models.fingerprint(models.load(bundle)) == before


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        models.save(models.build("digits_cnn"), tmp_path / "file" / "bundle")


def test_a_model_without_spec_cannot_be_saved(tmp_path):
    with pytest.raises(ModelError, match="suture_spec"):
        models.save(nn.Linear(2, 2), tmp_path / "b")


class Doubled(nn.Module):
    """What a repair looks like to a bundle: something around a base model."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.factor = base, nn.Parameter(torch.tensor(1.0))
        models.attach(
            self, {"kind": "test-doubled", "base": models.spec_of(base)}, models.files_of(base)
        )

    def forward(self, x):
        return self.base(x) * self.factor


models.register_builder(
    "test-doubled", lambda spec, folder: Doubled(models.build_from_spec(spec["base"], folder))
)


def test_specs_nest_with_their_files(tmp_path, rand):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Flatten", ["x"], ["y"])
    io = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in
          (("x", ("N", 1, 2, 2)), ("y", ("N", 4)))]  # fmt: skip
    graph = onnx.helper.make_graph([node], "net", io[:1], io[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    doubled = Doubled(Doubled(models.load(tmp_path / "net.onnx")))
    with torch.no_grad():
        doubled.factor.fill_(2.0)
    (tmp_path / "net.onnx").unlink()
    again = models.load(models.save(doubled, tmp_path / "b"))
    images = rand(3, 1, 2, 2)
    assert torch.equal(again(images), images.flatten(1) * 2)
    assert torch.equal(models.load(models.save(again, tmp_path / "c"))(images), again(images))


def test_a_kind_has_one_builder():
    from suture.errors import ArgumentError

    with pytest.raises(ArgumentError, match="zoo"):
        models.register_builder("zoo", lambda spec, folder: nn.Identity())


def test_a_spec_must_survive_json():
    from suture.errors import ArgumentError

    with pytest.raises(ArgumentError, match="plain"):
        models.attach(nn.Identity(), {"kind": "zoo", "shape": (1, 2)})
