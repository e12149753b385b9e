"""A plan is a value: equal for equal texts, hashable by what it tests, and the same after a round trip."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from surgeline.plan import evaluate
from surgeline.plan.model import METHODS, Plan, WorkloadPart
from surgeline.plan.text import dump_plan, parse_plan, plan_from_data, workload_from_data
from surgeline.units import NS_PER_S
from surgeline.workload import Stage, Workload, default_steps

_PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
_NAMES = st.text(_PRINTABLE, min_size=1, max_size=20).filter(str.strip)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "{{" not in text)
_LINES = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_categories=["C"]), max_size=20).filter(
    lambda text: "{{" not in text
)
_NS = st.integers(0, 10**12)
_DURATIONS = st.one_of(_NS.map(lambda ns: f"{ns}ns"), st.sampled_from(["1s", "1m30s", "250ms", "2h", 5, 0.25]))
_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False)
    )
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_HEADERS = st.dictionaries(st.from_regex(r"[a-z]{1,8}(-[a-z0-9]{1,5})?", fullmatch=True), _LINES, max_size=2)
_VARIABLES = st.from_regex(r"v_[a-z0-9_]{0,8}", fullmatch=True)
_STATUS = st.one_of(
    st.integers(100, 599),
    st.sampled_from(["2xx", "404"]),
    st.tuples(st.integers(100, 299), st.integers(300, 599)).map(list),
)
_CHECK = st.fixed_dictionaries(
    {},
    optional={
        "status": st.one_of(
            _STATUS.filter(lambda part: not isinstance(part, list)), st.lists(_STATUS, min_size=1, max_size=3)
        ),
        "time": _DURATIONS,
        "body": _TEXTS,
        "json": st.dictionaries(st.sampled_from(["$", "$.a", "$.items[0].id", "$['a b']"]), _JSON, max_size=2),
        "header": _HEADERS,
    },
)
_EXTRACT = st.one_of(
    st.just("$.items[0].id"),
    st.fixed_dictionaries({"regex": st.just('id="([^"]+)"')}),
    st.fixed_dictionaries({"header": st.just("location")}),
    st.fixed_dictionaries({"cookie": st.just("sid")}),
)
_SCALARS = _TEXTS | st.integers(-(10**6), 10**6) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
_PATHS = st.from_regex(r"/[a-zA-Z0-9/_.~-]{0,15}(\?[a-z]=[a-z0-9%&=]{0,8})?", fullmatch=True)
_BODIES = st.one_of(
    st.just({}),
    _JSON.map(lambda value: {"json": value}),
    st.dictionaries(_TEXTS, _SCALARS, max_size=3).map(lambda value: {"form": value}),
    _TEXTS.map(lambda value: {"body": value}),
)


@st.composite
def _steps(draw: st.DrawFn) -> dict[str, Any]:
    rest = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "name": _NAMES,
                "query": st.dictionaries(_TEXTS, _SCALARS, max_size=3),
                "headers": _HEADERS,
                "check": _CHECK,
                "extract": st.dictionaries(_VARIABLES, _EXTRACT, max_size=2),
                "timeout": _DURATIONS,
                "think_time": _DURATIONS,
            },
        )
    )
    return {draw(st.sampled_from(METHODS)): draw(_PATHS), **draw(_BODIES), **rest}


_RATES = st.one_of(
    st.floats(0.001, 1e6),
    st.integers(1, 10**6).map(lambda rate: f"{rate}/m"),
    st.tuples(st.floats(0, 1e4), st.floats(0.001, 1e4)).map(lambda ends: f"{ends[0]:.17f} -> {ends[1]:.17f}"),
)
_USERS = st.one_of(st.integers(1, 10**6), st.just("1 -> 64"))


def _workloads(model: str, level: str, levels: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    stage = st.fixed_dictionaries(
        {level: levels, "for": st.integers(1, 10**12).map(lambda ns: f"{ns}ns")}, optional={"name": _NAMES}
    )
    return st.fixed_dictionaries(
        {"model": st.just(model), "stages": st.lists(stage, min_size=1, max_size=3)},
        optional={"seed": st.integers(0, 2**63 - 1), "arrivals": st.sampled_from(["poisson", "uniform"])},
    )


_PLANS = st.fixed_dictionaries(
    {
        "target": st.sampled_from(["http://127.0.0.1:8001", "https://shop.test/v1/", "http://[::1]:80"]),
        "scenarios": st.dictionaries(
            _NAMES,
            st.fixed_dictionaries(
                {"steps": st.lists(_steps(), min_size=1, max_size=3)},
                optional={"weight": st.integers(1, 1000), "think_time": st.sampled_from(["1s..3s", "0s", 2])},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={
        "name": _NAMES,
        "headers": _HEADERS,
        "variables": st.dictionaries(_VARIABLES, _TEXTS | st.integers() | st.floats(-1e9, 1e9), max_size=3),
        "timeout": _DURATIONS,
        "redirects": st.integers(0, 20),
        "insecure": st.booleans(),
        "connection": st.fixed_dictionaries(
            {},
            optional={
                "keep_alive": st.sampled_from([True, False, 1, 100]),
                "http": st.just("1.1"),
                "share": st.sampled_from(["user", "pool"]),
                "source_addresses": st.sampled_from(["127.0.0.2..127.0.0.4", ["127.0.0.2", "127.0.0.9"], []]),
                "ip": st.just(4),
            },
        ),
        "tls": st.fixed_dictionaries(
            {},
            optional={
                "ca": st.just("more/ca.pem"),
                "certificate": st.just("client.pem"),
                "versions": st.sampled_from(["1.3", [1.2], ["1.2", "1.3"]]),
                "resumption": st.booleans(),
                "server_name": st.just("api.test"),
            },
        ),
        "workload": _workloads("open", "rate", _RATES) | _workloads("closed", "users", _USERS),
        "slo": st.lists(st.sampled_from(["p95 < 300ms", "errors < 1%, rate > 5/s"]), max_size=2),
    },
)


@given(_PLANS)
@settings(max_examples=100, deadline=None)
def test_a_plan_is_the_same_after_a_round_trip(data: dict[str, Any]) -> None:
    """Through YAML, through JSON, and through plain data; with the same hash, and the same text again."""
    plan = plan_from_data(data, "data")
    text = dump_plan(plan)
    again = parse_plan(text, "plan.yaml")
    assert again == plan
    assert again.hash == plan.hash
    assert dump_plan(again) == text
    assert parse_plan(json.dumps(plan.dump()), "plan.json") == plan
    assert Plan.model_validate(plan.dump()) == plan


_PLAN = """\
target: http://127.0.0.1:8001/api/
variables: {shelf: novels}
scenarios:
  browse:
    weight: 3
    steps:
      - get: /products?q={{shelf}}
        extract: {id: "$.items[0].id"}
      - get: /products/{{id}}/{{int(1,9)}}/{{env.REGION}}
  buy:
    steps:
      - post: /checkout
        name: buy it
        json: {id: 5}
