"""Files that are no model that suture opens: each is told for what it is, and none is unpickled."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from suture import models
from suture.errors import ModelError
from suture.models.recognising import pickled_class
from tests.models.test_loading import Bomb


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(x.flatten(1))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_told_from_weights(tmp_path, zipped):
    torch.save(Own(), tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
    torch.save(Own().state_dict(), tmp_path / "state.pt", _use_new_zipfile_serialization=zipped)
    assert pickled_class(tmp_path / "whole.pt") == f"{__name__}.Own"
    assert pickled_class(tmp_path / "state.pt") is None


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_class_of_any_pickle(tmp_path, protocol):
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom"), protocol))
    assert pickled_class(tmp_path / "bomb.pt") == "tests.models.test_loading._touch"
    assert not (tmp_path / "boom").exists()


def files(folder):
    net = Own().eval()
    torch.save(net, folder / "whole.pt")
    torch.save(net.state_dict(), folder / "state.pt")
    torch.save({"model": net.state_dict(), "epoch": 3}, folder / "checkpoint.pth")
    torch.jit.script(net).save(folder / "script.pt")
    torch.save(Bomb(folder / "boom"), folder / "bomb.bin")
    for name in ("net.keras", "net.h5", "net.tflite", "net.pkl", "net"):
        (folder / name).write_bytes(b"\x89HDF or anything")
    (folder / "weights.safetensors").write_bytes(b"\x00" * 8)


ADVICE = {
    "whole.pt": ("class tests.models.test_recognising.Own", "suture.wrap(net"),
    "state.pt": ("weights alone", "--weights"),
    "checkpoint.pth": ("weights alone", "--weights"),
    "script.pt": ("TorchScript", "torch.export.save"),
    "bomb.bin": ("class tests.models.test_loading._touch", "suture.wrap(net"),
    "net.keras": ("Keras", "tf2onnx"),
    "net.h5": ("Keras", "tf2onnx"),
    "net.tflite": ("TensorFlow Lite", "ONNX"),
    "net.pkl": ("a pickle", "never opened"),
    "net": ("a file without suffix", "architecture"),
    "weights.safetensors": ("weights alone", "--weights"),
    "nowhere.pt": ("not there", "path"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ADVICE)
def test_each_gets_the_advice_that_fits(tmp_path, name):
    files(tmp_path)
    what, do = ADVICE[name]
    with pytest.raises(ModelError) as refused:
        models.load(tmp_path / name)
    assert what in refused.value.got and do in refused.value.remedy
    assert not (tmp_path / "boom").exists()


def test_a_whole_module_as_weights_gets_it_too(tmp_path):
    torch.save(Own(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"class tests\.models\.test_recognising\.Own"):
        models.load("digits_cnn", weights=tmp_path / "whole.pt")


def test_an_exported_program_opens_whatever_it_is_called(tmp_path, rand):
    net = Own().eval()
    program = torch.export.export(
        net, (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, tmp_path / "m.pt2")
    (tmp_path / "m.pt2").rename(tmp_path / "m.pt")
    images = rand(3, 1, 8, 8)
    torch.testing.assert_close(models.load(tmp_path / "m.pt")(images), net(images))
