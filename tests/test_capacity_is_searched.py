"""Capacity is searched load by load: the next one follows from what came of those before, and from nothing else.

Held against servers whose capacity is known, first as plain histories, then through the scripted engine and the runner.
The campaign in scripts/campaigns/capacity.py does the latter many times over.
"""

import importlib.util
import math
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from scripted_runs import open_plan
from surgeline import runner, units
from surgeline.analysis.capacity_search import (
    FULL,
    HOLD_AT,
    SHORT,
    SHORT_BUDGET_S,
    Move,
    Search,
    Tried,
    capacity,
    knee,
    next_move,
    pace_for,
    settle_after,
)
from surgeline.analysis.live import Live
from surgeline.analysis.stress import Fold, Pilot
from surgeline.cli.run import exit_code
from surgeline.cli.search import default_slo
from surgeline.engines.scripted import Answer, Generator, Scripted, Server, constant, pool
from surgeline.plan.objective import parse_objectives
from surgeline.report import document, html, page, terminal
from surgeline.samples import Histogram, Outcome, Window
from surgeline.workload import Workload

MS = units.NS_PER_MS
ROOT = Path(__file__).parents[1]
WITHIN = parse_objectives("p95 < 300ms, errors < 1%")


def told(move: Move, truth: float, generator_at: float = math.inf) -> Tried:
    """What a server of that capacity makes of a load, without noise: the score grows with the log of the rate."""
    score = max(min(20.0 * math.log(move.rate_per_s / truth), 4.0), -4.0)
    return Tried(
        role=move.role,
        rate_per_s=move.rate_per_s,
        duration_s=move.duration_s if move.role != "settle" else 1.0,
        due=round(move.rate_per_s * move.duration_s),
        score=score,
        score_se=0.2,
        broken="p95 < 300ms",
        endpoint="GET /",
        completed_per_s=min(move.rate_per_s, truth * 1.02),
        median_ns=5.0 * MS,
        mean_ns=(5.0 if score < -2 else 8.0 if score < 0 else 400.0) * MS,
        generator="the generator used 99 % of the CPU it can use" if move.rate_per_s > generator_at else "",
        recovered_s=2.0 if move.role == "settle" else None,
    )


def searched(truth: float, search: Search, generator_at: float = math.inf) -> list[Tried]:
    """A whole search, each step settled at once."""
    history: list[Tried] = []
    while (move := next_move(history, search)) is not None:
        settle = settle_after(history, move)
        history += [told(move, truth, generator_at), told(settle, truth)]
        assert len(history) < 100
    return history


@pytest.mark.parametrize("truth", [0.7, 6.0, 37.0, 150.0, 1234.0, 9876.0])
def test_without_noise_the_search_ends_at_the_truth(truth: float):
    """Whatever the size of the server, the estimate is within 3 % of its capacity and the interval holds it."""
    search = Search(WITHIN)
    found = capacity(searched(truth, search), search)
    assert found.rate_per_s == pytest.approx(truth, rel=0.03)
    assert found.low is not None and found.high is not None
    assert found.low <= truth <= found.high
    assert not found.at_least


@pytest.mark.parametrize("truth", [150.0, 800.0, 4000.0])
def test_four_minutes_and_sixteen_loads_suffice(truth: float):
    """From 150/s on, a search takes no more than four minutes and sixteen loads beside the floor."""
    history = searched(truth, Search(WITHIN))
    found = capacity(history, Search(WITHIN))
    assert found.seconds <= 240.0
    assert found.steps <= 16
    assert sum(tried.role == "probe" for tried in history) == FULL.probes
    assert found.held == "held"


