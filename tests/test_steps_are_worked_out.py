"""A step of a plan, a scope and an answer: what is sent, whether the answer is right, what is taken from it."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.plan import evaluate
from surgeline.plan.evaluate import Answer, MissingVariable, Scope
from surgeline.plan.jar import Jar
from surgeline.plan.model import Plan, Step


def _scope(**variables: str) -> Scope:
    return Scope(dict(variables), random.Random(1), lambda: 1700000000.75, user=3, iteration=5, seq=7)


def _plan(step: dict[str, Any], **more: Any) -> tuple[Plan, Step]:
    plan = Plan.model_validate(
        {"target": "http://h:1/api", "scenarios": {"a": {"steps": [step]}}, "variables": {"v": "x"}, **more}
    )
    return plan, plan.scenarios["a"].steps[0]


def _sent(step: dict[str, Any], scope: Scope | None = None, **more: Any) -> evaluate.Request:
    return evaluate.prepare(*_plan(step, **more), scope or _scope(id="5/6 ü", token="t"))


def _answer(body: bytes | str = b"", status: int = 200, headers: Any = (), ns: int = 1_000_000) -> Answer:
    return Answer(status, headers, body.encode() if isinstance(body, str) else body, ns)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{id}}-{{ id }}", "5/6 ü-5/6 ü"),
        ("{{now}} {{now_ms}}", "1700000000 1700000000750"),
        ("{{user}}.{{iteration}}.{{seq}}", "3.5.7"),
        ("{{int(4,4)}}", "4"),
        ("{{choice( red )}}", "red"),
        ("{{env.X}}", "y"),
    ],
)
def test_a_template_is_filled_in(template: str, text: str) -> None:
    """Variables first, then generators."""
    scope = _scope(id="5/6 ü")
    scope.variables["env.X"] = "y"
    assert evaluate.render(template, scope) == text


def test_chance_comes_from_the_draws_that_were_handed_in() -> None:
    """The same seed gives the same values, within their bounds."""
    texts = [evaluate.render("{{uuid}} {{int(1,3)}} {{choice(a,b)}}", _scope()) for _ in range(2)]
    assert texts[0] == texts[1]
    scope = _scope()
    drawn = [evaluate.render("{{int(1,3)}} {{choice(a,b)}}", scope).split() for _ in range(200)]
    assert {number for number, _ in drawn} == {"1", "2", "3"}
    assert {word for _, word in drawn} == {"a", "b"}


@pytest.mark.parametrize("template", ["{{nope}}", "{{int(1)}}", "{{env.NOPE}}", "{{open(x)}}"])
def test_a_name_that_is_not_there_is_named(template: str) -> None:
    """Whoever asked gets to know which."""
    with pytest.raises(MissingVariable) as caught:
        evaluate.render(template, _scope())
    assert caught.value.args[0] == template.strip("{}")


def test_what_is_filled_in_cannot_leave_its_place() -> None:
    """Encoded in paths, queries and forms, escaped in JSON, as it is elsewhere."""
    scope = _scope(id='a/b?c="d"&\n')
    encoded = "a%2Fb%3Fc%3D%22d%22%26%0A"
    assert _sent({"get": "/x/{{id}}", "query": {"q": "{{id}}", "{{id}}": "é"}}, scope).path == (
        f"/api/x/{encoded}?q={encoded}&{encoded}=%C3%A9"
    )
    assert json.loads(_sent({"post": "/", "json": {"a": "{{id}}"}}, scope).body or b"") == {"a": 'a/b?c="d"&\n'}
    assert _sent({"post": "/", "form": {"a": "{{id}}", "b": True, "c": 1.5}}, scope).body == (
        f"a={encoded}&b=true&c=1.5".encode()
    )
    assert _sent({"post": "/", "body": "{{id}}"}, scope).body == b'a/b?c="d"&\n'
    raw = {"post": "/", "body": '{"a": "{{id}}"}', "headers": {"Content-Type": "application/json"}}
    assert json.loads(_sent(raw, scope).body or b"") == {"a": 'a/b?c="d"&\n'}


@given(st.text())
def test_any_value_survives_json_and_urls(value: str) -> None:
    """Whatever a server answered earlier."""
    text = value.encode(errors="replace").decode()
    sent = _sent({"post": "/{{id}}", "json": ["{{id}}"]}, _scope(id=text))
    assert json.loads(sent.body or b"") == [text]
    assert sent.path.isascii()
    assert sent.path.count("/") == 2


def test_the_path_carries_base_path_and_query() -> None:
    """A whole URL replaces the base path; a query is appended to one that is there."""
    assert _sent({"get": "/a?b=1", "query": {"c": "d e", "n": 2, "t": False}}).path == "/api/a?b=1&c=d%20e&n=2&t=false"
    assert _sent({"get": "http://h:1/whole?x=1"}).path == "/whole?x=1"
    assert _sent({"get": "http://h:1"}).path == "/"


def test_a_later_header_replaces_an_earlier_one() -> None:
    """The sender's own, plan, auth, step; whatever their case. What a step has comes last, and cookies behind all."""
    plan, step = _plan(
        {"get": "/", "headers": {"X-B": "step", "authorization": "Bearer {{token}}"}},
        headers={"x-a": "plan", "x-b": "plan", "x-c": "plan"},
        auth={"bearer": "plan", "header": {"x-key": "k"}},
    )
    scope = _scope(token="t")
    scope.jar = Jar(plan.target)
    scope.jar.update([("Set-Cookie", "sid=1; Path=/")], "/", scope.now_s())
    sent = evaluate.prepare(plan, step, scope, [("X-C", "own"), ("X-D", "own")])
    assert sent.headers == (
        *(("x-c", "plan"), ("X-D", "own"), ("x-a", "plan"), ("x-key", "k")),
        *(("X-B", "step"), ("authorization", "Bearer t")),
    )
    assert sent.cookies == "sid=1"
    assert sent.head("h:1").endswith(b"\r\nauthorization: Bearer t\r\nCookie: sid=1\r\n\r\n")


