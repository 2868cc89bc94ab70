"""Where the data folder is, and tiny data sets on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from suture import data


@pytest.fixture
def data_folder() -> Path:
    folder = data.folder()
    if folder is None:
        pytest.skip("needs the data folder: set SUTURE_DATA")
    return folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the data folder, without torchvision's files."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SUTURE_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("SUTURE_TORCHVISION", str(tmp_path / "torchvision"))
    return tmp_path


@pytest.fixture
def images() -> np.ndarray:
    """Twenty grey 5 × 4 images, every pixel different from its neighbours."""
    return np.arange(20 * 5 * 4, dtype=np.int64).reshape(20, 5, 4).astype(np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    return np.arange(20) % 4
