"""What a page says of its stages: the question of a load with a name, what they are called, what was not sent."""

import csv
import io
from typing import Any

import pytest

from scripted_runs import MS, S, fast, open_plan, run_json, said, summary_from, summary_of
from surgeline.analysis.model import Summary
from surgeline.engines import scripted
from surgeline.engines.scripted import Server
from surgeline.findings import judge
from surgeline.plan.model import Plan
from surgeline.report import html, page, tables, terminal
from surgeline.report.document import result_document
from surgeline.runner import _preset, _stages


def gate() -> Server:
    """Sixty a second, each in 50 ms; a new one for each run, because it remembers its queue."""
    return scripted.pool(3, 50 * MS, None)


def named(preset: str, peak: str | None, each: str, server: Server, **more: Any) -> Summary:
    """A run of a preset against a pretend server."""
    load = {"preset": preset, "for": each, **({"peak": peak} if peak else {})}
    plan = Plan.model_validate(
        {
            "target": "http://127.0.0.1:1",
            "scenarios": {"a": {"steps": [{"get": "/x"}]}},
            "workload": load,
            "slo": ["p95 < 200ms"],
            **more,
        }
    )
    settings = {"workers": 1, "max_in_flight": 10_000, "preset": _preset(plan), "model": plan.load().model}
    return summary_of(plan, server, settings={**settings, "slo": list(plan.slo)}, stages=_stages(plan.load(), plan))


def told(summary: Summary) -> dict[str, Any]:
    """The document of a run."""
    return result_document(summary, judge(summary))


def test_a_load_test_is_answered_at_its_peak_and_not_on_its_way_down() -> None:
    """The stage of the peak is what is held; the ramps beside it go as high and say less."""
    document = told(named("load", "100/s", "30s", fast()))
    assert "Holds 100/s at peak within p95 < 200 ms" in document["verdict"]["sentence"]
    assert document["question"]["answer"].startswith("Yes: at peak (100/s) p95 ")
    assert [stage["rung"] for stage in document["stages"]] == [None, 0, None]
    missed = told(named("load", "100/s", "30s", gate()))
    assert missed["question"]["answer"].startswith("No: at peak (100/s) p95 < 200 ms is missed")
    assert missed["question"]["tone"] == "bad"


def test_after_each_spike_its_recovery_is_told() -> None:
    """What the server does at the low load is judged before the spikes; the backlog after each is its recovery."""
    summary = named("spike", "90/s", "120s", gate())
    assert [found.peak for found in summary.recoveries] == [2, 6, 10]
    assert all(found.seconds is not None and found.within == (found.after,) for found in summary.recoveries)
    document = told(summary)
    assert document["verdict"]["sentence"].startswith("Holds ")
    assert "Holds 9/s at before within p95 < 200 ms" in document["verdict"]["sentence"]
    answer = document["question"]["answer"]
    assert "missed in spike 1, spike 2, spike 3" in answer and "as before" in answer and "after spike 1" in answer
    (found,) = said(judge(summary), "recovery.time")
    assert "spike 1 (90/s)" in found.sentence and "spike 3 (90/s)" in found.sentence
    (plateau,) = said(judge(summary), "saturation.plateau")
    assert "at before (9/s) it still kept up (" in plateau.sentence


def test_recovery_is_followed_through_the_stages_after_a_peak() -> None:
    """A backlog that outlives the first quiet stage is found to be gone in the second."""
    plan = open_plan((20, 120, 20, 20, 20), "10s")
    (found,) = summary_of(plan, gate()).recoveries
    assert found.within == (2, 3, 4) and found.length_s == pytest.approx(30, abs=0.1)
    assert found.seconds is not None and found.seconds > 10


def test_recovery_that_is_too_short_to_see_is_not_denied() -> None:
    """Three seconds in a row do not fit into two."""
    answer = told(named("spike", "100/s", "10s", gate()))["question"]["answer"]
    assert "recovery cannot be told" in answer


