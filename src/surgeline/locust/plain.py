"""`HttpUser` on the native engine: the surface of Locust's own, over connections of ours.

A request without anything unusual is put together from what the last one like it consisted of, sent, and its answer is
wrapped without being looked into. Everything else goes the way of requests, down to the adapter, which sends it over
the native connections: redirects, cookies, hooks, authentication and their exceptions are then requests' own. What the
native connections do not do (streams, proxies, client certificates, pools of the user's own) goes over the stock
adapter.
"""

import copyreg
import http.client
import io
import os
import re
import time
from datetime import timedelta
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import urlsplit

import requests
from locust import clients as stock
from locust.clients import HttpSession, LocustHttpAdapter, ResponseContextManager
from locust.user import HttpUser as StockHttpUser
from locust.user import User
from requests.auth import HTTPBasicAuth
from requests.compat import json as complexjson  # type: ignore[attr-defined]  # as requests itself does
from requests.cookies import RequestsCookieJar, get_cookie_header
from requests.exceptions import ChunkedEncodingError, ConnectionError, ConnectTimeout, ReadTimeout, SSLError
from requests.models import PreparedRequest, RequestEncodingMixin
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, extract_zipped_paths, get_encoding_from_headers
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    InvalidChunkLength,
    MaxRetryError,
    ProtocolError,
    ReadTimeoutError,
)

from surgeline._engine import Repeater, Shot
from surgeline.locust.native import (
    BEFORE_SENDING,
    NEVER_NS,
    UNANSWERED,
    Ended,
    Origin,
    nanoseconds,
    transport_error,
)
from surgeline.locust.report import Told, reporter
from surgeline.locust.tasks import Turns
from surgeline.locust.unchanged import is_unchanged
from surgeline.locust.watched import sends

