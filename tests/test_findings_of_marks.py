"""Findings from what single requests carry with them, and about scripts: each speaks up, each can be quiet."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scripted_runs import MS, S, fast, open_plan, run_json, said, summary_from
from surgeline.analysis import traits
from surgeline.analysis.marks import LoginPage, Marks, Retries, SameData, entries
from surgeline.analysis.model import ErrorGroup, PeriodicStall, Raised, ServerHealth, Summary
from surgeline.analysis.summary import summarise
from surgeline.analysis.traits import Gap, Traits
from surgeline.engines import scripted
from surgeline.findings import RULES, judge
from surgeline.findings.model import Finding
from surgeline.findings.urls_cardinality import template
from surgeline.samples import Outcome

DICE = np.random.default_rng


@pytest.fixture(scope="module")
def summary() -> Summary:
    """A calm run of 1,000 requests of GET /x."""
    plan = open_plan((50,), "20s")
    return summary_from(scripted.play(plan, fast()), run_json(plan))


def rows(service_ms: Any, endpoints: Sequence[str] | None = None, **columns: Any) -> dict[str, Any]:
    """A batch of correct answers, 20 ms apart, by default of one endpoint; `columns` replace what is plain."""
    count = len(service_ms)
    start = np.arange(count) * 20 * MS
    plain = {
        "endpoint": list(endpoints) if endpoints is not None else ["GET /x"] * count,
        "url": ["http://127.0.0.1:1/x"] * count,
        "stage": np.zeros(count, int),
        "start_ns": start,
        "end_ns": start + (np.asarray(service_ms) * MS).astype(np.int64),
        "dns_ns": np.full(count, -1),
        "connect_ns": np.full(count, -1),
        "tls_ns": np.full(count, -1),
        "bytes_in": np.full(count, 1000),
        "bytes_out": np.full(count, 200),
        "reused": np.ones(count, int),
        "outcome": np.full(count, int(Outcome.OK)),
        "server_timing": [""] * count,
    }
    return {**plain, **columns}


def marks_of(batch: dict[str, Any], exchanges: Sequence[Any] = (), stalls: Sequence[Any] = ()) -> Marks:
    """The marks of a batch."""
    return traits.look([batch], exchanges, {0: 1.0}, stalls).marks


def told(summary: Summary, marks: Marks, rule: str, kind: str | None = None, **changes: Any) -> list[Finding]:
    """What a rule says of the calm run with those marks."""
    held = Traits(marks=marks, rows=summary.total.tally.due)
    return said(judge(replace(summary, traits=held, **changes)), rule, kind)


def exchange(headers: Sequence[Any] = (), asked: Sequence[Any] = (), ms: float = 3.0, **more: Any) -> Any:
    """A kept exchange of GET /x."""
    return {
        "endpoint": "GET /x", "why": "random", "at_ns": 0, "response_ns": int(ms * MS), "error": None,
        "request": {
            "method": "GET", "url": "http://127.0.0.1:1/x", "headers": list(asked), "body_head": more.get("sent"),
            "body_bytes": len(more.get("sent", "")),
        },
        "answer": {"status": 200, "body_sha256": "a", "headers": list(headers), "body_head": more.get("body", "")},
    }  # fmt: skip


# --- tails -----------------------------------------------------------------------------------------------------------


def test_a_heavy_tail_is_said_of_the_endpoint_that_has_it(summary: Summary):
    """Every 40th request takes 400 ms instead of 2 ms: said. One bad moment with as many slow ones: not."""
    times = np.where(np.arange(400) % 40 == 7, 400.0, 2.0)
    (found,) = told(summary, marks_of(rows(times)), "latency.heavy_tail", "explore")
    assert "10 of 400" in found.sentence
    once = np.where((np.arange(400) > 100) & (np.arange(400) < 112), 400.0, 2.0)
    assert told(summary, marks_of(rows(once)), "latency.heavy_tail", "explore") == []


def test_a_tail_that_all_endpoints_have_is_no_endpoints_own(summary: Summary):
    """A machine that holds up every 40th request of anything accuses nobody; one endpoint of four alone is named."""
    two = replace(summary, endpoints=(*summary.endpoints, *(replace(summary.endpoints[0], name=n) for n in "abc")))
    names = [("GET /x", "a", "b", "c")[i % 4] for i in range(1600)]
    everywhere = np.where(DICE(1).random(1600) < 0.025, 400.0, 2.0)
    assert told(two, marks_of(rows(everywhere, names)), "latency.heavy_tail", "explore") == []
    alone = np.where((DICE(1).random(1600) < 0.05) & (np.arange(1600) % 4 == 1), 400.0, 2.0)
    assert [f.endpoint for f in told(two, marks_of(rows(alone, names)), "latency.heavy_tail", "explore")] == ["a"]


def test_ordinary_scatter_is_no_heavy_tail(summary: Summary):
    """Lognormal times with a sigma of 0.8 have slow ones, but no tail: praised, and not once in thirty accused."""
    for seed in range(30):
        marks = marks_of(rows(20 * np.exp(0.8 * DICE(seed).standard_normal(400))))
        assert told(summary, marks, "latency.heavy_tail", "explore") == []


# --- the server's own times, instances --------------------------------------------------------------------------------


def test_server_timing_is_read_as_the_standard_writes_it():
    """Names, durations and descriptions, quoted commas included; what is no number is none."""
    assert entries('db;dur=53.2;desc="12, or so", cache;desc=hit, total;dur=123.4') == {
        "db": (53.2, "12, or so"), "cache": (None, "hit"), "total": (123.4, ""),
    }  # fmt: skip
    assert entries("db;dur=NaN, x;dur=-1, ;dur=3,,y") == {"db": (None, ""), "x": (None, ""), "y": (None, "")}
    assert len(entries(",".join(f"m{i};dur=1" for i in range(100)))) <= 16


def test_where_the_server_says_its_time_goes_is_said(summary: Summary):
    """55 of 60 ms in the database: named. 5 of 60, or all of it under the name total: not."""
    for text, expected in (("db;dur=55, total;dur=59", "explore"), ("db;dur=5", "well"), ("total;dur=59", None)):
        marks = marks_of(rows(np.full(100, 60.0), server_timing=[text] * 100))
        found = told(summary, marks, "http.server_timing")
        assert [f.kind for f in found] == ([expected] if expected else [])
    few = marks_of(rows(np.full(20, 60.0), server_timing=["db;dur=55"] * 20))
    assert told(summary, few, "http.server_timing") == []


@pytest.mark.parametrize("seed", range(5))
def test_one_slow_instance_of_three_is_named(summary: Summary, seed: int):
    """Instance c takes 40 ms more than a and b: named with its times. Three alike: praised, nobody accused."""
    dice = DICE(seed)
    who = dice.choice(["a", "b", "c"], 300)
    timing = [f'instance;desc="{name}"' for name in who]
    base = 3 * np.exp(0.5 * dice.standard_normal(300))
    (found,) = told(
        summary, marks_of(rows(base + 40 * (who == "c"), server_timing=timing)), "fairness.instances", "failed"
    )
    assert "One of 3 instances differs: c takes" in found.sentence
    alike = marks_of(rows(base, server_timing=timing))
    assert [f.kind for f in told(summary, alike, "fairness.instances")] == ["well"]
    assert told(summary, marks_of(rows(base)), "fairness.instances") == []


def test_an_instance_that_fails_more_often_is_named(summary: Summary):
    """A fifth of the requests of b go wrong, hardly any of a: said with both shares."""
    who = np.array(["a", "b"] * 200)
    outcome = np.where((who == "b") & (np.arange(400) % 10 < 2), int(Outcome.FAILURE), int(Outcome.OK))
    timing = [f"host;desc={name}" for name in who]
    marks = marks_of(rows(np.full(400, 3.0), server_timing=timing, outcome=outcome))
    (found,) = told(summary, marks, "fairness.instances", "failed")
    assert "b goes wrong in 20 %" in found.sentence


def test_a_header_tells_instances_apart_where_server_timing_does_not(summary: Summary):
    """Thirty kept exchanges with x-served-by, those of one host ten times slower."""
    kept = [exchange([["X-Served-By", f"web{i % 2}"]], ms=3.0 + 40.0 * (i % 2)) for i in range(60)]
    batch = rows(np.full(200, 3.0))
    (found,) = told(summary, marks_of(batch, kept), "fairness.instances", "failed")
    assert "web1" in found.sentence and "header x-served-by" in found.sentence
    alike = [exchange([["X-Served-By", f"web{i % 2}"]]) for i in range(60)]
    assert told(summary, marks_of(batch, alike), "fairness.instances", "failed") == []


# --- connections -----------------------------------------------------------------------------------------------------


def test_connections_that_break_are_said_by_kind(summary: Summary):
    """Thirty of a thousand answers cut short: said. Three, or thirty failed answers: not."""
    group = ErrorGroup("GET /x", Outcome.ERROR, "short_body", 200, 30, S, 9 * S, 3 * MS, {0: 30})
    (found,) = told(summary, Marks(), "conn.dropped", "failed", errors=(group,))
    assert "answer cut short" in found.sentence
    for other in (
        replace(group, count=3, by_stage={0: 3}),
        replace(group, outcome=Outcome.FAILURE, kind="status 500"),
        replace(group, kind="client_ports"),
    ):
        assert told(summary, Marks(), "conn.dropped", errors=(other,)) == []


def test_connections_that_open_a_second_late_are_said(summary: Summary):
    """Eight of 200 connections after 1.02 s where 0.3 ms is usual; a slow network, or one straggler, is not meant."""

    def opened(connect_ms: Any) -> Marks:
        count = len(connect_ms)
        return marks_of(
            rows(
                np.asarray(connect_ms) + 3.0, connect_ns=(np.asarray(connect_ms) * MS).astype(np.int64),
                reused=np.zeros(count, int),
            )
        )  # fmt: skip

    late = np.where(np.arange(200) % 25 == 3, 1_020.0, 0.3)
    assert opened(late).retries == Retries(200, 8, 0.3 * MS)
    (found,) = told(summary, opened(late), "conn.syn_retries", "failed")
    assert "4 %" in found.sentence
    assert told(summary, opened(np.full(200, 1_020.0)), "conn.syn_retries") == []
    assert told(summary, opened(np.where(np.arange(200) == 3, 1_020.0, 0.3)), "conn.syn_retries") == []
    assert told(summary, opened(np.full(200, 0.3)), "conn.syn_retries") == []


@pytest.mark.parametrize(("part", "rule"), [("tls_ns", "conn.tls_slow"), ("dns_ns", "conn.dns_slow")])
def test_slow_handshakes_and_lookups_are_said(summary: Summary, part: str, rule: str):
    """60 of 70 ms: said. 1 of 10 ms: praised. None at all: nothing."""

    def phase(ms: float, whole: float) -> Marks:
        held = {part: np.full(100, int(ms * MS)), "connect_ns": np.full(100, MS)}
        return marks_of(rows(np.full(100, whole), **held))

    assert [f.kind for f in told(summary, phase(60, 70), rule)] == ["explore"]
    assert [f.kind for f in told(summary, phase(1, 10), rule)] == ["well"]
    assert told(summary, marks_of(rows(np.full(100, 10.0))), rule) == []


def test_large_cookies_are_said(summary: Summary):
    """4 kB of requests that show 60 bytes of headers, with a Cookie among them: said; without it, or small: not."""
    kept = [exchange(asked=[["Host", "127.0.0.1:1"], ["Cookie", "***"]])]
    large, small = (rows(np.full(100, 3.0), bytes_out=np.full(100, size)) for size in (4_100, 400))
    (found,) = told(summary, marks_of(large, kept), "http.cookies_large", "explore")
    assert "4.03 kB" in found.sentence or "4.0" in found.sentence
    assert told(summary, marks_of(small, kept), "http.cookies_large") == []
    assert told(summary, marks_of(large, [exchange(asked=[["Host", "h"]])]), "http.cookies_large") == []


def test_a_gap_longer_than_a_regular_stall_is_said_beside_it(summary: Summary):
    """Stalls of 250 ms explain gaps of 260 ms, and no gap of 700 ms."""
    stall = _stall()
    short, long = Gap(5 * S - 250 * MS, 5 * S + 10 * MS, 9), Gap(9 * S, 9 * S + 700 * MS, 9)
    for gaps, expected in (((short,), 0), ((short, long), 1)):
        held = Traits(gaps=gaps, rows=summary.total.tally.due)
        found = said(judge(replace(summary, traits=held, stalls=(stall,))), "stall.global")
        assert len(found) == expected


def _stall() -> PeriodicStall:
    return PeriodicStall(4 * S, 250 * MS, 10, 10, S, 37 * S, 90, 0.05, 9 * S, ("GET /x",), 1, 1e-6)


def test_requests_that_met_a_stall_are_no_tail(summary: Summary):
    """One in 25 requests takes 250 ms because everything stood still then; known stalls are left out of the tail."""
    start = np.arange(1000) * 20 * MS
    stood = [(moment * S - 250 * MS, moment * S) for moment in range(1, 20, 2)]
    times = np.full(1000, 2.0)
    for begin, end in stood:
        first = int(np.searchsorted(start, begin))
        times[first : first + 4] = (end - start[first : first + 4]) / MS
    stall = replace(_stall(), period_ns=2 * S, first_ns=S, last_ns=19 * S)
    assert told(summary, marks_of(rows(times)), "latency.heavy_tail", "explore")
    assert told(summary, marks_of(rows(times), stalls=[stall]), "latency.heavy_tail", "explore") == []


# --- scripts and plans -----------------------------------------------------------------------------------------------


def test_exceptions_of_the_script_are_said_with_the_most_frequent(summary: Summary):
    """Forty times KeyError and once something else; two in a whole run are not spoken of."""
    (found,) = told(
        summary,
        Marks(),
        "script.user_code",
        "explore",
        exceptions=(Raised("'token'\n <b>", 40, "KeyError"), Raised("list index", 1)),
    )
    assert "41 times" in found.sentence and "KeyError: 'token' <b>" in found.sentence
    assert told(summary, Marks(), "script.user_code", exceptions=(Raised("x", 2),)) == []


def test_exceptions_reach_the_summary():
    """Events of the kind exception are added up by type, message and traceback, with first and last."""
    plan = open_plan((50,), "5s")
    recording = scripted.play(plan, fast())
    raised = (
        {"kind": "exception", "type": "E", "message": "a", "traceback": "t", "count": 2, "at_ns": 5},
        {"kind": "exception", "type": "E", "message": "a", "traceback": "t", "at_ns": 9},
        {"kind": "note"},
    )
    measured = replace(recording.measurement(), events=raised)
    assert summarise(run_json(plan), measured).exceptions == (Raised("a", 3, "E", 5, 9, "t"),)


def test_a_script_that_blocks_its_loop_is_told_from_a_busy_one(summary: Summary):
    """Late by 40 ms with an idle CPU: the script. With a full CPU generator.saturated speaks; 1 ms is nothing."""
    locust = {**summary.run, "engine": "locust"}
    for lag, cpu, expected in ((40 * MS, 0.3, 1), (40 * MS, 0.97, 0), (MS, 0.3, 0)):
        health = replace(summary.health, lag_p99_ns=float(lag), cpu_ratio_max=cpu)
        changes = {"health": health, "response_is_service": True}
        assert len(told(summary, Marks(), "script.hub_delay", run=locust, **changes)) == expected
        assert told(summary, Marks(), "script.hub_delay", **changes) == []


def test_a_wall_is_told_from_an_app(summary: Summary):
    """All 401, or nothing but a page that asks for a password: said; a login page that was asked for: not."""
    bad = replace(summary.endpoints[0].tally, ok=0, failure=summary.endpoints[0].tally.ok)
    walled = replace(summary.endpoints[0], tally=bad)
    group = ErrorGroup("GET /x", Outcome.FAILURE, "status", 401, bad.failure, 0, S, MS, {0: bad.failure})
    assert told(summary, Marks(), "script.auth_wall", "explore", errors=(group,), endpoints=(walled,))
    assert told(summary, Marks(), "script.auth_wall", errors=(replace(group, count=9),), endpoints=(walled,)) == []
    page = marks_of(rows([3.0] * 30), [exchange(body='<input name=p type="password">')] * 3)
    assert page.login_pages == (LoginPage("GET /x", 3),)
    assert told(summary, page, "script.auth_wall", "explore")
    asked_for = replace(summary.endpoints[0], name="GET /login")
    marks = Marks(login_pages=(LoginPage("GET /login", 3),))
    assert told(summary, marks, "script.auth_wall", endpoints=(asked_for,)) == []
    assert marks_of(rows([3.0] * 30), [exchange(body="<h1>Books</h1>")] * 3).login_pages == ()


def test_asking_for_the_same_again_is_said(summary: Summary):
    """300 requests for one book of thousands: said; for fifty books, or of an endpoint without a place for ids: not."""
    few = Marks(same_data=(SameData("GET /books/{id}", 300, 1, "address"),))
    assert told(summary, few, "script.same_data", "explore")
    for one in (SameData("GET /books/{id}", 300, 50, "address"), SameData("GET /books/{id}", 60, 1, "address")):
        assert told(summary, Marks(same_data=(one,)), "script.same_data") == []
    names = ["GET /books/{id}"] * 250
    urls = [f"http://127.0.0.1:1/books/{i % 3}" for i in range(250)]
    (seen,) = marks_of(rows(np.full(250, 3.0), names, url=urls)).same_data
    assert (seen.requests, seen.distinct) == (250, 3)
    bodies = [exchange(sent='{"q": 1}')] * 6
    (seen,) = marks_of(rows(np.full(250, 3.0)), bodies).same_data
    assert told(summary, Marks(same_data=(seen,)), "script.same_data", "explore")
    assert marks_of(rows(np.full(250, 3.0)), [exchange(sent='{"p": "***"}')] * 6).same_data == ()


def test_load_on_other_hosts_is_said(summary: Summary):
    """A tenth to a CDN: said with its name; all to the target, or a target that is not known: not."""
    run = {**summary.run, "settings": {**summary.run["settings"], "target": "http://127.0.0.1:1"}}
    both = marks_of(rows([3.0] * 100, url=["http://127.0.0.1:1/x"] * 90 + ["http://cdn.test/y"] * 10))
    (found,) = told(summary, both, "script.third_party", "explore", run=run)
    assert "cdn.test" in found.sentence and "10 %" in found.sentence
    assert told(summary, both, "script.third_party") == []
    assert told(summary, marks_of(rows([3.0] * 100)), "script.third_party", run=run) == []


def test_names_that_differ_by_an_id_are_put_together(summary: Summary):
    """Forty names of one template: said with the template. Forty words, or ten ids: not."""
    (only,) = summary.endpoints

    def named(names: Sequence[str]) -> list[Finding]:
        return told(summary, Marks(), "urls.cardinality", endpoints=tuple(replace(only, name=n) for n in names))

    (found,) = named([f"/books/{i}" for i in range(40)])
    assert "/books/{id}" in found.sentence
    assert named([f"/books/{'abcdefgh'[i % 8] * (i // 8 + 1)}" for i in range(40)]) == []
    assert named([f"/books/{i}" for i in range(10)]) == []
    assert template("GET /u/3f2b8c1d-1111-2222-3333-444455556666/x?a=1&b=2") == "GET /u/{id}/x?a={value}&b={value}"
    assert template("GET /search") == "GET /search"


# --- over time -------------------------------------------------------------------------------------------------------


def _server(values: Sequence[float]) -> ServerHealth:
    plain = ServerHealth("", 1, 2, 0.5, 0.6, 1.0, values[0], values[-1], max(values), 8.0, 30.0)
    return replace(plain, rss_stage=0, rss_flat_bytes=tuple(values))


def test_memory_that_grows_is_told_from_caches_that_fill(summary: Summary):
    """60 MB more in three minutes, steadily: said. A cache that is full after one, noise, or a short look: not."""
    x = np.arange(180)
    noise = DICE(1).standard_normal(180) * 1e6
    grows = told(summary, Marks(), "memory.leak", "failed", server=_server(100e6 + x / 180 * 60e6 + noise))
    assert len(grows) == 1
    fills = 100e6 + 60e6 * (1 - np.exp(-x / 15)) + noise
    assert told(summary, Marks(), "memory.leak", "failed", server=_server(fills)) == []
    assert told(summary, Marks(), "memory.leak", "well", server=_server(100e6 + noise))
    assert told(summary, Marks(), "memory.leak", server=_server(100e6 + x[:60] * 1e6)) == []


def test_memory_is_read_from_the_longest_stage_of_one_load():
    """Readings of the served process within a stage reach the summary, in order; without any there is no server."""
    plan = open_plan((20,), "130s")
    recording = scripted.play(plan, fast())
    assert summary_from(recording, run_json(plan)).server is None


def test_a_load_under_which_nothing_comes_to_rest_is_said():
    """20 ms for half a minute and 30 ms for the other half: no steady state; 20 ms throughout: praised."""
    plan = open_plan((40,), "60s")
    steps = scripted.until(30 * S, scripted.lognormal(20 * MS), scripted.lognormal(30 * MS))
    for server, kind in ((steps, "explore"), (scripted.lognormal(20 * MS), "well")):
        found = said(judge(summary_from(scripted.play(plan, server), run_json(plan))), "steady.none")
        assert [f.kind for f in found] == [kind]


def test_a_run_of_a_few_seconds_is_said_to_be_one():
    """Ten seconds are too few, twenty are not."""
    for length, expected in (("10s", 1), ("20s", 0)):
        plan = open_plan((50,), length)
        found = judge(summary_from(scripted.play(plan, fast()), run_json(plan)))
        assert len(said(found, "duration.too_short", "explore")) == expected


def test_a_calm_run_is_accused_of_nothing_by_its_marks(summary: Summary):
    """Thirty calm batches with instances, own times and connections: none of the rules of this file accuses."""
    accusing = [rule.id for rule in RULES if rule.id.split(".")[0] in ("fairness", "http", "conn", "script", "memory")]
    for seed in range(30):
        dice = DICE(100 + seed)
        times = dice.uniform(2, 40) * np.exp(dice.uniform(0.1, 0.6) * dice.standard_normal(400))
        timing = [
            f'db;dur={t * 0.3:.2f}, host;desc="{h}"' for t, h in zip(times, dice.choice(list("abcd"), 400), strict=True)
        ]
        marks = marks_of(rows(times, server_timing=timing, connect_ns=np.full(400, MS), reused=np.zeros(400, int)))
        found = judge(replace(summary, traits=Traits(marks=marks, rows=summary.total.tally.due)))
        assert [f.sentence for f in found if f.id in accusing and f.kind != "well"] == []
