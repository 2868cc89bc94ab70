"""``head(encoder(x)) == model(x)``, whatever the model is made of, and clear refusals."""

import copy

import pytest
import torch
from torch import nn

from suture import models
from suture.errors import ModelError


def _agree(model, parts, images, tolerance=1e-6):
    with torch.no_grad():
        features = parts.encoder(images)
        assert features.shape == (len(images), parts.features)
        difference = (parts.head(features) - model(images)).abs().max()
    assert difference <= tolerance


@pytest.mark.parametrize("name", [n for n in models.architectures() if n != "a5_classifier"])
def test_zoo_before_the_last_layer(name, rand):
    model = models.build(name)
    shape, classes = models.spec_of(model)["in_shape"], models.spec_of(model)["classes"]
    parts = models.cut(model)
    _agree(model, parts, rand(5, *shape))
    linear = models.head_is_linear(parts.head)
    assert linear.weight.shape == (classes, parts.features)
    assert isinstance(parts.encoder, nn.Sequential) is (name not in ("resnet18", "wrn28_4"))


@pytest.mark.parametrize(("name", "every"), [("cnn", 1), ("conv_cifar", 1), ("wrn28_4", 5)])
def test_zoo_after_its_layers(name, every, rand):
    model = models.build(name, in_shape=(1, 20, 20))
    for at in models.layer_names(model)[::every]:
        _agree(model, models.cut(model, at), rand(3, 1, 20, 20))


