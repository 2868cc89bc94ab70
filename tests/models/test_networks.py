"""The real networks of the data folder: accuracy as published, logits as onnxruntime's."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch

from suture import models
from tests.models.conftest import find_data

pytestmark = pytest.mark.data
pytest.importorskip("onnxruntime")


def _entries():
    folder = find_data()
    return json.loads((folder / "nets" / "index.json").read_text()) if folder else []


def _acas():
    folder = find_data()
    return sorted((folder / "acasxu" / "onnx").glob("*.onnx")) if folder else []


networks = pytest.mark.parametrize("entry", _entries(), ids=lambda e: e["file"][5:-5])


def _reference(path, images: torch.Tensor) -> np.ndarray:
    """onnxruntime, one image at a time; images as the network itself wants them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(path, options)
    wanted = session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in wanted.shape]
    rows = [np.ascontiguousarray(image.numpy()).reshape(shape) for image in images]
    return np.concatenate([session.run(None, {wanted.name: r})[0].reshape(1, -1) for r in rows])


def _prepared(images: torch.Tensor, entry) -> torch.Tensor:
    moved = images - torch.tensor(entry["mean"]).view(-1, 1, 1)
    moved = moved / torch.tensor(entry["std"]).view(-1, 1, 1)
    return moved.permute(0, 2, 3, 1) if entry["layout"] == "hwc" else moved


@networks
def test_logits_are_onnxruntimes_and_a_batch_is_its_images(entry, data_folder, images_of):
    path = data_folder / entry["file"]
    model = models.load(path)
    images = images_of(entry["dataset"])[0][:12]
    with torch.no_grad():
        logits = model(images)
        singly = torch.cat([model(image[None]) for image in images])
    expected = torch.from_numpy(_reference(path, _prepared(images, entry)))
    assert (logits - expected).abs().max() <= 1e-4
    # Logits reach 50; sums in another order differ by a few units in the last place of that.
    assert (logits - singly).abs().max() <= 1e-4


@networks
def test_accuracy_is_what_the_index_states(entry, data_folder, images_of):
    images, labels = images_of(entry["dataset"])
    key = "accuracy_test_lossless_first100" if entry["dataset"] == "cifar10" else "accuracy_test"
    model = models.load(data_folder / entry["file"])
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).sum() for x, y in
                 zip(images.split(500), labels.split(500), strict=True)]  # fmt: skip
    assert abs(int(sum(right)) / len(labels) - entry[key]) <= 0.001


@networks
def test_gradients_reach_the_images_and_every_weight(entry, data_folder, images_of):
    model = models.load(data_folder / entry["file"])
    images = images_of(entry["dataset"])[0][:4].clone().requires_grad_()
    model(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.parameters())


@networks
def test_dense_and_convolution_layers_are_plain(entry, data_folder):
    """Whatever a file spells them as, weights sit in Linear, Conv2d and BatchNorm alone."""
    model = models.load(data_folder / entry["file"])
    plain = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.modules.batchnorm._BatchNorm)
    owners = [m for m in model.modules() if list(m.parameters(recurse=False))]
    assert owners
    assert all(isinstance(m, plain) for m in owners)
    residual = any(word in entry["file"] for word in ("resnet", "_vit_"))
    assert isinstance(model, torch.nn.Sequential) is not residual


@networks
def test_cut_before_the_last_linear_layer(entry, data_folder, images_of):
    model = models.load(data_folder / entry["file"])
    images = images_of(entry["dataset"])[0][:8]
    parts = models.cut(model)
    with torch.no_grad():
        features = parts.encoder(images)
        assert features.shape == (8, parts.features)
        assert (parts.head(features) - model(images)).abs().max() <= 1e-6
    linear = models.head_is_linear(parts.head)
    if "mnist_relu_9_200" in entry["file"]:
        assert linear is None, "this one has a ReLU behind its last linear layer"
    else:
        assert linear.weight.shape == (10, parts.features)


@pytest.mark.parametrize("name", ["resnet20_akamaster", "vnncomp_cifar_vit_ibp_3_3_8"])
def test_cut_after_every_possible_layer(name, data_folder, images_of):
    model = models.load(data_folder / "nets" / f"{name}.onnx")
    images = images_of("cifar10")[0][:3]
    names = models.layer_names(model)
    assert len(names) > 5
    with torch.no_grad():
        for at in names:
            parts = models.cut(model, at)
            assert (parts.head(parts.encoder(images)) - model(images)).abs().max() <= 1e-6


def test_bundle_round_trip_is_exact(data_folder, images_of, tmp_path):
    for name in ("vnncomp_cifar_vit_ibp_3_3_8", "marabou_cifar_small", "resnet20_akamaster"):
        model = models.load(data_folder / "nets" / f"{name}.onnx")
        with torch.no_grad():
            next(model.parameters()).mul_(1.5)
        again = models.load(models.save(model, tmp_path / name))
        images = images_of("cifar10")[0][:8]
        assert torch.equal(again(images), model(images))
        assert models.fingerprint(again) == models.fingerprint(model)


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_other_processes_keep_the_spec(travel, data_folder, tmp_path):
    for name in ("vnncomp_cifar_resnet_2b", "marabou_cifar_small"):
        model = models.load(data_folder / "nets" / f"{name}.onnx")
        there = travel(travel(model))
        assert models.spec_of(there) == models.spec_of(model)
        again = models.load(models.save(there, tmp_path / name))
        assert models.fingerprint(again) == models.fingerprint(model)


@pytest.mark.parametrize("path", _acas(), ids=lambda p: p.stem[15:18])
def test_acas_xu(path, rand):
    model = models.load(path)
    images = rand(50, 1, 1, 5) - 0.5
    difference = model(images).detach().numpy() - _reference(path, images)
    assert np.abs(difference).max() <= 1e-5
    assert [type(m).__name__ for m in model].count("Linear") == 7


def test_an_altered_file_is_not_read_with_the_indexs_preprocessing(data_folder, tmp_path):
    from suture.errors import ModelError

    name = "colt_mnist_0.1.onnx"
    (tmp_path / "index.json").write_bytes((data_folder / "nets" / "index.json").read_bytes())
    content = (data_folder / "nets" / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"Relu", b"Tanh"))
    with pytest.raises(ModelError, match="sha256"):
        models.load(tmp_path / name)
    stated = models.load(tmp_path / name, layout="chw", mean=[0.1307], std=[0.3081])
    assert any(isinstance(m, torch.nn.Tanh) for m in stated)
