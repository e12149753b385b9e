"""A plan hosted in stock Locust on the native engine: what is sent, what Locust says of it, how it is steered."""

import re
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from surgeline.engines import Settings
from surgeline.engines.locust import LocustEngine
from surgeline.engines.native import NativeEngine, available
from surgeline.plan.model import Plan
from surgeline.samples import Outcome
from surgeline.store.journal import Segment
from targets.faulty import Faulty
from told import Told, told_by

RUN = "2026-11-23-lane-abc"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(available() is not None, reason="the native engine is not built here"),
]


def hosted(
    plan: dict[str, Any], place: Path, control: Callable[[Any], None] = lambda running: None, **settings: Any
) -> Told:
    """A whole run in Locust; what Locust printed is in `place`."""
    journal = place / "journal"
    journal.mkdir(parents=True)
    given = {"grace_ns": 1_000_000_000, "headers": (("x-surgeline-run", RUN),), **settings}
    with Segment(journal) as sink:
        settings = {"run_id": RUN, "workload": None, "monotonic_ns": time.monotonic_ns(), **given}
        running = LocustEngine(native=True).start(Plan.model_validate(plan), Settings(**settings), sink)
        control(running)
        ending = running.wait(60)
    assert ending is not None, "Locust has not ended after a minute"
    return told_by(journal, ending)


def summary(place: Path) -> dict[str, tuple[int, int]]:
    """Requests and failures by name, as Locust's own summary has them at the end of the run."""
    text = (place / "locust.log").read_text()
    rows = re.findall(r"^(?:(\w+) +| +)(\S+) +(\d+) +(\d+)\(\d+\.\d+%\) \|", text, re.MULTILINE)
    return {f"{method} {name}".strip(): (int(count), int(failed)) for method, name, count, failed in rows}


def errors(place: Path) -> dict[str, int]:
    """Locust's own list of errors; a master puts texts into quotes."""
    text = (place / "locust.log").read_text().partition("Error report")[2]
    return {
        what.strip().replace("'", ""): int(count)
        for count, what in re.findall(r"^(\d+) +(\w+ .+)$", text, re.MULTILINE)
    }


BROKEN = {"steps": [{"get": "/ok"}, {"get": "/status/503"}, {"get": "/reset"}, {"get": "/nothing-here"}]}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("model", ["open", "closed"])
def test_locusts_own_statistics_have_every_request(model: str, workers: int, tmp_path: Path) -> None:
    """Requests, failures and errors by name: Locust's summary, our rows and the target agree to the last one."""
    level = {"rate": "80/s"} if model == "open" else {"users": 3}
    load = {"model": model, "stages": [{**level, "for": "2s"}]}
    plan = {"scenarios": {"s": {**BROKEN, **({"think_time": "20ms"} if model == "closed" else {})}}, "workload": load}
    with Faulty() as target:
        told = hosted({"target": target.url, **plan}, tmp_path, workers=workers)
        seen = len(target.of_run(RUN))
    assert told.ending.reason == "finished"
    assert len(told.rows) == told.due == told.sent == seen > 20
    ended = [row for row in told.rows if row["outcome"] != Outcome.ABORTED]
    wrong = [row for row in ended if row["outcome"] != Outcome.OK]
    counts, failed = Counter(row["endpoint"] for row in ended), Counter(row["endpoint"] for row in wrong)
    assert summary(tmp_path) == {name: (count, failed[name]) for name, count in counts.items()} | {
        "Aggregated": (len(ended), len(wrong))
    }
    assert errors(tmp_path) == Counter(f"{row['endpoint']}: {row['error']}" for row in wrong)
    assert {row["worker"] for row in told.rows} == ({"main"} if workers == 1 else {"worker-0", "worker-1"})


