"""AIGENT on one core: processor seconds an image, on networks of the data folder.

``seconds`` is the median, ``p95`` the 95th percentile, ``solves`` the median number of programs,
``found`` of ``n`` images that the network gets right. ``chains`` of them have patches that meet
every target. Where there is no data folder, a small network on the embedded digits.
"""

from __future__ import annotations

import numpy as np
from torch import nn

import harness
from suture import data
from suture.attacks import AIGENT
from suture.attacks.aigent import Finding, SearchOutcome
from suture.studies.aigent.measuring import first_of_each, right
from suture.studies.networks import network
from suture.testing.small import trained
from suture.types import Batch

CASES = {
    "mlp8x16": ("aigent_mnist_mlp8x16", "mnist", 6),
    "mlp6x50": ("aigent_mnist_mlp6x50", "mnist", 6),
    "sdp_cifar_cnn_a_adv": ("sdp_cifar_cnn_a_adv", "cifar10-exact", 60),
}
"""Case → network, images, and how many: of each class, or altogether."""


def rows() -> list[harness.Row]:
    """One row a case."""
    if data.folder() is None:
        digits = data.load("digits")
        return [_row("digits", trained(), digits.test.batch(60))]
    return [
        _row(case, network(net), _images(name, count)) for case, (net, name, count) in CASES.items()
    ]


def _images(name: str, count: int) -> Batch:
    test = data.load(name).test
    return first_of_each(test, count) if name == "mnist" else test.batch(count)


def _row(case: str, model: nn.Module, batch: Batch) -> harness.Row:
    good, attack = right(model, batch), AIGENT()
    attack.findings(model, good[:2])
    found = attack.findings(model, good)
    spent = np.array([one.cpu_seconds for one in found])
    return {
        "case": case,
        "seconds": round(float(np.median(spent)), 5),
        "p95": round(float(np.quantile(spent, 0.95)), 5),
        "solves": float(np.median([one.programs for one in found])),
        "pixels": float(np.median([one.pixels for one in found])),
        "found": sum(one.outcome is SearchOutcome.FOUND for one in found),
        "chains": sum(map(_whole, found)),
        "n": len(good),
    }


def _whole(finding: Finding) -> bool:
    return finding.chain is not None and finding.chain.status.found
