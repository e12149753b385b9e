"""One look at the target before the load: is anything there, is it allowed, and is it what the user means to measure?

What comes in is a plan; what leaves is one probe per endpoint and the problems they show, as sentences. Each scenario
is gone through once, in order and without pauses, so that later steps have the variables of earlier ones. A probe is
the request that the load will send, byte for byte, but for the run's id: it belongs to no measurement. This module
talks to the target with the standard library, one request at a time, where that can: over HTTP/2, and where a scenario
has a conversation, the native engine makes the pass.
"""

import errno
import http.client
import io
import ipaddress
import random
import socket
import ssl
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from typing_extensions import override

from surgeline import __version__, units
from surgeline.engines import EngineError, Settings, native, once
from surgeline.plan import evaluate
from surgeline.plan.decode import BadEncoding
from surgeline.plan.feed import Feed
from surgeline.plan.jar import Jar
from surgeline.plan.model import Connection, Plan, Step, Tls
from surgeline.plan.upload import SentFile
from surgeline.samples import Outcome

PATIENCE_S = 10.0
"""How long a probe waits: longer than a cold start usually takes, shorter than a person's patience."""
LONGEST_S = 30.0
"""How long its answer may take to come whole, where something comes all the time."""
MOST_BODY_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 64 * 1024
"""Of a file that is sent."""
LEAST_TEXT_BYTES = 1_400
"""A smaller answer fits into one packet, and compressing it saves nothing."""
AGENT = f"surgeline/{__version__}"
"""As the load names itself, without a run's id: this belongs to no run."""
MOST_TEXTS = 50
"""Endpoints whose answers are asked for once more, to see whether they are compressed."""


class Unreachable(Exception):
    """Nothing can be measured: the message says what was tried and what to do."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One request of the preflight. `status` is 0 and `error` says why where no answer came."""

    endpoint: str
    method: str
    url: str
    status: int
    error: str
    service_ns: int
    bytes_in: int
    hops: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a user wants to know before the load starts. `fatal`: measuring would measure the wrong thing."""

    kind: Literal["auth", "not found", "redirects", "errors", "skipped"]
    sentence: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class SentAs:
    """How an endpoint sends a text answer to one who accepts gzip.

    `plain_bytes` is its length without compression, `gzip_bytes` what gzip makes of it, `encoding` the one that was
    used, empty for none.
    """

    endpoint: str
    content_type: str
    plain_bytes: int
    gzip_bytes: int
    encoding: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found. `addresses` are those of the target that accept connections."""

    addresses: tuple[str, ...]
    probes: tuple[Probe, ...]
    problems: tuple[Problem, ...]
    sent_as: tuple["SentAs", ...] = ()
    """Larger text answers to GET, asked for once more by one who accepts gzip."""

    @property
    def sentence(self) -> str:
        """`9 of 9 endpoints answer as the plan wants`."""
        if not self.probes:
            return "the target accepts connections; what it answers was not looked at"
        fine = sum(probe.outcome is Outcome.OK for probe in self.probes)
        return f"{fine} of {len(self.probes)} endpoints answer as the plan wants"


# --- Who may be measured ---------------------------------------------------------------------------------------------


def resolve(target: str, ip: int | None = None) -> tuple[str, ...]:
    """The addresses of the target's host, in the system's order, or those of one version of IP.

    Raises Unreachable where it has none.
    """
    parts = urlsplit(target)
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, port_of(target), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"The host {host} has no address ({reason}). Check its spelling, or your network.") from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    wanted = tuple(address for address in addresses if ip is None or (":" in address) == (ip == 6))
    if not wanted:
        raise Unreachable(
            f"The host {host} has no IPv{ip} address, only {', '.join(addresses[:3])}. Leave `ip` (-4, -6) out."
        )
    return wanted


def port_of(target: str) -> int:
    """The port of a URL, its scheme's own where it names none."""
    parts = urlsplit(target)
    return parts.port or (443 if parts.scheme == "https" else 80)