"""


def test_the_same_text_gives_the_same_plan_and_another_text_another_hash() -> None:
    """The hash says whether two runs tested the same thing; comments and quotes are not part of it."""
    plan = parse_plan(_PLAN, "plan.yaml")
    assert parse_plan(_PLAN + "# a comment\n", "plan.yaml").hash == plan.hash
    assert parse_plan(_PLAN.replace("weight: 3", "weight: 4"), "plan.yaml").hash != plan.hash
    assert len(plan.hash) == 16


def test_keys_that_came_later_do_not_change_the_hash_of_a_plan_without_them() -> None:
    """A baseline kept last year still belongs to the plan it was measured with; a plan that uses them has another."""
    text = "target: https://127.0.0.1:1\nscenarios:\n  a: {steps: [{get: /}]}\n"
    assert parse_plan(text, "plan.yaml").hash == "45594e65b1e36b51"
    assert parse_plan(text + "connection: {keep_alive: true}\ntls: {}\n", "plan.yaml").hash == "45594e65b1e36b51"
    assert parse_plan(text + "connection: {keep_alive: false}\n", "plan.yaml").hash != "45594e65b1e36b51"


def test_a_plan_cannot_be_changed() -> None:
    """It is passed from room to room and must mean the same in each."""
    plan = parse_plan(_PLAN, "plan.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        plan.timeout = 5


def test_one_request_per_connection_is_not_the_default() -> None:
    """`keep_alive: 1` is written, though 1 equals true in Python."""
    text = "target: http://h\nscenarios: {a: {steps: [{get: /}]}}\nconnection: {keep_alive: 1}\n"
    again = parse_plan(dump_plan(parse_plan(text, "p")), "p")
    assert again.connection.keep_alive is not True
    assert again.connection.keep_alive == 1


def test_what_is_at_its_default_is_not_written() -> None:
    """A dumped plan is as short as its author's."""
    plan = parse_plan(
        "target: http://127.0.0.1:1\nscenarios: {a: {weight: 1, steps: [{get: /}]}}\ntimeout: 30s\n", "p.yaml"
    )
    assert dump_plan(plan) == "target: http://127.0.0.1:1\nscenarios:\n  a:\n    steps:\n      - get: /\n"


