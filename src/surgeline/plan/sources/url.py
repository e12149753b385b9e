"""A bare URL turned into a plan: the page itself, and what it or an OpenAPI document reveals on the same origin.

Nothing but GET is asked for, one request at a time, through the `fetch` that the caller hands in; this module opens no
connection itself. Where the origin offers an OpenAPI document, that says what there is; otherwise links are followed
two steps deep, and what does not answer with 2xx is left out. Whatever looks as if it changed something (`/logout`,
`/items/3/delete`) is not asked for, and other origins are only named.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from surgeline.plan.model import LONGEST_NAME
from surgeline.plan.problem import PlanError, printable, quoted
from surgeline.plan.sources import LeftOut, Sourced
from surgeline.plan.sources.openapi import is_openapi, plan_from_openapi, read_openapi
from surgeline.plan.text import plan_from_data

MOST_ENDPOINTS = 20
MOST_FETCHES = 60
"""Requests that looking around may cost the target, all together."""
MOST_DEPTH = 2
"""Links are followed from the page, and from what the page leads to."""
MOST_LINKS = 2000
"""Links read from one answer."""
MOST_BODY_CHARACTERS = 1 << 20
"""As much of an answer is searched for links."""

DOCUMENT_PATHS = (
    *("/openapi.json", "/swagger.json", "/v1/__api__", "/spec.json", "/openapi.yaml", "/api/openapi.json"),
    *("/api/swagger.json", "/v1/openapi.json", "/swagger/v1/swagger.json", "/v3/api-docs", "/openapi.yml"),
)
"""Where frameworks put their document: FastAPI, flask-restx, Kinto, apispec, Django and ASP.NET, in that order."""

_CHANGES = frozenset(
    {
        *("logout", "logoff", "signout", "signoff", "delete", "remove", "destroy", "purge", "drop", "erase", "wipe"),
        *("reset", "revoke", "cancel", "disable", "deactivate", "unsubscribe", "uninstall", "shutdown", "restart"),
        *("reboot", "stop", "kill", "terminate", "flush", "truncate"),
    }
)
"""Words in a path or query for which a link is not followed: GET should be safe, and not every site keeps to that."""

_IDENTIFIER = re.compile(
    r"\d+|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(?=[a-fA-F]*\d)[0-9a-fA-F]{16,64}"
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_LINK_KEYS = frozenset(
    {
        *("href", "url", "link", "self", "next", "prev", "previous", "first", "last", "related", "uri", "location"),
        *("links", "_links"),
    }
)
_SERVICE_DESC = re.compile(r'<([^>]*)>[^,]*?;\s*rel\s*=\s*"?[^",;]*\bservice-desc\b', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a GET brought.

    Where no answer came, `status` is 0 and `error` a clause such as "nothing is listening on 127.0.0.1:8000"; else
    `error` is empty.
    `final_url` is where redirects led. `body` may be cut short by whoever fetched.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    final_url: str
    error: str = ""

    def header(self, name: str) -> str:
        """A header's value whatever its case; empty without it."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @property
    def good(self) -> bool:
        """Whether an answer came and its status is 2xx."""
        return not self.error and 200 <= self.status < 300


Fetch = Callable[[str], Fetched]


class Unreachable(PlanError):
    """The first request of all got no answer."""


def plan_from_url(url: str, fetch: Fetch) -> Sourced:
    """The plan for what answers at a URL; without a scheme, http is meant.

    Raises Unreachable where no answer comes, and PlanError for what is not a URL or leads to another origin.
    """
    url = url if "://" in url else f"http://{url}"
    parts = _checked(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    first = fetch(_join(origin, parts))
    if first.error:
        raise Unreachable.of(url, first.error)
    look = _Look(origin, fetch)
    if not look.same_origin(urlsplit(first.final_url)):
        raise PlanError.of(url, f"this leads to another origin; run that one: {quoted(first.final_url, 200)}")
    document = _document_in(first, url)
    if document is not None:
        return plan_from_openapi(document, base_url=origin, where=url)
    return look.around(parts, first)


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise PlanError.of(quoted(url)[1:-1], f"this is not a URL: {printable(str(error))}") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise PlanError.of(quoted(url)[1:-1], "this is not an http or https URL, as in http://127.0.0.1:8000")
    if parts.username or parts.password:
        raise PlanError.of(parts.hostname, 'a password does not belong in a URL; pass -H "Authorization: …"')
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower())