@pytest.mark.parametrize("truth", [40.0, 150.0, 800.0, 4000.0, 30_000.0])
def test_a_short_search_goes_through_every_part_in_75_seconds(truth: float):
    """Floor, climb, bisection, probe and hold, each settled after, within 75 s; the interval holds the truth, and the
    answer says that it was a short search or that there were few requests."""
    search = Search(WITHIN, SHORT_BUDGET_S, pace=SHORT)
    history = searched(truth, search)
    found = capacity(history, search)
    assert {tried.role for tried in history} == {"floor", "climb", "settle", "bisect", "probe", "hold"}
    assert found.seconds <= 75.0
    assert found.low is not None and found.high is not None and found.low <= truth <= found.high
    assert found.held == "held"
    assert "short search" in found.wide or "requests" in found.wide
    assert "surgeline stress" in found.wide


def test_a_short_search_is_less_sure_than_a_full_one():
    """Of the same server, without noise, the interval of a short search is wider than that of a full one."""
    widths = []
    for search in (Search(WITHIN, SHORT_BUDGET_S, pace=SHORT), Search(WITHIN)):
        found = capacity(searched(400.0, search), search)
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] > 1.2 * widths[1]


@pytest.mark.parametrize(
    ("alone_ms", "limit"), [(None, "300ms"), (5, "300ms"), (150, "300ms"), (151, "500ms"), (410, "1s"), (60_000, "20s")]
)
def test_no_objective_of_ours_is_missed_from_the_start(alone_ms: float | None, limit: str):
    """Without an objective of the user's, the slowest endpoint is left twice what it takes alone, 20 s at most; the
    text is one that a plan takes."""
    taken = default_slo(None if alone_ms is None else round(alone_ms * MS))
    assert taken == f"p95 < {limit}, errors < 1%"
    assert [objective.metric for objective in parse_objectives(taken)] == ["quantile", "errors"]


@pytest.mark.parametrize(("rate", "validity", "code"), [(80.0, "valid", 0), (None, "valid", 99), (80.0, "invalid", 4)])
def test_a_search_misses_what_not_even_its_lightest_load_holds(rate: float | None, validity: str, code: int):
    """It breaks objectives on purpose, so that alone is no miss; no load within them is one, and an invalid run 4."""
    found = {"rate_per_s": rate, "tried": [{}]}
    verdict = {"validity": validity, "slo": None}
    assert exit_code({"objectives": [{}], "capacity": found, "verdict": verdict}) == code


def test_the_pace_follows_from_the_time():
    """Four minutes are for a full search; the time of a short one is for a short one."""
    assert pace_for(240.0) is FULL
    assert pace_for(SHORT_BUDGET_S) is SHORT


def test_a_climb_strides_only_where_nobody_waited():
    """Behind a step whose mean is the floor's a short search goes up fourfold, behind a slower one twofold."""
    search = Search(WITHIN, SHORT_BUDGET_S, pace=SHORT)
    floor, step = (told(Move(role, rate, 3.0), 1e9) for role, rate in (("floor", 10.0), ("climb", 50.0)))
    calm = next_move([floor, step], search)
    busy = next_move([floor, replace(step, mean_ns=9.0 * MS)], search)
    assert calm is not None and calm.rate_per_s == pytest.approx(200.0)
    assert busy is not None and busy.rate_per_s == pytest.approx(100.0)


def test_the_next_load_follows_from_the_history_alone():
    """Asked twice with the same history, the search says the same; a longer history is what changes its mind."""
    search = Search(WITHIN)
    history = searched(200.0, search)
    for length in range(0, len(history), 2):
        assert next_move(history[:length], search) == next_move(list(history[:length]), search)
    assert next_move(history, search) is None


def test_before_the_hold_the_server_is_overrun_for_a_moment_at_the_load_of_the_hold():
    """What does not come back by itself at 0.97 of the estimate is no capacity: the load behind the moment is that."""
    search = Search(WITHIN)
    history = searched(300.0, search)
    moment, behind, hold = history[-4], history[-3], history[-2]
    assert [tried.role for tried in (moment, behind, hold)] == ["overrun", "settle", "hold"]
    assert moment.rate_per_s > 1.3 * 300.0 and moment.duration_s <= 3.0
    assert behind.rate_per_s == pytest.approx(hold.rate_per_s, rel=1e-6)
    without = capacity([tried for tried in history if tried.role != "overrun"], search)
    assert capacity(history, search).rate_per_s == without.rate_per_s


