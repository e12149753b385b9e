"""The Locust engine's outer half: stock Locust in a child process, watched so that nothing survives.

Scripts run as Locust runs them, with its own arguments; plans run in `locust/lane.py`, hosted in stock Locust users.
The child writes into the run's journal by itself. What passes between the two processes are *orders* (lines of JSON in
a file without a name: what to run, then what to do) and *reports* (lines of JSON through a pipe: started, quit).
Between them stands `warden.py`, which ends Locust and all it forked when either of the two is gone. Locust is never
imported here.
"""

import contextlib
import errno
import importlib.util
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from typing_extensions import override

from surgeline import units
from surgeline.engines import (
    Ending,
    Engine,
    EngineError,
    Remote,
    Running,
    Script,
    Settings,
    Sink,
    Subject,
    Unsupported,
)
from surgeline.engines.native import available, compile_plan, per_iteration_of
from surgeline.plan.model import MOST_BODY_BYTES, Plan
from surgeline.workload import Stage

OLDEST = (2, 43)
"""Locust below this is refused; the plugin reads what 2.43 to 2.47 have in common."""
UNKNOWN = (3, 0)
"""Locust from this on is refused: the plugin leans on what Locust is inside, which a major version may change."""
START_S = 120.0
"""How long a locustfile may take to be imported before it counts as hanging: some fetch test data first."""
PATIENCE_S = 5.0
"""How long Locust is waited for after it was asked to end, beyond the grace it was given."""
SILENT_S = 3.0
"""After so long without a word in the journal, which gets one each second, Locust is asked who stands still."""
WITHOUT_TARGET = "sent no request: it names no target; add --target http://127.0.0.1:PORT, or `host` to its user class"
GAVE_UP = "Gave up waiting for workers to connect"
"""Locust's own words."""
LOG_FILE = "locust.log"
LOG_BYTES = 1 << 20
"""Of what Locust prints, this much is kept, and the last part of the rest."""
_TAIL_BYTES = 64 << 10

_WARDEN = Path(__file__).with_name("warden.py")
_LANE = Path(__file__).parent.parent / "locust" / "surgeline_lane.py"
_PORTS_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Where Linux says from which port on it gives ports to those who ask for any."""
_LOWEST_PORT = 20_000
"""Well-known servers are below."""
_ORDERS, _REPORT = "SURGELINE_LOCUST_ORDERS", "SURGELINE_LOCUST_REPORT"
_MASTER_FLAGS = ("--master-bind-host", "--master-bind-port", "--master-host", "--master-port", "--worker", "--master")


class LocustEngine(Engine):
    """Runs locustfiles unchanged, and plans."""

    name = "locust"

    def __init__(self, *, native: bool | None = None) -> None:
        """`native`: whether the native engine sends a plan's requests inside Locust; None where it is built."""
        self._native = available() is None if native is None else native

    @override
    def refusal(self, subject: Subject, settings: Settings) -> str | None:
        missing = absent()
        if missing is not None:
            return missing
        if os.name != "posix":
            return "the locust engine needs a POSIX system; Linux, macOS and WSL are"
        if isinstance(subject, Script):
            if settings.workload is not None:
                return "a locustfile decides its own load; use -u, --spawn-rate and -t, or a LoadTestShape"
            return None
        return _plan_refusal(subject, self._native)

    @override
    def sender(self, subject: Subject) -> str:
        return "native" if self._native and isinstance(subject, Plan) else self.name

    @override
    def start(self, subject: Subject, settings: Settings, sink: Sink) -> "LocustRunning":
        refusal = self.refusal(subject, settings)
        if refusal is not None:
            raise Unsupported(refusal)
        remote = settings.remote
        if remote is not None:
            _can_listen(remote)
        if isinstance(subject, Script):
            if not subject.path.is_file():
                raise EngineError(f"there is no locustfile at {subject.path}")
            arguments = _script_arguments(subject, settings)
            return LocustRunning(_orders(settings, sink), arguments, sink.directory.parent, subject.path, remote)
        orders = _orders(settings, sink) | {"native": self._native}
        orders["per_iteration"] = per_iteration_of(subject, settings)
        orders |= {"plan": subject.model_dump(mode="json", by_alias=True), "compiled": compile_plan(subject, settings)}
        return LocustRunning(orders, _plan_arguments(subject, settings), sink.directory.parent, None, remote)