def foreign(addresses: Sequence[str]) -> tuple[str, ...]:
    """Those of the addresses that are neither loopback nor private: load on them needs its owner's consent."""
    return tuple(address for address in addresses if not _is_own(ipaddress.ip_address(address.split("%", 1)[0])))


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return _is_own(mapped)
    # ::1 lies in a range that is reserved as a whole.
    if address.is_unspecified or address.is_loopback:
        return True
    if address.is_link_local or address.is_multicast or address.is_reserved:
        return False
    return any(address in net for net in _PRIVATE if net.version == address.version)


_PRIVATE = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))


# --- Talking to the target -------------------------------------------------------------------------------------------


_STRAIGHT = Connection.model_validate({})
_USUAL = Tls.model_validate({})


@dataclass(frozen=True, slots=True)
class Way:
    """How the target is reached, where not straight: what a plan's `connection` and `tls` say, read and resolved.

    `proxy_addresses` are those of the proxy's host, `files` the texts of the files that `tls` names.
    """

    connection: Connection = _STRAIGHT
    tls: Tls = _USUAL
    insecure: bool = False
    proxy: evaluate.Proxy | None = None
    proxy_addresses: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def begin(self, target: str, addresses: Sequence[str]) -> socket.socket:
        """A connection to the first of the addresses, to the proxy, or to the Unix socket. Raises OSError."""
        if self.connection.unix_socket is not None:
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(PATIENCE_S)
            try:
                made.connect(self.connection.unix_socket)
            except OSError:
                made.close()
                raise
            return made
        port = port_of(target) if self.proxy is None else self.proxy.port
        failure: OSError = OSError("the host has no address")
        for address in addresses if self.proxy is None else self.proxy_addresses:
            try:
                return socket.create_connection((address, port), PATIENCE_S, self._source(address))
            except OSError as error:
                failure = error
        raise failure

    def _source(self, address: str) -> tuple[str, int] | None:
        """An address to begin from, of the kind that is needed; None for the system's choice."""
        return next(((source, 0) for source in self.connection.sources if (":" in source) == (":" in address)), None)

    def tunnel(self, made: socket.socket, target: str) -> None:
        """Has the proxy open the way to the target, for TLS. Raises Unreachable where it does not."""
        if self.proxy is None:
            return
        host = urlsplit(target).hostname or ""
        place = f"{f'[{host}]' if ':' in host else host}:{port_of(target)}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if self.proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self.proxy.authorization}")
        made.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        answer = http.client.HTTPResponse(made, method="CONNECT")
        try:
            answer.begin()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"The proxy {self.proxy.shown} does not answer CONNECT as HTTP proxies do "
                f"({str(error) or type(error).__name__}). Check `connection.proxy`."
            ) from error
        if not 200 <= answer.status < 300:
            hint = (
                "it wants a user and a password: http://user:{{env.PROXY_PASSWORD}}@…" if answer.status == 407 else ""
            )
            raise Unreachable(
                f"The proxy {self.proxy.shown} does not open the way to {place}: it answers {answer.status}"
                f"{'; ' + hint if hint else ''}."
            )

    def context(self) -> ssl.SSLContext:
        """What TLS begins from. Raises Unreachable where the plan's files are of no use."""
        context = ssl.create_default_context(cadata=self._text(self.tls.ca))
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        named = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
        context.minimum_version = named[min(self.tls.versions)]
        context.maximum_version = named[max(self.tls.versions)]
        certificate, key = self._text(self.tls.certificate), self._text(self.tls.key)
        if certificate is not None:
            # The library reads a certificate and its key from a file only.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
                both.write(f"{certificate}\n{key or ''}")
                both.flush()
                context.load_cert_chain(both.name, password=lambda: "")
        return context

    def _text(self, file: str | None) -> str | None:
        return None if file is None else self.files[file]


