"""The smallest change of one layer's weights that makes given inputs right."""

from suture.repairs.weight_patch.method import WeightPatch
from suture.repairs.weight_patch.module import (
    Decoupled,
    decoupled,
    decoupled_copy,
    linear_layers,
    with_patch,
)
from suture.repairs.weight_patch.points import Point, below, entries, largest, tail_of
from suture.repairs.weight_patch.program import LayerPatch, Wish, patch_layer

__all__ = [
    "Decoupled",
    "LayerPatch",
    "Point",
    "WeightPatch",
    "Wish",
    "below",
    "decoupled",
    "decoupled_copy",
    "entries",
    "largest",
    "linear_layers",
    "patch_layer",
    "tail_of",
    "with_patch",
]
