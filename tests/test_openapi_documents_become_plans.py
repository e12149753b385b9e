"""OpenAPI 3.0, 3.1 and Swagger 2.0: which operations are taken, with which values, and why the others are not."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgeline.plan.problem import PlanError
from surgeline.plan.sources import Sourced
from surgeline.plan.sources.openapi import plan_from_openapi, read_openapi
from surgeline.plan.text import dump_plan, parse_plan

BASE = "http://127.0.0.1:8001"


def _document(*parameters: Any, path: str = "/x", **more: Any) -> dict[str, Any]:
    """An OpenAPI 3.1 document whose only operation is a GET with these parameters; `more` is at the top."""
    return {"openapi": "3.1.0", "paths": {path: {"get": {"parameters": list(parameters)}}}, **more}


def _query(name: str = "q", **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": True, **more}


def _paths(sourced: Sourced) -> list[str]:
    return [step.path for _, step in sourced.plan.steps()]


def _path(*parameters: Any, path: str = "/x", **more: Any) -> str:
    """The path and query that are sent for the only operation."""
    (sent,) = _paths(plan_from_openapi(_document(*parameters, path=path, **more), base_url=BASE))
    return sent


def _reason(*parameters: Any, path: str = "/x", **more: Any) -> str:
    """Why the only operation is left out."""
    document = _document(*parameters, path=path, **more)
    document["paths"]["/fine"] = {"get": {}}
    (left,) = plan_from_openapi(document, base_url=BASE).left_out
    assert left.name == f"GET {path}"
    return left.reason


# --- where a value comes from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "sent"),
    [
        (_query(example="a"), "/x?q=a"),
        (_query(**{"x-example": "a"}), "/x?q=a"),
        (_query(examples={"one": {"value": "a"}, "two": {"value": "b"}}), "/x?q=a"),
        (_query(schema={"type": "string", "example": "a"}), "/x?q=a"),
        (_query(schema={"type": "string", "examples": ["a", "b"]}), "/x?q=a"),
        (_query(schema={"type": "string", "default": "a"}), "/x?q=a"),
        (_query(schema={"const": "a"}), "/x?q=a"),
        (_query(schema={"enum": ["a", "b"]}), "/x?q=a"),
        (_query(schema={"enum": [None, "b"]}), "/x?q=b"),
        (_query(schema={"type": "integer", "default": 0}), "/x?q=0"),
        (_query(schema={"type": "boolean", "default": False}), "/x?q=false"),
        (_query(schema={"type": "number", "example": 1.5}), "/x?q=1.5"),
        (_query(schema={"anyOf": [{"type": "null"}, {"type": "string", "default": "a"}]}), "/x?q=a"),
        (_query(schema={"allOf": [{"type": "string"}, {"enum": ["a"]}]}), "/x?q=a"),
        (_query(schema={"oneOf": [{"oneOf": [{"example": "a"}]}]}), "/x?q=a"),
        (_query(content={"application/json": {"schema": {"type": "string", "example": "a"}}}), "/x?q=a"),
        (_query(content={"application/json": {"example": "a"}}), "/x?q=a"),
        # nearest to the parameter wins
        (_query(example="a", schema={"example": "b", "default": "c", "enum": ["d"]}), "/x?q=a"),
        (_query(schema={"example": "b", "default": "c", "enum": ["d"]}), "/x?q=b"),
        (_query(schema={"default": "c", "const": "e", "enum": ["d"]}), "/x?q=c"),
    ],
    ids=json.dumps,
)
def test_a_required_parameter_takes_the_nearest_value(parameter: dict[str, Any], sent: str) -> None:
    """Example, then default, constant, first of an enumeration; the parameter's before its schema's; null is none."""
    assert _path(parameter) == sent


def test_an_optional_parameter_is_sent_when_it_has_an_example() -> None:
    """A default is what the server takes anyway, and an enumeration promises nothing."""
    optional = [
        {"name": "a", "in": "query", "example": 1},
        {"name": "b", "in": "query", "schema": {"type": "integer", "examples": [2]}},
        {"name": "c", "in": "query", "schema": {"default": 3}},
        {"name": "d", "in": "query", "schema": {"enum": [4]}},
        {"name": "e", "in": "query"},
    ]
    assert _path(*optional) == "/x?a=1&b=2"


@pytest.mark.parametrize(
    ("parameter", "path", "sent"),
    [
        ({"name": "id", "in": "path", "example": "a b/c?d"}, "/x/{id}", "/x/a%20b%2Fc%3Fd"),
        ({"name": "id", "in": "path", "example": "{{uuid}}"}, "/x/{id}", "/x/%7B%7Buuid%7D%7D"),
        ({"name": "id", "in": "path", "example": "ünï"}, "/x/{id}", "/x/%C3%BCn%C3%AF"),
        ({"name": "ids", "in": "path", "example": [1, 2]}, "/x/{ids}", "/x/1,2"),
        ({"name": "id", "in": "path", "example": 7}, "/x/{id}/y/{id}", "/x/7/y/7"),
        (_query(example="a&b=c d"), "/x", "/x?q=a%26b%3Dc%20d"),
        (_query("filter[name]", example="a"), "/x", "/x?filter[name]=a"),
        (_query(example=["a", "b"]), "/x", "/x?q=a&q=b"),
        (_query(example=["a", "b"], explode=False), "/x", "/x?q=a,b"),
        (_query(example=["a", "b"], style="pipeDelimited"), "/x", "/x?q=a%7Cb"),
        (_query(example=["a", "b"], style="spaceDelimited", explode=False), "/x", "/x?q=a%20b"),
        (_query(schema={"type": "array", "items": {"enum": ["a", "b"]}}), "/x", "/x?q=a"),
        (_query(schema={"type": "array", "items": {"type": "string"}, "default": ["c"]}), "/x", "/x?q=c"),
    ],
)
def test_a_value_is_written_as_its_place_asks(parameter: dict[str, Any], path: str, sent: str) -> None:
    """Percent-encoded, so that it cannot change the path or become a template; lists by style."""
    assert _path(parameter, path=path) == sent


def test_headers_and_cookies_are_sent() -> None:
    """But for those that OpenAPI says to ignore."""
    document = _document(
        {"name": "X-Version", "in": "header", "required": True, "schema": {"default": 2}},
        {"name": "Accept", "in": "header", "required": True, "example": "text/html"},
        {"name": "a", "in": "cookie", "required": True, "example": "1;2"},
        {"name": "b", "in": "cookie", "example": "3"},
    )
    ((_, step),) = plan_from_openapi(document, base_url=BASE).plan.steps()
    assert step.headers == {"X-Version": "2", "cookie": "a=1%3B2; b=3"}


def test_an_operations_parameters_replace_those_of_its_path() -> None:
    """By name and place; the others of the path stay."""
    document = _document(_query("a", example="own"))
    document["paths"]["/x"]["parameters"] = [_query("a", example="path"), _query("b", example="path")]
    assert _paths(plan_from_openapi(document, base_url=BASE)) == ["/x?a=own&b=path"]


# --- why an operation is left out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "path", "reason"),
    [
        (_query(), "/x", 'the query parameter "q" has no example, default or enum'),
        (_query(schema={"type": "string"}), "/x", 'the query parameter "q" has no example, default or enum'),
        (_query(schema={"enum": [None]}), "/x", 'the query parameter "q" has no example, default or enum'),
        ({"name": "id", "in": "path"}, "/x/{id}", 'the path parameter "id" has no example, default or enum'),
        (_query(example="a"), "/x/{id}", 'the path parameter "id" is not described'),
        ({"name": "id", "in": "path", "example": ".."}, "/x/{id}", "which changes the path"),
        ({"name": "id", "in": "path", "example": ""}, "/x/{id}", "which changes the path"),
        (_query(example={"a": 1}), "/x", 'the parameter "q" is an object, which is not written out'),
        (_query(example=[[1]]), "/x", 'the parameter "q" is a list of lists, which is not written out'),
        (_query(example=[{"a": 1}]), "/x", 'the parameter "q" is an object, which is not written out'),
        ({"name": "X-A", "in": "header", "example": "a\nb"}, "/x", 'the header "X-A" cannot be sent'),
        ({"name": "X-A", "in": "header", "example": "{{uuid}}"}, "/x", 'the header "X-A" cannot be sent'),
        ({"name": "X A", "in": "header", "example": "a"}, "/x", '"X A" is not the name of a header'),
        (_query(schema={"$ref": "#/nowhere"}), "/x", 'the reference "#/nowhere" leads nowhere in the document'),
        (_query(schema={"$ref": "#/../x"}), "/x", "leads nowhere"),
        (_query(schema={"$ref": "other.yaml#/a"}), "/x", 'it refers to "other.yaml#/a", which is not fetched'),
        (_query(schema={"$ref": "file:///etc/passwd"}), "/x", "which is not fetched"),
        (_query(schema={"$ref": "http://169.254.169.254/"}), "/x", "which is not fetched"),
        ({"$ref": "#/loop"}, "/x", "a reference leads back to itself"),
    ],
)
def test_what_cannot_be_sent_is_left_out_with_its_reason(parameter: dict[str, Any], path: str, reason: str) -> None:
    """The operation is named, and the reason says what is missing; the rest of the document is taken."""
    assert reason in _reason(parameter, path=path, loop={"$ref": "#/loop"})


def test_every_other_method_is_listed() -> None:
    """Nothing that changes data is sent because a document describes it."""
    methods = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
    sourced = plan_from_openapi({"openapi": "3.0.0", "paths": {"/x": {word: {} for word in methods}}}, base_url=BASE)
    assert sourced.plan.endpoints == ("GET /x",)
    assert [left.name for left in sourced.left_out] == [f"{word.upper()} /x" for word in methods[1:]]
    assert {left.reason for left in sourced.left_out} == {"only GET is sent unless a plan says otherwise"}


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ({"requestBody": {"required": True}}, "requires a body"),
        ({"parameters": [{"name": "b", "in": "body", "required": True}]}, "requires a body"),
        ({"servers": [{"url": "http://other"}]}, "served from another place"),
        ({"requestBody": {"$ref": "#/nowhere"}}, "leads nowhere"),
    ],
)
def test_an_operation_that_is_more_than_a_get_is_left_out(operation: dict[str, Any], reason: str) -> None:
    """A body, or another server."""
    document = {"openapi": "3.0.0", "paths": {"/x": {"get": operation}, "/fine": {"get": {}}}}
    (left,) = plan_from_openapi(document, base_url=BASE).left_out
    assert reason in left.reason


def test_a_path_that_cannot_be_read_is_listed() -> None:
    """Broken parts of a document do not take the rest with them; extensions are no paths."""
    paths = {"/a": {"$ref": "#/nowhere"}, "/b": 5, "c": {"get": {}}, "x-d": {"get": {}}, "/fine": {"get": {}}}
    sourced = plan_from_openapi({"openapi": "3.0.0", "paths": paths}, base_url=BASE)
    assert sourced.plan.endpoints == ("GET /fine",)
    assert [left.name for left in sourced.left_out] == ['"/a"', '"/b"', '"c"']


def test_a_document_without_anything_to_send_says_why() -> None:
    """The first reasons are in the complaint itself."""
    with pytest.raises(PlanError) as caught:
        plan_from_openapi(_document(_query()), base_url=BASE, where="shop.json")
    assert str(caught.value) == (
        "shop.json  no operation of the document can be sent as it stands:\n"
        '  GET /x is left out: the query parameter "q" has no example, default or enum'
    )
    with pytest.raises(PlanError, match="the document has no GET operation"):
        plan_from_openapi({"openapi": "3.0.0", "paths": {}}, base_url=BASE)


# --- references ------------------------------------------------------------------------------------------------------


def test_references_inside_of_the_document_are_followed() -> None:
    """To paths, parameters, schemas and examples, through escapes and percent signs."""
    document = _document(
        {"$ref": "#/components/parameters/q"},
        _query("r", examples={"one": {"$ref": "#/components/examples/one"}}),
        _query("s", schema={"$ref": "#/a~1b/c~0d/0"}),
        _query("t", schema={"$ref": "#/a%20b"}),
        components={
            "parameters": {"q": _query(schema={"$ref": "#/components/schemas/word"})},
            "schemas": {"word": {"$ref": "#/components/schemas/text"}, "text": {"default": "a"}},
            "examples": {"one": {"value": "b"}},
        },
        **{"a/b": {"c~d": [{"default": "c"}]}, "a b": {"default": "d"}},
    )
    document["paths"]["/y"] = {"$ref": "#/paths/~1x"}
    assert _paths(plan_from_openapi(document, base_url=BASE)) == ["/x?q=a&r=b&s=c&t=d", "/y?q=a&r=b&s=c&t=d"]


def test_cycles_are_cut() -> None:
    """A schema that contains itself, a chain of references in a circle, and branches without end."""
    components = {
        "schemas": {
            "tree": {"type": "array", "items": {"$ref": "#/components/schemas/tree"}},
            "a": {"$ref": "#/components/schemas/b"},
            "b": {"$ref": "#/components/schemas/a"},
            "wide": {"anyOf": [{"$ref": "#/components/schemas/wide"}] * 3},
        }
    }
    for name in components["schemas"]:
        assert _reason(_query(schema={"$ref": f"#/components/schemas/{name}"}), components=components)


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address on loopback, and who connected to it."""
    seen: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, peer = server.accept()
            except OSError:
                return
            seen.append(str(peer))
            connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", seen
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_no_reference_opens_a_connection_or_a_file(listener: tuple[str, list[str]], tmp_path: Any) -> None:
    """Wherever in a document it stands."""
    url, seen = listener
    secret = tmp_path / "secret.json"
    secret.write_text('{"example": "secret"}')
    for reference in (f"{url}/a.json#/x", secret.as_uri(), str(secret), f"../{secret.name}", "//127.0.0.1/x"):
        document = _document(_query(schema={"$ref": reference}), {"$ref": reference})
        document["paths"] |= {
            "/a": {"$ref": reference},
            "/b": {"get": {"requestBody": {"$ref": reference}}},
            "/c": {"get": {"parameters": [_query(examples={"a": {"$ref": reference}})]}},
            "/d": {"get": {"parameters": [_query(examples={"a": {"externalValue": reference}})]}},
            "/fine": {"get": {}},
        }
        sourced = plan_from_openapi(read_openapi(json.dumps(document), "a.json"), base_url=BASE)
        assert sourced.plan.endpoints == ("GET /fine",)
        assert len(sourced.left_out) == 5
    assert seen == []


