"""One master, workers on other machines: network namespaces, joined by a bridge, one with a clock of its own.

Linux lets root make them. Where it does not, or `ip` and `unshare` are missing, the tests are skipped and say so.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distributed import Network, Troupe, events_of, the_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SKEW_S = 1000
"""By so much the clock of one worker is ahead of everybody else's."""
SKEWED = ["unshare", "-T", "--monotonic", str(SKEW_S), "--fork", "--kill-child"]

SCRIPT = """
    from locust import FastHttpUser, constant, task

    class Visitor(FastHttpUser):
        wait_time = constant(0.02)

        @task
        def look(self):
            self.client.get("/ok")
"""

SERVER = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from targets.faulty import Faulty
    with Faulty(host=sys.argv[2]) as server:
        print(server.url, flush=True)
        sys.stdin.read()
        server.settle()
        print(len(server.seen), flush=True)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of this test's own."""
    name = f"sg{os.getpid()}x"
    try:
        with Network(name) as made:
            yield made
    except FileNotFoundError:
        pytest.skip("there is no `ip` here; Debian has it in iproute2")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.decode(errors='replace').strip()}")


@contextmanager
def serving(network: Network) -> Iterator[tuple[str, list[int]]]:
    """A server on a machine of its own: its URL, and, at the end, how many requests it has read."""
    address, inside = network.machine()
    place = str(Path(__file__).parent)
    server = subprocess.Popen(
        [*inside, sys.executable, "-c", textwrap.dedent(SERVER), place, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None and server.stdout is not None
    seen: list[int] = []
    try:
        yield server.stdout.readline().strip(), seen
        server.stdin.close()
        seen.append(int(server.stdout.readline()))
    finally:
        server.kill()
        server.wait(10)
        server.stdin.close()
        server.stdout.close()


def skewed_clocks_are_permitted() -> bool:
    """Whether a process may have a monotonic clock of its own here."""
    try:
        return subprocess.run([*SKEWED, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_a_run_outlives_a_worker_gains_another_and_knows_their_clocks(network: Network, tmp_path: Path) -> None:
    """
    Three workers are started while there is no master; the clock of one is 1000 s ahead. The master comes, all begin;
    one is killed, a fourth, whose cable was out until then, joins. The run is stopped and has every figure that was
    told and every row of who lived, on one clock. It says when who was missing, what was planned then and what there
    was, and how many rows are gone.
    """
    if not skewed_clocks_are_permitted():
        pytest.skip("a clock of one's own (a time namespace) is not permitted here, or `unshare` cannot make one")
    (tmp_path / "locustfile.py").write_text(textwrap.dedent(SCRIPT))
    place, master = network.first
    others = [network.machine()[1] for _ in range(4)]
    with Troupe(tmp_path) as troupe, serving(network) as (url, seen):
        asked = ["worker", "--master", place, "--wait", "90s"]
        steady = troupe.start(*asked, inside=others[0])
        skewed = troupe.start(*asked, inside=[*others[1], *SKEWED])
        doomed = troupe.start(*asked, inside=others[2])
        network.plug(others[3], "down")
        late = troupe.start(*asked, inside=others[3])
        for one in (steady, skewed, doomed, late):
            one.says(f"no master at {place} port 5557 yet")
        load = ["--target", url, "-u", "6", "-t", "100s", "--expect-workers", "3", "--master-bind-host", place]
        shown = ["--ui", "none", "--no-preflight", "--no-abort"]
        leader = troupe.start("run", "locustfile.py", *load, *shown, "--", "--csv", "locusts", inside=master)
        for one in (steady, skewed, doomed):
            one.says("takes part")
        time.sleep(3)
        (victim,) = doomed.locusts()
        victim.send_signal(signal.SIGKILL)
        assert doomed.ended(60) == 2 and "SIGKILL" in doomed.text
        network.plug(others[3], "up")
        late.says("takes part")
        time.sleep(2)
        leader.process.send_signal(signal.SIGINT)
        assert leader.ended(90) == 0, leader.text
        for one in (steady, skewed, late):
            assert one.ended(40) == 0 and "the run is over" in one.text, one.text
    run = the_run(tmp_path)
    joined = {event["worker"]: event for event in events_of(run, "worker_joined")}
    assert sorted(event["late"] for event in joined.values()) == [False, False, False, True]

    # who was lost, and what of it
    (lost,) = events_of(run, "worker_lost")
    assert lost["why"] == "it was not heard of any more"
    gone = lost["worker"]
    missing = {event["worker"]: event["missing"] for event in events_of(run, "worker_rows")}
    assert [worker for worker, count in missing.items() if count] == [gone]
    measured = run.measurement()
    due = sum(count.due for count in measured.counts)
    assert sum(window.count for window in measured.windows) == due
    assert measured.rows_dropped == missing[gone] and measured.rows + missing[gone] == due

    # whose clock was off
    clocks = {event["worker"]: event for event in events_of(run, "worker_clock") if event["moment"] == "begin"}
    (ahead,) = (worker for worker, event in clocks.items() if event["offset_ns"])
    assert abs(clocks[ahead]["offset_ns"] - SKEW_S * 10**9) <= clocks[ahead]["uncertainty_ns"] + 10**6
    rows = list(csv.DictReader((run.path / "requests.csv").read_text().splitlines()))
    begins = {w: min(float(row["start_us"]) for row in rows if row["worker"] == w) for w in clocks if w != gone}
    ends = {w: max(float(row["start_us"]) for row in rows if row["worker"] == w) for w in begins}
    early = [w for w in begins if not joined[w]["late"]]
    assert abs(begins[early[0]] - begins[early[1]]) < 3e6 and abs(ends[early[0]] - ends[early[1]]) < 3e6

    # Locust's own books, ours, the server's
    with open(tmp_path / "locusts_stats.csv") as file:
        (locusts,) = (int(line["Request Count"]) for line in csv.DictReader(file) if line["Name"] == "/ok")
    assert locusts == due
    assert due <= seen[0] <= due + 2 * 3 * 50, "more than the two users of the lost worker can have sent in 3 s"

    # what is said
    document = json.loads((run.path / "result.json").read_text())
    assert document["verdict"]["validity"] != "valid"
    said = [line["sentence"] for line in document["trust"] if line["about"] == "workers"]
    assert any(f"{gone[1:]} was lost" in line and "planned users" in line for line in said), said
    assert any(f"{missing[gone]:,} row" in line and "requests.csv" in line for line in said), said
    assert any("joined" in line and "into the run" in line for line in said), said
    page = (run.path / "summary.md").read_text()
    assert "was lost" in page and "planned users" in page
