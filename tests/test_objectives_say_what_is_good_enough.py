"""The grammar of objectives: what a person writes, what it means, and what is refused before it could mislead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeline.plan.objective import Objective, ObjectiveError, parse_objectives

_MS = 1_000_000


@pytest.mark.parametrize(
    ("text", "endpoint", "metric", "limit", "more"),
    [
        ("p95 < 300ms", None, "quantile", 300 * _MS, {"quantile": 0.95}),
        ("p95<300ms", None, "quantile", 300 * _MS, {"quantile": 0.95}),
        ("p99.9 <= 1.5 s", None, "quantile", 1500 * _MS, {"quantile": 0.999}),
        ("mean < 1s", None, "mean", 1000 * _MS, {}),
        ("max < 2m", None, "max", 120_000 * _MS, {}),
        ("errors < 1%", None, "errors", 0.01, {}),
        ("errors <= 0.001", None, "errors", 0.001, {}),
        ("rate > 200/s", None, "rate", 200.0, {}),
        ("rate >= 12k/m", None, "rate", 200.0, {}),
        ("apdex(500ms) > 0.9", None, "apdex", 0.9, {"apdex_ns": 500 * _MS}),
        ("POST /checkout: p99 < 800ms", "POST /checkout", "quantile", 800 * _MS, {"quantile": 0.99}),
        ("GET /a/{id}: errors < 0.5 %", "GET /a/{id}", "errors", 0.005, {}),
        ("Search, then look: p50 < 1s", "Search, then look", "quantile", 1000 * _MS, {"quantile": 0.5}),
        ("GET http://h:1/x: p50 < 1s", "GET http://h:1/x", "quantile", 1000 * _MS, {"quantile": 0.5}),
    ],
)
def test_an_objective_means_what_it_says(
    text: str, endpoint: str | None, metric: str, limit: float, more: dict[str, float]
) -> None:
    """Times in ns, shares as ratios, rates per second; one objective for one text."""
    (found,) = parse_objectives(text)
    assert (found.text, found.endpoint, found.metric) == (text, endpoint, metric)
    assert found.limit == pytest.approx(limit, rel=1e-12)
    assert found.quantile == more.get("quantile")
    assert found.apdex_ns == more.get("apdex_ns")


def test_several_stand_in_one_text() -> None:
    """Separated by commas, also with an endpoint among them and a comma in its name or in parentheses."""
    text = "p95 < 300ms, errors < 1%, GET /a,b: p99 < 1s, apdex(0.5s) > 0.9, seconds(p95 < 1s) > 99%"
    assert [objective.text for objective in parse_objectives(text)] == [
        "p95 < 300ms",
        "errors < 1%",
        "GET /a,b: p99 < 1s",
        "apdex(0.5s) > 0.9",
        "seconds(p95 < 1s) > 99%",
    ]


def test_good_seconds_carry_what_a_second_must_hold() -> None:
    """A percentile or errors in each second, and the share of seconds; the endpoint stands before it."""
    (found,) = parse_objectives("GET /a: seconds(p95 < 300ms) > 99%")
    assert (found.endpoint, found.metric, found.limit, found.upper) == ("GET /a", "seconds", 0.99, False)
    assert found.each is not None
    assert (found.each.metric, found.each.quantile, found.each.limit) == ("quantile", 0.95, 300 * _MS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an objective is missing"),
        (" , ", "an objective is missing"),
        ("p95", "is not an objective"),
        ("p95 = 300ms", "is not an objective"),
        ("seconds(p95 < 300ms) < 1%", "points the wrong way"),
        ("seconds(rate > 5/s) > 99%", "what a second must hold, a percentile or errors"),
        ("seconds(GET /a: p95 < 1s) > 99%", "an endpoint goes before it"),
        ("seconds(300ms) > 99%", "what a second must hold"),
        ("seconds(errors < 1%) > 100%", "not a share between 0 and 1"),
        ("p95 < 300ms, nonsense", "'nonsense' is not an objective"),
        ("latency < 300ms", "is not an objective"),
        ("p95 < 300", "'300' has no unit; write for example 300ms or 300s"),
        ("apdex(500) > 0.9", "'500' has no unit"),
        ("p95 < fast", "is not a duration"),
        ("p0 < 1s", "a percentile lies between p0 and p100"),
        ("p100 < 1s", "a percentile lies between p0 and p100"),
        ("p95 > 300ms", "points the wrong way: write it with <"),
        ("rate < 200/s", "points the wrong way: write it with >"),
        ("errors < 1", "'1' is every request; write for example 1% or 0.01"),
        ("errors < 200%", "is not a share"),
        ("apdex(0.5s) > 9", "is not a share"),
        ("rate > fast", "is not a rate"),
        ("p95 < 1s < 2s", "is not an objective"),
    ],
)
def test_what_is_no_objective_is_refused_with_a_right_one(text: str, said: str) -> None:
    """Also what could be read, but would always or never be met."""
    with pytest.raises(ObjectiveError) as caught:
        parse_objectives(text)
    assert said in str(caught.value)


@given(st.one_of(st.text(), st.text("p95<>=(), :msGET/%apdexrateerrors.0123456789")))
def test_any_text_is_objectives_or_an_objective_error(text: str) -> None:
    """And objectives that were read read again from their own texts."""
    try:
        found = parse_objectives(text)
    except ObjectiveError:
        return
    assert found
    again = tuple(objective for part in found for objective in parse_objectives(part.text))
    assert again == found


def test_an_upper_limit_is_one_that_must_not_be_exceeded() -> None:
    """Times and errors; throughput and Apdex must be reached."""
    text = "p95 < 1s, mean < 1s, max < 1s, errors < 1%, rate > 1/s, apdex(1s) > 0.5"
    assert [objective.upper for objective in parse_objectives(text)] == [True, True, True, True, False, False]


def test_an_objective_is_a_value() -> None:
    """Equal for equal texts, and a key."""
    (one,), (two,) = parse_objectives("p95 < 1s"), parse_objectives("p95 < 1s")
    assert one == two
    assert len({one, two}) == 1
    assert isinstance(one, Objective)
