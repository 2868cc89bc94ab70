"""``suture certify`` and ``suture bench``: proofs of images, proofs again, studies by name."""

from __future__ import annotations

import json

import torch

from suture import models
from suture.certify import certify_box, save_all


def test_images_are_certified_beside_an_attack(suture, tmp_path):
    words = ("certify", "digits_cnn", "--data", "digits", "--n", 60, "--eps", 0.001)
    answer = suture(
        *words, "--method", "ibp", "--method", "crown", "--out", tmp_path / "run", "--json"
    )
    assert answer.status == 0
    shares = {row["what"]: row["right"] for row in answer.json["rows"]}
    assert (
        shares["certified, ibp"] <= shares["certified, crown"] <= shares["PGD"] <= shares["clean"]
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert "No image that was certified was broken" in page


def test_a_method_that_is_none_is_refused(suture):
    answer = suture("certify", "digits_cnn", "--data", "digits", "--method", "guess")
    assert answer.status == 2 and "crown" in answer.err and "Traceback" not in answer.err


def bundle(folder):
    """A bundle with two certificates beside it."""
    model = models.build("digits_cnn", in_shape=(1, 8, 8), classes=10)
    models.save(model, folder / "model")
    lower, upper = torch.zeros(1, 8, 8).double(), torch.full((1, 8, 8), 0.05).double()
    rows, add = torch.eye(10)[:2].double(), torch.full((2,), 5.0).double()
    made = certify_box(model, lower, upper, rows, add)
    save_all([made, made], folder / "certificates")
    return folder / "model"


def test_certificates_beside_a_bundle_are_proved_again(suture, tmp_path):
    model = bundle(tmp_path)
    assert suture("certify", model, "--export", tmp_path / "out", "--json").json["failed"] == 0
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".onnx", ".vnnlib"}
    path = tmp_path / "certificates" / "00001.certificate"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(bytes(whole))
    answer = suture("certify", model, "--json")
    assert answer.status == 1 and answer.json["failed"] == 1
    assert [c["holds"] for c in answer.json["certificates"]] == [True, False]


def test_other_weights_fail_every_certificate(suture, tmp_path):
    model = bundle(tmp_path)
    models.save(models.build("digits_cnn", in_shape=(1, 8, 8), classes=10, seed=1), model)
    answer = suture("certify", model)
    assert answer.status == 1 and "other weights" in answer.out


def test_a_flipped_bit_of_the_weights_fails_every_certificate(suture, tmp_path):
    model = bundle(tmp_path)
    (path,) = model.glob("*.safetensors")
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 0x10
    path.write_bytes(bytes(whole))
    answer = suture("certify", model, "--json")
    assert answer.status == 1 and answer.json["failed"] == answer.json["checked"] == 2
    assert "manifest" in answer.json["certificates"][0]["reason"]


def test_without_certificates_there_is_a_remedy(suture, tmp_path):
    models.save(
        models.build("digits_cnn", in_shape=(1, 8, 8), classes=10), tmp_path / "a" / "model"
    )
    answer = suture("certify", tmp_path / "a" / "model")
    assert answer.status == 2 and "--data" in answer.err


def test_a_study_by_name(suture, tmp_path):
    listed = suture("bench", "--json").json["studies"]
    assert "certified" in listed and "vnncomp" in listed
    words = ("bench", "certified", "--set", "n=10", "--set", "methods=ibp", "--out", tmp_path / "b")
    first = suture(*words, "--json")
    assert first.status == 0 and json.loads(first.out)["study"] == "certified"
    # The same folder with other settings is another study.
    assert suture(*words, "--set", "n=11").status == 2
    assert suture("bench", "certifed").status == 2