def test_a_body_brings_its_content_type_unless_the_step_has_one() -> None:
    """JSON and forms do; a plain body does not."""
    assert dict(_sent({"post": "/", "json": 1}).headers)["content-type"] == "application/json"
    assert dict(_sent({"post": "/", "form": {}}).headers)["content-type"] == "application/x-www-form-urlencoded"
    assert _sent({"post": "/", "body": "x"}).headers == ()
    assert _sent({"get": "/"}).body is None
    own = _sent({"post": "/", "json": 1, "headers": {"Content-Type": "application/vnd.api+json"}})
    assert own.headers == (("Content-Type", "application/vnd.api+json"),)


def test_basic_auth_is_encoded_from_the_environments_values() -> None:
    """Where a value is not there yet, its name stays in."""
    plan, _ = _plan({"get": "/"}, auth={"basic": "{{env.USER}}:{{env.PW}}"})
    (header,) = evaluate.auth_headers(plan, {"env.USER": "me", "env.PW": "s3cret"})
    assert header == ("authorization", "Basic bWU6czNjcmV0")


def test_the_environment_names_of_a_plan_are_those_in_its_templates() -> None:
    """Wherever they stand; a missing one is named."""
    plan, _ = _plan(
        {"post": "/{{env.A}}", "json": {"{{env.B}}": ["{{ env.C }}"]}},
        auth={"bearer": "{{env.D}}"},
        variables={"v": "{{env.E}}"},
    )
    assert evaluate.environment_names(plan) == {"A", "B", "C", "D", "E"}
    with pytest.raises(MissingVariable) as caught:
        evaluate.constants(plan, dict.fromkeys("ABCD", "x"))
    assert caught.value.args[0] == "env.E"


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "answer", "wrong"),
    [
        ({}, _answer(status=204), ""),
        ({}, _answer(status=302), ""),
        ({}, _answer(status=404), "status 404"),
        ({}, _answer(status=500), "status 500"),
        ({"status": 404}, _answer(status=404), ""),
        ({"status": ["2xx", [400, 404]]}, _answer(status=403), ""),
        ({"status": ["2xx", [400, 404]]}, _answer(status=405), "status 405"),
        ({"time": "< 1ms"}, _answer(ns=1_000_000), ""),
        ({"time": "< 1ms"}, _answer(ns=1_000_001), "check time"),
        ({"body": "é"}, _answer("caf\u00e9"), ""),
        ({"body": "tea"}, _answer("caf\u00e9"), "check body contains tea"),
        ({"body": "{{a}}"}, _answer("caf\u00e9 1"), ""),
        ({"body": {"contains": ["a", "x"]}}, _answer("abc"), "check body contains x"),
        ({"body": {"not": ["x", "b"]}}, _answer("abc"), "check body not b"),
        ({"body": {"regex": "^[a-c]+$"}}, _answer("abc"), ""),
        ({"body": {"regex": ["a", "^b"]}}, _answer("abc"), "check body regex ^b"),
        ({"size": "< 3"}, _answer("abc"), ""),
        ({"size": "< 2"}, _answer("abc"), "check size"),
        ({"size": "> 4"}, _answer("abc"), "check size"),
        ({"size": "1..3"}, _answer("abc"), ""),
        ({"size": 3}, _answer("abc"), ""),
        ({"json": {"$.n": {"above": 1, "at_most": 2}}}, _answer('{"n": 2}'), ""),
        ({"json": {"$.n": {"above": 1, "below": 2}}}, _answer('{"n": 2}'), "check json $.n below"),
        ({"json": {"$.n": {"at_least": 1}}}, _answer('{"n": "2"}'), "check json $.n at least"),
        ({"json": {"$.n": {"exists": True}}}, _answer('{"n": null}'), ""),
        ({"json": {"$.n": {"exists": False}}}, _answer('{"n": null}'), "check json $.n exists"),
        ({"json": {"$.n": {"not": 2}}}, _answer("{}"), "check json $.n not"),
        ({"json": {"$.n": {"not": 2}}}, _answer('{"n": 3}'), ""),
        ({"json": {"$.n": {"equals": {"not": 2}}}}, _answer('{"n": {"not": 2}}'), ""),
        ({"json": {"$.n": {"not": 2, "other": 1}}}, _answer('{"n": {"not": 2, "other": 1}}'), ""),
        ({"json": {"$.n": 1}}, _answer('{"n": true}'), "check json $.n"),
        ({"header": {"x": "b"}}, _answer(headers=[("X", "a"), ("x", "b")]), ""),
        ({"header": {"content-type": "json"}}, _answer(headers=[("Content-Type", "application/json")]), ""),
        ({"header": {"content-type": "json"}}, _answer(), "check header content-type"),
        ({"json": {"$.a[0].b": 1}}, _answer('{"a": [{"b": 1}]}'), ""),
        ({"json": {"$.a": None}}, _answer('{"a": null}'), ""),
        ({"json": {"$.a": None}}, _answer("{}"), "check json $.a"),
        ({"json": {"$.a": 2}}, _answer('{"a": 1}'), "check json $.a"),
        ({"json": {"$.a": 2}}, _answer("no json"), "check json $.a"),
        ({"json": {"$.a": 2}}, _answer(b"\xff\xfe"), "check json $.a"),
    ],
)
def test_an_answer_is_judged_by_the_first_thing_that_is_wrong(check: Any, answer: Answer, wrong: str) -> None:
    """Status, time, size, headers, body, then JSON; without a check 2xx and 3xx are right."""
    _, step = _plan({"get": "/", "check": check})
    assert evaluate.judge(step, answer, _scope(a="1")) == wrong


