"""Locustfiles as Locust's documentation teaches to write them: each topic runs unchanged, on stock clients and on ours.

For every one of them the books balance: a row for each request that the server saw, and Locust's own count of them.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from xmlrpc.server import SimpleXMLRPCServer

import pytest

from surgeline.engines import Script, Settings
from surgeline.engines.locust import LocustEngine
from surgeline.engines.native import available
from surgeline.samples import Outcome
from surgeline.store.journal import Segment
from targets.faulty import Faulty
from told import Told, told_by

FILES = Path(__file__).parent / "locustfiles"
RUN = "2026-11-23-example-abc"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

needs_native = pytest.mark.skipif(available() is not None, reason="the native engine is not built here")


class Ran:
    """A locustfile that was run: what it left, what the server saw, what Locust printed."""

    def __init__(self, told: Told, target: Faulty, place: Path) -> None:
        self.told = told
        self.seen = target.of_run(RUN)
        self.log = (place / "locust.log").read_text()
        self.names = Counter(row["endpoint"] for row in told.rows)
        self.ended = [row for row in told.rows if row["outcome"] != Outcome.ABORTED]
        self.wrong = {row["endpoint"]: row["error"] for row in told.rows if row["outcome"] == Outcome.FAILURE}

    def users(self, scenario: str) -> set[tuple[str, int]]:
        """The users of a class that sent something."""
        return {(row["worker"], row["user"]) for row in self.told.rows if row["scenario"] == scenario}


@pytest.fixture(params=["stock", pytest.param("native", marks=needs_native)])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As `--client` of `surgeline run` sets it."""
    monkeypatch.setenv("SURGELINE_LOCUST_CLIENT", request.param)
    return str(request.param)


def ran(name: str, place: Path, *arguments: str, users: int = 3, time_s: int = 2) -> Ran:
    """The locustfile of a topic, run to its end; its books balance."""
    path = FILES / f"{name}.py"
    (place / "journal").mkdir()
    options = ("-u", str(users), "-r", "100", "-t", f"{time_s}s")
    with Faulty() as target:
        running = LocustEngine().start(
            Script(path, hashlib.sha256(path.read_bytes()).hexdigest(), (*options, "-H", target.url, *arguments)),
            Settings(
                run_id=RUN,
                monotonic_ns=time.monotonic_ns(),
                workload=None,
                headers=(("x-surgeline-run", RUN),),
                grace_ns=2_000_000_000,
            ),
            Segment(place / "journal"),
        )
        ending = running.wait(60)
        assert ending is not None, "Locust has not ended after a minute"
        done = Ran(told_by(place / "journal", ending), target, place)
    assert ending.reason == "finished", ending.detail
    told = done.told
    assert len(told.rows) == told.due == told.sent > 0
    over_http = [row for row in told.rows if row["method"] != "xmlrpc"]
    aborted = sum(row["outcome"] == Outcome.ABORTED for row in over_http)  # perhaps before a byte of them was sent
    assert len(over_http) - aborted <= len(done.seen) - told.hops <= len(over_http)
    assert aborted <= 10, "a user has one request at a time"
    assert not any(event["kind"] == "exception" for event in told.events), told.events
    return done


def test_one_class_with_a_login_and_weighted_tasks(client: str, tmp_path: Path) -> None:
    """The first page of the documentation."""
    done = ran("basic", tmp_path)
    assert done.names["POST /login"] == 3
    assert done.names["GET /ok"] > done.names["GET /search"] / 2 > 0
    assert {seen.path for seen in done.seen if seen.path.startswith("/echo?")} == {"/echo?q=lamp", "/echo?q=chair"}


def test_several_classes_by_weight_and_in_fixed_number(client: str, tmp_path: Path) -> None:
    """Of seven users one is the admin, and the others are three to one."""
    done = ran("several", tmp_path, users=9)
    assert [len(done.users(name)) for name in ("Admin", "Web", "Mobile", "Base")] == [1, 6, 2, 0]
    assert set(done.names) == {"GET /panel", "GET /home of Web", "GET /home of Mobile"}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--tags", "read", "--exclude-tags", "slow"), {"GET /quick", "GET /deep"}),
        (("--exclude-tags", "read"), {"GET /untagged"}),
    ],
)
def test_tags_pick_tasks(client: str, arguments: tuple[str, ...], names: set[str], tmp_path: Path) -> None:
    """Also of nested task sets."""
    assert set(ran("tags", tmp_path, *arguments).names) == names


