"""What a plan refers to must exist and what it sends must be sendable: said before anything is sent."""

import json
from typing import Any

import pytest

from surgeline.plan.check import faults
from surgeline.plan.model import Plan
from surgeline.plan.problem import MOST_COLLECTED, PlanError
from surgeline.plan.text import parse_plan, plan_from_data


def _plan(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"target": "http://127.0.0.1:1", "scenarios": {"a": {"steps": list(steps) or [{"get": "/"}]}}, **more}


def _said(data: dict[str, Any]) -> list[str]:
    return [fault.message for fault in faults(Plan.model_validate(data))]


@pytest.mark.parametrize(
    "text",
    [
        *("{{uuid}}", "{{now}}", "{{now_ms}}", "{{seq}}", "{{user}}", "{{iteration}}", "{{ uuid }}", "{{\tuuid\t}}"),
        *("{{int(1,100)}}", "{{int( -5 , 5 )}}", "{{int(7,7)}}", "{{choice(a)}}", "{{choice(a b,c)}}"),
        *("{{env.HOME}}", "{{env._X1}}", "{{word}}", "{{id}}", "a{{id}}b{{id}}", "}}", "{ }", "{a}", ""),
    ],
)
def test_what_is_known_may_stand_wherever_templates_are_filled_in(text: str) -> None:
    """Constants, generators, the environment, and what an earlier step extracted."""
    everywhere = {
        "post": "/x/" + text.replace(" ", "").replace("\t", ""),
        "query": {"q": text},
        "headers": {"x-a": text},
        "check": {"body": text},
    }
    plan = _plan(
        {"get": "/", "extract": {"id": "$.id"}},
        {**everywhere, "json": {"a": [text, {text: text}]}},
        {**everywhere, "form": {text: text}},
        {**everywhere, "body": text},
        variables={"word": "w"},
    )
    assert _said(plan) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{idd}}", 'nothing in scenario "a" defines {{idd}} — did you mean {{id}}?'),
        ("{{wrd}}", 'nothing in scenario "a" defines {{wrd}} — did you mean {{word}}?'),
        ("{{zzzzzz}}", 'nothing in scenario "a" defines {{zzzzzz}}'),
        ("{{later}}", "{{later}} is not known here: it is extracted later, by step 2"),
        ("{{mine}}", "{{mine}} is not known here: it is extracted later, by step 1"),
        ("{{other}}", '{{other}} is not known here: it is extracted in scenario "b", and a flow sees its own only'),
        ("{{env.}}", "{{env.}} is not the name of an environment variable; use letters, digits and _"),
        ("{{env.a-b}}", "{{env.a-b}} is not the name of an environment variable; use letters, digits and _"),
        ("{{int}}", "int needs the least and the greatest number, as in {{int(1,100)}}"),
        ("{{int(9,1)}}", "int needs the least and the greatest number, as in {{int(1,100)}}"),
        ("{{int(a,b)}}", "int needs the least and the greatest number, as in {{int(1,100)}}"),
        ("{{choice}}", "choice needs what it may choose from, as in {{choice(red,green)}}"),
        ("{{choice( )}}", "choice needs what it may choose from, as in {{choice(red,green)}}"),
        ("{{uuid()}}", "uuid takes no arguments; write {{uuid}}"),
        ("{{chioce(a,b)}}", '"chioce" makes no value — did you mean "choice"?'),
        ("{{open(/etc/passwd)}}", '"open" makes no value'),
        ("{{id", "a template opens with {{ and is not closed with }}"),
        ("{{}}", "a template opens with {{ and is not closed with }}"),
        ("{{a{b}}", "a template opens with {{ and is not closed with }}"),
        ("{{a\nb}}", "a template opens with {{ and is not closed with }}"),
    ],
)
@pytest.mark.parametrize("place", ["json", "query", "check", "body"])
def test_what_nothing_defines_is_said_with_what_was_probably_meant(text: str, said: str, place: str) -> None:
    """At its place, once."""
    step: dict[str, Any] = {"post": "/", "extract": {"mine": "$.m"}}
    step |= {
        "json": {"json": {"a": [text]}},
        "query": {"query": {"q": text}},
        "check": {"check": {"body": text}},
        "body": {"body": text},
    }[place]
    plan = _plan(step, {"get": "/", "extract": {"later": "$.l"}}, variables={"word": "w", "id": 5})
    plan["scenarios"]["b"] = {"steps": [{"get": "/", "extract": {"other": "$.o"}}]}
    (message,) = _said(plan)
    path, _, sentence = message.partition(": ")
    assert sentence == said
    assert path.startswith(f"scenarios.a.steps[0].{place}")


