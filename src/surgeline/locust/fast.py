"""`FastHttpUser` on the native engine: the surface of Locust's own, over connections of ours.

A request without anything unusual is put together from what the last one like it consisted of, sent, and its answer is
wrapped without being looked into. Everything else goes the stock client's way down to the socket, and only there over
the native connections: redirects, retries, cookies and exceptions are then its own code's. What the native connections
do not do (streams, proxies, SSL contexts and pools of the user's own) goes over the stock client's sockets.
"""

import re
import time
from datetime import timedelta
from http.cookiejar import Cookie, CookieJar
from json import dumps
from typing import Any

import gevent
from geventhttpclient import useragent
from geventhttpclient.client import HTTPClient
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from geventhttpclient.useragent import CompatRequest
from locust.contrib import fasthttp as stock
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpSession, FastResponse, LocustUserAgent
from locust.user import User

from surgeline._engine import Repeater, Shot
from surgeline.locust.native import BEFORE_SENDING, UNANSWERED, Ended, Origin, nanoseconds, transport_error
from surgeline.locust.report import Told, reporter
from surgeline.locust.tasks import Turns
from surgeline.locust.unchanged import is_unchanged
from surgeline.locust.watched import sends

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_TLS = frozenset({"tls_handshake", "tls_certificate"})
_PLAIN_PATH = re.compile(r"/(?!/)[\w\-.~/]*(?:\?[\w\-.~/=&+:,*]+)?", re.ASCII)
"""Paths that are sent as they are given."""
_MOST_KEPT = 5_000
"""Of anything that is kept by what users ask for."""
_FINE = frozenset({200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 304})
"""Statuses that are neither failures nor redirects."""
_VALID: Any = LocustUserAgent.valid_response_codes
if frozenset(_VALID) != _FINE | {301, 302, 303, 307, 308}:
    _VALID = object()  # somebody has changed them: no agent has these
_METHODS = frozenset(
    {"request", "_build_url", "_send_request_safe_mode", "get", "options", "head", "post", "put", "patch", "delete"}
    | {"urlopen", "_urlopen", "_make_request", "_verify_status", "_handle_error"}
)
"""The methods of a session and its agent that a request goes through."""
_REQUEST = frozenset({"request"})
_FILES = frozenset({stock.__file__, useragent.__file__, __file__})
_ABSOLUTE = stock.absolute_http_url_regexp


