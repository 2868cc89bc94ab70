"""Is it a classifier: shapes, finite logits, labels, and nothing disturbed."""

import pytest
import torch
from torch import nn

from suture import models
from suture.errors import DataError, ModelError
from suture.types import Batch


def _batch(rand, *labels, shape=(1, 8, 8)):
    return Batch(rand(len(labels), *shape), torch.tensor(labels))


def test_classes_are_counted(rand):
    assert models.check_classifier(models.build("digits_cnn"), _batch(rand, 0, 9)) == 10


def test_labels_must_be_below_the_classes(rand):
    with pytest.raises(DataError, match="the label 10"):
        models.check_classifier(models.build("digits_cnn"), _batch(rand, 0, 10))


def test_images_must_fit(rand):
    with pytest.raises(ModelError, match=r"\(n, 3, 9, 9\)"):
        models.check_classifier(models.build("digits_cnn"), _batch(rand, 0, shape=(3, 9, 9)))


class Out(nn.Module):
    """Returns whatever it is told."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.flatten(1)[:, :1],
        lambda x: (x.flatten(1), x),
        lambda x: x.flatten(1) / 0,
        lambda x: x.flatten(1).repeat(2, 1),
        lambda x: x.flatten(1).argmax(1, keepdim=True).repeat(1, 3),
    ],
)
def test_outputs_that_are_no_logits(make, rand):
    with pytest.raises(ModelError, match="logits"):
        models.check_classifier(Out(make), _batch(rand, 0))


def test_modes_and_random_state_stay(rand):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.BatchNorm1d(64), nn.Linear(64, 3)).train()
    model[1].eval()
    state, before = torch.get_rng_state(), models.fingerprint(model)
    models.check_classifier(model, _batch(rand, 0))
    models.check_classifier(Out(lambda x: torch.rand(len(x), 3)), _batch(rand, 0))
    assert torch.equal(torch.get_rng_state(), state)
    assert models.fingerprint(model) == before
    assert [m.training for m in model] == [True, False, True, True]


def test_softmax_outputs_are_recognised(rand):
    model, images = models.build("digits_cnn"), rand(5, 1, 8, 8)
    assert not models.looks_like_softmax(model, images)
    assert models.looks_like_softmax(nn.Sequential(model, nn.Softmax(1)), images)
    assert not models.looks_like_softmax(nn.Sequential(model, nn.Sigmoid()), images)


def test_fingerprint_does_not_depend_on_strides():
    module, plain = nn.Module(), nn.Module()
    module.register_buffer("state", torch.arange(4.0)[::4])
    plain.register_buffer("state", torch.zeros(1))
    assert models.fingerprint(module) == models.fingerprint(plain)


def test_fingerprint_sees_names_types_shapes_and_bits():
    base = {"w": torch.zeros(2, 3)}

    def printed(state):
        module = nn.Module()
        for name, tensor in state.items():
            module.register_buffer(name, tensor)
        return models.fingerprint(module)

    nudged = torch.zeros(2, 3)
    nudged[1, 2] = -0.0
    others = [{"v": torch.zeros(2, 3)}, {"w": torch.zeros(3, 2)}, {"w": nudged},
              {"w": torch.zeros(2, 3, dtype=torch.int32)}]  # fmt: skip
    prints = {printed(state) for state in (base, *others)}
    assert len(prints) == 5
    assert printed({"w": torch.zeros(3, 2).t()}) == printed(base)


def test_infinite_constants_are_allowed_and_nan_is_not():
    model = nn.Sequential(models.Affine(shift=torch.tensor([float("-inf"), 0.0])))
    models.check_weights(model)
    model[0].shift[1] = float("nan")
    with pytest.raises(ModelError, match="NaN in layer '0'"):
        models.check_weights(model)