def test_stages_are_called_by_their_names_wherever_a_stage_is_meant() -> None:
    """In the sheet, the report, the terminal's findings and both tables; loads stay beside them."""
    plan = open_plan((50, 20), "10s")
    data = plan.dump()
    for stage, name in zip(data["workload"]["stages"], ("ZEBRA", "OKAPI"), strict=True):
        stage["name"] = name
    summary = summary_of(Plan.model_validate(data), fast())
    document = told(summary)
    for text in (page.render(document), html.render(document), terminal.render(document)):
        assert "ZEBRA (50/s)" in text
    assert "OKAPI (20/s)" in page.render(document)
    for lines in (tables.endpoints_csv(summary), tables.timeline_csv(summary)):
        rows = list(csv.DictReader(io.StringIO("".join(lines))))
        assert {"ZEBRA", "OKAPI"} <= {row["stage_name"] for row in rows}
    plain = told(summary_of(plan, fast()))
    assert [stage["label"] for stage in plain["stages"]] == ["50/s", "20/s"]


def test_all_spikes_and_recoveries_are_on_the_sheet() -> None:
    """Ramps give way before them."""
    text = page.render(told(named("spike", "50/s", "120s", fast())))
    for number in (1, 2, 3):
        assert f"spike {number} (50/s)" in text and f"recovery {number} (5/s)" in text


def test_a_smoke_test_visits_what_is_rarely_asked_and_says_what_was_not() -> None:
    """Twenty to one, and both are asked; an endpoint that no session reaches is named, and nothing is called fine."""
    kinds = {
        "a": {"weight": 1000, "steps": [{"get": "/ok"}]},
        "b": {"weight": 1, "steps": [{"get": "/500"}, {"get": "/later", "check": {"status": 200}}]},
    }
    broken = scripted.by_endpoint({"GET /500": scripted.failing_share(fast(), 1.0)}, fast())
    summary = named("smoke", None, "3s", broken, scenarios=kinds)
    assert {figures.name for figures in summary.endpoints} == {"GET /ok", "GET /500", "GET /later"}
    assert summary.total.tally.due < 100
    assert told(summary)["question"]["answer"].startswith("No: GET /500 (")
    plan = Plan.model_validate({"target": "http://h:1", "scenarios": kinds, "workload": {"preset": "smoke"}})
    assert plan.load().stages[0].start == pytest.approx(1.0) and plan.load().arrivals == "uniform"
    rare = Plan.model_validate({**plan.dump(), "workload": {"model": "open", "stages": [{"rate": "5/s", "for": "5s"}]}})
    statements = {item["about"]: item for item in told(summary_of(rare, fast()))["trust"]}
    assert "Never asked: GET /500, GET /later (2 of the plan's 3 endpoints)" in statements["never asked"]["sentence"]
    assert statements["never asked"]["level"] == "warning"


def test_a_breakpoint_of_short_steps_says_that_they_are_short() -> None:
    """Steps with too few requests hold nothing for sure, and are not said to have missed either."""
    document = told(named("breakpoint", "100/s", "10s", gate()))
    assert "already" not in document["verdict"]["sentence"]
    assert "too few requests" in document["verdict"]["sentence"]
    assert "have too few requests" in document["question"]["answer"]
    assert "none" not in page.render(document).split("Endpoints, worst first")[1].split("##")[0]
    assert "20 stages of 500 ms" in document["run"]["load"]
    long = told(named("breakpoint", "100/s", "4m", gate()))
    assert "is the last step that holds" in long["question"]["answer"]


@pytest.mark.parametrize(
    ("preset", "peak", "each", "server", "answer", "tone"),
    [
        ("stress", "100/s", "100s", gate(), "At 75/s p95 < 200 ms is missed", "bad"),
        ("stress", "40/s", "100s", fast(), "Nothing gave way up to 40/s", "good"),
        ("soak", "10/s", "10m", fast(), "Nothing that was seen in", "good"),
        ("soak", "40/s", "20s", fast(), "Not known: ", "warn"),
        ("soak", "10/s", "10m", scripted.ramping(fast(), 20_000), "Yes, response times in", "bad"),
        ("volume", "40/s", "400s", fast(), "Yes, ", "good"),
        (
            "volume",
            "40/s",
            "400s",
            scripted.until(200 * S, fast(), scripted.constant(60 * MS)),
            "No, it is slower",
            "bad",
        ),
        (
            "spike",
            "50/s",
            "120s",
            fast(),
            "No errors in any spike; response times are as before within a second",
            "good",
        ),
    ],
)
def test_every_preset_answers_its_question(
    preset: str, peak: str, each: str, server: Server, answer: str, tone: str
) -> None:
    """In a sentence that begins with the answer."""
    question = told(named(preset, peak, each, server))["question"]
    assert question["answer"].startswith(answer), question["answer"]
    assert question["tone"] == tone


