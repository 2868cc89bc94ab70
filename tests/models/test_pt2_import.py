"""Exported programs are read as data: same logits, and no way for a file to run anything."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from torch import nn

from suture import models
from suture.errors import ModelError
from tests.models.test_loading import Bomb


def _export(model, path, shape, batch=2, free=True):
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    program = torch.export.export(model, (torch.zeros(batch, *shape),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


REFS = [("cnn", {}), ("resnet18", {"in_shape": (1, 16, 16)}), ("conv_cifar", {}),
        ("timm:vit_tiny_patch16_224", {"in_shape": (3, 32, 32), "depth": 2}),
        ("timm:convnext_atto", {"in_shape": (3, 32, 32)}),
        ("torchvision:mobilenet_v3_small", {"in_shape": (3, 32, 32)})]  # fmt: skip


@pytest.mark.parametrize(("ref", "options"), REFS)
def test_same_logits_as_the_exported_model(ref, options, tmp_path, rand):
    if ":" in ref:
        pytest.importorskip(ref.split(":")[0])
    model = models.load(ref, **options)
    shape = models.spec_of(model)["in_shape"]
    again = models.load(_export(model, tmp_path / "m.pt2", shape))
    images = rand(5, *shape)
    assert torch.allclose(again(images), model(images), atol=1e-6)
    parts = models.cut(again)
    assert torch.allclose(parts.head(parts.encoder(images)), again(images), atol=1e-6)
    assert models.head_is_linear(parts.head) is not None
    kept = models.load(models.save(again, tmp_path / "b"))
    assert torch.equal(kept(images), again(images))


def test_a_chain_becomes_plain_layers(tmp_path):
    model = models.build("conv_cifar", mean=[0], std=[1])[1:]
    again = models.load(_export(model, tmp_path / "m.pt2", (3, 32, 32)))
    assert [type(m) for m in again] == [type(m) for m in model]


def test_a_fixed_batch_is_refused(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, 16)

    path = _export(Fixed(), tmp_path / "m.pt2", (1, 4, 4), free=False)
    with pytest.raises(ModelError, match="free batch axis"):
        models.load(path)


def test_an_export_in_training_mode_is_refused(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, 3)).train()
    with pytest.raises(ModelError, match="eval mode"):
        models.load(_export(model, tmp_path / "m.pt2", (1, 4, 4)))


@pytest.mark.parametrize("content", [b"", b"plain text", b"PK\x03\x04 not really a zip"])
def test_files_that_are_no_archive(content, tmp_path):
    (tmp_path / "m.pt2").write_bytes(content)
    with pytest.raises(ModelError):
        models.load(tmp_path / "m.pt2")


def _changed(path, change):
    """The archive with ``change`` applied to its members, a dict of name to bytes."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    members = change(members) or members
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def exported(tmp_path):
    return _export(models.build("digits_cnn"), tmp_path / "m.pt2", (1, 8, 8))


def _named(members, end):
    return next(name for name in members if name.endswith(end))


def _in_json(end, change):
    def edit(members):
        name = _named(members, end)
        content = json.loads(members[name])
        change(content)
        members[name] = json.dumps(content).encode()

    return edit


def _nodes(program):
    return program["graph_module"]["graph"]["nodes"]


TARGETS = ["torch.os.system", "_operator.methodcaller", "math.exp", "torch.load", "builtins.eval",
           "torch.ops.aten.from_file.default", "torch.ops.aten.relu.__class__"]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_cannot_choose_what_runs(target, exported):
    def change(program):
        _nodes(program)[-1]["target"] = target

    _changed(exported, _in_json("models/model.json", change))
    with pytest.raises(ModelError, match="operator"):
        models.load(exported)


def test_expressions_and_guards_are_never_evaluated(exported, tmp_path, rand):
    expected = models.load(exported)(rand(2, 1, 8, 8))
    trap = f"__import__('pathlib').Path({str(tmp_path / 'boom')!r}).write_text('boom')"

    def change(program):
        program["guards_code"] = [trap]
        for value in program["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = trap

    _changed(exported, _in_json("models/model.json", change))
    assert torch.equal(models.load(exported)(rand(2, 1, 8, 8)), expected)
    assert not (tmp_path / "boom").exists()


def _pickle_weights(bomb):
    def change(members):
        listing = _named(members, "weights_config.json")
        content = json.loads(members[listing])
        entry = next(iter(content["config"].values()))
        entry["use_pickle"] = True
        members[listing] = json.dumps(content).encode()
        members[_named(members, entry["path_name"])] = bomb

    return change


def test_pickled_weights_are_refused_unread(exported, tmp_path):
    buffer = io.BytesIO()
    torch.save(Bomb(tmp_path / "boom"), buffer)
    _changed(exported, _pickle_weights(buffer.getvalue()))
    with pytest.raises(ModelError, match="pickled"):
        models.load(exported)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_pickled_state_dict_of_the_old_kind(whole, exported, tmp_path, rand):
    """Older torch stores tensors with torch.save: fine as tensors, refused as anything else."""
    model = models.build("digits_cnn")
    buffer = io.BytesIO()
    torch.save(dict(model.state_dict()) if whole else {"a": Bomb(tmp_path / "boom")}, buffer)

    def change(members):
        listing = _named(members, "weights_config.json")
        del members[listing]
        members[listing.replace("model_weights_config.json", "model.pt")] = buffer.getvalue()

    _changed(exported, change)
    if whole:
        images = rand(2, 1, 8, 8)
        assert torch.equal(models.load(exported)(images), model(images))
    else:
        with pytest.raises(ModelError, match="pickled"):
            models.load(exported)
    assert not (tmp_path / "boom").exists()


def test_sample_inputs_are_never_unpickled(exported, tmp_path):
    def change(members):
        members[_named(members, "sample_inputs/model.pt")] = pickle.dumps(Bomb(tmp_path / "boom"))

    models.load(_changed(exported, change))
    assert not (tmp_path / "boom").exists()


def test_a_tensor_cannot_reach_beyond_its_bytes(exported):
    def change(config):
        entry = next(iter(config["config"].values()))
        entry["tensor_meta"]["storage_offset"] = {"as_int": 10**6}

    _changed(exported, _in_json("weights_config.json", change))
    with pytest.raises(ModelError):
        models.load(exported)


@pytest.mark.parametrize("place", [0.1, 0.35, 0.6, 0.9])
def test_a_cut_off_archive(place, exported):
    content = exported.read_bytes()
    exported.write_bytes(content[: int(place * len(content))])
    with pytest.raises(ModelError):
        models.load(exported)
