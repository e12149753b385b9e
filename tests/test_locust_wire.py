"""HTTP/1.1 answers, put together from bytes however the network cut them, and plans' requests before they are sent."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.engines import Settings
from surgeline.engines.native import compile_plan
from surgeline.locust.exchanges import Exchanges, Side
from surgeline.locust.steps import Hosted, Rendered, redirect_path
from surgeline.locust.wire import AnswerReader, Broken
from surgeline.plan.evaluate import Answer, MissingVariable, Scope
from surgeline.plan.model import Plan
from surgeline.samples import Outcome

WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x, Chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nT: x\r\n\r\n",
    "nothing": b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
    "hints": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello",
    "twice the same length": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello",
}


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(1, 40), min_size=1))
def test_an_answer_is_the_same_however_it_was_cut(name: str, sizes: list[int]) -> None:
    """Not a byte earlier than its end, and whole with its last byte."""
    data, at = WHOLE[name], 0
    reader = AnswerReader(False, 1 << 20)
    for size in (*sizes, len(data)):
        piece = data[at : at + size]
        if not piece:
            break
        at += len(piece)
        assert reader.feed(piece) == (at == len(data))
    assert bytes(reader.body) == (b"" if name == "nothing" else b"hello")
    assert reader.status == (204 if name == "nothing" else 200)
    assert reader.keep_alive and not reader.extra


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"garbage\r\n\r\n", "invalid_http"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 200 OK\r\nA 1\r\n\r\n", "invalid_http"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 5000 + b"\r\n", "header_too_large"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 300_000, "header_too_large"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n", "body_too_large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_100_000, "body_too_large"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + b"x" * 1_100_000, "body_too_large"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "bad_chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc", "bad_chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef", "bad_chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 20_000, "bad_chunk"),
    ],
)
def test_what_is_not_http_has_its_word(data: bytes, kind: str) -> None:
    """At once: no time-out is needed to find out."""
    with pytest.raises(Broken) as broken:
        AnswerReader(False, 1 << 20).feed(data)
    assert broken.value.kind == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "reset_before_headers"),
        (b"HTTP/1.1 20", "short_head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "short_body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhe", "bad_chunk"),
    ],
)
def test_an_end_in_the_middle_says_of_what(data: bytes, kind: str) -> None:
    """A connection that ends in order leaves an answer that is whole, or cut in head, body or chunks."""
    reader = AnswerReader(False, 1 << 20)
    assert not reader.feed(data)
    with pytest.raises(Broken) as broken:
        reader.finish()
    assert broken.value.kind == kind


def test_an_answer_may_end_with_its_connection() -> None:
    """Without length and chunks the body is all that comes, and the connection is not used again."""
    reader = AnswerReader(False, 1 << 20)
    assert not reader.feed(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nall ")
    assert not reader.feed(b"of it")
    reader.finish()
    assert bytes(reader.body) == b"all of it" and not reader.keep_alive


def test_head_has_no_body_and_what_follows_it_is_nobodys() -> None:
    """A server that sends one all the same loses the connection."""
    reader = AnswerReader(True, 1 << 20)
    assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert bytes(reader.body) == b"" and reader.extra


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/b?c=d#e", "/b?c=d"),
        ("b", "/a/b"),
        ("../b", "/b"),
        ("?x=1", "/a/here?x=1"),
        ("", "/a/here?q=1"),
        ("http://host:81/z", "/z"),
        ("HTTP://HOST:81", "/"),
        ("//host:81/z", "/z"),
        ("/with space/ü", "/with%20space/%C3%BC"),
        ("http://host/z", None),
        ("https://host:81/z", None),
        ("//elsewhere:81/", None),
        ("http://host:81@evil/", None),
        ("mailto:a@b", None),
        ("http://[broken", None),
    ],
)
def test_redirects_stay_within_the_origin(location: str, path: str | None) -> None:
    """Scheme, host and port must be the target's; what is left is a path that a request line can hold."""
    assert redirect_path("http://host:81", "/a/here?q=1", location) == path


def test_a_redirected_request_keeps_what_the_status_says() -> None:
    """307 and 308 keep all; 303 makes a GET of everything; 301 and 302 only of a POST; what described the body goes."""
    headers = (("Host", "h"), ("Content-Type", "text/plain"), ("X", "1"))
    post = Rendered.of("POST", "/a", headers, b"body")
    assert post.redirected(307, "/b").bytes_with("") == (
        b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nX: 1\r\nContent-Length: 4\r\n\r\nbody"
    )
    assert post.redirected(302, "/b").bytes_with("") == b"GET /b HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n"
    put = Rendered.of("PUT", "/a", headers, b"body")
    assert put.redirected(301, "/b").method == "PUT" and put.redirected(303, "/b").method == "GET"
    assert Rendered.of("HEAD", "/a", headers, b"").redirected(303, "/b").method == "HEAD"


