"""`surgeline worker`: one machine more for a run that is led elsewhere.

Waits until something listens where the master should be, then starts stock Locust as its worker, with the plugin, in a
child process behind the warden: whatever becomes of this process, nobody goes on sending. What is run comes from the
master, and so does the end. The child says through a pipe what becomes of it; this side turns that into sentences.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surgeline import __version__, engines
from surgeline.locust.door import COMMAND

JOIN = "SURGELINE_LOCUST_JOIN"
"""As in `distributed`, which cannot be imported here: it imports Locust."""
PATIENCE_S = 5.0
TRY_EVERY_S = 1.0
STILL_S = 30.0
"""A process that says each second that it is there, and has not for so long, keeps its loop to itself: it hears neither
its master nor a signal. Many times what makes its master miss it."""
LOOK_S = 0.5
_WARDEN = Path(engines.__file__).with_name("warden.py")


class Gone(Exception):
    """The master cannot be reached, or has gone. One sentence."""


class Failed(Exception):
    """This worker cannot take part. One sentence."""


@dataclass
class Course:
    """What the processes of this worker have told so far."""

    refused: str = ""
    joined: list[str] = field(default_factory=list)
    began: bool = False
    over: set[str] = field(default_factory=set)
    """Those whose rows have come home."""
    alive: dict[str, float] = field(default_factory=dict)
    """When each was heard last, in s on the monotonic clock."""
    over_s: float = 0.0
    """When the last of them had its rows fetched, on the same clock: the others may need a moment to end."""
    still: list[str] = field(default_factory=list)
    """Those that were ended because they stood still."""
    lost: int = 0
    """Rows that nobody fetched."""
    unheard: float = 0.0
    """After so many seconds without a word of the master it gave up; 0 where it did not."""


def reach(host: str, port: int, wait_s: float, say: Callable[[str], None]) -> None:
    """Returns when something listens there; raises Gone when nothing has for so long."""
    deadline = time.monotonic() + wait_s
    told = ""
    while True:
        try:
            with socket.create_connection((host, port), timeout=max(min(5.0, deadline - time.monotonic()), 0.1)):
                return
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
        left = deadline - time.monotonic()
        if left <= 0:
            raise Gone(f"no master answers at {host} port {port} after {wait_s:g} s: {why}")
        if why != told:
            told = why
            say(f"no master at {host} port {port} yet ({why}); trying for {wait_s:g} s")
        time.sleep(min(TRY_EVERY_S, left))


def arguments(host: str, port: int, script: Path | None, processes: int, more: Sequence[str]) -> list[str]:
    """Locust's, for a worker; without a script it asks the master for what to run."""
    given = ["-f", str(script) if script is not None else "-", "--worker", "--master-host", host]
    given += ["--master-port", str(port), "--headless", "--exit-code-on-error", "0", "--loglevel", "WARNING"]
    if processes > 1:
        given += ["--processes", str(processes)]
    return [*given, *more]


def work(given: Sequence[str], master: str, say: Callable[[str], None]) -> Course:
    """Runs the worker until its master ends it or somebody stops it; what became of it.

    Raises Gone where the master went away in between and Failed where it does not want this worker or Locust broke.
    """
    course = Course()
    report, pipe = os.pipe()
    leash, mine = os.pipe()
    warden = [sys.executable, "-I", "-S", str(_WARDEN), str(leash), str(PATIENCE_S)]
    try:
        child = subprocess.Popen(
            [*warden, *COMMAND, *given],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=(leash, pipe),
            env={**os.environ, JOIN: str(pipe)},
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(f"Locust cannot be started: {error}") from error
    finally:
        os.close(leash)
        os.close(pipe)
    hears = threading.Thread(target=_hear, args=(report, course, say), daemon=True)
    hears.start()
    with _stops(mine) as stopped:
        code = _await_end(child, course, mine)
    os.close(mine)
    hears.join(PATIENCE_S)
    if course.refused:
        raise Failed(f"the master at {master} refuses this worker: {course.refused}; install the same on both")
    if course.still:
        names = ", ".join(course.still)
        raise Failed(
            f"{names} kept Locust's loop busy for {STILL_S:g} s and was ended; what it had not told yet is lost"
        )
    if stopped:
        return course
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):  # of the warden where it is negative, who takes Locust along
        raise Failed(f"Locust was ended by {signal.Signals(number).name}; what it had not told yet is lost")
    if course.unheard:
        raise Gone(f"nothing has been heard of the master at {master} for {course.unheard:g} s, so this worker ended")
    if course.joined and not course.began:
        raise Gone(f"the master at {master} ended before a run began")
    if course.over and (gone := [name for name in course.joined if name not in course.over]):
        names, are = ", ".join(gone), "was" if len(gone) == 1 else "were"
        raise Failed(f"{names} {are} ended before the run was over; what had not been told yet is lost")
    if course.joined and not course.over:
        rows = f", and {course.lost:,} rows of this worker are lost" if course.lost else ""
        raise Gone(f"the master at {master} ended without fetching what was measured here{rows}")
    if not course.joined and code:
        raise Failed(f"Locust ended with exit code {code} before it took part; what it said is above")
    if not course.joined:
        raise Failed(f"the master at {master} is no Surgeline {__version__}: nothing was recorded here")
    return course


def _await_end(child: "subprocess.Popen[bytes]", course: Course, leash: int) -> int:
    """The exit code. Ends what is left once all of it stands still: a script that never gives way hears nobody."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(LOOK_S)
        now = time.monotonic()
        there = [name for name in course.joined if name not in course.over]
        still = [name for name in there if now - max(course.alive.get(name, now), course.over_s) > STILL_S]
        if still and still == there and not course.still:
            course.still = still
            with suppress(OSError):
                os.write(leash, b"K")


def _hear(report: int, course: Course, say: Callable[[str], None]) -> None:
    with os.fdopen(report, "rb") as lines:
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                _note(json.loads(line), course, say)


def _note(told: dict[str, Any], course: Course, say: Callable[[str], None]) -> None:
    match told["state"]:
        case "refused":
            course.refused = str(told["why"])
        case "joined":
            course.joined.append(str(told["worker"]))
            course.alive[str(told["worker"])] = time.monotonic()
            say(f"joined as {told['worker']}; the master says when the run begins and when it ends")
        case "alive":
            course.alive[str(told["worker"])] = time.monotonic()
        case "run":
            course.began = True
            say(f"{told['worker']} takes part in {told['run']}")
        case "share":
            say(f"{told['worker']} sends share {told['share']} of {told['of']}")
        case "over":
            course.over.add(str(told["worker"]))
            course.over_s = time.monotonic()
            missing = f"; {int(told['missing']):,} of them are missing there" if told["missing"] else ""
            say(f"the run is over, {int(told['rows']):,} rows are with the master{missing}")
        case "unfit":
            say(f"sends nothing: {told['why']}")
        case "unheard":
            course.unheard = float(told["seconds"])
        case "lost":
            course.lost += int(told["rows"])


@contextmanager
def _stops(leash: int) -> Iterator[list[int]]:
    """While this lasts, SIGINT and SIGTERM ask Locust to end, a second one kills it; the signals that came."""
    came: list[int] = []

    def tug(number: int, _frame: Any) -> None:
        with suppress(OSError):
            os.write(leash, b"K" if came else b"T")
        came.append(number)

    before = {number: signal.signal(number, tug) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