FOREIGN = [
    ("timm:resnet18", (3, 64, 64)),
    ("timm:vit_tiny_patch16_224", (3, 64, 64)),
    ("timm:deit_tiny_patch16_224", (3, 64, 64)),
    ("timm:convnext_atto", (3, 64, 64)),
    ("timm:mobilenetv3_small_050", (3, 64, 64)),
    ("timm:mixer_s16_224", (3, 64, 64)),
    ("torchvision:resnet18", (3, 64, 64)),
    ("torchvision:mobilenet_v3_small", (3, 64, 64)),
    ("torchvision:squeezenet1_1", (3, 64, 64)),
    pytest.param("torchvision:vgg11", (3, 32, 32), marks=pytest.mark.slow),
    pytest.param("torchvision:vit_b_16", (3, 32, 32), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("ref", "shape"), FOREIGN)
def test_library_models(ref, shape, rand):
    pytest.importorskip(ref.split(":")[0])
    model = models.load(ref, in_shape=shape, classes=10)
    images = rand(3, *shape)
    if "squeezenet" in ref:
        with pytest.raises(ModelError, match="linear layer"):
            models.cut(model)
    else:
        parts = models.cut(model)
        _agree(model, parts, images)
        assert models.head_is_linear(parts.head).out_features == 10
    names = [n for n in models.layer_names(model) if n != "penultimate"]
    middle = names[len(names) // 2]
    _agree(model, models.cut(model, middle), images)


def test_a_bare_library_model_needs_no_shape_where_it_does_not_matter(rand):
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.resnet18(weights=None).eval()
    _agree(model, models.cut(model), rand(3, 3, 64, 64))
    with pytest.raises(ModelError, match="in_shape"):
        models.cut(model, "layer2")
    _agree(model, models.cut(model, "layer2", in_shape=(3, 64, 64)), rand(3, 3, 64, 64))


class Stubborn(nn.Module):
    """Resists symbolic tracing, works in place, and reads the batch size before the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Linear(256, 16), nn.ReLU(inplace=True))
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        if x.shape[1] != 1:
            raise ValueError("grey images only")
        x = self.norm(self.conv(x))
        count = x.size(0)
        x = torch.relu_(x)
        x = self.block(x.reshape(count, -1))
        x += x
        return self.fc(x)


def test_export_takes_over_where_symbolic_tracing_fails(rand):
    model = Stubborn().eval()
    images = rand(5, 1, 8, 8)
    names = models.layer_names(model, in_shape=(1, 8, 8))
    assert {"penultimate", "conv", "norm", "block", "fc"} <= set(names)
    for at in names:
        parts = models.cut(model, at, in_shape=(1, 8, 8))
        features = parts.encoder(images)
        kept = features.clone()
        assert torch.allclose(parts.head(features), model(images), atol=1e-6)
        assert torch.equal(features, kept), "the head writes into its input"
        parts.head.train()
        parts.encoder.eval()


def test_a_head_never_writes_into_its_features(rand):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(inplace=True), nn.Linear(8, 3))
    parts = models.cut(model, "1", in_shape=(1, 8, 8))
    features = parts.encoder(rand(4, 1, 8, 8)).detach()
    kept = features.clone()
    parts.head(features)
    assert torch.equal(features, kept)
    assert model[2].inplace, "the given model keeps its own ways"


class Leaky(nn.Module):
    """In-place ReLU whose argument is used again: without it the sum would differ."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)
        self.fc = nn.Linear(144, 3)

    def forward(self, x):
        before = self.conv(x)
        after = self.relu(before)
        return self.fc((before + 2 * after).flatten(1))


def test_reliance_on_in_place_operations_is_kept(rand):
    model = Leaky().eval()
    parts = models.cut(model, in_shape=(1, 8, 8))
    _agree(model, parts, rand(4, 1, 8, 8))


class Sized(nn.Module):
    """Behind any cut the head needs sizes of what lies before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(144, 3)

    def forward(self, x):
        x = self.first(x)
        n, c, h, w = x.shape
        tokens = self.second(x).reshape(n, c, h * w).transpose(1, 2)
        return self.fc(tokens.reshape(n, -1) + torch.zeros(n, 1))


def test_sizes_from_before_the_cut_are_had_from_the_features(rand):
    model = Sized().eval()
    parts = models.cut(model, "second", in_shape=(1, 8, 8))
    _agree(model, parts, rand(7, 1, 8, 8))


def test_skip_connection_is_named_with_what_is_possible():
    model = models.build("resnet18")
    with pytest.raises(ModelError, match=r"skip connection from 'stem' to .* after: .*group1\.0"):
        models.cut(model, "group1.0.conv1")


def test_unknown_layer_suggests_a_known_one():
    with pytest.raises(ModelError, match="did you mean group1"):
        models.cut(models.build("resnet18"), "gruop1")


def test_the_given_model_is_neither_changed_nor_shared(rand):
    model = models.build("resnet18", in_shape=(1, 8, 8)).train()
    before, state = models.fingerprint(model), torch.get_rng_state()
    parts = models.cut(model)
    with torch.no_grad():
        for part in (parts.encoder, parts.head):
            for parameter in part.parameters():
                parameter.zero_()
    assert models.fingerprint(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in model.modules())
    assert not any(m.training for p in (parts.encoder, parts.head) for m in p.modules())


def test_parts_carry_every_parameter_once():
    model = models.build("wrn28_4")
    parts = models.cut(model, "group2")
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, parts.encoder, parts.head)]
    assert counts[0] == counts[1] + counts[2]


def test_parts_are_modules_like_any_other(rand):
    model = models.build("resnet18", in_shape=(1, 16, 16))
    parts = models.cut(model, "group2")
    images = rand(2, 1, 16, 16).double()
    twin = copy.deepcopy(parts.head)
    twin.load_state_dict(parts.head.state_dict())
    features = parts.encoder.double()(images)
    assert torch.allclose(parts.head.double()(features), model.double()(images))
    features.sum().backward()
    batch = ({0: torch.export.Dim("batch")},)
    for part, value in ((twin, features.float().detach()), (parts.encoder, images)):
        program = torch.export.export(part, (value,), dynamic_shapes=batch)
        assert torch.allclose(program.module()(value), part(value), atol=1e-5)


def test_head_is_linear_only_for_one_linear_layer():
    linear = nn.Linear(4, 2)
    assert models.head_is_linear(linear) is linear
    assert models.head_is_linear(nn.Sequential(nn.Dropout(), linear)) is linear
    assert models.head_is_linear(nn.Sequential(linear, nn.ReLU())) is None
    assert models.head_is_linear(nn.Sequential(nn.Linear(4, 4), linear)) is None