def test_a_server_that_collapses_has_the_capacity_that_it_comes_back_at():
    """Held 220/s, but once overrun only 165/s came through: 165/s is the answer, and 220/s within the interval."""
    search = Search(WITHIN)
    history = searched(220.0, search)
    fallen = [
        replace(tried, completed_per_s=165.0, score=12.0)
        if tried.role in ("climb", "bisect", "probe") and not tried.passed
        else tried
        for tried in history
        if tried.role not in ("overrun", "hold")
    ]
    found = capacity(fallen, search)
    assert found.rate_per_s == pytest.approx(165.0, rel=1e-3)
    assert found.low is not None and found.high is not None and found.low < 165.0 and found.high > 200.0
    following = next_move(fallen, search)
    assert following is not None and following.role == "hold"
    assert following.rate_per_s == pytest.approx(HOLD_AT * 165.0, rel=1e-3)


def test_a_limiter_that_turns_a_few_away_has_not_collapsed():
    """3 % turned away while the completions scatter 8 % low is no server that does half of it when overrun."""
    search = Search(parse_objectives("errors < 1%"))
    history = searched(200.0, search)
    scattered = [
        replace(tried, completed_per_s=0.92 * tried.rate_per_s, score=1.1, broken="errors < 1%")
        if tried.role == "probe" and not tried.passed
        else tried
        for tried in history
        if tried.role not in ("overrun", "hold")
    ]
    found = capacity(scattered, search).rate_per_s
    assert any(tried.role == "probe" and not tried.passed and tried.piled for tried in scattered)
    assert found == pytest.approx(200.0, rel=0.06)


@pytest.mark.parametrize(("lowest", "first"), [(10.0, 50.0), (60.0, 120.0), (2_000.0, 4_000.0)])
def test_the_climb_begins_above_the_floor(lowest: float, first: float):
    """A floor measured at 2,000/s is not followed by 200/s; at 10/s the climb begins at what answers of 5 ms allow."""
    search = Search(WITHIN, lowest=lowest)
    floor = told(Move("floor", lowest, 5.0), 10_000.0)
    following = next_move([floor, told(Move("settle", lowest, 5.0), 10_000.0)], search)
    assert following is not None and following.role == "climb"
    assert following.rate_per_s == pytest.approx(max(first, min(0.25 / 0.005, 200.0)))


def test_the_hold_is_just_below_what_was_found():
    """The last load is 0.97 of the estimate that the loads before it give."""
    search = Search(WITHIN)
    history = searched(300.0, search)
    steps = [tried for tried in history if tried.role != "settle"]
    before = capacity([tried for tried in history if tried.role != "hold"], search)
    assert steps[-1].role == "hold"
    assert before.rate_per_s is not None
    assert steps[-1].rate_per_s == pytest.approx(HOLD_AT * before.rate_per_s, rel=1e-6)


def test_where_the_generator_is_the_limit_capacity_is_at_least():
    """Loads that the generator could not send say nothing about the server: "at least" what was sent before, no end."""
    search = Search(WITHIN)
    found = capacity(searched(5000.0, search, generator_at=1000.0), search)
    assert found.at_least
    assert found.stopped == "generator"
    assert found.high is None
    assert found.rate_per_s is not None and 400.0 < found.rate_per_s <= 1000.0


