"""A plan under Locust's own load control: its users park, and the engine sends as many users as there are.

Locust starts and stops users by its flags, its web page, its shapes and its dispatcher, in each of its processes; this
module counts those of its own process and tells the engine, which lets in or parks as many. In a plan whose arrivals
are scheduled, the same number is the rate. Each test is a run of its own, with an engine of its own.

Of the processes that were there when the test began, each is one share of the plan's users, arrivals and rows of test
data. One that joins later takes the share of a lost one, or draws the same rows as another does.
"""

import logging
import resource
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
from locust import User
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.user.task import LOCUST_STATE_WAITING
from typing_extensions import override

from surgeline import __version__
from surgeline.engines.native import OWN_DESCRIPTORS, most_in_flight
from surgeline.locust.plans import HostedPlan, Readied
from surgeline.locust.recorder import NS_PER_S
from surgeline.locust.sending import LAST_WORDS_S, Sending

if TYPE_CHECKING:
    from surgeline.locust.plugin import Plugin

log = logging.getLogger("surgeline")

SPENT = "surgeline_spent"
"""A worker tells its master that nothing of its share will be due any more."""
HEAD_START_NS = 20_000_000
"""Between the engine's start and that of its schedule: what it is told until then holds from the beginning."""
MOST_SHOWN = 1000
"""Tasks that stand for scenarios in Locust's ratios; plans with greater weights have one for each scenario."""


class UserLane:
    """One test's part of a plan in this process."""

    def __init__(self, plugin: "Plugin", environment: Environment, runner: Runner, told: Mapping[str, Any]) -> None:
        """`told`: the plan as the leading process tells of it, `workers` shares in all, of which this is `share`."""
        self._plugin = plugin
        self._environment = environment
        self._runner = runner
        self._index, self._of = int(told["share"]), max(int(told["workers"]), 1)
        self._compiled = dict(told["compiled"])
        self._users = 0
        self._told = False
        self._stopping = False
        plugin.measures_users = False
        plugin.before_stopping, plugin.before_leaving = self.stop, self.cut_off
        began_s = time.time() - plugin.now_ns() / NS_PER_S
        self._sending = Sending(plugin, runner, self._compiled, began_s, self._ended)

    def begin(self) -> None:
        """Starts the engine, with as many users as are there."""
        global LANE
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        stage = self._compiled["workload"]["stages"][0]
        level = stage["from"] * self._of  # each process sends its share of this, times its own users
        self._sending.begin(
            {
                "clock_monotonic_ns": self._plugin.anchor_ns,
                "workers": 1,
                "worker": self._plugin.worker,
                "share": {"index": self._index, "of": self._of},
                "begin_ns": max(self._plugin.now_ns(), 0) + HEAD_START_NS,
                "max_in_flight": most_in_flight(descriptors),
                "connection": self._compiled["connection"] | {"most_open": max(descriptors - OWN_DESCRIPTORS, 1)},
                "workload": self._compiled["workload"] | {"stages": [stage | {"from": level, "to": level}]},
            }
        )
        self._follow()
        LANE = self

    def enter(self) -> None:
        """Locust has one user more."""
        self._users += 1
        self._tell_soon()

    def leave(self) -> None:
        """Locust has one user less; its request in flight may end."""
        self._users -= 1
        self._tell_soon()

    def stop(self, grace_s: float) -> None:
        """The test stops: nothing new is due, what is in flight may end within the grace. Waits for that."""
        if self._stopping:
            return
        self._stopping = True
        self._sending.stop(grace_s)
        self._sending.over.wait(grace_s + LAST_WORDS_S)

    def cut_off(self) -> None:
        """All that was measured is written down. Twice is fine."""
        global LANE
        self._stopping = True
        self._sending.cut_off()
        if LANE is self:
            LANE = None

    def _tell_soon(self) -> None:
        # Users come and go by the hundred at once; the engine is told once.
        if not self._told:
            self._told = True
            gevent.get_hub().loop.run_callback(self._follow)

    def _follow(self) -> None:
        self._told = False
        if self._sending.running is not None and not self._stopping:
            self._sending.running.scale(float(self._users))

    def _ended(self) -> None:
        """The engine has ended; where nobody asked it to, it broke, or the rows of test data are used up."""
        if self._stopping:
            return
        self._stopping = True
        if not self._plugin.fault:
            log.warning("all rows of the plan's test data are used: nothing more is sent from here")
        if isinstance(self._runner, WorkerRunner):
            self._runner.send_message(SPENT, {"fault": self._plugin.fault})
        else:
            end_test(self._environment, self._runner, self._plugin.fault)


def end_test(environment: Environment, runner: Runner, fault: str) -> None:
    """Ends a test from within, as Locust does when its time is up; a fault is no success."""
    if fault:
        environment.process_exit_code = 1
    options = environment.parsed_options
    ends = runner.quit if options is not None and options.headless else runner.stop
    gevent.spawn(ends)


