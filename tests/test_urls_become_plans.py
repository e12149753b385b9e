"""A bare URL: what is found on its origin, what is never asked for, and how much looking around may cost."""

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgeline.cli.order import Wanted, order_from
from surgeline.plan.problem import PlanError
from surgeline.plan.sources import Sourced
from surgeline.plan.sources.url import (
    DOCUMENT_PATHS,
    MOST_ENDPOINTS,
    MOST_FETCHES,
    Fetched,
    Unreachable,
    changing_word,
    endpoint_name,
    links_in,
    plan_from_url,
)
from surgeline.plan.text import dump_plan, parse_plan
from surgeline.units import NS_PER_S

ORIGIN = "http://127.0.0.1:8001"
HTML = "text/html; charset=utf-8"
JSON = "application/json"


class Site:
    """A site that is a table of paths; it remembers what was asked for."""

    def __init__(self, pages: dict[str, Any], origin: str = ORIGIN) -> None:
        self.pages = pages
        self.origin = origin
        self.asked: list[str] = []

    def fetch(self, url: str) -> Fetched:
        """A page is its HTML, plain data that is sent as JSON, a status, or a whole answer."""
        assert url.startswith(self.origin + "/")
        path = url.removeprefix(self.origin)
        self.asked.append(path)
        page = self.pages.get(path, 404)
        if isinstance(page, Fetched):
            return page
        if isinstance(page, int):
            return Fetched(page, (), b"", url)
        if isinstance(page, str):
            return Fetched(200, (("Content-Type", HTML),), page.encode(), url)
        return Fetched(200, (("content-type", JSON),), json.dumps(page).encode(), url)

    def plan(self, url: str = ORIGIN) -> Sourced:
        """What comes of a URL of the site."""
        sourced = plan_from_url(url, self.fetch)
        assert parse_plan(dump_plan(sourced.plan), "plan.yaml") == sourced.plan
        return sourced


def _sent(sourced: Sourced) -> list[str]:
    return [step.path for _, step in sourced.plan.steps()]


def _openapi(*paths: str, **more: Any) -> dict[str, Any]:
    return {"openapi": "3.0.0", "paths": {path: {"get": {}} for path in paths}, **more}


# --- the page itself -------------------------------------------------------------------------------------------------


def test_a_page_without_links_is_the_plan() -> None:
    """One scenario with one step, weight 1, and nothing to say."""
    sourced = Site({"/": "<p>hello</p>"}).plan()
    assert sourced.plan.target == ORIGIN
    assert sourced.plan.endpoints == ("GET /",)
    assert sourced.notes == ()


@pytest.mark.parametrize(
    ("url", "target", "path"),
    [
        ("127.0.0.1:8001", ORIGIN, "/"),
        ("HTTP://127.0.0.1:8001/a", ORIGIN, "/a"),
        ("http://127.0.0.1:8001/a b?q=ü{{id}}#part", ORIGIN, "/a%20b?q=%C3%BC%7B%7Bid%7D%7D"),
        ("http://127.0.0.1:8001?q=1", ORIGIN, "/?q=1"),
    ],
)
def test_the_given_path_is_the_first_endpoint(url: str, target: str, path: str) -> None:
    """Without a scheme http is meant; what cannot stand in a path is encoded; a fragment never travels."""
    site = Site({"/": "", "/a": "", path: ""})
    sourced = site.plan(url)
    assert sourced.plan.target == target
    assert _sent(sourced)[0] == path
    assert site.asked[0] == path


def test_a_given_page_is_kept_whatever_it_answers() -> None:
    """The user named it; what it answers is said."""
    sourced = Site({"/me": 401}).plan(f"{ORIGIN}/me")
    assert sourced.plan.endpoints == ("GET /me",)
    assert sourced.notes == ("GET /me answers 401",)


def test_a_root_that_is_not_there_gives_way_to_what_is() -> None:
    """Many an API has nothing at `/`; alone, it is kept with a note."""
    site = Site({"/": 404, "/openapi.json": _openapi("/books")})
    assert site.plan().plan.endpoints == ("GET /books",)
    sourced = Site({}).plan()
    assert sourced.plan.endpoints == ("GET /",)
    assert sourced.notes == (f"GET / answers 404, and nothing else was found on {ORIGIN}",)


