"""A generator that cannot keep up is said to be one, and a slow server is not taken for one."""

import pytest

from scripted_runs import MS, S, closed_plan, fast, open_plan, run_json, summary_from, summary_of
from surgeline.engines import scripted


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
    """Requests that are not sent because a thousand wait already say something about the server, not the generator."""
    plan = open_plan((300,), "20s")
    settings = {"workers": 1, "max_in_flight": 100}
    recording = scripted.play(plan, scripted.pool(2, 20 * MS), max_in_flight=100)
    for rows in (True, False):
        summary = summary_from(recording, run_json(plan, settings=settings), rows)
        assert summary.total.tally.not_sent > 100
        assert summary.validity == "valid"


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
