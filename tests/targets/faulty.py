"""A server that breaks in every way a test can ask for by path, and remembers each request that it read.

Threads and plain sockets, so that a fault is exactly the bytes, or the lack of them, that it should be.
"""

import json
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

RUN_HEADER = "x-surgeline-run"


@dataclass(frozen=True)
class Seen:
    """One request as the server read it; `turn` counts from 0 on its connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    turn: int

    @property
    def run(self) -> str:
        """The run's id that it carries; "" without one."""
        return self.headers.get(RUN_HEADER, "")


@dataclass
class Faulty:
    """The server. `seen` grows while it runs. With a `context` it speaks TLS."""

    seen: list[Seen] = field(default_factory=list)
    context: ssl.SSLContext | None = None
    host: str = "127.0.0.1"

    def __enter__(self) -> "Faulty":
        self._lock = threading.Lock()
        self._waiting: set[socket.socket] = set()
        """Connections on which nothing is being read: what has come there stands in the system's buffer."""
        self._reading = 0
        """Requests that have left those buffers and are not in `seen` yet."""
        self._listening = socket.create_server((self.host, 0), backlog=512)
        self.port = int(self._listening.getsockname()[1])
        self.url = f"http{'s' if self.context else ''}://{self.host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, which would take one more
        self._listening.close()

    def of_run(self, run_id: str) -> list[Seen]:
        """The requests that carry a run's id; also those that were sent and only now are read."""
        self.settle()
        return [seen for seen in list(self.seen) if seen.run == run_id]

    def settle(self) -> None:
        """Waits until all that has been sent here is read: its threads may have had no turn on a busy machine."""
        deadline = time.monotonic() + 30
        while not self._is_dry():
            assert time.monotonic() < deadline, "requests have come that nobody reads"
            time.sleep(0.01)

    def _is_dry(self) -> bool:
        with self._lock:
            if self._reading:
                return False
            return not _readable([place for place in (self._listening, *self._waiting) if place.fileno() >= 0], 0)

    def _accept(self) -> None:
        while True:
            try:
                _readable([self._listening])
                with self._lock:
                    connection, _ = self._listening.accept()
                    self._waiting.add(connection)
            except (OSError, ValueError):
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        turn, connection = 0, plain
        try:
            if self.context is not None:
                connection = self.context.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._waiting.discard(plain)
        except OSError:
            with self._lock:
                self._waiting.discard(plain)
                plain.close()
            return
        stream = _Stream(connection)
        try:
            while (request := self._next(stream, turn)) is not None and self._answer(connection, request):
                turn += 1
        except OSError:
            return
        finally:
            with self._lock:
                self._waiting.discard(connection)
                connection.close()

    def _next(self, stream: "_Stream", turn: int) -> Seen | None:
        """The next request, kept in `seen`; None at the end of the connection."""
        with self._lock:
            self._waiting.add(stream.connection)
        stream.await_bytes()
        with self._lock:
            self._waiting.discard(stream.connection)
            self._reading += 1
        try:
            request = _read(stream, turn)
            if request is not None:
                self.seen.append(request)
            return request
        finally:
            with self._lock:
                self._reading -= 1

    def _answer(self, connection: socket.socket, request: Seen) -> bool:
        """Whether the connection is kept."""
        parts = urlsplit(request.path)
        word, first = [*parts.path.split("/"), ""][1:3]
        number = int(first) if first.isdigit() else 0
        query = parse_qs(parts.query)
        match word:
            case "ok":
                return _send(connection, 200, b'{"ok": true, "items": [{"id": 7}, {"id": null}], "text": "hello"}')
            case "status":
                return _send(connection, number, b"" if number in (204, 304) else b"told so")
            case "slow":
                time.sleep(number / 1000)
                return _send(connection, 200, b"at last")
            case "slow-body":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                time.sleep(number / 1000)
                connection.sendall(b" and h")
            case "until-close":
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nthe end is the end of the connection")
                return False
            case "reset":
                return _reset(connection)
            case "close":
                return False
            case "reset-mid-body":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
                time.sleep(0.1)  # so that the reset does not overtake what was sent
                return _reset(connection)
            case "short":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
                return False
            case "chunked":
                head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                connection.sendall(head + b'6\r\n{"a": \r\n3;x=y\r\n12}\r\n0\r\nTrailer: t\r\n\r\n')
            case "bad-chunk":
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nno chunk\r\n")
                return False
            case "garbage":
                connection.sendall(b"SSH-2.0-something else\r\n\r\n")
                return False
            case "long-head":
                line = b"X-Padding: " + b"x" * 8000 + b"\r\n"
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + line * 40 + b"Content-Length: 0\r\n\r\n")
                return False
            case "interim":
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
                return _send(connection, 200, b"after the hint")
            case "redirect":
                return _send(connection, 302, b"", f"Location: /{'redirect/' + str(number - 1) if number else 'ok'}")
            case "see-other":
                return _send(connection, 303, b"", "Location: /echo")
            case "keep-method":
                return _send(connection, 307, b"", "Location: /echo")
            case "loop":
                return _send(connection, 301, b"", "Location: /loop")
            case "to-slow":
                return _send(connection, 302, b"", f"Location: /slow/{number}")
            case "elsewhere":
                return _send(connection, 302, b"", "Location: http://127.0.0.2:1/")
            case "no-location":
                return _send(connection, 302, b"nowhere to go")
            case "dies-when-reused" if request.turn:
                return _reset(connection)
            case "cookie":
                value = query.get("value", [""])[0]
                gone = "; Max-Age=0" if not value else "; Path=/; HttpOnly"
                return _send(connection, 200, b"{}", f"Set-Cookie: session={value}{gone}", "Set-Cookie: other=1")
            case "set":
                return _send(connection, 200, b"{}", *(f"Set-Cookie: {line}" for line in query.get("line", [])))
            case "echo" | "dies-when-reused":
                told = {"method": request.method, "path": request.path, "headers": request.headers}
                return _send(
                    connection,
                    200,
                    json.dumps({**told, "body": request.body.decode()}).encode(),
                    "Content-Type: application/json",
                    "Server-Timing: db;dur=1.5",
                )
            case _:
                return _send(connection, 404, b"no such fault")
        return True


