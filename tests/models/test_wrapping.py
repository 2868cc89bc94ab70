"""Somebody's own network, wrapped: its own logits, and a bundle that needs none of its code."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import suture
from suture import models
from suture.errors import ArgumentError, ModelError
from suture.models import spec_of


class Own(nn.Module):
    """What people write: functional layers, batch norm, dropout."""

    def __init__(self, channels: int = 1, size: int = 8, classes: int = 4) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 6, 3), nn.BatchNorm2d(6)
        self.dropout, self.fc = nn.Dropout(), nn.Linear(6 * (size - 2) ** 2, classes)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        return self.fc(self.dropout(x.flatten(1)))


@pytest.fixture
def net() -> Own:
    torch.manual_seed(0)
    return Own()


def test_the_logits_are_the_networks_own_behind_the_normalisation(net, rand):
    net.train()
    model = suture.wrap(net, in_shape=(1, 8, 8), classes=4, mean=(0.3,), std=(0.2,))
    images = rand(5, 1, 8, 8)
    assert net.training and not model.training
    expected = net.eval()((images - 0.3) / 0.2)
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


def test_a_bundle_opens_where_the_code_is_not(net, rand, tmp_path):
    model = suture.wrap(net, in_shape=(1, 8, 8), mean=(0.3,), std=(0.2,))
    models.save(model, tmp_path / "bundle")
    torch.save((rand(3, 1, 8, 8), model(rand(3, 1, 8, 8))), tmp_path / "pair.pt")
    code = (
        "import torch, suture; images, wanted = torch.load('pair.pt')\n"
        "assert torch.equal(suture.load('bundle')(images), wanted)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert spec_of(model)["in_shape"] == [1, 8, 8]


def test_it_can_be_cut_and_its_head_is_seen(net):
    parts = models.cut(suture.wrap(net, in_shape=(1, 8, 8)))
    assert parts.features == 6 * 36 and models.head_is_linear(parts.head) is not None


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_logits_that_are_a_part_of_the_output(net, rand, kind):
    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x):
            return kind(logits=self.net(x), other=None)

    model = suture.wrap(Told(), in_shape=(1, 8, 8))
    images = rand(2, 1, 8, 8)
    torch.testing.assert_close(model(images), net.eval()(images), rtol=1e-4, atol=1e-5)


def test_load_takes_a_module_and_leaves_ours_alone(net, rand):
    images, own = rand(2, 1, 8, 8), models.build("digits_cnn")
    torch.testing.assert_close(
        suture.load(net, in_shape=(1, 8, 8))(images), net.eval()(images), rtol=1e-4, atol=1e-5
    )
    assert suture.load(own) is own
    behind = suture.load(own, mean=(0.5,), std=(0.5,))
    assert torch.equal(behind(images), own((images - 0.5) / 0.5))


class Noisy(Own):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


class Branching(Own):
    def forward(self, x):
        return super().forward(2 * x if x.mean() > 0.5 else x)


class FixedBatch(Own):
    def forward(self, x):
        return super().forward(x.view(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (Own, {}, r"in_shape=\(channels, height, width\)"),
        (Own, {"in_shape": (3, 8, 8)}, "1 channels where 3 come: grey for colour"),
        (Own, {"in_shape": (1, 9, 9)}, "images of another size"),
        (Own, {"in_shape": (1, 8, 8), "classes": 5}, "4 logits per image"),
        (Own, {"in_shape": (1, 8, 8), "mean": (0, 0, 0)}, "3 values"),
        (lambda: nn.Flatten(0), {"in_shape": (1, 8, 8)}, r"shape \(128,\) for 2 images"),
        (Noisy, {"in_shape": (1, 8, 8)}, "draws at random"),
        (Branching, {"in_shape": (1, 8, 8)}, "branches on a tensor's value"),
        (FixedBatch, {"in_shape": (1, 8, 8)}, "one number of images only"),
    ],
)
def test_what_cannot_be_wrapped_says_why(made, options, said, capsys):
    torch.manual_seed(0)
    with pytest.raises((ModelError, ArgumentError), match=said):
        suture.wrap(made(), **options)
    assert capsys.readouterr() == ("", "")


def test_a_model_changed_beyond_its_weights_is_not_kept(net, tmp_path):
    model = suture.wrap(net, in_shape=(1, 8, 8))
    next(m for m in model.modules() if isinstance(m, nn.Conv2d)).padding = (1, 1)
    model.linear1 = nn.Sequential(nn.Unflatten(1, (6, 64)), nn.Flatten(), nn.LazyLinear(4))
    model(torch.zeros(2, 1, 8, 8))
    with pytest.raises((ModelError, suture.errors.SutureError)):
        models.save(model, tmp_path / "b")
    assert not (tmp_path / "b").exists()