# --- where it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("top", "base", "target"),
    [
        ({}, BASE, BASE),
        ({"servers": [{"url": "/v1"}]}, BASE, f"{BASE}/v1"),
        ({"servers": [{"url": "/v1"}]}, f"{BASE}/", f"{BASE}/v1"),
        ({"servers": [{"url": "/v1"}]}, f"{BASE}/api/", f"{BASE}/api"),
        ({"servers": [{"url": "https://api.shop.test/v2/"}]}, BASE, f"{BASE}/v2"),
        ({"servers": [{"url": "https://api.shop.test/v2/"}]}, None, "https://api.shop.test/v2"),
        (
            {
                "servers": [
                    {
                        "url": "https://{host}:{port}/v3",
                        "variables": {"host": {"default": "h"}, "port": {"default": 81}},
                    }
                ]
            },
            None,
            "https://h:81/v3",
        ),
    ],
)
def test_the_target_is_the_server_or_what_is_said_instead(top: dict[str, Any], base: str | None, target: str) -> None:
    """A base URL without a path keeps the document's base path; with one, it replaces it."""
    assert plan_from_openapi(_document(**top), base_url=base).plan.target == target


@pytest.mark.parametrize(
    "top", [{}, {"servers": [{"url": "/v1"}]}, {"servers": [{"url": "{host}/v1"}]}, {"servers": "x"}]
)
def test_a_document_without_a_host_needs_a_target(top: dict[str, Any]) -> None:
    """What to add is said."""
    with pytest.raises(PlanError, match="names no server with a host; say where the API runs with --target URL"):
        plan_from_openapi(_document(**top))


