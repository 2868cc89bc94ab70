"""DARE: slice a classifier by class, remember its better selves, tune it towards them."""

from suture.repairs.dare.slicing import Slices, slice_classes

__all__ = ["Slices", "slice_classes"]
