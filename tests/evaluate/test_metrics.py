"""Intervals and counts against published and hand-computed values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from scipy.stats import binom

from suture.errors import BundleError
from suture.evaluate.metrics import clopper_pearson, per_class, robust_after
from suture.evaluate.records import Record, read_records


def test_clopper_pearson_by_hand():
    # 0 of n: the upper end is 1 - (alpha/2)^(1/n); n of n mirrors it.
    assert clopper_pearson(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    # 8 of 10, tabulated: 0.4439 to 0.9748.
    assert clopper_pearson(8, 10) == (
        pytest.approx(0.44390, abs=1e-5),
        pytest.approx(0.97479, abs=1e-5),
    )


@pytest.mark.parametrize(("right", "n"), [(1, 7), (50, 200), (499, 500)])
def test_the_interval_inverts_the_binomial_tails(right: int, n: int):
    low, high = clopper_pearson(right, n)
    assert binom.sf(right - 1, n, low) == pytest.approx(0.025)
    assert binom.cdf(right, n, high) == pytest.approx(0.025)


@pytest.mark.parametrize("right", [0.0, 5e-324, 1e-300, 1e-9, 0.00099, 0.001, 0.5])
def test_the_interval_of_an_expected_count_moves_without_a_jump(right: float):
    low, high = clopper_pearson(right, 20)
    assert 0.0 == clopper_pearson(0, 20)[0] <= low < 0.01
    assert clopper_pearson(0, 20)[1] <= high < clopper_pearson(1, 20)[1]
    mirrored = clopper_pearson(20 - right, 20)
    assert mirrored == (pytest.approx(1 - high), pytest.approx(1 - low))


def test_coverage_is_at_least_what_it_claims():
    for share in (0.03, 0.5, 0.87):
        covered = sum(
            binom.pmf(k, 40, share)
            for k in range(41)
            if clopper_pearson(k, 40)[0] <= share <= clopper_pearson(k, 40)[1]
        )
        assert covered >= 0.95


def test_per_class():
    labels = torch.tensor([0, 2, 2, 0, 2])
    right = torch.tensor([True, True, False, False, True])
    assert per_class(right, labels) == [[1, 2], [0, 0], [2, 3]]


def test_robust_after():
    queries = [0, None, 5, 100, None]
    assert robust_after(queries, [0, 4, 5, 99, 100]) == [4, 4, 3, 3, 2]


def record(**fields: object) -> Record:
    base = {"role": "undefended", "kind": "clean", "metric": "clean accuracy"}
    given = base | {"protocol": "none", "right": 8, "n": 10, "seed": 0} | fields
    return Record(**given)  # type: ignore[arg-type]


def test_records_round_trip(tmp_path: Path):
    one = record(queries=[1, None], draws=10, attack={"name": "PGD", "parameters": {"eot": 10}})
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(one.to_dict()) + "\n")
    assert read_records(path) == [one]
    data = one.to_dict()
    assert data["percent"] == 80.0
    assert data["interval"] == [pytest.approx(44.390, abs=1e-3), pytest.approx(97.479, abs=1e-3)]


@pytest.mark.parametrize(
    "line", ["{", "[]", "7", '{"schema": 1}', '{"schema": 2}', '{"schema": 2, "surplus": 1}']
)
def test_broken_records_are_refused(tmp_path: Path, line: str):
    path = tmp_path / "records.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(BundleError):
        read_records(path)
    with pytest.raises(BundleError, match="nothing there"):
        read_records(tmp_path / "none.jsonl")