def test_another_server_than_the_documents_is_remarked() -> None:
    """So that nobody thinks production was tested; and which of several is used."""
    top = {"servers": [{"url": "https://api.shop.test"}, {"url": "https://eu.shop.test"}]}
    assert plan_from_openapi(_document(**top), base_url=BASE).remarks == (
        f'the document names "https://api.shop.test" as its server; requests go to "{BASE}"',
    )
    assert plan_from_openapi(_document(**top)).remarks == (
        'the document names 2 servers; the first, "https://api.shop.test", is used',
    )


# --- Swagger 2.0 -----------------------------------------------------------------------------------------------------


def test_swagger_2_is_read() -> None:
    """Where a parameter is its own schema, and host, basePath and schemes say where it runs."""
    document = {
        "swagger": "2.0",
        "info": {"title": "Old shop"},
        "host": "shop.test:8080",
        "basePath": "/v1/",
        "schemes": ["wss", "https"],
        "parameters": {"page": {"name": "page", "in": "query", "type": "integer", "required": True, "default": 1}},
        "paths": {
            "/a/{id}": {
                "get": {
                    "parameters": [
                        {"$ref": "#/parameters/page"},
                        {"name": "id", "in": "path", "required": True, "type": "string", "enum": ["x"]},
                        {"name": "tags", "in": "query", "required": True, "type": "array", "x-example": ["b", "c"]},
                        {"name": "ids", "in": "query", "collectionFormat": "multi", "x-example": [1, 2]},
                        {"name": "old", "in": "query", "collectionFormat": "pipes", "x-example": [1, 2]},
                        {
                            **{"name": "kinds", "in": "query", "required": True, "type": "array"},
                            "items": {"type": "string", "enum": ["k"]},
                        },
                    ]
                },
                "post": {},
            },
            "/b": {"get": {"parameters": [{"name": "f", "in": "formData", "required": True, "type": "file"}]}},
        },
    }
    sourced = plan_from_openapi(document)
    assert sourced.plan.target == "https://shop.test:8080/v1"
    assert sourced.plan.title == "Old shop"
    assert _paths(sourced) == ["/a/x?page=1&tags=b,c&ids=1&ids=2&old=1%7C2&kinds=k"]
    assert [left.name for left in sourced.left_out] == ["POST /a/{id}", "GET /b"]


