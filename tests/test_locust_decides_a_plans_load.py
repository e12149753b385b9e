"""A plan given to stock Locust with -f: Locust decides the load, and its statistics and our store are of one mind."""

import csv
import json
import signal
import socket
import sys
import textwrap
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distributed import Started, Troupe, events_of, free_port
from surgeline.engines.native import available
from surgeline.store.rundir import Run
from targets.faulty import Faulty

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(available() is not None, reason="the native engine is not built here"),
]

PLAN = """
    target: {target}
    scenarios:
      browse:
        weight: 3
        think_time: 20ms
        steps: [{{get: /ok}}]
      lose:
        think_time: 20ms
        steps: [{{get: /status/404}}]
    workload: {{model: closed, stages: [{{users: 900, for: 9h}}]}}
"""


@pytest.fixture
def target() -> Iterator[Faulty]:
    """A server that counts."""
    with Faulty() as faulty:
        yield faulty


@pytest.fixture
def troupe(tmp_path: Path, target: Faulty) -> Iterator[Troupe]:
    """Processes that end with the test; the plan lies in their place."""
    (tmp_path / "plan.yaml").write_text(textwrap.dedent(PLAN.format(target=target.url)))
    with Troupe(tmp_path) as found:
        yield found


def write(place: Path, name: str, text: str, **values: str) -> None:
    """Puts a file there."""
    (place / name).write_text(textwrap.dedent(text.format(**values)))


def runs(place: Path) -> list[Run]:
    """The runs there are, in the order of their beginnings."""
    found = [Run(path.parent) for path in (place / "surgeline-runs").glob("*/run.json")]
    return sorted(found, key=lambda run: int(run.meta.clock["wall_ns"]))


def rows_of(run: Run) -> list[dict[str, str]]:
    """Its requests."""
    return list(csv.DictReader((run.path / "requests.csv").read_text().splitlines()))


def counted(place: Path, prefix: str) -> dict[str, tuple[int, int]]:
    """Requests and failures by name in Locust's CSV."""
    with open(place / f"{prefix}_stats.csv") as file:
        lines = list(csv.DictReader(file))
    return {line["Name"]: (int(line["Request Count"]), int(line["Failure Count"])) for line in lines}


def of_rows(rows: list[dict[str, str]]) -> dict[str, tuple[int, int]]:
    """The same of ours; Locust knows no requests that the end cut off."""
    ended = [row for row in rows if row["outcome"] not in ("aborted", "not sent")]
    wrong = Counter(row["endpoint"].split()[1] for row in ended if row["outcome"] != "ok")
    counts = Counter(row["endpoint"].split()[1] for row in ended)
    return {name: (count, wrong[name]) for name, count in counts.items()} | {
        "Aggregated": (len(ended), sum(wrong.values()))
    }


def ask(port: str, path: str, **form: Any) -> Any:
    """What Locust's web page gets."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data, timeout=20) as answer:
        return json.loads(answer.read())


def listens(port: str) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def until(true: Callable[[], bool], one: Started, timeout_s: float = 30.0) -> None:
    """Waits for something."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert one.process.poll() is None and time.monotonic() < deadline, one.text
        time.sleep(0.1)


def users_at_work(run: Run) -> list[float]:
    """Users over all workers after each reading of the engine's health: of each worker what it last told."""
    told: dict[str, float] = {}
    found = []
    for reading in sorted(run.measurement().health, key=lambda reading: reading.at_ns):
        if reading.metric == "users":
            told[reading.worker] = reading.value
            found.append(sum(told.values()))
    return found