def test_nobody_there_is_said_at_once() -> None:
    """After one request."""
    site = Site({"/": Fetched(0, (), b"", f"{ORIGIN}/", "nothing is listening on 127.0.0.1:8001")})
    with pytest.raises(Unreachable, match=r"http://127.0.0.1:8001  nothing is listening on 127.0.0.1:8001"):
        site.plan()
    assert site.asked == ["/"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://127.0.0.1/", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        ("http://[::1", "this is not a URL"),
        ("http://127.0.0.1:99999/", "this is not a URL"),
        ("http://me:secret@127.0.0.1/", "a password does not belong in a URL"),
    ],
)
def test_what_is_no_url_is_said_and_nothing_is_fetched(url: str, said: str) -> None:
    """And a password is not repeated."""
    site = Site({})
    with pytest.raises(PlanError, match=said) as caught:
        site.plan(url)
    assert "secret" not in str(caught.value)
    assert site.asked == []


def test_a_page_that_leads_to_another_origin_is_not_tested() -> None:
    """Nobody said that load may go there; the other URL is named."""
    site = Site({"/": Fetched(200, (), b"", "https://shop.test/home")})
    with pytest.raises(PlanError, match=r'leads to another origin; run that one: "https://shop\.test/home"'):
        site.plan()


# --- an OpenAPI document ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*DOCUMENT_PATHS, "/shop/openapi.json"])
def test_a_document_is_found_where_frameworks_put_it(path: str) -> None:
    """Also below the first part of the given path; then links are not followed."""
    site = Site({"/shop/a": '<a href="/linked">', path: _openapi("/books", "/authors")})
    sourced = site.plan(f"{ORIGIN}/shop/a")
    assert sourced.plan.endpoints == ("GET /shop/a", "GET /books", "GET /authors")
    assert sourced.notes == (f'endpoints come from the OpenAPI document "{ORIGIN}{path}"; run that URL for all of it',)
    assert "/linked" not in site.asked


@pytest.mark.parametrize("by", ["header", "page"])
def test_a_document_is_found_where_the_page_says(by: str) -> None:
    """By a Link header or a link element with rel=service-desc, as RFC 8631 has it, before anywhere else."""
    page = '<link rel="service-desc" href="described/api">' if by == "page" else ""
    header = (("link", '</>; rel="next", <described/api>; rel="service-desc"; type="x"'),) if by == "header" else ()
    first = Fetched(200, (("content-type", HTML), *header), page.encode(), f"{ORIGIN}/v1/")
    site = Site({"/v1/": first, "/v1/described/api": _openapi("/books")})
    assert site.plan(f"{ORIGIN}/v1/").plan.endpoints == ("GET /v1/", "GET /books")
    assert site.asked == ["/v1/", "/v1/described/api"]


def test_a_url_of_a_document_is_that_document() -> None:
    """All of it, without the document itself and without a bound."""
    site = Site({"/openapi.json": _openapi(*(f"/p{n}" for n in range(30)), servers=[{"url": "/v1"}])})
    sourced = site.plan(f"{ORIGIN}/openapi.json")
    assert len(sourced.plan.endpoints) == 30
    assert sourced.plan.target == f"{ORIGIN}/v1"
    assert site.asked == ["/openapi.json"]


def test_a_documents_base_path_and_headers_are_kept() -> None:
    """Requests go to the origin that was given, wherever the document says that it runs."""
    document = _openapi("/books", servers=[{"url": "https://api.shop.test/v2"}])
    document["paths"]["/x"] = {
        "get": {"parameters": [{"name": "X-A", "in": "header", "required": True, "example": "1"}]}
    }
    sourced = Site({"/": "", "/openapi.json": document}).plan()
    assert sourced.plan.target == ORIGIN
    assert sourced.plan.endpoints == ("GET /", "GET /v2/books", "GET /v2/x")
    assert _sent(sourced) == ["/", "/v2/books", "/v2/x"]
    assert list(sourced.plan.steps())[2][1].headers == {"X-A": "1"}


def test_a_documents_operations_that_change_something_are_left_out() -> None:
    """A bare URL is no consent to `GET /logout`."""
    sourced = Site({"/openapi.json": _openapi("/books", "/logout", "/books/purge-all")}).plan()
    assert sourced.plan.endpoints == ("GET /books",)
    assert sourced.notes[-2:] == (
        'GET /logout is left out: "logout" in it looks as if it changed something',
        'GET /books/purge-all is left out: "purge" in it looks as if it changed something',
    )


def test_a_large_document_gives_twenty_endpoints() -> None:
    """The page is one of them; the rest is counted."""
    sourced = Site({"/": "", "/openapi.json": _openapi(*(f"/p{n}" for n in range(30)))}).plan()
    assert len(sourced.plan.endpoints) == MOST_ENDPOINTS
    assert "11 more GET operations are left out: the first 19 are enough for a first look" in sourced.notes