def test_swagger_2_without_schemes_is_http() -> None:
    """And without a host it needs a target."""
    document: dict[str, Any] = {"swagger": "2.0", "host": "h", "paths": {"/a": {"get": {}}}}
    assert plan_from_openapi(document).plan.target == "http://h"
    assert plan_from_openapi({**document, "swagger": 2.0}, base_url=BASE).plan.target == BASE
    del document["host"]
    with pytest.raises(PlanError, match="--target URL"):
        plan_from_openapi(document)


@pytest.mark.parametrize("version", ["1.2", "4.0.0", ""])
def test_an_unknown_version_is_said(version: str) -> None:
    """Rather than guessed at."""
    with pytest.raises(PlanError, match="is no version of OpenAPI that is known"):
        plan_from_openapi({"openapi": version, "paths": {}}, base_url=BASE)


# --- what is remarked, and what may be asked for ---------------------------------------------------------------------


def test_operations_that_ask_for_authentication_or_are_deprecated_are_taken_and_named() -> None:
    """Security of the whole document counts, an operation may take it back, and an empty need is none."""
    document = {
        "openapi": "3.0.0",
        "security": [{"key": []}],
        "paths": {
            "/a": {"get": {}},
            "/b": {"get": {"security": []}},
            "/c": {"get": {"security": [{"token": []}, {}]}},
            "/d": {"get": {"security": [{"token": []}], "deprecated": True}},
        },
    }
    sourced = plan_from_openapi(document, base_url=BASE)
    assert len(sourced.plan.endpoints) == 4
    assert sourced.remarks == (
        "GET /d is marked as deprecated",
        'GET /a, GET /d ask for authentication ("key", "token"); pass it with -H "Authorization: …"',
    )