def test_what_holds_for_every_request_sees_constants_only() -> None:
    """The first request of a flow has nothing extracted yet."""
    plan = _plan({"get": "/", "extract": {"token": "$.t"}}, auth={"bearer": "{{token}}"}, headers={"x-a": "{{nope}}"})
    assert _said(plan) == [
        "headers.x-a: nothing in the plan defines {{nope}}",
        "auth.bearer: {{token}} is not known here: the first request has it not yet; "
        "put it in the headers of later steps",
    ]
    assert (
        _said(_plan(auth={"basic": "{{env.USER}}:{{word}}", "header": {"x": "{{uuid}}"}}, variables={"word": 1})) == []
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_plan(headers={"x a": "b"}), 'headers["x a"]: this is not a header\'s name; use letters, digits and -'),
        (_plan(headers={"": "b"}), 'headers[""]: this is not a header\'s name; use letters, digits and -'),
        (_plan(headers={"x": "a\r\nb: c"}), "headers.x: a line break or control character cannot stand in a header"),
        (
            _plan(auth={"header": {"x": "\0"}}),
            "auth.header.x: a line break or control character cannot stand in a header",
        ),
        (_plan(auth={"bearer": "a\nb"}), "auth.bearer: a line break or control character cannot be sent"),
        (
            _plan({"get": "/", "headers": {"x": "\x7f"}}),
            "scenarios.a.steps[0].headers.x: a line break or control character cannot stand in a header",
        ),
        (
            _plan({"get": "/a b"}),
            "scenarios.a.steps[0].get: a space or control character cannot stand in a path; write %20",
        ),
        (
            _plan({"get": "/a\r\nHost: b"}),
            "scenarios.a.steps[0].get: a space or control character cannot stand in a path; write %20",
        ),
        (_plan(variables={"now": 1}), 'variables.now: "now" already makes a value by itself; choose another name'),
        (
            _plan({"get": "/", "extract": {"env.X": "$.a"}}),
            'scenarios.a.steps[0].extract["env.X"]: names that begin with "env." are the environment\'s; '
            "choose another name",
        ),
        (_plan(variables={"a": "{{uuid}}"}), "variables.a: a constant may refer to {{env.NAME}} only, found {{uuid}}"),
        (_plan(slo="GET /x: p95 < 1s"), 'slo[0]: the plan has no endpoint "GET /x" — did you mean "GET /"?'),
        (_plan(slo="zzz: p95 < 1s"), 'slo[0]: the plan has no endpoint "zzz"; it has "GET /"'),
        (
            _plan({"get": "/", "check": {"json": {"a.b": 1}}}),
            'scenarios.a.steps[0].check.json["a.b"]: a JSONPath begins with $, as in `$.a.b`',
        ),
        (
            _plan({"get": "/", "check": {"json": {"$.a[": 1}}}),
            'scenarios.a.steps[0].check.json["$.a["]: "$.a[" is not a JSONPath: unexpected end of query',
        ),
        (
            _plan({"get": "/", "extract": {"a": "$x"}}),
            "scenarios.a.steps[0].extract.a: \"$x\" is not a JSONPath: unexpected token 'x'",
        ),
    ],
)
def test_what_could_not_be_sent_or_never_hold_is_said(data: dict[str, Any], said: str) -> None:
    """Before the engine finds out under load."""
    assert _said(data) == [said]


def test_endpoints_of_a_long_plan_are_named_in_part() -> None:
    """Five of them."""
    plan = _plan(*({"get": f"/{n}"} for n in range(9)), slo="zzz: p95 < 1s")
    assert _said(plan)[0].endswith('it has "GET /0", "GET /1", "GET /2", "GET /3", "GET /4", …')


