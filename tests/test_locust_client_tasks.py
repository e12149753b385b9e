"""A user of the native client runs its tasks as Locust does: the same ones, in the same order, with the same ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("surgeline._engine", reason="the native engine is not built")

ROOT = Path(__file__).parent.parent

SCRIPT = """
import json, random, sys
import gevent, locust
from locust import TaskSet, User, constant, events, task
from locust.env import Environment
from locust.exception import RescheduleTask, RescheduleTaskImmediately, StopUser

if sys.argv[1] == "native":
    from surgeline.locust.tasks import Turns
else:
    class Turns: pass
told = []

class Nested(TaskSet):
    @task
    def inside(self):
        told.append("inside")
        self.interrupt(reschedule=random.random() < 0.5)

class Several(Turns, User):
    tasks = [Nested]
    def wait_time(self):
        told.append(("asked to wait", self._state))
        return 0
    def on_start(self):
        told.append(type(self._taskset_instance).__name__)
    def on_stop(self):
        told.append(("stopped", self._state))
    @task(3)
    def one(self):
        told.append("one")
    @task
    def two(self):
        told.append("two")
        self._taskset_instance.schedule_task(Several.planned, first=True)
    def planned(self):
        told.append("planned")
    @task
    def fails(self):
        raise ValueError("wrong")
    @task
    def skips(self):
        raise RescheduleTaskImmediately() if len(told) % 2 else RescheduleTask()
    @task
    def ends(self):
        if len(told) > 150:
            raise StopUser()

random.seed(7)
environment = Environment(user_classes=[Several])
environment.events.user_error.add_listener(
    lambda user_instance, exception, tb, **_: told.append(("error", type(user_instance).__name__, repr(exception)))
)
user = Several(environment)
user.start(gevent.pool.Group()).join()
class None_(Turns, User):
    pass
idle = None_(environment)
environment.catch_exceptions = False
idle.start(gevent.pool.Group()).join()
told.append(repr(idle.greenlet.exception)[:40])
told.append(random.random())
print(json.dumps(told))
"""


def run(script: str, *arguments: str) -> str:
    """What a process of its own prints."""
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


def test_tasks_are_those_that_locust_would_run() -> None:
    """
    With the same seed: which tasks, when the user is asked how long to wait and in which state, what interrupts,
    reschedules, fails and ends; and the random numbers are as many.
    """
    stock, ours = json.loads(run(SCRIPT, "stock")), json.loads(run(SCRIPT, "native"))
    assert ours == stock
    shown = {str(part) for part in stock}
    assert {"one", "two", "planned", "inside"} <= shown
    assert "['error', 'DefaultTaskSet', \"ValueError('wrong')\"]" in shown


DRAWS = """
import random
from surgeline.locust.tasks import draw, is_stock
for count in range(1, 70):
    tasks = list(range(count))
    random.seed(count)
    stock = [random.choice(tasks) for _ in range(50)]
    random.seed(count)
    assert [draw(tasks) for _ in range(50)] == stock
assert is_stock()
import locust
locust.TaskSet.wait = lambda self: None
assert not is_stock()
"""


def test_a_loop_that_somebody_has_changed_is_left_to_locust() -> None:
    """Draws are those of random.choice; a method of Locust's loop that is replaced is seen."""
    run(DRAWS)


STARVED = """
import sys, json
import gevent
from locust import constant, task
from locust.env import Environment
import surgeline.locust

asked = [0]

class Asks(getattr(surgeline.locust, sys.argv[1])):
    host = "http://127.0.0.1:" + sys.argv[2]
    @task
    def ask(self):
        self.client.get("/json")
        asked[0] += 1

class Works(getattr(surgeline.locust, sys.argv[1])):
    host = "http://127.0.0.1:" + sys.argv[2]
    @task
    def work(self):
        pass

environment = Environment(user_classes=[Asks, Works])
runner = environment.create_local_runner()
ticks = [0]
def tick():
    while True:
        gevent.sleep(0.01)
        ticks[0] += 1
gevent.spawn(tick)
runner.start(8, spawn_rate=100)
gevent.sleep(1)
before = asked[0], ticks[0]
gevent.sleep(1)
then = asked[0], ticks[0]
runner.quit()
print(json.dumps([then[0] - before[0], then[1] - before[1], environment.stats.total.num_failures]))
"""


@pytest.mark.parametrize("kind", ["HttpUser", "FastHttpUser"])
def test_users_without_a_wait_leave_others_their_turn(kind: str) -> None:
    """Users that ask, users that never do, and a clock, all in one hub: each of them gets on."""
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/locust_client/server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None and server.stdout is not None
    try:
        port = server.stdout.readline().decode().strip()
        asked, ticks, failures = json.loads(run(STARVED, kind, port))
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait(10)
    assert asked > 10
    assert ticks > 2
    assert failures == 0
