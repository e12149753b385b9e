"""A user's tasks, one after the other: Locust's `DefaultTaskSet` at a lower cost.

The loop below does what `TaskSet.run` does for tasks that stand in a user class: tasks are drawn by the same random
numbers, `wait_time` is asked at the same moments, and what tasks raise means the same. One thing is left out: a wait of
nothing gives the hub its turn, and where the task has just waited for an answer the hub has had it.

Where somebody has replaced a part of Locust's own loop, that loop is used.
"""

import random
import traceback
from types import FunctionType
from typing import Any

from gevent import GreenletExit
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser
from locust.user.task import (
    LOCUST_STATE_RUNNING,
    LOCUST_STATE_STOPPING,
    LOCUST_STATE_WAITING,
    DefaultTaskSet,
    TaskSet,
    logger,
    task,
)

from surgeline.locust import native

_PARTS = (
    *("run", "wait", "wait_time", "_sleep", "schedule_task", "get_next_task", "execute_next_task", "execute_task"),
    *("on_start", "on_stop"),
)
"""The methods that make up Locust's loop."""
_FILE = task.__code__.co_filename
_CHOICE = random.choice


def is_stock() -> bool:
    """Whether Locust's loop is as Locust has it."""
    parts = [getattr(DefaultTaskSet, name) for name in _PARTS] + [getattr(TaskSet, name) for name in _PARTS]
    return all(isinstance(part, FunctionType) and part.__code__.co_filename == _FILE for part in parts)


def draw(tasks: list[Any]) -> Any:
    """As `random.choice`, by the same numbers; IndexError where there is nothing."""
    count = len(tasks)
    bits = count.bit_length()
    drawn = random.getrandbits(bits)
    while drawn >= count:
        if not count:
            raise IndexError("nothing to draw from")
        drawn = random.getrandbits(bits)
    return tasks[drawn]


class Tasks(DefaultTaskSet):
    """The tasks of a user class."""

    def run(self) -> None:  # type: ignore[misc]  # final, for those who write task sets
        """As `TaskSet.run`."""
        user = self._user
        queue = self._task_queue
        while True:
            try:
                lane = native.opened()
                waits = lane.client.waits if lane is not None else -1
                try:
                    if queue:
                        chosen: Any = queue.popleft()
                    elif user.tasks and random.choice is _CHOICE:
                        chosen = draw(user.tasks)
                    else:
                        chosen = self.get_next_task()  # type: ignore[no-untyped-call]
                    if user._state == LOCUST_STATE_STOPPING:
                        raise StopUser()
                    if type(chosen) is FunctionType:
                        chosen(user)
                    else:
                        self.execute_task(chosen)  # type: ignore[no-untyped-call]
                except RescheduleTaskImmediately:
                    continue
                except RescheduleTask:
                    self.wait()  # type: ignore[no-untyped-call]
                    continue
                if user._state == LOCUST_STATE_STOPPING:
                    raise StopUser()
                user._state = LOCUST_STATE_WAITING
                asked: Any = user.wait_time  # None in classes that say it in the old way
                seconds = asked() if asked else self.wait_time()  # type: ignore[no-untyped-call]
                if seconds > 0 or lane is None or lane.client.waits == waits:
                    self._sleep(seconds)  # type: ignore[no-untyped-call]
                if user._state == LOCUST_STATE_STOPPING:  # set by another greenlet
                    raise StopUser()
                user._state = LOCUST_STATE_RUNNING
            except InterruptTaskSet as interrupt:
                kind = RescheduleTaskImmediately if interrupt.reschedule else RescheduleTask
                raise kind(interrupt.reschedule) from interrupt
            except (StopUser, StopTest, GreenletExit):
                raise
            except Exception as error:
                environment = user.environment
                environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)
                if not environment.catch_exceptions:
                    raise
                logger.error("%s\n%s", error, traceback.format_exc())
                self.wait()  # type: ignore[no-untyped-call]


Tasks.__name__ = Tasks.__qualname__ = "DefaultTaskSet"  # as listeners and logs know it


class Turns:
    """What a user class inherits from so that its tasks are run so."""

    @property
    def _taskset_instance(self) -> TaskSet | None:
        return self.__dict__.get("_taskset_instance")

    @_taskset_instance.setter
    def _taskset_instance(self, tasks: TaskSet | None) -> None:
        if type(tasks) is DefaultTaskSet and is_stock():
            tasks.__class__ = Tasks
        self.__dict__["_taskset_instance"] = tasks
