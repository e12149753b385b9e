"""Servers on loopback that a target's way leads to: plain, over TLS, on a Unix socket, behind a proxy."""

import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """What a server saw: the request lines, their headers, and from where each connection came."""

    place: Any = None
    lines: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    peers: list[Any] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Of a server that has one."""
        return int(self.place[1])


class _Handler(BaseHTTPRequestHandler):
    """Answers every GET with a little JSON; `/page` with a link."""

    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "somebody"

    def do_GET(self) -> None:
        """Answers."""
        seen: Seen = self.server.seen  # type: ignore[attr-defined]
        seen.lines.append(self.requestline)
        seen.headers.append({name.lower(): value for name, value in self.headers.items()})
        body = b'{"id": 1}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """Opens the way, for who knows the password where the server has one."""
        seen: Seen = self.server.seen  # type: ignore[attr-defined]
        seen.lines.append(self.requestline)
        seen.headers.append({name.lower(): value for name, value in self.headers.items()})
        wanted = self.server.wanted  # type: ignore[attr-defined]
        if wanted is not None and self.headers.get("proxy-authorization") != wanted:
            self.send_response(407)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), 5) as far:
            self.send_response(200)
            self.end_headers()
            near = self.connection
            while True:
                for one in select.select([near, far], [], [], 10)[0] or [None]:
                    data = one.recv(65536) if one is not None else b""
                    if not data:
                        self.close_connection = True
                        return
                    (far if one is near else near).sendall(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 256
    seen: Seen
    wanted: str | None = None
    context: ssl.SSLContext | None = None

    def get_request(self) -> Any:
        """Notes from where it comes."""
        connection, peer = super().get_request()
        self.seen.peers.append(peer)
        return connection, peer

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, the handshake first."""
        if self.context is not None:
            request.settimeout(5)
            try:
                request = self.context.wrap_socket(request, server_side=True)
                self.seen.resumed.append(bool(request.session_reused))
                super().finish_request(request, client_address)
            except OSError:
                pass
            finally:
                # An alert that is on its way must not be lost by a reset.
                try:
                    request.shutdown(socket.SHUT_WR)
                    while request.recv(65536):
                        pass
                except (OSError, ValueError):
                    pass
                request.close()
            return
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """What a client breaks off is no matter."""


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _SocketServer(_Server):
    address_family = socket.AF_UNIX


@contextmanager
def serving(
    host: str = "127.0.0.1",
    *,
    path: Path | None = None,
    context: ssl.SSLContext | None = None,
    wanted: str | None = None,
) -> Iterator[Seen]:
    """A server on a port of its own, or on a Unix socket; with `context` over TLS. It is a proxy as well."""
    kind = _SocketServer if path is not None else _SixServer if ":" in host else _Server
    server = kind(str(path) if path is not None else (host, 0), _Handler)  # type: ignore[arg-type]
    server.seen, server.wanted, server.context = Seen(server.server_address), wanted, context
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
