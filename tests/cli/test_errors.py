"""Bad input: one clear line on stderr, status 2, no traceback, nothing half-written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from suture import models
from tests.cli.conftest import Suture

ATTACK = ("--data", "digits", "--n", 5, "--queries", 3)


def assert_refused(answer, *pieces: str) -> None:
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err.startswith("error: expected ")
    assert "Traceback" not in answer.err
    assert answer.err.count("\n") == 1, "one line"
    for piece in pieces:
        assert piece in answer.err, answer.err


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return models.save(models.build("digits_cnn"), tmp_path / "bundle")


def test_a_text_file_as_a_model(suture: Suture, tmp_path: Path):
    for name in ("model.onnx", "model.pt2", "model.txt"):
        (tmp_path / name).write_text("this is no model")
        assert_refused(suture("attack", tmp_path / name, *ATTACK), name)


def test_a_corrupt_safetensors(suture: Suture, tmp_path: Path):
    (tmp_path / "weights.safetensors").write_bytes(b"\xff" * 300)
    answer = suture("attack", "digits_cnn", *ATTACK, "--weights", tmp_path / "weights.safetensors")
    assert_refused(answer, "weights.safetensors")


def test_weights_of_another_model(suture: Suture, tmp_path: Path):
    save_file({"a": torch.zeros(3)}, tmp_path / "weights.safetensors")
    assert_refused(
        suture("attack", "digits_cnn", *ATTACK, "--weights", tmp_path / "weights.safetensors")
    )


def test_a_flipped_byte_in_a_bundle(suture: Suture, bundle: Path):
    weights = bundle / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    assert_refused(suture("attack", bundle, *ATTACK), "weights.safetensors")


def test_nan_weights(suture: Suture, tmp_path: Path):
    model = models.build("digits_cnn")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = next(name for name in state if name.endswith("weight"))
    state[first].view(-1)[0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    answer = suture("attack", "digits_cnn", *ATTACK, "--weights", tmp_path / "nan.safetensors")
    assert_refused(answer, "NaN", "layer")


def test_unknown_names(suture: Suture):
    assert_refused(suture("attack", "digit_cnn", *ATTACK), "did you mean digits_cnn")
    assert_refused(suture("attack", "digits_cnn", "--data", "digit"), "did you mean digits")
    assert_refused(
        suture("attack", "digits_cnn", *ATTACK, "--attack", "sqare"), "did you mean square"
    )
    assert_refused(suture("train", "nonsense", "--data", "digits"))
    assert_refused(suture("repair", "digits_cnn", "--data", "digits", "--method", "x"), "defensyn")
    assert_refused(suture("audit", "digits_cnn", "--data", "digits", "--tier", "x"), "quick")
    assert_refused(suture("report", "nowhere"), "nothing there")


def npz(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(path, images=images, labels=labels)
    return path


def test_images_out_of_range(suture: Suture, tmp_path: Path):
    wild = npz(tmp_path / "wild.npz", np.full((20, 1, 8, 8), 255.0), np.arange(20) % 10)
    assert_refused(suture("attack", "digits_cnn", "--data", wild), "[0, 1]", "255")
    gaps = npz(tmp_path / "nan.npz", np.full((20, 1, 8, 8), np.nan), np.arange(20) % 10)
    assert_refused(suture("attack", "digits_cnn", "--data", gaps), "NaN")


def test_labels_beyond_the_classes(suture: Suture, tmp_path: Path, bundle: Path):
    data = npz(tmp_path / "many.npz", np.full((60, 1, 8, 8), 0.5), np.arange(60) % 12)
    assert_refused(suture("attack", bundle, "--data", data, "--queries", 3), "0 to 9")


def test_a_failed_command_leaves_no_run(suture: Suture, tmp_path: Path, bundle: Path):
    data = npz(tmp_path / "many.npz", np.full((60, 1, 8, 8), 0.5), np.arange(60) % 12)
    for command in ("evaluate", "audit"):
        assert_refused(suture(command, bundle, "--data", data, "--out", tmp_path / "run"), "0 to 9")
        assert not (tmp_path / "run").exists()


def test_a_truncated_file(suture: Suture, tmp_path: Path):
    data = npz(tmp_path / "cut.npz", np.full((60, 1, 8, 8), 0.5), np.arange(60) % 10)
    data.write_bytes(data.read_bytes()[:-200])
    assert_refused(suture("data", "show", data), "cut.npz")


def test_a_model_for_other_images(suture: Suture, tmp_path: Path):
    bundle = models.save(models.build("cnn", in_shape=(3, 32, 32)), tmp_path / "bundle")
    assert_refused(suture("attack", bundle, *ATTACK))


def test_options_that_make_no_sense(suture: Suture):
    assert_refused(suture("attack", "digits_cnn", *ATTACK, "--norm", "l7"), "norm")
    assert_refused(suture("attack", "digits_cnn", *ATTACK, "--steps", 3), "--steps")
    assert_refused(suture("attack", "digits_cnn", *ATTACK, "--device", "tpu9"), "device")
    assert_refused(
        suture("train", "digits_cnn", "--data", "digits", "--optimiser", "magic"), "adam"
    )
    usage = suture("attack", "digits_cnn", *ATTACK, "--eps", -1)
    assert usage.status == 2 and "Traceback" not in usage.err


def test_code_is_not_run_unless_trusted(suture: Suture, tmp_path: Path, monkeypatch):
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\ndef make(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert_refused(suture("attack", "evil:make", *ATTACK), "trust")
    assert not marker.exists()


def test_an_output_folder_in_the_way(suture: Suture, bundle: Path, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        words = ("train", "digits_cnn", "--data", "digits", "--epochs", 1, "--out", out)
        assert_refused(suture(*words), "file")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk(suture: Suture, tmp_path: Path, monkeypatch, number: int):
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    answer = suture("attack", "digits_cnn", *ATTACK, "--save", tmp_path / "images.npz")
    assert_refused(answer, os.strerror(number), "images.npz")
    out = tmp_path / "run"
    answer = suture("train", "digits_cnn", "--data", "digits", "--epochs", 1, "--out", out)
    assert_refused(answer, os.strerror(number))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--eps", 8),
        ("audit", "--eps", 8),
        ("attack", "--eps", 8),
        ("certify", "--eps", 8),
        ("repair", "--eps", 8),
        ("repair", "--method", "trades", "--eps", 8),
        ("repair", "--method", "a5-offline", "--defence.eps", 8),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_a_radius_in_grey_levels(suture: Suture, bundle: Path, words: tuple):
    """The fraction that was meant is told, and nothing has run."""
    command, *options = words
    answer = suture(command, bundle, "--data", "digits", *options)
    assert_refused(answer, "8/255 = 0.03137")