def test_one_may_ask_for_some_operations_only() -> None:
    """By name, operation id or tag, with shell patterns; the others are not even listed."""
    document = {
        "openapi": "3.0.0",
        "paths": {
            "/a/{id}": {"get": {"parameters": [{"name": "id", "in": "path", "example": 1}]}, "post": {}},
            "/b": {"get": {"operationId": "listB"}},
            "/c": {"get": {"tags": ["shelf", 5]}},
            "/d": {"get": {}},
        },
    }

    def only(*patterns: str) -> tuple[str, ...]:
        return plan_from_openapi(document, base_url=BASE, only=patterns).plan.endpoints

    assert only("GET /a/*") == ("GET /a/{id}",)
    assert only("list*", "shelf") == ("GET /b", "GET /c")
    sourced = plan_from_openapi(document, base_url=BASE, most=2)
    assert sourced.plan.endpoints == ("GET /a/{id}", "GET /b")
    assert sourced.remarks == ("2 more GET operations are left out: the first 2 are enough for a first look",)


def test_each_operation_is_a_scenario_named_by_its_template() -> None:
    """One step, weight 1; the plan can be written down and read again."""
    document = _document(
        {"name": "id", "in": "path", "example": 5}, path="/books/{id}", info={"title": " The\n shop \x1b[2J "}
    )
    plan = plan_from_openapi(document, base_url=BASE).plan
    assert list(plan.scenarios) == list(plan.endpoints) == ["GET /books/{id}"]
    assert plan.scenarios["GET /books/{id}"].weight == 1
    assert plan.title == "The shop \ufffd[2J"
    assert parse_plan(dump_plan(plan), "plan.yaml") == plan