def test_what_only_the_native_engine_does_is_done_in_locust(tmp_path: Path) -> None:
    """Logging in once, trying again, keeping a pace, being timed as a whole: in Locust as without it."""
    scenario = {
        "once": [{"get": "/cookie?value=s3"}],
        "pacing": "200ms",
        "steps": [
            {"get": "/ok", "transaction": "pair"},
            {"get": "/status/503", "transaction": "pair", "retry": {"times": 2, "on": [503], "backoff": "10ms"}},
        ],
    }
    load = {"model": "closed", "stages": [{"users": 2, "for": "2s"}]}
    told, alone = {}, tmp_path / "alone"
    with Faulty() as target:
        plan = {"target": target.url, "scenarios": {"s": scenario}, "workload": load}
        told["hosted"] = hosted(plan, tmp_path / "hosted")
        (alone / "journal").mkdir(parents=True)
        with Segment(alone / "journal") as sink:
            settings = Settings(RUN, time.monotonic_ns(), None, grace_ns=1_000_000_000)
            ending = NativeEngine().start(Plan.model_validate(plan), settings, sink).wait(60)
        assert ending is not None
        told["native"] = told_by(alone / "journal", ending)
    for one in told.values():
        assert len(one.of("GET /cookie")) == 2, "each user logs in once"
        assert len(one.of("GET /status/503")) == pytest.approx(3 * len(one.of("GET /ok")), abs=3)
        assert len(one.of("GET /ok")) == pytest.approx(20, abs=3), "ten passes of each user in two seconds"
        assert {window.endpoint for window in one.transactions.windows()} == {"pair"}


def test_a_pause_sends_nothing_and_the_stages_wait(tmp_path: Path) -> None:
    """Paused for a second, a stage of two seconds ends after three, and every arrival of its schedule was sent."""

    def control(running: Any) -> None:
        assert running.wait(0.8) is None
        running.pause()
        assert running.wait(1.0) is None
        running.resume()

    load = {"model": "open", "arrivals": "uniform", "stages": [{"rate": "50/s", "for": "2s"}]}
    with Faulty() as target:
        plan = {"target": target.url, "scenarios": {"s": {"steps": [{"get": "/ok"}]}}, "workload": load}
        told = hosted(plan, tmp_path, control)
    begin, end = (
        next(e["at_ns"] for e in told.events if e["kind"] == f"stage_{word}") for word in ("started", "ended")
    )
    assert len(told.rows) == 100
    due = sorted(row["intended_ns"] for row in told.rows)
    paused = max(after - before for before, after in pairwise(due))
    assert paused > 8e8
    assert end - begin == pytest.approx(2e9 + paused, abs=1e8)
    assert due[-1] == pytest.approx(end, abs=5e7)


def test_users_come_and_go_with_the_stages(tmp_path: Path) -> None:
    """A closed plan of 2, then 6, then 1 users: at no time are more at work than the stage has."""
    stages = [{"users": 2, "for": "1s"}, {"users": 6, "for": "1s"}, {"users": 1, "for": "1s"}]
    plan = {
        "scenarios": {"s": {"think_time": "10ms", "steps": [{"get": "/slow/20"}]}},
        "workload": {"model": "closed", "stages": stages},
    }
    with Faulty() as target:
        told = hosted({"target": target.url, **plan}, tmp_path, workers=2)
    users = {n: {row["user"] for row in told.rows if row["stage"] == n} for n in range(3)}
    assert users == {0: {0, 1}, 1: set(range(6)), 2: {0}}
    assert "Shape test updating" in (tmp_path / "locust.log").read_text(), "Locust has its users from a shape"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_engine_that_cannot_start_is_one_sentence(workers: int, tmp_path: Path) -> None:
    """What the engine refuses ends the run at once, and the run says why."""
    load = {"model": "open", "stages": [{"rate": "50/s", "for": "30s"}]}
    plan = {"target": "http://127.0.0.1:1", "scenarios": {"s": {"steps": [{"get": "/"}]}}, "workload": load}
    began = time.monotonic()
    told = hosted(plan, tmp_path, workers=workers, addresses=("nowhere.invalid",))
    assert time.monotonic() - began < 25
    assert told.ending.reason == "failed"
    said = "the native engine did not start: target.addresses: 'nowhere.invalid' is not an IP address"
    assert told.ending.detail == said