def test_flags_decide_and_everybody_counts_the_same(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    -u, -r, -t, --headless, --csv, --html: four users work, whatever the plan's own load is. Locust's CSV, our rows and
    the target agree to the last request; failures make Locust's own exit code.
    """
    shown = ["--csv", "out", "--html", "out.html", "--only-summary"]
    one = troupe.start("locust", "-f", "plan.yaml", "--headless", "-u", "4", "-r", "2", "-t", "4s", "-s", "2", *shown)
    assert one.ended() == 1, one.text
    (run,) = runs(tmp_path)
    rows = rows_of(run)
    assert len(rows) == len(target.of_run(run.id)) > 200
    assert counted(tmp_path, "out") == of_rows(rows)
    assert {row["user"] for row in rows} == {"0", "1", "2", "3"}
    assert max(users_at_work(run)) == 4
    assert "/status/404" in (tmp_path / "out.html").read_text()
    raw = run.meta.raw
    assert (raw["state"], raw["engine"], raw["sender"], raw["stages"]) == ("finished", "locust", "native", [])
    page = (run.path / "summary.md").read_text()
    assert "Locust decides the load, not the plan: one of its users is one virtual user of the plan" in page
    assert "forked a process" not in page


def test_the_web_page_starts_changes_and_stops(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    /swarm with three users, then with one while the test runs, then /stop and a second test: the engine follows each
    time, what the page shows are the requests, and each test is a run of its own.
    """
    port = free_port()
    one = troupe.start("locust", "-f", "plan.yaml", "--web-port", port, "--web-host", "127.0.0.1", "--tags", "browse")
    one.says("Starting web interface")
    until(lambda: listens(port), one)

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = ask(port, "/stats/requests")
        return found

    def requests() -> int:
        return int(shown()["stats"][-1]["num_requests"])

    assert ask(port, "/swarm", user_count=3, spawn_rate=3, host=target.url)["success"]
    until(lambda: requests() > 100 and shown()["user_count"] == 3, one)
    (place,) = (run.path for run in runs(tmp_path))
    until(lambda: 3 in users_at_work(Run(place)), one)
    assert ask(port, "/swarm", user_count=1, spawn_rate=3, host=target.url)["success"]
    until(lambda: shown()["user_count"] == 1, one)
    until(lambda: users_at_work(Run(place))[-1] == 1, one)
    assert ask(port, "/stop", now="yes")["success"]
    until(lambda: shown()["state"] == "stopped", one)  # Locust answers this from what it keeps for seconds
    told = shown()
    assert {entry["name"] for entry in told["stats"]} == {"/ok", "Aggregated"}, "--tags keeps the scenario of that name"
    until(lambda: "the run is in" in one.text, one)
    (first,) = runs(tmp_path)
    assert told["stats"][-1]["num_requests"] == of_rows(rows_of(first))["Aggregated"][0]
    users = users_at_work(first)
    assert max(users) == 3 and 1 in users[users.index(3) :]
    assert ask(port, "/swarm", user_count=2, spawn_rate=2, host=target.url)["success"]
    # Until the second test has its users, the page still shows what the first one counted.
    until(lambda: shown()["user_count"] == 2 and requests() > 50, one)
    one.process.send_signal(signal.SIGTERM)
    assert one.ended() in (0, 143), one.text
    assert len(runs(tmp_path)) == 2
    for run in runs(tmp_path):
        assert len(target.of_run(run.id)) == len(rows_of(run)) > 50
    assert len(target.seen) == sum(len(rows_of(run)) for run in runs(tmp_path))


SHAPE = """
    from locust import LoadTestShape

    class Steps(LoadTestShape):
        def tick(self):
            for until, requests, users in ((3, 60, 2), (6, 300, 6)):
                if self.get_run_time() < until or self.runner.stats.total.num_requests < requests:
                    return users, 10
            return None
"""


def test_a_shape_beside_the_plan_decides(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    -f plan.yaml,shape.py in two processes, --autostart and --autoquit with the web page: two users, then six, then the
    end, by itself. Every request is in Locust's CSV, in our rows and in the target's log.
    """
    write(tmp_path, "shape.py", SHAPE.replace("{", "{{").replace("}", "}}"))
    web, port = free_port(), free_port()
    shown = ["--web-port", web, "--web-host", "127.0.0.1", "--csv", "out", "--exit-code-on-error", "0", "-s", "2"]
    starts = ["--autostart", "--autoquit", "0", "--processes", "2", "--master-bind-port", port, "--master-port", port]
    one = troupe.start("locust", "-f", "plan.yaml,shape.py", *starts, *shown)
    assert one.ended() == 0, one.text
    (run,) = runs(tmp_path)
    rows, users = rows_of(run), users_at_work(run)
    assert len(rows) == len(target.of_run(run.id)) >= 300
    assert counted(tmp_path, "out") == of_rows(rows)
    assert set(users) >= {2.0, 6.0} and max(users) == 6
    begin = {user: min(float(row["start_us"]) for row in rows if row["user"] == user) for user in map(str, range(6))}
    second = sorted(begin.values())[2]
    assert sum(float(row["start_us"]) < second for row in rows) >= 60, "the third user came with the second step"
    assert {row["worker"] for row in rows} == {"worker-0", "worker-1"}
    users_of = {w: {int(row["user"]) % 2 for row in rows if row["worker"] == w} for w in ("worker-0", "worker-1")}
    assert sorted(users_of.values(), key=sorted) == [{0}, {1}], "users are numbered through, each is one worker's"


def test_a_master_and_workers_share_an_open_plan(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """
    Forty of Locust's users are forty requests a second of a plan whose requests arrive, dealt to two workers, who get
    it from their master. A row of test data that may be used once is used once.
    """
    data = "id\n" + "".join(f"{number}\n" for number in range(1000))
    (tmp_path / "ids.csv").write_text(data)
    write(
        tmp_path,
        "open.yaml",
        """
        target: {target}
        data: {{ids: {{file: ids.csv, at_end: stop}}}}
        scenarios:
          ask: {{steps: [{{get: "/ok?id={{{{ids.id}}}}", name: /ok}}]}}
        workload: {{model: open, arrivals: uniform, stages: [{{rate: 1/s, for: 1s}}]}}
        """,
        target=target.url,
    )
    port = free_port()
    load = ["-u", "40", "-r", "100", "-t", "90s", "--headless", "--csv", "out", "--expect-workers", "2", "-s", "20"]
    leader = troupe.start("locust", "-f", "open.yaml", "--master", "--master-bind-port", port, *load)
    hired = [
        troupe.start("locust", "-f", "open.yaml", "--worker", "--master-port", port),
        troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s"),
    ]
    until(lambda: len(target.seen) > 20, leader, 60)

    def full() -> list[int]:
        due: Counter[int] = Counter()
        for count in runs(tmp_path)[0].measurement().counts:
            due[count.second] += count.due
        return [second for second, count in due.items() if count >= 38]

    until(lambda: len(full()) >= 3, leader, 60)
    leader.process.send_signal(signal.SIGTERM)
    assert leader.ended() in (0, 143), leader.text
    assert [one.ended(40) for one in hired] == [0, 0], [one.text for one in hired]
    (run,) = runs(tmp_path)
    rows = rows_of(run)
    cut_off = sum(row["outcome"] == "aborted" for row in rows)  # perhaps before a byte of them was sent
    assert len(rows) - cut_off == counted(tmp_path, "out")["Aggregated"][0]
    assert len(rows) - cut_off <= len(target.of_run(run.id)) <= len(rows)
    by_second = Counter(int(float(row["intended_us"]) / 1e6) for row in rows)
    first, last = min(full()), max(by_second)  # both workers have their users; the end comes within a second
    assert all(abs(by_second[second] - 40) <= 2 for second in range(first, last)), by_second
    assert last - first >= 3 and max(by_second.values()) <= 42
    ids = [seen.path.partition("=")[2] for seen in target.of_run(run.id)]
    assert len(set(ids)) == len(ids)
    assert {row["worker"] for row in rows} == {"worker-0", "worker-1"}
    page = (run.path / "summary.md").read_text()
    assert "one of its users is one request per second" in page and "none was lost" in page


@pytest.mark.parametrize("at_end", ["wrap", "stop"])
def test_a_worker_that_comes_late_gets_its_part_of_the_load(
    at_end: str, target: Faulty, troupe: Troupe, tmp_path: Path
) -> None:
    """
    Six users of a plan on one worker, then a second one comes: Locust gives it three of them, which send there too, and
    Locust's CSV, our rows and the target agree to the last request. Where each row of test data may be used once only,
    the second sends nothing, and the run says how many users were missing for it.
    """
    (tmp_path / "ids.csv").write_text("id\n" + "".join(f"{number}\n" for number in range(90_000)))
    write(
        tmp_path,
        "late.yaml",
        """
        target: {target}
        data: {{ids: {{file: ids.csv, at_end: {at_end}}}}}
        scenarios: {{ask: {{think_time: 20ms, steps: [{{get: "/ok?id={{{{ids.id}}}}", name: /ok}}]}}}}
        """,
        target=target.url,
        at_end=at_end,
    )
    port = free_port()
    load = ["-u", "6", "-r", "6", "-t", "90s", "--headless", "--csv", "out", "--expect-workers", "1", "-s", "2"]
    leader = troupe.start("locust", "-f", "late.yaml", "--master", "--master-bind-port", port, *load)
    hired = [troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s")]
    until(lambda: len(target.seen) > 200, hired[0], 60)
    hired.append(troupe.start("worker", "--master", f"127.0.0.1:{port}", "--wait", "40s"))
    hired[1].says("takes part")
    before = len(target.seen)
    until(lambda: len(target.seen) > before + 500, hired[0], 60)
    leader.process.send_signal(signal.SIGTERM)
    assert leader.ended() in (0, 143), leader.text
    assert [one.ended(40) for one in hired] == [0, 0], [one.text for one in hired]
    (run,) = runs(tmp_path)
    rows = rows_of(run)
    cut_off = sum(row["outcome"] == "aborted" for row in rows)  # perhaps before a byte of them was sent
    assert len(rows) - cut_off == counted(tmp_path, "out")["Aggregated"][0]
    assert len(rows) - cut_off <= len(target.of_run(run.id)) <= len(rows)
    joined = {event["worker"]: event["late"] for event in events_of(run, "worker_joined")}
    assert joined == {"worker-0": False, "worker-1": True}
    users = users_at_work(run)[-8:]
    said = [t["sentence"] for t in json.loads((run.path / "result.json").read_text())["trust"]]
    of_second = {row["user"] for row in rows if row["worker"] == "worker-1"}
    if at_end == "wrap":
        assert len(of_second) == 3 and 6 in users
        assert any("Worker-1 joined" in sentence for sentence in said), said
        assert any("draws the same rows of test data" in sentence for sentence in said), said
        return
    assert not of_second and 3 in users
    (idle,) = (sentence for sentence in said if "Worker-1 sent nothing" in sentence)
    assert "all rows of test data are dealt out" in idle and "of 6 planned users" in idle
    assert json.loads((run.path / "result.json").read_text())["verdict"]["validity"] != "valid"


@pytest.mark.parametrize(("patience", "outcome"), [("20", "ok"), ("0", "aborted")])
def test_the_stop_timeout_is_for_requests_in_flight(
    patience: str, outcome: str, target: Faulty, troupe: Troupe, tmp_path: Path
) -> None:
    """With -s 20 answers that take seconds are waited for at the end; with -s 0 they are cut off."""
    write(
        tmp_path,
        "slow.yaml",
        "{{target: '{target}', scenarios: {{s: {{steps: [{{get: /ok}}, {{get: /slow/4500}}]}}}}}}",
        target=target.url,
    )
    one = troupe.start("locust", "-f", "slow.yaml", "--headless", "-u", "2", "-r", "2", "-t", "4s", "-s", patience)
    assert one.ended() == 0, one.text
    (run,) = runs(tmp_path)
    assert [row["outcome"] for row in rows_of(run)] == ["ok", "ok", outcome, outcome]
    assert len(target.of_run(run.id)) == 4


def test_rows_that_are_used_up_end_the_test(target: Faulty, troupe: Troupe, tmp_path: Path) -> None:
    """Five rows that may be used once, and no end given: five requests, then Locust ends by itself."""
    (tmp_path / "ids.csv").write_text("id\n1\n2\n3\n4\n5\n")
    write(
        tmp_path,
        "once.yaml",
        """
        target: {target}
        data: {{ids: {{file: ids.csv, at_end: stop}}}}
        scenarios: {{ask: {{steps: [{{get: "/ok?id={{{{ids.id}}}}", name: /ok}}]}}}}
        """,
        target=target.url,
    )
    one = troupe.start("locust", "-f", "once.yaml", "--headless", "-u", "2", "-r", "2")
    assert one.ended() == 0, one.text
    assert "all rows of the plan's test data are used" in one.text
    (run,) = runs(tmp_path)
    assert len(rows_of(run)) == len(target.of_run(run.id)) == 5


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["-f", "plan.yaml,users.py", "--headless"], "users of a locustfile and of a plan do not go into one test"),
        (["-f", "plan.yaml", "--headless", "--tags", "none"], "no scenario of browse, lose is left"),
        (["-f", "plan.yaml", "--headless", "-H", "http://8.8.8.8"], "add --authorized"),
        (["-f", "plan.yaml", "--headless", "-H", "no url"], "target"),
    ],
)
def test_what_cannot_be_sent_is_a_sentence(
    given: list[str], sentence: str, target: Faulty, troupe: Troupe, tmp_path: Path
) -> None:
    """Exit code 2, no traceback, no request, and no run that looks as if it went on."""
    write(tmp_path, "users.py", "from locust import User, task\nclass Other(User):\n    @task\n    def t(self): pass\n")
    one = troupe.start("locust", *given)
    assert one.ended() == 2, one.text
    assert sentence in one.text and "Traceback" not in one.text
    assert not target.seen
    assert all(run.meta.state == "failed" for run in runs(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_command_that_is_killed_takes_its_locust_along(target: Faulty, troupe: Troupe) -> None:
    """SIGKILL to `surgeline locust`: Locust ends its test, closes the run, and the target hears no more."""
    port = free_port()
    load = ["--headless", "-u", "2", "-r", "2", "--processes", "1", "--master-bind-port", port, "--master-port", port]
    one = troupe.start("locust", "-f", "plan.yaml", *load)
    until(lambda: len(target.seen) > 10, one)
    family = one.locusts()
    assert len(family) >= 2
    one.process.kill()
    _, left = psutil.wait_procs(family, timeout=60)  # the run is closed and judged meanwhile
    assert not left
    heard = len(target.seen)
    time.sleep(0.5)
    assert len(target.seen) == heard
