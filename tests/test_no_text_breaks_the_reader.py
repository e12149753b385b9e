"""Hostile and random texts: whatever is read as a plan becomes a plan or a complaint, at once and in little memory."""

import json
import re
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from surgeline.plan.model import METHODS, Plan
from surgeline.plan.problem import MOST_PROBLEMS, PlanError
from surgeline.plan.schema import keys_at
from surgeline.plan.text import decode, dump_plan, parse_plan
from surgeline.plan.tree import MOST_BYTES, read_tree

_GOOD = """\
target: http://127.0.0.1:8001
scenarios:
  browse:
    weight: 3
    think_time: 1s..3s
    steps:
      - get: /products
        check: {status: 200, time: "< 300ms"}
        extract: {id: "$.items[0].id"}
      - get: /products/{{id}}
        name: GET /products/{id}
  buy:
    steps:
      - post: /checkout
        json: {product: "{{int(1,9)}}", card: "{{env.TEST_CARD}}"}
workload:
  model: open
  stages:
    - {rate: 50/s, for: 30s}
    - {rate: 50/s -> 300/s, for: 2m}
slo: ["p95 < 300ms", "POST /checkout: p99 < 800ms", "errors < 1%"]
"""


def _complaint(text: str | bytes, where: str = "plan.yaml") -> str:
    with pytest.raises(PlanError) as caught:
        parse_plan(text, where)
    return str(caught.value)


# --- what is not a text of ours --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xef\xbb\xbf" + _GOOD.encode(), "the file begins with a byte order mark; save it as UTF-8 without BOM"),
        (_GOOD.encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        (_GOOD.encode("utf-16-be"), "the file is UTF-16; save it as UTF-8"),
        (_GOOD.encode("utf-32"), "the file is UTF-32; save it as UTF-8"),
        (b"target: x\nname: caf\xe9\n", "plan.yaml:2:10  the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \x00\n", "plan.yaml:2:4  a NUL byte stands in the text; remove it"),
        (b"a: \x1b[2J\n", "plan.yaml:1:4  the control character U+001B stands in the text; remove it"),
        (b"", "plan.yaml  the plan is empty; it needs at least `target` and `scenarios`"),
        (b"# nothing yet\n", "plan.yaml  the plan is empty; it needs at least `target` and `scenarios`"),
        (b"x" * (MOST_BYTES + 1), "plan.yaml  the text is longer than 1 MiB; nothing of it was read"),
    ],
)
def test_a_file_that_is_no_text_is_named_for_what_it_is(data: bytes, said: str) -> None:
    """With the line where there is one, and with what to do."""
    assert _complaint(data).splitlines()[0].endswith(said)


def test_a_mark_that_a_decoder_left_is_still_seen() -> None:
    """A caller that decoded by itself may hand in U+FEFF."""
    assert "byte order mark" in _complaint("\ufeff" + _GOOD)
    assert decode(_GOOD.encode(), "plan.yaml") == _GOOD


# --- bombs -----------------------------------------------------------------------------------------------------------

_BOMBS = {
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "deep lists": "[" * 20_000,
    "deep block lists": "- " * 20_000,
    "deep maps": "a: " + "{a: " * 20_000,
    "deep lines": "".join(f"{' ' * depth}a:\n" for depth in range(1000)),
    "wide aliases": "a: &a [1,2,3,4,5,6,7,8,9,10]\nb: [" + "*a," * 5000 + "]",
    "merges": "a: &a {x: 1}\n" + "".join(f"b{n}: {{<<: [*a, *a, *a]}}\n" for n in range(500)),
}
_DEEP = {"deep JSON": "[" * 20_000 + "]" * 20_000, "deep JSON maps": '{"a":' * 20_000 + "1" + "}" * 20_000}


