"""FAB and AutoAttack against the authors' code (package ``pyautoattack``) on real networks."""

from __future__ import annotations

import logging
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from suture.attacks import APGD, FAB, AutoAttack
from suture.attacks.geometry import distance
from suture.types import Batch
from tests.attacks.test_networks import Images, Network

pytestmark = pytest.mark.data
THEIRS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


@pytest.fixture(scope="module")
def package() -> ModuleType:
    reason = "needs pyautoattack: pip install pyautoattack"
    return pytest.importorskip("pyautoattack", reason=reason)


def lengths(model: nn.Module, batch: Batch, found: Tensor, norm: str) -> Tensor:
    """Lengths of the changes; infinite where the class did not change."""
    with torch.no_grad():
        fooled = model(found).argmax(1) != batch.labels
    return distance(norm, found - batch.images).masked_fill(~fooled, float("inf"))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("rank", [None, 2])
def test_fab_finds_the_packages_distance_for_every_image(
    norm, rank, network: Network, right_images: Images, package
):
    model = network("reassure_mnist_mlp256x2")
    batch = right_images(model, "mnist", 20)
    theirs = package.fab_pt.FABAttack_PT(
        model, norm=THEIRS[norm], n_iter=40, eps=1e9, targeted=rank is not None
    )
    theirs.target_class = rank
    with torch.random.fork_rng():
        reference = theirs.attack_single_run(
            batch.images, batch.labels, is_targeted=rank is not None
        )
    found = FAB(norm=norm, steps=40, by_class=rank is not None, classes=1)(model, batch).images
    ours, expected = (lengths(model, batch, images, norm) for images in (found, reference))
    assert expected.isfinite().sum() >= 15
    assert torch.equal(ours.isfinite(), expected.isfinite())
    assert torch.allclose(ours, expected, rtol=1e-3)


def robust_of_package(package: ModuleType, model: nn.Module, batch: Batch, norm: str, eps: float):
    """Which images hold under the package's standard version."""
    attack = package.AutoAttack(model, norm=THEIRS[norm], eps=eps, version="standard", seed=0)
    attack.logger = attack.apgd.logger = attack.apgd_targeted.logger = logging.Logger("quiet")
    with torch.random.fork_rng():
        found, _ = attack.run_standard_evaluation(batch.images, batch.labels)
    return lengths(model, batch, found, norm).isinf()


# Network, data set, norm, radius, images.
CASES = [
    ("reassure_mnist_mlp256x2", "mnist", "linf", 0.05, 100),
    ("reassure_mnist_mlp256x2", "mnist", "l2", 0.8, 30),
    ("reassure_mnist_mlp256x2", "mnist", "l1", 5.0, 15),
    ("eran_mnist_conv_small_nat", "mnist", "linf", 0.08, 30),
    ("eran_cifar_conv_small_pgd", "cifar10-exact", "linf", 4 / 255, 25),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source", "norm", "eps", "images"), CASES)
def test_robust_accuracy_is_the_packages(
    name, source, norm, eps, images, network: Network, right_images: Images, package
):
    model = network(name)
    batch = right_images(model, source, images)
    ours = AutoAttack(norm=norm, eps=eps)(model, batch, generator=0)
    theirs = robust_of_package(package, model, batch, norm, eps)
    first = APGD(norm=norm, eps=eps)(model, batch, generator=0)
    assert 0 < int(theirs.sum()) < len(batch), "a radius that tells nothing"
    assert int(ours.robust.sum()) <= int(first.robust.sum())
    assert abs(int(ours.robust.sum()) - int(theirs.sum())) <= 1


def test_the_ensemble_counts_every_forward(network: Network, right_images: Images):
    model = network("reassure_mnist_mlp256x2")
    batch = right_images(model, "mnist", 20)
    asked: list[int] = []
    counter = model.register_forward_pre_hook(lambda _, args: asked.append(len(args[0])))
    result = AutoAttack(eps=0.05, steps=10, queries=50)(model, batch)
    counter.remove()
    assert sum(asked) == int(result.queries.sum()) + result.checks * len(batch)
    assert 0 < int(result.robust.sum()) < 20