@dataclass(slots=True)
class Client:
    """One request at a time to one origin, each on a connection of its own, to addresses settled beforehand."""

    target: str
    addresses: tuple[str, ...]
    way: Way = field(default_factory=Way)
    files: Mapping[str, SentFile] = field(default_factory=dict)
    agent: str = AGENT
    _context: ssl.SSLContext | None = field(default=None, init=False)

    @property
    def authorization(self) -> str | None:
        """What the proxy wants to see; None where there is none or it wants nothing."""
        return None if self.way.proxy is None else self.way.proxy.authorization

    def send(self, request: evaluate.Request) -> evaluate.Answer:
        """Sends it and reads the whole answer, redirects not followed.

        Raises OSError or http.client.HTTPException, and Unreachable where a proxy or TLS is in the way.
        """
        made = self._connect()
        begin = time.monotonic_ns()
        try:
            through = "{0.scheme}://{0.netloc}".format(urlsplit(self.target))
            origin = through if self.way.proxy is not None and not self._secure else ""
            length = None if request.chunked else self._length(request)
            made.sendall(request.head(urlsplit(self.target).netloc, origin, length) + (request.body or b""))
            for piece in self._read(request):
                made.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if request.chunked else piece)
            if request.chunked and request.pieces:
                made.sendall(b"0\r\n\r\n")
            answer = http.client.HTTPResponse(_Patient(made), method=request.method)  # type: ignore[arg-type]  # a file of it
            answer.begin()
            came = answer.read(MOST_BODY_BYTES)
            return evaluate.Answer(answer.status, answer.getheaders(), came, time.monotonic_ns() - begin)
        except ssl.SSLError as error:
            raise Unreachable(tls_trouble(self.target, error)) from error
        finally:
            made.close()

    def speaks_http2(self) -> bool:
        """Whether it begins with SETTINGS where HTTP/2 is begun, negotiated in TLS or with prior knowledge (RFC 9113
        section 3). Raises Unreachable where its certificate is not trusted."""
        try:
            with self.way.begin(self.target, self.addresses) as plain:
                if not self._secure:
                    return _greets(plain)
                self.way.tunnel(plain, self.target)
                context = _usable(self.way)
                context.set_alpn_protocols(["h2"])
                name = self.way.tls.server_name or urlsplit(self.target).hostname or ""
                with context.wrap_socket(plain, server_hostname=name) as session:
                    return session.selected_alpn_protocol() == "h2" and _greets(session)
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(tls_trouble(self.target, error)) from error
        except OSError:
            return False

    def _length(self, request: evaluate.Request) -> int:
        sizes = (len(part) if isinstance(part, bytes) else self.files[part.file].size_bytes for part in request.pieces)
        return sum(sizes)

    def _read(self, request: evaluate.Request) -> Iterator[bytes]:
        """A body made of files, piece by piece."""
        for part in request.pieces:
            if isinstance(part, bytes):
                yield part
                continue
            with open(self.files[part.file].path, "rb") as opened:
                while piece := opened.read(PIECE_BYTES):
                    yield piece

    def look(self) -> None:
        """Opens a connection and closes it. Raises OSError, and Unreachable where a proxy or TLS is in the way."""
        self._connect().close()

    @property
    def _secure(self) -> bool:
        return self.target.startswith("https:")

    def _connect(self) -> socket.socket:
        host = urlsplit(self.target).hostname or ""
        plain = self.way.begin(self.target, self.addresses)
        try:
            if self._secure:
                self.way.tunnel(plain, self.target)
                if self._context is None:
                    self._context = _usable(self.way)
                plain = self._context.wrap_socket(plain, server_hostname=self.way.tls.server_name or host)
        except ssl.SSLError as error:
            plain.close()
            raise Unreachable(tls_trouble(self.target, error)) from error
        except ConnectionResetError as error:
            plain.close()
            raise Unreachable(f"TLS with {self.target} fails: {_BROKEN_OFF}.") from error
        except BaseException:
            plain.close()
            raise
        plain.settimeout(PATIENCE_S)
        return plain


class _Patient(io.RawIOBase):
    """What a socket brings until `LONGEST_S` have passed, as the library's HTTP reads it. Raises TimeoutError then."""

    def __init__(self, made: socket.socket) -> None:
        self._made, self._until = made, time.monotonic() + LONGEST_S

    def makefile(self, _: str) -> io.BufferedReader:
        """The only thing that the library wants of a socket."""
        return io.BufferedReader(self)

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        patience = min(left, PATIENCE_S)
        try:
            self._made.settimeout(max(patience, 0.001))
            return self._made.recv_into(buffer)
        except TimeoutError as error:
            said = "its answer has not come whole" if patience == left else "nothing has come"
            raise TimeoutError(f"{said} in {LONGEST_S if patience == left else PATIENCE_S:.0f} s") from error


