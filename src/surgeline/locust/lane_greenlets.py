"""The lane where the native engine is not built: greenlets of Locust's own process send, over gevent's sockets.

In the closed model each Locust user is one virtual user, which parks while the plan wants fewer; a shape tells Locust
how many to have ready. In the open model one Locust user in each process parks for the whole run while a dispatcher
starts an iteration whenever one is due, whatever has come back.
"""

import gc
import time
from random import Random
from typing import Any

import gevent
import gevent.event
from gevent import GreenletExit
from locust import User
from locust.exception import CatchResponseError
from typing_extensions import override

from surgeline.locust.attempt import Attempt
from surgeline.locust.exchanges import Exchanges
from surgeline.locust.lane import Lane
from surgeline.locust.orders import Orders
from surgeline.locust.plugin import Plugin, lag_readings
from surgeline.locust.recorder import Row
from surgeline.locust.rows import Rows, UsedUp
from surgeline.locust.steps import Hosted, HostedScenario, HostedStep
from surgeline.locust.wire import Connection, Target
from surgeline.plan.evaluate import MissingVariable, Scope
from surgeline.plan.jar import Jar
from surgeline.plan.model import Plan
from surgeline.plan.pause import draw_ns
from surgeline.samples import Outcome

RETRY_NS = 1_000_000
"""A closed user whose request could not be sent is ready again after this."""
CROWD = 4
"""Requests in flight from which on answers may come together: their ends are read before any of them is judged."""


class Iteration:
    """One pass through a scenario: its variables and cookies, and the idle connections it may take one from.

    Those are a closed user's own, or the pool of all arrivals.
    """

    __slots__ = ("idle", "jar", "scenario", "scope")

    def __init__(self, scenario: HostedScenario, scope: Scope, jar: Jar, idle: list[Connection]) -> None:
        self.scenario = scenario
        self.scope = scope
        self.jar = jar
        self.idle = idle


class GreenletLane(Lane):
    """Greenlets send."""

    target: Target
    exchanges: Exchanges

    def __init__(self, orders: Orders, plugin: Plugin) -> None:
        super().__init__(orders, plugin)
        self.hosted = Hosted(Plan.model_validate(orders.plan), self.compiled)
        self._rows = Rows(self.compiled.get("feeds", ()))
        self.lags: list[int] = []
        """How late requests were sent since the last health reading, ns."""
        self.connections = 0
        """Open ones, idle or in use."""
        self._in_flight: set[Any] = set()
        self._arriving = 0
        """Arrivals whose greenlet has not begun to run."""
        self._iterations = 0
        self._sequence = 0
        self._pool: list[Connection] = []

    @override
    def prepare(self) -> None:
        self.target = Target.of(self.hosted.told["target"])
        self._draws = Random((self.workload.seed << 16) + self._index)
        self.exchanges = Exchanges(self.hosted.public, self.recorder.exchange, self._draws)
        self._plugin.more_readings = self._readings

    @override
    def send(self) -> None:
        gc.collect()
        gc.freeze()  # what is here stays: collections during the run look at the run's own objects only
        if self.open:
            gevent.spawn(self._dispatch)
        else:
            self._exhausted.set()

    @override
    def sending(self) -> bool:
        return bool(self._in_flight) or self._arriving > 0

    @override
    def cut_off(self) -> None:
        gevent.killall(list(self._in_flight), block=True, timeout=2.0)
        self.exchanges.close()

    @override
    def take_part(self, number: int, user: User) -> None:
        if not self.open:
            self._live(number)

    def _may_send(self) -> bool:
        return not self._paused and not self._draining

    def _live(self, user: int) -> None:
        """A closed user: due when it is ready, active while the level is above its number."""
        jar = Jar(self.hosted.origin)
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
                self._arriving += 1
                gevent.spawn(self._arrive, number, due)
                number += self._of
                continue
            arrivals = self.timeline.arrivals(self.now_ns())

    def _arrive(self, number: int, due: int) -> None:
        self._arriving -= 1
        iteration = self._iteration(number, number, Jar(self.hosted.origin), self._pool)
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

    def _iteration(self, user: int, number: int, jar: Jar, idle: list[Connection]) -> Iteration | None:
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