def absent() -> str | None:
    """Why Locust cannot be used here, and what helps; None where it can."""
    try:
        version = metadata.version("locust")
    except metadata.PackageNotFoundError:
        return "Locust is not installed; `pip install locust` installs it"
    if importlib.util.find_spec("locust") is None:
        return "Locust is not installed; `pip install locust` installs it"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return f"Locust {version} is too old; {'.'.join(map(str, OLDEST))} or newer is needed"
    if numbers >= UNKNOWN:
        return f"Locust {version} is newer than what Surgeline knows; `pip install 'locust<{UNKNOWN[0]}'` is what helps"
    return None


def _plan_refusal(plan: Plan, native: bool) -> str | None:
    """The stated subset: steps to the plan's own origin, all models.

    Without the native engine: over HTTP/1.1, straight to the target, and nothing that is done once, again, at a pace of
    its own, or timed together.
    """
    for name, scenario in () if native else plan.scenarios.items():
        absent = [word for word, part in (("once", scenario.once), ("pacing", scenario.pacing)) if part]
        absent += [
            word
            for word in ("retry", "transaction", "multipart", "body_file", "events", "websocket")
            if any(getattr(step, word) is not None for step in (*scenario.once, *scenario.steps))
        ]
        if absent:
            return f"`{absent[0]}` in scenario {name} is done by the native engine only, which is not built here"
    for key in () if native else ("connection", "tls"):
        used = getattr(plan, key).model_dump(exclude_defaults=True)
        if used:
            return f"`{key}.{next(iter(used))}` is done by the native engine only, which is not built here"
    if not native and plan.max_body > MOST_BODY_BYTES:
        return "`max_body` above 64MiB is done by the native engine only, which is not built here"
    origin = urlsplit(plan.target)[:2]
    for _, step in plan.steps():
        if step.path.startswith(("http://", "https://")) and urlsplit(step.path)[:2] != origin:
            return f"{step.endpoint} goes to another origin than {plan.target}; give that one a plan of its own"
    return None


def _orders(settings: Settings, sink: Sink) -> dict[str, Any]:
    return {
        "run_id": settings.run_id,
        "journal": str(sink.directory.resolve()),
        "monotonic_ns": settings.monotonic_ns,
        "user_agent": settings.user_agent,
        "headers": [list(pair) for pair in settings.headers],
        "plan": None,
        "compiled": None,
        "workers": settings.workers,
        "native": False,
    }


def _script_arguments(script: Script, settings: Settings) -> list[str]:
    """Locust's arguments for a script: the user's own, and what a run without a screen needs where they say nothing."""
    given = list(script.arguments)
    added = ["-f", str(script.path), "--headless"]
    if not _has(given, "-s", "--stop-timeout"):
        added += ["--stop-timeout", f"{max(settings.grace_ns // units.NS_PER_S, 1)}"]
    if not _has(given, "--only-summary", "--print-stats"):
        added.append("--only-summary")
    if settings.remote is not None:
        return [*added, *_master(settings.remote), *given]
    if settings.workers > 1 and not _has(given, "--processes"):
        added += ["--processes", str(settings.workers)]
    if (settings.workers > 1 or _has(given, "--processes")) and not _has(given, *_MASTER_FLAGS):
        added += _own_port()
    return [*added, *given]


