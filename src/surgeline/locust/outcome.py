"""What became of a request, told from the exception that Locust's `request` event carries.

What comes in is the exception (from requests, urllib3, geventhttpclient, or a client of the user's own) and the status;
what leaves is an outcome and the word for what went wrong. Where the same exception can mean several things, the
functions it passed through decide: a `timed out` that came out of `connect` is a connect timeout.
"""

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import gevent
import requests.exceptions
import urllib3.exceptions
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from geventhttpclient.useragent import BadStatusCode, RetriesExceeded
from locust.contrib.fasthttp import LocustBadStatusCode
from locust.exception import CatchResponseError, ResponseError

from surgeline.samples import Outcome

TEXT_LENGTH = 200
"""Texts that user code made up are cut to this many characters: they are what failures are grouped by."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_CAUSES = ("reason", "original", "original_error", "__cause__", "__context__")
"""Where HTTP clients keep the exception behind an exception."""

_FAILURES = (
    *(CatchResponseError, ResponseError, LocustBadStatusCode, BadStatusCode),
    *(requests.exceptions.HTTPError, AssertionError),
)
_TIMEOUTS = (
    *(TimeoutError, socket.timeout, gevent.Timeout, requests.exceptions.Timeout),
    *(urllib3.exceptions.TimeoutError,),
)
_CONNECTING = frozenset(
    {"connect", "_connect_socket", "_create_socket", "create_connection", "_new_conn", "connect_ex"}
)
_READING_HEAD = frozenset({"_read_headers", "getresponse", "begin", "_read_status"})
_SENDING = frozenset({"sendall", "sendfile"})
_NOT_SENT = frozenset({"client_ports", "client_fds"})
_PORTS = frozenset({errno.EADDRNOTAVAIL, errno.EADDRINUSE})
_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})


def outcome_of(exception: object, status: int) -> tuple[Outcome, str]:
    """The outcome, and the kind word or text that goes with it; `status` is 0 where no answer came.

    A false exception (None, as a rule) is ok, as it is for Locust.
    """
    if not exception:
        return Outcome.OK, ""
    if not isinstance(exception, BaseException):
        return Outcome.FAILURE, text_of(exception)
    if isinstance(exception, _FAILURES):
        plain_status = isinstance(exception, LocustBadStatusCode | BadStatusCode | requests.exceptions.HTTPError)
        return Outcome.FAILURE, f"status {status}" if plain_status and status else text_of(exception)
    chain = list(_chain(exception))
    if any(_is_redirect_loop(link) for link in chain):
        return Outcome.FAILURE, "redirect_loop"
    passed = {name for link in chain for name in _functions(link)}
    if any(isinstance(link, _TIMEOUTS) for link in chain):
        return Outcome.TIMEOUT, _timeout_kind(chain, passed)
    kind = next((kind for link in reversed(chain) if (kind := _kind(link, passed))), None)
    if kind is not None:
        return (Outcome.NOT_SENT if kind in _NOT_SENT else Outcome.ERROR), kind
    return (Outcome.FAILURE if status else Outcome.ERROR), text_of(exception)


def native_outcome_of(exception: object, status: int, kind: str | None) -> tuple[Outcome, str]:
    """The same for a request of the native client: what went wrong on the way is known by its kind, unless the user's
    code has called it a failure."""
    outcome, error = outcome_of(exception, status)
    if kind is None or outcome in (Outcome.OK, Outcome.FAILURE):
        return outcome, error
    if kind in _NOT_SENT:
        return Outcome.NOT_SENT, kind
    return (Outcome.TIMEOUT if kind.endswith("_timeout") else Outcome.ERROR), kind


def text_of(value: object) -> str:
    """A text of somebody else's, on one line and bounded; the type's name where it says nothing."""
    try:
        text = str(value)
    except Exception:  # a __str__ of the user's may do anything
        text = ""
    text = _CONTROL.sub(" ", text).strip()
    return text[:TEXT_LENGTH] or type(value).__name__


def _chain(exception: BaseException) -> Iterator[BaseException]:
    """The exception and those behind it, outermost first, each once."""
    seen: set[int] = set()
    waiting = [exception]
    while waiting and len(seen) < 30:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        behind: list[Any] = [getattr(link, name, None) for name in _CAUSES]
        waiting += [part for part in (*behind, *link.args) if isinstance(part, BaseException)]


def _functions(exception: BaseException) -> Iterator[str]:
    trace = exception.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_name
        trace = trace.tb_next


def _is_redirect_loop(link: BaseException) -> bool:
    if isinstance(link, requests.exceptions.TooManyRedirects):
        return True
    return isinstance(link, RetriesExceeded) and "edirection limit" in str(link)


def _timeout_kind(chain: list[BaseException], passed: set[str]) -> str:
    told = requests.exceptions.ConnectTimeout | urllib3.exceptions.ConnectTimeoutError
    if any(isinstance(link, told) for link in chain) or passed & _CONNECTING:
        return "connect_timeout"
    if any(isinstance(link, requests.exceptions.ReadTimeout) for link in chain) or passed & _READING_HEAD:
        return "header_timeout"
    if any(isinstance(link, urllib3.exceptions.ReadTimeoutError) for link in chain) or "read" in passed:
        return "body_timeout"
    return "total_timeout"


def _kind(link: BaseException, passed: set[str]) -> str | None:
    """The kind word for one exception, None where it tells nothing by itself."""
    match link:
        case ssl.SSLCertVerificationError():
            return "tls_certificate"
        case ssl.SSLError():
            return "tls_handshake"
        case socket.gaierror() | urllib3.exceptions.NameResolutionError():
            return "dns"
        case ConnectionRefusedError():
            return "connect_refused"
        case BrokenPipeError():
            return "write_failed"
        case http.client.RemoteDisconnected() | HTTPConnectionClosed():
            return "reset_before_headers"
        case ConnectionResetError() | ConnectionAbortedError():
            return _reset_kind(passed)
        case urllib3.exceptions.InvalidChunkLength():
            return "bad_chunk"
        case http.client.IncompleteRead() | urllib3.exceptions.IncompleteRead():
            return "short_body"
        case http.client.LineTooLong():
            return "header_too_large"
        case HTTPParseError():
            return _parse_kind(str(link), passed)
        case (
            http.client.HTTPException()
            | urllib3.exceptions.DecodeError()
            | urllib3.exceptions.HeaderParsingError()
            | requests.exceptions.ContentDecodingError()
            | requests.exceptions.InvalidHeader()
        ):
            return "invalid_http"
        case OSError() if link.errno in _PORTS:
            return "client_ports"
        case OSError() if link.errno in _DESCRIPTORS:
            return "client_fds"
        case OSError() if link.errno in _UNREACHABLE:
            return "connect_refused"
    return None


def _reset_kind(passed: set[str]) -> str:
    if passed & _CONNECTING:
        return "connect_reset"
    if passed & _READING_HEAD:
        return "reset_before_headers"
    if passed & _SENDING:
        return "write_failed"
    return "reset_mid_body"


def _parse_kind(text: str, passed: set[str]) -> str:
    if "chunk" in text.lower():
        return "bad_chunk"
    if "before end of the headers" in text:
        return "short_head"
    return "short_body" if "incomplete" in text.lower() and "_read_headers" not in passed else "invalid_http"