def test_what_happens_once_happens_once(client: str, tmp_path: Path) -> None:
    """Users log in and, when the test stops, log out; the test's own beginning and end are told."""
    done = ran("beginnings", tmp_path, users=2)
    assert done.names["GET /login"] == done.names["DELETE /logout"] == 2
    assert done.names["GET /enter"] >= done.names["GET /read"] > 2
    assert "told: the test starts at http://127.0.0.1" in done.log
    assert f"told: the test stops after {len(done.ended)} requests" in done.log


def test_nested_and_sequential_task_sets(client: str, tmp_path: Path) -> None:
    """A sequence is in its order for each user, whatever is nested in it."""
    done = ran("nested", tmp_path)
    assert {name.partition(" ")[2] for name in done.names} >= {"1 address", "2 payment", "3 confirm", "4 thanks"}
    flows = defaultdict(list)
    for row in sorted(done.told.rows, key=lambda row: row["start_ns"]):
        step = row["endpoint"].partition(" ")[2]
        if step[0].isdigit():
            flows[row["user"]].append(int(step[0]))
    assert all(after == before % 4 + 1 for flow in flows.values() for before, after in pairwise(flow))


def test_pauses_of_every_kind(client: str, tmp_path: Path) -> None:
    """Between the beginnings of two tasks lies at least what the pause says, and for paced ones the pace itself."""
    done = ran("waits", tmp_path, users=5)
    gaps: dict[str, list[float]] = {}
    for name in ("constant", "between", "paced", "throughput", "growing"):
        starts = sorted(row["start_ns"] for row in done.told.rows if row["endpoint"] == f"GET {name}")
        gaps[name] = [(after - before) / 1e9 for before, after in pairwise(starts)]
    assert min(gaps["constant"]) >= 0.099
    assert min(gaps["between"]) >= 0.049
    assert fmean(gaps["paced"]) >= 0.18
    assert fmean(gaps["throughput"]) >= 0.09
    grown = [gap / 0.02 / 2**number for number, gap in enumerate(gaps["growing"])]
    assert min(grown) > 0.9, "each pause is twice the one before"


def test_answers_that_the_locustfile_judges(client: str, tmp_path: Path) -> None:
    """Both classes, with success and failure told by hand, and a task that is given up in the block."""
    done = ran("judging", tmp_path, users=2)
    assert done.wrong == {
        "GET json": "the method is not POST",
        "GET too slow": "took too long",
        "GET by status": "status 500",
        "GET rescheduled": "again",
    }
    assert {row["outcome"] for row in done.ended if row["endpoint"] == "GET forgiven"} == {Outcome.OK}
    assert {row["scenario"] for row in done.told.of("GET rescheduled")} == {"Slow", "Fast"}


def test_many_urls_under_one_name(client: str, tmp_path: Path) -> None:
    """By `name`, by `request_name`, by `rename_request`."""
    done = ran("grouping", tmp_path, users=2)
    assert set(done.names) == {"GET /echo/[id]", "GET /set", "GET /renamed", "GET /ok"}
    assert len({row["url"] for row in done.told.of("GET /echo/[id]")}) > 3


