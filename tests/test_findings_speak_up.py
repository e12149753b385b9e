"""Each finding: a server that has it is told so, one that has not is left alone."""

import re
from typing import Any

import pytest

from scripted_runs import MS, S, closed_plan, fast, findings_of, open_plan, run_json, said, summary_of
from surgeline.analysis.model import Summary
from surgeline.analysis.summary import summarise
from surgeline.engines import scripted
from surgeline.findings import RULES, judge
from surgeline.findings.model import Finding
from surgeline.plan.model import Plan
from surgeline.samples import Measurement

BUSY = [{"users": users, "for": "8s"} for users in (2, 8, 32)]


def _only(findings: list[Finding], rule: str, kind: str | None = None) -> Finding:
    found = said(findings, rule, kind)
    assert len(found) == 1, [finding.sentence for finding in found]
    return found[0]


# --- a clean server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_clean_server_is_accused_of_nothing(seed: int):
    """Default load, six reads and a write of a few ms each: nothing failed, nothing to explore but sample sizes."""
    findings = findings_of(closed_plan(writes=("/checkout",)), fast(seed + 1))
    assert [finding.sentence for finding in findings if finding.kind == "failed"] == []
    assert {finding.id for finding in findings if finding.kind == "explore"} <= {"samples.too_few"}


@pytest.mark.parametrize("seed", range(6))
def test_a_clean_server_under_arrivals_is_accused_of_nothing(seed: int):
    """50, 100 and 200 per second at a pool with room for 800."""
    findings = findings_of(open_plan((50, 100, 200), "15s", seed=seed + 1), scripted.pool(8, 10 * MS, seed + 1))
    assert [finding.sentence for finding in findings if finding.kind != "well"] == []


# --- latency ---------------------------------------------------------------------------------------------------------


def test_rising_latency_is_said_with_both_loads():
    """10 ms per other request in flight: the sentence has the time at the lowest and at the highest load."""
    findings = findings_of(closed_plan(BUSY, paths=("/x",), think_time="20ms"), scripted.slowing(fast(), 10 * MS))
    found = _only(findings, "latency.rising", "failed")
    assert "at 2 users" in found.sentence
    assert "at 32 users" in found.sentence
    assert found.impact_s > 0


def test_a_small_rise_is_not_said():
    """From 3 ms to 6 ms under sixteen times the load is nothing to speak of."""
    findings = findings_of(closed_plan(BUSY, paths=("/x",), think_time="20ms"), scripted.slowing(fast(), 100_000))
    assert said(findings, "latency.rising") == []


def test_flat_latency_is_said_of_those_that_stay():
    """Of two endpoints one rises and one stays: the flat one is named, with its load."""
    server = scripted.by_endpoint({"GET /b": scripted.slowing(fast(), 20 * MS)}, fast(2))
    findings = findings_of(
        closed_plan(
            [{"users": users, "for": "15s"} for users in (2, 8, 32)], paths=("/a", "/b", "/a"), think_time="20ms"
        ),
        server,
    )
    flat = _only(findings, "latency.flat")
    assert flat.endpoint == "GET /a"
    assert "32 users" in flat.sentence
    assert [finding.endpoint for finding in said(findings, "latency.rising")] == ["GET /b"]


def test_flat_over_little_more_load_is_not_said():
    """Twice the load proves nothing."""
    stages = [{"users": 4, "for": "15s"}, {"users": 8, "for": "15s"}]
    assert said(findings_of(closed_plan(stages, paths=("/x",), think_time="20ms"), fast()), "latency.flat") == []


def test_when_everything_rises_it_is_said_once():
    """Seven endpoints behind one pool: one sentence for all, at most a few for those that stand out."""
    findings = findings_of(closed_plan(think_time="20ms", writes=("/checkout",)), scripted.pool(4, 20 * MS))
    rising = said(findings, "latency.rising")
    assert rising[0].endpoint is None
    assert "endpoints slow down" in rising[0].sentence
    assert len(rising) <= 4


# --- errors ----------------------------------------------------------------------------------------------------------


def test_no_errors_is_said_with_what_that_proves():
    """0 of n, and the greatest share that would still show none."""
    found = _only(findings_of(closed_plan(), fast()), "errors.none")
    assert re.search(r"0 of [\d,]+ requests, so the true share is below 0\.\d+ %", found.sentence)


def test_errors_that_begin_with_load_are_placed():
    """A server that turns away the eleventh request at a time: none at 8 users, some at 32."""
    server = scripted.failing_above(scripted.constant(30 * MS), 10)
    findings = findings_of(closed_plan(BUSY, paths=("/x",), think_time="10ms"), server)
    found = _only(findings, "errors.onset", "failed")
    assert "begin at 32 users" in found.sentence
    assert "status 503" in found.sentence
    assert said(findings, "errors.constant") == []
    assert "up to 8 users" in _only(findings, "errors.none").sentence


