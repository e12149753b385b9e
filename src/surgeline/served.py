"""Which process serves the target, and what does it cost while it is under load?

Only processes on this machine can be seen: one named by its id, one that was started for the run, or whoever listens
on the target's port. Its children are counted with it. Once a second its CPU, memory, threads and descriptors become
health readings of the source "server", with the CPU of the whole machine beside them.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from surgeline import units
from surgeline.samples import HEALTH_COLUMNS, encode_table

READ_EVERY_NS = units.NS_PER_S
LOOK_FOR_CHILDREN_EVERY_NS = 5 * units.NS_PER_S
"""Finding a process's children means reading about every process of the machine: dear beside the readings."""
STARTED_WITHIN_S = 30.0
"""How long a command of the user's may take until its port takes connections."""
STOPPED_WITHIN_S = 5.0


Place = tuple[str, int] | str
"""Where an app listens: host and port, or the path of a Unix socket."""


class NotServed(RuntimeError):
    """The process that serves could not be found or started. The message is one sentence."""


@dataclass(frozen=True, slots=True)
class Served:
    """The processes that serve: the roots of their trees, and how they were found, for the page."""

    pids: tuple[int, ...]
    found: str


def by_pid(pid: int) -> Served:
    """The process of that id. Raises NotServed where there is none."""
    if not psutil.pid_exists(pid):
        raise NotServed(f"there is no process {pid} on this machine")
    return Served((pid,), f"process {pid} ({_name(pid)})")


def by_port(port: int) -> Served | None:
    """Who listens on the port of this machine; None where nobody does that we may look at."""
    try:
        listening = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    pids = {c.pid for c in listening if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port and c.pid}
    roots = {pid for pid in pids if pid != os.getpid() and not any(parent in pids for parent in _parents(pid))}
    if not roots:
        return None
    names = ", ".join(sorted({_name(pid) for pid in roots}))
    return Served(tuple(sorted(roots)), f"whoever listens on port {port} ({names})")


def by_socket(path: str) -> Served | None:
    """Who listens on a Unix socket; None where nobody does that we may look at."""
    try:
        found = psutil.net_connections(kind="unix")
    except (psutil.Error, OSError):
        return None
    pids = {c.pid for c in found if c.laddr == path and c.pid and c.pid != os.getpid()}
    roots = {pid for pid in pids if not any(parent in pids for parent in _parents(pid))}
    if not roots:
        return None
    names = ", ".join(sorted({_name(pid) for pid in roots}))
    return Served(tuple(sorted(roots)), f"whoever listens on {path} ({names})")


def _parents(pid: int) -> list[int]:
    try:
        return [parent.pid for parent in psutil.Process(pid).parents()]
    except psutil.Error:
        return []


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return "gone"