class Jar(CookieJar):
    """A cookie jar that knows when it has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self._made: dict[tuple[str, int, str], bytes] = {}
        self._made_at = -1
        self.until = 0.0
        self._rooted = True

    def set_cookie(self, cookie: Cookie) -> None:
        """As in the base class."""
        self.changes += 1
        super().set_cookie(cookie)

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """As in the base class."""
        self.changes += 1
        super().clear(domain, path, name)

    def line(self, origin: tuple[str, int], url: str) -> bytes:
        """The `Cookie` line for a URL, with its end; empty without cookies."""
        if not self._cookies:  # type: ignore[attr-defined]  # the dict of all cookies
            return b""
        if self._made_at != self.changes or time.time() >= self.until:
            self.clear_expired_cookies()
            self._made.clear()
            cookies = list(self)
            self.until = min((c.expires for c in cookies if c.expires is not None), default=float("inf"))
            self._rooted = all(cookie.path == "/" for cookie in cookies)
            self._made_at = self.changes
        key = (*origin, "" if self._rooted else url.partition("?")[0])
        found = self._made.get(key)
        if found is None:
            request = stock.FastRequest(url, headers=Headers())
            self.add_cookie_header(request)
            value = request.headers.get("Cookie")
            found = f"Cookie: {value}\r\n".encode("latin-1") if value else b""
            if len(self._made) >= _MOST_KEPT:
                self._made.clear()
            self._made[key] = found
        return found


class Message:
    """An answer in the form of geventhttpclient's response objects, read whole before it is shown."""

    __slots__ = ("_headers", "_left", "_sent_request", "answer", "begin", "message_complete", "method")

    def __init__(self, answer: Ended, begin: int, method: str, sent: str | None = None) -> None:
        self.answer = answer
        self.begin = begin
        """When the request was begun, on whichever connection."""
        self.method = method
        self._sent_request = sent
        self._headers: Headers | None = None
        self._left: bytes | None = None
        self.message_complete = True

    @property
    def _headers_index(self) -> Headers:
        if self._headers is None:
            self._headers = headers = Headers()
            for name, value in self.answer.headers():
                headers.add(name, value)
        return self._headers

    def get_code(self) -> int:
        """The status."""
        return int(self.answer.status)

    @property
    def status_code(self) -> int:
        """The status."""
        return int(self.answer.status)

    @property
    def status_message(self) -> str:
        """What follows the status."""
        return reason_of(self.answer.head)

    @property
    def version(self) -> str:
        """The protocol's."""
        return f"HTTP/1.{self.answer.minor}"

    @property
    def content_length(self) -> int | None:
        """As announced."""
        length = self._headers_index.get("content-length")
        return int(length) if isinstance(length, str) else None

    length = content_length

    def read(self, length: int | None = None) -> bytes:
        """What is left of the body, or as much of it."""
        if self.answer.error is not None and self._left is None:
            self._left = self.answer.body
            raise body_error(self.answer.error)
        left = self.answer.body if self._left is None else self._left
        if length is None:
            self._left = b""
            return left
        self._left = left[length:]
        return left[:length]

    def readline(self, sep: bytes = b"\r\n") -> bytes:
        """The next line of the body, with its end."""
        left = self.answer.body if self._left is None else self._left
        at = left.find(sep)
        if at < 0:
            return b""
        self._left = left[at + len(sep) :]
        return left[: at + len(sep)]

    def __iter__(self) -> "Message":
        return self

    def __next__(self) -> bytes:
        data = self.read(4096)
        if not data:
            raise StopIteration
        return data

    def release(self) -> None:
        """Nothing is held."""

    def info(self) -> Headers:
        """The headers."""
        return self._headers_index

    @property
    def headers(self) -> Any:
        """The headers' items."""
        return self._headers_index.items()

    def items(self) -> Any:
        """The headers' items."""
        return self._headers_index.items()

    def get(self, key: str, default: str | None = None) -> Any:
        """A header."""
        return self._headers_index.get(key, default)  # type: ignore[arg-type]

    def __getitem__(self, key: str) -> Any:
        return self._headers_index[key]

    def __contains__(self, key: str) -> bool:
        return key in self._headers_index

    def should_keep_alive(self) -> bool:
        """Whether the answer allows for another on its connection."""
        return True

    def should_close(self) -> bool:
        """The opposite."""
        return False


def reason_of(head: bytes) -> str:
    """The words behind the status in a head."""
    return head.partition(b"\r\n")[0].decode("latin-1").partition(" ")[2].partition(" ")[2]


class _Lazy:
    """What is worked out of an answer when somebody asks for it."""

    __dict__: dict[str, Any]
    _cached_content: bytes
    _elapsed: float | None
    _history: list[Any]

    @property
    def _response(self) -> Any:
        held = self.__dict__
        message = held.get("_message")
        if message is None and (answer := held.get("_native")) is not None:
            message = held["_message"] = Message(answer, answer.begin, answer.shot.method)
            message._left = b""
        return message

    @_response.setter
    def _response(self, value: Any) -> None:
        self.__dict__["_message"] = value

    @property
    def content(self) -> Any:
        """The body."""
        try:
            return self._cached_content
        except AttributeError:
            answer = self.__dict__.get("_native")
            if answer is None:
                return super().content  # type: ignore[misc]  # the class beside this one has it
            self._cached_content = answer.body
            return self._cached_content

    @property
    def elapsed(self) -> timedelta | None:
        """Until the first byte."""
        try:
            took = self._elapsed
        except AttributeError:
            took = self._response.answer.first_byte_s
        return None if took is None else timedelta(seconds=took)

    @property
    def history(self) -> list[Any]:
        """The answers that redirected here."""
        try:
            return self._history
        except AttributeError:
            self._history = []
            return self._history

    @property
    def headers(self) -> Any:
        """The answer's."""
        return self._response._headers_index

    @headers.setter
    def headers(self, value: Any) -> None:
        if value is not None and self._response is not None:
            self._response._headers = value

    @property
    def request(self) -> Any:
        """What was asked."""
        request = self.__dict__.get("_made_request")
        answer = self.__dict__.get("_native")
        asked = self.__dict__.get("_asked") if answer is None else answer.shot.asked
        if request is None and asked is not None:
            agent, method, url, headers, payload, _ = asked
            sent = agent.default_headers.copy()
            sent.update(headers)
            request = agent._make_request(url, method=method, headers=sent, payload=payload)
            if (cookies := agent.cookie_line(url)) is not None:
                request.headers.add("Cookie", cookies)
            self.__dict__["_made_request"] = request
        return request

    @request.setter
    def request(self, value: Any) -> None:
        self.__dict__["_made_request"] = value