@pytest.mark.parametrize(
    "document",
    [
        "openapi: 3.0.0\npaths: {/books: {get: {}}}\n",
        "# ours\nopenapi: '3.1.0'\npaths:\n  /books: {get: {}}\n",
    ],
)
def test_a_document_may_be_yaml(document: str) -> None:
    """Whatever type it is sent with, unless that is HTML."""
    answer = Fetched(200, (("content-type", "text/plain"),), document.encode(), f"{ORIGIN}/openapi.yaml")
    assert Site({"/": "", "/openapi.yaml": answer}).plan().plan.endpoints == ("GET /", "GET /books")


@pytest.mark.parametrize(
    "answer",
    ["<html>openapi: 3.0.0</html>", {"openapi": "3.0.0"}, {"swagger": "1.2", "paths": {}}, [], {"paths": {}}, 500],
)
def test_what_only_looks_like_a_document_is_none(answer: Any) -> None:
    """A site that answers everything with its front page has no OpenAPI document; links are followed instead."""
    site = Site({"/": '<a href="/a">', "/a": "", **dict.fromkeys(DOCUMENT_PATHS, answer)})
    assert site.plan().plan.endpoints == ("GET /", "GET /a")


def test_a_document_without_anything_to_send_gives_way_to_links() -> None:
    """And is mentioned with its reason."""
    needy = {"name": "id", "in": "path", "required": True}
    document = {"openapi": "3.0.0", "paths": {"/x/{id}": {"get": {"parameters": [needy]}}}}
    sourced = Site({"/": '<a href="/a">', "/a": "", "/openapi.json": document}).plan()
    assert sourced.plan.endpoints == ("GET /", "GET /a")
    assert sourced.notes == (
        f'the OpenAPI document at "{ORIGIN}/openapi.json" is not used: '
        "no operation of the document can be sent as it stands",
    )


# --- links -----------------------------------------------------------------------------------------------------------


def test_links_of_html_are_followed_two_steps_deep_pages_first() -> None:
    """From `a`, `link`, `script`, `img` and `iframe`; what pages are made of comes after pages."""
    site = Site(
        {
            "/": '<link rel="stylesheet" href="/style.css"><script src=/app.js></script><img src="logo.png">'
            '<a href="/books">b</a><A HREF=\'authors\'>a</A><a href="#top">t</a><a>none</a><iframe src="/ad"></iframe>',
            "/books": '<a href="/books/deep">',
            "/books/deep": '<a href="/too/deep">',
            **dict.fromkeys(["/authors", "/style.css", "/app.js", "/logo.png", "/ad", "/too/deep"], ""),
        }
    )
    assert site.plan().plan.endpoints == (
        *("GET /", "GET /books", "GET /authors", "GET /ad", "GET /style.css", "GET /app.js", "GET /logo.png"),
        "GET /books/deep",
    )


def test_links_of_json_are_followed() -> None:
    """Whole URLs and paths anywhere; relative ones only where the key says so; nothing that is a template or a text."""
    site = Site(
        {
            "/api/": {
                "books_url": "books",
                "self": f"{ORIGIN}/api/",
                "items": [{"href": "/api/items/7"}, {"cover": "/covers/a.png"}, {"title": "and/or", "note": "/ or so"}],
                "links": {"next": "?page=2", "pattern": "/api/{id}"},
                "regex": "/\\d+/",
            },
            **dict.fromkeys(["/api/books", "/api/items/7", "/covers/a.png", "/api/?page=2"], 200),
        }
    )
    site.plan(f"{ORIGIN}/api/")
    found = set(site.asked) - {*DOCUMENT_PATHS, "/api/swagger.json"}
    assert found == {"/api/", "/api/books", "/api/items/7", "/covers/a.png"}