def test_errors_at_any_load_are_not_blamed_on_load():
    """One in ten fails whatever the load: constant, no onset."""
    findings = findings_of(
        closed_plan([{"users": users, "for": "10s"} for users in (4, 8, 16)], paths=("/x",), think_time="20ms"),
        scripted.failing_share(fast(), 0.1, 500),
    )
    found = _only(findings, "errors.constant", "failed")
    assert "whatever the load" in found.sentence
    assert "status 500" in found.sentence
    assert said(findings, "errors.onset") == []
    assert said(findings, "errors.none") == []


def test_a_wall_of_errors_is_taken_for_a_wrong_request():
    """A 401 for every request: the next step is to send it by hand."""
    findings = findings_of(closed_plan(BUSY, paths=("/x", "/y")), scripted.constant(2 * MS, 401))
    assert "login" in said(findings, "errors.constant")[0].next_step


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_error_is_no_onset(seed: int):
    """One request in five hundred fails at random: not said to begin with load."""
    server = scripted.failing_share(fast(seed), 0.002, seed=seed)
    assert said(findings_of(closed_plan(), server), "errors.onset") == []


def test_failures_after_one_round_time_are_a_timeout():
    """Half of the answers are 504 after 1.003 s; and a spread of times is none."""
    slow = scripted.failing_share(scripted.constant(1003 * MS), 1.0, 504)
    server = scripted.by_endpoint({"GET /books": slow}, fast())
    found = _only(findings_of(closed_plan(BUSY), server), "timeouts.cluster", "failed")
    assert "timeout of 1 s" in found.sentence
    assert found.endpoint == "GET /books"
    spread = scripted.failing_share(scripted.lognormal(1000 * MS, 0.5), 1.0, 504)
    assert (
        said(findings_of(closed_plan(BUSY), scripted.by_endpoint({"GET /books": spread}, fast())), "timeouts.cluster")
        == []
    )


def test_the_plans_own_timeout_is_not_a_discovery():
    """A server that answers 504 just before our own limit of one second."""
    slow = scripted.failing_share(scripted.constant(998 * MS), 1.0, 504)
    findings = findings_of(closed_plan(BUSY, timeout="1s"), scripted.by_endpoint({"GET /books": slow}, fast()))
    assert said(findings, "timeouts.cluster") == []


def test_failing_fast_is_said():
    """Refusals after 1 ms where answers take 40 ms; slower failures are not meant."""
    plan = closed_plan([{"users": 40, "for": "15s"}], paths=("/x",), think_time="10ms")
    quick = findings_of(plan, scripted.failing_above(scripted.constant(40 * MS), 20))
    assert "fails faster" in _only(quick, "errors.fast_fail").sentence
    slow = findings_of(plan, scripted.failing_share(scripted.constant(40 * MS), 0.3))
    assert said(slow, "errors.fast_fail") == []


# --- capacity --------------------------------------------------------------------------------------------------------


def test_a_plateau_is_said_with_its_rate():
    """A pool of 200/s: the sentence says about 200/s and the loads between which it is reached."""
    plan = closed_plan([{"users": u, "for": "10s"} for u in (1, 2, 4, 8, 16, 32)], paths=("/x",), think_time="20ms")
    found = _only(findings_of(plan, scripted.pool(4, 20 * MS)), "saturation.plateau", "failed")
    rate = float(re.search(r"about (\d+)/s", found.sentence)[1])  # type: ignore[index]
    assert rate == pytest.approx(200, rel=0.1)


def test_growth_is_said_too():
    """A server with room: throughput grew, and nothing was reached."""
    assert "not reached" in _only(findings_of(closed_plan(), fast()), "saturation.plateau", "well").sentence


def test_growth_of_refusals_is_not_praised():
    """More answers that are wrong are no growth to be proud of."""
    plan = open_plan((50, 100, 200), "10s")
    findings = findings_of(plan, scripted.failing_share(fast(), 0.3))
    assert said(findings, "saturation.plateau") == []


def test_recovery_is_said_after_the_peak():
    """Overloaded and back: within seconds where the queue drains, not at all where the server stays slow."""
    plan = open_plan((50, 250, 50), "15s")
    drains = _only(findings_of(plan, scripted.pool(4, 20 * MS)), "recovery.time")
    assert "Back to normal" in drains.sentence
    stays = scripted.until(16 * S, scripted.constant(10 * MS), scripted.constant(400 * MS))
    found = _only(findings_of(plan, stays), "recovery.time", "failed")
    assert "No recovery" in found.sentence
    rising = open_plan((50, 100, 250), "15s")
    assert said(findings_of(rising, scripted.pool(4, 20 * MS)), "recovery.time") == []