def test_names_stay_apart_when_long_paths_are_cut() -> None:
    """Two endpoints never share a name by accident."""
    long = "/" + "a" * 300
    document = {"openapi": "3.0.0", "paths": {f"{long}/1": {"get": {}}, f"{long}/2": {"get": {}}}}
    names = plan_from_openapi(document, base_url=BASE).plan.endpoints
    assert len(set(names)) == 2
    assert names[1].endswith(" (2)")


def test_notes_are_few_however_long_the_document_is() -> None:
    """By reason, with the first names and how many more there are."""
    paths: dict[str, Any] = {f"/{n}": {"get": {"parameters": [_query(f"q{n}")]}, "post": {}} for n in range(40)}
    sourced = plan_from_openapi({"openapi": "3.0.0", "paths": {**paths, "/fine": {"get": {}}}}, base_url=BASE)
    assert len(sourced.left_out) == 80
    assert len(sourced.notes) == 12
    assert sourced.notes[1].endswith("POST /11 and 28 more are left out: only GET is sent unless a plan says otherwise")
    assert sourced.notes[-1] == "more is left out, for 30 other reasons"


# --- reading ---------------------------------------------------------------------------------------------------------


def test_documents_are_read_as_json_and_as_yaml() -> None:
    """By what they begin with, not by their names."""
    document = _document(_query(example="a"))
    as_yaml = "openapi: 3.1.0\npaths:\n  /x:\n    get:\n      responses: {200: {description: fine}}\n"
    assert read_openapi(json.dumps(document), "a.txt") == document
    assert read_openapi(json.dumps(document, indent=1).encode(), "a.yaml") == document
    assert read_openapi(as_yaml, "a.json")["paths"]["/x"]["get"]["responses"] == {"200": {"description": "fine"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "this is not JSON"),
        ("a: [", "never closed|ends inside"),
        ("[]", 'neither "openapi" nor "swagger"'),
        ('{"paths": {}}', 'neither "openapi" nor "swagger"'),
        ('{"openapi": 5}', 'neither "openapi" nor "swagger"'),
        ("[" * 1000, "levels deep"),
        ('{"a":' * 1000, "levels deep|not JSON"),
        ('{"openapi": "3.0.0", "a": ' + "[" * 500 + "]" * 500 + "}", "levels deep"),
        ("openapi: !!python/name:os.system x", "the tag"),
        ("x" * (5 << 20), "longer than 4 MiB"),
        ('{"a": "' + "x" * (33 << 20), "longer than 32 MiB"),
        (b"\xff\xfe{\x00", "UTF-16"),
    ],
    ids=range(12),
)
def test_what_is_no_document_is_said(text: str | bytes, said: str) -> None:
    """With the same guards that plans have."""
    with pytest.raises(PlanError, match=said):
        read_openapi(text, "a.json")


