"""The native engine's connections, driven from gevent's hub.

What comes in are requests as bytes, from greenlets that wait; what leaves are answers. There is no thread and no queue:
the hub watches the engine's one descriptor, and what has come is handed straight to the greenlet that waits for it. The
connections are opened by the first request of a process, so after any fork.
"""

import errno
import os
import ssl
import time
from collections import deque
from typing import NamedTuple, TypeAlias

import gevent
import gevent.socket
from gevent import getcurrent

from surgeline._engine import Answer, Client, kind_word

NS_PER_S = 1_000_000_000
NEVER_NS = 1 << 61
"""As a time-out: none."""

BEFORE_SENDING = frozenset(
    {"connect_refused", "connect_reset", "connect_timeout", "client_ports", "client_fds", "tls_handshake"}
    | {"tls_certificate", "dns"}
)
"""Kinds that are known before a byte of the request was sent."""
UNANSWERED = frozenset({"stale_connection", "reset_before_headers", "short_head", "write_failed"})
"""Kinds of a connection that went away before an answer began."""


class Unanswered(NamedTuple):
    """What stands for an answer where there was not even a connection."""

    error: str
    begin: int
    end: int
    status: int = 0
    minor: int = 1
    sets_cookie: bool = False
    encoded: bool = False
    reused: bool = False
    reset: bool = False
    bytes_out: int = 0
    bytes_in: int = 0
    head: bytes = b""
    body: bytes = b""
    phases: tuple[int, int, int, int, int] = (-1, -1, -1, -1, -1)
    shot: None = None

    @property
    def milliseconds(self) -> float:
        """From begin to end."""
        return (self.end - self.begin) / 1e6

    @property
    def first_byte_s(self) -> float:
        """The same, in s."""
        return (self.end - self.begin) / 1e9

    def headers(self) -> list[tuple[str, str]]:
        """None."""
        return []

    def header(self, name: str) -> str | None:
        """None."""
        return None


Ended: TypeAlias = Answer | Unanswered


class Lane:
    """The exchanges of this process."""

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        self.client = Client(self._wake, self.hub.switch, getcurrent)
        self._pools_to_close: deque[int] = deque()
        self._watcher = self.hub.loop.io(self.client.fd, 1)
        self._watcher.start(self.client.serve)

    def _wake(self) -> None:
        self.hub.loop.run_callback(self.client.hand_out)

    def exchange(self, pool: int, request: bytes, bodyless: bool, connect_ns: int, silence_ns: int) -> Ended:
        """Sends a request and waits, as this greenlet, for what becomes of it."""
        answer = self.client.exchange(pool, request, bodyless, connect_ns, silence_ns)
        if type(answer) is int:
            now = time.monotonic_ns()
            return Unanswered(kind_word(answer), now, now)
        return answer  # type: ignore[return-value]  # mypy does not narrow by `type`

    def forget(self, pool: int) -> None:
        """Has a pool closed soon: this is called by the garbage collector, anywhere."""
        self._pools_to_close.append(pool)

    def tidy(self) -> None:
        """Closes what was forgotten."""
        while self._pools_to_close:
            self.client.close_pool(self._pools_to_close.popleft())


_lane: Lane | None = None


def lane() -> Lane:
    """This process's; made by the first request."""
    global _lane
    if _lane is None:
        _lane = Lane()
    return _lane


def opened() -> Lane | None:
    """This process's, if it has sent a request."""
    return _lane


def _forked() -> None:
    # The parent's connections stay the parent's: nothing of them is touched, not even by being collected.
    global _lane, _parents
    _parents = _lane
    _lane = None


_parents: Lane | None = None
os.register_at_fork(after_in_child=_forked)


class Origin:
    """One user's connections to a scheme, host and port.

    The addresses of a name are looked up once for each user, and tried in their order.
    """

    def __init__(self, host: str, port: int, tls: tuple[bool, str | None] | None) -> None:
        """`tls`: whether any certificate will do, and a file of those to trust. OSError where the name has none."""
        self.lane = lane()
        self.lane.tidy()
        self.host, self.port = host, port
        self._tls = tls
        self.pool = -1
        self.connect_ns = self.silence_ns = 60 * NS_PER_S
        found = gevent.socket.getaddrinfo(host.strip("[]"), port, 0, gevent.socket.SOCK_STREAM)
        self._addresses = list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found))
        self._at = 0
        self._open()

    def _open(self) -> None:
        address = self._addresses[self._at]
        if self._tls is None:
            self.pool = self.lane.client.open_pool(address, self.port)
        else:
            self.pool = self.lane.client.open_pool(address, self.port, self.host, *self._tls)

    def exchange(self, request: bytes, bodyless: bool, connect_ns: int, silence_ns: int) -> Ended:
        """As `Lane.exchange`; an address that cannot be connected to is followed by the next."""
        tried = 1
        while True:
            answer = self.lane.exchange(self.pool, request, bodyless, connect_ns, silence_ns)
            if answer.error not in ("connect_refused", "connect_timeout", "connect_reset"):
                return answer
            if tried >= len(self._addresses):
                return answer
            tried += 1
            self._at = (self._at + 1) % len(self._addresses)
            self.lane.forget(self.pool)
            self._open()

    def __del__(self) -> None:
        if self.pool >= 0:
            self.lane.forget(self.pool)


def nanoseconds(seconds: float | None) -> int:
    """A time-out of Locust's users in ns; None is none."""
    return NEVER_NS if seconds is None else max(int(seconds * 1e9), 1)


def transport_error(kind: str) -> OSError:
    """The exception that a socket raises in such a case."""
    number = {
        "connect_refused": errno.ECONNREFUSED,
        "connect_reset": errno.ECONNRESET,
        "reset_before_headers": errno.ECONNRESET,
        "short_head": errno.ECONNRESET,
        "reset_mid_body": errno.ECONNRESET,
        "stale_connection": errno.ECONNRESET,
        "write_failed": errno.EPIPE,
        "client_ports": errno.EADDRNOTAVAIL,
        "client_fds": errno.EMFILE,
    }.get(kind)
    if number is not None:
        return OSError(number, os.strerror(number))
    if kind.endswith("_timeout"):
        return TimeoutError("timed out")
    if kind == "tls_certificate":
        return ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    if kind == "tls_handshake":
        return ssl.SSLError(1, "[SSL] the handshake broke off")
    return OSError(kind)
