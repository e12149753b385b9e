"""Sixty-odd plans, each broken in one way: the complaint names the line that has to change and says what is right.

The lines are written here by hand. The whole complaints are in `tests/golden/broken_plans.txt`; to write that file anew
after a change of wording, run this file as a script and read the difference.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from surgeline.plan.problem import PlanError
from surgeline.plan.text import parse_plan

GOLDEN = Path(__file__).parent / "golden" / "broken_plans.txt"


@dataclass(frozen=True)
class Broken:
    """A plan that is wrong in line `line`; `where` is its file's name."""

    name: str
    line: int
    text: str
    where: str = "plan.yaml"


def _steps(*lines: str) -> str:
    """A plan whose only scenario has these lines for steps; the first of them is line 5."""
    head = "target: http://127.0.0.1:8001\nscenarios:\n  browse:\n    steps:\n"
    return head + "".join(f"      {line}\n" for line in lines)


def _top(*lines: str) -> str:
    """A plan with these lines behind its only step; the first of them is line 4."""
    head = "target: http://127.0.0.1:8001\nscenarios:\n  browse: {steps: [{get: /}]}\n"
    return head + "".join(f"{line}\n" for line in lines)


BROKEN = [
    # --- not YAML
    Broken("a tab indents", 3, "target: http://127.0.0.1:8001\nscenarios:\n\tbrowse:\n\t\tsteps: []\n"),
    Broken("a quote is never closed", 1, 'target: "http://127.0.0.1:8001\nscenarios:\n  browse:\n'),
    Broken("a bracket is never closed", 5, _steps("- {get: /, name: home", "- get: /x")),
    Broken("a key without a colon", 1, "target\nscenarios:\n  browse: {steps: [{get: /}]}\n"),
    Broken("a second colon in a value", 4, _top("name: shop: the second")),
    Broken("a line too far right", 6, _top("headers:", "  accept: a", "   x: b")),
    Broken("a line too far left", 6, _top("headers:", "  accept: a", " x: b")),
    Broken("text behind a closing quote", 4, _top('name: "shop" two')),
    Broken("an at sign begins a value", 4, _top("name: @shop")),
    Broken("a backslash in double quotes", 5, _steps('- get: "/a\\d"')),
    Broken("a template without quotes", 5, _steps("- get: {{path}}")),
    Broken("a template inside of braces", 5, _steps("- {get: /products/{{id}}, name: x}")),
    Broken("a JSONPath inside of braces", 6, _steps("- get: /", "  extract: {id: $.items[0].id}", "- get: /x/{{id}}")),
    Broken("a key twice", 7, _steps("- get: /", "  name: one", "  name: two")),
    Broken("a tag that would run code", 4, _top('name: !!python/object/apply:os.system ["id"]')),
    Broken("an alias of nothing", 4, _top("name: *shop")),
    Broken("an alias of itself", 5, _steps("- &a {get: /, json: *a}")),
    Broken("two documents in one file", 4, _top("---", "target: http://127.0.0.1:1")),
    Broken("a mapping for a key", 4, _top("? {a: 1}", ": 2")),
    Broken("a NUL", 4, _top("name: a\0b")),
    # --- the top
    Broken("a list for a plan", 1, "- target: http://127.0.0.1:8001\n"),
    Broken("a text for a plan", 2, "# what is tested\nhttp://127.0.0.1:8001\n"),
    Broken("no scenarios", 1, "target: http://127.0.0.1:8001\n"),
    Broken("no target", 1, "scenarios:\n  browse: {steps: [{get: /}]}\n"),
    Broken("no steps", 3, "target: http://127.0.0.1:8001\nscenarios:\n  browse:\n    weight: 2\n"),
    Broken("scenarios without one", 2, "target: http://127.0.0.1:8001\nscenarios: {}\n"),
    Broken("steps without one", 4, "target: http://127.0.0.1:8001\nscenarios:\n  browse:\n    steps: []\n"),
    Broken("steps as a mapping", 5, _steps("get: /", "name: home")),
    Broken("a target without a scheme", 1, "target: 127.0.0.1:8001\nscenarios: {browse: {steps: [{get: /}]}}\n"),
    Broken("a target of another kind", 1, "target: ftp://127.0.0.1\nscenarios: {browse: {steps: [{get: /}]}}\n"),
    Broken("a password in the target", 1, "target: http://me:pw@127.0.0.1\nscenarios: {a: {steps: [{get: /}]}}\n"),
    Broken("a template in the target", 1, 'target: "http://{{env.HOST}}"\nscenarios: {a: {steps: [{get: /}]}}\n'),
    Broken("an unknown key at the top", 4, _top("timeuot: 3s")),
    Broken("another tool's word at the top", 4, _top("thresholds: [p95 < 1s]")),
    Broken("a timeout that is none", 4, _top("timeout: fast")),
    Broken("too many redirects", 4, _top("redirects: 100")),
    Broken("a word for a switch", 4, _top("insecure: certainly")),
    Broken("no number of requests per connection", 5, _top("connection:", "  keep_alive: 0")),
    Broken("a version of HTTP that is not spoken", 5, _top("connection:", "  http: 3")),
    Broken("streams without HTTP/2", 5, _top("connection:", "  streams: 10")),
    Broken("no streams", 6, _top("connection:", '  http: "2"', "  streams: 0")),
    Broken("HTTP/2 with connections that are not kept", 4, _top("connection: {http: 2, keep_alive: false}")),
    Broken("HTTP/2 through a proxy in the clear", 4, _top("connection: {http: 2, proxy: 'http://127.0.0.1:3128'}")),
    Broken("a proxy of another kind", 5, _top("connection:", "  proxy: socks5://127.0.0.1:1080")),
    Broken("a proxy's password in the plan", 5, _top("connection:", "  proxy: http://me:pw@127.0.0.1:3128")),
    Broken("a socket from nowhere", 5, _top("connection:", "  unix_socket: app.sock")),
    Broken("two ways at once", 4, _top("connection: {unix_socket: /run/a.sock, proxy: 'http://127.0.0.1:1'}")),
    Broken("source addresses backwards", 4, _top("connection: {source_addresses: 127.0.0.9..127.0.0.2}")),
    Broken("a source address that is a name", 4, _top("connection: {source_addresses: [localhost]}")),
    Broken("a version of IP that is none", 4, _top("connection: {ip: 5}")),
    Broken("sources of the other family", 4, _top("connection: {ip: 6, source_addresses: 127.0.0.2}")),
    Broken("a certificate from outside", 4, _top("tls: {ca: /etc/ssl/ca.pem}")),
    Broken("a key that opens nothing", 4, _top("tls: {key: client.key}")),
    Broken("a version of TLS that is not spoken", 4, _top("tls: {versions: [1.1]}")),
    Broken("a number for a name", 4, _top("name: 2026")),
    Broken("a header with a line break", 5, _top("headers:", '  x-note: "a\\nb"')),
    Broken("a header's name with a space", 5, _top("headers:", "  x note: a")),
    # --- steps
    Broken("no method", 5, _steps("- name: home")),
    Broken("two methods", 6, _steps("- get: /", "  post: /x")),
    Broken("a path without a slash", 6, _steps("- get: /", "- get: products")),
    Broken("a path with a space", 5, _steps("- get: /search?q=a b")),
    Broken("two bodies", 7, _steps("- post: /", "  json: {a: 1}", "  body: a=1")),
    Broken("a check's key in the step", 6, _steps("- get: /", "  status: 200")),
    Broken("an unknown key in a check", 6, _steps("- get: /", "  check: {stauts: 200}")),
    Broken("a status that is none", 7, _steps("- get: /", "  check:", "    status: [200, 99]")),
    Broken("a time that is none", 6, _steps("- get: /", '  check: {time: "< 300 msec"}')),
    Broken("a JSONPath without a dollar", 6, _steps("- get: /", "  extract: {id: items.id}")),
    Broken("a JSONPath that is none", 6, _steps("- get: /", '  extract: {id: "$.items["}')),
    Broken("a regular expression that is none", 7, _steps("- get: /", "  extract:", "    id: {regex: 'id=(['}")),
    Broken("extracted from two places", 6, _steps("- get: /", "  extract: {id: {header: a, cookie: b}}")),
    Broken("extracted into no name", 6, _steps("- get: /", '  extract: {"my id": "$.id"}')),
    Broken("a header's value as a number", 6, _steps("- get: /", "  headers: {x-version: 2}")),
    Broken("a pause backwards", 3, _top().replace("{steps", "{think_time: 3s..1s, steps")),
    Broken("a weight of nothing", 3, _top().replace("{steps", "{weight: 0, steps")),
    Broken("a weight in quotes", 3, _top().replace("{steps", "{weight: '3', steps")),
    # --- templates
    Broken("a variable nobody defines", 7, _steps("- get: /", '  extract: {id: "$.id"}', "- get: /x/{{idd}}")),
    Broken("a variable before it is extracted", 5, _steps("- get: /x/{{id}}", "- get: /", '  extract: {id: "$.id"}')),
    Broken("a generator's name misspelt", 6, _steps("- post: /", '  json: {a: ["{{uuidd}}"]}')),
    Broken("a generator without its numbers", 5, _steps("- get: /x/{{int(5)}}")),
    Broken("a template that stays open", 6, _steps("- post: /", "  body: 'a={{id'")),
    Broken("an extracted variable in every request", 4, _top("auth: {bearer: '{{token}}'}")),
    Broken("a variable that hides a generator", 5, _top("variables:", "  uuid: 5")),
    # --- workload
    Broken("a model that is none", 5, _top("workload:", "  model: opne", "  stages: [{rate: 5/s, for: 1s}]")),
    Broken("no stages", 4, _top("workload:", "  model: open")),
    Broken("users in the open model", 7, _top("workload:", "  model: open", "  stages:", "    - {users: 5, for: 1s}")),
    Broken("rate and users", 6, _top("workload:", "  model: open", "  stages: [{rate: 5/s, users: 5, for: 1s}]")),
    Broken("a rate that is none", 7, _top("workload:", "  model: open", "  stages:", "  - {rate: 5/d, for: 1s}")),
    Broken("a stage without an end", 7, _top("workload:", "  model: open", "  stages:", "  - rate: 5/s")),
    Broken(
        "durations for for", 8, _top("workload:", "  model: open", "  stages:", "  - rate: 5/s", "    durations: 3s")
    ),
    Broken("a stage of no length", 6, _top("workload:", "  model: closed", "  stages: [{users: 5, for: 0s}]")),
    Broken("no load at all", 6, _top("workload:", "  model: closed", "  stages: [{users: 0, for: 5s}]")),
    # --- objectives
    Broken("an objective without a unit", 5, _top("slo:", "  - p95 < 300")),
    Broken("an objective that points the wrong way", 6, _top("slo:", "  - p95 < 300ms", '  - "errors > 1%"')),
    Broken("an objective for an endpoint that is not there", 5, _top("slo:", '  - "GET /produkts: p95 < 1s"')),
    Broken("an objective that became a key", 5, _top("slo:", "  - GET /: p95 < 1s")),
    Broken("a percentile that is none", 4, _top("slo: p100 < 1s")),
    # --- JSON and TOML
    Broken("JSON that ends too early", 3, '{\n  "target": "http://127.0.0.1:1",\n  "scenarios": {', "plan.json"),
    Broken(
        "JSON with an unknown key",
        3,
        '{"target": "http://127.0.0.1:1",\n "scenarios": {"a": {\n  "stesp": [], "steps": [{"get": "/"}]}}}',
        "plan.json",
    ),
    Broken(
        "JSON with a key twice",
        2,
        '{"target": "http://127.0.0.1:1",\n "target": "http://127.0.0.1:2", "scenarios": {"a": {"steps": []}}}',
        "plan.json",
    ),
    Broken("TOML that is none", 2, 'target = "http://127.0.0.1:1"\nscenarios = \n', "plan.toml"),
    # --- what could never work
    Broken("no time at all", 4, _top("timeout: 0s")),
    Broken("no time for a step", 5, _steps("- {get: /, timeout: 0s}")),
    Broken("a path with a fragment", 5, _steps('- get: "/a#b"')),
    Broken("a path on another origin", 5, _steps("- get: http://127.0.0.1:9/a")),
    Broken("a rule that is misspelt", 5, _steps('- {get: /, check: {json: {"$.a": {abov: 1}}}}')),
    Broken("a checked header that is none", 5, _steps('- {get: /, check: {header: {"x y": a}}}')),
    Broken("an extracted header that is none", 5, _steps('- {get: /, extract: {a: {header: "x y"}}}')),
    Broken("a cookie without a name", 5, _steps('- {get: /, extract: {a: {cookie: ""}}}')),
    Broken("a variable with a dot", 5, _steps('- {get: /, extract: {"a.b": $.x}}')),
    Broken("data named like a generator", 4, _top("data: {uuid: {file: a.csv}}")),
    Broken("a header that engines write", 5, _steps('- {get: /, headers: {Content-Length: "5"}}')),
    Broken("a preset with stages", 4, _top("workload: {preset: load, peak: 5, stages: []}")),
    Broken("a status to retry on that is none", 5, _steps("- {get: /, retry: {times: 1, on: [5xx]}}")),
    Broken("an empty text to wait for", 5, _steps('- {events: /a, until: ""}')),
    Broken(
        "TOML with a wrong value",
        7,
        'target = "http://127.0.0.1:1"\n[[scenarios.a.steps]]\nget = "/"\n'
        '\n[[scenarios.a.steps]]\nget = "/x"\ntimeout = "fast"\n',
        "plan.toml",
    ),
    Broken(
        "TOML with an unknown key",
        4,
        'target = "http://127.0.0.1:1"\n[scenarios.a]\nsteps = [{get = "/"}]\nwieght = 3\n',
        "plan.toml",
    ),
]


