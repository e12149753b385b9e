"""The lane on the native engine: Locust's users park, threads of the engine send without ever taking the GIL.

The engine gets this process's share of the plan and begins with it. What it measures are the same frames as in a run
without Locust (`sending`).
"""

import time
from typing import Any

from locust import User
from locust.user.task import LOCUST_STATE_WAITING
from typing_extensions import override

from surgeline.locust.lane import Lane
from surgeline.locust.orders import Orders
from surgeline.locust.plugin import Plugin
from surgeline.locust.recorder import NS_PER_S
from surgeline.locust.sending import Sending


class EngineLane(Lane):
    """Threads of the native engine send."""

    _sending: Sending

    def __init__(self, orders: Orders, plugin: Plugin) -> None:
        super().__init__(orders, plugin)
        steps = [step for scenario in self.compiled["scenarios"] for step in (*scenario["once"], *scenario["steps"])]
        longest = max(step["timeout_ns"] or self.compiled["timeout_ns"] for step in steps)
        self._grace_ns = min(self.compiled["grace_ns"], longest + NS_PER_S)

    @override
    def prepare(self) -> None:
        self._plugin.measures_users = False
        self._plugin.before_leaving = self.cut_off
        began_s = time.time() - self.now_ns() / NS_PER_S
        self._sending = Sending(self._plugin, self._runner, self.compiled, began_s, self._ended)

    @override
    def send(self) -> None:
        most = self.compiled["max_in_flight"]
        self._sending.begin(
            {
                "workers": 1,
                "worker": self._plugin.worker,
                "share": {"index": self._index, "of": self._of},
                "begin_ns": max(self.timeline.begin_ns, 0),
                "max_in_flight": max(most // self._of + (self._index < most % self._of), 1),
            }
        )

    @override
    def sending(self) -> bool:
        return not self._sending.over.is_set()

    @override
    def stop_sending(self, grace_ns: int) -> None:
        self._sending.stop(grace_ns / NS_PER_S)

    @override
    def cut_off(self) -> None:
        self._sending.cut_off()

    @override
    def relay(self, order: dict[str, Any], at_ns: int) -> None:
        match order["do"]:
            case "pause":
                self.timeline.pause(at_ns)
            case "resume":
                self.timeline.resume(at_ns)
                self._change()
        running = self._sending.running
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
                running.next_stage(order.get("only"))
            case "append_stage":
                stage = order["stage"]
                running.append_stage(stage["duration_ns"], stage["start"], stage["end"])

    @override
    def take_part(self, number: int, user: User) -> None:
        user._state = LOCUST_STATE_WAITING  # whoever stops it need not wait for it

    def _ended(self) -> None:
        self._exhausted.set()
        self._drained.set()
        self._stop(0)