def test_one_of_many_pages_of_a_kind_is_taken() -> None:
    """Numbers, UUIDs and long hexadecimal segments are ids, and a query makes no other endpoint."""
    uuid = "123e4567-e89b-12d3-a456-426614174000"
    hexadecimal = "d41d8cd98f00b204e9800998ecf8427e"
    paths = [
        *(
            "/books/1",
            "/books/2",
            f"/books/{uuid}",
            f"/files/{hexadecimal}",
            "/files/readme",
            "/list?page=1",
            "/list?page=2",
        ),
        "/books/1/reviews/5",
    ]
    site = Site({"/": "".join(f'<a href="{path}">' for path in paths), **dict.fromkeys(paths, "")})
    sourced = site.plan()
    assert sourced.plan.endpoints[1:] == (
        *("GET /books/{id}", "GET /files/{id}", "GET /files/readme", "GET /list", "GET /books/{id}/reviews/{id}"),
    )
    assert _sent(sourced)[1:] == [
        "/books/1",
        f"/files/{hexadecimal}",
        "/files/readme",
        "/list?page=1",
        "/books/1/reviews/5",
    ]


@pytest.mark.parametrize(
    "path",
    [
        *("/logout", "/log-out", "/users/sign_out", "/signOff", "/auth/logoff", "/items/3/delete", "/deleteItem?id=3"),
        *(
            "/cart?action=remove",
            "/admin/purge-cache",
            "/db/RESET",
            "/unsubscribe",
            "/service/restart",
            "/x/destroyAll",
        ),
    ],
)
def test_a_link_that_may_change_something_is_never_asked_for(path: str) -> None:
    """GET should be safe, and not every site keeps to that."""
    site = Site({"/": f'<a href="{path}">', path: ""})
    sourced = site.plan()
    assert path not in site.asked
    assert len(sourced.left_out) == 1
    assert "looks as if it changed something" in sourced.left_out[0].reason


@pytest.mark.parametrize(
    "path", ["/login", "/stops/5", "/deleted-items", "/blog/outlook", "/resetting", "/catalogue/out"]
)
def test_a_link_that_only_resembles_one_is_asked_for(path: str) -> None:
    """Whole words count."""
    assert changing_word(urlsplit(ORIGIN + path)) is None


def test_other_origins_are_named_and_left_alone() -> None:
    """Another host, scheme or port; mail and scripts are not even named."""
    page = (
        '<a href="https://shop.test/a"><a href="http://127.0.0.1:9/b"><a href="//cdn.test/c"><a href="https://127.0.0.1:8001/">'
        '<a href="mailto:me@shop.test"><a href="javascript:alert(1)"><a href="data:text/html,x"><a href="http://[bad">'
    )
    site = Site({"/": page})
    sourced = site.plan()
    assert sourced.plan.endpoints == ("GET /",)
    assert sourced.notes == (
        'links to other origins are left out: "https://shop.test", "http://127.0.0.1:9", "http://cdn.test", '
        '"https://127.0.0.1:8001"',
    )


def test_links_that_do_not_answer_well_are_left_out_with_what_they_answer() -> None:
    """Not found, forbidden, broken, or led away."""
    site = Site(
        {
            "/": '<a href="/gone"><a href="/mine"><a href="/broken"><a href="/away"><a href="/fine">',
            "/gone": 404,
            "/mine": 403,
            "/broken": Fetched(0, (), b"", f"{ORIGIN}/broken", "the connection was reset"),
            "/away": Fetched(200, (), b"", "https://sso.test/login"),
            "/fine": "",
        }
    )
    sourced = site.plan()
    assert sourced.plan.endpoints == ("GET /", "GET /fine")
    assert [str(left) for left in sourced.left_out] == [
        "GET /gone is left out: it answers 404",
        "GET /mine is left out: it answers 403",
        "GET /broken is left out: the connection was reset",
        "GET /away is left out: it leads to another origin",
    ]


def test_a_base_element_moves_the_links() -> None:
    """As it does in a browser."""
    site = Site({"/": '<base href="/sub/"><a href="page">', "/sub/page": ""})
    assert site.plan().plan.endpoints == ("GET /", "GET /sub/page")


def test_looking_around_is_bounded() -> None:
    """At most 20 endpoints, and at most 60 requests however many links lead nowhere."""
    many = "".join(f'<a href="/p{chr(97 + n % 26)}{chr(97 + n // 26)}">' for n in range(600))
    site = Site({"/": many})
    site.pages |= {path: "" for path in _hrefs(many)}
    sourced = site.plan()
    assert len(sourced.plan.endpoints) == MOST_ENDPOINTS
    assert str(sourced.left_out[-1]) == "what else is linked is left out: this is enough for a first look"
    dead = Site({"/": many})
    assert dead.plan().plan.endpoints == ("GET /",)
    assert len(dead.asked) <= MOST_FETCHES


def _hrefs(page: str) -> list[str]:
    return [part.split('"')[0] for part in page.split('href="')[1:]]


