"""A test that needs the data folder may skip only where there is none."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from suture import data


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, object]:
    """Turn a skip of a ``data`` test into a failure when the data folder is there."""
    report = yield
    if report.skipped and item.get_closest_marker("data") and data.folder() is not None:
        report.outcome = "failed"
        report.longrepr = f"skipped although the data folder is there: {report.longrepr}"
    return report
