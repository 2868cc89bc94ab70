"""The promise: whatever is done to certificates, balls or weights, checking says so."""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch

from suture import models, pipeline
from suture.attacks import PGD
from suture.certify import (
    Certificate,
    Checker,
    Promise,
    broken,
    files_in,
    load_certificate,
    load_promise,
)
from suture.certify.keeping import covered
from suture.certify.promise import FILE
from suture.engine import Run
from suture.errors import ArgumentError, BundleError
from suture.repairs import A5Offline, AdvRepair
from suture.repairs.a5 import Defence
from suture.testing.small import digits, trained

EPS = 0.1


@cache
def repaired() -> Path:
    """A run with six proved balls."""
    import tempfile

    method = AdvRepair(attack=PGD(eps=EPS, steps=10), samples=6)
    folder = Path(tempfile.mkdtemp()) / "run"
    with Run.create(folder, kind="repair", title="", command="", seed=0) as run:
        pipeline.repair(trained(), digits(), method, run)
        run.finish()
    return folder


@pytest.fixture
def run(tmp_path):
    shutil.copytree(repaired(), tmp_path / "run")
    return tmp_path / "run"


def first(run) -> Path:
    return files_in(run / "artifacts" / "certificates")[0]


def rewritten(run, **changes):
    """The first certificate says something else, with a checksum that fits."""
    dataclasses.replace(load_certificate(first(run)), **changes).save(first(run))


def manifest_rewritten(run, **changes):
    """The bundle's manifest with a checksum that fits."""
    path = run / "artifacts" / "model" / "manifest.json"
    body = json.loads(path.read_text()) | changes
    body["checksum"] = models.bundle._checksum(body)
    path.write_text(json.dumps(body))


def deleted(run):
    first(run).unlink()


def all_deleted(run):
    shutil.rmtree(run / "artifacts" / "certificates")


def trivialised(run):
    certificate = load_certificate(first(run))
    rewritten(run, add=certificate.add + 1e6, margin=1e5)


def other_rows(run):
    certificate = load_certificate(first(run))
    rewritten(run, rows=certificate.rows[:1], add=certificate.add[:1])


def shrunken(run):
    certificate = load_certificate(first(run))
    middle = (certificate.lower + certificate.upper) / 2
    rewritten(run, lower=middle, upper=middle.clone())


def shrunken_at_one_pixel(run):
    upper = load_certificate(first(run)).upper.clone()
    upper.view(-1)[0] -= 1e-4
    rewritten(run, upper=upper)


def relabelled(run):
    note = load_certificate(first(run)).note
    rewritten(run, note=note | {"label": (note["label"] + 1) % 10})


def remargined(run):
    rewritten(run, margin=load_certificate(first(run)).margin * 100)


def lowered(run):
    rewritten(run, margin=load_certificate(first(run)).margin / 100)


def doubled(run):
    shutil.copy(first(run), first(run).with_name("99999.certificate"))
    note = load_certificate(first(run)).note
    rewritten(run, note=note | {"region": 77})


def bit_flipped(run):
    path = run / "artifacts" / "model" / "weights.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 0x10
    path.write_bytes(bytes(whole))


def other_weights(run):
    """One bit of a weight, and a manifest that fits it."""
    folder = run / "artifacts" / "model"
    model, promise = models.load(str(folder)), (folder / FILE).read_bytes()
    with torch.no_grad():
        model.bank.biases[-1][0, 0] += 1e-6
    models.save(model, folder, beside={FILE: promise})


def swapped(run):
    folder = run / "artifacts" / "model"
    models.save(models.build("digits_cnn", seed=1), folder)


def promise_deleted(run):
    (run / "artifacts" / "model" / FILE).unlink()


def promise_flipped(run):
    path = run / "artifacts" / "model" / FILE
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 1
    path.write_bytes(bytes(whole))