@pytest.mark.parametrize(
    ("extract", "answer", "value"),
    [
        ("$.id", _answer('{"id": 5}'), "5"),
        ("$.id", _answer('{"id": "five"}'), "five"),
        ("$.id", _answer('{"id": {"a": [1, "é"]}}'), '{"a":[1,"é"]}'),
        ("$.id", _answer('{"id": true}'), "true"),
        ("$.id", _answer('{"id": 1.5}'), "1.5"),
        ("$.a[*].id", _answer('{"a": [{"id": 1}, {"id": 2}]}'), "1"),
        ({"regex": 'id="(\\d+)"'}, _answer('<a id="7">'), "7"),
        ({"regex": "\\d+"}, _answer("a 12 b"), "12"),
        ({"header": "location"}, _answer(headers=[("Location", "/x")]), "/x"),
        ({"cookie": "sid"}, _answer(headers=[("set-cookie", "a=1"), ("Set-Cookie", "sid=2; Path=/; HttpOnly")]), "2"),
    ],
)
def test_a_variable_is_taken_from_an_answer(extract: Any, answer: Answer, value: str) -> None:
    """The first match, as text."""
    _, step = _plan({"get": "/", "extract": {"it": extract}})
    assert evaluate.extract(step, answer) == {"it": value}


@pytest.mark.parametrize(
    ("extract", "answer"),
    [
        ("$.id", _answer('{"id": null}')),
        ("$.id", _answer("no json")),
        ({"regex": "a(x)?b(c)"}, _answer("abc")),
        ({"cookie": "sid"}, _answer(headers=[("set-cookie", "sid=; Max-Age=0")])),
        ({"header": "location"}, _answer()),
    ],
)
def test_nothing_is_not_a_value(extract: Any, answer: Answer) -> None:
    """null, a group that took no part, a cookie that is removed: nothing that a later step could send."""
    _, step = _plan({"get": "/", "extract": {"it": extract}})
    with pytest.raises(MissingVariable):
        evaluate.extract(step, answer)


@pytest.mark.parametrize("extract", ["$.id", {"regex": "x(y)"}, {"header": "location"}, {"cookie": "sid"}])
def test_what_is_not_in_an_answer_is_named(extract: Any) -> None:
    """By the variable that cannot be had."""
    _, step = _plan({"get": "/", "extract": {"it": extract}})
    with pytest.raises(MissingVariable) as caught:
        evaluate.extract(step, _answer("5"))
    assert caught.value.args[0] == "it"


def test_a_removed_cookie_is_empty() -> None:
    """Max-Age=0 takes it away."""
    headers = [("set-cookie", "a=1; Max-Age=0"), ("set-cookie", "b=2; max-age=10"), ("x", "c=3")]
    assert evaluate.set_cookies(headers) == {"a": "", "b": "2"}