def _usable(way: Way) -> ssl.SSLContext:
    try:
        return way.context()
    except (ssl.SSLError, ValueError) as error:
        raise Unreachable(
            "The files that `tls` names cannot be used: they must be PEM, and the certificate and its key, without a "
            f"password, must belong together ({getattr(error, 'reason', None) or error})."
        ) from error


def _greets(connection: socket.socket) -> bool:
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0)))
    head = b""
    while len(head) < _FRAME_HEAD:
        came = connection.recv(_FRAME_HEAD - len(head))
        if not came:
            return False
        head += came
    return head[3] == _SETTINGS and head[5:] == bytes(4) and int.from_bytes(head[:3]) <= _LONGEST_FRAME


_FRAME_HEAD = 9
_SETTINGS = 4
_LONGEST_FRAME = 16 * 1024
"""RFC 9113 section 4."""


_CERTIFICATE_TROUBLES = {
    10: "its certificate has expired",
    9: "its certificate is not valid yet",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
    18: "its certificate is signed by nobody but itself",
    19: "nobody who is trusted has signed its certificate",
    20: "nobody who is trusted has signed its certificate",
    21: "nobody who is trusted has signed its certificate",
}
"""What OpenSSL's codes of X509_V_ERR mean to a user."""

# A server that wants a certificate says so in an alert, which its closing of the connection may overtake.
_BROKEN_OFF = "it closes the connection during the handshake, as a server may that wants a client certificate"


_TLS_TROUBLES = (
    ("CERTIFICATE_REQUIRED", "it wants a client certificate: name one with `tls: {certificate: …, key: …}` or --cert"),
    ("UNKNOWN_CA", "it does not know who signed the client certificate"),
    ("ALERT_BAD_CERTIFICATE", "it does not accept the client certificate"),
    ("ALERT_DECRYPT_ERROR", "it does not accept the client certificate"),
    ("CERTIFICATE_EXPIRED", "the client certificate has expired"),
    ("PROTOCOL_VERSION", "it speaks no version of TLS that is allowed here: see `tls: {versions: …}`"),
    ("UNSUPPORTED_PROTOCOL", "it speaks no version of TLS that is allowed here: see `tls: {versions: …}`"),
    ("UNRECOGNIZED_NAME", "it does not know the name it is asked for: see `tls: {server_name: …}`"),
    ("HANDSHAKE_FAILURE", "it breaks the handshake off: a cipher, or a client certificate, is missing"),
    ("EOF", _BROKEN_OFF),
)
"""Words in OpenSSL's reasons, and what they mean."""

_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "UNEXPECTED_MESSAGE",
)


