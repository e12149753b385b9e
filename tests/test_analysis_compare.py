"""Two runs side by side: like with like, and no word that luck could have said."""

from typing import Any

import pytest

from scripted_runs import MS, closed_plan, fast, open_plan, summary_of
from surgeline.analysis.compare import Noise, compare
from surgeline.analysis.model import Change, Comparison, Summary
from surgeline.engines import scripted


def _run(median_ms: float = 50, seed: int = 1, errors: float = 0.0, **changes: Any) -> Summary:
    server = scripted.lognormal(round(median_ms * MS), 0.3, seed)
    if errors:
        server = scripted.failing_share(server, errors)
    return summary_of(open_plan((200,), "30s"), server, rows=False, **changes)


def _change(comparison: Comparison, metric: str, endpoint: str = "all endpoints") -> Change:
    return next(c for c in comparison.changes if (c.metric, c.endpoint) == (metric, endpoint))


def test_a_run_compared_with_itself_shows_no_change():
    """Every change is zero and none has regressed or improved."""
    run = _run()
    comparison = compare(run, run)
    assert comparison.comparable
    assert {change.change for change in comparison.changes} == {0.0}
    assert not {change.word for change in comparison.changes} & {"regressed", "improved"}


@pytest.mark.parametrize("seed", range(2, 12))
def test_two_runs_of_one_server_have_not_regressed(seed: int):
    """Other draws of the same server: no word for a change."""
    words = {change.word for change in compare(_run(seed=1), _run(seed=seed)).changes}
    assert words <= {"unchanged", "inconclusive"}


def test_a_large_change_has_its_word_and_the_mark():
    """Half as slow again has regressed, indicatively; swapped it has improved, and the sign flips."""
    worse = compare(_run(), _run(75, seed=2))
    better = compare(_run(75, seed=2), _run())
    assert _change(worse, "p50").word == "regressed"
    assert _change(better, "p50").word == "improved"
    assert worse.word == "regressed"
    assert better.word == "improved"
    assert worse.indicative
    change, back = _change(worse, "p50").change or 0.0, _change(better, "p50").change or 0.0
    assert (1 + change) * (1 + back) == pytest.approx(1.0)


def test_a_small_change_of_single_runs_is_inconclusive():
    """Seven percent is within what two runs of one server differ by; noise learned to be small makes it a word."""
    assert _change(compare(_run(), _run(53.5, seed=2)), "p50").word == "inconclusive"
    learned = compare(_run(), _run(53.5, seed=2), Noise(0.004, 9, learned=True))
    assert _change(learned, "p50").word == "regressed"
    assert learned.noise_learned


def test_no_change_with_little_noise_is_unchanged():
    """Unchanged is a finding of its own, and needs to be known."""
    assert _change(compare(_run(), _run(seed=2), Noise(0.005, 9)), "p50").word == "unchanged"


def test_errors_regress_when_their_intervals_are_apart():
    """From none to three percent."""
    change = _change(compare(_run(), _run(errors=0.03)), "errors")
    assert change.word == "regressed"
    assert change.change == pytest.approx(0.03, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"engine": "locust"}, "scripted"),
        ({"subject": {"kind": "plan", "hash": "another"}}, "same plan"),
        ({"due_known": False}, "due"),
    ],
)
def test_unlike_runs_get_no_word_but_the_reason(changes: dict[str, Any], reason: str):
    """Another engine, another plan, another meaning of response time."""
    comparison = compare(_run(), _run(90, seed=2, **changes))
    assert not comparison.comparable
    assert any(reason in clause for clause in comparison.unlike)
    assert {change.word for change in comparison.changes} == {None}
    assert comparison.word is None


def test_another_load_is_another_thing():
    """100/s and 200/s are not compared."""
    other = summary_of(open_plan((100,), "30s"), fast(), rows=False)
    assert not compare(_run(), other).comparable


def test_an_invalid_side_gives_no_verdict():
    """What the generator limited is not compared."""
    late = scripted.Generator(lag_ns=lambda due: 100 * MS)
    bad = summary_of(open_plan((200,), "30s"), fast(), late, rows=False)
    comparison = compare(_run(), bad)
    assert not comparison.comparable
    assert any("invalid" in clause for clause in comparison.unlike)


def test_what_else_differs_is_listed():
    """Another commit is named and forbids nothing."""
    comparison = compare(_run(git={"commit": "def"}), _run(seed=2, git={"commit": "abc"}))
    assert comparison.comparable
    assert any("code" in clause for clause in comparison.differences)


def test_another_machine_is_another_thing():
    """Numbers of two machines get no word."""
    other = _run(seed=2, environment={"machine": {"cpu": "other"}, "generator_shares_machine": False})
    comparison = compare(_run(), other)
    assert not comparison.comparable
    assert any("machine" in clause for clause in comparison.unlike)


def test_a_faster_server_is_asked_more_by_the_same_users():
    """In the closed model that is said, because it makes the comparison unfair to the faster one."""
    plan = closed_plan([{"users": 20, "for": "20s"}], paths=("/x",), think_time="5ms")
    slow, quick = (summary_of(plan, scripted.lognormal(t * MS), rows=False) for t in (20, 10))
    assert any("asked more" in clause for clause in compare(slow, quick).differences)


def test_endpoints_of_one_side_are_named():
    """What was only asked once is listed, not compared."""
    one = summary_of(closed_plan(paths=("/a", "/b")), fast(), rows=False)
    other = summary_of(closed_plan(paths=("/a", "/c")), fast(), rows=False)
    comparison = compare(one, other)
    assert (comparison.only_base, comparison.only_candidate) == (("GET /b",), ("GET /c",))