def _complaint(broken: Broken) -> PlanError:
    with pytest.raises(PlanError) as caught:
        parse_plan(broken.text, broken.where)
    return caught.value


def _page() -> str:
    """Every complaint under its plan's name."""
    return "\n".join(f"=== {broken.name}\n{_complaint(broken)}\n" for broken in BROKEN)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_the_line_is_the_one_to_change(broken: Broken) -> None:
    """Not the line where a parser gave up, and there is one complaint for the one thing that is wrong."""
    problems = _complaint(broken).problems
    assert [problem.span.line if problem.span else None for problem in problems] == [broken.line]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_the_caret_stands_under_the_place(broken: Broken) -> None:
    """The excerpt is the line itself, and the caret's column is the one that the head names."""
    (problem,) = _complaint(broken).problems
    head, excerpt, carets = str(problem).split("\n")
    assert problem.span is not None
    assert head.startswith(f"{broken.where}:{problem.span.line}:{problem.span.column}  ")
    line = broken.text.split("\n")[broken.line - 1].replace("me:pw@", "me:**@")
    assert excerpt.removeprefix(f"{broken.line:>7} | ") == "".join(
        char if char.isprintable() else " " if char == "\t" else "\ufffd" for char in line
    )
    assert carets.index("^") == len("        | ") + problem.span.column - 1
    assert carets.strip("^ ") == ""


def test_every_complaint_is_worded_as_agreed() -> None:
    """The golden page, read by a person, is what is said."""
    assert _page() == GOLDEN.read_text(encoding="utf-8")


def test_there_are_at_least_sixty() -> None:
    """And no two have the same name."""
    assert len({broken.name for broken in BROKEN}) == len(BROKEN) >= 60


if __name__ == "__main__":
    GOLDEN.write_text(_page(), encoding="utf-8")
