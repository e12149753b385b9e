"""URL, plan, OpenAPI document or locustfile: by content first, by name second, and a clear word for anything else."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.cli.order import Wanted, order_from
from surgeline.plan.objective import ObjectiveError
from surgeline.plan.problem import PlanError
from surgeline.plan.sources import recognise

_PLAN = "target: http://127.0.0.1:8001\nscenarios:\n  a: {steps: [{get: /}]}\n"


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8001", "https://shop.test/a?b=c", "HTTP://LOCALHOST", "localhost", "localhost:8000/docs"),
        *("127.0.0.1", "127.0.0.1:8001/a", "[::1]:8000", "shop.test:8080", " http://127.0.0.1/ "),
    ],
)
def test_a_url_is_recognised_with_and_without_its_scheme(url: str) -> None:
    """A host needs a port to be told from a file, unless it is an address or localhost."""
    assert recognise(url, url) == "url"


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        (_PLAN, "plan.yaml", "plan"),
        (_PLAN, "whatever.txt", "plan"),
        (_PLAN, "openapi.yaml", "plan"),
        ("# a plan\n\nscenarios:\n  a: {}\n", "p", "plan"),
        (json.dumps({"name": "x", "target": "http://h", "scenarios": {}}), "p.dat", "plan"),
        ('target = "http://h"\n[scenarios.a]\n', "p.dat", "plan"),
        ("[[scenarios.a.steps]]\nget = '/'\n", "p.dat", "plan"),
        ("tagret: x\n", "plan.yaml", "plan"),
        ("a: [", "plan.yml", "plan"),
        ("{", "plan.json", "plan"),
        ("x = 1", "plan.TOML", "plan"),
        ("openapi: 3.0.0\npaths: {}\n", "plan.yaml", "openapi"),
        ("# ours\n'openapi': '3.1.0'\n", "x", "openapi"),
        ("info: {title: a}\nswagger: '2.0'\n", "x.yaml", "openapi"),
        ('{"openapi": "3.0.0"}', "plan.json", "openapi"),
        ('{\n  "info": {},\n  "swagger": "2.0"\n}', "x", "openapi"),
        ('{"info":{"title":"a"},"paths":{"/a":{}},"openapi":"3.0.0"}', "x", "openapi"),
        ("from locust import HttpUser\n", "load", "script"),
        ('"""Doc."""\nimport locust.env\n', "load.txt", "script"),
        (_PLAN, "locustfile.py", "script"),
        ("", "empty.py", "script"),
    ],
)
def test_content_comes_first_and_the_name_second(text: str, name: str, kind: str) -> None:
    """A plan in a file called openapi.yaml is a plan; what is broken goes by its suffix, and gets its line."""
    assert recognise(text, name) == kind


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "plan.yaml", "this is empty"),
        (" \n", "x", "this is empty"),
        ("ftp://h/x", "ftp://h/x", '"ftp" is not http or https'),
        ('{"log": {"version": "1.2", "creator": {}}}', "a.har", "this is a HAR recording"),
        (
            '{"info": {"schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"}, "item": []}',
            "a.json",
            "this is a Postman collection",
        ),
        ("curl -X POST http://h/", "cmd.sh", "this is a curl command"),
        ("<!DOCTYPE html><html></html>", "a.html", "this is a page or an XML file"),
        ("hello", "notes.txt", "this is neither a plan nor anything that one can be made from"),
        ("\x00\x01", "a.out", "this is neither a plan"),
    ],
)
def test_anything_else_is_called_what_it_looks_like(text: str, name: str, said: str) -> None:
    """And what would be taken is named."""
    with pytest.raises(PlanError) as caught:
        recognise(text, name)
    assert said in str(caught.value)
    assert str(caught.value).endswith("Surgeline takes a URL, a plan, an OpenAPI document or a locustfile")


@given(st.text(), st.sampled_from(["", "a", "a.yaml", "a.json", "a.py", "a.har"]))
def test_any_text_is_something_or_said_to_be_nothing(text: str, name: str) -> None:
    """Never another exception."""
    try:
        assert recognise(text, name) in ("url", "plan", "openapi", "script")
    except PlanError as error:
        assert error.problems[0].where == name


@pytest.mark.parametrize("piece", ["\n", " ", "{", '"log":{', "a.", "1", "[[", "curl ", "\t{", "paths:{"])
def test_recognising_is_quick_however_odd_the_text(piece: str) -> None:
    """Only the beginning is looked at, and no pattern runs wild in it."""
    begin = time.process_time()
    try:
        recognise(piece * 1_000_000, "x.yaml")
    except PlanError as error:
        assert error.problems
    assert time.process_time() - begin < 1


def test_a_locustfile_keeps_the_objectives_it_is_given(tmp_path: Path):
    """They are judged like a plan's; a text that is none is refused before anything starts."""
    script = tmp_path / "locustfile.py"
    script.write_text("from locust import HttpUser\n")
    assert order_from(str(script), Wanted(slo=("p95<300ms",), look_first=False)).slo == ("p95<300ms",)
    with pytest.raises(ObjectiveError):
        order_from(str(script), Wanted(slo=("fast",), look_first=False))


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("data: {users: {file: none.csv}}", "plan.yaml:5:22  data.users.file: there is no file none.csv"),
        ("tls: {ca: none.pem}", "plan.yaml:5:11  tls.ca: there is no file none.pem"),
        (
            "  b: {steps: [{post: /, multipart: {a: {file: no.jpg}}}]}",
            "plan.yaml:5:40  scenarios.b.steps[0].multipart.a: there is no file no.jpg",
        ),
        (
            'auth: {bearer: "{{env.NO_TOKEN}}"}',
            "plan.yaml:5:16  auth.bearer: the environment has no NO_TOKEN",
        ),
    ],
)
def test_what_lies_outside_of_a_plan_is_missed_where_the_plan_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: str, said: str
):
    """Files and the environment are looked at after the plan was read; line and key are said all the same."""
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(f"target: http://127.0.0.1:1\nscenarios:\n  a:\n    steps: [{{get: /}}]\n{tail}\n")
    with pytest.raises(PlanError) as caught:
        order_from("plan.yaml", Wanted(look_first=False))
    assert str(caught.value).startswith(said)
