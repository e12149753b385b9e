"""Any locustfile, unchanged: every request a row, and Locust's own output as it is without us."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed import free_port
from surgeline.engines import Script, Settings, Unsupported
from surgeline.engines.locust import LocustEngine, LocustRunning
from surgeline.samples import Outcome, fold_rows
from surgeline.store.journal import Segment
from surgeline.store.rundir import Run
from surgeline.workload import default_steps
from targets.faulty import Faulty
from told import Told, told_by

RUN = "2026-11-23-script-abc"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def written(place: Path, source: str) -> Path:
    """A locustfile with that source."""
    path = place / "locustfile.py"
    path.write_text(textwrap.dedent(source))
    return path


def started(path: Path, place: Path, *arguments: str, grace_s: float = 2.0) -> LocustRunning:
    """The script at work, its journal in `place`."""
    (place / "journal").mkdir()
    return LocustEngine().start(
        Script(path, hashlib.sha256(path.read_bytes()).hexdigest(), arguments),
        Settings(
            run_id=RUN,
            monotonic_ns=time.monotonic_ns(),
            workload=None,
            user_agent="surgeline/test",
            headers=(("x-surgeline-run", RUN),),
            grace_ns=round(grace_s * 1e9),
        ),
        Segment(place / "journal"),
    )


def ran(source: str, place: Path, *arguments: str, grace_s: float = 2.0) -> Told:
    """What a script left behind when it had ended by itself."""
    ending = started(written(place, source), place, *arguments, grace_s=grace_s).wait(60)
    assert ending is not None, "Locust has not ended after a minute"
    return told_by(place / "journal", ending)


@pytest.fixture
def target() -> Iterator[Faulty]:
    """A server that breaks by path."""
    with Faulty() as faulty:
        yield faulty


ALL_KINDS = """
    from locust import FastHttpUser, HttpUser, User, constant, events, task
    from locust.exception import RescheduleTask, StopUser


    class Slow(HttpUser):
        fixed_count = 1

        @task
        def flow(self):
            self.client.get("/ok")
            self.client.post("/echo", json={"a": 1}, name="/echo [json]")
            self.client.get("/ok", params={"q": "a b"})
            self.client.get("/status/404")
            self.client.get("/redirect/2", name="chain")
            with self.client.get("/status/500", catch_response=True) as answer:
                answer.success()
            with self.client.get("/ok", catch_response=True, name="told wrong") as answer:
                answer.failure("this is not what was asked for")
            with self.client.get("/ok", catch_response=True, name="kept open") as answer:
                import gevent
                gevent.sleep(0.8)
            with self.rest("GET", "/echo", name="rest") as answer:
                assert answer.js["method"] == "POST", "wrong method"
            raise StopUser()


    class Fast(FastHttpUser):
        fixed_count = 1
        default_headers = {"User-Agent": "my own", "X-Mine": "1"}

        @task
        def flow(self):
            self.client.get("/ok")
            self.client.get("/status/503")
            self.client.get("/redirect/0", name="chain")
            with self.client.get("/ok", catch_response=True, name="told wrong") as answer:
                answer.failure("this is not what was asked for")
            raise StopUser()


    class Own(User):
        fixed_count = 1

        @task
        def flow(self):
            fire = self.environment.events.request.fire
            fire(request_type="grpc", name="Say", response_time=12.5, response_length=3, exception=None, context={})
            fire(request_type="grpc", name="grpc Say", response_time=None, response_length=0, exception=None)
            fire(request_type="", name="bare", response_time=1, response_length=0, exception=ValueError("a\\nb" * 200))
            fire(request_type="x", name="odd", response_time="?", response_length=None, exception=OSError(24, "no"))
            raise StopUser()