def test_recovery_is_not_denied_by_chance_in_what_was_asked():
    """Four pages of one kind, then four of another: whether more come of the slow kind is chance, and no recovery."""
    mixed = scripted.by_endpoint({"GET /slow": scripted.constant(100 * MS)}, scripted.constant(1 * MS))
    stages = [{"users": users, "for": "6s"} for users in (5, 24, 5)]
    kinds = {name: {"think_time": "50ms..150ms", "steps": [{"get": f"/{name}"}] * 4} for name in ("slow", "quick")}
    for seed in range(8):
        workload = {"model": "closed", "stages": stages, "seed": seed}
        plan = closed_plan(scenarios=kinds, workload=workload)
        found = _only(findings_of(plan, mixed), "recovery.time")
        assert found.kind == "well", found.sentence


# --- stalls, generator, samples --------------------------------------------------------------------------------------


def test_a_regular_stall_is_said_with_period_and_length():
    """A quarter of a second every four."""
    found = _only(findings_of(closed_plan(), scripted.freezing(fast(), 4 * S, S // 4)), "stall.periodic", "failed")
    assert found.sentence.startswith("Every 4 s all endpoints pause for about 2")


def test_no_stall_is_said_only_of_a_run_that_could_show_one():
    """Fifty-six seconds can, ten cannot, and neither can a run whose rows nobody looked at."""
    assert said(findings_of(closed_plan(), fast()), "stall.periodic", "well")
    assert not said(findings_of(open_plan((200,), "10s"), fast()), "stall.periodic")
    assert not said(judge(summary_of(closed_plan(), fast(), rows=False)), "stall.periodic")


def test_a_saturated_generator_is_said_and_caps_what_rests_on_it():
    """Late at the highest load: that stage is the generator's, and no finding rests on it."""
    late = scripted.Generator(lag_ns=lambda due: 80 * MS if due > 30 * S else 0)
    findings = findings_of(open_plan((50, 100, 200), "15s"), fast(), late)
    assert "at 200/s" in _only(findings, "generator.saturated", "explore").sentence
    assert said(findings, "latency.rising") == []
    healthy = findings_of(open_plan((50, 100, 200), "15s"), fast())
    assert "was not the limit" in _only(healthy, "generator.saturated", "well").sentence


def test_too_few_samples_are_said_with_what_is_needed():
    """An endpoint asked twenty times; with hundreds of requests each, nothing."""
    weights: dict[str, Any] = closed_plan([{"users": 4, "for": "10s"}], paths=("/a",), think_time="20ms").dump()
    weights["scenarios"]["a"]["weight"] = 30
    weights["scenarios"]["rare"] = {"think_time": "20ms", "steps": [{"get": "/rare"}]}
    found = _only(findings_of(Plan.model_validate(weights), fast()), "samples.too_few")
    assert found.endpoint == "GET /rare"
    assert "p95 needs 72" in found.sentence
    many = closed_plan([{"users": 20, "for": "20s"}], think_time="20ms")
    assert said(findings_of(many, fast()), "samples.too_few") == []


# --- objectives and endpoints ----------------------------------------------------------------------------------------


def test_a_missed_objective_names_load_figure_and_culprit():
    """One slow endpoint of six brings p95 over the limit from some load on."""
    server = scripted.by_endpoint({"GET /report": scripted.pool(2, 100 * MS)}, fast())
    findings = findings_of(closed_plan(slo=["p95 < 300ms"]), server)
    found = _only(findings, "slo.missed", "failed")
    assert re.search(r"missed from \d+ users on", found.sentence)
    assert "GET /report is" in found.sentence
    assert findings[0] is found


def test_a_met_objective_is_said_with_its_load():
    """Up to the highest load; and nothing is said of objectives that nobody set."""
    findings = findings_of(closed_plan(slo=["p95 < 300ms", "errors < 1%"]), fast())
    assert len(said(findings, "slo.met", "well")) == 2
    assert "up to 64 users" in said(findings, "slo.met")[0].sentence
    assert not {finding.id for finding in findings_of(closed_plan(), fast())} & {"slo.met", "slo.missed"}


def test_an_objective_without_data_is_a_question():
    """p99.9 of two thousand requests cannot be told."""
    findings = findings_of(open_plan((50,), "20s", slo=["p99.9 < 300ms"]), fast())
    assert "not known" in _only(findings, "slo.missed", "explore").sentence


def test_an_endpoint_slower_than_its_kind_is_named():
    """60 ms among reads of 3 ms; a write of 60 ms is not compared with reads."""
    server = scripted.by_endpoint(
        {"GET /orders": scripted.lognormal(60 * MS), "POST /checkout": scripted.lognormal(60 * MS, seed=5)}, fast()
    )
    findings = findings_of(closed_plan(writes=("/checkout",)), server)
    assert _only(findings, "endpoint.outlier").endpoint == "GET /orders"


def test_a_little_slower_or_few_of_a_kind_is_no_outlier():
    """8 ms among 3 ms is nothing; of three endpoints none has a kind."""
    mild = scripted.by_endpoint({"GET /orders": scripted.lognormal(8 * MS)}, fast())
    assert said(findings_of(closed_plan(), mild), "endpoint.outlier") == []
    slow = scripted.by_endpoint({"GET /c": scripted.lognormal(90 * MS)}, fast())
    assert said(findings_of(closed_plan(paths=("/a", "/b", "/c")), slow), "endpoint.outlier") == []


def test_an_endpoint_that_takes_most_of_the_time_is_named():
    """One of six takes nine tenths of all waiting; being asked most is not enough."""
    server = scripted.by_endpoint({"GET /report": scripted.lognormal(200 * MS)}, fast())
    assert _only(findings_of(closed_plan(), server), "endpoint.dominates").endpoint == "GET /report"
    often = closed_plan(paths=("/a", "/a", "/a", "/a", "/b", "/c"))
    assert said(findings_of(often, fast()), "endpoint.dominates") == []


# --- all of them -----------------------------------------------------------------------------------------------------


def _everything() -> Summary:
    shared = scripted.pool(4, 40 * MS)
    server = scripted.by_endpoint(
        {
            "GET /orders": scripted.lognormal(60 * MS),
            "GET /report": shared,
            "POST /checkout": scripted.failing_above(shared, 40, 500),
        },
        fast(),
    )
    plan = closed_plan(think_time="20ms", writes=("/checkout",), slo=["p95 < 100ms", "errors < 5%"])
    return summary_of(plan, scripted.freezing(server, 4 * S, S // 4))


def test_findings_are_ranked_by_the_time_users_lost():
    """Objectives first, then by impact; each id is that of a rule, each sentence is one line that ends."""
    findings = judge(_everything())
    rest = [finding.impact_s for finding in findings if finding.id != "slo.missed"]
    assert rest == sorted(rest, reverse=True)
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    for finding in findings:
        assert finding.id in ids
        assert "\n" not in finding.sentence
        assert finding.sentence.endswith((".", "?"))
        assert re.search(r"\d", finding.sentence), finding.sentence
        assert finding.n >= 0
        assert (finding.kind == "well") or finding.next_step


def test_causes_are_only_ever_consistent_with():
    """No sentence says because."""
    for finding in judge(_everything()):
        assert "because" not in finding.sentence
        assert "caused by" not in finding.sentence


def test_a_rule_can_be_left_out():
    """By its id, without touching the others."""
    summary = _everything()
    without = judge(summary, {"stall.periodic"})
    assert said(without, "stall.periodic") == []
    assert len(judge(summary)) == len(without) + len(said(judge(summary), "stall.periodic"))


def test_the_same_summary_gives_the_same_findings():
    """Also in the same order."""
    assert judge(_everything()) == judge(_everything())


def test_nothing_measured_is_nothing_said():
    """A run without requests, and one in which nothing listened, give no praise and no traceback."""
    assert judge(summarise(run_json(open_plan()), Measurement())) == []
    refused = findings_of(closed_plan(BUSY), scripted.refusing())
    assert {finding.kind for finding in refused} & {"well"} == set()


@pytest.mark.parametrize(("burst", "spoken"), [(False, 1), (True, 0)])
def test_errors_that_came_at_one_moment_are_worth_less_than_as_many_spread_out(burst: bool, spoken: int):
    """12 of 6,000 wrong is above 0.1 % where each came by itself, and says nothing where one second had them all."""
    wrong = set(range(100, 112)) if burst else set(range(250, 6000, 500))
    seen = 0

    def server(endpoint: str, sent_ns: int, in_flight: int) -> scripted.Answer:
        nonlocal seen
        seen += 1
        return scripted.Answer(3 * MS, 500 if seen in wrong else 200)

    findings = findings_of(open_plan((100,), "60s", arrivals="uniform"), server)
    assert len(said(findings, "errors.constant")) == spoken