def test_a_variable_may_be_extracted_twice_and_hide_a_constant() -> None:
    """The last one counts; that is how a token is renewed."""
    step = {"get": "/{{id}}", "extract": {"id": "$.id"}}
    assert _said(_plan(step, step, variables={"id": 1})) == []


def test_at_most_two_hundred_faults_are_looked_for() -> None:
    """A plan with ten thousand mistakes has one mistake in the script that made it."""
    plan = _plan(*({"get": f"/{n}/{{{{nope}}}}"} for n in range(1000)))
    assert len(_said(plan)) == MOST_COLLECTED
    with pytest.raises(PlanError) as caught:
        parse_plan(json.dumps(plan), "plan.json")
    assert str(caught.value).endswith("… and at least 180 more problems")


def test_plans_from_elsewhere_are_held_to_the_same() -> None:
    """With paths where there are no lines."""
    with pytest.raises(PlanError) as caught:
        plan_from_data(_plan({"get": "/{{nope}}"}), "the command line")
    assert str(caught.value) == ('the command line  scenarios.a.steps[0].get: nothing in scenario "a" defines {{nope}}')


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"get": "/{{text(0)}}"}, "text needs its length, 1 to 10,000 characters"),
        ({"get": "/{{text}}"}, "text needs its length"),
        ({"get": "/{{now_iso()}}"}, "now_iso takes no arguments"),
        ({"get": "/", "check": {"json": {"$.a": {"above": "3"}}}}, 'above compares numbers, found "3"'),
        ({"get": "/", "check": {"json": {"$.a": {"exists": 1}}}}, "exists is true or false"),
        ({"get": "/", "check": {"body": {"regex": "("}}}, "is not a regular expression"),
        ({"get": "/", "check": {"body": {"regex": "(?<=a)b"}}}, "which no engine here takes"),
        ({"get": "/", "extract": {"a": {"regex": r"(a)\1"}}}, "which no engine here takes"),
        ({"get": "/", "check": {"body": {"not": "{{nothing}}"}}}, "nothing in scenario"),
        ({"get": "/", "check": {"size": "3 apples"}}, "is not a size"),
        ({"get": "/", "check": {"size": "3kB..1kB"}}, "ends before it begins"),
    ],
)
def test_a_check_that_cannot_hold_is_named(step: dict[str, Any], said: str) -> None:
    """Before anything is sent, in the plan's words."""
    with pytest.raises(PlanError) as caught:
        plan_from_data({"target": "http://h:1", "scenarios": {"a": {"steps": [step]}}}, "a plan")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("~exp(0s)", "has nothing to draw from"),
        ("~exp(1s, 2)", "is no pause"),
        ("~lognormal(1s)", "is no pause"),
        ("~lognormal(1s, 9)", "the width is a number from 0 to 5"),
        ("~normal(1s, 1)", "write for example ~exp(2s)"),
        ("3s..1s", "ends before it begins"),
    ],
)
def test_a_pause_that_cannot_be_drawn_is_named(text: str, said: str) -> None:
    """With what could be written instead."""
    with pytest.raises(PlanError) as caught:
        plan_from_data(
            {"target": "http://h:1", "scenarios": {"a": {"think_time": text, "steps": [{"get": "/"}]}}}, "a plan"
        )
    assert said in str(caught.value)


def test_what_once_takes_is_known_in_every_pass_and_not_before() -> None:
    """Its variables are there for the steps; a variable of the steps is not there for it."""
    scenario = {"once": [{"get": "/a", "extract": {"t": "$.t"}}], "steps": [{"get": "/{{t}}", "extract": {"u": "$.u"}}]}
    assert not _said({"target": "http://h:1", "scenarios": {"a": scenario}})
    scenario["once"].append({"get": "/{{u}}"})
    assert (
        "{{u}} is not known here: it is extracted later"
        in _said({"target": "http://h:1", "scenarios": {"a": scenario}})[0]
    )


def test_pacing_is_for_users_who_come_again() -> None:
    """In an open load nobody does."""
    load = {"model": "open", "stages": [{"rate": 1, "for": 1}]}
    scenario = {"pacing": "1s", "steps": [{"get": "/"}]}
    (said,) = _said({"target": "http://h:1", "scenarios": {"a": scenario}, "workload": load})
    assert "pacing spaces the passes of closed users" in said
