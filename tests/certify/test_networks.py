"""Bounds of other people's networks: what they certify, no attack breaks."""

from __future__ import annotations

import pytest
import torch

from suture import data, models
from suture.attacks import PGD
from suture.certify import certify_images
from suture.studies.vnncomp import VnnComp, _image, _verdicts

HERE = data.folder()
pytestmark = pytest.mark.skipif(
    HERE is None or not (HERE / "nets").is_dir(), reason="needs the data folder: set SUTURE_DATA"
)

CASES = [
    ("kw_mnist_eps0.1", "mnist", 0.1, "crown", 0.9),
    ("sdp_mnist_cnn_a_adv", "mnist", 0.1, "crown-ibp", 0.0),
    ("aigent_mnist_cnn_autoattack", "mnist", 0.002, "crown", 0.1),
    ("patchpro_mnist_cnn", "mnist", 0.01, "crown", 0.1),
    ("eran_mnist_sigmoid_6x200", "mnist", 0.005, "crown", 0.1),
    ("verivital_mnist_avgpool", "mnist", 0.01, "crown", 0.1),
    ("kw_cifar_small_8px", "cifar10-exact", 8 / 255, "crown", 0.1),
    ("resnet20_akamaster", "cifar10-exact", 0.0002, "ibp", 0.0),
]


@pytest.mark.parametrize(("name", "images", "eps", "method", "least"), CASES)
def test_certified_accuracy_stays_below_what_an_attack_leaves(name, images, eps, method, least):
    # Poolings behind many convolutions take seconds an image.
    few = name in ("aigent_mnist_cnn_autoattack", "patchpro_mnist_cnn")
    batch = data.load(images).test.batch(3 if few else 40)
    model = models.load(HERE / "nets" / f"{name}.onnx", in_shape=batch.shape)
    found = certify_images(model, batch, eps, method, batch_size=20)
    held = PGD(norm="linf", eps=eps, steps=20)(model, batch, generator=0).robust
    assert not bool((found.certified & ~held).any())
    assert float(found.certified.float().mean()) >= least


def test_what_wong_and_kolter_certify_is_certified():
    """Their network's certified error at 0.1 is published as 3.67 % (2018, Table 1 of the repo)."""
    batch = data.load("mnist").test.batch(200)
    model = models.load(HERE / "nets" / "kw_mnist_eps0.1.onnx", in_shape=batch.shape)
    found = certify_images(model, batch, 0.1)
    assert 0.93 <= float(found.certified.float().mean()) <= 0.985


@pytest.mark.slow
def test_no_image_that_verifiers_refuted_is_proved():
    rows = [r for r in _verdicts() if r["verdict"] == "sat" and r["test_index"]]
    study = VnnComp(steps=3, image_seconds=1.0)
    with torch.no_grad():
        answers = [_image(study, row)[0] for row in rows]
    assert len(answers) == 46 and set(answers) == {"unknown"}
