"""A plan, hosted in stock Locust.

Locust brings the processes, starts and stops the users, keeps its own statistics and ends the run; what its users do is
the plan. Two ways of sending stand behind this module: the native engine in threads of its own (`lane_engine`), and,
where it is not built, greenlets (`lane_greenlets`). Every row has its due moment.

Of N processes, each takes its share: user u belongs to process u mod N, and so does arrival u. The process that leads
(the only one, or the master) says when the run begins, marks the stages, and ends Locust when all have ended.
"""

import math
import time
from typing import Any

import gevent
import gevent.event
from locust import LoadTestShape, User, events, task
from locust.event import Events
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner
from typing_extensions import override

from surgeline.locust.alarm import Alarm
from surgeline.locust.orders import Orders
from surgeline.locust.plugin import Plugin
from surgeline.locust.recorder import NS_PER_S, Recorder
from surgeline.locust.timeline import Timeline
from surgeline.workload import Stage, Workload

BEGIN, DONE = "surgeline_begin", "surgeline_done"
"""What a master tells its workers (when the run begins), and they it (all is over)."""
HEAD_START_NS = 200_000_000
"""Between Locust's start and the plan's: its users are in place when the first of them is due."""
HEAD_START_WORKERS_NS = 1_000_000_000
AHEAD_NS = 3 * NS_PER_S
"""How far ahead of its need a user is started: Locust looks at its shape once a second."""
PLAN_S = 10.0
"""How long a user on another machine waits for the plan it is part of."""
SETTLE_NS = 2 * NS_PER_S
"""How long the leading process waits for its workers' word beyond the grace."""
LOOK_S = 0.5
"""How often it looks meanwhile whether they are all there."""