def test_a_step_that_the_generator_spoiled_is_tried_again_at_full_length():
    """Cut short because it looked hopeless, it gets its four seconds all the same."""
    search = Search(WITHIN)
    steps = [told(Move("floor", 10.0, 5.0), 1e5), told(Move("climb", 200.0, 4.0), 1e5)]
    cut = replace(told(Move("climb", 400.0, 4.0), 300.0), duration_s=0.4, generator="late")
    assert next_move([*steps, cut], search) == Move("climb", 400.0, 4.0)


def test_what_failed_above_the_load_that_was_the_generators_limit_is_not_the_servers():
    """8,000/s failed and the generator seemed well, but it was the limit of 5,700/s twice: the server was not seen to
    fail. Once, or with a long step that failed on its own, it was.
    """
    search = Search(WITHIN)
    late = "the generator waited for a core 90 % of the time and had one 8 % of it"
    passed = [told(Move("floor", 2000.0, 5.0), 1e5), told(Move("climb", 4000.0, 4.0), 1e5)]
    failed = told(Move("climb", 8000.0, 4.0), 7000.0)
    limited = replace(told(Move("bisect", 5700.0, 4.0), 1e5), generator=late)
    found = capacity([*passed, failed, limited, limited], search)
    assert (found.stopped, found.at_least, found.rate_per_s, found.generator) == ("generator", True, 4000.0, late)
    assert not capacity([*passed, failed, limited], search).at_least
    probe = told(Move("probe", 7500.0, 25.0), 7000.0)
    assert not capacity([*passed, failed, probe, limited, limited], search).at_least


def test_the_highest_load_asked_for_is_not_exceeded():
    """`--up-to` bounds every load, and a server that holds it has at least that."""
    search = Search(WITHIN, highest=120.0)
    history = searched(5000.0, search)
    found = capacity(history, search)
    assert max(tried.rate_per_s for tried in history) <= 120.0
    assert (found.rate_per_s, found.at_least, found.stopped) == (120.0, True, "highest")


def test_a_server_that_holds_nothing_has_no_capacity():
    """Where the least load breaks the objectives already, there is no rate, and the search ends soon."""
    search = Search(WITHIN)
    history = searched(0.01, search)
    found = capacity(history, search)
    assert found.rate_per_s is None
    assert found.seconds < 120.0


def test_a_smaller_server_gets_a_wider_interval():
    """Under 100/s the interval says how little four minutes tell, and why."""
    widths = []
    for truth in (20.0, 200.0, 2000.0):
        found = capacity(searched(truth, Search(WITHIN)), Search(WITHIN))
        assert found.low is not None and found.high is not None and found.rate_per_s is not None
        widths.append((found.high - found.low) / found.rate_per_s)
    assert widths[0] > widths[1] > widths[2] * 0.999
    assert "more time" in capacity(searched(20.0, Search(WITHIN)), Search(WITHIN)).wide


def test_the_knee_lies_between_two_loads_that_were_tried():
    """Response times that double near capacity have their knee below it; flat ones have none."""
    history = [tried for tried in searched(200.0, Search(WITHIN)) if tried.role != "settle"]
    found = knee(history)
    assert found is not None
    assert found.low is not None and found.low < found.high
    assert 100.0 <= found.high <= 230.0
    assert knee([replace(tried, mean_ns=5.0 * MS, completed_per_s=tried.rate_per_s) for tried in history]) is None


# --- through the scripted engine and the runner ----------------------------------------------------------------------


class Unwatched:
    """An observer that looks away."""

    def started(self, run: object, order: object) -> None:
        """Nothing."""

    def tick(self, live: Live, elapsed_ns: int) -> None:
        """Nothing."""

    def ending(self, reason: str) -> None:
        """Nothing."""


def stressed(
    place: Path, server: Server, slo: str = "p95 < 300ms", generator: Generator | None = None, **search: float
) -> runner.Finished:
    """A search from the order to the pages, on virtual time."""
    pilot = Pilot(Search(parse_objectives(slo), **search))
    plan = open_plan((1,), slo=[slo])
    stages = tuple(runner.search_stage(move.rate_per_s, move.duration_s) for move in pilot.planned)
    order = runner.Order(
        subject=plan, source={"kind": "plan", "location": "plan.yaml"}, name="searched",
        engine=Scripted(server, generator), root=place, workload=Workload("open", stages, "poisson", 5), pilot=pilot,
    )  # fmt: skip
    return runner.carry_out(order, Unwatched(), threading.Event())