_PLAIN_PATH = re.compile(r"/(?!/)[\w\-.~/]*(?:\?[\w\-.~/=&+:,*]+)?", re.ASCII)
"""Paths that are sent as they are given."""
_HOME = re.compile(r"(https?)://([a-z0-9\-.]+|\[[0-9a-fA-F:]+\])(?::(\d+))?/?", re.ASCII)
_MOST_KEPT = 5_000
"""Of anything that is kept by what users ask for."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_QUICK = frozenset({"allow_redirects", "headers"})
_ABSOLUTE = stock.absolute_http_url_regexp
_STAKES = (
    *("adapters", "auth", "base_url", "cert", "cookies", "headers", "hooks", "params", "proxies", "request"),
    *("stream", "trust_env", "verify"),
)
"""The attributes of a session that say what is sent."""
_NO_HOOKS: dict[str, list[Any]] = {"response": []}
_METHODS = frozenset(
    {"request", "send", "prepare_request", "get_adapter", "rebuild_auth", "_build_url", "_send_request_safe_mode"}
    | {"get", "options", "head", "post", "put", "patch", "delete"}
)
"""The methods of a session that a request goes through."""
_REQUEST = frozenset({"request"})
_FILES = frozenset(
    {HttpSession.__init__.__code__.co_filename, requests.sessions.Session.__init__.__code__.co_filename, __file__}
)
_WITHOUT_LENGTH = frozenset({"GET", "HEAD", "DELETE", "TRACE", "OPTIONS", "CONNECT"})
"""Methods whose requests have no `Content-Length` where they have no body; as in urllib3."""


class Cookies(RequestsCookieJar):
    """requests' cookie jar, which knows when it has changed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.changes = 0
        self.made: dict[str, bytes] = {}
        self.made_at = -1
        self.until = 0.0
        self.rooted = True
        super().__init__(*args, **kwargs)

    def set_cookie(self, cookie: Cookie, *args: Any, **kwargs: Any) -> None:
        """As in the base class."""
        self.changes += 1
        super().set_cookie(cookie, *args, **kwargs)

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """As in the base class."""
        self.changes += 1
        super().clear(domain, path, name)

    def line(self, origin: str, url: str) -> bytes:
        """The `Cookie` line for a URL, with its end; empty without cookies."""
        if not self._cookies:  # type: ignore[attr-defined]  # the dict of all cookies
            return b""
        if self.made_at != self.changes or time.time() >= self.until:
            self.clear_expired_cookies()
            self.made.clear()
            cookies: list[Cookie] = list(self)  # type: ignore[arg-type]  # a jar of cookies, whatever its base says
            self.until = min((c.expires for c in cookies if c.expires is not None), default=float("inf"))
            self.rooted = all(cookie.path == "/" for cookie in cookies)
            self.made_at = self.changes
        key = origin if self.rooted else url.partition("?")[0]
        found = self.made.get(key)
        if found is None:
            asked = PreparedRequest()
            asked.url, asked.headers = url, CaseInsensitiveDict()
            value = get_cookie_header(self, asked)
            found = f"Cookie: {value}\r\n".encode("latin-1") if value else b""
            if len(self.made) >= _MOST_KEPT:
                self.made.clear()
            self.made[key] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        state.pop("made", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.update(changes=0, made={}, made_at=-1, until=0.0, rooted=True)


class Answered:
    """An answer, when its request was first begun, and its bytes as they were sent."""

    __slots__ = ("answer", "begin", "wire")

    def __init__(self, answer: Ended, wire: bytes) -> None:
        self.answer = answer
        self.begin = answer.begin
        self.wire = wire


def _reason(answer: Ended) -> str:
    return answer.head.partition(b"\r\n")[0].decode("latin-1").partition(" ")[2].partition(" ")[2]


def _raw(answered: Answered, method: str, read: bool) -> HTTPResponse:
    answer = answered.answer
    headers = HTTPHeaderDict()
    for name, value in answer.headers():
        headers.add(name, value)
    raw = HTTPResponse(
        body=io.BytesIO(answer.body),
        headers=headers,
        status=answer.status,
        version=10 + answer.minor,
        version_string=f"HTTP/1.{answer.minor}",
        reason=_reason(answer),
        preload_content=False,
        decode_content=False,
        request_method=method,
        enforce_content_length=False,
    )
    raw._original_response = _Original(answer.head)  # type: ignore[assignment]  # what cookies are read from
    if read:
        raw.read()
    return raw


class _Original:
    """http.client's response, as far as cookies need it."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._msg: http.client.HTTPMessage | None = None

    @property
    def msg(self) -> http.client.HTTPMessage:
        if self._msg is None:
            self._msg = http.client.parse_headers(io.BytesIO(self._head.partition(b"\n")[2]))
        return self._msg

    def isclosed(self) -> bool:
        return True

    def close(self) -> None:
        pass


class Response(ResponseContextManager):
    """A `ResponseContextManager` whose parts are worked out when they are asked for."""

    _told: Told | None = None

    def __init__(self) -> None:
        raise TypeError("made by Session alone")

    def __getattr__(self, name: str) -> Any:
        make = _PARTS.get(name)
        held = self.__dict__
        if "_answered" not in held and (answer := held.get("_native")) is not None:
            shot = answer.shot
            method, jar, session = shot.asked
            name_given = None if answer.name is shot.url else answer.name
            held["_answered"] = Answered(answer, shot.wire)
            held["_asked"] = (method, shot.built_url, None, jar, name_given)
            held["_session"] = session
            if name == "request_meta":
                held[name] = _meta_of(self)
                return held[name]
        if make is None or "_answered" not in held:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = held[name] = make(held)
        return value

    def _report_request(self, exc: Any = None) -> None:
        if self._told is None:
            super()._report_request(exc)  # type: ignore[no-untyped-call]
        else:
            reporter(self._request_event).fire(self._told)

    def __reduce__(self) -> Any:
        """Pickled and copied as one of Locust's own, without what only a living session has."""
        return _made_again(self)


def _made_again(response: ResponseContextManager) -> Any:
    return vars(copyreg)["_reconstructor"], (ResponseContextManager, object, None), response.__getstate__()


Response.__name__ = Response.__qualname__ = "ResponseContextManager"  # as locustfiles and their logs know it


def _meta_of(response: Response) -> dict[str, Any]:
    """The fields of the event of a repeated request."""
    answer = vars(response)["_native"]
    return {
        "request_type": answer.shot.method,
        "response_time": answer.milliseconds,
        "name": answer.name,
        "context": {},
        "response": response,
        "exception": None,
        "start_time": time.time() - (time.monotonic_ns() - answer.begin) / 1e9,
        "url": answer.shot.built_url,
        "response_length": len(answer.body),
    }


def _headers_of(held: dict[str, Any]) -> CaseInsensitiveDict[str]:
    merged = HTTPHeaderDict()
    for name, value in held["_answered"].answer.headers():
        merged.add(name, value)
    return CaseInsensitiveDict(merged)


def _request_of(held: dict[str, Any]) -> PreparedRequest:
    method, url, body, cookies, explicit_name = held["_asked"]
    request = PreparedRequest()
    request.method, request.url, request.body = method, url, body
    request.hooks = {"response": []}
    request.headers = CaseInsensitiveDict()
    head = held["_answered"].wire.partition(b"\r\n\r\n")[0].decode("latin-1")
    for line in head.split("\r\n")[2:]:  # the second is the host's, which requests does not show
        name, _, value = line.partition(": ")
        request.headers[name] = value
    request._cookies = cookies.copy()
    if explicit_name:
        request._explicit_name = explicit_name  # type: ignore[attr-defined]
    return request


def _encoding_of(held: dict[str, Any]) -> str | None:
    content_type = held["_answered"].answer.header("content-type")
    return get_encoding_from_headers(CaseInsensitiveDict({"content-type": content_type} if content_type else {}))


_PARTS: dict[str, Any] = {
    "status_code": lambda held: held["_answered"].answer.status,
    "_content": lambda held: held["_answered"].answer.body,
    "_content_consumed": lambda held: True,
    "_next": lambda held: None,
    "headers": _headers_of,
    "raw": lambda held: _raw(held["_answered"], held["_asked"][0], True),
    "url": lambda held: held["_asked"][1],
    "encoding": _encoding_of,
    "history": lambda held: [],
    "reason": lambda held: _reason(held["_answered"].answer),
    "cookies": lambda held: RequestsCookieJar(),
    "elapsed": lambda held: timedelta(seconds=held["_answered"].answer.first_byte_s),
    "request": _request_of,
    "connection": lambda held: held["_session"]._adapter,
    "_entered": lambda held: False,
    "_catch_response": lambda held: False,
    "_request_event": lambda held: held["_session"].request_event,
    "request_meta": lambda held: {},
}


class Adapter(LocustHttpAdapter):
    """requests' way to the network; over the native connections where those can."""

    def __init__(self, pool_manager: Any) -> None:
        super().__init__(pool_manager)
        self.native = pool_manager is None
        self.once = self.max_retries
        """What says that nothing is tried again, as long as it is `max_retries`."""
        self.given: Answered | None = None
        """An answer that has come already, for the request that is sent next."""
        self._origins: dict[tuple[str, str, int, Any], Origin] = {}

    def origin(self, scheme: str, host: str, port: int, verify: Any) -> Origin:
        """The native connections to there. OSError where the name cannot be resolved."""
        key = (scheme, host, port, verify)
        found = self._origins.get(key)
        if found is None:
            trust = extract_zipped_paths(DEFAULT_CA_BUNDLE_PATH) if verify is True else verify or None
            tls = (not verify, trust) if scheme == "https" else None
            found = self._origins[key] = Origin(host, port, tls)
        return found

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """As in the stock adapter."""
        given, self.given = self.given, None
        body = request.body
        headers = request.headers
        if given is None and (
            stream
            or not self.native
            or cert
            or proxies
            or (isinstance(verify, str) and not os.path.isfile(verify))
            or not isinstance(body, bytes | str | None)
            or not _is_timeout(timeout)
            or self.max_retries is not self.once
            or "Transfer-Encoding" in headers
            or "Expect" in headers
        ):
            return super().send(request, stream, timeout, verify, cert, proxies)
        if given is None:
            if isinstance(timeout, tuple):
                connect, read = timeout
            else:
                connect = read = timeout
            data: Any = body.encode() if isinstance(body, str) else body
            wire = wire_of(request, data)
            parts = urlsplit(str(request.url))
            try:
                origin = self.origin(
                    parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), verify
                )
                answer = origin.exchange(wire, request.method == "HEAD", nanoseconds(connect), nanoseconds(read))
            except (OSError, ValueError):
                return super().send(request, stream, timeout, verify, cert, proxies)
            given = Answered(answer, wire)
        kind = given.answer.error
        if kind in BEFORE_SENDING and kind != "connect_timeout":
            # Nothing was sent. The stock adapter says why in its own words, or finds a way.
            return super().send(request, stream, timeout, verify, cert, proxies)
        if kind is not None:
            try:
                self._raise(kind, given, request, timeout, verify)
            except requests.RequestException as error:
                error.surgeline_answered = given  # type: ignore[attr-defined]
                raise
        response = self.build_response(request, _raw(given, str(request.method), False))
        response.__dict__["_answered"] = given
        return response

    def _raise(self, kind: str, given: Answered, request: PreparedRequest, timeout: Any, verify: Any) -> None:
        """Raises what the stock adapter, or the reading of the body, raises."""
        pool = self.get_connection_with_tls_context(request, verify)
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        answer = given.answer
        if kind == "connect_timeout":
            try:
                try:
                    text = f"Connection to {pool.host} timed out. (connect timeout={connect})"
                    raise ConnectTimeoutError(pool, text)
                except ConnectTimeoutError as reason:
                    raise MaxRetryError(pool, request.path_url, reason) from reason
            except MaxRetryError as error:
                raise ConnectTimeout(error, request=request) from None
        if kind in ("header_timeout", "total_timeout"):
            try:
                raise ReadTimeoutError(pool, request.path_url, f"Read timed out. (read timeout={read})")
            except ReadTimeoutError as error:
                raise ReadTimeout(error, request=request)  # noqa: B904  # as requests raises it
        if kind == "body_timeout":
            try:
                raise ReadTimeoutError(pool, None, "Read timed out.")
            except ReadTimeoutError as error:
                raise ConnectionError(error)  # noqa: B904
        if kind in UNANSWERED or kind in ("invalid_http", "surplus", "header_too_large"):
            behind: Exception
            if kind in UNANSWERED and answer.bytes_in == 0 and not answer.reset:
                behind = http.client.RemoteDisconnected("Remote end closed connection without response")
            elif kind in UNANSWERED:
                behind = transport_error(kind)
            else:
                behind = http.client.BadStatusLine(kind)
            try:
                try:
                    raise behind
                except (OSError, http.client.HTTPException) as reason:
                    raise ProtocolError("Connection aborted.", reason) from reason
            except ProtocolError as error:
                raise ConnectionError(error, request=request)  # noqa: B904
        if kind in ("tls_handshake", "tls_certificate"):
            raise SSLError(transport_error(kind), request=request)
        broken: Exception
        if kind == "short_body":
            length = int(answer.header("content-length") or 0)
            broken = IncompleteRead(len(answer.body), length - len(answer.body))
        elif kind == "bad_chunk":
            broken = InvalidChunkLength(_Chunked(len(answer.body)), b"")  # type: ignore[arg-type]
        else:
            broken = transport_error(kind)
        try:
            try:
                raise broken
            except Exception as reason:
                raise ProtocolError(f"Connection broken: {reason!r}", reason) from reason
        except ProtocolError as error:
            raise ChunkedEncodingError(error)  # noqa: B904


