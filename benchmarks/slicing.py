"""Slicing by class (DARE): a VGG-16 on 5 000 images, and a small network against plain loops.

``vgg16`` has random weights and random images of CIFAR-10's size, ten classes: contributions of
every synapse and neuron, and the key synapses and neurons of all classes. ``small`` is a network
for digits, 200 images; its reference profiles image by image and neuron by neuron, and finds the
contributions synapse by synapse, for the ten classes too (it ranks nothing).
"""

from __future__ import annotations

import torch

import harness
from suture import models
from suture.engine.threads import torch_threads
from suture.repairs.dare import Slices, slice_classes
from suture.repairs.dare.graph import sliceable
from suture.repairs.dare.plain import plain_contributions, plain_profile
from suture.types import Batch

IMAGES, CLASSES = 5_000, 10


def rows() -> list[harness.Row]:
    """Two cases."""
    return [_vgg16(), _small()]


def _images(count: int, shape: tuple[int, int, int]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, *shape, generator=generator)
    return Batch(images, torch.arange(count) % CLASSES)


def _all_keys(slices: Slices) -> None:
    """Key synapses and key neurons of every class."""
    for label in range(slices.classes):
        slices.key_neurons(label)


def _vgg16() -> harness.Row:
    model, batch = models.build("vgg16"), _images(IMAGES, (3, 32, 32))
    spent = harness.seconds(lambda: _all_keys(slice_classes(model, batch)))
    return {"case": "vgg16", "seconds": round(spent, 3), "images": IMAGES, "classes": CLASSES}


def _small() -> harness.Row:
    model, batch = models.build("digits_cnn"), _images(200, (1, 8, 8))

    def ours() -> None:
        _all_keys(slice_classes(model, batch))

    def loop() -> None:
        graph = sliceable(model, batch.shape)
        delta = plain_profile(graph, batch, CLASSES)
        for label in range(CLASSES):
            plain_contributions(graph, delta, label)

    named = "loops over images, neurons and synapses"
    with torch_threads(1):  # small tensors gain nothing from several
        return harness.speedup("small", ours, loop, named=named, repeats=3)
