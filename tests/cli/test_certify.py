"""``suture certify`` and ``suture bench``: proofs of images, proofs again, studies by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from suture import models, pipeline
from suture.certify import certify_box, save_all
from suture.engine import Run
from suture.repairs import Smoothing
from suture.testing.small import digits, trained


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


WORKERS = ("--engine", "processes", "--workers", 2)


def test_workers_prove_what_one_process_proves(suture, tmp_path):
    models.save(trained(), tmp_path / "model")
    words = ("certify", tmp_path / "model", "--data", "digits", "--n", 24, "--eps", 0.05)
    told = []
    for name, where in (("one", ()), ("two", WORKERS)):
        answer = suture(*words, "--method", "crown", "--json", "--out", tmp_path / name, *where)
        told.append([(row["what"], row["right"]) for row in answer.json["rows"]])
    assert told[0] == told[1]


def test_workers_check_certificates_too(suture, tmp_path):
    answers = [
        suture("certify", bundle(tmp_path), "--json", *where).json for where in ((), WORKERS)
    ]
    assert answers[0] == answers[1] and answers[0]["checked"] == 2


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


@pytest.fixture(scope="module")
def smoothed_run(tmp_path_factory):
    """A run folder with a classifier that votes."""
    method = Smoothing(sigma=0.2, epochs=2, votes=8, n0=20, n=400, held_out=0.15, step_images=64)
    folder = tmp_path_factory.mktemp("smoothed") / "run"
    with Run.create(folder, kind="repair", title="", command="", seed=0) as run:
        pipeline.repair(trained(), digits(), method, run)
        run.finish()
    return folder


def test_a_model_that_votes_is_certified_by_counting(suture, smoothed_run, tmp_path):
    words = ("certify", smoothed_run, "--data", "digits", "--n", 12)
    answer = suture(*words, "--out", tmp_path / "run", "--json")
    assert answer.status == 0
    rows = answer.json["rows"]
    by_radius = [row["right"] for row in rows if "radius" in row]
    assert by_radius == sorted(by_radius, reverse=True)
    ends = {row["what"]: row["right"] for row in rows if "what" in row}
    assert sum(ends.values()) == 12 and ends["right (radius 0)"] == by_radius[0] >= 9
    images = (tmp_path / "run" / "artifacts" / "images.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in images]
    assert len(told) == 12 and sum(one["predicted"] == one["label"] for one in told) == by_radius[0]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "another norm" in page and "<svg" in page
    kept = tmp_path / "run" / "artifacts" / "certificates"
    assert len(list(kept.iterdir())) == 12 - ends["abstained"]

    check = ("certify", smoothed_run, "--certificates", tmp_path / "run", "--json")
    assert suture(*check).json["failed"] == 0
    path = sorted(kept.iterdir())[0]
    body = json.loads(path.read_text())
    path.write_text(json.dumps(body | {"radius": body["radius"] * 2}))
    answer = suture(*check)
    assert answer.status == 1 and answer.json["failed"] == 1
    assert "checksum" in answer.json["certificates"][0]["reason"]
    other = suture("certify", "digits_cnn", "--certificates", tmp_path / "run")
    assert other.status == 1 and "does not" in other.out


def test_a_stopped_count_is_gone_on_with(suture, smoothed_run, tmp_path):
    words = ("certify", smoothed_run, "--data", "digits", "--n", 3, "--copies", 50)
    before = suture(*words, "--out", tmp_path / "run", "--json").json["rows"]
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(info | {"status": "stopped"}))
    assert suture("resume", tmp_path / "run", "--json").json["rows"] == before


def test_options_that_a_vote_does_not_have_are_refused(suture, smoothed_run, tmp_path):
    words = ("certify", smoothed_run, "--data", "digits")
    answer = suture(*words, "--eps", 0.1)
    assert answer.status == 2 and "has a radius" in answer.err
    answer = suture(*words, "--certificates", tmp_path)
    assert answer.status == 2 and "Leave one out" in answer.err
    answer = suture("certify", smoothed_run, "--certificates", tmp_path)
    assert answer.status == 2 and "--certificates" in answer.err


def test_a_network_is_opened_as_everywhere(suture, tmp_path, monkeypatch):
    """Normalisation outside, a file of weights, code that may run: the shared opening."""
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    Path("theirs.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    words = ("certify", "theirs:make", "--data", "digits", "--n", 20, "--eps", 0.001, "--method")
    words = (*words, "ibp", "--json", "--force", "--out", "run")
    refused = suture(*words)
    assert refused.status == 2 and "trust" in refused.err
    plain = suture(*words, "--trust-code").json["rows"]
    told = suture(*words, "--trust-code", "--mean", "0.5", "--std", "0.01").json["rows"]
    proved = {row["what"]: row["right"] for row in plain if row["what"].startswith("certified")}
    fewer = {row["what"]: row["right"] for row in told if row["what"].startswith("certified")}
    assert fewer != proved, "a hundredfold slope: the bounds are wider"
    assert "trust_code" not in (tmp_path / "run" / "run.json").read_text()
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.nn.init.zeros_(net[1].weight)
    save_file(net.state_dict(), "w.safetensors")
    blank = suture(*words, "--trust-code", "--weights", "w.safetensors").json["rows"]
    assert blank != plain


def test_what_is_said_about_opening_needs_data(suture, smoothed_run):
    answer = suture("certify", smoothed_run, "--mean", "0.5", "--preset", "mnist")
    assert answer.status == 2 and "--mean, --preset" in answer.err and "Add it" in answer.err


def test_pictures_are_resized(suture, tmp_path):
    from PIL import Image

    for part, count in (("train", 3), ("test", 2)):
        for name, shade in (("a", 10), ("b", 240)):
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("L", (20 + index, 16), shade).save(folder / f"{index}.png")
    words = ("certify", "digits_cnn", "--data", tmp_path / "pictures", "--out", tmp_path / "run")
    assert suture(*words, "--method", "ibp").status == 2, "pictures of several sizes"
    answer = suture(*words, "--method", "ibp", "--size", "8", "--json")
    assert answer.status == 0, answer.err
    assert {row["n"] for row in answer.json["rows"]} == {4}
