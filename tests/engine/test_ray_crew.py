"""Processes of a cluster that train together: a lost node costs what was not kept, and no bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from suture import models
from suture.engine import Ray
from suture.engine.ray_crew import RayCrew
from suture.errors import EngineError, ModelError
from suture.repairs import CrownIBP, PGDTraining, Repair, repair
from suture.repairs.certified_training import Ramp, Schedule
from suture.testing.small import digits, trained
from suture.training import History, TrainConfig, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is missing: pip install 'suture[ray]'"
    ),
]

PGD_TRAINING = PGDTraining(
    eps=0.05, steps=3, epochs=3, held_out=0.1, judged=20, judged_epochs=1, judge_steps=2,
    step_images=20,
)  # fmt: skip
SCHEDULE = Schedule(epochs=3, batch_size=20, optimiser="adam", step_at=(), ramp=Ramp(1, 1))
CERTIFIED = CrownIBP(eps=0.02, schedule=SCHEDULE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One node with one core; tests add the second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        try:
            ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


class Watched:
    """Kills a node in the middle of the second epoch, and sees where the training goes on."""

    def __init__(self, cluster: Any, node: Any, patch: pytest.MonkeyPatch) -> None:
        self.cluster, self.node = cluster, node
        self.starts: list[Any] = []
        original = RayCrew._once

        def once(crew: RayCrew, shipped: Any) -> Any:
            self.starts.append(crew.point)
            return original(crew, shipped)

        patch.setattr(RayCrew, "_once", once)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.node is not None and 1.4 < 3 * done / total < 2:
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node = None


@pytest.mark.parametrize("method", [PGD_TRAINING, CERTIFIED], ids=["pgd", "crown-ibp"])
def test_a_training_that_loses_a_node_ends_with_the_weights_of_the_unbroken_one(
    cluster: Any, method: Repair, monkeypatch: pytest.MonkeyPatch
):
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    batch = digits().train.batch(600)
    whole = repair(trained(), batch, method, generator=3, engine=Ray(), processes=2)
    watched = Watched(cluster, node, monkeypatch)
    broken = repair(
        trained(), batch, method, generator=3, engine=Ray(), processes=2,
        checkpoint_minutes=0.005, on_progress=watched,
    )  # fmt: skip
    assert watched.node is None and len(watched.starts) >= 2, "a node was lost"
    assert watched.starts[0] is None and watched.starts[1] is not None, "not from the beginning"
    assert models.fingerprint(broken.model) == models.fingerprint(whole.model)
    curve = "curve" if "curve" in broken.trace else "curves"
    losses = [[row["loss"] for row in result.trace[curve]] for result in (whole, broken)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_training_over_a_cluster_is_that_of_this_machine(cluster: Any, tmp_path: Any):
    config = TrainConfig(epochs=2, batch_size=50, lr=0.01)
    model = models.build("digits_cnn", seed=1)
    alone = train(model, digits(), config=config, seed=4)
    folder = tmp_path / "history"
    with Ray() as engine:
        both = train(
            model, digits(), config=config, seed=4, processes=2, engine=engine, history=folder
        )
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(both.model.state_dict()[name], value, rtol=1e-3, atol=5e-4)
    assert History.open(folder).epochs == [1, 2], "written where the command runs"


def test_an_error_of_the_training_comes_through(cluster: Any):
    config = TrainConfig(epochs=1, batch_size=50, optimiser="sgd", lr=1e30)
    with Ray() as engine, pytest.raises(ModelError, match="finite"):
        train(models.build("digits_cnn"), digits(), config=config, processes=2, engine=engine)


def test_a_node_that_is_lost_again_and_again_is_an_error(monkeypatch: pytest.MonkeyPatch):
    import ray

    crew = RayCrew(ray, None, 1, "cpu", 2, print, print)  # type: ignore[arg-type]

    def once(self: RayCrew, shipped: Any) -> Any:
        raise ray.exceptions.RayActorError()

    monkeypatch.setattr(RayCrew, "_once", once)
    monkeypatch.setattr(ray, "put", lambda value: value)
    with pytest.raises(EngineError, match="4 losses without a point"):
        crew.run(print)  # type: ignore[arg-type]
