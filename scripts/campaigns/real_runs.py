"""Real runs for campaigns: servers that listen, generators that are short of something, and rounds that can be resumed.

A campaign names its pieces and how each is made; `carry_on` makes those that its file does not hold yet of this build,
until the time is over, and `command` is the command line of all such campaigns, whose page is of one build alone:

    python -m scripts.campaigns.NAME DIRECTORY               makes what is missing; again goes on
    python -m scripts.campaigns.NAME DIRECTORY --minutes 8   stops after that time
    python -m scripts.campaigns.NAME DIRECTORY --page        only the page, of what is there
"""

import argparse
import functools
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import surgeline as surgeline_package

ERROR_RATES = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates"
MOST_S = 330.0
HELD_CORE, FREE_CORE = "0", "1"
"""The core that a hog holds, and the one that everything else of such a run keeps to."""

# --- servers ---------------------------------------------------------------------------------------------------------

NGINX = """daemon off; worker_processes 1; pid {place}/pid; error_log {place}/errors;
worker_rlimit_nofile 30000;
events {{ worker_connections 20000; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;
  uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'ok'; }} }}
}}
"""


@contextmanager
def served(*words: str) -> Iterator[int]:
    """A server, and its port: `nginx`, on the free core, or one of the small servers by its command line."""
    if words[0] == "nginx":
        with _nginx() as port:
            yield port
        return
    command = [sys.executable, "-m", "scripts.campaigns.small_servers", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@contextmanager
def _nginx() -> Iterator[int]:
    """An nginx of one process that answers at once. Raises FileNotFoundError where none is installed."""
    place = Path(tempfile.mkdtemp(prefix="surgeline-nginx-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    (place / "nginx.conf").write_text(NGINX.format(place=place, port=port))
    process = subprocess.Popen(
        ["taskset", "-c", FREE_CORE, "nginx", "-c", str(place / "nginx.conf")], stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 10.0
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


# --- generators ------------------------------------------------------------------------------------------------------

HOG = "import os, time\nos.nice(-10)\nend = time.monotonic() + 600\nwhile time.monotonic() < end: pass"
"""Against a process of ordinary priority it gets nine tenths of the core that both are on."""


@contextmanager
def hampered(how: str) -> Iterator[tuple[str, ...]]:
    """What a generator is started with, so that it is short of CPU or descriptors: "hog", "slow", "descriptors", ""."""
    if how == "hog":
        hog = subprocess.Popen(["taskset", "-c", HELD_CORE, sys.executable, "-c", HOG])
        try:
            yield ("taskset", "-c", HELD_CORE)
        finally:
            hog.kill()
            hog.wait()
    elif how == "slow":
        with slow_core(0.1) as group:
            yield ("taskset", "-c", FREE_CORE, "sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    elif how == "descriptors":
        yield ("taskset", "-c", FREE_CORE, "sh", "-c", 'ulimit -n 230; exec "$@"', "sh")
    else:
        yield ()


@contextmanager
def slow_core(share: float) -> Iterator[Path]:
    """A control group whose processes get that share of one core. Raises OSError where none may be made."""
    old, new = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    group = (old if (old / "cpu.cfs_quota_us").exists() else new) / f"surgeline-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text("20000")
            (group / "cpu.cfs_quota_us").write_text(str(round(20_000 * share)))
        else:
            (group / "cpu.max").write_text(f"{round(20_000 * share)} 20000")
        yield group
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def surgeline(before: Sequence[str], *words: str) -> dict[str, Any]:
    """The result document of one run of the command line. Its directory is not kept.

    `begun_ns` is added to it: when its load began, by CLOCK_MONOTONIC. Raises RuntimeError with what was said where
    there is no document, and TimeoutExpired: a campaign ends there, and goes on with that piece when made again.
    """
    place = tempfile.mkdtemp(prefix="surgeline-campaign-")
    try:
        command = [*before, sys.executable, "-m", "surgeline", *words, "--json", "--ui", "none", "--out", place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_S, check=False)
        if not done.stdout.startswith("{"):
            raise RuntimeError(
                f"surgeline {words[0]} ended in {done.returncode} without a document: {done.stderr[-500:]}"
            )
        (described,) = Path(place).glob("*/run.json")
        begun_ns = json.loads(described.read_text("utf-8"))["clock"]["monotonic_ns"]
        return {**json.loads(done.stdout), "begun_ns": begun_ns}
    finally:
        shutil.rmtree(place, ignore_errors=True)


class BareTimer:
    """How late the machine lets a timer be that does nothing else, in the same seconds as a run and at its priority.

    What it shows is no fault of a generator: any process on this machine would have been as late.
    """

    EVERY_NS = 5_000_000
    LATE_NS = 500_000
    """What is less than this late is not kept."""

    def __init__(self) -> None:
        self._late: list[tuple[int, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "BareTimer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        due = time.monotonic_ns()
        while not self._over.is_set():
            due += self.EVERY_NS
            time.sleep(max(due - time.monotonic_ns(), 0) / 1e9)
            late = time.monotonic_ns() - due
            if late > self.LATE_NS:
                self._late.append((due, late))

    def p95_ms(self, begin_ns: int, end_ns: int) -> float:
        """How late it was at p95 between two moments, in ms; 0 for less than half a millisecond."""
        ticks = max((end_ns - begin_ns) // self.EVERY_NS, 1)
        late = sorted((ns for at, ns in self._late if begin_ns <= at < end_ns), reverse=True)
        place = int(0.05 * ticks)
        return round(late[place] / 1e6, 1) if place < len(late) else 0.0


# --- rounds ----------------------------------------------------------------------------------------------------------

Result = dict[str, Any]
"""What is kept of one piece, a line of JSON: at least the names of its key."""


@dataclass(frozen=True)
class Piece:
    """One run of a campaign. `key` tells it from the others; `lane` says beside which it may go, `most_s` how long it
    takes: it is not begun where that would be beyond the time that is left.
    """

    key: Mapping[str, str | int]
    lane: str
    most_s: float
    make: Callable[[], Result]


def carry_on(results: Path, pieces: Sequence[Piece], phases: Sequence[Mapping[str, int]], minutes: float) -> None:
    """Makes the pieces that are missing, until the time is over.

    Phases go one after the other; in one, each lane makes so many of its pieces at a time, all lanes at once. The
    machine's load average is kept with each, and the precedence that the campaign had over other work on it.
    """
    until = time.monotonic() + 60.0 * minutes
    done = {_key(one, pieces[0].key) for one in kept(results) if one.get("build") == build()} if pieces else set()
    writing = threading.Lock()

    def make(piece: Piece) -> None:
        if time.monotonic() + piece.most_s > until:
            return
        began = time.monotonic()
        found = piece.make()
        now = {"at": round(time.time()), "seconds": round(time.monotonic() - began, 1), "build": build()}
        line = json.dumps({**piece.key, **found, **now, "load": round(os.getloadavg()[0], 1), "nice": precedence()})
        with writing, results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            print(line, flush=True)

    for phase in phases:
        pools = [
            (ThreadPoolExecutor(width), [p for p in pieces if p.lane == lane and _key(p.key, p.key) not in done])
            for lane, width in phase.items()
        ]
        running = [pool.submit(make, piece) for pool, wanted in pools for piece in wanted]
        for one in running:
            one.result()
        for pool, _ in pools:
            pool.shutdown()


def _key(held: Mapping[str, Any], names: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(held[name] for name in names)


def precedence() -> int | None:
    """The nice value of the scheduler's group that this session is in; below 0 it goes before other sessions."""
    try:
        return int(Path("/proc/self/autogroup").read_text().split()[-1])
    except (OSError, ValueError, IndexError):
        return None


@functools.cache
def build() -> str:
    """A short name for what is measured: every module of the package, the engine's among them, and the servers."""
    package, whole = Path(surgeline_package.__file__).parent, hashlib.sha256()
    modules = [path for path in package.rglob("*") if path.suffix in (".py", ".so", ".json", ".toml")]
    for path in [*sorted(modules), Path(__file__).with_name("small_servers.py")]:
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()[:10]


def kept(results: Path) -> list[Result]:
    """What is there already, of every build."""
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []


def of_one_build(found: Sequence[Result]) -> list[Result]:
    """What the newest build in a file made: figures of several would belong to none."""
    newest = max(found, key=lambda one: one["at"], default=None)
    return [one for one in found if newest is not None and one.get("build") == newest.get("build")]


def meanwhile(found: Sequence[Result]) -> str:
    """What else went on on the machine, for a page; empty where that was not kept."""
    loads = sorted(one["load"] for one in found if one.get("load") is not None)
    if not loads:
        return ""
    first = all(went_first(one) for one in found)
    after = "; the campaign's processes went before whatever else ran" if first else ""
    of = f"All of one build (`{found[0]['build']}`). " if found[0].get("build") else ""
    return f"{of}Load average of the machine meanwhile: {loads[0]:g} to {loads[-1]:g}{after}."


def went_first(one: Result) -> bool:
    """Whether a piece went before other work on the machine; what ran among it was disturbed by it."""
    return (one.get("nice") or 0) < 0


def command(
    about: str | None, page: Path, campaign: Callable[[Path, float], None], text: Callable[[Sequence[Result]], str]
) -> None:
    """The command line of a campaign: goes on with it, or only writes its page."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after this time")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    results = given.directory / f"{page.stem}.jsonl"
    if not given.page:
        campaign(results, given.minutes)
    page.write_text(text(of_one_build(kept(results))), "utf-8")
