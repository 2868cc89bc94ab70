"""Box → bounds of the outputs: IBP, CROWN-IBP, CROWN (DeepPoly) and α-CROWN, batched.

>>> import torch
>>> from suture import bounds, models
>>> from suture.types import Box
>>> model = models.build("digits_cnn", in_shape=(1, 8, 8), classes=10)
>>> network = bounds.read(model, (1, 8, 8))
>>> images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
>>> lower, upper = bounds.output_bounds(network, Box.around(images, 0.01))
>>> bool(((lower <= network(images)) & (network(images) <= upper)).all())
True
"""

from suture.bounds.activations import Relu, SShaped
from suture.bounds.affine import BatchNorm, Conv, Linear, Scale
from suture.bounds.assign import assign
from suture.bounds.crown import Method, State, lower_bounds, prepare
from suture.bounds.fusion import fused_cross_entropy
from suture.bounds.ibp import ibp, intervals
from suture.bounds.margins import (
    certified,
    margin_rows,
    margins,
    mixed_margins,
    worst_case_cross_entropy,
)
from suture.bounds.methods import METHODS, bounds_of, output_bounds
from suture.bounds.network import Input, Network, Node, chain, joined
from suture.bounds.reading import read
from suture.bounds.shapes import Add

__all__ = [
    "METHODS",
    "Add",
    "BatchNorm",
    "Conv",
    "Input",
    "Linear",
    "Method",
    "Network",
    "Node",
    "Relu",
    "SShaped",
    "Scale",
    "State",
    "assign",
    "bounds_of",
    "certified",
    "chain",
    "fused_cross_entropy",
    "ibp",
    "intervals",
    "joined",
    "lower_bounds",
    "margin_rows",
    "margins",
    "mixed_margins",
    "output_bounds",
    "prepare",
    "read",
    "worst_case_cross_entropy",
]
