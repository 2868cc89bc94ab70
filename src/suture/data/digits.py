"""The 1 797 handwritten digits that come with scikit-learn: always there, no network, no files."""

from __future__ import annotations

import numpy as np
import torch

from suture.data.parts import Part, SourceContent
from suture.data.stores import Memory

DIGITS = tuple("0123456789")


def read_digits() -> SourceContent:
    """8 × 8 grey digits with 17 grey levels, float32, divided by 16.

    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (its test half).
    """
    from sklearn.datasets import load_digits  # a second that nobody else should wait

    bunch = load_digits()
    images = torch.from_numpy((bunch.images / 16).astype(np.float32))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return SourceContent(
        name="digits",
        source="scikit-learn (embedded)",
        class_names=DIGITS,
        whole=Part(Memory(images), labels),
    )