def test_a_protocol_of_ones_own(client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that the locustfile sends and tells of by itself: times, failures, no phases."""
    calls: Counter[str] = Counter()

    def add(first: int, second: int) -> int:
        calls["add"] += 1
        return first + second

    def broken() -> None:
        calls["broken"] += 1
        raise ValueError("it is broken")

    with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True) as server:
        server.register_function(add)
        server.register_function(broken)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("XMLRPC_URL", f"http://127.0.0.1:{server.server_address[1]}")
        done = ran("own_client", tmp_path, users=4)
        server.shutdown()
    assert done.names["xmlrpc add"] == calls["add"] > 0
    assert done.names["xmlrpc broken"] == calls["broken"] > 0
    assert all("it is broken" in row["error"] for row in done.told.of("xmlrpc broken"))
    assert done.names["GET /ok"] > 0


def test_listeners_hear_what_the_rows_say(client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hook of a whole test, the context of requests and of users."""
    monkeypatch.setenv("HEARD", str(tmp_path / "heard.json"))
    done = ran("hooks", tmp_path, users=2)
    heard = json.loads((tmp_path / "heard.json").read_text())
    assert heard["order"] == ["init", "test_start", "spawned 2", "test_stop"]
    assert heard["requests"] == len(done.ended)
    assert heard["failures"] == sum(row["outcome"] != Outcome.OK for row in done.ended)
    contexts = [{"who": "known"}, {"who": "known", "why": "a try"}, {"who": "fast"}]
    assert sorted(map(json.dumps, heard["contexts"])) == sorted(map(json.dumps, contexts))


def test_arguments_of_the_locustfiles_own(client: str, tmp_path: Path) -> None:
    """They reach the users, and the server; nothing of ours stands in their way."""
    done = ran("arguments", tmp_path, "--greeting", "ahoy", "--token", "s3cr3t", "--twice", users=1)
    assert {seen.headers["x-greeting"] for seen in done.seen} == {"ahoy"}
    assert {seen.headers["authorization"] for seen in done.seen} == {"Bearer s3cr3t"}
    assert set(done.names) == {"GET /greet 0", "GET /greet 1"}
    assert "told: the greeting is ahoy" in done.log


@pytest.mark.parametrize("shape", ["stages", "waves", "steps"])
def test_loads_that_a_class_decides(shape: str, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users come and go as `tick` says, class by class; where it says None the run has ended."""
    if client == "native" and shape != "stages":
        pytest.skip("a shape does not know the client")
    monkeypatch.setenv("SHAPE", shape)
    done = ran("shapes", tmp_path)
    users: dict[int, set[int]] = defaultdict(set)
    for row in done.told.rows:
        users[row["start_ns"] // 500_000_000].add(row["user"])
    most = max(map(len, users.values()))
    assert "Shape test starting" in done.log
    if shape == "stages":
        assert len(done.users("Visitor")) == 2 and len(done.users("Guest")) == 3
    else:
        assert most >= (5 if shape == "waves" else 6)
        assert min(map(len, users.values())) < most


def test_an_exit_code_of_the_locustfiles_own(client: str, tmp_path: Path) -> None:
    """Half of the requests fail, which its rules do not like."""
    assert ran("exit_code", tmp_path).told.ending.exit_code == 41


def test_each_user_has_its_own_test_data(client: str, tmp_path: Path) -> None:
    """Three rows for three users of two classes, with what CSV and UTF-8 can hold."""
    done = ran("rows_of_a_file", tmp_path)
    forms = {seen.body for seen in done.seen if seen.method == "POST"}
    assert forms == {
        b"name=ada&password=correct+horse",
        b"name=bob&password=comma%2C+and+%22quotes%22",
        b"name=eve&password=%C3%BCbung",
    }
    assert {seen.headers["x-name"] for seen in done.seen if seen.method == "GET"} == {"ada", "bob", "eve"}


def test_a_json_api_with_rest(client: str, tmp_path: Path) -> None:
    """Assertions in the block are failures with their text, and what is no JSON says so."""
    done = ran("rest", tmp_path, users=1)
    assert {row["outcome"] for row in done.ended if row["endpoint"] in ("POST /right", "GET /own")} == {Outcome.OK}
    assert "the method is another" in done.wrong["GET /wrong"]
    assert done.wrong["GET /explained"] == "it does not say bye"
    assert "Could not parse response as JSON" in done.wrong["GET /no json"]


def test_master_and_workers_tell_each_other_things(client: str, tmp_path: Path) -> None:
    """Names are dealt out to the workers' users, each once; the master is thanked."""
    done = ran("messages", tmp_path, "--processes", "2", "--expect-workers", "2", users=8)
    assert {seen.headers["x-name"] for seen in done.seen} == {f"user-{number}" for number in range(8)}
    assert done.log.count("told: thanks for 4 names") == 2
    assert {row["worker"] for row in done.told.rows} == {"worker-0", "worker-1"}


def test_requests_of_one_user_at_the_same_time(client: str, tmp_path: Path) -> None:
    """Greenlets that a task spawns send as the user that spawned them, and do not wait for each other."""
    done = ran("together", tmp_path, users=2)
    assert done.names == {"GET page": 2, "GET part": 20}
    for scenario in ("Plain", "Fast"):
        assert len(done.users(scenario)) == 1
        parts = [row for row in done.told.of("GET part") if row["scenario"] == scenario]
        assert max(row["end_ns"] for row in parts) - min(row["start_ns"] for row in parts) < 10 * 150e6


@pytest.mark.parametrize("kind", ["stock", pytest.param("native", marks=needs_native)])
def test_the_command_line_runs_one_and_makes_its_page(kind: str, tmp_path: Path) -> None:
    """`surgeline run FILE --client KIND`, as a user types it."""
    with Faulty() as target:
        command = [sys.executable, "-m", "surgeline", "run", str(FILES / "nested.py"), "--client", kind, "--json"]
        command += ["--target", target.url, "-u", "3", "--spawn-rate", "100", "-t", "2s", "--ui", "none"]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        here = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, check=False, timeout=90)
        target.settle()
        seen = len(target.seen)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)["totals"]["tally"]
    assert counts["due"] == counts["sent"] > 0
    assert counts["sent"] - counts["aborted"] <= seen <= counts["sent"]