class Response(_Lazy, FastResponse):
    """A `FastResponse` whose headers, request and body are worked out when they are asked for."""


class CatchingResponse(_Lazy, stock.ResponseContextManager):
    """A `ResponseContextManager`, likewise."""

    _told: Told | None = None

    def _report_request(self) -> None:
        if self._told is None:
            super()._report_request()  # type: ignore[no-untyped-call]
        else:
            reporter(self._request_event).fire(self._told)


for _class, _name in ((Response, "FastResponse"), (CatchingResponse, "ResponseContextManager")):
    # Under the names by which locustfiles and their logs know them.
    _class.__name__ = _class.__qualname__ = _name


class StockCatchingResponse(stock.ResponseContextManager):
    """For answers that are no answers."""

    _told: Told | None = None

    def _report_request(self) -> None:
        if self._told is None:
            super()._report_request()  # type: ignore[no-untyped-call]
        else:
            reporter(self._request_event).fire(self._told)


StockCatchingResponse.__name__ = StockCatchingResponse.__qualname__ = "ResponseContextManager"


def body_error(kind: str) -> Exception:
    """What geventhttpclient raises when the body cannot be read to its end."""
    match kind:
        case "body_timeout":
            return TimeoutError("timed out")
        case "reset_mid_body":
            return transport_error(kind)
        case "short_body":
            return HTTPParseError("Incomplete response.")
        case "bad_chunk":
            return HTTPParseError("Invalid character in chunk size", 12)
    return HTTPParseError(kind)


def _head_error(answer: Ended) -> BaseException:
    """What it raises when there is no whole head."""
    kind = answer.error or ""
    if kind in UNANSWERED:
        if answer.bytes_in == 0:
            return HTTPConnectionClosed("connection closed.")
        return HTTPParseError("Invalid EOF state", 14)
    if kind in BEFORE_SENDING or kind.endswith("_timeout"):
        return transport_error(kind)
    if kind == "bad_chunk":
        return body_error(kind)
    if kind in ("invalid_http", "surplus"):
        return HTTPParseError("Expected HTTP/, RTSP/ or ICE/", 8)
    return HTTPParseError(kind.replace("_", " "))


class Agent(LocustUserAgent):
    """The stock client's user agent; answers come over the native connections where those can."""

    response_type = Response

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.given: Message | gevent.Timeout | None = None
        """An answer that has come already, or a time-out of the user's own, for the request that is made next."""
        self._origins: dict[int, tuple[HTTPClient, Origin]] = {}
        self.insecure = bool(kwargs.get("insecure"))

    def origin_of(self, client: HTTPClient) -> Origin:
        """The native connections of one of the stock clients by host and port."""
        found = self._origins.get(id(client))
        if found is None:
            tls = (self.insecure, None) if client.ssl else None
            pool = client._connection_pool
            origin = Origin(client.host, int(client.port or 80), tls)
            origin.connect_ns = nanoseconds(pool.connection_timeout)
            origin.silence_ns = nanoseconds(pool.network_timeout)
            found = self._origins[id(client)] = (client, origin)
        return found[1]

    def cookie_line(self, url: str) -> str | None:
        """The value of the `Cookie` header for a URL, as of now."""
        if not isinstance(self.cookiejar, Jar):
            return None
        line = self.cookiejar.line(("", 0), url)
        return line[8:-2].decode("latin-1") if line else None

    def ask(self, client: HTTPClient, method: str, wire: bytes) -> Message:
        """Sends bytes, again where the stock client would, and gives what came back, whatever it is."""
        origin = self.origin_of(client)
        semaphore = client._connection_pool._semaphore
        semaphore.acquire()
        try:
            answer = origin.exchange(wire, method == "HEAD", origin.connect_ns, origin.silence_ns)
            begin = answer.begin
            left = client._connection_pool.size + 1
            while answer.error in UNANSWERED and answer.bytes_in == 0 and method in _IDEMPOTENT and left > 0:
                left -= 1
                answer = origin.exchange(wire, method == "HEAD", origin.connect_ns, origin.silence_ns)
        finally:
            semaphore.release()
        return Message(answer, begin, method)

    def _urlopen(self, request: CompatRequest) -> FastResponse:
        given, self.given = self.given, None
        if isinstance(given, gevent.Timeout):
            raise given
        client = self.clientpool.get_client(request.url_split)
        body: Any = request.payload
        if isinstance(body, str):
            body = body.encode()
        elif isinstance(body, bytearray):
            body = bytes(body)
        headers = request.headers
        unusual = "expect" in headers or "transfer-encoding" in headers or not isinstance(body, bytes | None)
        if given is None and (unusual or client.use_proxy):
            return stock_urlopen(self, request)
        if given is None:
            text = client._build_request(
                request.method.upper(), request.url_split.quoted_uri, body=body or b"", headers=headers, chunked=False
            )
            given = self.ask(client, request.method, text.encode("latin-1") + (body or b""))
            given._sent_request = text
        elif given._sent_request is None:
            given._sent_request = client._build_request(
                request.method.upper(),
                request.url_split.quoted_uri,
                body=body or b"",
                headers=headers,
                chunked=False,
            )
        if given.answer.error in _TLS:
            # Nothing was sent. OpenSSL may trust or speak what rustls does not, and says why where it does not either.
            return stock_urlopen(self, request)
        answer = given.answer
        # Broken chunks are found while the head is read, where they come with it.
        headless = (
            not answer.status or answer.error in BEFORE_SENDING or (answer.error == "bad_chunk" and not answer.body)
        )
        if answer.error is not None and headless:
            error = _head_error(given.answer)
            error.surgeline_message = given  # type: ignore[attr-defined]
            raise error
        return self.response_type(given, request=request, sent_request=given._sent_request)  # type: ignore[arg-type]