def tls_trouble(target: str, error: ssl.SSLError) -> str:
    """Why there is no TLS session with the target, and what to do, in a user's words."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        trouble = _CERTIFICATE_TROUBLES.get(error.verify_code, error.verify_message)
        return (
            f"TLS with {target} fails: {trouble}. For an authority of your own, name its file with `tls: {{ca: …}}` or "
            "--cacert; to accept any certificate, add `insecure: true` to the plan, or --insecure."
        )
    if any(word in reason for word in _NO_TLS):
        plain = "http" + target.removeprefix("https")
        return f"What listens on {target} does not speak TLS. If it speaks plain HTTP, write {plain}"
    said = next((words for word, words in _TLS_TROUBLES if word in reason or word in str(error)), None)
    return f"TLS with {target} fails: {said or reason.replace('_', ' ').lower() or error}."


def refuse_wrong_scheme(client: Client) -> None:
    """Raises Unreachable where what listens behind an http URL wants to be asked over TLS. Asks it."""
    if not client.target.startswith("http:"):
        return
    parts = urlsplit(client.target)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    secure = f"https://{host}:{port_of(client.target)}{parts.path}"
    try:
        Client(secure, client.addresses, replace(client.way, insecure=True, tls=_USUAL)).look()
    except (OSError, Unreachable, http.client.HTTPException):
        return
    raise Unreachable(f"What listens on {client.target} speaks TLS, not plain HTTP. Write {secure}")


def reachable(target: str, addresses: Sequence[str], way: Way | None = None) -> tuple[str, ...]:
    """Those of the addresses that accept a connection; all of them where a proxy or a Unix socket does.

    Raises Unreachable, with what to do, where none does.
    """
    way = way or Way()
    if way.connection.unix_socket is not None or way.proxy is not None:
        try:
            way.begin(target, addresses).close()
        except OSError as error:
            raise Unreachable(_way_trouble(way, error)) from error
        return tuple(addresses)
    open_ones, failures = [], []
    for address in addresses:
        try:
            way.begin(target, (address,)).close()
            open_ones.append(address)
        except OSError as error:
            failures.append(error)
    if open_ones:
        return tuple(open_ones)
    failure = failures[0] if failures else OSError("no address")
    if isinstance(failure, ConnectionRefusedError):
        raise Unreachable(
            f"Nothing is listening on {target} (connection refused). Start your app first, then run this again."
        )
    if isinstance(failure, TimeoutError):
        raise Unreachable(
            f"{target} does not answer: no connection within {PATIENCE_S:.0f} s. "
            "Check the address, and any firewall on the way."
        )
    if failure.errno == errno.EADDRNOTAVAIL and way.connection.sources:
        raise Unreachable(
            f"Connections cannot begin from {way.connection.sources[0]}: it is not an address of this machine. "
            "Check `connection.source_addresses`."
        )
    raise Unreachable(f"{target} cannot be reached: {failure.strerror or failure}. Check the address and the network.")


def _way_trouble(way: Way, failure: OSError) -> str:
    reason = failure.strerror or str(failure) or type(failure).__name__
    if way.proxy is not None:
        return f"The proxy {way.proxy.shown} cannot be reached ({reason}). Check `connection.proxy`."
    socket_path = way.connection.unix_socket
    if isinstance(failure, FileNotFoundError):
        return f"There is no Unix socket {socket_path}. Start your app first, then run this again."
    if isinstance(failure, ConnectionRefusedError):
        return f"Nothing is listening on the Unix socket {socket_path}. Start your app first, then run this again."
    return f"The Unix socket {socket_path} cannot be opened ({reason})."


# --- The probes ------------------------------------------------------------------------------------------------------


def check(
    plan: Plan,
    addresses: Sequence[str],
    environment: Mapping[str, str],
    data: Mapping[str, Feed] | None = None,
    files: Mapping[str, SentFile] | None = None,
    way: Way | None = None,
    agent: str | None = None,
) -> Preflight:
    """Goes through every scenario once, with the first row of its data, and says what a user wants to know beforehand.

    Raises Unreachable where nothing is listening, the first connection breaks, or TLS fails: there is nothing to
    measure. Raises evaluate.MissingVariable where the plan names an environment value that is not set.
    """
    constants = evaluate.constants(plan, environment)
    for name, feed in (data or {}).items():
        constants |= evaluate.cells(name, feed.columns, feed.rows[0])
    way = way or Way(plan.connection, plan.tls, plan.insecure)
    open_ones = reachable(plan.target, addresses, way)
    client = Client(plan.target, open_ones, way, files or {}, agent or AGENT)
    probes: dict[str, Probe] = {}
    problems: list[Problem] = []
    http2 = plan.connection.http == "2"
    if http2 and not client.speaks_http2():
        said = f"{plan.target} does not speak HTTP/2, which the plan asks for with `connection: {{http: 2}}`."
        problems.append(Problem("errors", said, True))
        http2 = False
    texts: dict[str, SentAs] = {}
    settings = Settings(
        *("look", time.monotonic_ns(), None, agent or AGENT),
        environment=environment,
        data=data or {},
        sent_files=files or {},
        addresses=open_ones,
        proxy_addresses=way.proxy_addresses,
        files=way.files,
    )
    absent = native.available()
    for name in plan.scenarios:
        needs = "HTTP/2" if http2 else "its conversations" if _talks(plan, name) else None
        if needs is not None and absent is not None:
            problems.append(
                Problem("skipped", f"{name} was not looked at: only the native engine speaks {needs}.", False)
            )
            continue
        seen = (
            _walk(plan, name, client, constants, problems, texts)
            if needs is None
            else _pass(plan, name, settings, problems)
        )
        for probe in seen:
            probes.setdefault(probe.endpoint, probe)
    found = tuple(probes.values())
    if found and all(probe.status in (0, 400) for probe in found):
        refuse_wrong_scheme(client)
    if found and all(probe.status == 0 for probe in found):
        raise Unreachable(f"{plan.target} accepts connections and answers nothing usable: {found[0].error}.")
    return Preflight(open_ones, found, (*problems, *_judge(plan, found)), tuple(texts.values()))


def _walk(
    plan: Plan,
    name: str,
    client: Client,
    constants: Mapping[str, str],
    problems: list[Problem],
    texts: dict[str, SentAs],
) -> Iterator[Probe]:
    scope = evaluate.Scope(dict(constants), random.Random(1), time.time, jar=Jar(plan.target))
    own = evaluate.own_headers(plan, client.agent, client.authorization)
    for step in _steps(plan, name):
        try:
            request = evaluate.prepare(plan, step, scope, own)
        except evaluate.MissingVariable as missing:
            problems.append(
                Problem(
                    "skipped",
                    f"{step.endpoint} was not tried: {{{{{missing.args[0]}}}}} did not come out of "
                    f"the steps before it in {name}.",
                    False,
                )
            )
            return
        yield _probe(plan, step, request, client, scope, texts)


def _steps(plan: Plan, name: str) -> tuple[Step, ...]:
    return (*plan.scenarios[name].once, *plan.scenarios[name].steps)


def _talks(plan: Plan, name: str) -> bool:
    return any(step.talks for step in _steps(plan, name))


def _pass(plan: Plan, name: str, settings: Settings, problems: list[Problem]) -> Iterator[Probe]:
    """The same by the native engine: it speaks what the library does not."""
    try:
        passed = once.go_through(plan, name, settings, LONGEST_S)
    except EngineError as trouble:
        problems.append(Problem("skipped", f"{name} was not looked at: {trouble}.", False))
        return
    for sent in passed.requests:
        error = "redirect loop" if sent.error == "redirect_loop" else _in_words(sent.error)
        if sent.outcome is Outcome.ABORTED:
            error = f"it is not over after {LONGEST_S:.0f} s"
            problems.append(Problem("skipped", f"{sent.endpoint} was not looked at to its end: {error}.", False))
        yield Probe(
            sent.endpoint,
            sent.method,
            sent.url,
            sent.status,
            error,
            max(sent.end_ns - sent.start_ns, 0),
            sent.bytes_in,
            passed.hops.get(sent.endpoint, 0),
            sent.outcome,
        )
    rest = _steps(plan, name)[len(passed.requests) :]
    if rest and passed.requests:
        why = f"{passed.requests[-1].endpoint} before it did not answer as the plan wants"
        problems.append(Problem("skipped", f"{rest[0].endpoint} was not tried: {why}.", False))


def _in_words(error: str) -> str:
    """What is wrong as the engine names it, a kind in words."""
    from surgeline.findings.kinds import KINDS  # the room behind it takes a moment to load, and is rarely needed

    kind = KINDS.get(error)
    return error if kind is None else f"{kind.what} ({error})"


def _probe(
    plan: Plan,
    step: Step,
    request: evaluate.Request,
    client: Client,
    scope: evaluate.Scope,
    texts: dict[str, SentAs],
) -> Probe:
    url = client.target + request.path
    jar = scope.jar or Jar(client.target)
    hops, begin = 0, time.monotonic_ns()
    current, answer = request, None
    try:
        while True:
            answer = client.send(current)
            jar.update(answer.headers, current.path, scope.now_s())
            location = answer.header("location")
            if answer.status not in (301, 302, 303, 307, 308) or location is None or hops >= plan.redirects:
                break
            following = urljoin(urljoin(client.target + "/", current.path), location)
            if urlsplit(following)[:2] != urlsplit(client.target)[:2]:
                break
            hops += 1
            parts = urlsplit(following)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            current = current.redirected(answer.status, path, jar.header(path, scope.now_s()))
    except (OSError, http.client.HTTPException) as error:
        said = str(error) or type(error).__name__
        return Probe(step.endpoint, request.method, url, 0, said, time.monotonic_ns() - begin, 0, hops, Outcome.ERROR)
    wrong = evaluate.judge(step, answer, scope)
    outcome = Outcome.FAILURE if wrong else Outcome.OK
    if not wrong:
        try:
            scope.variables.update(evaluate.extract(step, answer))
        except evaluate.MissingVariable as missing:
            outcome, wrong = Outcome.FAILURE, f"nothing to extract {missing.args[0]} from"
        except BadEncoding:
            outcome, wrong = Outcome.FAILURE, "bad_encoding"
    if outcome is Outcome.OK and hops == 0 and step.endpoint not in texts and len(texts) < MOST_TEXTS:
        seen = _sent_as(step.endpoint, request, answer, client)
        if seen is not None:
            texts[step.endpoint] = seen
    if hops >= plan.redirects > 0 and 300 <= answer.status < 400:
        outcome, wrong = Outcome.FAILURE, "redirect loop"
    return Probe(
        step.endpoint,
        request.method,
        url,
        answer.status,
        wrong,
        time.monotonic_ns() - begin,
        len(answer.body),
        hops,
        outcome,
    )


def _sent_as(endpoint: str, request: evaluate.Request, answer: evaluate.Answer, client: Client) -> SentAs | None:
    """How a text answer of some size is sent to one who accepts gzip; None for others, and where nothing comes."""
    kind = (answer.header("content-type") or "").split(";")[0].strip().lower()
    asked = {name.lower() for name, _ in request.headers}
    text = kind.startswith("text/") or kind.endswith(("json", "xml", "javascript"))
    if request.method != "GET" or not text or len(answer.body) < LEAST_TEXT_BYTES or "accept-encoding" in asked:
        return None
    again = replace(request, headers=(*request.headers, ("accept-encoding", "gzip")), body=None)
    try:
        packed = client.send(again)
    except (OSError, http.client.HTTPException):
        return None
    if packed.status != answer.status:
        return None
    size = len(zlib.compress(answer.body, 6))
    return SentAs(endpoint, kind, len(answer.body), size, (packed.header("content-encoding") or "").strip().lower())


def _judge(plan: Plan, probes: Sequence[Probe]) -> Iterator[Problem]:
    """What the probes say together: a wall, a wrong base path, a loop; one endpoint's own trouble otherwise."""
    bad = [probe for probe in probes if probe.outcome not in (Outcome.OK, Outcome.ABORTED)]
    walls = [probe for probe in bad if probe.status in (401, 403)]
    missing = [probe for probe in bad if probe.status in (404, 405, 410)]
    loops = [probe for probe in bad if probe.error == "redirect loop"]
    if walls:
        everywhere = len(walls) == len(probes)
        which = "Every endpoint" if everywhere else _names(walls)
        yield Problem(
            "auth",
            f"{which} answers {walls[0].status}: what would be measured is the login wall. "
            'Add a token, as in -H "Authorization: Bearer …" or `auth: {bearer: "{{env.TOKEN}}"}` in a plan.',
            everywhere,
        )
    if missing:
        everywhere = len(missing) == len(probes)
        which = "Every endpoint" if everywhere else _names(missing)
        yield Problem(
            "not found",
            f"{which} answers {missing[0].status}. Check the target {plan.target}: a base path may be missing.",
            everywhere,
        )
    if loops:
        everywhere = len(loops) == len(probes)
        yield Problem(
            "redirects",
            f"{_names(loops)} redirects without end: after {plan.redirects} hops still {loops[0].status}. "
            "Often that is http against https, or a missing cookie.",
            everywhere,
        )
    others = [probe for probe in bad if probe not in (*walls, *missing, *loops)]
    for probe in others[:5]:
        said = probe.error or f"status {probe.status}"
        yield Problem("errors", f"{probe.endpoint} does not answer as the plan wants: {said}.", False)
    if len(others) > 5:
        yield Problem("errors", f"{len(others) - 5} more endpoints do not answer as the plan wants.", False)
    if probes and len(others) == len(probes) and all(probe.status >= 500 for probe in others):
        yield Problem("errors", "Every endpoint answers with a server error before there is any load.", True)


def _names(probes: Sequence[Probe]) -> str:
    names = [probe.endpoint for probe in probes]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def describe_probe(probe: Probe) -> str:
    """One line: status or error, time, size."""
    if probe.status == 0:
        return f"{probe.endpoint}: {probe.error}"
    time_taken, size = units.format_duration(probe.service_ns), units.format_size(probe.bytes_in)
    return f"{probe.endpoint}: {probe.status}, {time_taken}, {size}"