def _plan_arguments(plan: Plan, settings: Settings) -> list[str]:
    grace_s = max(min(settings.grace_ns, plan.timeout) // units.NS_PER_S, 1)
    arguments = ["-f", str(_LANE), "--headless", "--only-summary", "--host", plan.target]
    arguments += ["--stop-timeout", str(grace_s + 1), "--exit-code-on-error", "0"]
    if settings.remote is not None:
        arguments += _master(settings.remote)
    elif settings.workers > 1:
        arguments += ["--processes", str(settings.workers), "--expect-workers", str(settings.workers), *_own_port()]
    return arguments


def _has(arguments: Sequence[str], *flags: str) -> bool:
    """Whether one of the flags is among the arguments, as `--flag`, `--flag=value`, or `-fvalue`."""
    return any(
        argument == flag
        or argument.startswith(flag + "=")
        or (len(flag) == 2 and argument.startswith(flag) and not argument.startswith("--"))
        for argument in arguments
        for flag in flags
    )


def _master(remote: Remote) -> list[str]:
    """Locust as the master of workers that others start."""
    waits = ["--expect-workers", str(remote.workers), "--expect-workers-max-wait", str(remote.wait_s)]
    return ["--master", *waits, "--master-bind-host", remote.host, "--master-bind-port", str(remote.port)]


def _can_listen(remote: Remote) -> None:
    """Raises EngineError where nobody can listen at that place: Locust would say so with a traceback."""
    host = "" if remote.host == "*" else remote.host
    try:
        family = socket.getaddrinfo(host or None, remote.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, remote.port))
    except OSError as error:
        why = {
            errno.EADDRINUSE: "something else listens there; name another with --master-bind-port",
            errno.EADDRNOTAVAIL: "this machine has no such address; `*` stands for all it has",
        }.get(error.errno or 0, error.strerror or str(error))
        raise EngineError(f"workers cannot be listened for on {remote.place}: {why}") from error


def _own_port() -> list[str]:
    """
    Master and workers meet on loopback, on a port that is free now: out of reach, and runs do not collide. Locust takes
    a second or more until it listens there, so the port is none that the system gives whoever asks for any.
    """
    host = "127.0.0.1"
    try:
        given_from = int(_PORTS_GIVEN.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        given_from = 32768
    tried = [_LOWEST_PORT + secrets.randbelow(max(given_from - _LOWEST_PORT, 1)) for _ in range(50)]
    port = ""
    for wanted in (*tried, 0):  # 0 is any, where fifty are taken
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, wanted))
            port = str(probe.getsockname()[1])
            break
    return ["--master-bind-host", host, "--master-bind-port", port, "--master-host", host, "--master-port", port]