def stock_urlopen(agent: Agent, request: CompatRequest) -> FastResponse:
    """As the stock client does it, over its own sockets."""
    body: Any = request.payload
    client = agent.clientpool.get_client(request.url_split)
    response = client.request(
        request.method,
        request.url_split.quoted_uri,
        body=body,
        headers=request.headers,
    )
    return FastResponse(response, request=request, sent_request=response._sent_request)  # type: ignore[arg-type]


class Session(Repeater, FastHttpSession):
    """`FastHttpSession` on the native engine."""

    client: Agent

    def __init__(
        self,
        base_url: str | None,
        request_event: Any,
        user: User | None,
        insecure: bool = True,
        client_pool: Any = None,
        ssl_context_factory: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(base_url, request_event, user, insecure, client_pool, ssl_context_factory, **kwargs)
        self._stock_client = self.client
        self._reporter = reporter(request_event) if request_event is not None else None
        self._context = user is not None and type(user).context is not User.context
        if self._reporter is not None:
            self._reporter.look()
        self._unchanged = is_unchanged(type(self), _METHODS, _FILES) and is_unchanged(Agent, _METHODS, _FILES)
        """Whether nobody but the stock classes and ours has a part in a request."""
        if self._unchanged and self._reporter is not None and self._reporter.stock and not self._context:
            self._repeat_with(vars(self), self._reporter.ears, Response, False)
        self._native = client_pool is None and ssl_context_factory is None and kwargs.get("proxy_host") is None
        if not self._native:
            return
        factory = stock.insecure_ssl_context_factory if insecure else gevent.ssl.create_default_context
        self.cookiejar = Jar()
        self._stock_client.cookiejar = self.cookiejar
        self.client = Agent(cookiejar=self.cookiejar, ssl_context_factory=factory, insecure=insecure, **kwargs)
        self._stock_client.default_headers = self.client.default_headers
        self._heads: dict[Any, tuple[bytes, bytes, bytes, bool] | None] = {}
        self._heads_of: dict[str, Any] = {}
        self._home: tuple[HTTPClient, tuple[str, int]] | None = None
        self._home_of: str | None = None
        self._plain = False

    def _get(self, url: str, **kwargs: Any) -> Any:
        """What `get` does with what has not been sent before."""
        return FastHttpSession.get(self, url, **kwargs)

    def _remember(self, client: HTTPClient, wire: bytes, method: str, url: str, built_url: str, headers: Any) -> None:
        """Keeps a request without body and headers of its own, as things stand."""
        if "request" in vars(self):
            return
        agent, jar = self.client, self.cookiejar
        origin = agent.origin_of(client)
        if not self._stands():
            stakes = [(vars(self), name) for name in ("auth_header", "base_url", "client", "cookiejar", "request")]
            stakes += [(vars(agent), "cookiejar"), (vars(agent), "default_headers"), (vars(jar), "changes")]
            stakes += [(vars(origin), "pool"), (vars(agent), "valid_response_codes")]
            until = jar.until if jar._cookies else None  # type: ignore[attr-defined]  # a Jar
            self._stand(stakes, [agent.default_headers], [], until)
        asked = (agent, method, built_url, headers, None, client)
        times = (origin.connect_ns, origin.silence_ns)
        gate = client._connection_pool._semaphore
        told = (asked, origin.lane.client, origin.pool, method == "HEAD", *times, gate)
        self._keep(Shot(method, url, built_url, wire, *told), _MOST_KEPT)

    def _again(
        self,
        shot: Shot,
        method: str,
        url: str,
        name: str | None,
        catch_response: bool,
        allow_redirects: bool,
        context: dict[str, Any],
    ) -> Any:
        """A request that has been sent before; None where nothing was sent."""
        if self.request_name and not name:
            name = self.request_name
        if self._context:
            context = {**self.user.context(), **context}  # type: ignore[union-attr]
        start_time = time.time()
        try:
            answer = self._exchange(shot, name or url)
        except gevent.Timeout as late:
            return self._after_timeout(shot, late, method, url, name, catch_response, allow_redirects, context)
        if answer is None:
            return None
        if answer.status not in _FINE or answer.error is not None or answer.sets_cookie or answer.encoded:
            return self._with_care(shot, answer, method, url, name, catch_response, allow_redirects, context)
        message = Message(answer, answer.begin, method)
        return self._succeed(
            message, shot.asked, method, name or url, shot.built_url, catch_response, context, start_time
        )

    def _care(self, shot: Shot, answer: Ended, name: str | None) -> Any:
        """What becomes of the answer of a repeated request that is not a plain success."""
        return self._with_care(shot, answer, shot.method, shot.url, name, False, True, {})

    def _broken_off(self, shot: Shot, error: BaseException, name: str | None) -> Any:
        """What becomes of a repeated request whose greenlet was thrown something while it waited."""
        if not isinstance(error, gevent.Timeout):
            raise error
        return self._after_timeout(shot, error, shot.method, shot.url, name, False, True, {})

    def _after_timeout(
        self,
        shot: Shot,
        late: gevent.Timeout,
        method: str,
        url: str,
        name: str | None,
        catch_response: bool,
        allow_redirects: bool,
        context: dict[str, Any],
    ) -> Any:
        """A `gevent.Timeout` of the user's own ended a request: to the stock client that is one that failed."""
        perf = _perf_at(late)
        start_time = time.time() - (time.perf_counter() - perf)
        self.client.given = late
        response = self._send_request_safe_mode(method, shot.built_url, payload=None, headers=dict(shot.asked[3]))
        return self._conclude(
            method, url, shot.built_url, name, catch_response, dict(context), start_time, perf, response
        )

    def _succeed(
        self,
        message: Message,
        asked: tuple[Any, ...],
        method: str,
        name: str,
        built_url: str,
        catch_response: bool,
        context: dict[str, Any],
        start_time: float,
    ) -> Any:
        """The response to a request whose answer is a plain success, told to who listens."""
        answer: Any = message.answer
        response: Any = Response.__new__(Response)
        held = response.__dict__
        held["_message"] = message
        held["_asked"] = asked
        body = response._cached_content = answer.body
        message._left = b""
        milliseconds = (answer.end - message.begin) / 1e6
        reporter = self._reporter
        if not catch_response and reporter is not None and reporter.look():
            reporter.quietly(method, name, milliseconds, len(body), built_url, response, answer)
            return response
        request_meta = {
            "request_type": method,
            "name": name,
            "context": context if self._context else dict(context),
            "response": response,
            "exception": None,
            "start_time": start_time,
            "url": built_url,
            "response_length": len(body),
            "response_time": milliseconds,
        }
        return self._tell(request_meta, response, catch_response, message, 0)

    def _with_care(
        self,
        shot: Shot,
        answer: Ended,
        method: str,
        url: str,
        name: str | None,
        catch_response: bool,
        allow_redirects: bool,
        context: dict[str, Any],
    ) -> Any:
        """What becomes of an answer that is not a plain success: the stock client's code decides."""
        agent, perf = self.client, time.perf_counter()
        start_time = time.time() - (time.monotonic_ns() - answer.begin) / 1e9
        message = Message(answer, answer.begin, method)
        if answer.error in UNANSWERED and answer.bytes_in == 0 and method in _IDEMPOTENT:
            message = agent.ask(shot.asked[5], method, shot.wire)
            message.begin = answer.begin
        agent.given = message
        if not allow_redirects:
            before, agent.redirect_response_codes = agent.redirect_response_codes, frozenset()  # type: ignore[misc]
        try:
            response = self._send_request_safe_mode(method, shot.built_url, payload=None, headers=dict(shot.asked[3]))
        finally:
            if not allow_redirects:
                agent.redirect_response_codes = before  # type: ignore[misc]
        return self._conclude(
            method, url, shot.built_url, name, catch_response, dict(context), start_time, perf, response
        )

    def request(
        self,
        method: str,
        url: str,
        name: str | None = None,
        data: Any = None,
        catch_response: bool = False,
        stream: bool = False,
        headers: dict[str, str] | None = None,
        auth: tuple[str | bytes, str | bytes] | None = None,
        json: Any = None,
        allow_redirects: bool = True,
        context: dict[str, Any] = {},  # noqa: B006  # as in the stock client; it is copied
        **kwargs: Any,
    ) -> Any:
        """As `FastHttpSession.request`."""
        if data is None and json is None and headers is None and auth is None and not (kwargs or stream):
            shot = self._kept(method, url)
            if shot is not None:
                response = None
                if allow_redirects and not (catch_response or context):
                    response = self._repeat(shot, name)
                if response is None:
                    response = self._again(shot, method, url, name, catch_response, allow_redirects, context)
                if response is not None:
                    return response
        if stream or not self._native or type(self.client) is not Agent:
            return self._as_stock(
                method, url, name, data, catch_response, stream, headers, auth, json, allow_redirects, context, kwargs
            )
        if not self._unchanged and not is_unchanged(FastHttpSession, _REQUEST, _FILES):
            given: Any = {"name": name, "data": data, "catch_response": catch_response, "stream": stream}
            given |= {"headers": headers, "auth": auth, "context": context}
            kwargs |= {word: value for word, value in given.items() if value}
            if json is not None:
                kwargs["json"] = json
            if not allow_redirects:
                kwargs["allow_redirects"] = allow_redirects
            return FastHttpSession.request(self, method, url, **kwargs)
        if self.request_name and not name:
            name = self.request_name
        if self._unchanged:
            built_url = url if _ABSOLUTE.match(url) else f"{self.base_url}{url}"
        else:
            built_url = self._build_url(url)
        start_time = time.time()
        if self._context:
            context = {**self.user.context(), **context}  # type: ignore[union-attr]

        given_headers = bool(headers)
        simple = not given_headers
        headers = dict(headers) if headers else {}
        if auth:
            headers["Authorization"] = stock._construct_basic_auth_str(auth[0], auth[1])  # type: ignore[no-untyped-call]
            simple = False
        elif self.auth_header:
            headers["Authorization"] = self.auth_header
            simple = False
        if simple or ("Accept-Encoding" not in headers and "accept-encoding" not in headers):
            headers["Accept-Encoding"] = "gzip, deflate, br"
        if not data and json is not None:
            data = dumps(json)
            if simple:
                headers["Content-Type"] = headers["Accept"] = "application/json"
            else:
                if "Content-Type" not in headers and "content-type" not in headers:
                    headers["Content-Type"] = "application/json"
                if "Accept" not in headers and "accept" not in headers:
                    headers["Accept"] = "application/json"

        agent = self.client
        agent.given = None
        message: Message | None = None
        self._plain = simple or (not given_headers and not auth)
        perf = 0.0
        if self._unchanged and not kwargs and (data is None or type(data) is str):
            try:
                message = self._quickly(method, url, built_url, headers, data)
            except gevent.Timeout as late:
                agent.given = late
                perf = _perf_at(late)
        if message is not None:
            answer = message.answer
            if answer.status in _FINE and not answer.sets_cookie and answer.error is None and not answer.encoded:
                asked = (agent, method, built_url, headers, data, None)
                return self._succeed(
                    message, asked, method, name or url, built_url, catch_response, context, start_time
                )
            agent.given = message
        if not allow_redirects:
            before, agent.redirect_response_codes = agent.redirect_response_codes, frozenset()  # type: ignore[misc]
        perf = perf or time.perf_counter()
        try:
            response = self._send_request_safe_mode(method, built_url, payload=data, headers=headers, **kwargs)
        finally:
            if not allow_redirects:
                agent.redirect_response_codes = before  # type: ignore[misc]
        return self._conclude(method, url, built_url, name, catch_response, dict(context), start_time, perf, response)

    def _conclude(
        self,
        method: str,
        url: str,
        built_url: str,
        name: str | None,
        catch_response: bool,
        context: dict[str, Any],
        start_time: float,
        perf: float,
        response: Any,
    ) -> Any:
        """What the stock client does with an answer; the times are the engine's."""
        request_meta: dict[str, Any] = {
            "request_type": method,
            "name": name or url,
            "context": context,
            "response": response,
            "exception": None,
            "start_time": start_time,
            "url": built_url,
            "response_length": 0,
        }
        first, last, hops = _messages(response)
        try:
            request_meta["response_length"] = len(response.content) if response.content else 0
        except FAILURE_EXCEPTIONS as error:
            request_meta["response_time"] = _took(first, last, perf)
            request_meta["exception"] = error
            return self._tell(request_meta, response, catch_response, last, hops, first)
        request_meta["response_time"] = _took(first, last, perf)
        try:
            response.raise_for_status()
        except FAILURE_EXCEPTIONS as error:
            request_meta["exception"] = error
        return self._tell(request_meta, response, catch_response, last, hops, first)

    def _tell(
        self,
        meta: dict[str, Any],
        response: Any,
        catch_response: bool,
        message: Message | None,
        hops: int,
        first: Message | None = None,
    ) -> Any:
        begin = first.begin if first is not None else message.begin if message is not None else 0
        told = Told(meta, message.answer if message is not None else None, begin, hops)
        if catch_response:
            kind = CatchingResponse if isinstance(response, Response) else StockCatchingResponse
            catching: Any = kind(response, self.request_event, meta, catch_response)
            catching._told = told
            if kind is CatchingResponse and isinstance(response, Response):
                catching._history = response.history
                catching._elapsed = getattr(response, "_elapsed", message.answer.first_byte_s if message else None)
            return catching
        if self._reporter is not None:
            self._reporter.fire(told)
        else:
            self.request_event.fire(**meta)
        return response

    def _quickly(
        self, method: str, url: str, built_url: str, headers: dict[str, str], data: str | None
    ) -> Message | None:
        """Sends the request if it is of the usual kind; None where it is not, and nothing was done."""
        agent = self.client
        if self._home_of != self.base_url or self._home is None:
            self._find_home()
        home = self._home
        if home is None or built_url is url or not _PLAIN_PATH.fullmatch(url) or "/." in url:
            return None
        if agent.valid_response_codes is not _VALID:
            return None
        if agent.cookiejar is not self.cookiejar or type(self.cookiejar) is not Jar:
            return None
        if not dict.__eq__(self._heads_of, agent.default_headers):
            self._heads.clear()
            self._heads_of = dict(dict.items(agent.default_headers))
        body = data.encode() if data else None
        try:
            key = (method, body is not None, *headers.items())
            head = self._heads.get(key, self)
        except TypeError:
            return None
        if head is self:
            head = self._head(home[0], method, headers, body is not None)
            if len(self._heads) >= _MOST_KEPT:
                self._heads.clear()
            self._heads[key] = head
        if head is None:
            return None
        before, middle, after, length_first = head  # type: ignore[misc]
        cookies = self.cookiejar.line(home[1], built_url)
        line = f"{method} {url} HTTP/1.1\r\n".encode()
        if body is None:
            wire = line + before + cookies + after
        elif length_first:
            wire = b"%b%b%d%b%b%b%b" % (line, before, len(body), middle, cookies, after, body)
        else:
            wire = b"%b%b%b%b%d%b%b" % (line, before, cookies, middle, len(body), after, body)
        if body is None and self._plain:
            self._remember(home[0], wire, method, url, built_url, headers)
        return agent.ask(home[0], method, wire)

    def _find_home(self) -> None:
        """The client of the base URL; none where that has a path of its own that must be looked at."""
        self._heads.clear()
        self._home_of, self._home = self.base_url, None
        found = re.fullmatch(r"(https?)://([\w\-.]+|\[[0-9a-fA-F:]+\])(?::(\d+))?", self.base_url or "", re.ASCII)
        if found is None:
            return
        url = stock.FastRequest(self.base_url + "/", headers=Headers()).url_split  # type: ignore[operator]
        client = self.client.clientpool.get_client(url)
        try:
            self.client.origin_of(client)
        except OSError:
            return
        if not client.use_proxy:
            self._home = (client, (client.host, int(client.port or 0)))

    def _head(
        self, client: HTTPClient, method: str, headers: dict[str, str], with_body: bool
    ) -> tuple[bytes, bytes, bytes, bool] | None:
        """The lines behind the request line, cut where cookies and the body's length belong, and which comes first."""
        lower = {name.lower() for name in headers}
        if not method.isupper() or lower & {"host", "cookie", "content-length", "transfer-encoding", "expect"}:
            return None
        sent = self.client.default_headers.copy()
        sent.update(headers)
        if "host" in sent or "cookie" in sent:
            return None
        if with_body and "content-type" not in sent:
            # As for all texts.
            sent["content-type"] = "text/plain; charset=utf-8"
            sent["content-length"] = "7"
        text = client._build_request(method, "/", body=b"x" * 7 if with_body else b"", headers=sent, chunked=False)
        head = text.partition("\r\n")[2].encode("latin-1")
        at = head.find(b"Host: ")
        if not with_body:
            return head[:at], b"", head[at:], False
        length = head.lower().find(b"content-length: 7\r\n") + len(b"content-length: ")
        if length < at:
            return head[:length], head[length + 1 : at], head[at:], True
        return head[:at], head[at:length], head[length + 1 :], False

    def _as_stock(
        self,
        method: str,
        url: str,
        name: str | None,
        data: Any,
        catch_response: bool,
        stream: bool,
        headers: Any,
        auth: Any,
        json: Any,
        allow_redirects: bool,
        context: dict[str, Any],
        kwargs: dict[str, Any],
    ) -> Any:
        """The request over the stock client's sockets, with the same cookies and headers."""
        session = self
        if self._native:
            session = FastHttpSession.__new__(FastHttpSession)  # type: ignore[assignment]
            session.__dict__.update(self.__dict__)
            if type(self.client) is Agent:
                session.client = self._stock_client
                session.client.cookiejar = self.cookiejar
        return FastHttpSession.request(
            session,
            method,
            url,
            name,
            data,
            catch_response,
            stream,
            headers,
            auth,
            json,
            allow_redirects,
            context,
            **kwargs,
        )


def _messages(response: Any) -> tuple[Message | None, Message | None, int]:
    """The first and the last answer of a chain, and how many redirects were followed in between."""
    error = getattr(response, "error", None)
    last = response._response if isinstance(response, FastResponse) else None
    if not isinstance(last, Message):
        last = getattr(error, "surgeline_message", None)
    try:
        history = response.history
    except AttributeError:
        history = []
    first = history[0]._response if history else last
    return (first if isinstance(first, Message) else last), last, len(history)


def _perf_at(late: gevent.Timeout) -> float:
    """When the request was begun that this ended, on `time.perf_counter`."""
    now_ns = time.monotonic_ns()
    return time.perf_counter() - (now_ns - int(getattr(late, "surgeline_begin_ns", now_ns))) / 1e9


def _took(first: Message | None, last: Message | None, perf: float) -> float:
    if last is None:
        return (time.perf_counter() - perf) * 1000
    return float(last.answer.end - (first or last).begin) / 1e6


for _function in (Session.request, Session._again):
    sends(_function, "geventhttpclient")


class FastHttpUser(Turns, stock.FastHttpUser):
    """Locust's `FastHttpUser` on the native engine's connections."""

    abstract = True

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.client = Session(
            base_url=self.host,
            request_event=self.environment.events.request,
            network_timeout=self.network_timeout,
            connection_timeout=self.connection_timeout,
            max_redirects=self.max_redirects,
            max_retries=self.max_retries,
            insecure=self.insecure,
            concurrency=self.concurrency,
            user=self,
            client_pool=self.client_pool,
            ssl_context_factory=self.ssl_context_factory,
            headers=self.default_headers,
            proxy_host=self.proxy_host,
            proxy_port=self.proxy_port,
        )
