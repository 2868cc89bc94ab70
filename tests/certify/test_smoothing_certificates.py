"""CERTIFY and PREDICT, the files they leave, and the checker that catches what is not so."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from suture.certify.smoothing import (
    Ablation,
    Gaussian,
    VoteChecker,
    certify_votes,
    load_smoothing,
    lower_bound,
    predict_votes,
    save_smoothing,
    smoothing_files,
)
from suture.certify.smoothing.certificate import _checksum
from suture.certify.smoothing.votes import ESTIMATE, FRESH, SELECT, classes, key_of
from suture.engine import Inline, Processes, Recorded, Run
from suture.errors import ArgumentError, BundleError, ModelError
from suture.rng import Stream
from suture.types import Batch
from tests.certify.voters import Voter, halfspace


def batch(levels: tuple[float, ...] = (0.2, 0.45, 0.5, 0.55, 0.8)) -> Batch:
    images = torch.stack([torch.full((1, 4, 4), level) for level in levels])
    return Batch(images, (images.flatten(1).mean(1) > 0.5).long())


def plain(certificates):
    return [one.plain() for one in certificates]


@pytest.fixture(scope="module")
def certificates():
    return certify_votes(halfspace(), batch(), generator=0)


def test_radii_of_a_halfspace_reach_up_to_its_distance(certificates):
    """The true radius of a smoothed half-space is the distance of its border."""
    for one in certificates:
        distance = 4 * abs(float(one.image.mean()) - 0.5)
        assert one.radius <= distance + 1e-6
        if 0 < distance < 0.5:
            assert one.radius > 0.7 * distance and one.right
    # All copies agree on what is far: the bound says alpha^(1/n).
    assert certificates[0].lower == pytest.approx(0.001 ** (1 / 3000))
    middle = certificates[2]
    assert middle.abstains and middle.radius == 0.0 and not middle.right


def test_each_claim_is_what_its_counts_say(certificates):
    for one in certificates:
        assert sum(one.chosen) == one.n0 == 50 and len(one.hits) == 3
        assert one.lower == lower_bound(sum(one.hits), 3000, 0.001)
        assert one.abstains == (one.lower <= 0.5)
        if not one.abstains:
            assert one.radius == Gaussian(0.25).radius(one.lower, one.image)


def test_an_image_does_not_depend_on_the_others(certificates):
    again = certify_votes(halfspace(), batch()[[3, 0]], generator=0)
    for one, index in zip(again, (3, 0), strict=True):
        assert {**one.plain(), "index": index} == certificates[index].plain()
    other = certify_votes(halfspace(), batch(), generator=1)
    assert [o.hits for o in other] != [c.hits for c in certificates]


@pytest.mark.slow
def test_an_image_does_not_depend_on_the_engine(certificates):
    with Processes(2) as engine:
        made = certify_votes(halfspace(), batch(), generator=0, engine=engine)
    assert plain(made) == plain(certificates)


def test_what_a_run_has_counted_is_not_counted_again(tmp_path, certificates):
    class Stopping(Inline):
        left = 2

        def run(self, fn, calls):
            for outcome in super().run(fn, calls):
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left -= 1
                yield outcome

    run, told = Run.create(tmp_path, kind="certify", title="", command="", seed=0), []
    with pytest.raises(KeyboardInterrupt):
        certify_votes(halfspace(), batch(), generator=0, engine=Recorded(Stopping(), run.ledger))
    engine = Recorded(Stopping(), run.ledger)
    engine.engine.left = 3
    again = certify_votes(
        halfspace(), batch(), generator=0, engine=engine, on_progress=lambda *a: told.append(a)
    )
    assert plain(again) == plain(certificates) and engine.engine.left == 0
    assert told[-1] == ("certifying", 5, 5)


def test_counting_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    certify_votes(halfspace(n=100), batch(), generator=0)
    predict_votes(halfspace(n=100), batch().images, generator=0)
    assert torch.equal(before, torch.get_rng_state())


def test_the_copies_that_choose_are_not_those_that_count():
    model, image = halfspace(), batch().images[2]
    drawn = [
        classes(model.base, model.noise.copies, image, key_of(image, Stream(0)), phase, 0, 200)
        for phase in (SELECT, ESTIMATE, FRESH)
    ]
    assert all(0.3 < float(one.float().mean()) < 0.7 for one in drawn)
    assert not any(torch.equal(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_prediction_agrees_and_abstains(certificates):
    found = predict_votes(halfspace(n=1000), batch().images, generator=0)
    assert found.tolist() == [0, 0, -1, 1, 1]


def test_what_cannot_vote_or_count_is_refused():
    with pytest.raises(ModelError, match="method smoothing"):
        certify_votes(nn.Flatten(), batch())
    with pytest.raises(ArgumentError, match="alpha in"):
        certify_votes(halfspace(), batch(), alpha=0.0)
    with pytest.raises(ArgumentError, match="n >= 1"):
        certify_votes(halfspace(), batch(), n=0)


def checker(model=None, **settings):
    return VoteChecker(model or halfspace(), stream=Stream(9), **settings)


def test_files_hold_everything_and_hold(tmp_path, certificates):
    save_smoothing(certificates, tmp_path)
    files = smoothing_files(tmp_path)
    assert [f.name[:5] for f in files] == ["00000", "00001", "00003", "00004"]
    for pieces in (0, 2, None):
        check = checker(pieces=pieces)
        for file in files:
            verdict = check(load_smoothing(file))
            assert verdict.holds and verdict.margin > 0, verdict.reason
    first = load_smoothing(files[0])
    assert first.plain() == certificates[0].plain()


@pytest.mark.parametrize("noise", [Gaussian(0.25), Ablation(5)], ids=repr)
def test_honest_certificates_of_any_seed_hold(noise):
    class Bright(nn.Module):
        def forward(self, copies):
            level = copies[:, 0].flatten(1).mean(1) * (1.0 if noise.name == "gaussian" else 16 / 5)
            return torch.stack([0.5 - level, level - 0.5], 1)

    images = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    model = Voter(Bright(), noise, n=2000)
    made = certify_votes(model, Batch(images, torch.zeros(20).long()), generator=4)
    verdicts = [checker(model)(one) for one in made if not one.abstains]
    assert len(verdicts) > 5 and all(v.holds for v in verdicts)


def forged(certificate, **changes):
    """With a checksum that fits, as a careful forger would write it."""
    return dataclasses.replace(certificate, **changes)


def raised(certificate, hits):
    """More votes, and all that follows from them."""
    lower = lower_bound(sum(hits), certificate.n, certificate.alpha)
    radius = Gaussian(0.25).radius(lower, certificate.image)
    return {"hits": hits, "lower": lower, "radius": radius}


def with_bound(certificate, lower):
    return {"lower": lower, "radius": Gaussian(0.25).radius(lower, certificate.image)}


FORGERIES = {
    "the radius": (lambda c: {"radius": c.radius + 0.01}, "needs a share of"),
    "bound and radius": (lambda c: with_bound(c, c.lower + 0.01), "too high for"),
    "one count more": (lambda c: {"hits": [c.hits[0] + 1, *c.hits[1:]]}, "the file says"),
    "counts and what follows": (lambda c: raised(c, [1020, 1020, 950]), "the file says"),
    "more counts than copies": (lambda c: {"hits": [5000, *c.hits[1:]]}, "not those of n0 and n"),
    "the class": (lambda c: {"predicted": 1 - c.predicted}, "chose another class"),
    "class and choice": (
        lambda c: {"predicted": 1 - c.predicted, "chosen": c.chosen[::-1]},
        "the first 50 copies vote",
    ),
    "the network": (lambda c: {"network": "0" * 64}, "other weights"),
    "the noise": (lambda c: {"noise": {"name": "gaussian", "sigma": 0.5}}, "speaks of noise"),
    "the image": (lambda c: {"image": (c.image + 0.02).clamp(0, 1)}, "the file says"),
    "the stream": (lambda c: {"stream": 1}, "the file says"),
    "the number of copies": (lambda c: {"n": 30_000}, "not those of n0 and n"),
    "an abstention": (lambda c: {"predicted": -1}, "claims no class"),
    "alpha": (lambda c: {"alpha": 0.0}, "not those of n0 and n"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_forgery_is_caught(certificates, what):
    change, said = FORGERIES[what]
    one = certificates[3]
    assert checker(pieces=None)(one).holds
    verdict = checker(pieces=None)(forged(one, **change(one)))
    assert not verdict.holds and said in verdict.reason, verdict.reason


def test_other_weights_and_other_noise_are_caught(certificates):
    other = halfspace()
    with torch.no_grad():
        other.base.normal += 1e-6
    assert "other weights" in checker(other)(certificates[0]).reason
    assert "speaks of noise" in checker(halfspace(sigma=0.3))(certificates[0]).reason


def test_a_fresh_sample_catches_counts_that_nobody_drew_again(certificates):
    one = certificates[3]
    lie = forged(one, **raised(one, [1020, 1020, 950]))
    assert "fresh copies" in checker(pieces=0)(lie).reason
    assert checker(pieces=0, fresh=0)(lie).holds, "nothing else would have caught it"


def test_another_machine_may_count_a_vote_otherwise_and_no_more(certificates):
    one = dataclasses.replace(certificates[3], versions={"torch": "0.1"})
    lie = forged(one, **raised(one, [one.hits[0] - 1, *one.hits[1:]]))
    assert checker(pieces=None)(lie).holds
    here = dataclasses.replace(lie, versions=certificates[3].versions)
    assert not checker(pieces=None)(here).holds


WRONG = [
    {"version": 2},
    {"format": "other"},
    {"hits": "many"},
    {"alpha": None},
    {"image": {"shape": [1, 4, 4], "sha256": "0", "float32": ""}},
    {"image": {"shape": [1, -4, 4], "sha256": "0", "float32": "eJw="}},
    {"noise": 3},
    {"stream": "xyz"},
]


@pytest.mark.parametrize(
    ("change", "careful"),
    [({"radius": 9.0}, False), *((wrong, careful) for wrong in WRONG for careful in (False, True))],
    ids=str,
)
def test_an_altered_file_is_refused(tmp_path, certificates, change, careful):
    """With the old checksum, and with one that fits."""
    path = certificates[3].save(tmp_path / "00003.smoothing.json")
    body = json.loads(path.read_text()) | change
    if careful:
        body["checksum"] = _checksum(body)
    path.write_text(json.dumps(body))
    with pytest.raises(BundleError, match="certificate"):
        load_smoothing(path)


def test_pixels_that_do_not_match_their_hash_are_refused(tmp_path, certificates):
    path = certificates[3].save(tmp_path / "00003.smoothing.json")
    body = json.loads(path.read_text())
    body["image"]["sha256"] = "0" * 64
    body["checksum"] = _checksum(body)
    path.write_text(json.dumps(body))
    with pytest.raises(BundleError, match="match their hash"):
        load_smoothing(path)


def test_a_file_that_is_none_is_refused(tmp_path):
    for content in (b"", b"\xff\xfe", b"[1]", b"{" * 5000):
        (tmp_path / "x.smoothing.json").write_bytes(content)
        with pytest.raises(BundleError):
            load_smoothing(tmp_path / "x.smoothing.json")