@pytest.mark.parametrize("name", [*_BOMBS, *_DEEP])
def test_a_bomb_is_refused_before_it_goes_off(name: str) -> None:
    """Depth beyond 64 and aliases for more than 1,000 parts, in well under a second of work."""
    text = _BOMBS.get(name) or _DEEP[name]
    begin = time.process_time()
    complaint = _complaint(text, "plan.json" if name in _DEEP else "plan.yaml")
    assert time.process_time() - begin < 1.5
    assert re.search("nested more than 64 levels deep|aliases stand for more than 1,000 parts", complaint)


def test_toml_is_bounded_too() -> None:
    """Its parser goes into depth by calling itself."""
    assert "nested more than 64 levels deep" in _complaint("a = " + "[" * 20_000, "plan.toml")
    assert "nested more than 64 levels deep" in _complaint("a = " + "[" * 100 + "]" * 100, "plan.toml")


def test_all_bombs_together_need_little_memory() -> None:
    """In a process that may use 1 GB of address space they all are refused, and take less than 100 MB."""
    code = """
        import json, resource, sys
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        from surgeline.plan.problem import PlanError
        from surgeline.plan.text import parse_plan
        texts = [*json.load(sys.stdin), b"x" * (100 << 20)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        refused = 0
        for text in texts:
            try:
                parse_plan(text, "plan.yaml")
            except PlanError:
                refused += 1
        print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        input=json.dumps(list(_BOMBS.values())),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    refused, grown = map(int, done.stdout.split())
    assert refused == len(_BOMBS) + 1
    assert grown * (1 if sys.platform == "darwin" else 1024) < 100 << 20


def test_aliases_and_merges_within_bounds_are_what_yaml_says() -> None:
    """A plan may be written without repeating itself; a key of its own wins over a merged one."""
    plan = parse_plan(
        "target: http://127.0.0.1:1\n"
        "scenarios:\n"
        "  a: &a\n"
        "    think_time: &t 1s\n"
        "    steps: [&s {get: /}, {<<: *s, name: two}]\n"
        "  b: {<<: *a, weight: 2, think_time: 2s}\n",
        "plan.yaml",
    )
    assert [step.endpoint for _, step in plan.steps()] == ["GET /", "two"] * 2
    assert plan.scenarios["b"].think_time == (2_000_000_000, 2_000_000_000)
    assert plan.scenarios["b"].weight == 2


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [echo]",
        "!!python/object/new:subprocess.Popen [[echo]]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!binary aGk=",
        "!!set {a, b}",
        "!!timestamp 2026-01-01",
        "!!int '5'",
        "!env HOME",
        "!include /etc/passwd",
        "!<tag:yaml.org,2002:python/object/apply:os.system> [echo]",
        "! [echo]",
    ],
)
def test_a_tag_never_constructs_anything(tag: str) -> None:
    """It is refused where it stands; there is no constructor it could reach."""
    with pytest.raises(PlanError) as caught:
        parse_plan(f"target: http://127.0.0.1:1\nname: {tag}\nscenarios: {{a: {{steps: [{{get: /}}]}}}}\n", "p.yaml")
    assert caught.value.problems[0].span is not None
    assert caught.value.problems[0].span.line == 2


@pytest.mark.parametrize(
    "text", ["${file:../../etc/passwd}", "${env:HOME}", "$(id)", "`id`", "{% for %}", "{{env.HOME}}"]
)
def test_no_reference_is_looked_up_while_reading(text: str) -> None:
    """A body says what it says; environment values are filled in by an engine, and only where a template asks."""
    plan = parse_plan(_GOOD + f"name: {json.dumps(text)}\n", "plan.yaml")
    assert plan.name == text


# --- scalars ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("off", "off"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("~", None),
        ("Null", None),
        ("TRUE", True),
        ("false", False),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ("", None),
        ("|\n  a\n  b", "a\nb\n"),
        (">\n  a\n  b", "a b\n"),
        ('"\\u00e9\\n"', "é\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, read: Any) -> None:
    """Norway is a text, and so is a time of day; 010 is ten."""
    tree = read_tree(f"v: {written}\n", "plan.yaml")
    assert tree.value == {"v": read}
    assert type(tree.value["v"]) is type(read)


def test_a_yaml_1_1_directive_changes_nothing() -> None:
    """One language, whatever a file claims."""
    assert read_tree("%YAML 1.1\n---\nv: NO\n", "plan.yaml").value == {"v": "NO"}


@pytest.mark.parametrize("written", [".inf", "-.INF", ".nan", "1e999"])
def test_a_number_must_be_finite(written: str) -> None:
    """In every format."""
    assert "not finite" in _complaint(f"{_GOOD}name: {written}\n")


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ('{"a": NaN}', "p.json", "NaN is not JSON"),
        ('{"a": 1' + "0" * 400 + "}", "p.json", "more than 300 digits"),
        ('{"a": "\\ud800"}', "p.json", "half of a surrogate pair"),
        ('{"\\ud800": 1}', "p.json", "half of a surrogate pair"),
        ("a: 1" + "0" * 400, "p.yaml", "more than 300 digits"),
        ('a: "\\ud800"', "p.yaml", "half of a surrogate pair"),
        ("a = 2026-01-01", "p.toml", "a date has no meaning here; put it in quotes"),
        ("a = inf", "p.toml", "not finite"),
    ],
)
def test_what_a_format_can_hold_and_a_plan_cannot_is_said(text: str, where: str, said: str) -> None:
    """Before the model sees it."""
    assert said in _complaint(text, where)


# --- several at once -------------------------------------------------------------------------------------------------


def test_all_problems_are_listed_in_the_order_of_the_text() -> None:
    """One reading, one list; not one complaint per attempt."""
    text = _GOOD.replace("weight: 3", "wieght: 3").replace("for: 30s", "for: soon").replace("p95 < 300ms", "p95 < 300")
    with pytest.raises(PlanError) as caught:
        parse_plan(text, "plan.yaml")
    assert [problem.span.line for problem in caught.value.problems if problem.span] == [4, 19, 21]


def test_a_long_list_is_cut_and_counted() -> None:
    """What is left out is a number, not silence."""
    steps = "".join(f"      - get: p{n}\n" for n in range(MOST_PROBLEMS + 5))
    text = _complaint(f"target: http://127.0.0.1:1\nscenarios:\n  a:\n    steps:\n{steps}")
    assert text.count("must start with a slash") == MOST_PROBLEMS
    assert text.splitlines()[-1] == "… and 5 more problems"


def test_an_excerpt_shows_no_password_and_cannot_steer_a_terminal() -> None:
    """A complaint ends up in the log of a build."""
    text = _complaint("target: http://me:hunter2@127.0.0.1\nscenarios: {a: {steps: [{get: /}]}}\n")
    assert "hunter2" not in text
    assert "http://me:*******@127.0.0.1" in text
    assert "\x85" not in _complaint("target: http://127.0.0.1:1\nname: [\x85]\nscenarios: {a: {steps: [{get: /}]}}\n")


def test_a_long_line_is_shown_around_the_place() -> None:
    """A plan in one line of JSON is still pointed into."""
    data = {"target": "http://127.0.0.1:1", "scenarios": {"a": {"steps": [{"get": f"/{n}"} for n in range(500)]}}}
    data["scenarios"]["a"]["steps"][250]["name"] = 5  # type: ignore[index]
    head, excerpt, carets = _complaint(json.dumps(data), "plan.json").split("\n")
    assert "steps[250].name" in head
    assert len(excerpt) <= 110
    assert excerpt[carets.index("^")] == "5"


# --- random texts ----------------------------------------------------------------------------------------------------

_WORDS = sorted(
    {
        *keys_at(()),
        *keys_at(("scenarios", "a")),
        *keys_at(("scenarios", "a", "steps", 0)),
        *keys_at(("scenarios", "a", "steps", 0, "check")),
        *keys_at(("scenarios", "a", "steps", 0, "extract", "a")),
        *keys_at(("workload",)),
        *keys_at(("workload", "stages", 0)),
        *("browse", "json_", "for_", "<<", "env.X"),
    }
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["http://127.0.0.1:1", "/a/{{b}}", "{{", "{{}}", "{{int(9,1)}}", "{{x(}}", "$.a", "$[", "("]),
    st.sampled_from(["1s", "5/s", "1 -> 2", "open", "closed", "1s..2s", "..", "->", "2xx", 200, [1, 2], 10**200]),
    st.sampled_from(["p95 < 1s", "GET /: p95 < 1s", "errors < 1", "apdex(1) > 2", "9" * 30]),
)
_DATA = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(_WORDS), inner, max_size=6),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
    max_leaves=20,
)


def _outcome(text: str | bytes, where: str) -> Plan | None:
    """The plan, or None after a complaint that is fit to be shown."""
    try:
        plan = parse_plan(text, where)
    except PlanError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.message
            assert len(problem.message) < 700
            assert str(problem).count("\n") == (2 if problem.span else 0)
            assert all(char.isprintable() or char == "\n" for char in str(problem))
        return None
    assert plan.hash
    return plan


@given(_DATA)
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_data_is_a_plan_or_a_complaint(data: Any) -> None:
    """As JSON, and as YAML, which JSON mostly is."""
    text = json.dumps(data)
    _outcome(text, "plan.json")
    _outcome(text, "plan.yaml")


_STEP = st.fixed_dictionaries(
    {}, optional={word: _DATA for word in ("name", "query", "headers", "json", "form", "check", "extract", "timeout")}
).flatmap(lambda rest: st.sampled_from(METHODS).map(lambda method: {method: "/a", **rest}))


@given(
    st.fixed_dictionaries(
        {"target": st.just("http://127.0.0.1:1"), "scenarios": st.fixed_dictionaries({"a": st.just(None)})},
        optional={word: _DATA for word in ("name", "headers", "auth", "variables", "timeout", "workload", "slo")},
    ),
    st.lists(_STEP, max_size=3),
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_nearly_right_data_is_a_plan_or_a_complaint(data: dict[str, Any], steps: list[dict[str, Any]]) -> None:
    """Right at the top, anything below it; a plan that comes of it is written and read back equal."""
    data["scenarios"]["a"] = {"steps": steps}
    plan = _outcome(json.dumps(data), "plan.json")
    if plan is not None:
        assert parse_plan(dump_plan(plan), "plan.yaml") == plan


@given(st.data())
@settings(max_examples=700, deadline=None)
def test_a_damaged_plan_is_a_plan_or_a_complaint(data: st.DataObject) -> None:
    """Characters taken out, put in and moved about in a good text, as YAML, and as JSON and TOML that it is not."""
    text = _GOOD
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 0, 1, 2, 20]))
        piece = data.draw(
            st.one_of(
                st.sampled_from(
                    [*"{}[]:,-#&*!|>'\"%@`?~\\ \t\n", ": ", "- ", "{{", "}}", "<<: ", "&a ", "*a", "\r", "---\n"]
                ),
                st.text(max_size=3),
                st.sampled_from(_GOOD.splitlines()),
            )
        )
        text = text[:at] + piece + text[at + length :]
    for where in ("plan.yaml", "plan.json", "plan.toml"):
        _outcome(text, where)


@given(st.one_of(st.text(), st.binary()), st.sampled_from(["plan.yaml", "plan.json", "plan.toml", ""]))
@settings(max_examples=500, deadline=None)
@example("? ", "plan.yaml")
@example("&a", "plan.yaml")
@example("a: &x &y b", "plan.yaml")
@example("%", "plan.yaml")
@example("{? : }", "plan.yaml")
@example("? - a\n: b", "plan.yaml")
@example("a=1\n[a]\nb=2", "plan.toml")
def test_random_text_is_a_complaint(text: str | bytes, where: str) -> None:
    """Nothing this short is a plan, and nothing is too odd to be told so."""
    assert _outcome(text, where) is None