class Lane:
    """The hosting of one plan in one process: its life, its stages, its control. Who sends is said by subclasses."""

    timeline: Timeline
    recorder: Recorder

    def __init__(self, orders: Orders, plugin: Plugin) -> None:
        self.compiled: dict[str, Any] = orders.compiled or {}
        """As `engines.native.compile_plan` makes it."""
        told = self.compiled["workload"]
        self.workload = Workload(
            told["model"],
            tuple(Stage(str(n), s["duration_ns"], s["from"], s["to"]) for n, s in enumerate(told["stages"])),
            told["arrivals"],
            self.compiled["seed"],
        )
        self.open = self.workload.model == "open"
        self._orders = orders
        self._plugin = plugin
        self._index, self._of = 0, 1
        self._begun = gevent.event.Event()
        self._draining: bool = False
        self._grace_ns = min(self.compiled["grace_ns"], self.compiled["timeout_ns"])
        self._paused = False
        self._steered = False
        self._hosted_users = 0
        self._workers_done: set[str] = set()
        """Ids of those that have sent all of their share."""
        self._early: list[dict[str, Any]] = []
        """Orders from before the run began."""

    def listen(self, hooks: Events) -> None:
        """Adds the lane's listeners, behind the plugin's."""
        for hook, listener in (
            (hooks.init, self.on_init),
            (hooks.test_start, self.on_test_start),
            (hooks.test_stopping, self.on_test_stopping),
        ):
            hook.add_listener(listener)  # type: ignore[no-untyped-call]  # Locust's events are not annotated

    # --- who sends: what a subclass does ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """This process has its recorder and its share; it has not begun."""

    def send(self) -> None:
        """The run begins at `timeline.begin_ns`; `exhausted` is set when nothing new will be due any more."""
        raise NotImplementedError

    def sending(self) -> bool:
        """Whether something is in flight."""
        raise NotImplementedError

    def cut_off(self) -> None:
        """Ends what is still in flight, and writes down what is left."""
        raise NotImplementedError

    def stop_sending(self, grace_ns: int) -> None:
        """Nothing new may start; what is in flight may end within the grace. Called once."""

    def relay(self, order: dict[str, Any], at_ns: int) -> None:
        """An order has changed the timeline or the pause as of `at_ns`."""

    def take_part(self, number: int, user: User) -> None:
        """What the Locust user that hosts virtual user `number` does; it returns when it has no more to do."""

    # --- life --------------------------------------------------------------------------------------------------------

    def on_init(self, environment: Any, runner: Any, **_: Any) -> None:
        """After the fork: what belongs to this process is made."""
        if self._plugin.recorder is None:
            raise RuntimeError("the plugin has opened no journal")
        self._environment, self._runner, self.recorder = environment, runner, self._plugin.recorder
        self._leads = not isinstance(runner, WorkerRunner)
        self._sends = not isinstance(runner, MasterRunner)
        if isinstance(runner, WorkerRunner):
            own = self._orders.share
            self._index, self._of = own if own >= 0 else runner.worker_index, self._orders.workers
            runner.custom_messages.pop(BEGIN, None)  # a worker without a share passes it over
            runner.register_message(BEGIN, lambda msg, **_: self._begin(msg.data["begin_ns"]))
        elif isinstance(runner, MasterRunner):
            runner.register_message(DONE, lambda msg, **_: self._worker_done(msg.node_id, msg.data or {}))
        self.timeline = Timeline(self.workload, self.now_ns())
        self._alarm = Alarm()
        self._drained = gevent.event.Event()
        self._changed = gevent.event.Event()
        self._exhausted = gevent.event.Event()
        self._going = gevent.event.Event()
        self._going.set()
        self.prepare()
        gevent.spawn(self._obey)

    def follow(self, environment: Any, runner: WorkerRunner, begin_ns: int | None) -> None:
        """As `on_init`, on another machine and when the plan has come; it begins now where its beginning is known."""
        self.on_init(environment, runner)
        if begin_ns is not None:
            self._begin(begin_ns)

    @property
    def begun_ns(self) -> int | None:
        """When the plan began, ns since the run did; None before that and after an operator has changed its load."""
        return self.timeline.begin_ns if self._begun.is_set() and not self._steered else None

    def on_test_start(self, **_: Any) -> None:
        """The leading process says when the plan begins."""
        if not self._leads:
            return
        begin = self.now_ns() + (HEAD_START_NS if self._sends else HEAD_START_WORKERS_NS)
        if not self._sends:
            self._runner.send_message(BEGIN, {"begin_ns": begin})
        self._begin(begin)

    def on_test_stopping(self, **_: Any) -> None:
        """Locust stops, perhaps because somebody else asked it to."""
        self._stop(self._grace_ns)

    def _begin(self, begin_ns: int) -> None:
        self.timeline = Timeline(self.workload, begin_ns, self._index, self._of)
        self._begun.set()
        gevent.spawn(self._conduct)
        if self._sends:
            self.send()
        else:
            self._exhausted.set()
        early, self._early = self._early, []
        for order in early:
            self._do(order)

    def _conduct(self) -> None:
        """Walks through the stages, then waits for what is in flight, then ends what is still there."""
        index, begin = 0, self.timeline.begin_ns
        while not self._ends() and self.timeline.has_stage(index):
            self._sleep(begin)
            self._mark("stage_started", begin, stage=index)
            while self.now_ns() < self.timeline.stage_end_ns(index) and not self._ends():
                self._sleep_until(self.timeline.stage_end_ns(index))
            end = self.timeline.stage_end_ns(index)
            begin = min(self.now_ns(), end) if self._ends() else end
            self._mark("stage_ended", begin, stage=index)
            index += 1
        self._exhausted.wait()
        self._stop(self._grace_ns)
        deadline = self.now_ns() + self._grace_ns
        self._await(deadline if self._sends else deadline + SETTLE_NS)
        if self._sends:
            self.cut_off()
        if self._leads:
            self._runner.quit()
        else:
            self._runner.send_message(DONE, {"fault": self._plugin.fault})

    def _ends(self) -> bool:
        """Whether nothing new may start; another greenlet may have seen to that while this one slept."""
        return self._draining

    def _sleep(self, until_ns: int) -> None:
        """Sleeps until a moment that no change moves, or until the end."""
        while not self._ends() and not self._sleep_until(until_ns):
            pass

    def _await(self, deadline_ns: int) -> None:
        """Waits until nothing is in flight any more, here or in the workers; nobody says when one of those is lost."""
        while self.now_ns() < deadline_ns:
            if not self.sending() if self._sends else self._is_settled():
                return
            self._drained.clear()
            self._drained.wait(min((deadline_ns - self.now_ns()) / NS_PER_S, LOOK_S))

    def _worker_done(self, worker: str, told: dict[str, Any]) -> None:
        self._workers_done.add(worker)
        self._plugin.fault = self._plugin.fault or str(told.get("fault", ""))
        self._drained.set()
        if self._is_settled():
            self._stop(0)  # perhaps before the last stage was over: the rows of test data may be used up

    def _is_settled(self) -> bool:
        """Whether all workers have sent what is theirs, but for lost ones whose share nobody has taken over."""
        return self._plugin.master is None or self._plugin.master.is_settled(self._workers_done)

    def _mark(self, kind: str, at_ns: int, **more: Any) -> None:
        if self._leads:
            self.recorder.event(at_ns, kind, **more)

    def _stop(self, grace_ns: int) -> None:
        """Nothing new starts from here on. Only the first call counts."""
        if self._draining:
            return
        self._draining, self._grace_ns = True, grace_ns
        self.stop_sending(grace_ns)
        self._begun.set()
        self._exhausted.set()
        self._going.set()
        self._change()

    # --- control -----------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        while True:
            for order in self._orders.fresh():
                self._do(order)
            gevent.sleep(0.05)

    def _do(self, order: dict[str, Any]) -> None:
        if order["do"] != "stop" and not self._begun.is_set():
            self._early.append(order)
            return
        self._steered = True
        at = max(self.now_ns(), self.timeline.begin_ns + 1)
        match order["do"]:
            case "stop":
                if not self._draining:
                    self._mark("stop_requested", self.now_ns())
                self._stop(round(order["grace_s"] * NS_PER_S))
            case "pause":
                self._paused = True
                self._going.clear()
            case "resume":
                self._paused = False
                self._going.set()
            case "scale":
                self.timeline.scale(float(order["factor"]), at)
            case "next_stage":
                if order.get("only") not in (None, self.timeline.stage_at(at)):
                    return
                self.timeline.next_stage(at)
            case "append_stage":
                self.timeline.append(Stage(**order["stage"]))
        self.relay(order, at)
        if order["do"] in ("scale", "next_stage", "append_stage"):
            self._change()

    def _change(self) -> None:
        """Whoever laid something out by the timeline does it again."""
        changed, self._changed = self._changed, gevent.event.Event()
        changed.set()
        self._alarm.wake_all()

    def now_ns(self) -> int:
        """ns since the run began."""
        return time.monotonic_ns() - self._orders.monotonic_ns

    def _sleep_until(self, at_ns: int) -> bool:
        """Whether the moment came; False after a change and at the end, which wake everybody."""
        return self._alarm.wait_until(at_ns + self._orders.monotonic_ns)

    # --- Locust's users ----------------------------------------------------------------------------------------------

    def users_wanted(self) -> int:
        """How many users Locust should have in all its processes; each gets as many as the greatest share needs."""
        processes = self._orders.workers
        if self.open:
            return processes
        peak = math.ceil(self.timeline.peak_until(self.now_ns() + AHEAD_NS) - 1e-9)
        return max(-(-peak // processes), 1) * processes

    def host(self, user: User) -> None:
        """What a Locust user does: one virtual user's part of the plan; in the open model it waits for the end."""
        number = self._hosted_users * self._of + self._index
        self._hosted_users += 1
        self._begun.wait()
        self.take_part(number, user)
        while not self._draining:
            self._changed.wait()
        raise StopUser


LANE: Lane | None = None
"""The lane of this process; forked workers inherit it and make their own parts in `on_init`."""


def install(orders: Orders, plugin: Plugin) -> Lane:
    """Makes the lane of this process: with the native engine where the orders ask for it."""
    global LANE
    if orders.native:
        from surgeline.locust.lane_engine import EngineLane

        LANE = EngineLane(orders, plugin)
    else:
        from surgeline.locust.lane_greenlets import GreenletLane

        LANE = GreenletLane(orders, plugin)
    LANE.listen(events)
    return LANE


class PlanUser(User):
    """A stock Locust user that does a plan's part."""

    @task
    def host_plan(self) -> None:
        """All there is to do, until the end."""
        until = time.monotonic() + PLAN_S
        while LANE is None and time.monotonic() < until:
            gevent.sleep(0.05)  # on another machine the plan comes with the master's first word
        if LANE is None:
            raise StopUser
        LANE.host(self)


class PlanShape(LoadTestShape):
    """How many users Locust has ready; the lane decides which of them are at work, and ends the run."""

    @override
    def tick(self) -> tuple[int, float]:
        users = LANE.users_wanted() if LANE is not None else 1
        return users, float(max(users, 1))
