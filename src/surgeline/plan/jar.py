"""The cookies of one user of a plan, as RFC 6265 has them for one origin; where no native engine sends.

The same rules, in the same order, as the native engine's: `Domain` must be the target's host or a domain above it,
`Path` says which paths get a cookie, `Secure` ones are for https, `Max-Age` and `Expires` end them, and beyond 50
cookies or 16 KiB the oldest go. There is no list of public suffixes: a domain without a dot that is not the host itself
is taken for one. Time is handed in.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

MOST_COOKIES = 50
LONGEST_COOKIES = 16 * 1024
"""Characters of all names and values, three more for each."""
LONGEST_COOKIE = 4096
"""Characters of one name and value (RFC 6265 section 6.1)."""


@dataclass(slots=True)
class _Cookie:
    name: str
    domain: str
    """As it was set; empty for the host alone."""
    path: str
    value: str = ""
    end_s: float = float("inf")

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.domain, self.path

    @property
    def size(self) -> int:
        return len(self.name) + len(self.value) + 3


class Jar:
    """What answers of one origin have set. Moments are seconds since 1970."""

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        self._host = (parts.hostname or "").lower()
        self._secure = parts.scheme == "https"
        self._address = _is_address(self._host)
        self._cookies: list[_Cookie] = []
        """The oldest first."""

    def header(self, path: str, now_s: float) -> str:
        """The value of the `Cookie` header for a path, with or without a query; "" without cookies for it.

        Longer paths first, then the oldest (RFC 6265 section 5.4).
        """
        if not self._cookies:
            return ""
        self._cookies = [cookie for cookie in self._cookies if cookie.end_s > now_s]
        asked = path.partition("?")[0]
        sent = [cookie for cookie in self._cookies if _matches(asked, cookie.path)]
        sent.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in sent)

    def update(self, headers: Iterable[tuple[str, str]], path: str, now_s: float) -> None:
        """Takes up what the answer to a request for `path` sets, and lets go of what it removes."""
        for name, line in headers:
            if name.lower() == "set-cookie":
                self._set(line, path, now_s)

    def _set(self, line: str, asked: str, now_s: float) -> None:
        pair, *attributes = (part.strip() for part in line.split(";"))
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not name or not equals:
            return
        told = _Told()
        for attribute in attributes:
            told.note(attribute, now_s)
        domain = told.domain.lower()
        if (domain and not self._is_within(domain)) or (told.secure and not self._secure):
            return
        cookie = _Cookie(name, "" if domain == self._host else domain, told.path or _folder(asked))
        same = (
            held for held in self._cookies if (held.name, held.domain, held.path) == (name, cookie.domain, cookie.path)
        )
        held = next(same, None)
        if told.end_s <= now_s or len(name) + len(value) > LONGEST_COOKIE:
            if held is not None:
                self._cookies.remove(held)
            return
        if held is None:
            held = cookie
            self._cookies.append(held)
        held.value, held.end_s = value, told.end_s
        while len(self._cookies) > MOST_COOKIES or sum(cookie.size for cookie in self._cookies) > LONGEST_COOKIES:
            del self._cookies[0]

    def _is_within(self, domain: str) -> bool:
        """Whether a cookie of that domain is the host's (RFC 6265 section 5.1.3)."""
        above = not self._address and "." in domain and self._host.endswith(f".{domain}")
        return self._host == domain or (above and self._host != f".{domain}")


class _Told:
    """What the attributes of a `Set-Cookie` say."""

    def __init__(self) -> None:
        self.domain = ""
        self.path = ""
        self.secure = False
        self._max_age_s: float | None = None
        self._expires_s: float | None = None
        self._now_s = 0.0

    def note(self, attribute: str, now_s: float) -> None:
        """Reads one of them; what is none, or says nothing sensible, is passed over."""
        self._now_s = now_s
        key, _, value = (part.strip() for part in attribute.partition("="))
        match key.lower():
            case "max-age" if value.removeprefix("-").isascii() and value.removeprefix("-").isdigit():
                self._max_age_s = float(value[:20])
            case "expires":
                self._expires_s = _moment(value, self._expires_s)
            case "domain":
                self.domain = value.removeprefix(".")
            case "path":
                self.path = value if value.startswith("/") else ""
            case "secure":
                self.secure = True

    @property
    def end_s(self) -> float:
        """When it ends. Max-Age goes before Expires (RFC 6265 section 5.3)."""
        if self._max_age_s is not None:
            return self._now_s + self._max_age_s
        return float("inf") if self._expires_s is None else self._expires_s


def _moment(text: str, otherwise: float | None) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return otherwise


def _matches(path: str, of: str) -> bool:
    """Whether a request for `path` gets a cookie of that path (RFC 6265 section 5.1.4)."""
    return path.startswith(of) and (len(path) == len(of) or of.endswith("/") or path[len(of)] == "/")


def _folder(asked: str) -> str:
    """The path of a cookie without one: the folder of what was asked for (RFC 6265 section 5.1.4)."""
    path = asked.partition("?")[0]
    end = path.rfind("/")
    return path[:end] if end > 0 and path.startswith("/") else "/"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
