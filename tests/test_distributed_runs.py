"""Runs that are led here and sent from elsewhere, on one machine: the books, the versions, what goes wrong."""

import csv
import json
import math
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from distributed import Started, Troupe, events_of, free_port, the_run
from surgeline.cli import surgeline
from surgeline.samples import Histogram, Outcome
from targets.faulty import Faulty

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SCRIPT = """
    from locust import FastHttpUser, constant, task

    class Visitor(FastHttpUser):
        wait_time = constant(0.02)

        @task(3)
        def look(self):
            self.client.get("/ok")

        @task
        def lost(self):
            self.client.get("/status/404")
"""


@pytest.fixture
def target() -> Iterator[Faulty]:
    """A server that counts."""
    with Faulty() as faulty:
        yield faulty


@pytest.fixture
def troupe(tmp_path: Path) -> Iterator[Troupe]:
    """Processes that end with the test; the locustfile lies in their place."""
    (tmp_path / "locustfile.py").write_text(textwrap.dedent(SCRIPT))
    with Troupe(tmp_path) as found:
        yield found


def led(target: Faulty, port: str, workers: int, *more: str, seconds: int = 4) -> list[str]:
    """The arguments of a run that waits for workers."""
    waits = ["--expect-workers", str(workers), "--master-bind-port", port, "--expect-workers-max-wait", "40"]
    shown = ["--ui", "none", "--no-preflight", "--no-abort"]
    return ["run", "locustfile.py", "--target", target.url, "-u", "8", "-t", f"{seconds}s", *waits, *shown, *more]


def until(true: Callable[[], bool], one: Started, timeout_s: float = 60.0) -> None:
    """Waits for something while a command runs, however slow this machine is today."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert one.process.poll() is None and time.monotonic() < deadline, one.text
        time.sleep(0.05)


def test_locusts_csv_our_store_and_the_servers_log_are_equal(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    Four workers in three commands, none lost. Every request that the server read is in Locust's CSV of the master, in
    our counts, in our windows and in our rows, each once; and percentiles merged from the windows of four workers are
    those of one sorted list of all samples, to a thousandth. No worker keeps the script where another would find it.
    """
    port = free_port()
    shared = tmp_path / "shared"
    shared.mkdir()
    here = {"TMPDIR": str(shared)}
    hired = [
        troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s", environment=here) for _ in range(2)
    ]
    hired.append(troupe.start("worker", "--master", f"127.0.0.1:{port}", "--processes", "2"))
    leader = troupe.start(*led(target, port, 4, "--", "--csv", "locusts", seconds=3))
    assert leader.ended() == 0, leader.text
    assert [one.ended(40) for one in hired] == [0, 0, 0], [one.text for one in hired]
    (script,) = shared.rglob("*.py")
    assert script.parent != shared
    run = the_run(tmp_path)
    measured, rows = run.measurement(), list(csv.DictReader((run.path / "requests.csv").read_text().splitlines()))
    with open(tmp_path / "locusts_stats.csv") as file:
        locusts = {line["Name"]: int(line["Request Count"]) for line in csv.DictReader(file)}
    served = Counter(seen.path for seen in target.of_run(run.id))
    assert sum(served.values()) > 40
    assert served == {name: count for name, count in locusts.items() if name != "Aggregated"}
    assert served == Counter(row["endpoint"].split()[1] for row in rows)
    due: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for count in measured.counts:
        due[count.endpoint.split()[1]] += count.due
    for window in measured.windows:
        ended[window.endpoint.split()[1]] += window.count
    assert served == due == ended
    assert len({row["worker"] for row in rows}) == 4
    merged = Histogram()
    for window in measured.windows:
        merged.merge(window.response)
    exact = sorted(round(float(row["response_us"]) * 1000) for row in rows)
    for q in (0.5, 0.75, 0.9, 0.95, 0.99, 0.999):
        true = exact[math.ceil(q * len(exact) - 1e-9) - 1]
        assert merged.quantile(q) == pytest.approx(true, rel=0.001)
    document = json.loads((run.path / "result.json").read_text())
    assert not [t for t in document["trust"] if t["about"] in ("books", "workers") and t["level"] == "warning"]
    assert any("4 workers sent, none was lost" in t["sentence"] for t in document["trust"])


