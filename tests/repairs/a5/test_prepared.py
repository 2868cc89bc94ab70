"""A5/O as the commands measure it: images moved by known and by predicted labels."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from suture import models
from suture.attacks import PGD
from suture.certify import certify_images
from suture.evaluate import Kind, Plan, Record, Role, Subject, evaluate, tier_of
from suture.evaluate.provable import provable
from suture.repairs import A5Offline
from suture.repairs.a5 import Defence
from suture.repairs.a5.prepared import KNOWN, PREDICTED
from suture.rng import Stream
from suture.testing.small import digits
from suture.types import Batch
from tests.repairs.a5.robust import EPS, robust

METHOD = A5Offline(eps=EPS, defence=Defence(0.1), steps=6, certificates=0)
WEAK = PGD(eps=EPS, steps=4)


def images() -> Batch:
    """Some that the classifier gets wrong are among them."""
    return digits().test.batch(120)


@cache
def variants():
    return METHOD(robust(), images()[:5]).model.variants()


def said() -> torch.Tensor:
    model = robust()
    with torch.no_grad():
        return model(images().images).argmax(1)


def test_the_two_variants_differ_where_the_classifier_is_wrong():
    batch = images()
    wrong = said() != batch.labels
    assert 2 <= int(wrong.sum()) < 40
    known, predicted = (
        variants()[k].handed_on(batch.images, batch.labels) for k in (KNOWN, PREDICTED)
    )
    assert torch.equal(known, METHOD.robustify(robust(), batch).batch.images)
    by_itself = METHOD.robustify(robust(), Batch(batch.images, said())).batch.images
    assert torch.equal(predicted, by_itself)
    apart = (known != predicted).flatten(1).any(1)
    assert bool(apart[wrong].any()) and not bool(apart[~wrong].any())


def test_no_wrong_image_is_certified_by_moving_it_less_than_the_attacker_may():
    """The ball around what was moved holds the image itself."""
    batch = images()
    moved = Batch(variants()[KNOWN].handed_on(batch.images, batch.labels), batch.labels)
    held = certify_images(robust(), moved, EPS, "best").certified
    assert int(held.sum()) > 30 and not bool(held[said() != batch.labels].any())


@cache
def records() -> list[Record]:
    subjects = [Subject(Role.UNDEFENDED, robust(), "c")]
    subjects += [Subject(Role.DEFENDED, m, "o", name=name) for name, m in variants().items()]
    plan = Plan(attack=WEAK, tier=tier_of("quick"), radii=(), sanity=False)
    return evaluate(subjects, images(), plan, data="digits").records


def one(subject: str, kind: Kind, **facts: object) -> Record:
    found = [
        r
        for r in records()
        if r.subject == subject
        and r.kind is kind
        and all(getattr(r, k) == v for k, v in facts.items())
    ]
    assert found, (subject, kind, facts)
    return found[0]


@pytest.mark.parametrize("name", [KNOWN, PREDICTED])
def test_every_position_of_the_attacker_is_measured_over_all_images(name):
    batch, variant = images(), variants()[name]
    moved = Batch(variant.handed_on(batch.images, batch.labels), batch.labels)
    proved = certify_images(robust(), moved, EPS, "ibp").certified
    ibp = next(r for r in records() if r.subject == name and r.attack.get("name") == "ibp")
    assert (ibp.right, ibp.n) == (int(proved.sum()), len(batch))
    clean = one(name, Kind.CLEAN)
    with torch.no_grad():
        assert clean.right == int((robust()(moved.images).argmax(1) == batch.labels).sum())
    after, before = (one(name, Kind.STRONGEST, position=p) for p in ("after", "before"))
    assert ibp.right <= after.right <= clean.right
    assert before.n == len(batch) and before.through == "undefended"


def test_by_its_own_labels_nothing_is_won_before_the_move():
    """Where the attacked image is wrong, it is moved towards the wrong class."""
    plain = one("undefended", Kind.STRONGEST)
    assert one(PREDICTED, Kind.STRONGEST, position="before").right <= plain.right
    assert one(KNOWN, Kind.STRONGEST, position="before").right >= plain.right


def test_proofs_have_rows_of_both():
    model = METHOD(robust(), images()[:5]).model
    rows = provable(model, images()[:40], WEAK, ("best",), stream=Stream(0), attacked=10)
    names = [row["what"] for row in rows]
    kinds = ("clean", "PGD before the move, without it", "PGD after", "certified, best")
    assert names == [f"{kind}, {name}" for name in (PREDICTED, KNOWN) for kind in kinds]
    assert [row["n"] for row in rows] == [40, 10, 10, 40] * 2
    assert all(row.get("contradicted", 0) == 0 for row in rows)


def test_a_bundle_keeps_how_images_are_moved(tmp_path):
    again = models.load(models.save(METHOD(robust(), images()[:5]).model, tmp_path / "o"))
    batch = images()[:20]
    for name, variant in again.variants().items():
        moved = variant.handed_on(batch.images, batch.labels)
        assert torch.equal(moved, variants()[name].handed_on(batch.images, batch.labels))
    torch.testing.assert_close(again(batch.images), robust()(batch.images))


def test_best_is_what_any_of_the_three_proves():
    batch = images()
    each = [
        certify_images(robust(), batch, EPS, m).certified for m in ("ibp", "crown-ibp", "crown")
    ]
    assert torch.equal(
        certify_images(robust(), batch, EPS, "best").certified, torch.stack(each).any(0)
    )
    assert len({int(found.sum()) for found in each}) > 1