def test_sessions_are_said_with_the_requests_that_follow() -> None:
    """Ten sessions a second of three steps are partly open, and thirty requests."""
    steps = [{"get": "/a"}, {"get": "/b"}, {"get": "/c"}]
    plan = Plan.model_validate(
        {
            "target": "http://h:1",
            "scenarios": {"a": {"steps": steps}},
            "workload": {"model": "partly-open", "stages": [{"rate": "10/s", "for": "10s"}]},
        }
    )
    settings = {"workers": 1, "max_in_flight": 10_000, "model": "partly-open"}
    document = told(summary_of(plan, fast(), settings=settings, stages=_stages(plan.load(), plan)))
    assert document["run"]["load"] == "partly open model, 10 sessions/s (30/s), 3 requests a session for 10 s"
    assert "at 10 sessions/s (30/s)" in document["verdict"]["sentence"]
    assert any(item["sentence"].startswith("Partly open model: sessions arrive") for item in document["trust"])


def unsent(kind_of_own: bool, bound: int) -> Summary:
    """A second per answer, fifty due each second, and room for ten; or descriptors for no more than ten."""
    plan = open_plan((50,), "10s", slo=["errors < 1%"])
    machine = {"cpu": "test", "descriptors": 210} if kind_of_own else {"cpu": "test"}
    recording = scripted.play(plan, scripted.constant(S), None, max_in_flight=10)
    changes = {
        "settings": {"workers": 1, "max_in_flight": bound, "slo": list(plan.slo)},
        "environment": {"machine": machine, "generator_shares_machine": False},
    }
    return summary_from(recording, run_json(plan, **changes))


def test_what_a_bound_kept_from_being_sent_is_no_failure() -> None:
    """It counts as errors, is called not sent, and no request is to be sent by hand for it."""
    summary = unsent(False, 10)
    document = told(summary)
    assert document["stages"][0]["tally"]["bad"] > 300
    assert "not sent" in document["verdict"]["sentence"] and "errors." not in document["verdict"]["sentence"]
    assert document["verdict"]["validity"] == "degraded"
    (found,) = said(judge(summary), "errors.constant")
    assert found.kind == "explore" and "were not sent: 10 requests were in flight, the bound" in found.sentence
    assert "by hand" not in found.next_step
    assert not said(judge(summary), "generator.saturated")
    assert "] not sent" in page.render(document)
    assert "was not the limit" not in terminal.render(document)


def test_what_the_server_left_unanswered_is_its_own_doing() -> None:
    """At the bound that nobody set, the same is the server's failure."""
    (found,) = said(judge(unsent(False, 10_000)), "errors.constant")
    assert found.kind == "failed" and "10,000 requests were in flight, the most there may be" in found.sentence


def test_what_the_generator_could_not_send_counts_against_nobody() -> None:
    """For lack of descriptors: invalid, the reason with all its digits, and nothing among what failed."""
    summary = unsent(True, 10)
    document = told(summary)
    assert summary.validity == "invalid"
    assert "the generator sent only" in document["verdict"]["sentence"]
    assert summary.total.tally.own == summary.total.tally.not_sent > 300
    assert summary.total.tally.bad == 0
    assert not document["findings"]["failed"]["items"]


def test_a_reason_is_not_cut_at_the_comma_of_a_number() -> None:
    """Of thousands of requests, not of 3."""
    plan = open_plan((500,), "10s")
    machine = {"cpu": "test", "descriptors": 210}
    recording = scripted.play(plan, scripted.constant(S), None, max_in_flight=10)
    settings = {"workers": 1, "max_in_flight": 10}
    summary = summary_from(recording, run_json(plan, settings=settings, environment={"machine": machine}))
    due = summary.total.tally.due
    assert f"of the {due:,} requests that were due" in told(summary)["verdict"]["sentence"]
    assert due > 1000
