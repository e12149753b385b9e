"""A generator that cannot keep up is said to be one, and a slow server is not taken for one."""

from dataclasses import replace

import numpy as np
import pytest

from scripted_runs import MS, S, closed_plan, fast, open_plan, run_json, summary_from, summary_of
from surgeline.analysis.book import Book, second_of
from surgeline.analysis.details import look
from surgeline.analysis.model import Summary
from surgeline.analysis.stress import Fold
from surgeline.analysis.summary import summarise
from surgeline.analysis.validity import _slowest, starved
from surgeline.engines import scripted
from surgeline.report.trust import trust
from surgeline.samples import Count, Frame, Reading


def _stage(server: scripted.Server, generator: scripted.Generator | None = None, rate: float = 100, **changes: object):
    return summary_of(open_plan((rate,), "20s"), server, generator, **changes).stages[0]


def test_a_healthy_generator_is_valid():
    """Also with a hiccup of a tenth of a second in twenty, and with small lag."""
    assert _stage(fast()).validity == "valid"
    hiccup = scripted.Generator(lag_ns=lambda due: 50 * MS if 5 * S < due < 5 * S + 100 * MS else 100_000)
    assert _stage(fast(), hiccup).validity == "valid"


@pytest.mark.parametrize(
    ("lag_ms", "service_ms", "word"),
    [(1, 3, "valid"), (4, 3, "degraded"), (30, 3, "invalid"), (30, 1000, "valid"), (8, 40, "degraded")],
)
def test_lag_is_held_against_what_was_measured(lag_ms: int, service_ms: int, word: str):
    """30 ms of lag ruin the measurement of 3 ms answers and do nothing to that of a second."""
    late = scripted.Generator(lag_ns=lambda due: lag_ms * MS)
    assert _stage(scripted.constant(service_ms * MS), late).validity == word


@pytest.mark.parametrize(
    ("cpu", "engine", "workers", "word"),
    [
        (0.7, "native", 1, "valid"),
        (0.85, "native", 1, "degraded"),
        (0.97, "native", 1, "invalid"),
        (1.5, "native", 2, "valid"),
        (0.88, "locust", 1, "degraded"),
        (0.93, "locust", 1, "invalid"),
    ],
)
def test_cpu_is_held_against_the_cores_it_can_use(cpu: float, engine: str, workers: int, word: str):
    """A native generator has a core per worker; one Locust process has one, and is slow itself above 90 %."""
    busy = scripted.Generator(cpu_ratio=lambda at: cpu)
    settings = {"workers": workers, "max_in_flight": 10_000}
    stage = _stage(fast(), busy, engine=engine, settings=settings)
    assert stage.validity == word
    assert bool(stage.validity_reasons) == (word != "valid")


def test_a_full_server_is_not_the_generators_fault():
    """What is not sent because many wait already says something about the server: errors, and no invalid stage.

    Where the bound was set lower than it is by itself, less than planned was offered, and the stage says so.
    """
    plan = open_plan((300,), "20s")
    settings = {"workers": 1, "max_in_flight": 100}
    recording = scripted.play(plan, scripted.pool(2, 20 * MS), max_in_flight=100)
    for rows in (True, False):
        summary = summary_from(recording, run_json(plan, settings=settings), rows)
        assert summary.total.tally.not_sent > 100
        assert summary.validity == "degraded"
        assert summary.total.tally.unsent == summary.total.tally.not_sent
        assert "100 in flight were the bound that was set" in summary.stages[0].validity_reasons[0]


def test_a_generator_that_does_not_bring_what_was_planned_is_invalid():
    """Half of the arrivals missing from the schedule is the generator's doing."""
    plan, less = open_plan((200,), "20s"), open_plan((100,), "20s")
    stage = summary_from(scripted.play(less, fast()), run_json(plan)).stages[0]
    assert stage.validity == "invalid"
    assert "planned" in stage.validity_reasons[0]