SAID = {
    deleted: "1 of its 1 certificates are missing",
    all_deleted: "1 of its 1 certificates are missing",
    trivialised: "claims something else than that the class stays",
    other_rows: "claims something else than that the class stays",
    shrunken: "a smaller box than the ball that was promised",
    shrunken_at_one_pixel: "a smaller box than the ball that was promised",
    relabelled: "is labelled",
    remargined: "states the margin",
    lowered: "states the margin",
    doubled: "is no part of the promise",
    bit_flipped: "weights.safetensors as the manifest describes it",
    other_weights: "other weights",
    swapped: "other weights",
    promise_deleted: "the file promise.safetensors in the bundle",
    promise_flipped: "promise.safetensors as the manifest describes it",
}


@pytest.mark.parametrize("tamper", SAID, ids=lambda tamper: tamper.__name__)
def test_what_was_changed_is_said_in_one_sentence(suture, run, tamper):
    tamper(run)
    answer = suture("certify", run, "--json")
    assert answer.status == 1 and "Traceback" not in answer.err
    reasons = [c["reason"] for c in answer.json["certificates"] if not c["holds"]]
    assert any(SAID[tamper] in line for line in (*answer.json["broken"], *reasons))
    # All that is said in words is said once: of each certificate that fails, and of the promise.
    said = suture("certify", run).out
    assert said.count(SAID[tamper]) == sum(SAID[tamper] in s for s in answer.json["broken"]) + sum(
        SAID[tamper] in reason for reason in reasons
    )


def test_what_was_not_changed_is_kept(suture, run):
    promise = load_promise(run / "artifacts" / "model")
    answer = suture("certify", run, "--promise", promise.digest[:20], "--centres", "digits")
    assert answer.status == 0 and promise.digest in answer.out
    assert "6 of 6 certificates hold" in answer.out and "checked by plain matrices: 6" in answer.out
    assert "6 balls of radius 0.1: 6 proved" in answer.out and "is kept" in answer.out
    told = suture("certify", run, "--json").json
    assert told["promise"] == {"digest": promise.digest, "balls": 6, "proved": 6}
    assert told["broken"] == []


def test_a_consistent_other_promise_has_another_digest(suture, run):
    """Who deletes a ball everywhere makes another promise: only its digest can tell."""
    folder = run / "artifacts" / "model"
    model, promise = models.load(str(folder)), load_promise(folder)
    last = len(promise) - 1
    fewer = dataclasses.replace(
        promise,
        **{name: getattr(promise, name)[:last] for name in
           ("centre", "radius", "label", "margin", "proved", "certificates")},
    )  # fmt: skip
    models.save(model, folder, beside={FILE: fewer.to_bytes()})
    gone = [f for f in files_in(run / "artifacts" / "certificates")
            if load_certificate(f).note["region"] == last]  # fmt: skip
    for file in gone:
        file.unlink()
    assert suture("certify", run).status == 0
    answer = suture("certify", run, "--promise", promise.digest)
    assert answer.status == 1 and f"but this one is {fewer.digest}" in answer.out
    models.save(model, folder)
    answer = suture("certify", run, "--promise", promise.digest)
    assert answer.status == 1 and "but there is none" in answer.out
    assert "no promise lies beside the model" in suture("certify", run).out


def test_promises_about_nothing_in_particular_are_found_out(suture, run, tmp_path):
    folder = run / "artifacts" / "model"
    model, promise = models.load(str(folder)), load_promise(folder)
    centre = promise.centre.clone()
    centre[0].view(-1)[0] += 1e-5
    label = promise.label.clone()
    label[1] = (label[1] + 1) % 10
    models.save(
        model,
        folder,
        beside={FILE: dataclasses.replace(promise, centre=centre, label=label).to_bytes()},
    )
    broken = suture("certify", run, "--centres", "digits", "--json").json["broken"]
    assert "ball 0: its centre is no image of the data set" in broken
    assert any(f"an image of class {int(promise.label[1])}, not" in line for line in broken)


def test_a_digest_that_is_none_is_refused(suture, run):
    answer = suture("certify", run, "--promise", "abc")
    assert answer.status == 2 and "digits" in answer.err