def _is_timeout(timeout: Any) -> bool:
    """Whether it is one of the usual; the stock adapter knows others, and what is wrong with the rest."""
    parts = timeout if type(timeout) is tuple else (timeout, timeout)
    return len(parts) == 2 and all(part is None or (type(part) in (int, float) and part > 0) for part in parts)


class _Chunked:
    """As much of a response as InvalidChunkLength asks for."""

    def __init__(self, read: int) -> None:
        self._fp_bytes_read = read
        self.length_remaining = None

    def tell(self) -> int:
        return self._fp_bytes_read


def wire_of(request: PreparedRequest, body: bytes | None) -> bytes:
    """A prepared request as urllib3 writes it."""
    parts = urlsplit(str(request.url))
    headers = request.headers
    lines = [f"{request.method} {request.path_url} HTTP/1.1".encode("ascii")]
    if "Host" not in headers:
        host = parts.netloc.rpartition("@")[2]
        port = f":{443 if parts.scheme == 'https' else 80}"
        lines.append(b"Host: " + host.removesuffix(port).encode("ascii"))
    if "Accept-Encoding" not in headers:
        lines.append(b"Accept-Encoding: identity")
    if (
        request.body is None
        and str(request.method).upper() not in _WITHOUT_LENGTH
        and not ("Content-Length" in headers or "Transfer-Encoding" in headers)
    ):
        lines.append(b"Content-Length: 0")
    if "User-Agent" not in headers:
        lines.append(b"User-Agent: python-urllib3/" + requests.packages.urllib3.__version__.encode())  # type: ignore[attr-defined]
    for name, value in headers.items():
        lines.append(_latin(name) + b": " + _latin(value))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode("latin-1")