class LocustRunning(Running):
    """Locust at work. The constructor returns when its test has begun, and raises EngineError when it never will."""

    def __init__(
        self,
        orders: dict[str, Any],
        arguments: Sequence[str],
        place: Path,
        script: Path | None,
        remote: Remote | None = None,
    ) -> None:
        self._script = script
        self._remote = remote
        self._per_iteration = float(orders.pop("per_iteration", 1.0))
        self._plan = orders["plan"] is not None
        self._lock = threading.Lock()
        self._stop_asked = False
        self._stop_by_s = self._begun_s = 0.0
        self._over = threading.Event()
        self._begun = threading.Event()
        self._ending = Ending("failed", "Locust has not ended")
        self._journal = Path(orders["journal"])
        self._began_ns = int(orders["monotonic_ns"])
        self._heard: dict[str, tuple[int, float]] = {}
        """By segment: its size, and when that was last seen to change."""
        self._still: dict[str, dict[str, Any]] = {}
        """What each process told that stands still now, by worker."""
        self._given_up = ""
        self._reports: dict[str, dict[str, Any]] = {}
        self._log = _Log(place / LOG_FILE)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # both processes keep it open until the end
        self._order(orders)
        leash, self._leash = os.pipe()
        report, pipe = os.pipe()
        passed = (leash, pipe, self._file.fileno())
        environment = {
            **self._environment(place),
            **{_ORDERS: str(self._file.fileno()), _REPORT: str(pipe), "PYTHONUNBUFFERED": "1"},
        }
        warden = [sys.executable, "-I", "-S", str(_WARDEN), str(leash), str(PATIENCE_S)]
        try:
            self._process = subprocess.Popen(
                [*warden, sys.executable, "-P", "-m", "surgeline.locust.launch", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=passed,
                env=environment,
                cwd=place if self._plan else None,
                start_new_session=True,
            )
        except OSError as error:
            for descriptor in (leash, pipe, report, self._leash):
                os.close(descriptor)
            raise EngineError(f"Locust cannot be started: {error}") from error
        os.close(leash)
        os.close(pipe)
        self._threads = [
            threading.Thread(target=self._keep_log, name="surgeline-locust-log", daemon=True),
            threading.Thread(target=self._hear, args=(report,), name="surgeline-locust-report", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._await_end, name="surgeline-locust-end", daemon=True).start()
        if not self._plan:
            threading.Thread(target=self._guard, name="surgeline-locust-guard", daemon=True).start()
        try:
            self._await_start()
        except BaseException:
            self._end_now()
            raise

    def _environment(self, place: Path) -> dict[str, str]:
        """Ours; for a plan without what would configure Locust: its settings are then the plan's and nobody else's."""
        if not self._plan:
            return dict(os.environ)
        own = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
        return own | {"HOME": str(place)}

    # --- what the seam asks for --------------------------------------------------------------------------------------

    @override
    def wait(self, timeout_s: float) -> Ending | None:
        return self._ending if self._over.wait(None if timeout_s == float("inf") else timeout_s) else None

    @override
    def stop(self, grace_s: float) -> None:
        with self._lock:
            if self._stop_asked or self._over.is_set():
                return
            self._stop_by_s = time.monotonic() + grace_s
            self._stop_asked = True
        self._order({"do": "stop", "grace_s": grace_s})
        threading.Thread(target=self._insist, args=(grace_s,), name="surgeline-locust-stop", daemon=True).start()

    @override
    def pause(self) -> None:
        self._control({"do": "pause"})

    @override
    def resume(self) -> None:
        self._control({"do": "resume"})

    @override
    def scale(self, factor: float) -> None:
        self._control({"do": "scale", "factor": factor})

    @override
    def next_stage(self, only: int | None = None) -> None:
        self._control({"do": "next_stage", "only": only})

    @override
    def append_stage(self, stage: Stage) -> None:
        self._control(
            {
                "do": "append_stage",
                "stage": {
                    "name": stage.name,
                    "duration_ns": stage.duration_ns,
                    "start": stage.start / self._per_iteration,
                    "end": stage.end / self._per_iteration,
                },
            }
        )

    def _control(self, order: dict[str, Any]) -> None:
        if not self._plan:
            raise Unsupported("a locustfile decides its own load; only a plan's can be changed while it runs")
        self._order(order)

    def _order(self, order: dict[str, Any]) -> None:
        with self._lock:
            if not self._file.closed:
                os.write(self._file.fileno(), json.dumps(order).encode() + b"\n")

    # --- the child ---------------------------------------------------------------------------------------------------

    def _await_start(self) -> None:
        deadline = time.monotonic() + START_S + (self._remote.wait_s if self._remote is not None else 0)
        while not self._begun.wait(0.05):
            if self._over.is_set():
                raise EngineError(self._ending.detail)
            if time.monotonic() >= deadline:
                seconds = f"{START_S:.0f} s"
                raise EngineError(f"{self._subject()} has been loading for {seconds} and Locust has not begun its test")

    def _await_end(self) -> None:
        """Until the child and all it started are gone, and all it said has been read."""
        code = self._process.wait()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._log.close()
        quit_report = self._reports.get("quit")
        locust_code = quit_report.get("exit_code") if quit_report else None
        exit_code = locust_code if isinstance(locust_code, int) else code
        if quit_report is not None:
            nothing = quit_report.get("recorded") == 0
            complaint = self._log.last_error() if nothing and not self._stop_asked else None
            if quit_report.get("fault"):
                self._ending = Ending("failed", str(quit_report["fault"])[:500], exit_code)
            elif complaint is not None and "specify the base host" in complaint:
                self._ending = Ending("failed", f"{self._subject()} {WITHOUT_TARGET}", exit_code)
            elif complaint is not None:
                self._ending = Ending("failed", f"{self._subject()} sent no request: {complaint}", exit_code)
            else:
                self._ending = Ending("stopped" if self._stop_asked else "finished", "", exit_code)
        elif self._given_up:
            self._ending = Ending("failed", self._given_up, exit_code)
        elif self._stop_asked:
            self._ending = Ending("stopped", "Locust was killed: it did not end when it was asked to", exit_code)
        else:
            self._ending = Ending("failed", self._why(code), exit_code)
        with self._lock:
            os.close(self._leash)
            self._leash = -1
            self._file.close()
        self._over.set()

    def _hear(self, report: int) -> None:
        with os.fdopen(report, "rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError):
                    told = json.loads(line)
                    self._reports[told["state"]] = told
                    match told["state"]:
                        case "started":
                            self._begun_s = time.monotonic()
                            self._begun.set()
                        case "stands_still":
                            self._still[str(told["worker"])] = told
                        case "goes_on":
                            self._still.pop(str(told["worker"]), None)

    def _guard(self) -> None:
        """Sees to it that a locustfile which keeps Locust's loop to itself ends when it should.

        Such a process hears nothing: neither the end of its time nor SIGTERM, which Locust handles in its loop.
        """
        self._begun.wait()
        while not self._over.wait(min(PATIENCE_S, 0.5)):
            silent_s = self._silent_s()
            if silent_s < SILENT_S and not self._still:
                continue
            self._tug(b"U")
            if not self._should_have_ended():
                continue
            self._over.wait(0.5)  # what was asked comes back, and what was measured is written
            leads = next((told for worker, told in self._still.items() if worker in ("main", "master")), None)
            if leads is not None:
                self._given_up = self._stood_still(int(leads["since_ns"]), str(leads["where"]))
            elif silent_s >= SILENT_S + PATIENCE_S:
                self._given_up = self._stood_still(time.monotonic_ns() - self._began_ns - round(silent_s * 1e9), "")
            if self._given_up:
                self._tug(b"K")
                return

    def _silent_s(self) -> float:
        """For how long no process of this run has written anything."""
        now = time.monotonic()
        with contextlib.suppress(OSError):
            for path in self._journal.glob("locust-*.seg"):
                size = path.stat().st_size
                if self._heard.get(path.name, (-1, 0.0))[0] != size:
                    self._heard[path.name] = (size, now)
        return now - max((at for _, at in self._heard.values()), default=self._begun_s)

    def _should_have_ended(self) -> bool:
        """Whether its time is over, or it was asked to stop, and what Locust is given to see to that is over too."""
        lasts = self._reports["started"].get("run_time_s")
        now = time.monotonic()
        in_time = isinstance(lasts, int | float) and now >= self._begun_s + lasts + PATIENCE_S
        return in_time or (self._stop_asked and now >= self._stop_by_s)

    def _stood_still(self, since_ns: int, where: str) -> str:
        """The sentence for a moment in ns since the run's time zero; it counts from when Locust's test began."""
        since_ns += self._began_ns - round(self._begun_s * units.NS_PER_S)
        since = units.format_duration(max(since_ns, 0), 2)
        place = f" ({where})" if where else ""
        return (
            f"{self._subject()} blocks Locust's loop since {since} into the run{place}: nothing was sent or read from "
            "then on, so Locust was ended"
        )

    def _keep_log(self) -> None:
        pipe: IO[bytes] | None = self._process.stdout
        if pipe is None:
            return
        with pipe:
            while chunk := os.read(pipe.fileno(), 1 << 16):
                self._log.write(chunk)

    def _insist(self, grace_s: float) -> None:
        """Locust was asked to stop. When it does not, SIGTERM; when that does not help either, SIGKILL."""
        if not self._over.wait(grace_s + PATIENCE_S):
            self._tug(b"T")
            if not self._over.wait(grace_s + PATIENCE_S):
                self._tug(b"K")

    def _end_now(self) -> None:
        self._tug(b"T")
        if not self._over.wait(2.0):
            self._tug(b"K")
            self._over.wait(PATIENCE_S)

    def _tug(self, word: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._leash >= 0:
                os.write(self._leash, word)

    def _subject(self) -> str:
        return str(self._script) if self._script is not None else "the plan"

    def _why(self, code: int) -> str:
        """One sentence for a child that ended without having run a test to its end."""
        number = -code if code < 0 else code - 128
        if number in set(signal.Signals):
            return f"Locust was ended by {signal.Signals(number).name}"
        if self._begun.is_set():  # tracebacks in the log are then the script's own, and did not end it
            error = self._log.last_error()
            return f"Locust broke off with exit code {code}" + (f": {error}" if error else "")
        if self._remote is not None and self._log.gave_up():
            place = f"{self._remote.place} within {self._remote.wait_s} s"
            if refused := self._log.refused():
                return f"Fewer than {self._remote.workers} workers could take part at {place}: {refused}"
            return (
                f"{self._log.connected()} of {self._remote.workers} workers came to {place}; "
                f"start each with `surgeline worker --master HOST:{self._remote.port}`"
            )
        said = self._log.reason(self._script)
        if said:
            return f"Locust could not run {self._subject()}: {said}"
        return f"Locust ended without running {self._subject()}, with exit code {code}"


class _Log:
    """What Locust prints, kept within bounds: the beginning in a file at once, and the end, which says why."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115  # closed when the child has ended
        self._room = LOG_BYTES
        self._left_out = 0
        self._tail = bytearray()
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            kept = data[: self._room]
            self._room -= len(kept)
            self._tail += data
            if len(self._tail) > 2 * _TAIL_BYTES:
                del self._tail[:-_TAIL_BYTES]
            self._left_out += len(data) - len(kept)
            with contextlib.suppress(OSError):  # a full disk loses the log, not the run
                self._file.write(kept)

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._left_out:
                end = self._tail[-min(_TAIL_BYTES, self._left_out) :]
                self._file.write(b"\n... %d bytes left out ...\n" % max(self._left_out - len(end), 0) + bytes(end))
            self._file.close()

    def lines(self) -> list[str]:
        """The last lines, without colours and control characters."""
        with self._lock:
            text = bytes(self._tail[-_TAIL_BYTES:]).decode(errors="replace")
        plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
        return [re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", line).rstrip() for line in plain.splitlines()]

    def gave_up(self) -> bool:
        """Whether Locust waited in vain for workers."""
        return any(GAVE_UP in line for line in self.lines())

    def refused(self) -> str | None:
        """The worker that was last turned away, and why; None where none was."""
        said = (re.search(r"/surgeline: (\S+ \(.*\) is refused: .+)", line) for line in reversed(self.lines()))
        return next((found[1][:300] for found in said if found), None)

    def connected(self) -> int:
        """How many workers there were when Locust gave up, or last said so; it sends them away after that."""
        waited = takewhile(lambda line: GAVE_UP not in line, self.lines())
        said = [re.search(r"(\d+) (?:workers connected|of \d+ connected|workers ready)", line) for line in waited]
        return next((int(found[1]) for found in reversed(said) if found), 0)

    def last_error(self) -> str | None:
        """The message of the last line that Locust logged as an error; None without one."""
        for line in reversed(self.lines()):
            found = re.match(r"\[[^]]*\] \S+/(?:ERROR|CRITICAL)/[\w.]+: (.+)", line)
            if found:
                return found[1][:300]
        return None

    def reason(self, script: Path | None) -> str | None:
        """Why Locust gave up, in its own words and with the script's line if it names one; None if it said nothing."""
        lines = [line for line in self.lines() if line.strip()]
        if any(line.startswith("Traceback (most recent call last)") for line in lines):
            return _of_traceback(lines, script)
        for line in reversed(lines):
            plain = re.sub(r"^(\[[^]]*\] \S+/\w+/[\w.]+|locust: error|surgeline): ", "", line)
            if "No User class found" in line:
                return "it defines no User class that is not abstract"
            if not re.match(r"\[[^]]*\] \S+/(INFO|DEBUG|WARNING)/", line):
                return plain[:300]
        return None


def _of_traceback(lines: list[str], script: Path | None) -> str:
    """`line 3: ModuleNotFoundError: No module named 'x'`, with the last line of the script that the traceback names."""
    last = max(index for index, line in enumerate(lines) if line.startswith("Traceback (most recent call last)"))
    where = ""
    said = ""
    for line in lines[last + 1 :]:
        place = re.match(r'\s+File "([^"]+)", line (\d+)', line)
        if place:
            if script is not None and Path(place[1]).name == script.name:
                where = f"line {place[2]}: "
        elif not line.startswith(" ") and not said:
            said = line
    return where + (said or lines[-1])[:300]
