"""Linear (DeepPoly) bounds in place of fixed phases: the last section of the paper."""

from __future__ import annotations

import numpy as np
import torch

from suture import bounds
from suture.attacks.aigent.network import LayeredNetwork
from suture.bounds.backward import back_substitute
from suture.bounds.coefficients import Patches
from suture.types import Box


def class_rows(
    network: LayeredNetwork, label: int, radius: float, weights: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``middle_rows`` of the box round the class' centre, made once; values at ``base``."""
    key = label, radius, weights.tobytes()
    if key not in network.forms:
        centre = network.centres[label]
        gradients, values = middle_rows(network, centre, radius, weights)
        network.forms[key] = gradients, values - np.tensordot(gradients, centre, axes=3)
    gradients, constants = network.forms[key]
    return gradients, constants + np.tensordot(gradients, base, axes=3)


def middle_rows(
    network: LayeredNetwork, base: np.ndarray, radius: float, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients ``(k, c, h, w)`` and values at ``base`` of linear maps near ``weights @ logits``.

    Each lies midway between the lower and the upper DeepPoly bound on the L∞ box of this
    radius around the base, clipped to [0, 1]: units that may switch inside the box count with the
    slope of their relaxation, not with that of one phase.

    Raises:
        ModelError: layers for which there are no bounds.
    """
    read = network.readable(base.shape)
    point = torch.from_numpy(base)[None]
    state = bounds.prepare(read, Box.around(point, radius), "crown")
    last = len(read.nodes) - 1
    forms = torch.from_numpy(np.concatenate([weights, -weights]))[None]
    found, add = back_substitute(read, last, forms, state.known, state.relaxations)
    rows = (found.dense() if isinstance(found, Patches) else found)[0].numpy()
    constants = torch.broadcast_to(add, (1, 2 * len(weights)))[0].numpy()
    lower, upper = np.split(rows, 2)
    below, above = np.split(constants, 2)
    gradients = ((lower - upper) / 2).reshape(len(weights), *base.shape)
    values = np.tensordot(gradients, base, axes=3) + (below - above) / 2
    return gradients, values
