"""What a defence says of its answer is what has answered."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from suture.repairs.a5.defence import Defence
from suture.repairs.a5.robustifier import RobustifiedClassifier, Robustifier
from suture.repairs.defensyn.random_programs import RandomPrograms
from suture.testing.small import trained
from suture.types import described

from .advrepair.test_allocation import classifier
from .defensyn.test_defended import IMAGES
from .defensyn.test_defended import model as defended  # noqa: F401 - a fixture
from .smoothing.test_smoothing import images, model

NOISE = torch.arange(60) * 71_000_003


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"\d+", text)]


def test_the_program_that_is_named_has_answered(defended):  # noqa: F811
    logits = defended(IMAGES, noise=NOISE)
    for row, said in enumerate(defended.about_answers(IMAGES, NOISE)):
        index, count = numbers(said)[:2]
        assert count == 3 and said.endswith(str(defended.programs[index]))
        alone = defended.fixed(index)(IMAGES[row : row + 1])[0]
        torch.testing.assert_close(logits[row], alone)


@torch.no_grad()
@pytest.mark.parametrize("rule", ["similar", "none"])
def test_the_patches_that_are_named_have_answered(rule):
    patched = classifier(rule)
    inputs = torch.rand(40, 1, 1, 2, generator=torch.Generator().manual_seed(3))
    said, out = patched.about_answers(inputs), patched(inputs)
    assert any("inside of its repaired region" in one for one in said)
    for row, one in enumerate(said):
        expected = patched.head(inputs[row : row + 1])[0]
        for patch in [] if one.startswith("no patch") else numbers(one):
            expected = expected + patched.bank.one(patch)(inputs[row : row + 1])[0]
        torch.testing.assert_close(out[row], expected)


def test_the_votes_that_are_told_are_those_of_the_draw():
    smooth, keys = model(votes=9), torch.arange(12) * 77
    given = images(12)
    winners = smooth(given, noise=keys).argmax(1).tolist()
    for said, winner in zip(smooth.about_answers(given, keys), winners, strict=True):
        votes = dict(re.findall(r"class (\d+): (\d+)", said))
        assert int(votes[str(winner)]) == max(map(int, votes.values()))
        assert sum(map(int, votes.values())) <= 9 and said.endswith("of 9 noisy copies")
    assert smooth.about_answers(given)[0] == "a vote of 9 noisy copies, drawn anew"


def test_programs_made_up_for_an_image_tell_their_length():
    drawn = RandomPrograms(nn.Flatten(), nn.Linear(3, 3), 3, 4).eval()
    lengths = [numbers(said)[0] for said in drawn.about_answers(IMAGES, NOISE)]
    assert set(lengths) == {1, 2, 3, 4}


@torch.no_grad()
def test_a_robustifier_tells_how_far_it_moves():
    class Brighter(nn.Module):
        def forward(self, x):
            return torch.full_like(x, 50.0)

    moved = RobustifiedClassifier(
        Robustifier(Brighter(), Defence(eps=0.1, rounded=False)), nn.Flatten()
    )
    given = torch.tensor([0.2, 0.95]).view(2, 1, 1, 1)
    far = [float(re.search(r"[\d.]+", said)[0]) for said in moved.about_answers(given)]
    assert far == pytest.approx([0.1, 0.05], abs=1e-3)


def test_a_model_that_tells_nothing_says_nothing():
    assert described(trained()).about_answers(images(2)) == ["", ""]
