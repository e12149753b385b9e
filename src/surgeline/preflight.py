"""One look at the target before the load: is anything there, is it allowed, and is it what the user means to measure?

What comes in is a plan; what leaves is one probe per endpoint and the problems they show, as sentences. Each scenario
is gone through once, in order and without pauses, so that later steps have the variables of earlier ones. Probes carry
no run's id: they belong to no measurement. This module talks to the target with the standard library, one request at
a time; it knows nothing of engines.
"""

import http.client
import ipaddress
import random
import socket
import ssl
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urljoin, urlsplit

from surgeline import units
from surgeline.plan import evaluate
from surgeline.plan.decode import BadEncoding
from surgeline.plan.feed import Feed
from surgeline.plan.model import Plan, Step
from surgeline.plan.upload import SentFile
from surgeline.samples import Outcome

PATIENCE_S = 10.0
"""How long a probe waits: longer than a cold start usually takes, shorter than a person's patience."""
MOST_BODY_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 64 * 1024
"""Of a file that is sent."""
LEAST_TEXT_BYTES = 1_400
"""A smaller answer fits into one packet, and compressing it saves nothing."""
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
        fine = sum(probe.outcome is Outcome.OK for probe in self.probes)
        return f"{fine} of {len(self.probes)} endpoints answer as the plan wants"


# --- Who may be measured ---------------------------------------------------------------------------------------------


def resolve(target: str) -> tuple[str, ...]:
    """The addresses of the target's host, in the system's order. Raises Unreachable where it has none."""
    parts = urlsplit(target)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"The host {host} has no address ({reason}). Check its spelling, or your network.") from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def foreign(addresses: Sequence[str]) -> tuple[str, ...]:
    """Those of the addresses that are neither loopback nor private: load on them needs its owner's consent."""
    return tuple(address for address in addresses if not _is_own(ipaddress.ip_address(address.split("%", 1)[0])))


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return _is_own(mapped)
    if address.is_unspecified:
        return True
    if address.is_link_local or address.is_multicast or address.is_reserved:
        return False
    return (
        address.is_loopback
        or address in _SHARED_BY_NOBODY
        or any(address in net for net in _PRIVATE if net.version == address.version)
    )


_PRIVATE = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "127.0.0.0/8")
)
_SHARED_BY_NOBODY = frozenset((ipaddress.ip_address("::1"),))


# --- Talking to the target -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Client:
    """One request at a time to one origin, each on a connection of its own, to addresses settled beforehand."""

    target: str
    addresses: tuple[str, ...]
    insecure: bool = False
    patience_s: float = PATIENCE_S
    files: Mapping[str, SentFile] = field(default_factory=dict)
    _context: ssl.SSLContext | None = field(default=None, init=False)

    def send(self, request: evaluate.Request) -> evaluate.Answer:
        """Sends it and reads the whole answer, redirects not followed. Raises OSError or http.client.HTTPException."""
        connection = self._connect()
        begin = time.monotonic_ns()
        try:
            headers = dict(request.headers)
            headers.setdefault("accept", "*/*")
            body: bytes | Iterator[bytes] | None = request.body
            if request.pieces:
                body = self._read(request)
                if not request.chunked:
                    headers["content-length"] = str(self._length(request))
            connection.request(request.method, request.path, body, headers)
            answer = connection.getresponse()
            came = answer.read(MOST_BODY_BYTES)
            return evaluate.Answer(answer.status, answer.getheaders(), came, time.monotonic_ns() - begin)
        finally:
            connection.close()

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

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.target)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        plain = self._reach(port)
        try:
            if secure:
                plain = self._tls().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        connection = http.client.HTTPConnection(host, port, timeout=self.patience_s)
        connection.sock = plain
        return connection

    def _reach(self, port: int) -> socket.socket:
        failure: OSError = OSError("the host has no address")
        for address in self.addresses:
            try:
                return socket.create_connection((address, port), timeout=self.patience_s)
            except OSError as error:
                failure = error
        raise failure

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            if self.insecure:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
        return self._context


def reachable(target: str, addresses: Sequence[str], insecure: bool = False) -> tuple[str, ...]:
    """Those of the addresses that accept a connection. Raises Unreachable, with what to do, where none does."""
    parts = urlsplit(target)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    open_ones, failures = [], []
    for address in addresses:
        try:
            socket.create_connection((address, port), timeout=PATIENCE_S).close()
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
    raise Unreachable(f"{target} cannot be reached: {failure.strerror or failure}. Check the address and the network.")


# --- The probes ------------------------------------------------------------------------------------------------------


def check(
    plan: Plan,
    addresses: Sequence[str],
    environment: Mapping[str, str],
    data: Mapping[str, Feed] | None = None,
    files: Mapping[str, SentFile] | None = None,
) -> Preflight:
    """Goes through every scenario once, with the first row of its data, and says what a user wants to know beforehand.

    Raises Unreachable where nothing is listening, the first connection breaks, or TLS fails: there is nothing to
    measure. Raises evaluate.MissingVariable where the plan names an environment value that is not set.
    """
    constants = evaluate.constants(plan, environment)
    for name, feed in (data or {}).items():
        constants |= evaluate.cells(name, feed.columns, feed.rows[0])
    open_ones = reachable(plan.target, addresses)
    client = Client(plan.target, open_ones, plan.insecure, files=files or {})
    probes: dict[str, Probe] = {}
    problems: list[Problem] = []
    texts: dict[str, SentAs] = {}
    for name in plan.scenarios:
        for probe in _walk(plan, name, client, constants, problems, texts):
            probes.setdefault(probe.endpoint, probe)
    found = tuple(probes.values())
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
    scope = evaluate.Scope(dict(constants), random.Random(1), time.time)
    for step in (*plan.scenarios[name].once, *plan.scenarios[name].steps):
        try:
            request = evaluate.prepare(plan, step, scope)
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


def _probe(
    plan: Plan,
    step: Step,
    request: evaluate.Request,
    client: Client,
    scope: evaluate.Scope,
    texts: dict[str, SentAs],
) -> Probe:
    url = client.target + request.path
    hops, begin = 0, time.monotonic_ns()
    current, answer = request, None
    try:
        while True:
            answer = client.send(current)
            for cookie, value in evaluate.set_cookies(answer.headers).items():
                scope.cookies[cookie] = value
            location = answer.header("location")
            if answer.status not in (301, 302, 303, 307, 308) or location is None or hops >= plan.redirects:
                break
            following = urljoin(urljoin(client.target + "/", current.path), location)
            if urlsplit(following)[:2] != urlsplit(client.target)[:2]:
                break
            hops += 1
            parts = urlsplit(following)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            keep = answer.status in (307, 308)
            method = request.method if keep else ("HEAD" if request.method == "HEAD" else "GET")
            kept = (request.body, request.pieces, request.chunked) if keep else (None, (), False)
            current = evaluate.Request(step.endpoint, method, path, current.headers, *kept)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or error.reason or str(error)
        raise Unreachable(
            f"TLS with {client.target} fails: {reason}. "
            "For a certificate of your own making, add `insecure: true` to the plan, or --insecure."
        ) from error
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
    again = evaluate.Request(endpoint, "GET", request.path, (*request.headers, ("accept-encoding", "gzip")), None)
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
    bad = [probe for probe in probes if probe.outcome is not Outcome.OK]
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