"""


def test_every_request_of_every_kind_of_client_is_a_row(target: Faulty, tmp_path: Path) -> None:
    """HttpUser, FastHttpUser, a client of the user's own: names, statuses, outcomes and texts as Locust tells them."""
    told = ran(ALL_KINDS, tmp_path, "-u", "3", "-r", "10", "-t", "3s", "-H", target.url)
    found = {(r["scenario"], r["endpoint"], Outcome(r["outcome"]), r["error"][:30], r["status"]) for r in told.rows}
    ok, failure, error = Outcome.OK, Outcome.FAILURE, Outcome.ERROR
    assert found == {
        ("Slow", "GET /ok", ok, "", 200),
        ("Slow", "POST /echo [json]", ok, "", 200),
        ("Slow", "GET /ok?q=a+b", ok, "", 200),
        ("Slow", "GET /status/404", failure, "status 404", 404),
        ("Slow", "GET chain", ok, "", 200),
        ("Slow", "GET /status/500", ok, "", 500),
        ("Slow", "GET told wrong", failure, "this is not what was asked for", 200),
        ("Slow", "GET kept open", ok, "", 200),
        ("Slow", "GET rest", failure, "wrong method", 200),
        ("Fast", "GET /ok", ok, "", 200),
        ("Fast", "GET /status/503", failure, "status 503", 503),
        ("Fast", "GET chain", ok, "", 200),
        ("Fast", "GET told wrong", failure, "this is not what was asked for", 200),
        ("Own", "grpc Say", ok, "", 0),
        ("Own", "bare", error, "a ba ba ba ba ba ba ba ba ba b", 0),
        ("Own", "x odd", Outcome.NOT_SENT, "client_fds", 0),
    }
    assert max(len(row["error"]) for row in told.rows) == 200
    say = told.of("grpc Say")
    assert [(row["end_ns"] - row["start_ns"], row["bytes_in"]) for row in say if row["end_ns"] >= 0] == [
        (12_500_000, 3)
    ]
    assert [row["end_ns"] for row in say if row["bytes_in"] == 0] == [-1], "no time was measured"
    assert all(row["intended_ns"] == row["start_ns"] for row in told.rows if row["start_ns"] >= 0)


def test_the_books_of_a_script_balance_with_the_targets_log(target: Faulty, tmp_path: Path) -> None:
    """Rows are due and sent; the target has each sent request of an HTTP client, and each hop, under the run's id."""
    told = ran(ALL_KINDS, tmp_path, "-u", "3", "-r", "10", "-t", "3s", "-H", target.url)
    assert len(told.rows) == told.due == told.sent + told.outcomes[Outcome.NOT_SENT]
    over_http = [row for row in told.rows if row["scenario"] != "Own"]
    assert len(target.of_run(RUN)) == len(over_http) + told.hops
    assert told.hops == 3 + 1
    agents = Counter(seen.headers["user-agent"] for seen in target.of_run(RUN))
    assert set(agents) == {"surgeline/test", "my own"}, "what the author set stays"


def test_a_long_with_block_does_not_lengthen_the_request(target: Faulty, tmp_path: Path) -> None:
    """Locust tells of a request when its `with` block is left; its row has the answer's time and moment."""
    told = ran(ALL_KINDS, tmp_path, "-u", "3", "-r", "10", "-t", "3s", "-H", target.url)
    (kept,) = told.of("GET kept open")
    (after,) = told.of("GET rest")
    assert kept["end_ns"] - kept["start_ns"] < 400e6
    assert after["start_ns"] - kept["end_ns"] > 500e6


def test_windows_of_a_script_are_its_folded_rows(target: Faulty, tmp_path: Path) -> None:
    """Also for requests without a time, which count and have no place in a histogram."""
    told = ran(ALL_KINDS, tmp_path, "-u", "3", "-r", "10", "-t", "3s", "-H", target.url)
    folded = fold_rows({name: [row[name] for row in told.rows] for name in told.rows[0]})
    held = {(w.second, w.endpoint, int(w.outcome)): w for w in told.windows.windows()}
    assert sum(window.count for window in held.values()) == len(told.rows)
    assert len(held) == len(folded["second"])
    for index, key in enumerate(zip(*(folded[n] for n in ("second", "endpoint", "outcome")), strict=True)):
        assert held[key].response.sparse() == (folded["response_index"][index], folded["response_count"][index])


FAULTS = """
    from locust import FastHttpUser, HttpUser, task
    from locust.exception import StopUser

    PATHS = (
        *("/reset-mid-body", "/short", "/bad-chunk", "/garbage", "/close", "/slow/1500", "/slow-body/1500", "/loop"),
        "http://127.0.0.1:1/refused",
    )


    def flow(user, **kw):
        for path in PATHS:
            user.client.get(path, name=path.split(":1")[-1], **kw)
        raise StopUser()


    class Slow(HttpUser):
        fixed_count = 1

        @task
        def go(self):
            flow(self, timeout=0.6)


    class Fast(FastHttpUser):
        fixed_count = 1
        network_timeout = 0.6

        @task
        def go(self):
            flow(self)
"""


