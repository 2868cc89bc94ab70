"""A browser on the pages, at two widths in two colour schemes, with axe-core for accessibility.

The machine's own Chromium is driven; where there is none these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from suture import report
from suture.report import comparison
from suture.report.figures.certified import voted_figure
from suture.report.table import Column, Table, share
from suture.studies import Cell, Row, Study
from suture.studies.page import render as render_study

from ..report.builders import N, defended_run, full_run, info, programs, save_examples, trace
from ..studio.conftest import runs, studio  # noqa: F401 - fixtures

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
GRAVE = ("serious", "critical")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them start a browser: slow, and a marker of their own."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, then make browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield made
        made.close()


@dataclass(eq=False)
class Tab:
    """A tab, and what it complained of."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def sound(self) -> None:
        """No serious finding of axe-core, no error, nothing wider than the screen."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        grave = [
            f"{one['id']}: {one['help']}: {node['html'][:200]}"
            for one in found
            if one["impact"] in GRAVE
            for node in one["nodes"]
        ]
        assert grave == []
        assert self.complaints == []
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    """The colour scheme that the visitor prefers."""
    return str(request.param)


@pytest.fixture(params=list(SIZES))
def size(request: pytest.FixtureRequest) -> str:
    """A desk's screen, and a phone's."""
    return str(request.param)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Tab]]:
    """``visit(address, "phone", "dark")`` opens a page there."""
    contexts = []

    def go(address: str, size: str = "desk", scheme: str = "light") -> Tab:
        width, height = SIZES[size]
        view = {"width": width, "height": height}
        context = browser.new_context(viewport=view, color_scheme=scheme, accept_downloads=True)
        contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.on(
            "console",
            lambda said: tab.complaints.append(said.text) if said.type == "error" else None,
        )
        tab.page.goto(address)
        return tab

    yield go
    for context in contexts:
        context.close()


def _run(folder: Path, records: list[Any], **changes: Any) -> Path:
    (folder / "artifacts").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(info(**changes)), encoding="utf-8")
    lines = [json.dumps(record.to_dict()) + "\n" for record in records]
    (folder / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    save_examples(folder / "artifacts" / "examples.npz")
    for name, content in (("programs", programs()), ("trace", trace())):
        path = folder / "artifacts" / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def _told(records: list[Any]) -> list[Any]:
    each = [("1" * r.right).ljust(N, "0") for r in records]
    return [replace(r, images="same", each=e) for r, e in zip(records, each, strict=True)]


@dataclass(frozen=True, kw_only=True)
class SampleStudy(Study):
    """A study with a wide table and a figure."""

    name = "sample"
    title = "A sample of a study"
    paper = "Nobody, Table 1"

    def cells(self) -> list[Cell]:
        return []

    def tables(self, rows: list[Row]) -> list[Table]:
        columns = [Column("what", "what"), *(share("right", f"share {i}", "n") for i in range(9))]
        return [Table(columns, rows, "Shares of images", "Read off nothing.")]

    def figures(self, rows: list[Row]) -> list[Any]:
        return [voted_figure([{"radius": 0.1, **rows[0]}, {"radius": 0.2, **rows[1]}], "L2")]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name → address of every page that a command writes."""
    folder = tmp_path_factory.mktemp("pages")
    full = _run(folder / "full", _told(full_run()))
    other = _run(folder / "other", _told(defended_run(paper=120)), seed=8)
    made = {"report": report.write(full)}
    made["comparison"] = comparison.write([full, other], folder / "comparison.html")
    rows = [{"what": "a", "right": 9, "n": 10}, {"what": "b", "right": 4, "n": 10}]
    made["study"] = folder / "study.html"
    made["study"].write_text(render_study(SampleStudy(), rows, info()), encoding="utf-8")
    return {name: path.as_uri() for name, path in made.items()}


@pytest.fixture(scope="session")
def address(studio: Any) -> Iterator[str]:  # noqa: F811
    """A studio that listens, with its token."""
    import uvicorn

    from suture.studio.server import listening

    with listening(0) as own:
        port = own.getsockname()[1]
        config = uvicorn.Config(studio.app(port), log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
        thread.start()
        limit = time.monotonic() + 30
        while not server.started and time.monotonic() < limit:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}{studio.base}/"
        server.should_exit = True
        thread.join(10)