def limited_to(per_s: float) -> Server:
    """A token bucket that holds 20, and 429 for whatever finds none."""
    tokens, last = 20.0, 0

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> Answer:
        nonlocal tokens, last
        tokens, last = min(tokens + (sent_ns - last) * per_s / units.NS_PER_S, 20.0), sent_ns
        if tokens < 1.0:
            return Answer(MS, 429, bytes_in=64)
        tokens -= 1.0
        return Answer(4 * MS)

    return serve


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    """The campaign's module; its servers and its way of searching."""
    spec = importlib.util.spec_from_file_location("capacity_campaign", ROOT / "scripts" / "campaigns" / "capacity.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("name", "truth"), [("M/M/4, 200/s, tight", 163.1), ("collapses above 40 in flight", 166.4)])
def test_searches_of_servers_whose_capacity_is_known_end_near_it(campaign: ModuleType, name: str, truth: float):
    """Three of the campaign's searches of each: mean within 8 %, four minutes, and at most one interval beside it."""
    case = next(case for case in campaign.CASES if case.name == name)
    found = [campaign.search(case.make(seed), case.slo, 1000 + seed) for seed in (1, 2, 3)]
    rates = [one.rate_per_s for one, _ in found]
    assert sum(rates) / 3 == pytest.approx(truth, rel=0.08)
    assert sum(one.low <= truth <= one.high for one, _ in found) >= 2
    assert all(took <= 241.0 for _, took in found)


@pytest.mark.timeout(240)
def test_a_stored_search_is_judged_again_to_the_same_bytes(tmp_path: Path):
    """A pool of known size is found; the document made from what was stored says the same each time."""
    truth = 29.07  # M/M/2 with 50 ms: P(T > 300 ms) is 5 % there, by Erlang's C
    finished = stressed(tmp_path, pool(2, 50 * MS, 3), lowest=4.0)
    found = finished.document["capacity"]
    assert found["rate_per_s"] == pytest.approx(truth, rel=0.12)
    assert found["low_per_s"] <= truth <= found["high_per_s"]
    assert found["endpoint"] and found["broken"] == "p95 < 300 ms"
    assert found["recovered"]
    assert document.dump(runner.judged(finished.run)[0]) == document.dump(finished.document)
    assert (finished.run.path / "result.json").read_text("utf-8") == document.dump(finished.document)


@pytest.mark.timeout(240)
def test_every_form_shows_the_capacity_and_its_limit(tmp_path: Path):
    """Sentence, page, terminal and report name the rate, its interval, and a rate limiter by its 429."""
    finished = stressed(tmp_path, limited_to(30), "p95 < 300ms, errors < 1%", lowest=4.0)
    shown = finished.document
    assert shown["limit"]["kind"] == "rate limiter"
    sentence = shown["verdict"]["sentence"]
    assert sentence.startswith("Holds 2") and "95 % CI" in sentence
    assert len(sentence.split()) <= 25
    assert shown["verdict"]["slo"] is None
    for text in (page.render(shown), terminal.render(shown), html.render(shown)):
        assert "rate limiter" in text
        assert "knee" in text


@pytest.mark.timeout(240)
@pytest.mark.timeout(120)
def test_short_searches_of_a_server_whose_capacity_is_known_end_near_it(campaign: ModuleType):
    """Three short searches of M/M/4: within 12 % on average, 75 s, and each interval holds the truth of 189.6/s."""
    case = campaign.CASES[0]
    found = [campaign.search(case.make(seed), case.slo, 1000 + seed, SHORT_BUDGET_S) for seed in (1, 2, 3)]
    assert sum(one.rate_per_s for one, _ in found) / 3 == pytest.approx(189.6, rel=0.12)
    for one, took_s in found:
        assert one.low is not None and one.high is not None
        assert one.low <= 189.6 <= one.high
        assert took_s <= 75.0


def test_a_settling_that_the_end_cut_off_is_no_lack_of_recovery():
    """Only one that had its whole time says that nothing recovered; what others took still counts."""
    history = searched(100.0, Search(WITHIN))
    failed = next(i for i, tried in enumerate(history) if not tried.passed and tried.role not in ("settle", "overrun"))
    upto = history[: failed + 2]
    for duration_s, recovered in ((2.1, True), (25.0, False)):
        cut = replace(upto[-1], duration_s=duration_s, recovered_s=None)
        found = capacity([*upto[:-1], cut], Search(WITHIN))
        assert (found.recovered, found.recovery_s) == (recovered, None)
    again = capacity([*history, history[failed], replace(upto[-1], duration_s=2.1, recovered_s=None)], Search(WITHIN))
    assert (again.recovered, again.recovery_s) == (True, 2.0)


def test_recovery_is_told_by_more_than_a_handful_of_answers():
    """Three answers a second, every other one slow of itself: the median of six is near the floor's at once, though in
    single seconds two of three may be slow; while all are slow nothing has recovered."""

    def fold(slow_until: int) -> Fold:
        made = Fold(WITHIN)
        for second in range(6):
            fast = 0 if second < slow_until else 1 if second % 2 else 3
            held = Histogram()
            for number in range(3):
                held.record(5 * MS if number < fast else 400 * MS)
            made.add_windows([Window(second, 1, "GET /", Outcome.OK, 3, 0, 0, held, held)])
        return made

    def recovered(made: Fold) -> float | None:
        return made.tried(1, "settle", 3.0, 0, 6 * units.NS_PER_S, None, floor_ns=5.0 * MS).recovered_s

    assert recovered(fold(0)) == 0.0
    assert recovered(fold(2)) == 2.0
    assert recovered(fold(6)) is None


def test_a_late_generator_ends_the_search(tmp_path: Path):
    """Once requests leave far too late, no higher load is tried and nothing is said about the server beyond it."""
    lag: Callable[[int], int] = lambda due: 400 * MS if due > 14 * units.NS_PER_S else 0  # noqa: E731
    finished = stressed(tmp_path, constant(5 * MS), generator=Generator(lag_ns=lag), lowest=4.0, budget_s=120.0)
    found = finished.document["capacity"]
    assert found["at_least"]
    assert found["stopped"] == "generator"
    assert "at least" in finished.document["verdict"]["sentence"]
    assert finished.document["limit"]["kind"] == "generator"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("from_s", "at_least"), [(0, False), (12, True)])
def test_a_generator_whose_core_is_held_is_named_as_the_limit(tmp_path: Path, from_s: int, at_least: bool):
    """Late by a small part of what is measured, but never at rest: the generator, also where no load was judged."""
    held: Callable[[int], bool] = lambda at: at > from_s * units.NS_PER_S  # noqa: E731
    generator = Generator(
        lambda due: 20 * MS if held(due) else 0, lambda at: 0.05, waits_ratio=lambda at: 0.94 if held(at) else 0.01
    )
    finished = stressed(tmp_path, constant(200 * MS), generator=generator, lowest=4.0, budget_s=60.0)
    found = finished.document["capacity"]
    assert (found["stopped"], found["at_least"]) == ("generator", at_least)
    assert finished.document["limit"]["kind"] == "generator"
    assert "waited for a core 94 % of the time" in finished.document["limit"]["evidence"]
    sentence = finished.document["verdict"]["sentence"]
    assert "the generator was the limit" in sentence if at_least else "not the server" in sentence