def test_transport_faults_of_both_stock_clients_have_their_words(target: Faulty, tmp_path: Path) -> None:
    """requests and geventhttpclient raise dozens of exceptions; a fault has one word, whichever client met it."""
    told = ran(FAULTS, tmp_path, "-u", "2", "-r", "10", "-t", "4s", "-H", target.url)
    for user in ("Slow", "Fast"):
        found = {
            row["endpoint"]: (Outcome(row["outcome"]), row["error"]) for row in told.rows if row["scenario"] == user
        }
        assert found == {
            "GET /reset-mid-body": (Outcome.ERROR, "reset_mid_body"),
            "GET /short": (Outcome.ERROR, "short_body"),
            "GET /bad-chunk": (Outcome.ERROR, "bad_chunk"),
            "GET /garbage": (Outcome.ERROR, "invalid_http"),
            "GET /close": (Outcome.ERROR, "reset_before_headers"),
            "GET /slow/1500": (Outcome.TIMEOUT, "header_timeout"),
            "GET /slow-body/1500": (Outcome.TIMEOUT, "body_timeout"),
            "GET /loop": (Outcome.FAILURE, "redirect_loop"),
            "GET /refused": (Outcome.ERROR, "connect_refused"),
        }


HANGING = """
    from locust import FastHttpUser, HttpUser, task


    class Slow(HttpUser):
        @task
        def wait(self):
            self.client.get("/slow/20000", params={"q": 1})


    class Fast(FastHttpUser):
        @task
        def wait(self):
            self.client.get("/slow/20000", name="waits")
"""


def test_requests_cut_off_by_the_stop_are_aborted(target: Faulty, tmp_path: Path) -> None:
    """Each user is killed inside a request of which stock Locust never tells; both clients, with their names."""
    told = ran(HANGING, tmp_path, "-u", "4", "-r", "10", "-t", "1s", "-H", target.url, "--stop-timeout", "1")
    assert Counter((row["endpoint"], row["outcome"], row["end_ns"]) for row in told.rows) == {
        ("GET /slow/20000?q=1", Outcome.ABORTED, -1): 2,
        ("GET waits", Outcome.ABORTED, -1): 2,
    }
    assert told.due == told.sent == len(target.of_run(RUN)) == 4


def test_processes_of_locust_write_a_segment_each(target: Faulty, tmp_path: Path) -> None:
    """With --processes each worker has its rows, the master none; together they balance."""
    source = """
        from locust import FastHttpUser, constant, task

        class Fast(FastHttpUser):
            wait_time = constant(0.05)

            @task
            def go(self):
                self.client.get("/ok")
    """
    told = ran(source, tmp_path, "-u", "4", "-r", "10", "-t", "2s", "-H", target.url, "--processes", "2")
    names = {path.stem for path in (tmp_path / "journal").glob("*.seg")}
    assert names == {"locust-master", "locust-worker-0", "locust-worker-1"}
    assert {row["worker"] for row in told.rows} == {"worker-0", "worker-1"}
    assert len(told.rows) == told.due == told.sent == len(target.of_run(RUN)) > 20
    kinds = [event["kind"] for event in told.events]
    assert kinds.count("stage_started") == kinds.count("stage_ended") == 1


def test_exceptions_of_user_code_are_told_once_each_second(target: Faulty, tmp_path: Path) -> None:
    """Their message, their traceback, and how often; the requests around them are not touched."""
    source = """
        from locust import HttpUser, constant, task

        class Wrong(HttpUser):
            wait_time = constant(0.02)

            @task
            def fail(self):
                self.client.get("/ok")
                raise RuntimeError("no such thing")
    """
    told = ran(source, tmp_path, "-u", "2", "-r", "10", "-t", "2s", "-H", target.url)
    raised = [event for event in told.events if event["kind"] == "exception"]
    assert {event["message"] for event in raised} == {"no such thing"}
    assert 1 <= len(raised) <= 4
    assert abs(sum(event["count"] for event in raised) - len(told.rows)) <= 2
    assert 'raise RuntimeError("no such thing")' in raised[0]["traceback"]


def test_shapes_users_and_custom_arguments_are_the_scripts_own(target: Faulty, tmp_path: Path) -> None:
    """A LoadTestShape decides the users, and their number is read each second."""
    source = """
        from locust import FastHttpUser, LoadTestShape, constant, events, task

        @events.init_command_line_parser.add_listener
        def more(parser):
            parser.add_argument("--my-path", default="/status/404")

        class Shape(LoadTestShape):
            def tick(self):
                return None if self.get_run_time() > 3 else (3 if self.get_run_time() > 1 else 1, 10)

        class Fast(FastHttpUser):
            wait_time = constant(0.05)

            @task
            def go(self):
                self.client.get(self.environment.parsed_options.my_path)
    """
    told = ran(source, tmp_path, "-H", target.url, "--my-path", "/ok")
    assert {row["endpoint"] for row in told.rows} == {"GET /ok"}
    assert len({row["user"] for row in told.rows}) == 3
    assert "users" in told.metrics


