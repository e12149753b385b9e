"""HTTP/1.1 on gevent's sockets, for plans: one exchange at a time on one connection, each part timed, each fault named.

Locust's own clients are made for scripts. A plan needs what they hide: which part of the time was which, whether the
connection was new, which of a dozen ways it broke; and it must not do what they do: send a request a second time
because the connection was stale, or follow a redirect to somebody else's machine. `AnswerReader` knows no socket: bytes
go in as the network cut them. Its rules for answers that are not as they should be are those of the native engine.
"""

import errno
import re
import select
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

import gevent.socket

LONGEST_HEAD = 256 * 1024
MOST_HEADERS = 4096
LONGEST_CHUNK_LINE = 16 * 1024
READ_BYTES = 64 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?:[ \t][^\x00]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r\n")


class Broken(Exception):
    """An exchange that did not come to a whole answer; `kind` is the word for why."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class AnswerReader:
    """One answer, put together from bytes.

    `feed` returns whether the answer is whole; `finish` says that no more bytes will come. Both raise Broken.
    """

    def __init__(self, bodyless: bool, most_body_bytes: int) -> None:
        self.status = 0
        """0 until the head is whole."""
        self.minor = 1
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.keep_alive = False
        self.extra = False
        """Whether bytes came that belong to no answer."""
        self._bodyless = bodyless
        self._most = most_body_bytes
        self._buffer = bytearray()
        self._interim = 0
        self._framing = "head"
        self._left = 0
        self._chunk = "size"

    def feed(self, data: bytes) -> bool:
        """Takes bytes as they came."""
        self._buffer += data
        if self._framing == "head" and not self._read_head():
            return False
        return self._read_body()

    def finish(self, clean: bool = True) -> None:
        """The connection has ended; the answer is whole, or Broken says what is missing.

        `clean` is False where TLS was not closed as it should be: then an end proves nothing.
        """
        if self._framing == "head":
            raise Broken("short_head" if self._buffer or self._interim else "reset_before_headers")
        if self._framing == "length" or (self._framing == "close" and not clean):
            raise Broken("short_body")
        if self._framing == "chunked":
            raise Broken("bad_chunk")

    def _read_head(self) -> bool:
        while True:
            found = _HEAD_END.search(self._buffer)
            if not b"HTTP/1.".startswith(bytes(self._buffer[:7])):
                raise Broken("invalid_http")
            if self._interim + (found.end() if found else len(self._buffer)) > LONGEST_HEAD:
                raise Broken("header_too_large")
            if found is None:
                return False
            head = bytes(self._buffer[: found.start()])
            del self._buffer[: found.end()]
            self._parse_head(head)
            if self.status >= 200:
                return True
            self._interim += found.end()
            self.status, self._framing = 0, "head"

    def _parse_head(self, head: bytes) -> None:
        first, *lines = head.replace(b"\r\n", b"\n").rstrip(b"\r").split(b"\n")
        status = _STATUS_LINE.fullmatch(first)
        if status is None or int(status[2]) == 101:
            raise Broken("invalid_http")
        if len(lines) > MOST_HEADERS:
            raise Broken("header_too_large")
        self.minor, self.status, self.headers = int(status[1]), int(status[2]), []
        lengths: set[str] = set()
        encoding: str | None = None
        self.keep_alive = self.minor == 1
        for line in lines:
            found = _HEADER.fullmatch(line)
            if found is None:
                raise Broken("invalid_http")
            name, value = found[1].decode("ascii"), found[2].rstrip(b" \t").decode("latin-1")
            self.headers.append((name, value))
            match name.lower():
                case "content-length":
                    lengths.update(part.strip() for part in value.split(","))
                case "transfer-encoding":
                    encoding = value.rsplit(",", 1)[-1].strip().lower()
                case "connection":
                    options = {option.strip().lower() for option in value.split(",")}
                    self.keep_alive = "close" not in options and (self.keep_alive or "keep-alive" in options)
        self._frame(lengths, encoding)

    def _frame(self, lengths: set[str], encoding: str | None) -> None:
        """How the end of the body is known (RFC 9112 section 6.3)."""
        if len(lengths) > 1 or not all(text.isascii() and text.isdigit() and len(text) <= 18 for text in lengths):
            raise Broken("invalid_http")
        if self._bodyless or self.status < 200 or self.status in (204, 304):
            self._framing = "none"
        elif encoding is not None:
            self._framing = "chunked" if encoding == "chunked" else "close"
            self.keep_alive = self.keep_alive and not lengths
        elif lengths:
            self._framing, self._left = "length", int(lengths.pop())
            if self._left > self._most:
                raise Broken("body_too_large")
        else:
            self._framing = "close"
        if self._framing == "close":
            self.keep_alive = False

    def _read_body(self) -> bool:
        match self._framing:
            case "none":
                whole = True
            case "length":
                part = self._buffer[: self._left]
                self.body += part
                self._left -= len(part)
                del self._buffer[: len(part)]
                whole = self._left == 0
            case "chunked":
                whole = self._read_chunks()
            case _:
                self.body += self._buffer
                self._buffer.clear()
                whole = False
        if len(self.body) > self._most:
            raise Broken("body_too_large")
        self.extra = whole and bool(self._buffer)
        return whole

    def _read_chunks(self) -> bool:
        """Takes whatever is whole off the buffer; whether the last chunk and what follows it were there."""
        while True:
            if self._chunk == "data":
                part = self._buffer[: self._left]
                self.body += part
                self._left -= len(part)
                del self._buffer[: len(part)]
                if self._left or len(self.body) > self._most:
                    return False
                self._chunk = "behind"
            if self._chunk == "behind":
                if not b"\r\n".startswith(bytes(self._buffer[:2])):
                    raise Broken("bad_chunk")
                if len(self._buffer) < 2:
                    return False
                del self._buffer[:2]
                self._chunk = "size"
            end = self._buffer.find(b"\n") + 1
            if not end:
                if len(self._buffer) > LONGEST_CHUNK_LINE:
                    raise Broken("bad_chunk")
                return False
            line = bytes(self._buffer[:end])
            if not line.endswith(b"\r\n") or end > LONGEST_CHUNK_LINE:
                raise Broken("bad_chunk")
            del self._buffer[:end]
            if self._chunk == "trailer":
                if line == b"\r\n":
                    return True
                continue
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                raise Broken("bad_chunk")
            self._left = int(size[1], 16)
            self._chunk = "data" if self._left else "trailer"


@dataclass(slots=True)
class Timing:
    """Where the time and the bytes of an exchange, or of a chain of them, went; -1 for what did not happen."""

    dns_ns: int = -1
    connect_ns: int = -1
    tls_ns: int = -1
    send_ns: int = -1
    wait_ns: int = -1
    receive_ns: int = -1
    bytes_out: int = 0
    bytes_in: int = 0
    status: int = 0
    reused: int = 2
    """0 new connection, 1 one that had served before, 2 none."""
    protocol: str = ""

    def add(self, phase: str, ns: int) -> None:
        """Adds to a phase that may have happened before, in an earlier hop."""
        setattr(self, phase, max(getattr(self, phase), 0) + ns)


@dataclass(slots=True)
class Target:
    """Where a plan's requests go."""

    scheme: str
    host: str
    port: int
    addresses: list[str]
    context: ssl.SSLContext | None
    sni: str | None
    _resolved: list[tuple[Any, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Target":
        """From the `target` of a compiled plan."""
        context = None
        if told["scheme"] == "https":
            context = ssl.create_default_context(cafile=told["ca_file"])
            context.set_alpn_protocols(["http/1.1"])
            if told["insecure"]:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
        return cls(told["scheme"], told["host"], told["port"], told["addresses"], context, told["sni"])

    def resolved(self, timing: Timing) -> list[tuple[Any, Any]]:
        """Family and address of each place to connect to. Asks once for names; addresses need no asking."""
        if not self._resolved:
            begin = time.monotonic_ns()
            try:
                for address in self.addresses:
                    found = gevent.socket.getaddrinfo(address, self.port, type=socket.SOCK_STREAM)
                    self._resolved += [(entry[0], entry[4]) for entry in found]
            except socket.gaierror as error:
                self._resolved.clear()
                raise Broken("dns") from error
            timing.add("dns_ns", time.monotonic_ns() - begin)
        return self._resolved


class Connection:
    """A connection to the target, open and, between exchanges, idle."""

    __slots__ = ("_socket", "served")

    def __init__(self, opened: Any) -> None:
        self._socket = opened
        self.served = 0
        """Exchanges that have ended on it."""

    @classmethod
    def open(cls, target: Target, timing: Timing, deadline_ns: int) -> "Connection":
        """A new connection, TLS included. Raises Broken; tries the target's addresses in turn."""
        failed = Broken("connect_refused")
        for family, address in target.resolved(timing):
            begin = time.monotonic_ns()
            try:
                made = _connected(family, address, deadline_ns)
            except Broken as error:
                failed = error
                continue
            finally:
                timing.add("connect_ns", time.monotonic_ns() - begin)
            if target.context is None:
                return cls(made)
            begin = time.monotonic_ns()
            try:
                return cls(_secured(made, target.context, target.sni, deadline_ns))
            finally:
                timing.add("tls_ns", time.monotonic_ns() - begin)
        raise failed

    def silent(self) -> bool:
        """Whether an idle connection can be used again: open, and with nothing to say."""
        try:
            poll = select.poll()
            poll.register(self._socket.fileno(), select.POLLIN)
            return not poll.poll(0)
        except (OSError, ValueError):
            return False

    def exchange(self, request: bytes, reader: AnswerReader, timing: Timing, deadline_ns: int) -> bool:
        """Sends the request and reads the answer; whether the connection may be used again. Raises Broken.

        Status and protocol in `timing` become this answer's, phases and bytes are added.
        """
        timing.reused = 1 if self.served else 0
        began = time.monotonic_ns()
        written = self._write(request, timing, deadline_ns)
        sent = time.monotonic_ns()
        timing.add("send_ns", sent - began)
        first = -1
        try:
            while True:
                data, clean = self._read(reader, written, deadline_ns, first < 0)
                if first < 0:
                    first = time.monotonic_ns()
                    timing.add("wait_ns", first - sent)
                if not data:
                    reader.finish(clean)
                    return False
                timing.bytes_in += len(data)
                if reader.feed(data):
                    break
        finally:
            now = time.monotonic_ns()
            timing.add("wait_ns" if first < 0 else "receive_ns", now - (sent if first < 0 else first))
            timing.status = reader.status
            timing.protocol = f"HTTP/1.{reader.minor}" if reader.status else ""
        self.served += 1
        return written and reader.keep_alive and not reader.extra

    def close(self) -> None:
        """Closes; twice is fine."""
        self._socket.close()

    def _write(self, request: bytes, timing: Timing, deadline_ns: int) -> bool:
        """Whether all was taken. A server may answer and close before it has read everything."""
        try:
            self._socket.settimeout(_left_s(deadline_ns))
            self._socket.sendall(request)
        except TimeoutError as error:
            raise Broken("header_timeout") from error
        except OSError:
            return False
        timing.bytes_out += len(request)
        return True

    def _read(self, reader: AnswerReader, written: bool, deadline_ns: int, nothing_yet: bool) -> tuple[bytes, bool]:
        """What came; nothing at the end of the connection, and whether that end is one that can be trusted."""
        kind = "reset_mid_body" if reader.status else "reset_before_headers"
        if nothing_yet:
            kind = "stale_connection" if self.served else kind if written else "write_failed"
        clean = True
        try:
            self._socket.settimeout(_left_s(deadline_ns))
            data = bytes(self._socket.recv(READ_BYTES))
        except ssl.SSLEOFError:
            data, clean = b"", False
        except TimeoutError as error:
            raise Broken("body_timeout" if reader.status else "header_timeout") from error
        except OSError as error:
            raise Broken(kind) from error
        if not data and nothing_yet:
            raise Broken(kind)
        return data, clean


def _left_s(deadline_ns: int) -> float:
    left = deadline_ns - time.monotonic_ns()
    if left <= 0:
        raise TimeoutError
    return left / 1e9


def _connected(family: Any, address: Any, deadline_ns: int) -> Any:
    made = None
    try:
        made = gevent.socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(_left_s(deadline_ns))
        made.connect(address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except OSError as error:
        if made is not None:
            made.close()
        raise Broken(_connect_kind(error)) from error
    except BaseException:
        if made is not None:
            made.close()
        raise


def _connect_kind(error: OSError) -> str:
    match error:
        case TimeoutError():
            return "connect_timeout"
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return "connect_reset"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
        return "client_ports"
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
        return "client_fds"
    return "connect_refused"


def _secured(made: Any, context: ssl.SSLContext, sni: str | None, deadline_ns: int) -> Any:
    try:
        made.settimeout(_left_s(deadline_ns))
        return context.wrap_socket(made, server_hostname=sni, suppress_ragged_eofs=False)
    except ssl.SSLCertVerificationError as error:
        made.close()
        raise Broken("tls_certificate") from error
    except TimeoutError as error:
        made.close()
        raise Broken("connect_timeout") from error
    except (OSError, ValueError) as error:
        made.close()
        raise Broken("tls_handshake") from error
    except BaseException:
        made.close()
        raise
