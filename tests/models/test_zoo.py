"""The zoo: shapes, published parameter counts, seeds, and that the digits can be learnt."""

import copy
import json

import pytest
import torch

from suture import models
from suture.errors import ArgumentError, ModelError

# Counts by hand, or of the well-known implementations of these variants for 32×32 images.
COUNTS = {
    "fnn_small": 784 * 50 + 50 + 50 * 32 + 32 + 32 * 10 + 10,
    "fnn_big": 784 * 200 + 200 + 200 * 32 + 32 + 32 * 10 + 10,
    "cnn": 16 * 16 + 16 + 16 * 14 * 14 * 100 + 100 + 100 * 10 + 10,
    "conv_cifar": 890_410,
    "vgg16": 14_728_266,
    "vgg19": 20_040_522,
    "vgg_narrow": 193_354,  # 448 + 4640 + 18496 + 36928, norms 352, 131200, 1290
    "alexnet": 2_472_266,
    "resnet18": 11_173_962,
    "wrn28_4": 5_849_050,
    "a5_classifier": 1792 + 36928 + 73856 + 2 * 147584 + 128 * 16 * 16 * 512 + 512 + 5130,
    "a5_font": 1664 + 51232 + 4624 + 1160 + 8 * 8 * 8 * 512 + 512 + 512 * 62 + 62,
    "a5_small": 272 + 8224 + 32 * 7 * 7 * 100 + 100 + 1010,
    "a5_medium": 544 + 32832 + 64 * 7 * 7 * 300 + 300 + 3010,
    "digits_cnn": 160 + 4640 + 512 * 64 + 64 + 650,
}


def test_counts_cover_the_zoo():
    assert set(COUNTS) == set(models.architectures())


@pytest.mark.parametrize("name", models.architectures())
def test_parameter_count_and_output_shape(name, rand):
    model = models.build(name)
    spec = models.spec_of(model)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    assert model(rand(2, *spec["in_shape"])).shape == (2, spec["classes"])
    assert isinstance(model[0], models.Normalise)
    assert not model.training


@pytest.mark.parametrize("name", [n for n in models.architectures() if n != "a5_classifier"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 40, 36)])
def test_any_image_size(name, shape, rand):
    model = models.build(name, in_shape=shape, classes=7)
    assert model(rand(2, *shape)).shape == (2, 7)


def test_a5_halves_the_image_at_the_third_convolution():
    convs = [m for m in models.build("a5_classifier") if isinstance(m, torch.nn.Conv2d)]
    assert [m.stride[0] for m in convs] == [1, 1, 2, 1, 1]


def test_too_small_an_image_is_an_error():
    with pytest.raises(ModelError, match="large enough"):
        models.build("conv_cifar", in_shape=(1, 8, 8))


def test_seed_decides_the_weights_and_leaves_the_global_stream_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (models.build("cnn", seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    prints = [models.fingerprint(m) for m in (first, second, other)]
    assert prints[0] == prints[1] != prints[2]


def test_normalisation_is_inside(rand):
    images = rand(2, 3, 32, 32)
    plain = models.build("a5_small", in_shape=(3, 32, 32), mean=[0.0], std=[1.0])
    inside = models.build("a5_small", in_shape=(3, 32, 32), mean=[0.1, 0.2, 0.3], std=[0.5])
    moved = (images - torch.tensor([0.1, 0.2, 0.3]).view(-1, 1, 1)) / 0.5
    assert torch.allclose(inside(images), plain(moved), atol=1e-6)


def test_unknown_name_suggests_a_known_one():
    with pytest.raises(ModelError, match="did you mean resnet18"):
        models.build("resnet-18")


@pytest.mark.parametrize(
    "options",
    [{"in_shape": (28, 28)}, {"in_shape": (1, 0, 8)}, {"classes": 1}, {"mean": [0, 0]},
     {"std": [0.0]}],
)  # fmt: skip
def test_bad_options_are_errors(options):
    with pytest.raises(ArgumentError):
        models.build("cnn", **options)


@pytest.mark.parametrize("name", models.architectures())
def test_described_in_one_line(name):
    line = models.describe(name)
    assert line
    assert "\n" not in line


def test_spec_survives_json_and_copies():
    model = models.build("cnn", in_shape=(3, 20, 24), classes=4, mean=[0.3], std=[0.4])
    spec = json.loads(json.dumps(models.spec_of(copy.deepcopy(model))))
    again = models.build_from_spec(spec)
    models.apply_weights(again, model.state_dict())
    assert models.fingerprint(again) == models.fingerprint(model)
    assert models.spec_of(again) == models.spec_of(model)


def test_digits_cnn_learns_the_digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    y, order = (
        torch.tensor(labels),
        torch.randperm(1797, generator=torch.Generator().manual_seed(0)),
    )
    train, test = order[:1400], order[1400:]
    model = models.build("digits_cnn").train()
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(15):
        for part in train[torch.randperm(1400, generator=generator)].split(50):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimiser.step()
    accuracy = (model.eval()(x[test]).argmax(1) == y[test]).float().mean()
    assert accuracy >= 0.97
