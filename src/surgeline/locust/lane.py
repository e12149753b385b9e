"""A plan, hosted in stock Locust.

Locust brings the processes, starts and stops the users, keeps its own statistics and ends the run; what its users do is
the plan. In the closed model each Locust user is one virtual user, which parks while the plan wants fewer; a shape
tells Locust how many to have ready. In the open model one Locust user in each process parks for the whole run while a
dispatcher starts an iteration whenever one is due, whatever has come back. Every row has its due moment.

Of N processes, each takes its share: user u belongs to process u mod N, and so does arrival u. The process that leads
(the only one, or the master) says when the run begins, marks the stages, and ends Locust when all have ended.
"""

import gc
import math
import time
from random import Random
from typing import Any

import gevent
import gevent.event
from gevent import GreenletExit
from locust import LoadTestShape, User, events, task
from locust.event import Events
from locust.exception import CatchResponseError, StopUser
from locust.runners import MasterRunner, WorkerRunner
from typing_extensions import override

from surgeline.locust.alarm import Alarm
from surgeline.locust.attempt import Attempt
from surgeline.locust.exchanges import Exchanges
from surgeline.locust.orders import Orders
from surgeline.locust.plugin import Plugin, lag_readings
from surgeline.locust.recorder import NS_PER_S, Recorder, Row
from surgeline.locust.rows import Rows, UsedUp
from surgeline.locust.steps import Hosted, HostedScenario, HostedStep
from surgeline.locust.timeline import Timeline
from surgeline.locust.wire import Connection, Target
from surgeline.plan.evaluate import MissingVariable, Scope
from surgeline.plan.model import Plan
from surgeline.plan.pause import draw_ns
from surgeline.samples import Outcome
from surgeline.workload import Stage, Workload

BEGIN, DONE = "surgeline_begin", "surgeline_done"
"""What a master tells its workers (when the run begins), and they it (all is over)."""
HEAD_START_NS = 200_000_000
"""Between Locust's start and the plan's: its users are in place when the first of them is due."""
HEAD_START_WORKERS_NS = 1_000_000_000
AHEAD_NS = 3 * NS_PER_S
"""How far ahead of its need a user is started: Locust looks at its shape once a second."""
RETRY_NS = 1_000_000
"""A closed user whose request could not be sent is ready again after this."""
CROWD = 4
"""Requests in flight from which on answers may come together: their ends are read before any of them is judged."""
SETTLE_NS = 2 * NS_PER_S
"""How long the leading process waits for its workers' word beyond the grace."""


class Iteration:
    """One pass through a scenario: its variables and cookies, and the idle connections it may take one from.

    Those are a closed user's own, or the pool of all arrivals.
    """

    __slots__ = ("idle", "jar", "scenario", "scope")

    def __init__(self, scenario: HostedScenario, scope: Scope, jar: dict[str, str], idle: list[Connection]) -> None:
        self.scenario = scenario
        self.scope = scope
        self.jar = jar
        self.idle = idle