def test_a_stop_ends_a_script_and_keeps_its_rows(target: Faulty, tmp_path: Path) -> None:
    """Asked to stop, Locust ends as if its time were up."""
    path = written(tmp_path, HANGING.replace("/slow/20000", "/slow/50"))
    running = started(path, tmp_path, "-u", "2", "-r", "10", "-t", "60s", "-H", target.url)
    assert running.wait(1.5) is None
    running.stop(1.0)
    ending = running.wait(20)
    assert ending is not None and ending.reason == "stopped"
    told = told_by(tmp_path / "journal", ending)
    assert len(told.rows) == told.due == told.sent == len(target.of_run(RUN)) > 10
    with pytest.raises(Unsupported, match="decides its own load"):
        running.pause()


# --- Locust's own output ----------------------------------------------------------------------------------------------

FIXED = """
    import gevent
    from locust import FastHttpUser, HttpUser, events, task
    from locust.exception import StopUser


    @events.test_start.add_listener
    def end_soon(environment, **_):
        # Locust writes its CSV files once a second, and not once more at the end.
        gevent.spawn_later(3, environment.runner.quit)


    class Slow(HttpUser):
        fixed_count = 1
        done = False

        @task
        def flow(self):
            if self.done:
                raise StopUser()
            self.done = True
            for path in ("/ok", "/ok", "/status/404", "/status/500", "/redirect/1"):
                self.client.get(path)
            raise ValueError("told by Locust")


    class Fast(FastHttpUser):
        fixed_count = 1

        @task
        def flow(self):
            for path in ("/ok", "/status/404", "/status/201", "/redirect/1"):
                self.client.get(path)
            raise StopUser()
"""


