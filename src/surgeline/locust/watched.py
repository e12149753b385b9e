"""Locust's users, watched: who is asking, and what was in flight when a user was cut off.

Stock Locust tells nobody that a request began, nor that one was cut off: a user is a greenlet, and stopping it late
means throwing GreenletExit into it, after which no `request` event comes. So Locust's group of users is given a
greenlet class that looks before it throws. What a greenlet is doing is read off its stack; nothing is wrapped, nothing
is called that Locust would not call, and a request costs nothing more.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakSet

import gevent
import requests
from locust.clients import HttpSession
from locust.contrib.fasthttp import FastHttpSession
from locust.user import User
from typing_extensions import override

_SENDING = {
    HttpSession.request.__code__: "requests",
    FastHttpSession.request.__code__: "geventhttpclient",
}
"""The functions of the two stock clients inside of which a request is in flight."""


def sends(function: Any, client: str) -> None:
    """A function of a client of ours inside of which a request is in flight, and the stock client it stands in for."""
    _SENDING[function.__code__] = client


_DEEPEST = 60
"""Frames looked through for one of them; user code that calls a client from deeper down is not recognised."""


_BY_A_USER = "surgeline_by_a_user"
"""Among the locals that a greenlet hands on to those it spawns: a user is among those who came before."""


class InFlight(NamedTuple):
    """A request that has been begun and not answered."""

    method: str
    name: str
    url: str
    began_wall_s: float
    """As Locust took it: `time.time()`."""


class Watch:
    """The users of this process: they get numbers, headers, and are asked what they are doing."""

    def __init__(self, welcome: Callable[[User], None], cut_off: Callable[["WatchedUser", InFlight], None]) -> None:
        self._welcome = welcome
        self._cut_off = cut_off
        self._users: WeakSet[WatchedUser] = WeakSet()
        self._numbers = 0

    def greenlet_class(self) -> type["WatchedUser"]:
        """A class for `runner.user_greenlets.greenlet_class` whose greenlets report here."""
        return type("WatchedUser", (WatchedUser,), {"watch": self})

    def joined(self, greenlet: "WatchedUser", user: object) -> None:
        """A user is about to start."""
        greenlet.number = self._numbers
        self._numbers += 1
        self._users.add(greenlet)
        if isinstance(user, User):
            greenlet.scenario = type(user).__name__
            self._welcome(user)

    def leaving(self, greenlet: "WatchedUser") -> None:
        """A user is about to be thrown out."""
        found = request_of(greenlet)
        if found is not None:
            self._cut_off(greenlet, found)

    def in_flight(self) -> int:
        """How many users are inside a request of one of the stock clients."""
        return sum(request_of(greenlet) is not None for greenlet in list(self._users) if not greenlet.dead)


class WatchedUser(gevent.Greenlet):  # type: ignore[misc]  # gevent ships no types
    """A user's greenlet."""

    watch: Watch
    number: int = -1
    scenario: str = ""

    def __init__(self, run: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(run, *args, **kwargs)
        self.spawn_tree_locals = {_BY_A_USER: True}
        self.watch.joined(self, args[0] if args else None)

    @override
    def throw(self, *args: Any) -> Any:
        """Called by the hub for every kill, and for timeouts in clients; what was going on is gone afterwards."""
        thrown = args[0] if args else gevent.GreenletExit
        if thrown is gevent.GreenletExit or isinstance(thrown, gevent.GreenletExit):
            self.watch.leaving(self)
        return super().throw(*args)


def left_behind() -> int:
    """How many greenlets that users have started, or those in turn, are still alive. Looks at every object there is."""
    return sum(
        not thing.dead and _BY_A_USER in (thing.spawn_tree_locals or ())
        for thing in gc.get_objects()
        if isinstance(thing, gevent.Greenlet) and not isinstance(thing, WatchedUser)
    )


def current_user() -> WatchedUser | None:
    """The user whose greenlet this is, or who spawned it; None elsewhere."""
    greenlet: Any = gevent.getcurrent()
    for _ in range(10):
        if isinstance(greenlet, WatchedUser) or greenlet is None:
            return greenlet
        parent = getattr(greenlet, "spawning_greenlet", None)
        greenlet = parent() if parent is not None else None
    return None


def request_of(greenlet: gevent.Greenlet) -> InFlight | None:
    """The request that a greenlet waits for inside a client; None where there is none or it has been answered."""
    native = sys.modules.get("surgeline.locust.native")
    lane = native.opened() if native is not None else None
    asked = lane.client.asked_by(greenlet) if lane is not None else None
    if asked is not None:
        method, name, url, began_ns = asked
        return InFlight(method, name, url, (time.time_ns() - time.monotonic_ns() + began_ns) / 1e9)
    for frame in _frames(getattr(greenlet, "gr_frame", None)):
        client = _SENDING.get(frame.f_code)
        if client is None:
            continue
        known: Mapping[str, Any] = frame.f_locals
        began = known.get("start_time")
        if began is None or "response_time" in (known.get("request_meta") or {}):
            return None
        method, url = str(known.get("method", "")), str(known.get("url", ""))
        whole = str(known.get("complete_url") or known.get("built_url") or url)
        name = known.get("name") or (_path(whole, known.get("kwargs")) if client == "requests" else url)
        return InFlight(method, str(name), whole, float(began))
    return None


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    for _ in range(_DEEPEST):
        if frame is None:
            return
        yield frame
        frame = frame.f_back


def _path(url: str, keywords: Any) -> str:
    """The name that HttpSession gives a request without one: path and query as they are sent."""
    params = keywords.get("params") if isinstance(keywords, dict) else None
    try:
        return requests.Request("GET", url, params=params).prepare().path_url
    except (requests.RequestException, ValueError, TypeError):
        return url


def monotonic_of(wall_s: float) -> int:
    """The moment on CLOCK_MONOTONIC, in ns, that `time.time()` showed as `wall_s`."""
    return round(wall_s * 1e9) - (time.time_ns() - time.monotonic_ns())
