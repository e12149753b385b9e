"""The process that serves is found, started and read: real processes on this machine, for moments."""

import os
import socket
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from distributed import free_port
from surgeline import served, units
from surgeline.samples import decode_table

LISTEN = "import socket,sys,time;s=socket.socket();s.bind(('127.0.0.1',int(sys.argv[1])));s.listen();time.sleep(60)"


def _listening(port: int, log: Path) -> AbstractContextManager[served.Served]:
    return served.started(f'{sys.executable} -c "{LISTEN}" {port}', ("127.0.0.1", port), log)


def test_a_started_command_is_found_by_its_port_and_ends_with_the_block(tmp_path: Path):
    """While the block lasts the port leads to the same process; afterwards it is gone."""
    port = int(free_port())
    with _listening(port, tmp_path / "log") as started:
        (pid,) = started.pids
        found = served.by_port(port)
        assert found is not None
        assert found.pids == (pid,)
        assert str(port) in found.found
    assert served.by_port(port) is None
    with pytest.raises(served.NotServed, match=str(pid)):
        served.by_pid(pid)


def test_readings_come_once_a_second_and_are_summed_over_the_tree():
    """The first look only notes the counters; a second later there are CPU, memory, threads and descriptors."""
    meter = served.Meter(served.by_pid(os.getpid()), 0)
    assert meter.read(units.NS_PER_S) is None
    assert meter.read(units.NS_PER_S + 1) is None
    started = time.process_time()
    while time.process_time() - started < 0.1:  # ten of the ticks that the system counts CPU time in
        sum(range(1000))
    table = decode_table(meter.read(2 * units.NS_PER_S + 1) or b"")
    values = dict(zip(list(table["metric"]), table["value"].tolist(), strict=True))
    assert set(table["source"]) == {"server"}
    assert values["cpu_ratio"] > 0
    assert values["rss_bytes"] > 1e6
    assert values["threads"] >= 1
    assert values["descriptors"] >= 3
    assert values["machine_cpu_ratio"] >= 0


def test_a_process_that_goes_away_ends_its_readings(tmp_path: Path):
    """Once it is gone there is no reading, and no error."""
    port = int(free_port())
    with _listening(port, tmp_path / "log") as started:
        meter = served.Meter(started, 0)
        meter.read(units.NS_PER_S)
        assert meter.read(3 * units.NS_PER_S) is not None
    assert meter.read(5 * units.NS_PER_S) is None


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("", "needs a command"),
        ("'unclosed", "cannot be read"),
        ("/nowhere/to/be/found", "cannot be started"),
        (
            f"{sys.executable} -c \"print('no database'); raise SystemExit(3)\"",
            "code 3 before it listened: no database",
        ),
    ],
)
def test_a_command_that_does_not_serve_gets_a_sentence(command: str, sentence: str, tmp_path: Path):
    """What cannot be read, started, or ends early is said in one sentence with its last words."""
    with (
        pytest.raises(served.NotServed, match=sentence),
        served.started(command, ("127.0.0.1", int(free_port())), tmp_path / "log"),
    ):
        pass


def test_a_port_that_is_taken_is_not_served_twice(tmp_path: Path):
    """Where something listens already, nothing is started: the run would measure the other one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(served.NotServed, match="already"), _listening(port, tmp_path / "log"):
            pass
