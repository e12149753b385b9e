"""A few whole requests with their answers, as evidence: of each endpoint first, slowest, failed, random ones.

What is kept is bounded (bodies by their beginning, size and hash) and redacted: credentials and cookies by the names of
their headers, values that came from the environment wherever they stand.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

MOST_FAILED = 3
MOST_RANDOM = 3
RANDOM_RATIO = 0.01
MOST_ENDPOINTS = 2_000
"""Endpoints with evidence: scripts that name requests by their ids have no end of them."""
BODY_HEAD = 2_000
MOST_HEADERS = 60
LONGEST_HEADER = 500

_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-csrf-token"}
)
_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Side:
    """One side of an exchange: a request's (method and URL in `line`) or an answer's (its status)."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(slots=True)
class _Kept:
    first: bool = False
    failed: int = 0
    random: int = 0
    slowest_ns: int = -1
    slowest: dict[str, Any] | None = None


class Exchanges:
    """What has been kept of each endpoint, and what of a new one is worth keeping."""

    def __init__(self, public: Callable[[str], str], write: Callable[[dict[str, Any]], None], draws: Random) -> None:
        self._public = public
        self._write = write
        self._draws = draws
        self._kept: dict[str, _Kept] = {}

    def offer(
        self,
        endpoint: str,
        at_ns: int,
        response_ns: int,
        error: str,
        sides: Callable[[], tuple[Side, Side | None]],
    ) -> None:
        """Keeps the exchange if it is the first, the slowest so far, failed, or drawn. `sides` is asked only then."""
        kept = self._kept.get(endpoint)
        if kept is None:
            if len(self._kept) >= MOST_ENDPOINTS:
                return
            kept = self._kept[endpoint] = _Kept()
        why = ""
        if not kept.first:
            kept.first, why = True, "first"
        elif error and kept.failed < MOST_FAILED:
            kept.failed, why = kept.failed + 1, "failed"
        elif kept.random < MOST_RANDOM and self._draws.random() < RANDOM_RATIO:
            kept.random, why = kept.random + 1, "random"
        slowest = response_ns > kept.slowest_ns
        if not why and not slowest:
            return
        value = self._value(endpoint, at_ns, response_ns, error, *sides())
        if why:
            self._write({**value, "why": why})
        if slowest:
            kept.slowest_ns, kept.slowest = response_ns, value

    def close(self) -> None:
        """Writes the slowest of each endpoint: which they are is known only now."""
        for kept in self._kept.values():
            if kept.slowest is not None:
                self._write({**kept.slowest, "why": "slowest"})
                kept.slowest = None

    def _value(
        self, endpoint: str, at_ns: int, response_ns: int, error: str, request: Side, answer: Side | None
    ) -> dict[str, Any]:
        method, _, url = request.line.partition(" ")
        told: dict[str, Any] | None = None
        if answer is not None:
            told = {
                "status": int(answer.line),
                "headers": self._headers(answer.headers),
                "body_head": self._text(answer.body),
                "body_bytes": len(answer.body),
                "body_sha256": hashlib.sha256(answer.body).hexdigest(),
            }
        return {
            "endpoint": endpoint,
            "at_ns": at_ns,
            "request": {
                "method": method,
                "url": self._public(url),
                "headers": self._headers(request.headers),
                "body_head": self._text(request.body) if request.body else None,
                "body_bytes": len(request.body),
            },
            "answer": told,
            "error": error or None,
            "response_ns": response_ns,
        }

    def _headers(self, headers: Iterable[tuple[str, str]]) -> list[list[str]]:
        return [
            [name, _HIDDEN if name.lower() in _SECRET_HEADERS else self._public(value)[:LONGEST_HEADER]]
            for name, value in list(headers)[:MOST_HEADERS]
        ]

    def _text(self, body: bytes) -> str:
        return self._public(body[:BODY_HEAD].decode(errors="replace"))


def sides_of(method: str, url: str, response: Any) -> tuple[Side, Side | None]:
    """The two sides as the answer of a stock client shows them. A body that nobody has read is not read here."""
    request = getattr(response, "request", None)
    asked = Side(
        f"{method} {url}", _pairs(getattr(request, "headers", None)), _bytes(_first(request, "body", "payload"))
    )
    status = getattr(response, "status_code", 0)
    if not status:
        return asked, None
    held = vars(response)
    # requests keeps what it has read in `_content` (False before), geventhttpclient in `_cached_content`.
    body = held.get("_content") or getattr(response, "_cached_content", b"")
    if not body and ("_answered" in held or "_native" in held):  # the native client's, which nobody has looked into
        body = held["_answered"].answer.body if "_answered" in held else held["_native"].body
    return asked, Side(str(int(status)), _pairs(getattr(response, "headers", None)), _bytes(body))


def _first(holder: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(holder, name, None)) is not None), None)


def _pairs(headers: Any) -> list[tuple[str, str]]:
    try:
        return [(str(name), str(value)) for name, value in headers.items()]
    except (AttributeError, TypeError, ValueError):
        return []


def _bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode(errors="replace")
    return bytes(body) if isinstance(body, bytes | bytearray) else b""