def test_nothing_but_the_given_origin_is_ever_fetched() -> None:
    """Whatever the page says; the site's own fetch asserts it for each URL of this file."""
    hostile = '<a href="http://127.0.0.1:8001@evil.test/"><a href="//evil.test\\@127.0.0.1:8001/x"><a href="http://127.0.0.1:8001.evil.test/">'
    site = Site({"/": hostile})
    site.plan()
    assert all(path.startswith("/") for path in site.asked)


# --- hostile answers -------------------------------------------------------------------------------------------------


def _answer(body: bytes, kind: str = HTML) -> Fetched:
    return Fetched(200, (("content-type", kind),), body, f"{ORIGIN}/")


@pytest.mark.parametrize(
    "body",
    [
        b"<a href=" * 100_000,
        b"<" * 500_000,
        b"<![if foo[" * 50_000,
        b"<!DOCTYPE [" * 50_000,
        b"<a href='" + b"x" * 500_000,
        b"<a href=x>" * 100_000,
        b"\xff\xfe\x00" * 100_000,
        b"&#" * 200_000,
    ],
    ids=range(8),
)
def test_broken_html_is_searched_without_breaking(body: bytes) -> None:
    """Bounded in what is read and in what is found."""
    assert len(links_in(_answer(body))) <= 2000


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"[1" + b"," * 1000, b"", b"\x00", b"null", b'"/a"']
)
def test_broken_json_is_searched_without_breaking(body: bytes) -> None:
    """Deep, cut short, or not a document at all."""
    assert len(links_in(_answer(body, JSON))) <= 1


@given(st.binary(max_size=300), st.sampled_from([HTML, JSON, "", "text/plain", "application/problem+json"]))
@settings(max_examples=300)
def test_any_answer_can_be_searched(body: bytes, kind: str) -> None:
    """And every link is whole: a scheme, or nothing."""
    for link in links_in(_answer(body, kind)):
        assert link.url


_CRUMBS = [
    "<a href=",
    '"',
    "'",
    ">",
    "<",
    "/a",
    "/b/1",
    "{{x}}",
    "\x1b[2J",
    " ",
    "//e.test",
    "http://",
    "?q=",
    "#",
    "\\",
    "%zz",
    "ü",
    "{",
]


@given(st.lists(st.sampled_from(_CRUMBS), max_size=30).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_page_gives_a_plan(page: str) -> None:
    """One that can be written down, read again and sent: ASCII paths without templates, one line per name."""

    def fetch(url: str) -> Fetched:
        return Fetched(200, (("content-type", HTML),), page.encode(), url)

    sourced = plan_from_url(ORIGIN, fetch)
    assert parse_plan(dump_plan(sourced.plan), "plan.yaml") == sourced.plan
    for _, step in sourced.plan.steps():
        assert step.path.isascii()
        assert "{" not in step.path
        assert step.endpoint.isprintable()
    assert all("\x1b" not in note for note in sourced.notes)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("", "GET /"),
        ("/books/12", "GET /books/{id}"),
        ("/books/12.json", "GET /books/12.json"),
        ("/v1/books", "GET /v1/books"),
        ("/a/deadbeef", "GET /a/deadbeef"),
        ("/a/deadbeefdeadbeef", "GET /a/deadbeefdeadbeef"),
        ("/a/deadbeefdeadbeef1", "GET /a/{id}"),
        ("/{{id}}", "GET /{id}"),
        ("/" + "a" * 300, "GET /" + "a" * 194 + "…"),
    ],
)
def test_an_endpoint_is_named_by_its_template(path: str, name: str) -> None:
    """Ids only where there is little doubt."""
    assert endpoint_name(urlsplit(ORIGIN + path)) == name


def test_the_same_site_gives_the_same_plan() -> None:
    """Discovery has no chance in it."""
    pages = {"/": '<a href="/a"><a href="/b">', "/a": '<a href="/c">', "/b": "", "/c": ""}
    make: Callable[[], Sourced] = Site(pages).plan
    assert make() == make()


def test_a_run_of_nothing_but_a_url_ends_where_it_began():
    """Steps up to 64 users, then one again: 64 s; what the user asks for instead is taken as it is."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        alone, given = (order_from(url, Wanted(users=users)).workload for users in (None, 3))
        server.shutdown()
    assert alone is not None and given is not None
    assert [stage.start for stage in alone.stages] == [1, 2, 4, 8, 16, 32, 64, 1]
    assert alone.duration_ns == 64 * NS_PER_S
    assert [stage.start for stage in given.stages] == [3]