def test_ten_thousand_operations_take_seconds() -> None:
    """Read, resolved, and made a plan of, with references in each; generous for a busy machine."""
    item = {
        "parameters": [{"$ref": "#/components/parameters/id"}],
        "get": {"parameters": [_query(schema={"$ref": "#/components/schemas/word"})], "security": [{"key": []}]},
        "post": {},
    }
    document = {
        "openapi": "3.0.3",
        "paths": {f"/shelf{n}/{{id}}": item for n in range(10_000)},
        "components": {
            "parameters": {"id": {"name": "id", "in": "path", "required": True, "schema": {"default": 1}}},
            "schemas": {"word": {"enum": ["a"]}},
        },
    }
    text = json.dumps(document)
    begin = time.process_time()
    sourced = plan_from_openapi(read_openapi(text, "big.json"), base_url=BASE)
    assert time.process_time() - begin < 5
    assert len(sourced.plan.endpoints) == 10_000
    assert len(sourced.left_out) == 10_000


# --- anything --------------------------------------------------------------------------------------------------------

_WORDS = (
    *("parameters", "schema", "example", "examples", "default", "enum", "in", "name", "required", "items", "content"),
    *(
        "$ref",
        "allOf",
        "anyOf",
        "security",
        "servers",
        "url",
        "variables",
        "requestBody",
        "get",
        "post",
        "type",
        "value",
    ),
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=6),
    st.sampled_from(["path", "query", "header", "cookie", "#/paths", "#/components/a", "array", "id", "{{", "a\nb"]),
)
_ANY = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=5),
    max_leaves=15,
)
_PARAMETER = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["id", "q", "X-A", "a b"]),
        "in": st.sampled_from(["path", "query", "header", "cookie", "body"]),
    },
    optional={"required": _ANY, "schema": _ANY, "example": _ANY, "examples": _ANY, "style": _ANY, "content": _ANY},
)
_OPERATION = st.one_of(_ANY, st.fixed_dictionaries({"parameters": st.lists(_PARAMETER | _ANY, max_size=3)}))


@given(
    st.dictionaries(
        st.sampled_from(["/a", "/a/{id}", "/{{id}}", "b", ""]),
        st.dictionaries(st.sampled_from(["get", "post", "$ref"]), _OPERATION),
    ),
    st.fixed_dictionaries({}, optional={"servers": _ANY, "components": _ANY, "security": _ANY, "info": _ANY}),
    st.sampled_from([{"openapi": "3.0.0"}, {"openapi": "3.1.0"}, {"swagger": "2.0"}]),
)
@settings(max_examples=400, deadline=None)
def test_any_document_is_a_plan_or_a_complaint(paths: Any, top: dict[str, Any], version: dict[str, Any]) -> None:
    """However little of it is what the standard says; what comes of it can be sent and written down."""
    try:
        sourced = plan_from_openapi({**version, "paths": paths, **top}, base_url=BASE)
    except PlanError as error:
        assert str(error)
        return
    assert parse_plan(dump_plan(sourced.plan), "plan.yaml") == sourced.plan
    for _, step in sourced.plan.steps():
        assert step.path.isascii()
        assert "{" not in step.path
        assert step.method == "GET"
