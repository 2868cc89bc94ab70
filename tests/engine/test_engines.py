"""Engines: the same results, in order, on every backend."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from suture.engine import Engine, Inline, Processes
from suture.errors import ArgumentError, DataError, EngineError
from suture.rng import Stream


def draw(size: int, stream: Stream) -> tuple[np.ndarray, torch.Tensor]:
    generator = stream.generator()
    matrix = torch.randn(size, size, generator=generator)
    return stream.numpy().random(size), matrix @ matrix


def square(item: int) -> int:
    return item * item


def fail_at_three(item: int) -> int:
    if item == 3:
        raise DataError(expected="not three", got="three", remedy="Skip it.")
    return item


def die_at_two(item: int) -> int:
    if item == 2:
        os._exit(9)
    return item


def threads_in_use(_: int) -> int:
    return torch.get_num_threads()


@pytest.fixture(scope="module")
def engines():
    made: list[Engine] = [Inline(), Processes(1), Processes(2)]
    yield made
    for engine in made:
        engine.close()


def test_backends_agree_to_the_bit(engines: list[Engine]):
    items = [5, 64, 3, 200, 7, 31, 2]
    results = [engine.map(draw, items, stream=Stream(9)) for engine in engines]
    for other in results[1:]:
        for (numbers, product), (same_numbers, same_product) in zip(results[0], other, strict=True):
            assert np.array_equal(numbers, same_numbers)
            assert torch.equal(product, same_product)


def test_order_and_progress(engines: list[Engine]):
    for engine in engines:
        seen: list[int] = []
        results = engine.map(square, range(9), on_done=lambda done, _, to=seen: to.append(done))
        assert results == [i * i for i in range(9)]
        assert seen == list(range(1, 10))
        assert engine.map(square, []) == []


def test_an_items_error_comes_back_whole(engines: list[Engine]):
    for engine in engines:
        with pytest.raises(DataError, match="expected not three; got three"):
            engine.map(fail_at_three, range(6))
        assert engine.map(square, [4]) == [16], "and the engine still works"


def test_a_dead_worker_is_a_clear_error():
    with Processes(2) as engine:
        with pytest.raises(EngineError, match="a worker that died"):
            engine.map(die_at_two, range(6))
        assert engine.map(square, [3]) == [9], "a new pool is started"


def test_items_run_with_the_threads_they_were_promised(engines: list[Engine]):
    before = torch.get_num_threads()
    for engine in engines:
        assert set(engine.map(threads_in_use, range(3))) == {1}
    assert torch.get_num_threads() == before


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="at least one worker"):
        Processes(0)
    with pytest.raises(ArgumentError, match="threads_per_item"):
        Inline(threads_per_item=0)