def test_a_dumped_plan_reads_as_people_write() -> None:
    """Plain where YAML allows it, quantities with their units, one JSONPath as a text."""
    text = dump_plan(parse_plan(_PLAN, "plan.yaml"))
    assert '          id: "$.items[0].id"\n' in text
    assert "      - get: /products?q={{shelf}}\n" in text
    assert "        name: buy it\n" in text


def test_endpoints_are_named_by_template_and_come_once() -> None:
    """Not by the ids that are filled in, and without the query."""
    plan = parse_plan(_PLAN, "plan.yaml")
    assert plan.endpoints == ("GET /products", "GET /products/{id}/{int}/{REGION}", "buy it")
    assert [(name, step.method) for name, step in plan.steps()] == [
        ("browse", "GET"),
        ("browse", "GET"),
        ("buy", "POST"),
    ]


def test_the_mean_number_of_requests_of_an_iteration_goes_by_weight() -> None:
    """Three of four iterations have two requests, one has one."""
    assert parse_plan(_PLAN, "plan.yaml").requests_per_iteration == 7 / 4


def test_a_plan_is_called_by_its_name_or_by_its_target() -> None:
    """And the target carries no slash at its end, so that paths can be appended."""
    plan = parse_plan(_PLAN, "plan.yaml")
    assert plan.title == "127.0.0.1:8001"
    assert plan.target == "http://127.0.0.1:8001/api"
    assert parse_plan(_PLAN + "name: shop\n", "plan.yaml").title == "shop"


def test_a_plan_without_a_workload_has_the_default_one() -> None:
    """Closed steps of 1, 2, 4 … 64 users."""
    assert parse_plan(_PLAN, "plan.yaml").load() == default_steps()


def test_a_plans_workload_is_the_value_it_describes() -> None:
    """Stages with their names, as they are written or as their load names them."""
    part = workload_from_data(
        {
            "model": "open",
            "seed": 5,
            "arrivals": "uniform",
            "stages": [{"rate": "5/s -> 20/s", "for": "10s"}, {"rate": 20, "for": 5, "name": "hold"}],
        },
        "--stages",
    )
    assert part.value() == Workload(
        "open",
        (Stage("5/s → 20/s", 10 * NS_PER_S, 5, 20), Stage("hold", 5 * NS_PER_S, 20, 20)),
        "uniform",
        5,
    )


_STAGES = st.lists(
    st.builds(Stage, _NAMES, st.integers(1, 10**14), st.floats(1e-7, 1e8), st.floats(0, 1e8)), min_size=1, max_size=3
).map(tuple)


@given(_STAGES, st.integers(0, 2**63 - 1), st.sampled_from(["poisson", "uniform"]))
def test_a_workload_becomes_a_part_of_a_plan_and_back(stages: tuple[Stage, ...], seed: int, arrivals: Any) -> None:
    """Rates to the last bit, however small or large they are."""
    load = Workload("open", stages, arrivals, seed)
    assert WorkloadPart.of(load).value() == load


@given(
    st.lists(
        st.builds(Stage, _NAMES, st.integers(1, 10**14), st.integers(0, 10**8).map(float), st.just(3.0)), min_size=1
    )
)
def test_so_does_a_closed_one(stages: list[Stage]) -> None:
    """Users are whole."""
    load = Workload("closed", tuple(stages))
    assert WorkloadPart.of(load).value() == load


def test_keys_go_by_their_written_names_only() -> None:
    """`json_` and `for_` are names of Python, not of the language."""
    with pytest.raises(ValidationError):
        Plan.model_validate({"target": "http://h", "scenarios": {"a": {"steps": [{"post": "/", "json_": 1}]}}})


def test_a_constant_may_be_made_from_the_environment() -> None:
    """Filled in when the engine starts; the plan itself has the name only."""
    plan = parse_plan(_PLAN.replace("{shelf: novels}", '{shelf: "a-{{env.SHELF}}"}'), "plan.yaml")
    assert evaluate.constants(plan, {"SHELF": "7", "REGION": "eu"}) == {
        "shelf": "a-7",
        "env.SHELF": "7",
        "env.REGION": "eu",
    }
    assert "a-7" not in dump_plan(plan)
