"""How the shop is served: one process on loopback, from opening to closing.

Owns what the endpoints know nothing of: the socket, the stall of the whole process, the access log, and when to stop.
"""

import asyncio
import ipaddress
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TextIO

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from surgeline.demo.shop import stock
from surgeline.demo.shop.app import THREADS, Bookshop
from surgeline.demo.shop.front import Front

STALL_EVERY_S, STALL_S = 4.0, 0.25

RUN_HEADER = b"x-surgeline-run"


class AccessLog:
    """What reached the shop, one JSON line each, written when the answer is complete.

    A request: `kind` "request", `at_ns` (CLOCK_MONOTONIC, when its head had been read), `method`, `path` with its
    query, `status` (null where no answer was begun), `run` (the header x-surgeline-run, null without one) and
    `duration_ns`. A stall: `kind` "stall", `at_ns`, `duration_ns`.
    """

    def __init__(self, app: ASGIApp, file: TextIO) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on, and writes its line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        at_ns = time.monotonic_ns()
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            query = scope["query_string"].decode("latin-1")
            run = dict(scope["headers"]).get(RUN_HEADER)
            self.write(
                kind="request",
                at_ns=at_ns,
                method=scope["method"],
                path=scope["raw_path"].decode("latin-1") + (f"?{query}" if query else ""),
                status=status,
                run=run.decode("latin-1") if run is not None else None,
                duration_ns=time.monotonic_ns() - at_ns,
            )

    def write(self, **line: object) -> None:
        """Adds a line."""
        self._file.write(json.dumps(line) + "\n")


def next_stall(opened: float, now: float) -> float:
    """When the process stops next, in seconds on the clock of `opened` and `now`: every 4 s since it opened.

    Never now: at the very moment of a stall the answer is the next one.
    """
    return opened + (int((now - opened) / STALL_EVERY_S) + 1) * STALL_EVERY_S


async def stall_for_ever(
    pause: Callable[[float], None] = time.sleep, note: Callable[[int, int], None] = lambda at_ns, duration_ns: None
) -> None:
    """Stops the event loop, and with it every answer, when `next_stall` says so; tells `note` when and how long."""
    loop = asyncio.get_running_loop()
    opened = loop.time()
    while True:
        await asyncio.sleep(next_stall(opened, loop.time()) - loop.time())
        at_ns = time.monotonic_ns()
        pause(STALL_S)
        note(at_ns, time.monotonic_ns() - at_ns)


class _Server(uvicorn.Server):
    """uvicorn that says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to a loopback address; port 0 takes a free one. Raises ValueError for any other address."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address; the shop listens on loopback, as in 127.0.0.1") from None
    if not address.is_loopback:
        raise ValueError(f"{host} is not a loopback address; the shop is made to break and listens on 127.0.0.1 only")
    # With the protocol named, asyncio switches Nagle's algorithm off; without it every answer waits 40 ms for an ACK.
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError:
        listener.close()
        raise
    return listener


def serve(
    host: str, port: int, faults: frozenset[str], folder: Path, access_log: Path | None, stop_with_stdin: bool
) -> None:
    """Makes the stock where it is missing, opens the shop, says so in one line on stdout, and serves until stopped.

    SIGTERM and SIGINT stop it, and with `stop_with_stdin` so does the end of stdin: the pipe of a parent that died.
    Requests in flight get 3 s. Raises ValueError for an address that is not loopback, OSError for one that is taken.
    """
    listener = listen(host, port)
    stock.make(folder)
    sales = folder / f"sales-{os.getpid()}.db"
    shutil.copyfile(folder / stock.SALES, sales)
    # Many threads that each need the interpreter for a moment: a thread that computes lets go of it sooner.
    sys.setswitchinterval(0.0005)
    try:
        with open(access_log, "w", buffering=1) if access_log else nullcontext() as log:
            shop = Bookshop(folder, sales, faults)
            server = _Server(_config(shop, log), lambda: _say_ready(listener, faults))
            if stop_with_stdin:
                threading.Thread(target=_stop_at_end_of_stdin, args=(server,), daemon=True).start()
            for number in (signal.SIGTERM, signal.SIGINT):
                # uvicorn puts its own handlers in front of these, stops, and raises the signal once more.
                signal.signal(number, lambda *_: None)
            server.run(sockets=[listener])
            shop.close()
    finally:
        sales.unlink(missing_ok=True)


def _config(shop: Bookshop, log: TextIO | None) -> uvicorn.Config:
    endpoints = shop.app()
    front = Front(endpoints, shop.faults)
    logged = AccessLog(front, log) if log else None

    def note_stall(at_ns: int, duration_ns: int) -> None:
        if logged:
            logged.write(kind="stall", at_ns=at_ns, duration_ns=duration_ns)

    @asynccontextmanager
    async def opening_hours(_: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        stalls = asyncio.create_task(stall_for_ever(note=note_stall)) if "stall" in shop.faults else None
        yield
        if stalls:
            stalls.cancel()

    endpoints.router.lifespan_context = opening_hours
    return uvicorn.Config(
        logged or front,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )


def _say_ready(listener: socket.socket, faults: frozenset[str]) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(json.dumps({"url": url, "pid": os.getpid(), "faults": sorted(faults)}), flush=True)


def _stop_at_end_of_stdin(server: uvicorn.Server) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.should_exit = True
