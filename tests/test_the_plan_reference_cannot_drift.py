"""The published schema and the reference page say what the model says, and the schema takes what the reader takes."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from surgeline.plan.evaluate import GENERATORS
from surgeline.plan.model import Plan
from surgeline.plan.objective import parse_objectives
from surgeline.plan.problem import PlanError
from surgeline.plan.schema import PARTS, keys_at, owner_of, plan_schema
from surgeline.plan.sources.openapi import MOST_JSON_BYTES, MOST_YAML_BYTES
from surgeline.plan.sources.url import MOST_ENDPOINTS, MOST_FETCHES
from surgeline.plan.text import parse_plan
from surgeline.plan.tree import MOST_ALIAS_NODES, MOST_BYTES, MOST_DEPTH, read_tree

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that writes the reference."""
    spec = importlib.util.spec_from_file_location("plan_reference", ROOT / "scripts" / "plan_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    """The reference page."""
    return (REFERENCE / "plan.md").read_text(encoding="utf-8")


def _takes(data: Any) -> bool:
    """Whether the published schema takes plain data."""
    return bool(jsonschema.Draft202012Validator(plan_schema()).is_valid(data))


def test_the_published_schema_is_the_models(script: ModuleType) -> None:
    """After a change of the model, `scripts/plan_reference.py` writes it anew."""
    assert (REFERENCE / "plan.schema.json").read_text(encoding="utf-8") == script.schema_text()
    jsonschema.Draft202012Validator.check_schema(plan_schema())


def test_the_tables_of_the_page_are_the_models(script: ModuleType, page: str) -> None:
    """Every key has its row, with what it means."""
    assert script.with_tables(page) == page
    for line in page.splitlines():
        if re.match(r"\| `[a-z_]+` \|.*\|.*\|.*\|$", line):
            assert line.split("|")[-2].strip(), f"no meaning: {line}"
    assert PARTS.keys() == {"Plan", *plan_schema()["$defs"]}


def test_every_generator_has_its_row(page: str) -> None:
    """In the table of templates, and none that does not exist."""
    section = page.partition("## Templates")[2].partition("\n## ")[0]
    first = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    shown = {name.partition("(")[0] for name in re.findall(r"\{\{([a-z_]+(?:\([^)]*\))?)\}\}", first)}
    assert shown == set(GENERATORS)


def test_every_objective_of_the_page_is_one(page: str) -> None:
    """And each kind of objective is on the page."""
    section = page.partition("## Objectives")[2].partition("\n## ")[0]
    texts = re.findall(r"`([^`]* [<>] [^`]+)`", section)
    assert {objective.metric for text in texts for objective in parse_objectives(text)} == {
        *("quantile", "mean", "max", "errors", "rate", "apdex", "seconds"),
    }


def test_the_bounds_on_the_page_are_those_of_the_code(page: str) -> None:
    """Numbers in prose drift first."""
    words = " ".join(page.split())
    for bound in (
        f"up to {MOST_ALIAS_NODES:,} parts",
        f"at most {MOST_BYTES >> 20} MiB and is at most {MOST_DEPTH} levels deep",
        f"up to {MOST_JSON_BYTES >> 20} MiB of JSON or {MOST_YAML_BYTES >> 20} MiB of YAML",
        f"at most {MOST_ENDPOINTS} endpoints, found with at most {MOST_FETCHES} requests",
    ):
        assert bound in words


def test_the_complaint_on_the_page_is_the_real_one(page: str) -> None:
    """Word for word."""
    text = "target: http://127.0.0.1:1\nscenarios:\n  a: {steps: [{get: /}]}\nworkload:\n  model: open\n  stages:\n"
    with pytest.raises(PlanError) as caught:
        parse_plan(text + "  - rate: 5/s\n    durations: 3s\n", "plan.yaml")
    assert str(caught.value) in page


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"], ids=lambda path: path.name
)
def test_every_plan_in_the_docs_is_a_plan(path: Path) -> None:
    """Each YAML block with a target and scenarios is read without complaint."""
    if not path.exists():
        pytest.skip("not written yet")
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        if re.search(r"^target:", block, re.MULTILINE) and "scenarios:" in block:
            assert parse_plan(block, str(path))


_WHOLE: dict[str, Any] = {
    "target": "https://shop.test:8443/v1",
    "name": "shop",
    "headers": {"accept": "application/json"},
    "auth": {"bearer": "{{env.TOKEN}}", "header": {"x-key": "{{env.KEY}}"}},
    "variables": {"shelf": "novels", "page": 3, "ratio": 0.5},
    "data": {"users": {"file": "more/users.csv", "order": "sequential", "at_end": "stop", "sha256": "0" * 64}},
    "timeout": "10s",
    "redirects": 0,
    "max_body": "1GiB",
    "insecure": True,
    "connection": {
        "http": "2",
        "streams": 100,
        "keep_alive": True,
        "share": "pool",
        "proxy": "http://me:{{env.PROXY_PASSWORD}}@127.0.0.1:3128",
        "source_addresses": ["127.0.0.2", "127.0.0.4..127.0.0.9"],
        "ip": 4,
    },
    "tls": {
        "ca": "ca.pem",
        "certificate": "more/client.pem",
        "key": "client.key",
        "versions": ["1.2", "1.3"],
        "resumption": False,
        "server_name": "api.test",
    },
    "scenarios": {
        "browse": {
            "weight": 3,
            "think_time": "1s..3s",
            "pacing": "~lognormal(2s, 0.5)",
            "once": [{"post": "/login", "retry": 3, "think_time": "~exp(2s)"}],
            "steps": [
                {
                    "get": "/products",
                    "name": "list",
                    "query": {"q": "{{shelf}}", "n": 3, "x": 1.5, "all": False},
                    "headers": {"x-a": "b"},
                    "check": {
                        "status": [200, "3xx", [400, 404]],
                        "time": "< 300ms",
                        "body": {"contains": ["x", "y"], "not": "z", "regex": ["a+", "b"]},
                        "size": "< 10kB",
                        "json": {"$.a": [1, None, {"b": True}]},
                        "header": {"content-type": "json"},
                    },
                    "extract": {
                        "id": "$.items[0].id",
                        "csrf": {"regex": 'name="csrf" value="([^"]+)"'},
                        "next": {"header": "location"},
                        "session": {"cookie": "sid"},
                    },
                    "timeout": "2s",
                    "retry": {
                        "times": 2,
                        "on": [503, "error"],
                        "backoff": "1s..2s",
                        "factor": 1.5,
                        "most": "10s",
                    },
                    "transaction": "look",
                    "think_time": 0,
                },
                {"post": "/a", "json": {"id": "{{id}}", "n": [1, None]}},
                {"put": "/a", "form": {"a": 1, "b": "{{csrf}}"}},
                {"patch": "/a", "body": "raw {{session}}"},
                {
                    "post": "/b",
                    "multipart": {
                        "title": "{{id}}",
                        "n": 3,
                        "photo": {"file": "a/b.jpg", "filename": "c.jpg", "type": "image/x", "sha256": "0" * 64},
                        "more": [{"file": "c"}, {"text": "{}", "type": "application/json"}, "x"],
                    },
                    "transfer": "chunked",
                },
                {"events": "/s", "until": {"messages": 3, "text": "{{id}}", "time": "5s"}},
                {"events": "/s", "until": 3, "json": {"stream": True}},
                {"events": "/s", "until": "done"},
                {
                    "websocket": "/w",
                    "messages": [
                        {"send": "hello {{id}}"},
                        {"send_json": {"id": "{{id}}"}},
                        {"expect": "hello"},
                        {
                            "expect": {
                                "contains": ["a", "b"],
                                "not": "c",
                                "regex": "d+",
                                "json": {"$.a": {"above": 3}},
                                "timeout": "2s",
                                "name": "joined",
                                "extract": {"room": "$.room"},
                            }
                        },
                        {"listen": "10s"},
                        {"close": 3000},
                    ],
                },
                {"put": "/b", "body_file": "a.bin"},
                {"put": "/b", "body_file": {"file": "a.bin", "sha256": "0" * 64}},
                {"delete": "/a/{{id}}"},
                {"head": "/a"},
                {"options": "/a"},
            ],
        },
        "idle": {"steps": [{"get": "/health"}]},
    },
    "workload": {
        "model": "closed",
        "arrivals": "uniform",
        "seed": 7,
        "stages": [{"users": "5 -> 50", "for": "10s", "name": "warm up"}, {"users": 50, "for": 5}],
    },
    "slo": ["p95 < 300ms", "list: errors < 1%"],
}


_PRESET = {"preset": "spike", "peak": "20/s", "for": "2m", "sessions": True, "arrivals": "uniform", "seed": 1}


def test_the_schema_takes_a_plan_that_uses_every_key() -> None:
    """As it is written, and as it is dumped; and the example does use every key."""
    plan = Plan.model_validate(_WHOLE)
    assert _takes(_WHOLE)
    assert _takes(plan.dump())
    used = {
        *keys_at(()),
        *keys_at(("scenarios", "a")),
        *keys_at(("scenarios", "a", "steps", 0)),
        *keys_at(("scenarios", "a", "steps", 0, "check")),
        *keys_at(("scenarios", "a", "steps", 0, "check", "body")),
        *keys_at(("scenarios", "a", "steps", 0, "retry")),
        *keys_at(("workload",)),
        *keys_at(("tls",)),
        *(key for key in keys_at(("connection",)) if key != "unix_socket"),
    }
    preset = {**_WHOLE, "workload": _PRESET}
    assert _takes(preset) and _takes(Plan.model_validate(preset).dump())
    assert all(f'"{word}":' in json.dumps([_WHOLE, _PRESET]) for word in used)


@pytest.mark.parametrize(
    "change",
    [
        {"target": None},
        {"tagret": "x"},
        {"scenarios": {}},
        {"scenarios": {"a": {"steps": []}}},
        {"scenarios": {"a": {"steps": [{"name": "x"}]}}},
        {"scenarios": {"a": {"steps": [{"get": "/", "post": "/"}]}}},
        {"scenarios": {"a": {"steps": [{"post": "/", "json": 1, "body": "x"}]}}},
        {"scenarios": {"a": {"steps": [{"get": "/", "check": {"status": "20x"}}]}}},
        {"scenarios": {"a": {"steps": [{"get": "/", "extract": {"a": {"regex": "a", "cookie": "b"}}}]}}},
        {"scenarios": {"a": {"weight": 0, "steps": [{"get": "/"}]}}},
        {"scenarios": {"a": {"steps": [{"post": "/", "body_file": "a", "body": "x"}]}}},
        {"scenarios": {"a": {"steps": [{"events": "/", "until": 0}]}}},
        {"scenarios": {"a": {"steps": [{"websocket": "/", "messages": [{"send": "a", "listen": "1s"}]}]}}},
        {"scenarios": {"a": {"steps": [{"websocket": "/", "messages": [{"expect": {"has": "x"}}]}]}}},
        {"scenarios": {"a": {"steps": [{"post": "/", "multipart": {"a": {"what": "x"}}}]}}},
        {"scenarios": {"a": {"steps": [{"post": "/", "body_file": "a", "transfer": "slow"}]}}},
        {"workload": {"model": "half", "stages": [{"rate": 1, "for": 1}]}},
        {"workload": {"model": "open", "stages": [{"rate": 1, "users": 1, "for": 1}]}},
        {"workload": {"model": "open", "stages": [{"rate": 1}]}},
        {"scenarios": {"a": {"steps": [{"get": "/", "check": {"body": {}}}]}}},
        {"scenarios": {"a": {"steps": [{"get": "/", "check": {"body": {"has": "x"}}}]}}},
        {"data": {"users": {"order": "random"}}},
        {"scenarios": {"a": {"steps": [{"get": "/", "retry": 0}]}}},
        {"scenarios": {"a": {"steps": [{"get": "/", "retry": {"times": 1, "on": ["ok"]}}]}}},
        {"workload": {"preset": "riot", "peak": 5}},
        {"workload": {"preset": "load", "peak": 5, "stages": []}},
        {"insecure": "yes"},
        {"redirects": 21},
        {"connection": {"keep_alive": 0}},
        {"connection": {"http": "3"}},
        {"connection": {"http": "2", "streams": 0}},
        {"connection": {"ip": 5}},
        {"connection": {"share": "all"}},
        {"connection": {"sockets": 3}},
        {"tls": {"versions": ["1.1"]}},
        {"tls": {"versions": []}},
        {"tls": {"verify": True}},
    ],
    ids=json.dumps,
)
def test_the_schema_refuses_what_the_reader_refuses(change: dict[str, Any]) -> None:
    """An editor shows the mistake before a run does."""
    data = {**_WHOLE, **change}
    with pytest.raises(PlanError):
        parse_plan(json.dumps(data), "plan.json")
    assert not _takes({key: value for key, value in data.items() if value is not None})


def test_the_bookshops_plan_fits_the_schema() -> None:
    """The demo's plan is what newcomers copy."""
    path = ROOT / "src" / "surgeline" / "demo" / "plan.yaml"
    assert _takes(read_tree(path.read_bytes(), path.name).value)


def test_keys_are_found_by_their_path() -> None:
    """What an unknown key is compared with, and where it would belong."""
    assert keys_at(("workload", "stages", 3)) == ("rate", "users", "for", "name")
    assert keys_at(("headers",)) == ()
    assert keys_at(("nowhere", 5)) == ()
    assert owner_of(("scenarios", "a", "steps", 0), "status") == "check"
    assert owner_of((), "nothing") is None
