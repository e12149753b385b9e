"""What the process that started Locust wants from it, and what is told back.

Orders are lines of JSON in a file without a name that both processes hold open: the first says what to run and where
the journal is, each later one is something to do now. Every process of a run reads them for itself, workers that Locust
forks included. What is told back goes through a pipe, one short line at a time. `engines/locust.py` is the other side.
"""

import contextlib
import ctypes
import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ORDERS = "SURGELINE_LOCUST_ORDERS"
"""Environment variable with the file descriptor of the orders; not there when nobody gave any."""
REPORT = "SURGELINE_LOCUST_REPORT"
"""Environment variable with the file descriptor of the pipe back."""

_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Orders:
    """What to run. `plan` and `compiled` are None for a script."""

    run_id: str
    journal: Path
    monotonic_ns: int
    user_agent: str
    headers: list[tuple[str, str]]
    plan: dict[str, Any] | None
    compiled: dict[str, Any] | None
    workers: int
    """Processes that send."""
    native: bool
    """A plan's requests are sent by the native engine."""
    file: int
    pipe: int
    share: int = -1
    """Which of the shares of a plan this process sends; -1 for that of its own number among the workers."""
    _read: int = 0

    @classmethod
    def receive(cls) -> "Orders | None":
        """The orders of the process that started this one; None when it gave none. A second call finds none."""
        file, pipe = os.environ.pop(ORDERS, ""), os.environ.pop(REPORT, "")
        if not file or not pipe:
            return None
        for descriptor in (int(file), int(pipe)):
            os.set_inheritable(descriptor, False)  # Locust forks; what a user starts from a locustfile gets neither
        first, read = _lines(int(file), 0)
        told = first[0]
        return cls(
            run_id=told["run_id"],
            journal=Path(told["journal"]),
            monotonic_ns=told["monotonic_ns"],
            user_agent=told["user_agent"],
            headers=[(name, value) for name, value in told["headers"]],
            plan=told["plan"],
            compiled=told["compiled"],
            workers=told["workers"],
            native=told["native"],
            file=int(file),
            pipe=int(pipe),
            _read=read,
        )

    def fresh(self) -> list[dict[str, Any]]:
        """What has been ordered since the last call of this process."""
        lines, self._read = _lines(self.file, self._read)
        return lines

    def report(self, state: str, **more: Any) -> None:
        """Tells the other side; nobody listening is fine."""
        with contextlib.suppress(OSError):
            os.write(self.pipe, json.dumps({"state": state, **more}).encode() + b"\n")


@dataclass(slots=True)
class Relayed(Orders):
    """The orders of a process on another machine, as its master passes them on; nothing is reported from there."""

    waiting: list[dict[str, Any]] = field(default_factory=list)

    def fresh(self) -> list[dict[str, Any]]:
        """As `Orders.fresh`."""
        fresh, self.waiting = self.waiting, []
        return fresh

    def report(self, state: str, **more: Any) -> None:
        """Nobody listens."""


def _lines(file: int, at: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines from `at` on, and where they end. Reads without moving the offset that both sides share."""
    data = b""
    while chunk := os.pread(file, 1 << 16, at + len(data)):
        data += chunk
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], at + len(whole)


def die_with_parent() -> None:
    """Asks the system to send this process SIGTERM when its parent is gone. Only Linux can; elsewhere nothing happens.

    What the system watches is the thread that forked; Locust forks from its main one.
    """
    parent = os.getppid()
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it went between the fork and the call
        os.kill(os.getpid(), signal.SIGTERM)