class Session(Repeater, HttpSession):  # type: ignore[misc]  # whose `get` names what ours hands on
    """`HttpSession` on the native engine."""

    def __init__(
        self, base_url: Any, request_event: Any, user: User | None, *args: Any, pool_manager: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(base_url, request_event, user, *args, pool_manager=pool_manager, **kwargs)
        self._reporter = reporter(request_event) if request_event is not None else None
        self._context = user is not None and type(user).context is not User.context
        if self._reporter is not None:
            self._reporter.look()
        self.cookies = Cookies()
        self._adapter = Adapter(pool_manager)
        self.mount("https://", self._adapter)
        self.mount("http://", self._adapter)
        self._heads: dict[Any, tuple[bytes, bytes, bytes] | None] = {}
        self._heads_of: Any = None
        self._home_of: str | None = None
        self._home: tuple[Origin, str] | None = None
        self._auth_of: Any = None
        self._unchanged = is_unchanged(type(self), _METHODS, _FILES)
        """Whether nobody but the stock classes and ours has a part in a request."""
        if self._unchanged and self._reporter is not None and self._reporter.stock and not self._context:
            self._repeat_with(vars(self), self._reporter.ears, Response, True)

    def _get(self, url: Any, **kwargs: Any) -> Any:
        """What `get` does with what has not been sent before."""
        return HttpSession.get(self, url, **kwargs)

    def _remember(self, origin: Origin, wire: bytes, verb: bytes, method: str, url: str, complete_url: str) -> None:
        """Keeps a request without body and headers of its own, as things stand."""
        if "request" in vars(self):
            return
        cookies: Any = self.cookies
        mutable: list[Any] = [self.headers._store, self.params, self.proxies, self.adapters, self.hooks]
        if not all(isinstance(held, dict) for held in mutable):
            return
        if not self._stands():
            stakes = [(vars(self), name) for name in _STAKES]
            stakes += [(vars(self.headers), "_store"), (vars(cookies), "changes"), (vars(origin), "pool")]
            self._stand(stakes, mutable, [self.hooks["response"]], cookies.until if cookies._cookies else None)
        asked = (verb.decode(), cookies, self)
        told = (asked, origin.lane.client, origin.pool, verb == b"HEAD", NEVER_NS, NEVER_NS, None)
        self._keep(Shot(method, url, complete_url, wire, *told), _MOST_KEPT)

    def _is_usual(self) -> bool:
        """Whether nothing is set that every request would have to heed."""
        adapters = self.adapters
        return not (
            self.params
            or self.proxies
            or self.verify is not True
            or self.cert
            or self.trust_env
            or self.stream
            or len(adapters) != 2
            or adapters["http://"] is not self._adapter
            or adapters["https://"] is not self._adapter
            or self._adapter.max_retries is not self._adapter.once
            or self.hooks != _NO_HOOKS
        )

    def _again(
        self,
        shot: Shot,
        method: str,
        url: str,
        name: str | None,
        catch_response: bool,
        context: dict[str, Any],
        kwargs: dict[str, Any],
    ) -> Any:
        """A request that has been sent before; None where nothing was sent."""
        if self.request_name and not name:
            name = self.request_name
        start_time = time.time()
        answer = self._exchange(shot, name or url)
        if answer is None:
            return None
        return self._take(shot, answer, method, url, name, catch_response, context, kwargs, start_time)

    def _care(self, shot: Shot, answer: Ended, name: str | None) -> Any:
        """What becomes of the answer of a repeated request that is not a plain success."""
        start_time = time.time() - (time.monotonic_ns() - answer.begin) / 1e9
        return self._take(shot, answer, shot.method, shot.url, name, False, {}, {"allow_redirects": True}, start_time)

    def _take(
        self,
        shot: Shot,
        answer: Ended,
        method: str,
        url: str,
        name: str | None,
        catch_response: bool,
        context: dict[str, Any],
        kwargs: dict[str, Any],
        start_time: float,
    ) -> Any:
        """The response to a request that has been sent before."""
        self.explicit_name = name
        given = Answered(answer, shot.wire)
        status = answer.status
        if answer.error is not None or answer.sets_cookie or answer.encoded or status in _REDIRECTS:
            perf = time.perf_counter()
            self._adapter.given = given
            response: Any = self._send_request_safe_mode(method, shot.built_url, data=None, json=None, **kwargs)
            self._adapter.given = None
            return self._conclude(
                method, url, shot.built_url, name, catch_response, context, start_time, perf, response, kwargs
            )
        response = Response.__new__(Response)
        held = response.__dict__
        held["status_code"] = status
        held["_answered"] = given
        held["_asked"] = (shot.asked[0], shot.built_url, None, self.cookies, name)
        held["_session"] = self
        return self._tell(method, url, shot.built_url, name, catch_response, context, start_time, given, response)

    def _tell(
        self,
        method: str,
        url: str,
        complete_url: str,
        name: str | None,
        catch_response: bool,
        context: dict[str, Any],
        start_time: float,
        given: Answered,
        response: Any,
    ) -> Any:
        """Reports an answer that nothing unusual was with, or leaves that to the with block."""
        answer = given.answer
        held = response.__dict__
        held["request_meta"] = meta = {
            "request_type": method,
            "response_time": (answer.end - given.begin) / 1e6,
            "name": name or url,
            "context": {**self.user.context(), **context} if self._context else dict(context),
            "response": response,
            "exception": None,
            "start_time": start_time,
            "url": complete_url,
            "response_length": len(answer.body),
        }
        held["_entered"] = False
        held["_request_event"] = self.request_event
        held["_catch_response"] = catch_response
        held["_told"] = Told(meta, answer, given.begin, 0)
        if not catch_response:
            response.__exit__(None, None, None)
        return response

    def request(  # type: ignore[override]
        self,
        method: Any,
        url: Any,
        name: str | None = None,
        catch_response: bool = False,
        context: dict[str, Any] = {},  # noqa: B006  # as in the stock client; it is copied
        *,
        data: Any = None,
        json: Any = None,
        **kwargs: Any,
    ) -> Any:
        """As `HttpSession.request`."""
        if data is None and json is None and (not kwargs or (len(kwargs) == 1 and "allow_redirects" in kwargs)):
            shot = self._kept(method, url)
            if shot is not None:
                response = None
                if kwargs.get("allow_redirects", True) is True and not (catch_response or context):
                    response = self._repeat(shot, name)
                if response is None:
                    response = self._again(shot, method, url, name, catch_response, context, kwargs)
                if response is not None:
                    return response
        if not self._unchanged and not is_unchanged(HttpSession, _REQUEST, _FILES):
            given: Any = {"name": name, "catch_response": catch_response, "context": context}
            kwargs |= {word: value for word, value in given.items() if value}
            return HttpSession.request(self, method, url, data=data, json=json, **kwargs)
        if self.request_name and not name:
            name = self.request_name
        self.explicit_name = name
        if self._unchanged:
            complete_url = url if _ABSOLUTE.match(url) else f"{self.base_url}{url}"
        else:
            complete_url = self._build_url(url)
        start_time = time.time()
        adapter = self._adapter
        adapter.given = None
        quick = None
        if self._unchanged and kwargs.keys() <= _QUICK and complete_url is not url:
            quick = self._quickly(method, url, complete_url, kwargs.get("headers"), data, json)
        if quick is not None:
            given, body = quick
            answer = given.answer
            status = answer.status
            if answer.error is None and not answer.sets_cookie and not answer.encoded and status not in _REDIRECTS:
                response = Response.__new__(Response)
                held = response.__dict__
                held["status_code"] = status
                held["_answered"] = given
                held["_asked"] = (method.upper(), complete_url, body, self.cookies, name)
                held["_session"] = self
                return self._tell(method, url, complete_url, name, catch_response, context, start_time, given, response)
            adapter.given = given
        perf = time.perf_counter()
        response = self._send_request_safe_mode(method, complete_url, data=data, json=json, **kwargs)
        adapter.given = None
        return self._conclude(
            method, url, complete_url, name, catch_response, context, start_time, perf, response, kwargs
        )

    def _conclude(
        self,
        method: Any,
        url: Any,
        complete_url: str,
        name: str | None,
        catch_response: bool,
        context: dict[str, Any],
        start_time: float,
        perf: float,
        response: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        """What the stock client does with an answer; the times are the engine's."""
        took = (time.perf_counter() - perf) * 1000
        if before_redirect := ((response.history and response.history[0]) or response).request:
            complete_url = str(before_redirect.url)
            if not name:
                name = before_redirect.path_url
        elif not name:
            name = str(url)
        if self.user:
            context = {**self.user.context(), **context}
        last = response.__dict__.get("_answered")
        if last is None:
            last = getattr(response.__dict__.get("error"), "surgeline_answered", None)
        first = response.history[0].__dict__.get("_answered") if response.history else last
        if last is not None and first is not None and not kwargs.get("stream"):
            took = (last.answer.end - first.begin) / 1e6
        meta = {
            "request_type": method,
            "response_time": took,
            "name": name,
            "context": context,
            "response": response,
            "exception": None,
            "start_time": start_time,
            "url": complete_url,
        }
        if kwargs.get("stream", False):
            meta["response_length"] = int(response.headers.get("content-length") or 0)
        else:
            meta["response_length"] = len(response.content or b"")
        wrapped: Any = ResponseContextManager.wrap_response(
            response, request_event=self.request_event, request_meta=meta, catch_response=catch_response
        )
        wrapped.__class__ = Wrapped
        if last is not None:
            begin = first.begin if first is not None else last.begin
            wrapped.__dict__["_told"] = Told(meta, last.answer, begin, len(response.history))
        if not catch_response:
            wrapped.__exit__(None, None, None)
        return wrapped

    def _quickly(
        self, method: Any, url: str, complete_url: str, headers: Any, data: Any, json: Any
    ) -> tuple[Answered, bytes | str | None] | None:
        """Sends the request if it is of the usual kind; None where it is not, and nothing was done."""
        if self._home_of != self.base_url:
            self._find_home()
        home = self._home
        if home is None or type(method) is not str or not _PLAIN_PATH.fullmatch(url) or "/." in url:
            return None
        if type(self.cookies) is not Cookies or not self._is_usual():
            return None
        try:
            sent = self.headers._store
        except AttributeError:  # a dictionary in the place of requests' own
            return None
        if sent != self._heads_of or self.auth is not self._auth_of:
            self._heads.clear()
            self._heads_of = sent.copy()
            self._auth_of = self.auth
        if not (self.auth is None or type(self.auth) is HTTPBasicAuth):
            return None
        body: bytes | str | None = None
        kind = ""
        if data:
            if type(data) is str or type(data) is bytes:
                kind, body = "text", data
            elif type(data) is dict:
                kind, body = "form", RequestEncodingMixin._encode_params(data)
            else:
                return None
        elif json is not None:
            try:
                kind, body = "json", complexjson.dumps(json, allow_nan=False).encode()
            except ValueError:
                return None
        try:
            key = (method, kind, *headers.items()) if headers else (method, kind)
            head = self._heads.get(key, self)
        except (TypeError, AttributeError):
            return None
        if head is self:
            head = self._head(method, kind, headers)
            if len(self._heads) >= _MOST_KEPT:
                self._heads.clear()
            self._heads[key] = head
        if head is None:
            return None
        verb, before, after = head  # type: ignore[misc]
        cookies = self.cookies.line(home[1], complete_url) if self.cookies._cookies else b""  # type: ignore[attr-defined]
        line = b"%b %b HTTP/1.1\r\n" % (verb, url.encode())
        if kind:
            data_bytes = body.encode() if isinstance(body, str) else body or b""
            if not data_bytes:
                return None
            wire = b"%b%b%b%b%d%b%b" % (line, before, cookies, b"Content-Length: ", len(data_bytes), after, data_bytes)
        else:
            wire = line + before + cookies + after
            if not headers:
                self._remember(home[0], wire, verb, method, url, complete_url)
        try:
            answer = home[0].exchange(wire, verb == b"HEAD", NEVER_NS, NEVER_NS)
        except (OSError, ValueError):
            return None
        return Answered(answer, wire), body

    def _find_home(self) -> None:
        """The origin of the base URL; none where that has a path of its own."""
        self._heads.clear()
        self._home_of, self._home = self.base_url, None
        found = _HOME.fullmatch(self.base_url or "")
        if found is None or self.base_url.endswith("/") or not self._adapter.native:
            return
        scheme, host, port = found[1], found[2], int(found[3] or (443 if found[1] == "https" else 80))
        try:
            self._home = (self._adapter.origin(scheme, host.strip("[]"), port, True), self.base_url)
        except (OSError, ValueError):
            return

    def _head(self, method: str, kind: str, headers: Any) -> tuple[bytes, bytes, bytes] | None:
        """The method, the lines before cookies, and what follows them; with a body, what follows its length."""
        lower = {str(name).lower() for name in headers or ()}
        if lower & {"host", "cookie", "content-length", "transfer-encoding", "expect"}:
            return None
        if not all(type(value) is str for value in (headers or {}).values()):
            return None
        data, json = {"": (None, None), "text": ("x", None), "form": ({"x": ""}, None), "json": (None, 0)}[kind]
        asked = requests.Request(method, f"{self.base_url}/", headers=headers, data=data, json=json)
        kept, self.cookies = self.cookies, Cookies()
        try:
            prepared = self.prepare_request(asked)
        except (requests.RequestException, ValueError):
            return None
        finally:
            self.cookies = kept
        if not all(type(value) is str for value in prepared.headers.values()):
            return None
        if "Host" in prepared.headers or "Cookie" in prepared.headers or "Expect" in prepared.headers:
            return None  # of the session's
        text = wire_of(prepared, None).partition(b"\r\n")[2]
        verb = str(prepared.method).encode("ascii")
        # requests adds, in this order: the headers, cookies, the body's length and type, authentication.
        at = text.find(b"Content-Length: ")
        if kind:
            if at < 0:
                return None
            length = text.find(b"\r\n", at)
            return verb, text[:at], text[length:]
        if at < 0:
            at = text.find(b"Authorization: ") if self.auth is not None else len(text) - 2
        return verb, text[:at], text[at:]


class Wrapped(ResponseContextManager):
    """A response that came requests' own way."""

    _told: Told | None = None

    def __reduce__(self) -> Any:
        """As `Response`."""
        return _made_again(self)

    def _report_request(self, exc: Any = None) -> None:
        if self._told is None:
            super()._report_request(exc)  # type: ignore[no-untyped-call]
        else:
            reporter(self._request_event).fire(self._told)


for _function in (Session.request, Session._again):
    sends(_function, "requests")
Wrapped.__name__ = Wrapped.__qualname__ = "ResponseContextManager"


class HttpUser(Turns, StockHttpUser):
    """Locust's `HttpUser` on the native engine's connections."""

    abstract = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.client = Session(
            base_url=self.host,
            request_event=self.environment.events.request,
            user=self,
            pool_manager=self.pool_manager,
        )
        self.client.trust_env = False
