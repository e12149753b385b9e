"""One engine at work inside a Locust process: what it measures goes to the journal and to Locust's statistics.

The engine's threads send without ever taking the GIL; a greenlet carries their frames. Native threads start with
`begin`, after any fork.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
from locust.runners import Runner, WorkerRunner

from surgeline import _engine
from surgeline.locust.lane_statistics import LaneStatistics
from surgeline.samples import Frame

if TYPE_CHECKING:
    from surgeline.locust.plugin import Plugin

log = logging.getLogger("surgeline")

LOOK_S = 0.1
"""How often the engine's frames are fetched; it makes them once a second, and batches of rows when they are full."""
LAST_WORDS_S = 5.0
"""How long the frames of an engine that was told to end are waited for."""
MARKS = frozenset({"stage_started", "stage_ended"})
"""Events of the engine that the leading process records instead, for all processes."""


class Sending:
    """The engine's part of a plan in this process."""

    def __init__(
        self, plugin: "Plugin", runner: Runner, compiled: Mapping[str, Any], began_s: float, ended: Callable[[], None]
    ) -> None:
        """`began_s` is the run's time zero as `time.time()` shows it; `ended` is called when the engine has."""
        self._plugin = plugin
        self._runner = runner
        self._compiled = dict(compiled)
        self._ended = ended
        steps = [step for scenario in compiled["scenarios"] for step in (*scenario["once"], *scenario["steps"])]
        endpoints = compiled["endpoints"]
        methods = {endpoints[step["endpoint"]]: step["method"] for step in reversed(steps)}
        self._statistics = LaneStatistics(lambda: runner.stats, methods, began_s)
        self.running: _engine.Running | None = None
        """The engine, from `begin` to `cut_off`."""
        self.over = gevent.event.Event()
        """The engine has ended, and everything it measured is written down."""

    def begin(self, more: Mapping[str, Any]) -> None:
        """Starts the threads; `more` is what this process's part of the plan has instead of the whole's."""
        try:
            self.running = _engine.start(json.dumps(self._compiled | dict(more)))
        except (ValueError, OSError, RuntimeError) as error:
            self._broke(f"the native engine did not start: {error}")
            self._end()
            return
        gevent.spawn(self._carry)

    def stop(self, grace_s: float) -> None:
        """Nothing new starts; what is in flight may end within the grace."""
        if self.running is not None:
            self.running.stop(grace_s)

    def cut_off(self) -> None:
        """Ends what is in flight, and writes down what is left. Twice is fine."""
        running, self.running = self.running, None
        if running is None:
            return
        running.stop(0.0)
        self.over.wait(LAST_WORDS_S)
        running.close()
        if isinstance(self._runner, WorkerRunner):
            # The master adds up what it is sent: the last second must be there before it is told that all is over.
            self._runner._send_stats()

    def _carry(self) -> None:
        """Until the engine has ended: its frames to the journal, its windows to Locust's statistics."""
        running, recorder = self.running, self._plugin.recorder
        if running is None or recorder is None:
            return
        try:
            while (frames := running.next(0.0)) is not None:
                if frames:
                    recorder.carry([frame for frame in frames if not _is_mark(frame)])
                    for kind, payload in frames:
                        if kind == Frame.WINDOWS:
                            self._statistics.add(payload)
                    self._statistics.explain(running.failures())
                # Batches of rows come one by one: there may be another already.
                gevent.sleep(0 if frames else LOOK_S)
        except Exception as error:
            self._broke(str(error))
            running.stop(0.0)
        finally:
            self._statistics.close()
            self._end()

    def _broke(self, sentence: str) -> None:
        log.error("%s", sentence)
        self._plugin.fault = sentence

    def _end(self) -> None:
        self.over.set()
        self._ended()


def _is_mark(frame: tuple[int, bytes]) -> bool:
    return frame[0] == Frame.EVENT and json.loads(frame[1]).get("kind") in MARKS
