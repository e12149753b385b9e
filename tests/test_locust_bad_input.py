"""A locustfile that cannot run, a Locust that breaks, a process that is killed: one sentence, and nothing left over."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from surgeline.engines import EngineError, Script, Settings, locust
from surgeline.engines.locust import LocustEngine, LocustRunning
from surgeline.plan.model import Plan
from surgeline.samples import Frame, decode_table
from surgeline.store.journal import Segment, read_all
from targets.faulty import Faulty
from told import told_by

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def started(place: Path, source: str, *arguments: str) -> LocustRunning:
    """The script at work."""
    path = place / "locustfile.py"
    path.write_text(textwrap.dedent(source))
    (place / "journal").mkdir()
    return LocustEngine().start(
        Script(path, "", arguments),
        Settings(run_id="r", monotonic_ns=time.monotonic_ns(), workload=None, grace_ns=10**9),
        Segment(place / "journal"),
    )


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Whatever a test does, none of the processes that it started is there afterwards."""
    before = set(psutil.Process().children(recursive=True))
    yield
    deadline = time.monotonic() + 15
    while left := [
        process
        for process in set(psutil.Process().children(recursive=True)) - before
        if process.status() != psutil.STATUS_ZOMBIE
    ]:
        assert time.monotonic() < deadline, f"left behind: {[p.cmdline() for p in left]}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("source", "arguments", "words"),
    [
        ("import no_such_module", (), "line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("\n\ndef broken(:\n    pass\n", (), "line 3: SyntaxError"),
        ("x = 1", (), "it defines no User class"),
        ("from locust import HttpUser\nclass A(HttpUser):\n    abstract = True", (), "it defines no User class"),
        ("import os; os._exit(7)", (), "exit code 7"),
        ("import sys; sys.exit('I give up')", (), "I give up"),
        ("from locust import User\nclass A(User): pass", ("--no-such-flag",), "unrecognized arguments: --no-such-flag"),
        ("from locust import User\nclass A(User): pass", ("-t", "soon"), "argument -t/--run-time"),
        ("from locust import User\nclass A(User): pass", ("Bee",), "Unknown User(s): Bee"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", (), "ended by SIGKILL"),
    ],
)
def test_a_script_that_cannot_run_is_one_sentence(
    tmp_path: Path, source: str, arguments: tuple[str, ...], words: str
) -> None:
    """It names the file, its line where there is one, and what Locust says; no traceback."""
    with pytest.raises(EngineError) as refused:
        started(tmp_path, source, "-u", "1", "-t", "1s", *arguments)
    sentence = str(refused.value)
    assert words in sentence and "\n" not in sentence and len(sentence) < 600
    assert str(tmp_path / "locustfile.py") in sentence or "ended by" in sentence


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    """The file is named before anything is started."""
    with pytest.raises(EngineError, match=r"there is no locustfile at .*nowhere\.py"):
        LocustEngine().start(Script(tmp_path / "nowhere.py", ""), Settings("r", 0, None), Segment(tmp_path / "journal"))


def test_a_script_without_a_host_measures_nothing_and_says_so(tmp_path: Path) -> None:
    """Locust ends in order, with code 0; that no request was sent is a failure all the same."""
    source = """
        from locust import HttpUser, task

        class A(HttpUser):
            @task
            def go(self):
                self.client.get("/")
    """
    ending = started(tmp_path, source, "-u", "1", "-t", "2s").wait(30)
    assert ending is not None and ending.reason == "failed"
    assert ending.detail.endswith("add --target http://127.0.0.1:PORT, or `host` to its user class")


def test_a_script_that_hangs_while_it_is_imported_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that an import may take, it is ended."""
    monkeypatch.setattr(locust, "START_S", 2.0)
    with pytest.raises(EngineError, match="has been loading for 2 s"):
        started(tmp_path, "import time; time.sleep(600)")


WAITING = """
    from locust import FastHttpUser, task

    class A(FastHttpUser):
        @task
        def go(self):
            self.client.get("/slow/200")
"""


def _processes(running: LocustRunning) -> list[psutil.Process]:
    """Warden first, then Locust and what it forked."""
    warden = psutil.Process(running._process.pid)
    return [warden, *warden.children(recursive=True)]


@pytest.mark.parametrize("workers", [(), ("--processes", "2")], ids=["one", "processes"])
@pytest.mark.parametrize("victim", [0, 1], ids=["warden", "locust"])
def test_killing_any_of_the_processes_ends_all(tmp_path: Path, victim: int, workers: tuple[str, ...]) -> None:
    """kill -9 on the guard or on Locust: the others go too, the run is told as failed, with the signal."""
    with Faulty() as target:
        running = started(tmp_path, WAITING, "-u", "2", "-r", "10", "-t", "60s", "-H", target.url, *workers)
        chain = _processes(running)
        assert len(chain) == (2 if not workers else 4)
        chain[victim].kill()
        ending = running.wait(30)
        assert ending is not None and ending.reason == "failed"
        assert "SIGKILL" in ending.detail
        psutil.wait_procs(chain, timeout=15)
        assert not [process for process in chain if process.is_running() and process.status() != "zombie"]


def test_killing_the_parent_ends_locust_and_all_it_forked(tmp_path: Path) -> None:
    """The process that started the run is killed; nobody is left to stop Locust, and nothing keeps sending."""
    script = """
        import sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from test_locust_bad_input import WAITING, _processes, started
        options = ("-u", "2", "-r", "9", "-t", "60s", "-H", sys.argv[3], "--processes", "2")
        running = started(Path(sys.argv[1]), WAITING, *options)
        print(*[process.pid for process in _processes(running)], flush=True)
        time.sleep(60)
    """
    with Faulty() as target:
        parent = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(Path(__file__).parent), target.url],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout is not None
        chain = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(chain) == 4
        parent.kill()
        parent.wait()
        parent.stdout.close()
        gone, alive = psutil.wait_procs(chain, timeout=20)
    assert not alive and len(gone) == 4


def test_a_hub_that_is_blocked_can_still_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User code that never gives way deafens Locust to every request; it is killed, and the run says so."""
    monkeypatch.setattr(locust, "PATIENCE_S", 0.5)
    source = """
        from locust import User, task

        class A(User):
            @task
            def go(self):
                while True:
                    pass
    """
    running = started(tmp_path, source, "-u", "1", "-t", "60s")
    assert running.wait(1.0) is None
    running.stop(0.2)
    ending = running.wait(30)
    assert ending is not None and ending.reason == "stopped" and "killed" in ending.detail


def test_a_script_that_keeps_the_loop_for_good_is_ended_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears neither -t nor SIGTERM: it is ended from outside, with its line, and what it had sent is in the run."""
    monkeypatch.setattr(locust, "SILENT_S", 2.5)
    monkeypatch.setattr(locust, "PATIENCE_S", 2.0)
    source = """
        from gevent import monkey
        from locust import FastHttpUser, task

        class A(FastHttpUser):
            @task
            def go(self):
                self.client.get("/ok")
                monkey.get_original("time", "sleep")(3600)
    """
    with Faulty() as target:
        running = started(tmp_path, source, "-u", "1", "-t", "2s", "-H", target.url)
        ending = running.wait(60)
    assert ending is not None and ending.reason == "failed"
    assert "blocks Locust's loop since" in ending.detail and "(line 9 of locustfile.py in go)" in ending.detail
    frames = [(kind, payload) for _, kind, payload in read_all(tmp_path / "journal").frames()]
    assert sum(decode_table(payload).rows for kind, payload in frames if kind is Frame.ROWS) == 1
    events = [json.loads(payload) for kind, payload in frames if kind is Frame.EVENT]
    assert [event["where"] for event in events if event["kind"] == "loop_stands_still"] == [
        "line 9 of locustfile.py in go"
    ]


def test_sigterm_from_outside_ends_locust_in_order(tmp_path: Path) -> None:
    """Locust's own handling of SIGTERM: it stops its users and quits; what it measured is kept."""
    with Faulty() as target:
        running = started(tmp_path, WAITING, "-u", "2", "-r", "10", "-t", "60s", "-H", target.url)
        os.kill(_processes(running)[1].pid, signal.SIGTERM)
        ending = running.wait(30)
    assert ending is not None and ending.reason == "finished" and ending.exit_code == 0


def notes(place: Path) -> list[str]:
    """What the run's journal notes."""
    events = [json.loads(payload) for _, kind, payload in read_all(place / "journal").frames() if kind is Frame.EVENT]
    return [event["reason"] for event in events if event["kind"] == "note"]


def forks(place: Path) -> tuple[int, int]:
    """How many processes the run's journal says were forked, and how many requests of theirs."""
    events = [json.loads(payload) for _, kind, payload in read_all(place / "journal").frames() if kind is Frame.EVENT]
    told = [event for event in events if event["kind"] == "forked"]
    return sum(event["processes"] for event in told), sum(event["requests"] for event in told)


def test_a_script_that_forks_late_is_told_what_is_not_counted(tmp_path: Path) -> None:
    """What processes that a task forks have sent is not in the run, which counts them; its own rows are whole.

    Programs that a task starts are no such processes.
    """
    source = """
        import os, subprocess
        from locust import HttpUser, constant, task

        class A(HttpUser):
            wait_time = constant(0.1)

            @task
            def go(self):
                self.client.get("/ok", name="mine")
                subprocess.run(["true"], check=True)
                if not os.fork():
                    self.client.get("/ok", name="the copy's")
                    self.client.get("/ok", name="the copy's")
                    os._exit(0)
                os.wait()
    """
    with Faulty() as target:
        ending = started(tmp_path, source, "-u", "1", "-t", "2s", "-H", target.url).wait(60)
        target.settle()
        seen = len(target.seen)
    assert ending is not None and ending.reason == "finished"
    told = told_by(tmp_path / "journal", ending)
    assert {row["endpoint"] for row in told.rows} == {"GET mine"} and len(told.rows) == told.due > 1
    made, asked = forks(tmp_path)
    assert 1 < made <= len(told.rows) and asked <= 2 * made
    assert abs(seen - len(told.rows) - asked) <= 3, "all but what the end cut off"


def test_a_copy_of_a_script_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A process that was forked to go on for minutes, users and all, ends with the run, which does not wait for it."""
    source = """
        import os, time
        from locust import FastHttpUser, constant, task

        class A(FastHttpUser):
            wait_time = constant(0.05)
            forked = False

            @task
            def go(self):
                self.client.get("/ok")
                if not A.forked:
                    A.forked = True
                    if not os.fork():
                        time.sleep(300)
    """
    with Faulty() as target:
        running = started(tmp_path, source, "-u", "2", "-r", "10", "-t", "3s", "-H", target.url)
        begun = time.monotonic()
        ending = running.wait(60)
        assert time.monotonic() - begun < 30
    assert ending is not None and ending.reason == "finished"
    made, asked = forks(tmp_path)
    assert made == 1 and asked > 5


def test_greenlets_that_outlive_their_users_are_told(tmp_path: Path) -> None:
    """Each of two users has started three that never end; the run says how many there are."""
    source = """
        import gevent
        from locust import User, constant, task

        def for_ever():
            while True:
                gevent.sleep(1)

        class A(User):
            wait_time = constant(10)

            @task
            def go(self):
                gevent.spawn(for_ever)
                gevent.spawn(lambda: gevent.spawn(for_ever).join())
    """
    ending = started(tmp_path, source, "-u", "2", "-r", "10", "-t", "2s").wait(60)
    assert ending is not None
    said = "users left 6 greenlets running when the test stopped; what those still send is cut off with the process"
    assert said in notes(tmp_path)


def test_an_old_or_missing_locust_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to install."""
    plan = Plan.model_validate({"target": "http://127.0.0.1:1", "scenarios": {"s": {"steps": [{"get": "/"}]}}})
    settings = Settings("r", 0, None)
    assert LocustEngine().refusal(plan, settings) is None
    monkeypatch.setattr(locust.metadata, "version", lambda name: "2.9.0")
    assert "Locust 2.9.0 is too old" in str(LocustEngine().refusal(plan, settings))
    monkeypatch.setattr(locust.metadata, "version", lambda name: "3.0.1")
    assert "`pip install 'locust<3'`" in str(LocustEngine().refusal(plan, settings))

    def missing(name: str) -> str:
        raise locust.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(locust.metadata, "version", missing)
    assert "pip install locust" in str(LocustEngine().refusal(plan, settings))


def test_what_locust_prints_is_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that prints without end leaves the beginning and the end in the run's log."""
    monkeypatch.setattr(locust, "LOG_BYTES", 10_000)
    source = """
        from locust import User, task

        class A(User):
            def on_start(self):
                for number in range(100_000):
                    print(f"line {number}")

            @task
            def go(self):
                self.environment.events.request.fire(request_type="x", name="y", response_time=1, response_length=0)
                self.environment.runner.quit()
    """
    ending: Any = started(tmp_path, source, "-u", "1", "-t", "20s").wait(60)
    assert ending.reason == "finished"
    log = (tmp_path / "locust.log").read_text()
    assert "line 0\n" in log and "line 99999\n" in log and "bytes left out" in log
    assert len(log) < 10_000 + 2 * (64 << 10)