def test_a_worker_that_is_asked_to_end_brings_its_rows_home_first(
    target: Faulty, troupe: Troupe, tmp_path: Path
) -> None:
    """SIGTERM to one of two: the run goes on, says that it left, and misses no row of either."""
    port = free_port()
    hired = [troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s") for _ in range(2)]
    leader = troupe.start(*led(target, port, 2, seconds=90))
    for one in hired:
        one.says("takes part")
    until(lambda: len(target.seen) > 300, leader)
    hired[0].process.terminate()
    assert hired[0].ended(40) == 0, hired[0].text
    before = len(target.seen)
    until(lambda: len(target.seen) > before + 100, leader)
    leader.process.send_signal(signal.SIGINT)
    assert leader.ended() == 0, leader.text
    run = the_run(tmp_path)
    (lost,) = events_of(run, "worker_lost")
    assert lost["why"] == "it left"
    assert [event["missing"] for event in events_of(run, "worker_rows")] == [0, 0]
    measured = run.measurement()
    aborted = sum(window.count for window in measured.windows if window.outcome is Outcome.ABORTED)
    assert measured.rows == sum(count.due for count in measured.counts)
    assert len(target.of_run(run.id)) in range(measured.rows - aborted, measured.rows + 1)
    document = json.loads((run.path / "result.json").read_text())
    assert document["verdict"]["validity"] != "valid"
    assert any("was lost" in t["sentence"] and "it left" in t["sentence"] for t in document["trust"])


def test_a_run_ends_when_its_only_worker_is_lost(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """Nobody waits for the rest of its time: the run is closed, says who was lost, and that its rows are."""
    port = free_port()
    hired = troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s")
    leader = troupe.start(*led(target, port, 1, seconds=200))
    hired.says("takes part")
    until(lambda: sum(window.count for window in the_run(tmp_path).measurement().windows) > 20, leader)
    (victim,) = hired.locusts()
    victim.kill()
    assert leader.ended(100) == 0, leader.text
    assert hired.ended(40) == 2 and "SIGKILL" in hired.text
    run = the_run(tmp_path)
    (lost,) = events_of(run, "worker_lost")
    assert lost["why"] == "it was not heard of any more"
    document = json.loads((run.path / "result.json").read_text())
    assert document["verdict"]["validity"] != "valid"
    said = [t["sentence"] for t in document["trust"] if t["about"] == "workers"]
    assert any("Worker-0 was lost" in line and "not in requests.csv" in line for line in said), said


def test_workers_started_by_hand_bring_what_they_have_to_the_masters_run(
    target: Faulty, troupe: Troupe, tmp_path: Path
) -> None:
    """
    Locust's own flags: a master with its web page, two workers, one of them with a clock of its own where that is
    permitted, so that it counts as another machine. The test is one run, with every request of both.
    """
    port, web = free_port(), free_port()
    apart = ["unshare", "-T", "--monotonic", "500", "--fork", "--kill-child"]
    try:
        permitted = subprocess.run([*apart, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        permitted = False
    shown = ["--web-port", web, "--autostart", "--autoquit", "0", "--exit-code-on-error", "0"]
    load = ["-u", "4", "-r", "4", "-t", "4s", "-H", target.url, "--expect-workers", "2", "--stop-timeout", "2"]
    given = ["-f", "locustfile.py", "--master", "--master-bind-port", port, *load, *shown]
    leader = troupe.start("locust", *given)
    joins = ["locust", "-f", "-", "--worker", "--master-port", port, "--exit-code-on-error", "0"]
    hired = [troupe.start(*joins), troupe.start(*joins, inside=apart if permitted else [])]
    assert leader.ended() == 0, leader.text
    assert [one.ended(40) for one in hired] == [0, 0], [one.text for one in hired]
    run = the_run(tmp_path)
    rows = list(csv.DictReader((run.path / "requests.csv").read_text().splitlines()))
    assert len(rows) == sum(count.due for count in run.measurement().counts) == len(target.of_run(run.id)) > 50
    assert {row["worker"] for row in rows} == {"worker-0", "worker-1"}
    begins = [min(float(row["start_us"]) for row in rows if row["worker"] == f"worker-{n}") for n in range(2)]
    assert abs(begins[0] - begins[1]) < 3e6
    document = json.loads((run.path / "result.json").read_text())
    assert not [t for t in document["trust"] if t["about"] in ("books", "workers") and t["level"] == "warning"]


def test_workers_that_do_not_fit_are_named_on_both_sides(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    One of another Surgeline and one of another Locust are refused: they end at once with both versions and exit code 2,
    the master logs the same and waits for others. A stock Locust without Surgeline takes part, and the run says that
    what it sent is not in the figures, with Locust's number and ours.
    """
    port = free_port()
    leader = troupe.start(*led(target, port, 2, "--", "--csv", "locusts", seconds=120))
    others = {
        "Surgeline 9.9.9": "import surgeline; surgeline.__version__ = '9.9.9'",
        "Locust 2.44.1": "import locust; locust.__version__ = '2.44.1'",
    }
    refused = {}
    for number, code in enumerate(others.values()):
        inner = f"{code}; import runpy; runpy.run_module('surgeline.locust.launch', run_name='__main__')"
        (tmp_path / f"other{number}.py").write_text(
            "import sys\nfrom surgeline.locust import join\n"
            f"join.COMMAND = (sys.executable, '-c', {inner!r})\n"
            "from surgeline.cli import main\nmain(sys.argv[1:])\n"
        )
    for number, named in enumerate(others):
        command = [sys.executable, f"other{number}.py", "worker", "--master", f"127.0.0.1:{port}", "--wait", "40s"]
        refused[named] = troupe.run(command)
    ours = troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s")
    for named, one in refused.items():
        assert one.ended(60) == 2, one.text
        assert named in one.text and "refuses this worker" in one.text and "Traceback" not in one.text
    troupe.run([sys.executable, "-m", "locust", "-f", "-", "--worker", "--master-port", port, "--headless"])

    def counted() -> int:
        with suppress(FileNotFoundError), open(tmp_path / "locusts_stats.csv") as file:
            return sum(int(line["Request Count"]) for line in csv.DictReader(file) if line["Name"] == "Aggregated")
        return 0

    until(lambda: counted() > sum(bool(seen.run) for seen in list(target.seen)) > 20, leader, 90)
    leader.process.send_signal(signal.SIGINT)
    assert leader.ended() == 0, leader.text
    assert ours.ended(40) == 0, ours.text
    run = the_run(tmp_path)
    for named in others:
        assert named in (run.path / "locust.log").read_text()
    assert [event["why"] for event in events_of(run, "worker_unknown")] == ["it runs without Surgeline"]
    document = json.loads((run.path / "result.json").read_text())
    assert document["verdict"]["validity"] != "valid"
    assert any("not in these figures" in t["sentence"] for t in document["trust"])
    assert any("Locust's own statistics have" in t["sentence"] for t in document["trust"])


def test_workers_that_do_not_come_are_given_up_with_a_sentence(target: Faulty, troupe: Troupe) -> None:
    """Fewer are there than were to be when the time is up: exit code 3, how many came, and how to start one."""
    port = free_port()
    hired = troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s")
    waits = ["--expect-workers", "2", "--expect-workers-max-wait", "3", "--master-bind-port", port]
    leader = troupe.start("run", "locustfile.py", "--target", target.url, *waits, "--ui", "none", "--no-preflight")
    assert leader.ended() == 3, leader.text
    assert re.search(r"[01] of 2 workers came to 127\.0\.0\.1", leader.text), leader.text
    assert "surgeline worker --master" in leader.text
    hired.process.terminate()
    hired.ended(40)
    assert "Traceback" not in hired.text


IMPATIENT = """
import sys
sys.argv.remove("surgeline.locust.launch")
import locust
from surgeline.locust import distributed
distributed.UNHEARD_S = 4.0
import runpy
runpy.run_module("surgeline.locust.launch", run_name="__main__")
"""


def test_nobody_goes_on_sending_when_who_leads_is_gone(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    The master is killed: one worker hears nothing any more, stops (here after four seconds) and ends with 3. The
    command of the other worker is killed before that: its Locust ends too.
    """
    port = free_port()
    (tmp_path / "impatient.py").write_text(
        "import sys\nfrom surgeline.locust import join\n"
        f"join.COMMAND = (sys.executable, '-c', {IMPATIENT!r}, 'surgeline.locust.launch')\n"
        "from surgeline.cli import main\nmain(sys.argv[1:])\n"
    )
    joins = [sys.executable, "impatient.py", "worker", "--master", f"127.0.0.1:{port}", "--wait", "40s"]
    hired = [troupe.run(joins) for _ in range(2)]
    leader = troupe.start(*led(target, port, 2, seconds=60))
    for one in hired:
        one.says("takes part")
    (master,), (orphan,) = leader.locusts(), hired[1].locusts()
    hired[1].process.kill()
    psutil.wait_procs([orphan], timeout=20)
    assert not orphan.is_running()
    master.kill()
    assert leader.ended(30) in (0, 1, 3) and "SIGKILL" in leader.text
    assert hired[0].ended(40) == 3, hired[0].text
    assert "Nothing has been heard of the master" in hired[0].text
    before = len(target.seen)
    time.sleep(0.5)
    assert len(target.seen) == before


def test_a_master_that_is_not_there_is_tried_for_as_long_as_was_said() -> None:
    """Exit code 3, with the place, the reason and the time."""
    port = free_port()
    found = CliRunner().invoke(surgeline, ["worker", "--master", f"127.0.0.1:{port}", "--wait", "1s"])
    assert found.exception is not None
    assert f"No master answers at 127.0.0.1 port {port} after 1 s: Connection refused" in str(found.exception)
    assert getattr(found.exception, "code", None) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "x.py", "--expect-workers", "2", "--workers", "2"], "give one of them"),
        (["run", "x.py", "--master-bind-host", "*"], "--expect-workers how many"),
        (["run", "x.py", "--expect-workers", "2", "--engine", "native"], "leave --engine out"),
        (["worker", "--master", "a b"], "is no place of a master"),
        (["worker", "--master", "h:99999"], "is no place of a master"),
        (["worker", "--master", "h", "plan.yaml"], "a plan comes from the master"),
        (["worker", "--master", "h", "none.py"], "There is no locustfile"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    """Before anything is started, with one sentence and exit code 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text("")
    found = CliRunner().invoke(surgeline, arguments)
    assert sentence in str(found.exception) and getattr(found.exception, "code", None) == 2


def test_a_port_that_is_taken_is_a_sentence(target: Faulty, troupe: Troupe) -> None:
    """Nothing is measured; the port and what to do are named."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        leader = troupe.start(*led(target, port, 1))
        assert leader.ended() == 3, leader.text
    assert "something else listens there" in leader.text and "Traceback" not in leader.text


PLAN = """
    target: {target}
    scenarios:
      visit: {{steps: [{{get: /ok}}]}}
    workload:
      model: open
      stages: [{{rate: 60/s, for: 2s}}, {{rate: 60/s, for: 90s}}]
"""


def test_a_share_of_a_plan_is_taken_over_by_who_stands_by(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    Two of three workers send every second arrival each, the third has no share. One of the two is asked to end, and the
    third sends its share from then on. Every request is due once and has its row, all on one clock; the stage in which
    part of the load was missing is marked, with the worker's name.
    """
    (tmp_path / "plan.yaml").write_text(textwrap.dedent(PLAN.format(target=target.url)))
    port = free_port()
    hired = [troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s") for _ in range(3)]
    waits = ["--expect-workers", "2", "--master-bind-port", port, "--engine", "locust"]
    leader = troupe.start("run", "plan.yaml", *waits, "--ui", "none", "--no-preflight", "--no-abort")
    for one in hired:
        one.says("takes part")
    until(lambda: len(target.seen) > 150, leader)
    (first,) = (one for one in hired if "sends share 1 of 2" in one.text)
    (third,) = (one for one in hired if "sends share" not in one.text)
    first.process.terminate()
    assert first.ended(40) == 0, first.text
    third.says("sends share 1 of 2")
    before = len(target.seen)  # two seconds of the second worker alone, then of both
    until(lambda: len(target.seen) > before + 60 + 80, leader)
    leader.process.send_signal(signal.SIGINT)
    assert leader.ended() == 0, leader.text
    assert [one.ended(40) for one in hired] == [0, 0, 0], [one.text for one in hired]
    run = the_run(tmp_path)
    measured, rows = run.measurement(), list(csv.DictReader((run.path / "requests.csv").read_text().splitlines()))
    assert len(rows) == sum(count.due for count in measured.counts) == len(target.of_run(run.id))
    (lost,) = events_of(run, "worker_lost")
    (end,) = (event["at_ns"] for event in events_of(run, "stage_ended") if event["stage"] == 1)
    due = {event["worker"]: [] for event in events_of(run, "worker_joined")}
    for row in rows:
        due[row["worker"]].append(float(row["intended_us"]) * 1000)
    assert len(due) == 3 and all(due.values())
    spare = max(due, key=lambda worker: min(due[worker]))
    assert lost["at_ns"] < min(due[spare]) and max(due[spare]) < end + 1e9, "the stop has to reach it"
    assert len(due[spare]) > 0.5 * 30 * (end - min(due[spare])) / 1e9
    assert {row["stage"] for row in rows if row["worker"] == spare} == {"1"}
    document = json.loads((run.path / "result.json").read_text())
    reasons = [reason for stage in document["stages"] for reason in stage["validity_reasons"]]
    assert any(f"{lost['worker']} was lost" in reason for reason in reasons), reasons


@pytest.mark.parametrize("way", ["run --workers", "locust --processes"])
def test_a_forked_worker_that_is_killed_is_missed(way: str, target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    One of two workers that Locust forked is killed in the middle, of a locustfile and of a plan that Locust steers: the
    run goes on, the loss is marked with what was planned and what there was, the run is not called valid, what the
    other sent is all there, and no process is left.
    """
    (tmp_path / "plan.yaml").write_text(textwrap.dedent(PLAN.format(target=target.url)))
    port = free_port()
    if way == "run --workers":
        shown = ["--ui", "none", "--no-preflight", "--no-abort"]
        more = ["--target", target.url, "-u", "8", "-t", "90s", "--workers", "2", *shown]
        leader = troupe.start("run", "locustfile.py", *more)
    else:
        more = ["-u", "60", "-r", "60", "-t", "90s", "--processes", "2", "--headless", "-s", "1"]
        leader = troupe.start("locust", "-f", "plan.yaml", *more, "--master-bind-port", port, "--master-port", port)
    until(lambda: len(target.seen) > 20, leader)
    workers = {"worker-0", "worker-1"}
    until(lambda: {reading.worker for reading in the_run(tmp_path).measurement().health} >= workers, leader)
    until(lambda: the_run(tmp_path).measurement().rows > 100, leader)  # so that there is something of each to keep
    family = leader.locusts()
    parents = {process.ppid() for process in family}
    killed = max((process for process in family if process.pid not in parents), key=lambda process: process.pid)
    killed.kill()
    said = the_run(tmp_path).path / "locust.log" if way == "run --workers" else leader.said
    until(lambda: "is lost: it was not heard of any more" in said.read_text(errors="replace"), leader)
    before = len(target.seen)
    until(lambda: len(target.seen) > before + 40, leader)
    leader.process.send_signal(signal.SIGINT if way == "run --workers" else signal.SIGTERM)
    assert leader.ended() in (0, 143), leader.text
    psutil.wait_procs(family, timeout=10)
    assert not [process for process in family if process.is_running()]
    run = the_run(tmp_path)
    (lost,) = events_of(run, "worker_lost")
    rows = list(csv.DictReader((run.path / "requests.csv").read_text().splitlines()))
    last = {w: max(float(row["intended_us"]) for row in rows if row["worker"] == w) for w in ("worker-0", "worker-1")}
    assert last[lost["worker"]] < max(last.values()) - 1e6
    document = json.loads((run.path / "result.json").read_text())
    assert document["verdict"]["validity"] != "valid"
    # Its last second may be in our books and not in Locust's: then one more sentence says so.
    sentences = [t["sentence"] for t in document["trust"] if t["about"] == "workers"]
    (said,) = [sentence for sentence in sentences if f"{lost['worker'][1:]} was lost" in sentence]
    others = [sentence for sentence in sentences if sentence != said]
    assert all(sentence.startswith("Locust's own statistics have") for sentence in others), others
    found = re.search(r"meanwhile ([\d.]+) of ([\d.]+) planned (users|requests/s)", said)
    assert found, said
    planned = {"run --workers": (8, "users"), "locust --processes": (60, "requests/s")}[way]
    assert (float(found[2]), found[3]) == planned
    assert 0.3 < float(found[1]) / planned[0] < 0.8
    measured = run.measurement()
    assert sum(count.due for count in measured.counts) == sum(window.count for window in measured.windows)
    seconds = Counter(int(float(row["intended_us"]) / 1e6) for row in rows if row["worker"] == lost["worker"])
    gone = len(target.of_run(run.id)) - len(rows)
    assert -8 <= gone <= 2 * max(seconds.values()), "at most the last second of the one that was killed"


STAMPED = """
    import time
    from locust import FastHttpUser, constant, task

    class Visitor(FastHttpUser):
        wait_time = constant(0.02)

        @task
        def look(self):
            self.client.get(f"/ok?at={time.clock_gettime_ns(time.CLOCK_MONOTONIC)}", name="/ok")
"""
FAST_CLOCK = """
import time
real = time.monotonic_ns
begin = real()
time.monotonic_ns = lambda: begin + (real() - begin) * 101 // 100
import locust
from surgeline.locust import distributed
distributed.common = lambda *_: ""
import runpy
runpy.run_module("surgeline.locust.launch", run_name="__main__")
"""


def test_a_clock_that_drifts_is_followed(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    A worker whose clock is a hundredth too fast, so that after some seconds it is off by most of a tenth: each request
    carries the true moment, and each row stands there to a few milliseconds; what it took is as it was.
    """
    (tmp_path / "locustfile.py").write_text(textwrap.dedent(STAMPED))
    (tmp_path / "fast.py").write_text(
        "import sys\nfrom surgeline.locust import join\n"
        f"join.COMMAND = (sys.executable, '-c', {FAST_CLOCK!r})\n"
        "from surgeline.cli import main\nmain(sys.argv[1:])\n"
    )
    port = free_port()
    hired = troupe.run([sys.executable, "fast.py", "worker", "--master", f"127.0.0.1:{port}", "--wait", "40s"])
    leader = troupe.start(*led(target, port, 1, seconds=7))
    assert leader.ended() == 0, leader.text
    assert hired.ended(40) == 0, hired.text
    run = the_run(tmp_path)
    (end,) = (event for event in events_of(run, "worker_clock") if event["moment"] == "end")
    assert end["mapped"] and end["drift_ns"] > 50e6
    zero = int(run.meta.clock["monotonic_ns"])
    rows = list(csv.DictReader((run.path / "requests.csv").read_text().splitlines()))
    off = [float(row["start_us"]) * 1e3 - (int(row["url"].partition("at=")[2]) - zero) for row in rows]
    last = sorted(off[-len(off) // 3 :])
    # Between the stamp and the request may lie a turn of somebody else on the same core: not in all of them.
    assert abs(last[len(last) // 10]) < 15e6 + end["uncertainty_ns"], "the clock itself was off by some 80 ms then"
    document = json.loads((run.path / "result.json").read_text())
    assert not any("drifted" in t["sentence"] for t in document["trust"])


LACKS_FILES = """
import locust
from surgeline.locust import cargo
cargo._same = lambda *_: None
cargo.MOST_BYTES = {most}
import runpy
runpy.run_module("surgeline.locust.launch", run_name="__main__")
"""


@pytest.mark.parametrize("most", [1 << 28, 1000])
def test_files_that_a_plan_sends_come_to_its_workers(most: int, target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    Workers that do not have the file: it is sent to them, a piece at a time, and every body is its bytes. Where it
    is more than a worker is sent, the run ends before it begins, with one sentence on both sides.
    """
    content = bytes(range(256)) * 6000
    (tmp_path / "big.bin").write_bytes(content)
    plan = """
        target: {target}
        scenarios: {{s: {{steps: [{{post: /ok, body_file: big.bin}}]}}}}
        workload: {{model: open, arrivals: uniform, stages: [{{rate: 10/s, for: 2s}}]}}
    """
    (tmp_path / "plan.yaml").write_text(textwrap.dedent(plan.format(target=target.url)))
    (tmp_path / "lacks.py").write_text(
        "import sys\nfrom surgeline.locust import join\n"
        f"join.COMMAND = (sys.executable, '-c', {LACKS_FILES.format(most=most)!r})\n"
        "from surgeline.cli import main\nmain(sys.argv[1:])\n"
    )
    port = free_port()
    joins = [sys.executable, "lacks.py", "worker", "--master", f"127.0.0.1:{port}", "--wait", "40s"]
    many = 2 if most > len(content) else 1
    hired = [troupe.run(joins) for _ in range(many)]
    waits = ["--expect-workers", f"{many}", "--master-bind-port", port]
    leader = troupe.start("run", "plan.yaml", *waits, "--ui", "none", "--no-preflight", "--no-abort")
    code = leader.ended(180)
    for one in hired:
        one.ended(40)
    if most < len(content):
        assert code == 3, leader.text
        for one in (leader, *hired):
            assert "big.bin: 1.54 MB are more than" in one.text and "Traceback" not in one.text, one.text
            assert "Unknown message" not in one.text, one.text
        assert not target.seen
        return
    assert code == 0, leader.text
    rows = list(csv.DictReader((the_run(tmp_path).path / "requests.csv").read_text().splitlines()))
    assert len(rows) == len(target.seen) == 20 and {row["outcome"] for row in rows} == {"ok"}
    assert {row["worker"] for row in rows} == {"worker-0", "worker-1"}
    assert all(seen.body == content for seen in target.seen)
