"""A name or a file becomes a classifier; a classifier becomes two parts, or a bundle on disk.

>>> from suture import models
>>> model = models.load("digits_cnn")
>>> parts = models.cut(model)
>>> parts.features
64
"""

from suture.models.bundle import is_bundle, load_bundle, read_manifest, save
from suture.models.checks import (
    check_classifier,
    check_weights,
    fingerprint,
    frozen,
    looks_like_softmax,
    untouched,
)
from suture.models.cutting import Cut, cut, head_is_linear, layer_names
from suture.models.identity import digest, identity, pixels
from suture.models.layers import Affine, Normalise, Permute, Repeat, Reshape
from suture.models.loading import load
from suture.models.normalising import PRESETS, normalised, statistics, suspicion
from suture.models.onnx_import import import_onnx
from suture.models.pt2_import import import_pt2
from suture.models.spec import (
    attach,
    build_from_spec,
    files_of,
    register_builder,
    spec_of,
)
from suture.models.weights import apply_weights, read_weights
from suture.models.wrapping import wrap
from suture.models.zoo import architectures, build, describe

__all__ = [
    "PRESETS",
    "Affine",
    "Cut",
    "Normalise",
    "Permute",
    "Repeat",
    "Reshape",
    "apply_weights",
    "architectures",
    "attach",
    "build",
    "build_from_spec",
    "check_classifier",
    "check_weights",
    "cut",
    "describe",
    "digest",
    "files_of",
    "fingerprint",
    "frozen",
    "head_is_linear",
    "identity",
    "import_onnx",
    "import_pt2",
    "is_bundle",
    "layer_names",
    "load",
    "load_bundle",
    "looks_like_softmax",
    "normalised",
    "pixels",
    "read_manifest",
    "read_weights",
    "register_builder",
    "save",
    "spec_of",
    "statistics",
    "suspicion",
    "untouched",
    "wrap",
]