LANE: UserLane | None = None
"""The test that this process takes part in."""


class PlanUser(User):
    """A stock Locust user that stands for a user of the plan, or for an arrival each second."""

    functions = ("plan",)
    """Keeps Locust from warning, on workers, that there are no tasks."""

    @override  # type: ignore[misc]  # it is final, and Locust's own PytestUser replaces it too
    def run(self) -> None:
        self._state = LOCUST_STATE_WAITING  # whoever stops it need not wait for it
        while (lane := LANE) is None:
            gevent.sleep(0.05)  # on another machine the plan comes with the master's first word
        lane.enter()
        try:
            gevent.event.Event().wait()
        finally:
            lane.leave()


def _scenario(name: str) -> Callable[[User], None]:
    """What stands for a scenario among Locust's tasks; nobody calls it."""

    def stands_for(user: User) -> None:
        """The engine does it."""

    stands_for.__name__ = stands_for.__qualname__ = name
    stands_for.locust_tag_set = {name}  # type: ignore[attr-defined]  # as Locust's `tag` does it
    return stands_for


class Hosting:
    """The plan of this process's Locust, for one test after the other; of the process that leads."""

    def __init__(self, hosted: HostedPlan, plugin: "Plugin") -> None:
        self.hosted = hosted
        self.readied: Readied | None = None
        self._plugin = plugin
        self._lane: UserLane | None = None
        self._spent = 0
        scenarios = hosted.plan.scenarios
        weights = {name: part.weight for name, part in scenarios.items()}
        if sum(weights.values()) > MOST_SHOWN:
            weights = dict.fromkeys(weights, 1)
        PlanUser.tasks = [task for name in scenarios for task in [_scenario(name)] * weights[name]]
        PlanUser.host = hosted.plan.target

    def on_init(self, environment: Environment, runner: Runner) -> None:
        """After the fork. SystemExit with 2 where users of a locustfile stand beside those of the plan."""
        others = [user.__name__ for user in environment.user_classes if user is not PlanUser]
        if others:
            log.error(
                "%s beside %s: users of a locustfile and of a plan do not go into one test; a file beside a plan "
                "may have a LoadTestShape and listeners",
                ", ".join(others),
                self.hosted.path,
            )
            raise SystemExit(2)
        environment.locustfile = self.hosted.path.name
        if isinstance(runner, MasterRunner):
            runner.register_message(SPENT, lambda msg, **_: self._on_spent(environment, runner, msg.data or {}))

    def open(self, environment: Environment, run_id: str) -> bool:
        """Makes the plan ready for a test that begins; False where it cannot be sent, which has been said."""
        scenarios = [task.__name__ for task in PlanUser.tasks if callable(task)]
        agent = f"surgeline/{__version__} (+run {run_id})"
        self._spent = 0
        try:
            header = ("x-surgeline-run", run_id)
            self.readied = self.hosted.ready(environment.host, scenarios, run_id, agent, header)
        except ValueError as error:
            self.readied = None
            log.error("%s: %s", self.hosted.path, error)
            environment.process_exit_code = 2
            if environment.runner is not None:
                end_test(environment, environment.runner, "")
            return False
        log.info("%s", self.readied.means)
        return True

    @property
    def per_user_per_s(self) -> float | None:
        """As `Readied.per_user_per_s`, of the test that runs or ran last; None before the first."""
        return self.readied.per_user_per_s if self.readied is not None else None

    @property
    def means(self) -> str:
        """As `Readied.means`."""
        return self.readied.means if self.readied is not None else ""

    def told(self) -> dict[str, Any]:
        """The plan as workers are told of it."""
        if self.readied is None:
            return {}
        plan = self.readied.plan.model_dump(mode="json", by_alias=True)
        compiled = dict(self.readied.compiled)
        return {"plan": plan, "compiled": compiled, "workers": 1, "native": True, "users": True}

    def begin(self, environment: Environment, runner: Runner) -> None:
        """Sends, where this process is the only one."""
        if self.readied is not None and not isinstance(runner, MasterRunner):
            self._lane = UserLane(self._plugin, environment, runner, self.told() | {"share": 0})
            self._lane.begin()

    def _on_spent(self, environment: Environment, runner: MasterRunner, told: Mapping[str, Any]) -> None:
        self._spent += 1
        self._plugin.fault = self._plugin.fault or str(told.get("fault", ""))
        if self._spent >= max(len(runner.clients.running) + len(runner.clients.spawning), 1):
            end_test(environment, runner, self._plugin.fault)


def take_share(plugin: "Plugin", environment: Environment, runner: WorkerRunner, told: Mapping[str, Any]) -> None:
    """A worker sends the share of a plan that its master told it of."""
    UserLane(plugin, environment, runner, told).begin()
