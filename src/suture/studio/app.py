"""The studio as an ASGI application: every route, one line of work each."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import suture.report as report_package
from suture import report
from suture.engine import Run
from suture.engine.shelf import how_far
from suture.errors import BundleError, SutureError
from suture.report import comparison
from suture.report.comparison.page import context
from suture.studio import pages
from suture.studio.asking import asked
from suture.studio.background import BackgroundJobs, ordered
from suture.studio.guard import REPORT_POLICY, StudioGuard
from suture.studio.looking import look
from suture.studio.shelf import RunShelf
from suture.studio.tools import StudioTools
from suture.studio.workbench import Workbench

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@dataclass(eq=False)
class Studio:
    """What one studio works with.

    Attributes:
        shelf: the runs that it shows.
        tools: the command line's ways.
        model, data: what pages begin with; empty where nothing was named.
        token: the first part of every path.
    """

    shelf: RunShelf
    tools: StudioTools
    model: str = ""
    data: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        self.token = self.token or secrets.token_urlsafe(24)
        self.bench = Workbench(self.tools)
        self.jobs = BackgroundJobs(self.tools.command, self.shelf.folder)

    @property
    def base(self) -> str:
        """What every path begins with."""
        return f"/{self.token}"

    def app(self, port: int) -> StudioGuard:
        """The application behind its guard."""
        handlers: dict[str, Handler] = {
            "/": self.runs,
            "/run": self.run,
            "/report": self.report,
            "/progress": self.progress,
            "/look": self.look,
            "/compare": self.compare,
            "/repair": self.repair,
        }
        routes: list[Any] = [Route(path, handler) for path, handler in handlers.items()]
        routes += [
            Route("/repair", self.begin, methods=["POST"]),
            Route("/stop", self.stop, methods=["POST"]),
            Route("/resume", self.resume, methods=["POST"]),
            Route("/style/page.css", _page_css),
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
        ]
        failing: dict[Any, Any] = {
            SutureError: self._mistake,
            HTTPException: self._missing,
            Exception: self._defect,
        }
        return StudioGuard(Starlette(routes=routes, exception_handlers=failing), port, self.token)

    async def runs(self, _: Request) -> Response:
        """All runs."""
        rows = await run_in_threadpool(self.shelf.rows)
        return self._page("runs", rows=rows, folder=str(self.shelf.folder))

    async def run(self, request: Request) -> Response:
        """One run: what it is, and how far."""
        name = request.query_params.get("run", "")
        told = await run_in_threadpool(self._progress, name)
        found = self.shelf.find(name)
        about = await run_in_threadpool(_facts, found) if found else {}
        row = next((row for row in self.shelf.rows() if row["name"] == name), {})
        goes_on = bool(found) and self._goes_on(found, told)
        return self._page("run", name=name, told=told, about=about, row=row, goes_on=goes_on)

    async def report(self, request: Request) -> Response:
        """The run's report, rendered anew from its records; of a study the page that it wrote."""
        found = self._found(request.query_params.get("run", ""))
        page = await run_in_threadpool(_report, found)
        return HTMLResponse(page, headers={"content-security-policy": REPORT_POLICY})

    async def progress(self, request: Request) -> Response:
        """How far a run is, for the page that watches it."""
        return JSONResponse(self._progress(request.query_params.get("run", "")))

    async def look(self, request: Request) -> Response:
        """Single images under a live attack; ``part=1`` gives the result alone."""
        form = dict(request.query_params)
        told: dict[str, Any] = {"result": None, "error": ""}
        wanted = asked({}, self.model, self.data)
        try:
            wanted = asked(form, self.model, self.data)
            if wanted.model and wanted.data:
                told["result"] = await run_in_threadpool(look, self.bench, wanted)
        except SutureError as error:
            told["error"] = str(error)
        if form.get("part"):
            return self._page("looked", wanted=wanted, **told)
        models = pages.choices([wanted.model, self.model], self.shelf.models())
        return self._page("look", wanted=wanted, form=form, models=models, **told)

    async def compare(self, request: Request) -> Response:
        """Several runs side by side."""
        names = request.query_params.getlist("run")
        rows = [row for row in self.shelf.rows() if row["records"]]
        if len(names) < 2:
            return self._page("compare", rows=rows, names=names, given=None)
        folders = [self._found(name).folder for name in names]
        runs = await run_in_threadpool(comparison.opened, folders)
        given = await run_in_threadpool(context, runs)
        return self._page("compare", rows=rows, names=names, given=given)

    async def repair(self, request: Request) -> Response:
        """The form that starts a repair."""
        order = ordered(dict(request.query_params), self.model, self.data)
        return self._order_page(order, "")

    async def begin(self, request: Request) -> Response:
        """Start it, or say what is wrong."""
        order = ordered(await _form(request), self.model, self.data)
        try:
            folder = self.shelf.place(order.name)
            await run_in_threadpool(self.tools.check_repair, order.options)
            self.jobs.start(order.name, folder, order.words(folder))
        except SutureError as error:
            return self._order_page(order, str(error), 422)
        return self._to_run(order.name)

    async def stop(self, request: Request) -> Response:
        """Stop what was started here; it can be gone on with."""
        name = (await _form(request)).get("run", "")
        job = self.jobs.jobs.get(name)
        if job is not None:
            await run_in_threadpool(job.stop)
        return self._to_run(name)

    async def resume(self, request: Request) -> Response:
        """Go on with a stopped run."""
        name = (await _form(request)).get("run", "")
        found = self._found(name)
        if self._goes_on(found, self._progress(name)):
            self.jobs.start(name, found.folder, ["resume", "--", str(found.folder)])
        return self._to_run(name)

    def _goes_on(self, found: Run | None, told: dict[str, Any]) -> bool:
        kind = None if found is None else found.info.get("kind")
        return kind in self.tools.resumable and not told["live"] and told["status"] != "finished"

    def _progress(self, name: str) -> dict[str, Any]:
        job, found = self.jobs.jobs.get(name), self.shelf.find(name)
        own, log = (job.running, job.tail) if job else (False, "")
        if found is not None:
            return pages.progress(how_far(found.folder), own=own, log=log)
        if job is None:
            raise HTTPException(404, f"There is no run {name!r}.")
        facts = {"status": "starting" if own else "failed"}
        return pages.progress(facts, own=own, log=log)

    def _found(self, name: str) -> Run:
        found = self.shelf.find(name)
        if found is None:
            raise HTTPException(404, f"There is no run {name!r}.")
        return found

    def _order_page(self, order: Any, error: str, status: int = 200) -> Response:
        models = pages.choices([order.model], self.shelf.models())
        given = {"order": order, "error": error, "models": models}
        return self._page("repair", status, methods=pages.methods(), **given)

    def _to_run(self, name: str) -> Response:
        return RedirectResponse(f"{self.base}/run?run={quote(name, safe='')}", 303)

    def _page(self, template: str, status_code: int = 200, /, **given: Any) -> Response:
        extra = {"attacks": pages.attacks(), "radii": pages.RADII, "view": template}
        return HTMLResponse(pages.page(template, self.base, **extra, **given), status_code)

    async def _mistake(self, _: Request, error: Exception) -> Response:
        return self._page("message", 422, title="That did not work", text=str(error))

    async def _missing(self, _: Request, error: Exception) -> Response:
        status, text = getattr(error, "status_code", 500), getattr(error, "detail", "")
        return self._page("message", status, title="Not there", text=text)

    async def _defect(self, _: Request, error: Exception) -> Response:
        text = f"{type(error).__name__}: {error}. This is a defect of suture: please report it."
        return self._page("message", 500, title="That did not work", text=text)


async def _form(request: Request) -> dict[str, str]:
    """A form's fields; only the usual encoding, so that no parser of files is needed."""
    body = (await request.body()).decode("utf-8", errors="replace")
    return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=100))


async def _page_css(_: Request) -> Response:
    path = Path(report_package.__file__).with_name("templates") / "page.css"
    return Response(path.read_text(encoding="utf-8"), media_type="text/css")


def _report(run: Run) -> str:
    page = run.folder / "report.html"
    if (run.folder / "rows.jsonl").is_file() and page.is_file():
        return page.read_text(encoding="utf-8", errors="replace")
    return report.render(report.load(run.folder))


def _facts(run: Run) -> dict[str, str]:
    """Model, method, data and threat, and what the run says of itself."""
    try:
        data = report.load(run.folder)
    except BundleError as error:
        return {"Note": str(error)}
    told = dict(report.about(data))
    if data.records:
        told["Verdict"] = report.verdict(data.records).sentence
    for name, key in (("Outcome", "outcome"), ("Command", "command"), ("Started", "created")):
        if isinstance(run.info.get(key), str):
            told[name] = run.info[key]
    return told
