"""What the generator cannot do is its own fault, counted as such; what it need not do costs it nothing."""

import ctypes
import json
import os
import resource
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgeline import samples
from witness import Witness

engine = pytest.importorskip("surgeline._engine", reason="the native engine is not built here")

MS = 1_000_000


class Handler(socketserver.StreamRequestHandler):
    """Answers every request with nothing, and keeps the connection."""

    def handle(self) -> None:
        """Reads heads until the client goes."""
        self.connection.settimeout(20)
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 204 x\r\n\r\n")


@pytest.fixture
def port() -> Iterator[int]:
    """Where a server listens that answers everything."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 1000

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def plan(port: int, workload: dict[str, object]) -> str:
    """One GET against the server."""
    return json.dumps(
        {
            "version": 1,
            "run_id": "r",
            "seed": 1,
            "workers": 1,
            "share": {"index": 0, "of": 1},
            "target": {
                "scheme": "http",
                "host": "127.0.0.1",
                "port": port,
                "host_header": "h",
                "addresses": ["127.0.0.1"],
                "sni": None,
                "insecure": False,
                "ca_file": None,
            },
            "headers": [],
            "timeout_ns": 5000 * MS,
            "max_redirects": 5,
            "max_in_flight": 1000,
            "grace_ns": 1000 * MS,
            "max_body_bytes": 1 << 20,
            "clock_monotonic_ns": time.monotonic_ns() + 20 * MS,
            "variables": {},
            "endpoints": ["GET /"],
            "scenarios": [{"name": "s", "weight": 1, "steps": [{"endpoint": 0, "method": "GET", "path": "/"}]}],
            "workload": workload,
        }
    )


CHILD = """
import json, resource, sys
from collections import Counter
from surgeline import _engine, samples
text = sys.stdin.read()
import numpy
used = len(__import__("os").listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
running, outcomes, books = _engine.start(text), Counter(), Counter()
while (frames := running.next(1.0)) is not None:
    for kind, payload in frames:
        if kind == 1:
            table = samples.decode_table(payload)
            outcomes.update(f"{outcome} {error}" for outcome, error in zip(table["outcome"].tolist(), table["error"]))
        if kind == 3:
            table = samples.decode_table(payload)
            books.update(due=int(table["due"].sum()), sent=int(table["sent"].sum()))
print(json.dumps([outcomes, books]))
"""


@pytest.mark.alone
def test_descriptors_that_run_out_are_the_generators_fault(port: int) -> None:
    """
    Fifty users and descriptors for about fifteen: the others' requests are not sent, by kind; those who have a
    connection go on; the books balance.
    """
    stages = [{"duration_ns": 600 * MS, "from": 50, "to": 50}]
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=plan(port, {"model": "closed", "stages": stages}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    outcomes, books = json.loads(child.stdout)
    assert set(outcomes) == {"0 ", "4 client_fds"}
    assert outcomes["0 "] > 50
    # A user without a connection waits a quarter of a second before it tries again.
    assert 30 <= outcomes["4 client_fds"] <= 50 * 4
    assert books["due"] == sum(outcomes.values())
    assert books["sent"] == outcomes["0 "]


@pytest.mark.alone
def test_an_idle_engine_sleeps(port: int) -> None:
    """Twenty arrivals per second cost next to no processor time, and each is sent within milliseconds."""
    stages = [{"duration_ns": 2000 * MS, "from": 20, "to": 20}]
    late: list[int] = []
    outcomes: Counter[str] = Counter()
    with Witness() as witness:
        begin = resource.getrusage(resource.RUSAGE_SELF)
        running = engine.start(plan(port, {"model": "open", "arrivals": "uniform", "stages": stages}))
        while (frames := running.next(5.0)) is not None:
            for kind, payload in frames:
                if kind == samples.Frame.ROWS:
                    table = samples.decode_table(payload)
                    late += (table["start_ns"] - table["intended_ns"]).tolist()
                    outcomes.update(table["error"])
        end = resource.getrusage(resource.RUSAGE_SELF)
    assert outcomes == {"": 40}
    with witness.judging():
        assert sorted(late)[30] < 5 * MS
        assert end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime < 0.4


STOPPED_CHILD = """
import json, sys
from surgeline import _engine, samples
running, rows = _engine.start(sys.stdin.read()), []
while (frames := running.next(1.0)) is not None:
    for kind, payload in frames:
        if kind == 1:
            table = samples.decode_table(payload)
            rows += zip(table["start_ns"].tolist(), table["end_ns"].tolist(), table["error"])
print(json.dumps(rows))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's receive time stamps are Linux's")
def test_a_generator_that_stood_still_does_not_blame_the_server() -> None:
    """An answer that comes while the generator is stopped for half a second has come when the kernel received it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        stages = [{"duration_ns": 1000 * MS, "from": 1, "to": 1}]
        text = plan(listener.getsockname()[1], {"model": "open", "arrivals": "uniform", "stages": stages})
        with subprocess.Popen(
            [sys.executable, "-c", STOPPED_CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin
            child.stdin.write(text)
            child.stdin.close()
            child.stdin = None
            connection, _ = listener.accept()
            with connection:
                begin = time.monotonic()
                assert connection.recv(4096).startswith(b"GET / ")
                child.send_signal(signal.SIGSTOP)
                try:
                    # Only when all of its threads stand still is the answer sent.
                    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
                    connection.sendall(b"HTTP/1.1 204 x\r\n\r\n")
                    answered = time.monotonic()
                    time.sleep(0.5)
                finally:
                    child.send_signal(signal.SIGCONT)
                told, _ = child.communicate(timeout=20)
    ((start_ns, end_ns, error),) = json.loads(told)
    assert error == ""
    # Between the request's sending and its arrival here lies the machine's doing, which is no half second.
    assert (end_ns - start_ns) / 1e9 < answered - begin + 0.25


LINUX = tuple(int(part) for part in os.uname().release.split(".")[:2]) if sys.platform == "linux" else (0, 0)


@pytest.mark.skipif(LINUX < (6, 12) or os.uname().machine != "x86_64", reason="only Linux from 6.12 on has turns")
def test_a_sending_thread_asks_for_short_turns_and_python_does_not(port: int) -> None:
    """The scheduler has a turn of 0.1 ms for the engine's thread, and its own choice for the one that started it."""

    def turn_ns(thread: int) -> int:
        """What sched_getattr says of a thread: the field at byte 24 of its attributes."""
        attributes = ctypes.create_string_buffer(56)
        assert ctypes.CDLL(None).syscall(315, thread, attributes, 56, 0) == 0
        return int.from_bytes(attributes.raw[24:32], "little")

    running = engine.start(
        plan(port, {"model": "closed", "stages": [{"duration_ns": 60_000 * MS, "from": 1, "to": 1}]})
    )
    try:
        names = {}
        while "surgeline-0" not in names:
            names = {(task / "comm").read_text().strip(): int(task.name) for task in Path("/proc/self/task").iterdir()}
        deadline = time.monotonic() + 10
        while turn_ns(names["surgeline-0"]) != 100_000 and time.monotonic() < deadline:
            running.next(0.05)
        assert turn_ns(names["surgeline-0"]) == 100_000
        assert turn_ns(threading.get_native_id()) != 100_000
    finally:
        running.stop(0.0)
        while running.next(1.0) is not None:
            pass
