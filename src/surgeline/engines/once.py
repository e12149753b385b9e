"""One pass through a scenario by the native engine: what the load will do, done once, for whoever looks beforehand.

What comes in is a plan and the settings of a run; what leaves is a row per request. The pass has no pauses and tries
nothing again, and what a conversation only waits for is cut short: it is a look, and no measurement. Nothing is written
to a disk.
"""

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from surgeline import units
from surgeline.engines import EngineError, Settings
from surgeline.engines.native import NativeEngine
from surgeline.plan.model import Message, Plan, Step, Until
from surgeline.samples import Frame, Outcome, decode_table
from surgeline.workload import Workload, session_stage

LONGEST_WAIT_NS = units.NS_PER_S
"""Of what a conversation takes without wanting anything: taste."""
_GLANCE_S = 0.005


@dataclass(frozen=True, slots=True)
class Passed:
    """One request of the pass. `end_ns` and `start_ns` count from the pass's beginning; -1 for what did not happen."""

    endpoint: str
    method: str
    url: str
    status: int
    outcome: Outcome
    error: str
    start_ns: int
    end_ns: int
    bytes_in: int


@dataclass(slots=True)
class _Memory:
    """A sink that keeps rows and notes, and forgets the rest."""

    rows: list[Passed] = field(default_factory=list)
    hops: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def directory(self) -> Path:
        raise EngineError("a look has no journal")

    def append(self, kind: Frame, payload: bytes) -> None:
        with self._lock:
            if kind is Frame.ROWS:
                self.rows += _rows(payload)
            elif kind is Frame.COUNTS:
                table = decode_table(payload, arrays=False)
                for endpoint, hops in zip(table["endpoint"], table["hops"], strict=True):
                    self.hops[endpoint] = self.hops.get(endpoint, 0) + hops
            elif kind is Frame.EVENT:
                told = json.loads(payload)
                if told.get("kind") == "note":
                    self.notes.append(str(told["reason"]))


def _rows(payload: bytes) -> Iterable[Passed]:
    table = decode_table(payload, arrays=False)
    names = ("endpoint", "method", "url", "status", "outcome", "error", "start_ns", "end_ns", "bytes_in")
    for endpoint, method, url, status, outcome, *rest in zip(*(table[name] for name in names), strict=True):
        yield Passed(endpoint, method, url, status, Outcome(outcome), *rest)


@dataclass(frozen=True, slots=True)
class Pass:
    """What came of it: requests in their order, redirects that were followed by endpoint, and what the engine noted."""

    requests: tuple[Passed, ...]
    hops: dict[str, int]
    notes: tuple[str, ...]


def go_through(plan: Plan, scenario: str, settings: Settings, longest_s: float) -> Pass:
    """Goes through one scenario as one user who comes, its `once` first; what is under way after `longest_s` is cut.

    Raises EngineError where the engine cannot start.
    """
    # One and a half arrive: that is one, after 1 ms, and then nobody.
    stages = session_stage(1000, 1000, 1_500_000), session_stage(0, 0, int(longest_s * units.NS_PER_S))
    load = Workload("partly-open", stages, "uniform")
    part = plan.scenarios[scenario]
    short = part.model_copy(
        update={
            "think_time": (0, 0),
            "once": tuple(_short(step) for step in part.once),
            "steps": tuple(_short(step) for step in part.steps),
        }
    )
    # Who is alone has a connection of its own, also out of a pool.
    connection = plan.connection.model_copy(update={"share": None})
    changes = {"scenarios": {scenario: short}, "workload": None, "connection": connection}
    subject = plan.model_copy(update=changes)
    began_ns = time.monotonic_ns()
    memory = _Memory()
    settings = replace(settings, workload=load, monotonic_ns=began_ns, workers=1, grace_ns=0)
    running = NativeEngine().start(subject, settings, memory)
    glances = 0
    try:
        # The figures of one glance are not of one moment: by the second the only user has come for sure.
        while glances < 2 and running.wait(_GLANCE_S) is None:
            glances = glances + 1 if running.rests else 0
    finally:
        running.stop(0.0)
        ending = running.wait(longest_s)
    if ending is None or ending.reason == "failed":
        raise EngineError(ending.detail if ending is not None else "it does not end")
    return Pass(tuple(memory.rows), memory.hops, tuple(memory.notes))


def _short(step: Step) -> Step:
    changes: dict[str, Any] = {"think_time": None, "retry": None}
    if step.until is not None and step.until.time is not None:
        changes["until"] = _until(step.until)
    if step.messages is not None:
        changes["messages"] = tuple(_message(message) for message in step.messages)
    return step.model_copy(update=changes)


def _until(until: Until) -> Until:
    return until.model_copy(update={"time": min(until.time or LONGEST_WAIT_NS, LONGEST_WAIT_NS)})


def _message(message: Message) -> Message:
    if message.listen is None:
        return message
    return message.model_copy(update={"listen": min(message.listen, LONGEST_WAIT_NS)})
