"""Serving the studio on this machine alone, until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from suture.errors import ArgumentError, DependencyError, StorageError

if TYPE_CHECKING:
    from suture.studio.app import Studio

HOST = "127.0.0.1"
PORT = 8877


def needed() -> None:
    """Raises ``DependencyError`` where the extra is missing."""
    for name in ("starlette", "uvicorn"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise DependencyError(
                expected=f"the package {name}, for the studio",
                got="an environment without it",
                remedy="pip install 'suture[studio]'",
            ) from None


def listening(port: int) -> socket.socket:
    """A socket that only this machine reaches.

    Args:
        port: 0 takes any that is free.

    Raises:
        ArgumentError: no port number, or one that is in use.
        StorageError: the system refuses for another reason.
    """
    if not 0 <= port <= 65535:
        raise ArgumentError(
            expected="a port from 0 to 65535", got=str(port), remedy="Leave --port out."
        )
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen()
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise ArgumentError(
                expected="a port that nobody listens on",
                got=f"port {port}, which is in use (by another studio?)",
                remedy="Name another one with --port, or --port 0 for any that is free.",
            ) from None
        raise StorageError(
            expected=f"to be able to listen on port {port}",
            got=error.strerror or str(error),
            remedy="Ports below 1024 are the system's: leave --port out.",
        ) from error
    return made


def serve(studio: Studio, port: int, ready: Callable[[str], None]) -> str:
    """Serve until Ctrl-C; what is to be said then, in a line.

    Args:
        ready: told the address, with its token, once connections are taken.

    Raises:
        ArgumentError, StorageError: the port cannot be had.
    """
    import uvicorn

    with listening(port) as own:
        at = int(own.getsockname()[1])
        config: Any = uvicorn.Config(
            studio.app(at),
            log_level="critical" if not os.environ.get("SUTURE_DEBUG") else "error",
            access_log=False,
            timeout_graceful_shutdown=1,
            server_header=False,
            lifespan="off",
            ws="none",
            proxy_headers=False,
        )
        ready(f"http://{HOST}:{at}{studio.base}/")
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[own])
    left = [str(job.folder) for job in studio.jobs.running]
    return "studio ended" + (f"; going on: {', '.join(left)} (suture runs watch)" if left else "")
