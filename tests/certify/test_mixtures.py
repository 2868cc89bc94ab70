"""Certified accuracy of models that draw from finitely many classifiers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from suture.attacks import PGD
from suture.certify import certify_images, certify_mixture
from suture.errors import ModelError
from suture.evaluate.provable import provable
from suture.models import cut
from suture.repairs.defensyn import DefendedClassifier, parse
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.rng import Stream
from suture.testing.small import digits, trained
from suture.types import Batch

TEXTS = ("v0 = v0", "v1 = v2 * v3; v4 = max(v1, 0.5)", "v0 = 40")
WEIGHTS = (0.5, 0.125, 0.375)


def mixture() -> DefendedClassifier:
    parts = cut(trained())
    programs = tuple(map(parse, TEXTS))
    return DefendedClassifier(parts.encoder, parts.head, programs, parts.features, WEIGHTS).eval()


def test_the_mass_of_the_proved_programs_by_hand():
    """Pixels are logits: program 0 changes nothing, 1 makes class 1 win, 2 makes class 0 win."""
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
        head.bias.zero_()
    programs = tuple(map(parse, ("v0 = v0", "v1 = 3", "v0 = 3")))
    model = DefendedClassifier(nn.Flatten(), head, programs, 2, WEIGHTS).eval()
    images = torch.tensor([[0.9, 0.1], [0.5, 0.45], [0.1, 0.9]]).view(3, 1, 1, 2)
    found = certify_mixture(model, Batch(images, torch.zeros(3, dtype=torch.int64)), 0.1)
    assert found.share.tolist() == [0.875, 0.375, 0.375]
    assert found.right.tolist() == [0.875, 0.875, 0.375]
    assert not found.every.any() and int(found.worst.certified.sum()) == 0
    assert [int(m.certified.sum()) for m in found.members] == [1, 0, 3]


@pytest.mark.parametrize("method", ["ibp", "crown"])
def test_a_mixture_is_its_programs(method):
    batch, model = digits().test.batch(30), mixture()
    found = certify_mixture(model, batch, 0.02, method)
    alone = [certify_images(one, batch, 0.02, method).certified for _, one in model.support()]
    assert found.odds == WEIGHTS
    expected = sum(w * a.double() for w, a in zip(WEIGHTS, alone, strict=True))
    torch.testing.assert_close(found.share, expected)
    assert torch.equal(found.every, torch.stack(alone).all(0))
    plain = certify_images(trained(), batch, 0.02, method)
    assert torch.equal(alone[0], plain.certified), "a program that changes nothing proves as much"
    one = certify_mixture(trained(), batch, 0.02, method)
    assert one.odds == (1.0,) and torch.equal(one.share, plain.certified.double())


def test_no_attack_contradicts_what_is_proved():
    batch = digits().test.batch(40)
    attack = PGD(eps=0.02, steps=20, adaptive=True)
    rows = provable(mixture(), batch, attack, ("ibp", "crown"), stream=Stream(0), batch_size=16)
    by_name = {row["what"]: row for row in rows}
    assert len(rows) == 3 + 2 * (3 + len(TEXTS)) - 1
    expected = by_name["certified, crown, expected over the draw"]
    assert expected["contradicted"] == 0
    assert 0 < expected["right"] <= by_name["PGD"]["right"]
    each = [by_name[f"certified, crown, program {k}"]["right"] for k in range(3)]
    assert expected["right"] == pytest.approx(
        sum(w * r for w, r in zip(WEIGHTS, each, strict=True))
    )
    assert by_name["certified, crown, worst of 3 programs"]["right"] == min(each)
    assert by_name["certified, crown, under every program"]["right"] <= min(each)


def test_draws_without_number_are_refused():
    parts = cut(trained())
    model = RandomPrograms(parts.encoder, parts.head, parts.features, 2).eval()
    with pytest.raises(ModelError, match="finitely many"):
        certify_mixture(model, digits().test.batch(4), 0.01)