def _readable(places: list[socket.socket], timeout_ms: int | None = None) -> bool:
    """Whether something has come at one of these places, or an end; without a time, once it has."""
    poll = select.poll()
    for place in places:
        poll.register(place, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def _send(connection: socket.socket, status: int, body: bytes, *headers: str) -> bool:
    length = [] if status in (204, 304) else [f"Content-Length: {len(body)}"]
    head = "\r\n".join([f"HTTP/1.1 {status} Told", *headers, *length])
    connection.sendall(head.encode() + b"\r\n\r\n" + body)
    return True


def _reset(connection: socket.socket) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


class _Stream:
    """What comes on a connection, and whether anything has come."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._held = b""

    def await_bytes(self) -> None:
        """Until something can be read, or never more will."""
        pending = isinstance(self.connection, ssl.SSLSocket) and self.connection.pending()
        if not self._held and not pending:
            _readable([self.connection])

    def readline(self) -> bytes:
        """Up to the next line feed; what there is at the end."""
        while b"\n" not in self._held and self._more():
            pass
        at = self._held.find(b"\n") + 1 or len(self._held)
        line, self._held = self._held[:at], self._held[at:]
        return line

    def read(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        while len(self._held) < size and self._more():
            pass
        found, self._held = self._held[:size], self._held[size:]
        return found

    def _more(self) -> bool:
        came = self.connection.recv(65536)
        self._held += came
        return bool(came)


def _read(stream: _Stream, turn: int) -> Seen | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3 or not first[2].startswith("HTTP/"):
        return None
    headers: dict[str, str] = {}
    while (line := stream.readline().decode("latin-1").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Seen(first[0], first[1], headers, body, turn)