def _join(origin: str, parts: SplitResult) -> str:
    return origin + _path_of(parts)


def _path_of(parts: SplitResult) -> str:
    """Path and query as they are sent: everything that cannot stand there, templates too, percent-encoded."""
    path = quote(parts.path or "/", safe="/-._~!$&'()*+,;=:@%")
    return path + (f"?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else "")


_QUERY_SAFE = "/-._~!$&'()*+,;=:@%?[]"


def _document_in(answer: Fetched, where: str) -> dict[str, Any] | None:
    """The OpenAPI document that an answer is; None where it is none."""
    head = answer.body[:4096].lstrip()
    kind = answer.header("content-type").lower()
    if not answer.good or "html" in kind or not (head.startswith(b"{") or re.search(rb"(?m)^(openapi|swagger):", head)):
        return None
    try:
        document = read_openapi(answer.body, where)
    except PlanError:
        return None
    return document if is_openapi(document) and isinstance(document.get("paths"), dict) else None


@dataclass(slots=True)
class _Look:
    """One look around an origin."""

    origin: str
    fetch: Fetch
    fetches: int = 1
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Endpoint's name to its request."""
    left_out: list[LeftOut] = field(default_factory=list)
    others: dict[str, None] = field(default_factory=dict)
    """Other origins that were linked to."""
    tried: set[str] = field(default_factory=set)
    """Names of endpoints that were asked for or left out."""

    def same_origin(self, parts: SplitResult) -> bool:
        own = urlsplit(self.origin)
        return (parts.scheme.lower(), parts.hostname, _port(parts)) == (own.scheme, own.hostname, _port(own))

    def around(self, parts: SplitResult, first: Fetched) -> Sourced:
        notes: list[str] = []
        given = parts.path.strip("/") or parts.query
        name = endpoint_name(parts)
        self.tried.add(name)
        if given or first.good:
            self.steps[name] = {"get": _path_of(parts)}
            if not first.good:
                notes.append(f"{name} answers {first.status}")
        document = self.document(parts, first)
        if document is not None:
            notes += self.take(*document)
        if document is None or len(self.steps) <= 1:
            self.follow(first)
        if not self.steps:
            self.steps[name] = {"get": _path_of(parts)}
            notes.append(f"{name} answers {first.status}, and nothing else was found on {self.origin}")
        if self.others:
            listed = ", ".join(quoted(origin) for origin in list(self.others)[:5])
            more = f" and {len(self.others) - 5} more" if len(self.others) > 5 else ""
            notes.append(f"links to other origins are left out: {listed}{more}")
        plan = plan_from_data(
            {
                "target": self.origin,
                "scenarios": {name: {"steps": [{**step, "name": name}]} for name, step in self.steps.items()},
            },
            self.origin,
        )
        return Sourced(plan, tuple(notes), tuple(self.left_out))

    # --- an OpenAPI document of the origin ---

    def document(self, parts: SplitResult, first: Fetched) -> tuple[dict[str, Any], str] | None:
        """The first OpenAPI document found, and its URL."""
        for url in self.places(parts, first):
            answer = self.get(url)
            if answer is None:
                return None
            found = _document_in(answer, url)
            if found is not None:
                return found, url
        return None

    def places(self, parts: SplitResult, first: Fetched) -> list[str]:
        """Where a document may be: what the page says itself, then where frameworks put it."""
        named = [urljoin(first.final_url, found[1]) for found in _SERVICE_DESC.finditer(first.header("link")[:4096])]
        if "html" in first.header("content-type").lower():
            named += [link.url for link in links_in(first) if link.is_document]
        named += [self.origin + path for path in DOCUMENT_PATHS]
        base = parts.path.strip("/").partition("/")[0]
        if base and "." not in base:
            named += [f"{self.origin}/{quote(base)}/{leaf}" for leaf in ("openapi.json", "swagger.json")]
        return list(dict.fromkeys(url for url in named if self.same_origin(_split(url))))

    def take(self, document: dict[str, Any], url: str) -> list[str]:
        """Adds what a document reveals to the steps; what to say about it."""
        room = MOST_ENDPOINTS - len(self.steps)
        try:
            sourced = plan_from_openapi(document, base_url=self.origin, where=url, most=room)
        except PlanError as error:
            reason = error.problems[0].message.splitlines()[0].rstrip(":")
            return [f"the OpenAPI document at {quoted(url, 200)} is not used: {reason}"]
        prefix = urlsplit(sourced.plan.target).path
        known = {step["get"] for step in self.steps.values()}
        for _, step in sourced.plan.steps():
            path = prefix + step.path
            name = f"GET {prefix}{step.endpoint.removeprefix('GET ')}"[:LONGEST_NAME]
            if word := changing_word(_split(self.origin + path)):
                self.left_out.append(_changes(name, word))
            elif path not in known:
                self.steps.setdefault(name, {"get": path, **({"headers": step.headers} if step.headers else {})})
        self.left_out += sourced.left_out
        return [
            f"endpoints come from the OpenAPI document {quoted(url, 200)}; run that URL for all of it",
            *sourced.remarks,
        ]

    # --- links ---

    def follow(self, first: Fetched) -> None:
        """Adds what links lead to, nearest first, until there are enough."""
        waiting = deque((link, 1) for link in self.wanted(first))
        beyond = False
        while waiting:
            link, depth = waiting.popleft()
            parts = _split(link)
            name = endpoint_name(parts)
            if name in self.tried:
                continue
            if len(self.steps) >= MOST_ENDPOINTS:
                beyond = True
                break
            self.tried.add(name)
            if word := changing_word(parts):
                self.left_out.append(_changes(name, word))
                continue
            answer = self.get(link)
            if answer is None:
                beyond = True
                break
            if self.add(name, parts, answer) and depth < MOST_DEPTH:
                waiting.extend((further, depth + 1) for further in self.wanted(answer))
        if beyond:
            self.left_out.append(LeftOut("what else is linked", "this is enough for a first look"))

    def wanted(self, answer: Fetched) -> list[str]:
        """The links of an answer that stay on the origin, pages before what pages are made of."""
        found = links_in(answer)
        ordered = sorted(found, key=lambda link: link.is_part)
        wanted = []
        for link in ordered:
            parts = _split(link.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                continue
            if self.same_origin(parts):
                wanted.append(link.url)
            elif len(self.others) < 100:
                self.others.setdefault(f"{parts.scheme}://{parts.netloc}")
        return wanted

    def add(self, name: str, parts: SplitResult, answer: Fetched) -> bool:
        if answer.error:
            self.left_out.append(LeftOut(name, answer.error))
        elif not self.same_origin(_split(answer.final_url)):
            self.left_out.append(LeftOut(name, "it leads to another origin"))
        elif not answer.good:
            self.left_out.append(LeftOut(name, f"it answers {answer.status}"))
        else:
            self.steps[name] = {"get": _path_of(parts)}
            return True
        return False

    def get(self, url: str) -> Fetched | None:
        """The answer; None when looking around has cost enough."""
        if self.fetches >= MOST_FETCHES:
            return None
        self.fetches += 1
        return self.fetch(_join(self.origin, _split(url)))


def _changes(name: str, word: str) -> LeftOut:
    return LeftOut(name, f"{quoted(word)} in it looks as if it changed something")


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme.lower())
    except ValueError:
        return None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def endpoint_name(parts: SplitResult) -> str:
    """`GET /books/{id}`: a path's endpoint, with numbers, UUIDs and long hexadecimal segments as `{id}`; no query."""
    segments = (parts.path or "/").split("/")
    path = "/".join("{id}" if _IDENTIFIER.fullmatch(segment) else segment for segment in segments)
    name = f"GET {printable(path).replace('{{', '{').replace('}}', '}')}"
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def changing_word(parts: SplitResult) -> str | None:
    """The word in a URL that says a GET there may change something; None where there is none."""
    words = (word.lower() for word in _WORD.findall(f"{parts.path} {parts.query}".replace("sign-out", "signout")))
    compact = re.findall(r"log-?_?out|log-?_?off|sign-?_?out|sign-?_?off", f"{parts.path} {parts.query}".lower())
    return next(iter(compact), None) or next((word for word in words if word in _CHANGES), None)


# --- links in an answer ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """Where an answer leads. `is_part`: a style, script or image; `is_document`: said to be an API's description."""

    url: str
    is_part: bool = False
    is_document: bool = False


def links_in(answer: Fetched) -> list[Link]:
    """The links of an HTML or JSON answer, whole and without fragment, each once, in its order."""
    kind = answer.header("content-type").lower()
    text = answer.body[:MOST_BODY_CHARACTERS].decode(errors="replace")
    if "html" in kind:
        raw = _html_links(text)
    elif "json" in kind or text[:1] in "{[":
        raw = list(_json_links(text))
    else:
        return []
    base = answer.final_url
    found: dict[str, Link] = {}
    for link in raw:
        if len(found) >= MOST_LINKS:
            break
        try:
            url = urljoin(base, link.url.strip()).partition("#")[0]
        except ValueError:
            continue
        if url and len(url) <= 2000:
            found.setdefault(url, Link(url, link.is_part, link.is_document))
    return list(found.values())


class _Links(HTMLParser):
    """Collects addresses from the tags that lead somewhere by GET."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Link] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes a tag's address."""
        if len(self.found) >= MOST_LINKS:
            return
        named = {name: value for name, value in attrs if value is not None}
        if tag == "base" and not self.base:
            self.base = named.get("href", "")
        elif tag in ("a", "area") and "href" in named:
            self.found.append(Link(named["href"]))
        elif tag == "link" and "href" in named:
            relations = named.get("rel", "").lower().split()
            if not {"preconnect", "dns-prefetch"} & set(relations):
                is_page = bool({"next", "prev", "alternate", "service-desc"} & set(relations))
                self.found.append(Link(named["href"], not is_page, "service-desc" in relations))
        elif tag in ("script", "img", "iframe", "source", "audio", "video", "embed") and "src" in named:
            self.found.append(Link(named["src"], tag != "iframe"))


def _html_links(text: str) -> list[Link]:
    parser = _Links()
    with suppress(AssertionError):  # what the parser of older Pythons says to some broken declarations
        parser.feed(text)
    if not parser.base:
        return parser.found
    return [Link(urljoin(parser.base, link.url), link.is_part, link.is_document) for link in parser.found]


def _json_links(text: str) -> Iterator[Link]:
    """Texts in JSON that are addresses: whole URLs anywhere, paths anywhere, and relative ones under telling keys."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    waiting: deque[tuple[Any, bool]] = deque([(document, False)])
    seen = 0
    while waiting and seen < 20 * MOST_LINKS:
        seen += 1
        value, telling = waiting.popleft()
        if isinstance(value, dict):
            waiting.extend((child, telling_key(key)) for key, child in value.items())
        elif isinstance(value, list):
            waiting.extend((child, telling) for child in value)
        elif isinstance(value, str) and _is_address(value, telling):
            yield Link(value)


def telling_key(key: str) -> bool:
    """Whether what stands under a key in JSON is an address, even a relative one."""
    return key.lower() in _LINK_KEYS or key.lower().endswith(("_url", "_uri", "_link"))


def _is_address(text: str, telling: bool) -> bool:
    if not text or any(char.isspace() for char in text) or "{" in text:
        return False
    if text.startswith(("http://", "https://")):
        return True
    return re.fullmatch(r"/[A-Za-z0-9][^\\]*", text) is not None or (telling and ":" not in text)