def _own_output(command: list[str], target: Faulty, place: Path) -> tuple[int, dict[str, Any]]:
    """Exit code, and what of Locust's own files does not depend on time."""
    place.mkdir()
    path = written(place, FIXED)
    options = ["-f", str(path), *("--headless", "-u", "2", "-r", "10", "-t", "20s", "-H", target.url)]
    options += ["--csv", "out", "--html", "out.html", "--only-summary"]
    done = subprocess.run([*command, *options], cwd=place, capture_output=True, text=True, timeout=90)
    tables: dict[str, Any] = {"printed": sorted(set(done.stdout.splitlines()))}
    for name, columns in {
        "stats": ("Type", "Name", "Request Count", "Failure Count", "Average Content Size"),
        "failures": ("Method", "Name", "Error", "Occurrences"),
        "exceptions": ("Count", "Message", "Traceback", "Nodes"),
    }.items():
        with open(place / f"out_{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        tables[name] = sorted([row[column].replace(str(place), "") for column in columns] for row in rows)
        tables[name + " columns"] = list(rows[0]) if rows else []
    html = (place / "out.html").read_text()
    tables["script"] = "locustfile.py" in html and "surgeline" not in html
    return done.returncode, tables


PLUGIN = Path(sys.modules["surgeline.engines.locust"].__file__ or "").parent.parent / "locust" / "surgeline_plugin.py"


def test_locusts_own_files_and_exit_code_are_what_they_are_without_us(target: Faulty, tmp_path: Path) -> None:
    """The same script with stock Locust alone, and through our door: CSVs, HTML and exit code tell the same."""
    plain = _own_output([sys.executable, "-m", "locust"], target, tmp_path / "plain")
    door = "import sys; from surgeline.locust.door import main; sys.exit(main(sys.argv[1:]))"
    with_us = _own_output([sys.executable, "-c", door], target, tmp_path / "door")
    assert plain == with_us
    assert plain[0] == 1, "Locust's code for failures"
    assert ["GET", "/ok", "3", "0", "65.0"] in plain[1]["stats"]
    assert plain[1]["exceptions"], "the script's exception is not in Locust's list"


def test_plain_locust_with_the_plugin_keeps_a_run(target: Faulty, tmp_path: Path) -> None:
    """`-f locustfile.py,PLUGIN` is all it takes: a run directory is there when Locust has ended, closed."""
    path = written(tmp_path, FIXED)
    told = subprocess.run(
        [sys.executable, "-m", "surgeline.locust", "path"], capture_output=True, text=True, timeout=30, check=True
    )
    assert Path(told.stdout.strip()) == PLUGIN
    options = ["--headless", "-u", "2", "-r", "10", "-t", "20s", "-H", target.url, "--only-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", f"{path},{PLUGIN}", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    (directory,) = (entry for entry in (tmp_path / "surgeline-runs").iterdir() if entry.is_dir())
    run = Run(directory)
    assert run.meta.raw["state"] == "finished" and not run.meta.due_known
    measured = run.measurement()
    assert measured.rows == sum(count.sent for count in measured.counts) == 9
    assert len(target.of_run(directory.name)) == 9 + sum(count.hops for count in measured.counts)
    assert not (directory / "journal").exists()


def test_a_file_without_users_beside_the_plugin_is_locusts_own_sentence(tmp_path: Path) -> None:
    """The plugin is a file without users too, and nobody looks for tests in it: no traceback, Locust's exit code."""
    path = written(tmp_path, "x = 1")
    command = [sys.executable, "-m", "locust", "-f", f"{path},{PLUGIN}", "--headless", "-t", "1s"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "No User class found!" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "surgeline-runs").exists()


def _swarm(port: int, path: str, **fields: object) -> None:
    """What a click in Locust's web page does; Locust may still be starting."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", urllib.parse.urlencode(fields).encode())
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(asked, timeout=10).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_each_test_started_in_the_web_page_is_a_run(target: Faulty, tmp_path: Path) -> None:
    """Locust's web page through our door: started and stopped twice, ended by SIGTERM; both runs are kept, closed."""
    path = written(tmp_path, HANGING.replace("/slow/20000", "/slow/20"))
    port = int(free_port())
    door = "import sys; from surgeline.locust.door import main; sys.exit(main(sys.argv[1:]))"
    options = ["-f", str(path), "--web-host", "127.0.0.1", "--web-port", str(port), "--stop-timeout", "2"]
    child = subprocess.Popen(
        [sys.executable, "-c", door, *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        for _ in range(2):
            before, deadline = len(target.seen), time.monotonic() + 60
            _swarm(port, "/swarm", user_count=2, spawn_rate=10, host=target.url)
            while len(target.seen) <= before + 20:
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            _swarm(port, "/stop")
            time.sleep(0.5)
    finally:
        child.terminate()
        _, said = child.communicate(timeout=60)
        print(said)
    assert child.returncode == 0
    runs = [Run(entry) for entry in sorted((tmp_path / "surgeline-runs").iterdir()) if entry.is_dir()]
    assert [run.meta.raw["state"] for run in runs] == ["finished", "finished"]
    for run in runs:
        assert run.measurement().rows == len(target.of_run(run.path.name)) > 10


def test_ctrl_c_loses_no_worker(target: Faulty, tmp_path: Path) -> None:
    """A terminal interrupts workers too; it is the master that stops them, and the run has all they did."""
    path = written(tmp_path, HANGING.replace("/slow/20000", "/slow/20"))
    door = "import sys; from surgeline.locust.door import main; sys.exit(main(sys.argv[1:]))"
    options = ["-f", str(path), "-H", target.url, "--headless", "-u", "4", "-r", "4", "--processes", "2"]
    child = subprocess.Popen(
        [sys.executable, "-c", door, *options, "--stop-timeout", "20"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while len(target.seen) <= 40:
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=90)
        print(said)
    assert child.returncode == 0 and "lost" not in said
    (run,) = (Run(entry) for entry in (tmp_path / "surgeline-runs").iterdir() if entry.is_dir())
    kinds = [json.loads(line)["kind"] for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert "worker_lost" not in kinds and kinds.count("worker_joined") == 2
    assert run.measurement().rows == len(target.of_run(run.path.name)) > 10


def test_whole_exchanges_are_kept_as_evidence(target: Faulty, tmp_path: Path) -> None:
    """Of both stock clients: the request as it was sent, the answer with its headers and the beginning of its body."""
    told = ran(ALL_KINDS, tmp_path, "-u", "3", "-r", "10", "-t", "3s", "-H", target.url)
    sent = next(e for e in told.exchanges if e["endpoint"] == "POST /echo [json]" and e["why"] == "first")
    assert sent["request"]["body_head"] == '{"a": 1}' and sent["request"]["method"] == "POST"
    assert sent["answer"]["status"] == 200 and '"method": "POST"' in sent["answer"]["body_head"]
    wrong = [e for e in told.exchanges if e["endpoint"] == "GET /status/503"]
    assert {e["error"] for e in wrong} == {"status 503"}
    assert wrong[0]["answer"]["body_head"] == "told so"


def test_a_script_is_refused_a_workload(tmp_path: Path) -> None:
    """Stages of ours cannot be laid over a script; the sentence says what can be done instead."""
    path = written(tmp_path, FIXED)
    settings = Settings(run_id=RUN, monotonic_ns=0, workload=default_steps())
    reason = LocustEngine().refusal(Script(path, "", ()), settings)
    assert reason is not None and "LoadTestShape" in reason
