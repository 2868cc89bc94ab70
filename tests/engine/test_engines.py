"""Engines: the same results, in order, on every backend; what fails is a record."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from suture.engine import Engine, Inline, Processes, Ray
from suture.errors import ArgumentError, DataError, DependencyError, EngineError
from suture.rng import Stream
from suture.testing.small import trained
from tests.engine import work

HAS_RAY = importlib.util.find_spec("ray") is not None
BACKENDS = ["inline", "processes", "ray"]


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request):
    if request.param == "ray" and not HAS_RAY:
        pytest.skip("ray is not installed: pip install 'suture[ray]'")
    made = {
        "inline": Inline,
        "processes": partial(Processes, 2),
        "ray": partial(Ray, 2),
    }[request.param]
    with made() as engine:
        yield engine


def test_backends_agree_to_the_bit(engine: Engine):
    items = [5, 64, 3, 200, 7, 31, 2]
    expected = [work.draw(size, Stream(9).child(i)) for i, size in enumerate(items)]
    results = engine.map(work.draw, items, stream=Stream(9))
    for (numbers, product), (same_numbers, same_product) in zip(expected, results, strict=True):
        assert np.array_equal(numbers, same_numbers)
        assert torch.equal(product, same_product)


def test_one_worker_gives_the_bits_of_two():
    with Processes(1) as engine:
        results = engine.map(work.draw, [5, 64, 3], stream=Stream(9))
    for i, (numbers, product) in enumerate(results):
        same_numbers, same_product = work.draw([5, 64, 3][i], Stream(9).child(i))
        assert np.array_equal(numbers, same_numbers) and torch.equal(product, same_product)


def test_order_and_progress(engine: Engine):
    seen: list[int] = []
    results = engine.map(work.square, range(9), on_done=lambda done, _: seen.append(done))
    assert results == [i * i for i in range(9)]
    assert seen == list(range(1, 10))
    assert engine.map(work.square, []) == []


def test_an_items_error_comes_back_whole(engine: Engine):
    with pytest.raises(DataError, match="expected not three; got three"):
        engine.map(work.fail_at_three, range(6))
    assert engine.map(work.square, [4]) == [16], "and the engine still works"


def test_a_failed_item_is_a_record_and_does_not_lose_the_others(engine: Engine):
    found = {outcome.index: outcome for outcome in engine.outcomes(work.fail_at_three, range(6))}
    assert {i: o.value for i, o in found.items() if o.failure is None} == {
        i: i for i in (0, 1, 2, 4, 5)
    }
    record = found[3].failure.to_dict()
    assert record["error"] == "DataError" and "got three" in record["message"]
    assert record["attempts"] == 1, "an error in the work itself is not tried again"


def test_items_run_with_the_threads_they_were_promised(engine: Engine):
    before = torch.get_num_threads()
    assert set(engine.map(work.threads_in_use, range(3))) == {1}
    assert torch.get_num_threads() == before


def test_shared_objects_arrive_whole_and_are_sent_once(engine: Engine):
    rows = torch.arange(60.0).reshape(4, 15)
    with engine.shared({"rows": rows}) as handle:
        sums = engine.map(partial(work.total, handle), range(4))
    assert sums == rows.sum(1).tolist()
    with pytest.raises(EngineError, match="no longer|that is not"):
        handle.get()
    model = trained()
    with engine.shared(model) as handle:
        logits = engine.map(partial(work.forward, handle), range(3))
    for seed, given in enumerate(logits):
        image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            assert torch.equal(given, model(image))


def test_what_a_worker_writes_stays_with_it(engine: Engine):
    if isinstance(engine, Inline):
        pytest.skip("the inline engine has one process, and one object")
    rows = torch.zeros(3, 3)
    with engine.shared({"rows": rows}) as handle:
        engine.map(partial(work.scribble, handle), range(4))
    assert float(rows.sum()) == 0


def test_an_item_out_of_time_is_a_record(engine: Engine):
    engine.seconds = 4.0  # an idle worker answers in time on a busy machine too
    try:
        if not isinstance(engine, Inline):
            engine.close()  # workers learn their limit when they start
        found = {o.index: o for o in engine.outcomes(work.busy, [0.0, 600.0, 0.0])}
    finally:
        engine.seconds = None
        if not isinstance(engine, Inline):
            engine.close()
    assert found[0].value == found[2].value == 0.0
    with pytest.raises(EngineError, match=r"within 4.* s.*time limit"):
        found[1].get()
    assert 3.5 < found[1].seconds < 300


def test_no_memory_is_tried_again_and_then_a_clear_error(engine: Engine, tmp_path: Path):
    first = engine.map(partial(work.no_memory_once, tmp_path), range(3))
    assert len(first) == 3
    assert len(list(tmp_path.glob("1-*"))) == 2, "the item was tried twice"
    with pytest.raises(EngineError, match=r"MemoryError.*--workers"):
        engine.map(work.no_memory, [1])


def test_a_killed_worker_costs_its_item_an_attempt_and_nothing_else(engine: Engine, tmp_path: Path):
    if isinstance(engine, Inline):
        pytest.skip("it would kill this process")
    assert engine.map(partial(work.die_once_at_two, tmp_path), range(6)) == list(range(6))
    assert len(list(tmp_path.glob("2-*"))) == 2
    found = {o.index: o for o in engine.outcomes(work.die_at_two, range(5))}
    assert [found[i].value for i in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert found[2].failure.attempts == 1 + engine.retries
    with pytest.raises(EngineError, match=r"a worker that died.*suture resume"):
        found[2].get()


def test_code_that_cannot_be_interrupted_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("suture.engine.processes.GRACE", 0.2)
    with Processes(2, seconds=0.3) as engine:
        found = {o.index: o for o in engine.outcomes(work.stuck_in_c, [0.0, 60.0, 0.0])}
    assert found[0].value == 0.0 and found[2].value == 0.0
    with pytest.raises(EngineError, match="still running"):
        found[1].get()


def test_what_cannot_be_sent_is_a_clear_error():
    with Processes(1) as engine, pytest.raises(EngineError, match="--engine inline"):
        engine.map(lambda item: item, [1])


def test_one_piece_of_work_at_a_time():
    with Processes(1) as engine:
        first = engine.outcomes(work.busy, [0.0, 0.3, 0.3])
        next(first)
        # the next item is handed out when the generator is asked again
        second = engine.imap(work.square, [3])
        first.close()
        assert list(second) == [9], "an abandoned call is out of the way"


SCRIPT = """
import sys
from pathlib import Path
from suture.engine import Processes
from tests.engine import work
if __name__ == "__main__":
    with Processes(2) as engine:
        pids = engine.map(work.own_pid, range(20))
        Path(sys.argv[1], "workers").write_text(" ".join(map(str, pids)))
        engine.map(work.busy, [60.0, 60.0])
"""


def test_workers_end_with_the_process_that_started_them(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root)}
    session = subprocess.Popen([sys.executable, script, tmp_path], env=env)
    try:
        _wait_for(lambda: (tmp_path / "workers").exists())
        time.sleep(0.3)
    finally:
        session.send_signal(signal.SIGKILL)
        session.wait()
    workers = {int(pid) for pid in (tmp_path / "workers").read_text().split()}
    _wait_for(lambda: not any(_alive(pid) for pid in workers), 10)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ray_that_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match=r"pip install 'suture\[ray\]'"):
        Ray(1).map(work.square, [1])


def test_bad_arguments():
    for made in (Processes, Ray):
        with pytest.raises(ArgumentError, match="at least one worker"):
            made(0)
    with pytest.raises(ArgumentError, match="threads_per_item"):
        Inline(threads_per_item=0)
    with pytest.raises(ArgumentError, match="retries"):
        Inline(retries=-1)
    with pytest.raises(ArgumentError, match="seconds"):
        Inline(seconds=0)
