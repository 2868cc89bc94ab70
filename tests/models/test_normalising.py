"""Normalisation that lies outside the model: what was said, and the suspicion that it was not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import suture
from suture import models
from suture.errors import ArgumentError, ModelError
from suture.models import statistics, suspicion
from suture.testing.small import digits, trained
from suture.types import Batch


@pytest.mark.parametrize(
    ("said", "mean", "std"),
    [
        ({"mean": (0.5,), "std": (0.25,)}, 0.5, 0.25),
        ({"range": "0-255"}, 0, 1 / 255),
        ({"range": "-1..1"}, 0.5, 0.5),
        ({"range": (0, 255), "mean": (51.0,), "std": (25.5,)}, 0.2, 0.1),
        ({"preset": "mnist"}, 0.1307, 0.3081),
    ],
)
def test_statistics_by_hand(said, mean, std):
    found = statistics(**said)
    assert found["mean"] == pytest.approx((mean,)) and found["std"] == pytest.approx((std,))


@pytest.mark.parametrize("text", ["255-0", "1-1", "a-b", "0", "0-1-2", ""])
def test_ranges_that_are_none(text):
    with pytest.raises(ArgumentError, match="low and high"):
        statistics(range=text)


def test_a_preset_is_alone_and_has_a_name():
    with pytest.raises(ArgumentError, match="beside"):
        statistics(preset="mnist", mean=(0.5,))
    with pytest.raises(ArgumentError, match="did you mean imagenet"):
        statistics(preset="imagnet")


def exported(net: nn.Module, path) -> nn.Module:
    free = ({0: torch.export.Dim("batch")},)
    torch.export.save(
        torch.export.export(net.eval(), (torch.rand(2, 1, 8, 8),), dynamic_shapes=free), path
    )
    return net


@pytest.fixture
def bare() -> nn.Module:
    """The digits' network without its normalisation, which is then outside."""
    return trained()[1:]


def references(bare, tmp_path, monkeypatch):
    exported(bare, tmp_path / "m.pt2")
    models.save(models.load(tmp_path / "m.pt2"), tmp_path / "bundle")
    torch.save(bare.state_dict(), tmp_path / "w.pt")
    (tmp_path / "own_digits.py").write_text(
        "import torch\nfrom suture import models\n"
        "def make():\n"
        "    net = models.build('digits_cnn')[1:]\n"
        f"    net.load_state_dict(torch.load({str(tmp_path / 'w.pt')!r}))\n"
        "    return net\n"
    )
    monkeypatch.chdir(tmp_path)
    return {
        "m.pt2": {},
        "bundle": {},
        "own_digits:make": {"trust_code": True},
        str(tmp_path / "own_digits.py") + ":make": {"trust_code": True},
    }


def test_every_kind_of_model_takes_them_and_keeps_them(bare, tmp_path, monkeypatch):
    whole, images = trained(), digits().test.batch(9).images
    mean, std = (whole[0].mean.flatten().tolist(), whole[0].std.flatten().tolist())
    for ref, options in references(bare, tmp_path, monkeypatch).items():
        model = suture.load(ref, mean=mean, std=std, **options)
        torch.testing.assert_close(model(images), whole(images), rtol=1e-4, atol=1e-4)
        again = suture.load(models.save(model, tmp_path / "again"), **options)
        assert torch.equal(again(images), model(images)), ref


def test_what_a_repair_made_has_its_own(tmp_path):
    from suture.repairs.a5 import Defence, build_robustifier, defended

    both = defended(build_robustifier("small", (1, 8, 8), Defence(0.2), seed=3), trained())
    models.save(both, tmp_path / "both")
    with pytest.raises(ModelError, match="nobody has repaired"):
        suture.load(tmp_path / "both", mean=(0.5,))


class Level(nn.Module):
    """Tells how bright an image is, in standard deviations from the mean."""

    def forward(self, x):
        level = x.mean((1, 2, 3))
        return -(level[:, None] - torch.tensor([-1.2, 0.0, 1.2])).abs()


def levels() -> Batch:
    labels = torch.arange(150) % 3
    images = torch.tensor([0.3, 0.5, 0.7])[labels].view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return Batch(images.contiguous(), labels)


def test_a_network_without_its_normalisation_is_suspected():
    """By hand: levels 0.3 and 0.5 both lie nearest to 0, so two of three classes are right."""
    said = suspicion(Level(), levels())
    assert said.startswith("clean accuracy rises from 67 % to 100 % (on 150 images) with the data")
    assert "--mean 0.5 --std 0.16" in said and "Nothing was changed" in said
    mean, std = (0.5,), (0.1633,)
    assert suspicion(nn.Sequential(models.Normalise(mean, std), Level()), levels()) == ""
    assert suspicion(trained(), digits().test.batch(150)) == ""


class Grey(nn.Module):
    """Right only on 0 … 255: the class is written in the first pixel as a grey level."""

    def forward(self, x):
        level = x[:, 0, 0, 0]
        return -(level[:, None] - torch.tensor([50.0, 150.0, 250.0])).abs()


def test_grey_levels_are_told_from_the_rest():
    labels = torch.arange(90) % 3
    images = torch.rand(90, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = torch.tensor([50, 150, 250])[labels] / 255
    assert "(--range 0-255)" in suspicion(Grey(), Batch(images, labels))


def test_a_network_that_is_merely_bad_is_not(rand):
    batch = digits().test.batch(150)
    assert suspicion(models.build("digits_cnn", seed=5), batch) == ""
