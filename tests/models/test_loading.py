"""Every way to name a model, and every way in which that goes wrong."""

import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from suture import models
from suture.errors import ArgumentError, DependencyError, ModelError


def test_zoo_name_with_weights(tmp_path, rand):
    model = models.build("cnn", classes=5, seed=7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    torch.save(model.state_dict(), tmp_path / "w.pt")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "checkpoint.pth")
    images = rand(2, 1, 28, 28)
    for name in ("w.safetensors", "w.pt", "checkpoint.pth"):
        again = models.load("cnn", classes=5, weights=tmp_path / name)
        assert torch.equal(again(images), model(images))
        assert not again.training


def test_weights_that_do_not_match_list_the_first_differences(tmp_path):
    save_file(models.build("cnn", classes=5).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"6\.weight has shape \(5, 100\), not \(10, 100\)"):
        models.load("cnn", weights=tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"and \d+ more"):
        models.load("resnet18", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_name_the_layer(tmp_path, bad):
    state = models.build("cnn").state_dict()
    state["4.weight"].flatten()[0] = bad
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"(NaN|infinite weight) in layer '4'"):
        models.load("cnn", weights=tmp_path / "w.safetensors")


def test_applied_weights_must_be_finite():
    model = models.build("digits_cnn")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["8.bias"][0] = float("nan")
    with pytest.raises(ModelError, match="NaN in layer '8'"):
        models.apply_weights(model, state)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\xff" * 64])
def test_damaged_weights(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="state dict"):
        models.load("cnn", weights=tmp_path / name)


def test_truncated_safetensors(tmp_path):
    save_file(models.build("cnn").state_dict(), tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError):
        models.load("cnn", weights=tmp_path / "w.safetensors")


class Bomb:
    """Leaves a trace if anybody unpickles it."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (_touch, (self.path,))


def _touch(path: str) -> dict:
    from pathlib import Path

    Path(path).write_text("boom")
    return {}


def test_pickled_code_in_weights_is_never_run(tmp_path):
    torch.save({"a": Bomb(tmp_path / "boom")}, tmp_path / "w.pt")
    with pytest.raises(ModelError):
        models.load("cnn", weights=tmp_path / "w.pt")
    torch.save(models.build("digits_cnn"), tmp_path / "whole.pt")
    with pytest.raises(ModelError):
        models.load("cnn", weights=tmp_path / "whole.pt")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_library_models_take_plain_images(library, rand):
    pytest.importorskip(library)
    model = models.load(f"{library}:resnet18", in_shape=(3, 40, 40), classes=6, seed=2)
    images = rand(2, 3, 40, 40)
    mean, std = ((torch.tensor(v).view(-1, 1, 1)) for v in
                 ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    assert torch.allclose(model(images), model.net((images - mean) / std), atol=1e-6)
    assert models.spec_of(model)["in_shape"] == [3, 40, 40]
    again = models.load(f"{library}:resnet18", in_shape=(3, 40, 40), classes=6, seed=2)
    assert models.fingerprint(again) == models.fingerprint(model)
    other = models.load(f"{library}:resnet18", in_shape=(3, 40, 40), classes=6, seed=3)
    assert models.fingerprint(other) != models.fingerprint(model)


def test_timm_options_and_bundle(tmp_path, rand):
    pytest.importorskip("timm")
    model = models.load("timm:vit_tiny_patch16_224", in_shape=(1, 32, 32), classes=3, depth=2)
    assert len(model.net.blocks) == 2
    again = models.load(models.save(model, tmp_path / "b"))
    images = rand(2, 1, 32, 32)
    assert torch.equal(again(images), model(images))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_unknown_library_model_suggests_one(library):
    pytest.importorskip(library)
    with pytest.raises(ModelError, match=r"did you mean .*resnet18"):
        models.load(f"{library}:resnet_18")


def test_pretrained_weights_that_cannot_be_fetched(monkeypatch):
    timm = pytest.importorskip("timm")

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match=r"no route to host.*network"):
        models.load("timm:resnet18", weights="pretrained")


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DependencyError, match=r"suture\[timm\]"):
        models.load("timm:resnet18")


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "import torch\n"
        "def small(width=4):\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, width))\n"
        "def number():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_nets", None)


def test_a_factory_runs_only_when_trusted(own_module, rand):
    with pytest.raises(ModelError, match="trust_code=True"):
        models.load("my_nets:small")
    assert "my_nets" not in sys.modules
    model = models.load("my_nets:small", trust_code=True, width=3)
    assert model(rand(2, 1, 2, 2)).shape == (2, 3)


def test_a_factorys_bundle_needs_trust_too(own_module, rand):
    model = models.load("my_nets:small", trust_code=True, width=3)
    path = models.save(model, own_module / "b")
    with pytest.raises(ModelError, match="trust_code=True"):
        models.load(path)
    images = rand(2, 1, 2, 2)
    assert torch.equal(models.load(path, trust_code=True)(images), model(images))


@pytest.mark.parametrize("ref", ["my_nets:missing", "no_such_module:f", "my_nets:number"])
def test_a_factory_that_does_not_work(own_module, ref):
    with pytest.raises(ModelError, match="factory"):
        models.load(ref, trust_code=True)


@pytest.mark.parametrize("ref", ["nothing.onnx", "nothing.pt2", "no/such/folder", "resnet-18", ""])
def test_missing_models(ref, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        models.load(ref)


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name, said in (("notes.txt", r"a \.txt file"), ("empty", "without manifest")):
        with pytest.raises(ModelError, match=said):
            models.load(tmp_path / name)


def test_options_that_make_no_sense():
    with pytest.raises(ArgumentError, match="did you mean classes"):
        models.load("cnn", class_=3)
    with pytest.raises(ArgumentError, match="pretrained"):
        models.load("cnn", weights="pretrained")
    with pytest.raises(ArgumentError):
        models.load("cnn", in_shape=(28, 28))


def test_options_are_never_ignored(tmp_path):
    models.save(models.build("digits_cnn"), tmp_path / "b")
    for ref in (tmp_path / "b", tmp_path / "m.pt2", tmp_path / "m.onnx"):
        with pytest.raises(ArgumentError, match="classes"):
            models.load(ref, classes=3)


def test_importing_models_is_light():
    import subprocess

    code = "import sys, suture.models; print([m for m in ('timm', 'onnx', 'torchvision') "
    code += "if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_factory_may_return_any_module(own_module):
    assert isinstance(models.load("my_nets:small", trust_code=True), nn.Sequential)