def test_one_invalid_stage_leaves_the_others():
    """The run is degraded, names the stage, and is invalid only when every stage is."""
    late = scripted.Generator(lag_ns=lambda due: 100 * MS if due > 20 * S else 0)
    summary = summary_of(open_plan((50, 100), "20s"), fast(), late)
    assert [stage.validity for stage in summary.stages] == ["valid", "invalid"]
    assert summary.validity == "degraded"
    always = scripted.Generator(lag_ns=lambda due: 100 * MS)
    assert summary_of(open_plan((50, 100), "20s"), fast(), always).validity == "invalid"


def test_healthy_stages_are_hardly_ever_stamped():
    """Of 60 healthy stages of many kinds, none."""
    stamped = 0
    for seed in range(10):
        for server in (fast(seed), scripted.pool(4, 15 * MS, seed), scripted.freezing(fast(seed), 4 * S, S // 4)):
            stamped += summary_of(open_plan((100,), "15s", seed=seed), server).validity != "valid"
            plan = closed_plan([{"users": 8, "for": "15s"}], paths=("/a", "/b"))
            stamped += summary_of(plan, server).validity != "valid"
    assert stamped == 0


def test_sharing_the_machine_is_no_reason():
    """It is said, and the run stays valid."""
    environment = {"machine": {}, "generator_shares_machine": True}
    summary = summary_of(open_plan((50,), "5s"), fast(), environment=environment)
    assert summary.shares_machine
    assert summary.validity == "valid"


@pytest.mark.parametrize(
    ("kind", "share", "word"),
    [
        ("client_ports", 0.9, "invalid"),
        ("client_fds", 0.9, "invalid"),
        ("client_fds", 0.005, "valid"),
        ("in_flight_limit", 0.9, "valid"),
    ],
)
def test_what_the_generator_could_not_send_for_want_of_ports_or_descriptors_is_its_own(
    kind: str, share: float, word: str
):
    """More than a per cent of it makes the stage say nothing of the server; what a full server held back does not."""
    plan = open_plan((300,), "20s")
    recording = scripted.play(plan, scripted.pool(2, 20 * MS), max_in_flight=100)
    seen = look(table.columns for table in recording.tables(Frame.ROWS))
    measured = recording.measurement()
    own = round(share * sum(count.due for count in measured.counts))
    errors = tuple(
        replace(group, kind=kind, by_stage={0: own}) if group.kind == "in_flight_limit" else group
        for group in seen.errors
    )
    stage = summarise(run_json(plan), measured, replace(seen, errors=errors)).stages[0]
    assert stage.validity == word


@pytest.mark.parametrize(("kind", "share", "word"), [
    ("body_not_kept", 0.02, "degraded"),
    ("body_not_kept", 0.005, "valid"),
    ("short_body", 0.02, "valid"),
])  # fmt: skip
def test_answers_that_nobody_could_check_put_a_stage_in_doubt(kind: str, share: float, word: str):
    """Two in a hundred whose bodies were not kept are errors that no server made; one broken off is the server's."""
    plan = open_plan((300,), "20s")
    recording = scripted.play(plan, scripted.failing_share(fast(), share, error=kind))
    seen = look(table.columns for table in recording.tables(Frame.ROWS))
    stage = summarise(run_json(plan), recording.measurement(), seen).stages[0]
    assert stage.total.tally.error > 0
    assert stage.validity == word
    assert ("kept" in " ".join(stage.validity_reasons)) == (word == "degraded")


@pytest.mark.parametrize(
    ("descriptors", "cap", "word"),
    [(300, 100, "invalid"), (1_000_000, 100, "degraded"), (1_000_000, 10_000, "valid")],
)
def test_a_cap_that_the_limit_of_open_files_sets_is_the_generators(descriptors: int, cap: int, word: str):
    """Where 300 descriptors allow 100 in flight, what is not sent is not the server's doing."""
    plan = open_plan((300,), "20s")
    recording = scripted.play(plan, scripted.pool(2, 20 * MS), max_in_flight=100)
    run = run_json(
        plan,
        settings={"workers": 1, "max_in_flight": cap},
        environment={"machine": {"descriptors": descriptors}, "generator_shares_machine": False},
    )
    assert summary_from(recording, run).stages[0].validity == word


@pytest.mark.parametrize(("counted", "word"), [(1.0, "valid"), (1.05, "valid"), (2.0, "degraded"), (0.3, "degraded")])
def test_requests_in_flight_as_counted_and_as_added_up_must_agree(counted: float, word: str):
    """Little's law: twice as many in flight as the samples add up to is an error of measurement somewhere."""
    plan = open_plan((400,), "30s")
    recording = scripted.play(plan, scripted.constant(100 * MS))
    measured = recording.measurement()
    health = tuple(
        replace(reading, value=reading.value * counted) if reading.metric == "in_flight" else reading
        for reading in measured.health
    )
    stage = summarise(run_json(plan), replace(measured, health=health), None).stages[0]
    assert stage.validity == word
    assert ("Little" in " ".join(stage.validity_reasons)) == (word == "degraded")


def test_what_a_heavier_stage_leaves_behind_breaks_no_law():
    """A spike of thirty times the load ends with 225 in flight, which are gone 0.15 s later: all three stages valid."""
    plan = open_plan((50, 1500, 50), "16s")
    stages = summary_from(scripted.play(plan, scripted.constant(150 * MS)), run_json(plan)).stages
    assert [stage.validity for stage in stages] == ["valid"] * 3
    assert stages[2].in_flight == pytest.approx(50 * 0.15 + 225 * 0.075 / 16, abs=1.5)


@pytest.mark.parametrize(
    ("silent", "word"),
    [(range(0), "valid"), (range(7, 9), "valid"), (range(6, 15), "degraded"), (range(-1, 30), "invalid")],
)
def test_a_worker_that_tells_nothing_is_missed(silent: range, word: str):
    """Two seconds are a hiccup; nine of twenty are a worker that stood still, all of them one that has ended."""
    plan = open_plan((100, 100), "20s")
    measured = scripted.play(plan, fast()).measurement()
    second = [
        Reading(at * S, "generator", "scripted-2", "in_flight", 1.0) for at in range(1, 41) if at - 21 not in silent
    ]
    summary = summarise(run_json(plan), replace(measured, health=(*measured.health, *second)), None)
    assert [stage.validity for stage in summary.stages] == ["valid", word]
    assert ("scripted-2" in " ".join(summary.stages[1].validity_reasons)) == (word != "valid")


@pytest.mark.parametrize(
    ("moved_ms", "word"), [(0, "valid"), (300, "valid"), (-5_000, "degraded"), (3_600_000, "degraded")]
)
def test_a_clock_that_was_set_is_said(moved_ms: int, word: str):
    """Wall clock and monotonic clock agree over a run; where they do not, one was set, or the machine slept."""
    plan = open_plan((50,), "20s")
    begin = {"wall_ns": 1_795_000_000 * S, "monotonic_ns": 77 * S}
    end = {"wall_ns": begin["wall_ns"] + 21 * S + moved_ms * MS, "monotonic_ns": begin["monotonic_ns"] + 21 * S}
    summary = summary_of(plan, fast(), clock=begin, clock_end=end)
    assert summary.validity == word
    assert ("clock" in " ".join(summary.validity_reasons)) == (word != "valid")


def _script(cpu: float = 0.5, fresh_every: int = 0, phases: bool = True, os: str = "Linux-6.1") -> Summary:
    """A locustfile's run whose loop is 40 ms late where answers take 3 ms; of rows with phases one in so many opened a
    connection."""
    recording = scripted.play(open_plan((100,), "20s"), fast(), scripted.Generator(cpu_ratio=lambda at: cpu))
    begin = recording.measurement().health[0]
    lag = tuple(replace(begin, at_ns=second * S, metric="lag_p99_ns", value=40.0 * MS) for second in range(20))
    rows, seen = [], 0
    for table in recording.tables(Frame.ROWS):
        columns = dict(table.columns)
        columns["wait_ns"] = columns["wait_ns"] if phases else columns["wait_ns"] * 0 - 1
        if fresh_every:
            columns["connect_ns"] = np.where((seen + np.arange(table.rows)) % fresh_every == 0, MS, -1)
        seen += table.rows
        rows.append(columns)
    run = {"engine": "locust", "due_known": False, "stages": [], "environment": {"machine": {"os": os}}}
    measured = recording.measurement()
    health = tuple(r for r in measured.health if not r.metric.startswith("lag_"))
    measured = replace(measured, health=(*health, *lag))
    return summarise(run_json(open_plan((100,), "20s"), **run), measured, look(rows))


def test_times_that_do_not_contain_the_loops_delay_are_not_doubted_for_it():
    """
    The native client on connections that are kept: valid, and the delay is said apart. A full CPU degrades: times hold,
    throughput is the generator's. Stock clients, and systems without receive time stamps: invalid.
    """
    apart = _script()
    assert apart.stages[0].validity == "valid"
    assert any("ran 40 ms late" in t.sentence and "do not contain it" in t.sentence for t in trust(apart))
    full = _script(cpu=0.97)
    assert full.stages[0].validity == "degraded"
    assert any("response times hold" in t.sentence for t in trust(full) if t.level == "warning")
    for exposed in (_script(phases=False), _script(os="macOS-15")):
        assert exposed.stages[0].validity == "invalid"
        assert "event loop ran 40 ms late" in exposed.stages[0].validity_reasons[0]
        assert _script(cpu=0.97, phases=False).stages[0].validity == "invalid"


@pytest.mark.parametrize(("every", "word"), [(200, "valid"), (10, "degraded"), (1, "invalid")])
def test_new_connections_wait_for_the_loop(every: int, word: str):
    """One in two hundred does not reach p99, one in ten does, and where all are new no percentile holds."""
    stage = _script(fresh_every=every).stages[0]
    assert stage.validity == word
    assert ("of the times contain that" in " ".join(stage.validity_reasons)) == (word == "degraded")


@pytest.mark.parametrize(
    ("ran", "waited", "lag_ms", "word"),
    [
        (0.05, 0.93, 30, "invalid"),  # a hog, or a quota, holds its core
        (0.50, 0.47, 30, "invalid"),  # an equal shares it
        (0.05, 0.93, 4, "valid"),  # each wait is short, and it keeps up
        (0.05, 0.40, 30, "valid"),  # it has time to rest: late now and then, not behind
    ],
)
def test_a_sender_that_never_rests_and_is_late_has_fallen_behind(ran: float, waited: float, lag_ms: int, word: str):
    """However small a part of the response time the start lag is: what was sent also queued before it was read."""
    held_back = scripted.Generator(lambda due: lag_ms * MS, lambda at: ran, waits_ratio=lambda at: waited)
    stage = _stage(scripted.constant(1_000 * MS), held_back)
    assert stage.validity == word
    assert ("waited for a core" in " ".join(stage.validity_reasons)) == (word == "invalid")


@pytest.mark.parametrize(
    ("slow", "waited", "lag_ms", "word"),
    [
        ({15, 16, 17}, 0.93, 40, "invalid"),  # it fell behind in three seconds, and those were the slow ones
        ({3, 4, 5}, 0.93, 40, "valid"),  # the server was slow while the generator rested
        ({15, 16, 17}, 0.93, 4, "valid"),  # it waited, and kept up all the same
        ({15, 16, 17}, 0.70, 40, "valid"),  # it had time to rest
    ],
)
def test_a_sender_that_had_no_rest_when_it_mattered_was_the_limit(
    slow: set[int], waited: float, lag_ms: int, word: str
):
    """Seventeen seconds of rest do not excuse three without, if the slowest requests were due in those."""
    busy = range(15, 18)
    held_back = scripted.Generator(
        lambda due: lag_ms * MS if due // S in busy else 0, lambda at: 0.05,
        waits_ratio=lambda at: waited if second_of(at) in busy else 0.02,
    )  # fmt: skip
    server = lambda endpoint, sent_ns, in_flight: scripted.Answer(900 * MS if sent_ns // S in slow else 50 * MS)  # noqa: E731
    stage = _stage(server, held_back)
    assert stage.validity == word
    assert ("slowest requests" in " ".join(stage.validity_reasons)) == (word == "invalid")


def test_a_search_and_its_stored_run_find_the_same_slowest_requests():
    """By windows as they come, and by the book afterwards; what has no answer yet is slow."""
    plan = open_plan((190,), "20s")
    measured = scripted.play(plan, scripted.failing_share(scripted.pool(4, 20 * MS), 0.01)).measurement()
    fold = Fold(())
    fold.add_windows(measured.windows)
    fold.add_counts(measured.counts)
    stage = summarise(run_json(plan), measured, None).stages[0]
    slowest = fold.slowest(stage.index)
    assert slowest == _slowest(stage, Book.of(run_json(plan), measured))
    assert 0.05 < sum(slowest.values()) / stage.total.tally.due < 0.07
    fold.add_counts([Count(19, stage.index, "GET /x", 7, 7, 0)])
    assert fold.slowest(stage.index).get(19, 0) == slowest.get(19, 0) + 7


def test_a_sender_too_starved_to_tell_of_its_lag_has_fallen_behind():
    """Where no start lag was told of, never resting is enough; where nothing was read there is nothing to say."""
    assert "93 %" in starved({0: {"process": 0.02}}, {0: {"process": 0.93}}, {}, 0, S)
    assert starved({}, {}, {}, 0, S) == ""


@pytest.mark.parametrize(("end_ms", "said"), [(5_000, True), (2_400, True), (1_900, True), (1_500, False)])
def test_the_seconds_at_the_edges_of_a_stage_are_its_neighbours_too(end_ms: int, said: bool):
    """From 1.2 s on: whole seconds where there are any, else the one that rested least; light ones beside it do not
    hide it."""
    light, full = {"process": 0.3}, {"process": 0.96}
    wait = {second: full if second in (2, 3, 4) else light for second in range(8)}
    late = {second: {"0": 40.0 * MS} for second in wait}
    if end_ms < 2_000:
        wait[1] = full if said else light
    assert bool(starved({}, wait, late, 1_200 * MS, end_ms * MS)) == said


@pytest.mark.parametrize(("at_ns", "second"), [(S, 0), (S + 65_000, 0), (2 * S + 4 * MS, 1), (S + 280 * MS, 0)])
def test_a_reading_taken_a_little_late_tells_of_the_second_before(at_ns: int, second: int):
    """A flush is never quite on time; what it tells of is what lies before it."""
    assert second_of(at_ns) == second


@pytest.mark.parametrize(("stall_ms", "share"), [(0, 0.0), (15, 0.0), (40, 0.25)])
def test_the_share_of_seconds_with_a_stall_of_the_generator_is_counted(stall_ms: int, share: float):
    """A stall of 40 ms in every fourth second is one; one of 15 ms sends no bunch worth the name."""
    stalling = scripted.Generator(lag_ns=lambda due: max(stall_ms * MS - due % (4 * S), 0))
    assert _stage(fast(), stalling).bunched == pytest.approx(share, abs=0.01)


def test_a_script_that_forked_is_marked():
    """What copies of its process sent is in no figure: the run is degraded and says how much, in one sentence."""
    plan = open_plan((50,), "4s")
    played = scripted.play(plan, fast()).measurement()
    sentences = {}
    for made, asked in ((1, 0), (1, 1), (3, 40)):
        event = {"kind": "forked", "at_ns": S, "processes": made, "requests": asked, "worker": "main"}
        summary = summarise(run_json(plan), replace(played, events=(*played.events, event)))
        assert summary.validity == "degraded"
        warnings = [line.sentence for line in trust(summary) if line.level == "warning"]
        (sentences[made, asked],) = (line for line in warnings if "forked" in line)
        assert not any("measurement is degraded" in line for line in warnings)
    assert sentences == {
        (1, 0): "The script forked a process while the test ran, and what was sent by it is in no figure.",
        (1, 1): "The script forked a process while the test ran, and 1 request of it is in no figure.",
        (3, 40): "The script forked 3 processes while the test ran, and 40 requests of them are in no figure.",
    }
