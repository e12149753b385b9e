"""The lane on the native engine: Locust's users park, threads of the engine send without ever taking the GIL.

The engine gets this process's share of the plan and begins with it. What it measures are the same frames as in a run
without Locust; a greenlet carries them to the journal, and tells Locust's statistics of each second's windows. Native
threads start when the run begins, after any fork.
"""

import json
import logging
import time
from typing import Any

import gevent
import gevent.event
from locust import User
from locust.runners import WorkerRunner
from locust.user.task import LOCUST_STATE_WAITING
from typing_extensions import override

from surgeline import _engine
from surgeline.locust.lane import Lane
from surgeline.locust.lane_statistics import LaneStatistics
from surgeline.locust.orders import Orders
from surgeline.locust.plugin import Plugin
from surgeline.locust.recorder import NS_PER_S
from surgeline.samples import Frame

log = logging.getLogger("surgeline")

LOOK_S = 0.1
"""How often the engine's frames are fetched; it makes them once a second, and batches of rows when they are full."""
LAST_WORDS_S = 5.0
"""How long the frames of an engine that was told to end are waited for."""
MARKS = frozenset({"stage_started", "stage_ended"})
"""Events of the engine that the leading process records instead, for all processes."""


class EngineLane(Lane):
    """Threads of the native engine send."""

    def __init__(self, orders: Orders, plugin: Plugin) -> None:
        super().__init__(orders, plugin)
        steps = [step for scenario in self.compiled["scenarios"] for step in (*scenario["once"], *scenario["steps"])]
        longest = max(step["timeout_ns"] or self.compiled["timeout_ns"] for step in steps)
        self._grace_ns = min(self.compiled["grace_ns"], longest + NS_PER_S)
        endpoints = self.compiled["endpoints"]
        self._methods = {endpoints[step["endpoint"]]: step["method"] for step in reversed(steps)}
        self._running: _engine.Running | None = None
        self._over = gevent.event.Event()
        """The engine has ended, and everything it measured is written down."""

    @override
    def prepare(self) -> None:
        self._plugin.measures_users = False
        self._plugin.before_leaving = self.cut_off
        began_s = time.time() - self.now_ns() / NS_PER_S
        self._statistics = LaneStatistics(lambda: self._runner.stats, self._methods, began_s)

    @override
    def send(self) -> None:
        most = self.compiled["max_in_flight"]
        share = {
            "workers": 1,
            "worker": self._plugin.worker,
            "share": {"index": self._index, "of": self._of},
            "begin_ns": max(self.timeline.begin_ns, 0),
            "max_in_flight": max(most // self._of + (self._index < most % self._of), 1),
        }
        try:
            self._running = _engine.start(json.dumps(self.compiled | share))
        except (ValueError, OSError, RuntimeError) as error:
            self._broke(f"the native engine did not start: {error}")
            self._ended()
            return
        gevent.spawn(self._carry)

    @override
    def sending(self) -> bool:
        return not self._over.is_set()

    @override
    def stop_sending(self, grace_ns: int) -> None:
        if self._running is not None:
            self._running.stop(grace_ns / NS_PER_S)

    @override
    def cut_off(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.stop(0.0)
        self._over.wait(LAST_WORDS_S)
        running.close()
        if isinstance(self._runner, WorkerRunner):
            # The master adds up what it is sent: the last second must be there before it is told that all is over.
            self._runner._send_stats()

    @override
    def relay(self, order: dict[str, Any], at_ns: int) -> None:
        match order["do"]:
            case "pause":
                self.timeline.pause(at_ns)
            case "resume":
                self.timeline.resume(at_ns)
                self._change()
        running = self._running
        if running is None:
            return
        match order["do"]:
            case "pause":
                running.pause()
            case "resume":
                running.resume()
            case "scale":
                running.scale(float(order["factor"]))
            case "next_stage":
                running.next_stage()
            case "append_stage":
                stage = order["stage"]
                running.append_stage(stage["duration_ns"], stage["start"], stage["end"])

    @override
    def take_part(self, number: int, user: User) -> None:
        user._state = LOCUST_STATE_WAITING  # whoever stops it need not wait for it

    def _carry(self) -> None:
        """Until the engine has ended: its frames to the journal, its windows to Locust's statistics."""
        running = self._running
        if running is None:
            return
        try:
            while (frames := running.next(0.0)) is not None:
                if frames:
                    self.recorder.carry([frame for frame in frames if not _is_mark(frame)])
                    for kind, payload in frames:
                        if kind == Frame.WINDOWS:
                            self._statistics.add(payload)
                    self._statistics.explain(running.failures())
                gevent.sleep(LOOK_S)
        except Exception as error:
            self._broke(str(error))
            running.stop(0.0)
        finally:
            self._statistics.close()
            self._ended()

    def _broke(self, sentence: str) -> None:
        log.error("%s", sentence)
        self._plugin.fault = sentence

    def _ended(self) -> None:
        self._over.set()
        self._exhausted.set()
        self._drained.set()
        self._stop(0)


def _is_mark(frame: tuple[int, bytes]) -> bool:
    return frame[0] == Frame.EVENT and json.loads(frame[1]).get("kind") in MARKS
