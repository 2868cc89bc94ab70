"""How many threads torch uses depends on the network, and on what the user says."""

from __future__ import annotations

import pytest
import torch

from suture import models
from suture.engine.threads import available_cores, torch_threads, use_fitting_threads


@pytest.mark.parametrize(("name", "small"), [("digits_cnn", True), ("cnn", True), ("vgg16", False)])
def test_small_networks_get_one_thread(name: str, small: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    shape = {"digits_cnn": (1, 8, 8), "cnn": (1, 28, 28), "vgg16": (3, 32, 32)}[name]
    with torch_threads(torch.get_num_threads()):
        assert use_fitting_threads(models.build(name), shape) == (1 if small else available_cores())


def test_the_environment_overrules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with torch_threads(2):
        assert use_fitting_threads(models.build("digits_cnn"), (1, 8, 8)) == 2