class Lane:
    """The hosting of one plan in one process."""

    timeline: Timeline
    recorder: Recorder
    target: Target
    exchanges: Exchanges

    def __init__(self, orders: Orders, plugin: Plugin) -> None:
        compiled: dict[str, Any] = orders.compiled or {}
        plan = Plan.model_validate(orders.plan)
        self.hosted = Hosted(plan, compiled)
        told = compiled["workload"]
        self.workload = Workload(
            told["model"],
            tuple(Stage(str(n), s["duration_ns"], s["from"], s["to"]) for n, s in enumerate(told["stages"])),
            told["arrivals"],
            compiled["seed"],
        )
        self.open = self.workload.model == "open"
        self._rows = Rows(compiled.get("feeds", ()))
        self.lags: list[int] = []
        """How late requests were sent since the last health reading, ns."""
        self.connections = 0
        """Open ones, idle or in use."""
        self._orders = orders
        self._plugin = plugin
        self._index, self._of = 0, 1
        self._begun = gevent.event.Event()
        self._draining: bool = False
        self._grace_ns = self.hosted.grace_ns
        self._paused = False
        self._in_flight: set[Any] = set()
        self._hosted_users = 0
        self._iterations = 0
        self._sequence = 0
        self._pool: list[Connection] = []
        self._workers_done = 0

    def listen(self, hooks: Events) -> None:
        """Adds the lane's listeners, behind the plugin's."""
        for hook, listener in (
            (hooks.init, self.on_init),
            (hooks.test_start, self.on_test_start),
            (hooks.test_stopping, self.on_test_stopping),
        ):
            hook.add_listener(listener)  # type: ignore[no-untyped-call]  # Locust's events are not annotated

    # --- life --------------------------------------------------------------------------------------------------------

    def on_init(self, environment: Any, runner: Any, **_: Any) -> None:
        """After the fork: what belongs to this process is made."""
        if self._plugin.recorder is None:
            raise RuntimeError("the plugin has opened no journal")
        self._environment, self._runner, self.recorder = environment, runner, self._plugin.recorder
        self._leads = not isinstance(runner, WorkerRunner)
        self._sends = not isinstance(runner, MasterRunner)
        if isinstance(runner, WorkerRunner):
            self._index, self._of = runner.worker_index, self._orders.workers
            runner.register_message(BEGIN, lambda msg, **_: self._begin(msg.data["begin_ns"]))
        elif isinstance(runner, MasterRunner):
            runner.register_message(DONE, lambda **_: self._worker_done())
        self.timeline = Timeline(self.workload, self.now_ns())
        self.target = Target.of(self.hosted.told["target"])
        self._draws = Random((self.workload.seed << 16) + self._index)
        self.exchanges = Exchanges(self.hosted.public, self.recorder.exchange, self._draws)
        self._alarm = Alarm()
        self._drained = gevent.event.Event()
        self._changed = gevent.event.Event()
        self._exhausted = gevent.event.Event()
        self._going = gevent.event.Event()
        self._going.set()
        self._plugin.more_readings = self._readings
        gevent.spawn(self._obey)

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
        gc.collect()
        gc.freeze()  # what is here stays: collections during the run look at the run's own objects only
        self._begun.set()
        gevent.spawn(self._conduct)
        if self.open and self._sends:
            gevent.spawn(self._dispatch)
        else:
            self._exhausted.set()

    def _conduct(self) -> None:
        """Walks through the stages, then waits for what is in flight, then ends what is still there."""
        index, begin = 0, self.timeline.begin_ns
        while not self._ends() and self.timeline.has_stage(index):
            self._sleep(begin)
            self._mark("stage_started", begin, stage=index)
            while self.now_ns() < self.timeline.stage_end_ns(index) and not self._ends():
                self._sleep_until(self.timeline.stage_end_ns(index))
            begin = self.now_ns() if self._ends() else self.timeline.stage_end_ns(index)
            self._mark("stage_ended", begin, stage=index)
            index += 1
        self._exhausted.wait()
        self._stop(self._grace_ns)
        deadline = self.now_ns() + self._grace_ns
        self._await(deadline if self._sends else deadline + SETTLE_NS)
        gevent.killall(list(self._in_flight), block=True, timeout=2.0)
        self.exchanges.close()
        if self._leads:
            self._runner.quit()
        else:
            self._runner.send_message(DONE)

    def _ends(self) -> bool:
        """Whether nothing new may start; another greenlet may have seen to that while this one slept."""
        return self._draining

    def _may_send(self) -> bool:
        return not self._paused and not self._draining

    def _sleep(self, until_ns: int) -> None:
        """Sleeps until a moment that no change moves, or until the end."""
        while not self._ends() and not self._sleep_until(until_ns):
            pass

    def _await(self, deadline_ns: int) -> None:
        """Waits until nothing is in flight any more, here or in the workers."""
        while self.now_ns() < deadline_ns:
            if not self._in_flight if self._sends else self._workers_done >= self._orders.workers:
                return
            self._drained.clear()
            self._drained.wait((deadline_ns - self.now_ns()) / NS_PER_S)

    def _worker_done(self) -> None:
        self._workers_done += 1
        self._drained.set()

    def _mark(self, kind: str, at_ns: int, **more: Any) -> None:
        if self._leads:
            self.recorder.event(at_ns, kind, **more)

    def _stop(self, grace_ns: int) -> None:
        """Nothing new starts from here on. Only the first call counts."""
        if self._draining:
            return
        self._draining, self._grace_ns = True, grace_ns
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
                self._change()
            case "next_stage":
                self.timeline.next_stage(at)
                self._change()
            case "append_stage":
                stage = Stage(**order["stage"])
                self.timeline.append(stage)
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

    # --- who sends ---------------------------------------------------------------------------------------------------

    def users_wanted(self) -> int:
        """How many users Locust should have in all its processes; each gets as many as the greatest share needs."""
        processes = self._orders.workers
        if self.open:
            return processes
        peak = math.ceil(self.timeline.peak_until(self.now_ns() + AHEAD_NS) - 1e-9)
        return max(-(-peak // processes), 1) * processes

    def host(self) -> None:
        """What a Locust user does: one virtual user's part of the plan; in the open model it waits for the end."""
        number = self._hosted_users * self._of + self._index
        self._hosted_users += 1
        self._begun.wait()
        if not self.open:
            self._live(number)
        while not self._draining:
            self._changed.wait()
        raise StopUser

    def _live(self, user: int) -> None:
        """A closed user: due when it is ready, active while the level is above its number."""
        jar: dict[str, str] = {}
        own: list[Connection] = []
        ready = self.timeline.begin_ns
        while not self._draining:
            number, self._iterations = self._iterations * self._of + self._index, self._iterations + 1
            iteration = self._iteration(user, number, jar, own)
            if iteration is None:
                return
            for step in iteration.scenario.steps:
                due = self._activated(user, ready)
                if due is None:
                    return
                end, goes_on = self._request(iteration, step, due)
                ready = end + self._think(iteration.scenario, step)
                if not goes_on:
                    break

    def _activated(self, user: int, ready_ns: int) -> int | None:
        """Sleeps until a user that is ready at a moment is due; when that was. None at the end."""
        while not self._draining:
            if self._paused:
                self._going.wait()
                ready_ns = max(ready_ns, self.now_ns())
                continue
            due = self.timeline.active_from(user, ready_ns)
            if due is None:
                self._changed.wait()
                ready_ns = max(ready_ns, self.now_ns())
            elif self._sleep_until(due) and self._may_send():
                return due
        return None

    def _dispatch(self) -> None:
        """The open model: an iteration for each arrival, at its moment or, where this process is late, after it.

        `_exhausted` says that none is left: the last arrival is due with the end of the last stage, not after it.
        """
        number = self._index
        arrivals = self.timeline.arrivals(0)
        while not self._draining:
            changed = self._changed
            due = next(arrivals, None)
            if due is None:
                self._exhausted.set()
                changed.wait()
                self._exhausted.clear()
            elif self._sleep_until(due):
                gevent.spawn(self._arrive, number, due)
                number += self._of
                continue
            arrivals = self.timeline.arrivals(self.now_ns())

    def _arrive(self, number: int, due: int) -> None:
        iteration = self._iteration(number, number, {}, self._pool)
        if iteration is None:
            return
        first, *_ = iteration.scenario.steps
        for step in iteration.scenario.steps:
            self._sleep(due)
            if self._ends() and step is not first:
                return
            end, goes_on = self._request(iteration, step, due)
            if not goes_on:
                return
            due = end + self._think(iteration.scenario, step)

    def _iteration(self, user: int, number: int, jar: dict[str, str], idle: list[Connection]) -> Iteration | None:
        """One more pass; None, and the end of the run, where there is no row of test data left for it."""
        scope = Scope(dict(self.hosted.constants), self._draws, time.time, user, number)
        scenario = self.hosted.pick(self._draws)
        if scenario.feeds:
            share = (self._index, self._of)
            try:
                scope.variables |= self._rows.take(scenario.feeds, share, None if self.open else user, self._draws)
            except UsedUp as found:
                if not self._draining:
                    self.recorder.event(self.now_ns(), "note", reason=f"all rows of {found.args[0]} are used")
                self._stop(self._grace_ns)
                return None
        return Iteration(scenario, scope, jar, idle)

    def _think(self, scenario: HostedScenario, step: HostedStep) -> int:
        told = step.think_ns if step.think_ns is not None else scenario.think_ns
        return draw_ns(told, lambda: 1.0 - self._draws.random())

    def _request(self, iteration: Iteration, step: HostedStep, due: int) -> tuple[int, bool]:
        """Sends a step's request that is due; when it ended, and whether its iteration goes on.

        A request that cannot be made because a variable is missing was never due.
        """
        iteration.scope.seq = self._sequence
        try:
            request = step.render(iteration.scope)
        except MissingVariable:
            return due, False
        self._sequence += 1
        attempt = Attempt(self, iteration, step, request, due)
        if self._paused or len(self._in_flight) >= self.hosted.max_in_flight:
            attempt.finish(Outcome.NOT_SENT, "paused" if self._paused else "in_flight_limit")
            return max(self.now_ns(), due) + RETRY_NS, False
        greenlet = gevent.getcurrent()
        self._in_flight.add(greenlet)
        try:
            return attempt.run()
        finally:
            self._in_flight.discard(greenlet)
            if self._draining and not self._in_flight:
                self._drained.set()

    def give_way(self) -> GreenletExit | None:
        """Lets others that can read go first, where there are some; what was thrown at this greenlet meanwhile."""
        if len(self._in_flight) > CROWD:
            try:
                gevent.sleep(0)
            except GreenletExit as thrown:
                return thrown
        return None

    # --- what is told ------------------------------------------------------------------------------------------------

    def tell_locust(self, step: HostedStep, row: Row, body_bytes: int) -> None:
        """Locust's own statistics, web page and CSV files show plans as they show scripts."""
        self._environment.events.request.fire(
            request_type=step.method,
            name=step.endpoint.removeprefix(f"{step.method} "),
            response_time=(row.end_ns - row.start_ns) / 1e6,
            response_length=body_bytes,
            exception=CatchResponseError(row.error) if row.error else None,
            context={},
            url=row.url,
        )

    def _readings(self) -> dict[str, float]:
        """This process's part of the load, for the health of this second."""
        if not self._sends:
            return {}
        lags, self.lags = sorted(self.lags), []
        readings = lag_readings(lags) if lags else {}
        level = 0.0 if self._draining or self._paused else self.timeline.level(self.now_ns())
        if self.open:
            readings["planned_rate"] = level * self.hosted.requests_per_iteration / self._of
        else:
            numbers = range(self._index, self._hosted_users * self._of, self._of)
            readings["users"] = float(sum(number < level for number in numbers))
        return readings | {"in_flight": float(len(self._in_flight)), "connections": float(self.connections)}


LANE: Lane | None = None
"""The lane of this process; forked workers inherit it and make their own parts in `on_init`."""


def install(orders: Orders, plugin: Plugin) -> Lane:
    """Makes the lane of this process."""
    global LANE
    LANE = Lane(orders, plugin)
    LANE.listen(events)
    return LANE


class PlanUser(User):
    """A stock Locust user that does a plan's part."""

    @task
    def host_plan(self) -> None:
        """All there is to do, until the end."""
        if LANE is None:
            raise StopUser
        LANE.host()


class PlanShape(LoadTestShape):
    """How many users Locust has ready; the lane decides which of them are at work, and ends the run."""

    @override
    def tick(self) -> tuple[int, float]:
        users = LANE.users_wanted() if LANE is not None else 1
        return users, float(max(users, 1))
