"""Who may ask: this browser tab, on this machine. Everything else is refused before it is read.

Each request must name the studio's own address in ``Host`` (a page elsewhere whose name was turned
into 127.0.0.1 does not), and carry the token in its path. A request that changes something must
come from a page of the studio itself.
"""

from __future__ import annotations

import secrets
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 64 * 1024
"""Bytes of a request's body: forms are small."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "sandbox allow-downloads; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of pages that are shown and do nothing: no script, an origin of their own."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # To nobody else; with "no-referrer" browsers would send forms with "Origin: null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
NO_TOKEN = "The address must carry the token that `suture studio` has printed.\n"


class StudioGuard:
    """An ASGI application that lets through what passes all checks.

    Args:
        app: what is guarded; sees paths without the token.
        port: that the studio listens on.
        token: the first part of every path.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self.app, self.token = app, token
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = self.refusal(scope)
            headed = _with_headers(send)
            if refusal is not None:
                await refusal(scope, receive, headed)
            else:
                await self.app(self._inside(scope), receive, headed)

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Why a request is refused; ``None`` where it is not."""
        headers = _headers(scope)
        if headers.get("host", "").lower() not in self.hosts:
            return PlainTextResponse("This is not the address of the studio.\n", 421)
        given = scope["path"].removeprefix("/").partition("/")[0]
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return PlainTextResponse(NO_TOKEN, 403)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Only pages of the studio may ask.\n", 403)
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return PlainTextResponse("Only GET and POST.\n", 405)
        if headers.get("origin", "").lower() not in {f"http://{host}" for host in self.hosts}:
            return PlainTextResponse("Only pages of the studio may change something.\n", 403)
        length = headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MOST:
            return PlainTextResponse("Too long for a form.\n", 413)
        return None

    def _inside(self, scope: Scope) -> Scope:
        start = len(self.token) + 1
        path = scope["path"][start:] or "/"
        return {**scope, "path": path, "raw_path": path.encode()}


def _headers(scope: Scope) -> dict[str, str]:
    """Names to values; of a header that comes twice nothing, so that it passes no check."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        found[key] = "" if key in found else value.decode("latin-1")
    return found


def _with_headers(send: Send) -> Send:
    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            own: list[Any] = list(message["headers"])
            known = {name.decode("latin-1").lower() for name, _ in own}
            wanted = {**_HEADERS, "content-security-policy": POLICY}
            own += [(k.encode(), v.encode()) for k, v in wanted.items() if k not in known]
            message = {**message, "headers": own}
        await send(message)

    return headed