class Meter:
    """Reads what the served processes use, once a second. Processes that come and go are followed, within seconds."""

    def __init__(self, served: Served, begin_ns: int) -> None:
        self._served = served
        self._begin_ns = begin_ns
        self._last_ns = 0
        self._known: dict[int, psutil.Process] = {}
        self._children: dict[int, list[int]] = {}
        self._looked_ns = -LOOK_FOR_CHILDREN_EVERY_NS
        self._cpu_s: dict[int, float] = {}
        self._machine = self._machine_busy_s()

    def read(self, now_ns: int) -> bytes | None:
        """A table of health readings when a second has passed since the last one, else None.

        The first call only notes where the counters stand.
        """
        if self._last_ns and now_ns - self._last_ns < READ_EVERY_NS:
            return None
        elapsed_s = (now_ns - self._last_ns) / units.NS_PER_S
        first = not self._last_ns
        self._last_ns = now_ns
        look = now_ns - self._looked_ns >= LOOK_FOR_CHILDREN_EVERY_NS
        if look:
            self._looked_ns = now_ns
        values = self._processes(elapsed_s, look)
        busy = self._machine_busy_s()
        if not values or first:
            self._machine = busy
            return None
        values["machine_cpu_ratio"] = max(busy - self._machine, 0.0) / elapsed_s
        self._machine = busy
        count = len(values)
        return encode_table(
            HEALTH_COLUMNS,
            {
                "at_ns": [now_ns - self._begin_ns] * count,
                "source": ["server"] * count,
                "worker": ["served"] * count,
                "metric": list(values),
                "value": [float(value) for value in values.values()],
            },
        )

    def _processes(self, elapsed_s: float, look: bool) -> dict[str, float]:
        alive: dict[int, psutil.Process] = {}
        for pid in self._served.pids:
            try:
                root = self._known.get(pid) or psutil.Process(pid)
                alive[pid] = root
                if look:
                    self._children[pid] = [child.pid for child in root.children(recursive=True)]
            except psutil.Error:
                continue
            for child in self._children.get(pid, ()):
                with contextlib.suppress(psutil.Error):
                    alive[child] = self._known.get(child) or psutil.Process(child)
        self._known = alive
        total = {"cpu_ratio": 0.0, "rss_bytes": 0.0, "threads": 0.0, "descriptors": 0.0, "processes": 0.0}
        spent: dict[int, float] = {}
        for pid, process in alive.items():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    spent[pid] = times.user + times.system
                    total["rss_bytes"] += process.memory_info().rss
                    total["threads"] += process.num_threads()
                    with contextlib.suppress(psutil.Error):
                        total["descriptors"] += process.num_fds()
                total["processes"] += 1
            except psutil.Error:
                continue
            total["cpu_ratio"] += max(spent[pid] - self._cpu_s.get(pid, 0.0), 0.0) / max(elapsed_s, 1e-9)
        self._cpu_s = spent
        return total if spent else {}

    @staticmethod
    def _machine_busy_s() -> float:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        # Guests are counted within user time already.
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        return float(sum(times) - idle - guests)


@contextmanager
def started(command: str, place: Place, log: Path) -> Iterator[Served]:
    """Starts the user's command, waits until its port or socket takes connections, and ends it afterwards.

    What it prints goes to `log`. Raises NotServed where it ends early or does not listen in time.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise NotServed(f"--serve {command!r} cannot be read: {error}") from error
    if not words:
        raise NotServed("--serve needs a command, as in --serve 'python app.py'")
    if _listens(place):
        raise NotServed(f"something listens on {_shown(place)} already; --serve starts the app itself")
    with log.open("wb") as file:
        process = _begin(words, file)
        try:
            _wait(process, words[0], place, log)
            yield Served((process.pid,), f"started with --serve ({Path(words[0]).name})")
        finally:
            _end(process)


def _begin(words: Sequence[str], file: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(words), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise NotServed(f"--serve: {words[0]} cannot be started: {error.strerror}") from error


def _wait(process: "subprocess.Popen[bytes]", name: str, place: Place, log: Path) -> None:
    until = time.monotonic() + STARTED_WITHIN_S
    while not _listens(place):
        if process.poll() is not None:
            last = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            said = f": {last[0][:200]}" if last else ""
            raise NotServed(f"--serve: {name} ended with code {process.returncode} before it listened{said}")
        if time.monotonic() > until:
            raise NotServed(f"--serve: nothing listens on {_shown(place)} after {STARTED_WITHIN_S:.0f} s")
        time.sleep(0.05)


def _listens(place: Place) -> bool:
    try:
        if isinstance(place, str):
            with socket.socket(socket.AF_UNIX) as made:
                made.settimeout(0.5)
                made.connect(place)
                return True
        with socket.create_connection(place, timeout=0.5):
            return True
    except OSError:
        return False


def _shown(place: Place) -> str:
    return place if isinstance(place, str) else f"{place[0]}:{place[1]}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the command and what it started: its whole process group, first politely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPED_WITHIN_S)
            return
