"""What stands before the shop's endpoints: connections, instances, and how many requests there are at once.

An ASGI application around another one. What comes in is every request, what leaves is its answer, later or not at all,
where a planted fault is on that concerns all endpoints alike. Without such a fault it passes everything on as it is.
The clock and both ways of waiting are handed in: `rest` lets others go on meanwhile, `pause` stops the process.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FREEZE_AT, FREEZE_S = 1200, 0.7
"""Which request stops the process, and for how long (`freeze_once`)."""
ASLEEP_AFTER_S, AWAKE_AFTER_S, COLD_S = 1.0, 2.0, 0.300
"""How long nothing must come, how long waking takes, and what a request waits meanwhile (`cold_start`)."""
CROWD = 12
"""More requests at once are a crowd (`thrashing`, `slow_recovery`)."""
THRASH_S = 0.018
TIRED_FOR_S, TIRED_S = 30.0, 0.040
INSTANCES, SLOW_INSTANCE_S = "abc", 0.040
"""The instances take turns; the last one is the slow one."""
DROP_EVERY = 15
REPORTS = 2
"""So many reports may be made at once with the fault `shedding`."""
KEPT_BYTES, MOST_KEPT, LOOK_S = 20_000, 15_000, 20e-6
"""What `leak` keeps of a request, of how many, and what looking at one of them takes."""


class Front:
    """The shop behind its front; `faults` are the ids of those that are on."""

    def __init__(
        self,
        app: ASGIApp,
        faults: frozenset[str],
        now: Callable[[], float] = time.monotonic,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._app = app
        self._faults = faults
        self._now = now
        self._rest = rest
        self._pause = pause
        self._numbers = itertools.count(1)
        self._fronts = itertools.count()
        self._pages = itertools.count(1)
        self._in_flight = self._reports = 0
        self._last = now() - ASLEEP_AFTER_S - 1.0
        self._awake = self._tired = now()
        self._kept: list[bytearray] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        report = path == "/report"
        if "shedding" in self._faults and report and self._reports >= REPORTS:
            await _refuse(send)
            return
        self._in_flight += 1
        self._reports += report
        try:
            instance = self._instance(path)
            wait_s = self._wait_s(instance)
            if wait_s:
                await self._rest(wait_s)
            await self._app(scope, receive, _Answer(send, self._headers(instance), self._is_dropped(path)))
        finally:
            self._in_flight -= 1
            self._reports -= report

    def _wait_s(self, instance: str) -> float:
        """How long the request has to wait before anybody looks at it."""
        faults, now = self._faults, self._now()
        if "freeze_once" in faults and next(self._numbers) == FREEZE_AT:
            self._pause(FREEZE_S)
        wait_s = 0.0
        if "cold_start" in faults:
            if now - self._last > ASLEEP_AFTER_S:
                self._awake = now + AWAKE_AFTER_S
            wait_s += COLD_S if now < self._awake else 0.0
        self._last = now
        if "thrashing" in faults:
            wait_s += THRASH_S * max(self._in_flight - CROWD, 0)
        if "slow_recovery" in faults:
            if self._in_flight > CROWD:
                self._tired = now + TIRED_FOR_S
            wait_s += TIRED_S if now < self._tired else 0.0
        if "leak" in faults:
            if len(self._kept) < MOST_KEPT:
                self._kept.append(bytearray(KEPT_BYTES))
            wait_s += LOOK_S * len(self._kept)
        return wait_s + (SLOW_INSTANCE_S if instance == INSTANCES[-1] else 0.0)

    def _instance(self, path: str) -> str:
        """Which instance answers; empty where there is only one."""
        if "slow_instance" not in self._faults or not (path == "/" or path.startswith("/covers/")):
            return ""
        return INSTANCES[next(self._fronts) % len(INSTANCES)]

    def _headers(self, instance: str) -> list[tuple[bytes, bytes]]:
        headers = [(b"connection", b"close")] if "no_keep_alive" in self._faults else []
        return headers + ([(b"server-timing", f'instance;desc="{instance}"'.encode())] if instance else [])

    def _is_dropped(self, path: str) -> bool:
        return "dropped_answers" in self._faults and path == "/books" and next(self._pages) % DROP_EVERY == 0


async def _refuse(send: Send) -> None:
    body = b'{"error": "too many reports at once"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Answer:
    """Sends an answer on with further headers; a dropped one loses the second half of its body, and its end."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]], dropped: bool) -> None:
        self._send = send
        self._headers = headers
        self._dropped = dropped

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._headers:
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        elif message["type"] == "http.response.body" and self._dropped:
            body = message.get("body", b"")
            # The server closes the connection of an answer that never ends.
            message = {**message, "body": body[: len(body) // 2], "more_body": True}
        await self._send(message)