def piece(low, high):
    low, high = (torch.tensor(v, dtype=torch.float64) for v in (low, high))
    rows, add = torch.ones(1, 2).double(), torch.zeros(1).double()
    return Certificate(low, high, rows, add, 1.0, "crown", "")


def test_boxes_cover_a_box_or_do_not():
    box = torch.zeros(2).double(), torch.ones(2).double()
    left, right = piece([0.0, 0.0], [0.5, 1.0]), piece([0.5, 0.0], [1.0, 1.0])
    low, high = piece([0.5, 0.0], [1.0, 0.25]), piece([0.5, 0.25], [1.0, 1.0])
    assert covered(*box, [left, right]) and covered(*box, [left, low, high])
    assert not covered(*box, [left]) and not covered(*box, [left, low])
    assert not covered(*box, [left, left]) and not covered(*box, [])
    # The volumes add up to 1, but the boxes overlap.
    assert not covered(*box, [left, piece([0.25, 0.0], [0.75, 1.0])])


def test_promises_come_back_as_they_were_and_make_sense(tmp_path):
    promise = load_promise(repaired() / "artifacts" / "model")
    (tmp_path / FILE).write_bytes(promise.to_bytes())
    again = load_promise(tmp_path)
    assert again.digest == promise.digest and again.certificates == promise.certificates
    assert load_promise(tmp_path / "nowhere") is None
    with pytest.raises(ArgumentError, match="proved"):
        dataclasses.replace(promise, proved=~promise.proved)
    for part in ("radius", "label", "margin", "centre"):
        other = dataclasses.replace(promise, **{part: getattr(promise, part) + 1})
        assert other.digest != promise.digest
    whole = bytearray((tmp_path / FILE).read_bytes())
    for place in range(8, len(whole), 61):
        whole[place] ^= 1
        (tmp_path / FILE).write_bytes(bytes(whole))
        with pytest.raises((BundleError, ArgumentError)):
            load_promise(tmp_path)
        whole[place] ^= 1


def test_balls_that_were_cut_are_promised_whole():
    method = AdvRepair(attack=PGD(eps=EPS, steps=10), samples=2, cuts=3)
    result = method(trained(), digits().train.batch(100), generator=0)
    named = {str(index): one for index, one in enumerate(result.certificates)}
    check = Checker(result.model)
    margins = {name: check(one).margin for name, one in named.items()}
    assert len(named) > 2 and broken(result.promise, named, margins, check.network) == []
    least = {name: margin / 1e3 for name, margin in margins.items()}
    (said, *_) = broken(result.promise, named, least, check.network)
    assert "is found" in said
    del named["0"]
    assert len(broken(result.promise, named, margins, check.network)) == 1


def test_unproved_balls_are_counted_and_not_promised():
    promise = load_promise(repaired() / "artifacts" / "model")
    assert isinstance(promise, Promise) and bool(promise.proved.all())
    some = Promise.of(promise.centre, EPS, promise.label, promise.network, [])
    assert some.text() == "6 balls of radius 0.1: 0 proved, 6 not"


def test_a5_promises_all_images_that_were_tried(suture, tmp_path):
    method = A5Offline(eps=0.01, defence=Defence(eps=0.1), samples=12, steps=2, certificates=12)
    with Run.create(tmp_path / "a5", kind="repair", title="", command="", seed=0) as made:
        pipeline.repair(trained(), digits(), method, made)
        made.finish()
    promise = load_promise(tmp_path / "a5" / "artifacts" / "model")
    assert promise is not None and len(promise) == 12
    assert 0 < int(promise.proved.sum()) == len(files_in(tmp_path / "a5/artifacts/certificates"))
    answer = suture("certify", tmp_path / "a5", "--promise", promise.digest)
    assert answer.status == 0 and "the promise is kept" in answer.out
    gone = first(tmp_path / "a5")
    ball = load_certificate(gone).note["region"]
    gone.unlink()
    answer = suture("certify", tmp_path / "a5")
    assert answer.status == 1 and f"ball {ball}: 1 of its 1 certificates are missing" in answer.out