def hosted(step: dict[str, Any], **plan: Any) -> Hosted:
    """A plan of one step, compiled for hosting."""
    value = Plan.model_validate({"target": "http://h:1/base", "scenarios": {"s": {"steps": [step]}}, **plan})
    environment = {"TOKEN": "s3cr&t!", "SHORT": "x"}
    return Hosted(value, compile_plan(value, Settings("r", 0, None, environment=environment)))


def scope_of(plan: Hosted, **more: str) -> Scope:
    """An iteration's scope."""
    return Scope({**plan.constants, **more}, random.Random(1), lambda: 12.5, user=3, iteration=4)


def test_what_varies_cannot_break_a_request() -> None:
    """A value from an answer is encoded in a path and loses its line breaks in a header; nothing new begins."""
    plan = hosted({"get": "/{{v}}?q={{v}}", "headers": {"x-v": "{{v}}"}})
    step = plan.scenarios[0].steps[0]
    request = step.render(scope_of(plan, v="a b/\r\nEvil: yes"))
    assert request.path == "/base/a%20b%2F%0D%0AEvil%3A%20yes?q=a%20b%2F%0D%0AEvil%3A%20yes"
    head = request.head.decode()
    assert "\r\nx-v: a b/ Evil: yes\r\n" in head
    assert head.count("\r\n") == len(request.headers) + 1
    with pytest.raises(MissingVariable):
        step.render(scope_of(plan))


def test_a_request_without_templates_is_made_once() -> None:
    """And is the same object each time."""
    plan = hosted({"post": "/x", "json": {"a": 1}})
    step = plan.scenarios[0].steps[0]
    assert step.render(scope_of(plan)) is step.render(scope_of(plan))
    assert step.render(scope_of(plan)).bytes_with("k=v").endswith(b'Content-Length: 7\r\nCookie: k=v\r\n\r\n{"a":1}')


def test_secrets_do_not_leave_with_what_is_stored() -> None:
    """A value from the environment is hidden in URLs (also encoded) and in exchanges, headers by their names."""
    plan = hosted(
        {"get": "/x?t={{env.TOKEN}}", "headers": {"x-token": "{{env.TOKEN}}", "authorization": "Bearer abc"}},
        variables={"public": "value"},
    )
    request = plan.scenarios[0].steps[0].render(scope_of(plan))
    assert "s3cr%26t%21" in request.path
    kept: list[dict[str, Any]] = []
    exchanges = Exchanges(plan.public, kept.append, random.Random(1))
    sides = (
        Side(f"GET http://h{request.path}", list(request.headers), b""),
        Side("200", [("Set-Cookie", "sid=abc"), ("X", "s3cr&t!")], b'{"echo": "s3cr&t!"}'),
    )
    exchanges.offer("e", 1, 2, "", lambda: sides)
    exchanges.close()
    assert [value["why"] for value in kept] == ["first", "slowest"]
    text = str(kept)
    assert "s3cr" not in text and "Bearer" not in text and "sid=abc" not in text
    assert kept[0]["answer"]["body_bytes"] == len(sides[1].body)


def test_exchanges_are_few_whatever_the_load() -> None:
    """Of ten thousand: the first, three failed, at most three random, the slowest; nothing is built for the others."""
    kept: list[dict[str, Any]] = []
    built = 0

    def sides() -> tuple[Side, Side | None]:
        nonlocal built
        built += 1
        return Side("GET http://h/", [], b""), None

    exchanges = Exchanges(lambda text: text, kept.append, random.Random(2))
    for number in range(10_000):
        exchanges.offer("e", number, 5_000 - number % 100, "status 500" if number % 7 == 0 else "", sides)
    exchanges.close()
    reasons = [value["why"] for value in kept]
    assert {why: reasons.count(why) for why in set(reasons)} == {"first": 1, "failed": 3, "random": 3, "slowest": 1}
    assert built == 7, "the first is also the slowest"


def test_an_iteration_ends_where_a_variable_is_missing() -> None:
    """The answer is a failure for it, unless something else was wrong already; then that is said."""
    plan = hosted({"get": "/", "check": {"status": 200}, "extract": {"id": "$.id"}})
    step, scope = plan.scenarios[0].steps[0], scope_of(plan)
    assert step.judge(Answer(200, [], b'{"id": 5}', 1), scope) == (Outcome.OK, "", True)
    assert scope.variables["id"] == "5"
    assert step.judge(Answer(200, [], b"{}", 1), scope) == (Outcome.FAILURE, "extract_missing", False)
    assert step.judge(Answer(500, [], b"{}", 1), scope) == (Outcome.FAILURE, "status 500", False)
