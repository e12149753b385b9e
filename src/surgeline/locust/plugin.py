"""Every request of any locustfile becomes a sample of ours; Locust itself notices nothing.

What comes in are the events that stock Locust fires; what leaves are frames in this process's own segment of the run's
journal. Locust's statistics, its web page, CSV files, report and exit codes are not touched: nothing is replaced,
listeners are added, and Locust's group of users gets a greenlet class that watches (`watched`).

A run is opened in one of two ways. Started by `surgeline run`, Locust finds *orders* and writes into the journal they
name. Started by hand, the first process makes a run directory for each test and hands it over when the test has ended.
A distributed run's master records events and its own health; every worker process records its requests, into the run's
journal where the master forked it, or as `distributed` has it.
"""

import atexit
import hashlib
import logging
import os
import resource
import signal
import subprocess
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import locust
from locust.argument_parser import parse_locustfile_option
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment
from locust.event import EventHook, Events
from locust.runners import MasterRunner, Runner, WorkerRunner
from locust.user import HttpUser, User

from surgeline.locust.copies import Copies
from surgeline.locust.distributed import Joined, Master, greet
from surgeline.locust.exchanges import Exchanges, sides_of
from surgeline.locust.orders import Orders, die_with_parent
from surgeline.locust.outcome import native_outcome_of, outcome_of, text_of
from surgeline.locust.recorder import NS_PER_S, Frames, Recorder, Row
from surgeline.locust.watched import InFlight, Watch, WatchedUser, current_user, left_behind, monotonic_of
from surgeline.samples import Outcome
from surgeline.store.errors import StoreError
from surgeline.store.journal import Segment, open_segments
from surgeline.store.rundir import DEFAULT_ROOT, RunDirectory

if TYPE_CHECKING:
    from surgeline.locust.lane_users import Hosting

log = logging.getLogger("surgeline")

RUN_HEADER = "X-Surgeline-Run"
METER_S = 0.01
"""How often the hub's lateness is measured: often enough for a p99 of a second, rare enough to cost nothing."""
SHORTEST_S = 0.25
"""A share of a core over less than this says more about the moment than about the run."""
MOST_HELD = 20_000
"""Requests kept of a worker that joined late until it has been told of the run."""
MOST_EXCEPTIONS = 200
"""Different exceptions kept of one second; user code that puts a number into each message would have no end of them."""
TRACEBACK_LENGTH = 8_000
MADE_S = 10.0
"""How long the beginning of a test waits for that of the process."""
STILL_NS = 2 * NS_PER_S
"""A loop that has not come round for so long stands still; `engines/locust.py` asks after three seconds of silence."""
HAND_OVER_S = 120.0
"""How long the end of Locust waits for a run directory that is being closed."""


class Plugin:
    """The listeners of one process, and what they write."""

    def __init__(self, orders: Orders | None, report: int | None = None) -> None:
        self.orders = orders
        self._made_in = os.getpid()
        self._interrupted = False
        """Ctrl-C has come to this worker."""
        self._report = report
        """Where `surgeline worker` listens."""
        self.hosting: Hosting | None = None
        """The plan that this Locust was given, where it was given one and leads."""
        self.master: Master | None = None
        self.joined: Joined | None = None
        self._made = gevent.event.Event()
        """Locust has made its runner."""
        self._headers = orders.headers if orders else []
        self._agent = orders.user_agent if orders else ""
        self._held: list[Callable[[], None]] = []
        """Requests of a worker that has not been told of the run it is part of."""
        self.recorder: Recorder | None = None
        self.exchanges: Exchanges | None = None
        self.anchor_ns = 0
        """The run's time zero on CLOCK_MONOTONIC."""
        self.runner: Runner | None = None
        self.environment: Environment | None = None
        self.watch = Watch(self._welcome, self._cut_off)
        self.more_readings: Callable[[], dict[str, float]] | None = None
        """The health readings of whoever hosts a plan, instead of those of Locust's users."""
        self.hosts = False
        """A plan that came from another machine sends here, and Locust's events are its own doing."""
        self.measures_users = True
        """Whether the hub's lateness and Locust's users are this run's health; not where an engine tells its own."""
        self.before_stopping: Callable[[float], None] | None = None
        """Called when a test stops, with the time that requests in flight have: whoever hosts a plan waits for them."""
        self.before_leaving: Callable[[], None] | None = None
        """Called before the journal is closed: whoever hosts a plan has the rest of it written."""
        self.fault = ""
        """What broke, as one sentence for whoever started this process."""
        self._samples: Any = None
        """Requests of the native client that have not been flushed."""
        self._run_id = orders.run_id if orders else ""
        self._directory: RunDirectory | None = None
        self._handing_over: gevent.Greenlet | None = None
        self._errors: dict[tuple[str, str, str], int] = {}
        self._lags: list[int] = []
        self._cpu_s = 0.0
        self._cpu_at = 0.0
        self._round_ns = 0
        """When the hub came round last, on CLOCK_MONOTONIC."""
        self._stands_still = False
        """The other side was told so, and not yet that it goes on."""
        self._flushing = False
        self._complained = False
        self._stopped = False
        self._copies: Copies | None = None
        """Of this process, since it has a runner."""

    # --- life --------------------------------------------------------------------------------------------------------

    def listen(self, events: Events) -> None:
        """Adds the listeners."""
        listeners: tuple[tuple[EventHook, Any], ...] = (
            (events.init, self.on_init),
            (events.test_start, self.on_test_start),
            (events.test_stopping, self.on_test_stopping),
            (events.test_stop, self.on_test_stop),
            (events.user_error, self.on_user_error),
            (events.quit, self.on_quit),
        )
        for hook, listener in listeners:
            hook.add_listener(listener)  # type: ignore[no-untyped-call]  # Locust's events are not annotated
        if self.orders is None or self.orders.plan is None:
            events.request.add_listener(self.on_request)  # type: ignore[no-untyped-call]  # as above

    @property
    def main(self) -> bool:
        """Whether this process leads its run: the only one there is, or the master."""
        return not isinstance(self.runner, WorkerRunner)

    @property
    def worker(self) -> str:
        """As in the column of that name."""
        if isinstance(self.runner, WorkerRunner):
            return f"worker-{self.runner.worker_index}"
        return "master" if isinstance(self.runner, MasterRunner) else "main"

    def now_ns(self) -> int:
        """ns since the run began."""
        return time.monotonic_ns() - self.anchor_ns

    def since_ns(self, at_ns: int) -> int:
        """A moment on CLOCK_MONOTONIC as ns since the run began."""
        return max(at_ns - self.anchor_ns, 0)

    def on_init(self, environment: Environment, runner: Runner | None = None, **_: Any) -> None:
        """The process has been forked, if it was to be, and has its runner."""
        if runner is None:
            return
        self.environment, self.runner = environment, runner
        self._made.set()
        if self.hosting is not None and self.main:
            self.hosting.on_init(environment, runner)
        # Timers count from the loop's own clock, which stood still while files were imported: without this a run time
        # would be too short by as much.
        gevent.get_hub().loop.update_now()
        runner.user_greenlets.greenlet_class = self.watch.greenlet_class()
        if isinstance(runner, WorkerRunner):
            if getattr(environment.parsed_options, "processes", None):
                die_with_parent()
                if os.getpid() != self._made_in and not parse_locustfile_option().worker:  # type: ignore[attr-defined]  # which says a tuple
                    signal.signal(signal.SIGINT, self._leave_it_to_the_master)
            if self.orders is None:
                self.joined = Joined(self, runner, self._report)
        if self.orders is not None:
            self._open(self._segment(self.orders.journal), self.orders.monotonic_ns)
            if self.orders.plan is None:  # else the lane obeys
                gevent.spawn(self._obey, self.orders)
                # Python calls it between two steps of the user's code, and inside of calls that wait for the system.
                # Of all signals this one does no harm to processes that a locustfile started.
                signal.signal(signal.SIGURG, self._asked_where)
            if isinstance(runner, WorkerRunner):
                greet(runner, self.flush)
        if isinstance(runner, MasterRunner):
            self.master = Master(self, runner)
        atexit.register(self._leave)
        self._copies = Copies(self._let_go)
        gevent.spawn(self._beat)
        gevent.spawn(self._meter)

    def _leave_it_to_the_master(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C reaches all that a terminal started; the master that forked this worker stops it, and waits for it.

        A second one ends the process as without us.
        """
        if self._interrupted:
            signal.default_int_handler(number, frame)
        self._interrupted = True

    def on_test_start(self, environment: Environment, **_: Any) -> None:
        """A test begins; by hand, that is a run of its own.

        A worker that joins while one runs may be told to begin before Locust has made it a worker.
        """
        self._made.wait(MADE_S)
        if not self.main:
            return
        if self.orders is None:
            self._open_by_hand(environment)
        if self.master is not None and self.recorder is not None:
            self.master.begin(self._told())
        if self.hosting is not None and self.recorder is not None and self.runner is not None:
            self.recorder.event(self.now_ns(), "note", reason=self.hosting.means)
            self.hosts = True
            self.hosting.begin(environment, self.runner)
        if self.recorder is not None and (self.orders is None or self.orders.plan is None):
            self.recorder.event(self.now_ns(), "stage_started", stage=0)
            if self.hosting is None:
                self._say_what_is_unknown(environment)
        if self.orders is not None:
            lasts = getattr(environment.parsed_options, "run_time", None)
            lasts = None if environment.shape_class is not None else lasts
            self.orders.report("started", run_time_s=lasts if isinstance(lasts, int | float) else None)

    def on_test_stopping(self, environment: Environment, **_: Any) -> None:
        """Nothing new is begun from here on; what is in flight may still end."""
        planned = self.orders is not None and self.orders.plan is not None
        if self.main and self.recorder is not None and not planned:
            self.recorder.event(self.now_ns(), "stage_ended", stage=0)
        if self.before_stopping is not None:
            self.before_stopping(float(environment.stop_timeout or 0.0))
        if self.master is not None and (planned or environment.shape_class is not None):
            # Locust ends a shape before it tells that the test has stopped, and then itself: later is too late.
            self.master.bring_home()

    def on_test_stop(self, **_: Any) -> None:
        """All users have gone, of a master its workers' excepted: those are stopped now, and what they have fetched."""
        self._last_words()
        self._say_what_is_left()
        self._held.clear()
        if self.joined is not None:
            self.joined.finish()
        if self.master is not None:
            self.master.bring_home()
        if self.orders is None:
            self._leave()
        else:
            self.flush()
            if self.main:
                self.orders.report("stopped")
            if self.master is not None and self.orders.plan is None and self.master.is_alone():
                gevent.spawn(self._quit, 0.0)  # Locust would wait for the end of its run time

    def on_quit(self, exit_code: int | None = None, **_: Any) -> None:
        """The process ends with this exit code."""
        self._last_words()
        recorded = self.recorder.recorded if self.recorder is not None else 0
        if self.master is not None:
            self.master.await_home()
        if isinstance(self.runner, MasterRunner) and self.master is not None and self.recorder is not None:
            self.master.count_heads()
            total = self.runner.stats.total
            counted = {"requests": total.num_requests, "failures": total.num_failures}
            self.recorder.event(self.now_ns(), "locust_counted", **counted)
        self._leave()
        if self.joined is not None:
            self.joined.leave()
        if self._handing_over is not None:
            self._handing_over.join(HAND_OVER_S)
        if self.orders is not None and self.main:
            distributed = isinstance(self.runner, MasterRunner)
            self.orders.report(
                "quit", exit_code=exit_code, recorded=None if distributed else recorded, fault=self.fault
            )

    def _let_go(self) -> None:
        """This process is a copy that a locustfile made: what was open belongs to the other one."""
        self.recorder = self.exchanges = self._samples = self._directory = None
        self.before_stopping = self.before_leaving = None
        if self.orders is not None:
            self.orders.pipe = -1

    def _say_what_is_left(self) -> None:
        left = left_behind() if self.recorder is not None and self.measures_users else 0
        if left and self.recorder is not None:
            what = "1 greenlet" if left == 1 else f"{left:,} greenlets"
            reason = (
                f"users left {what} running when the test stopped; what those still send is cut off with the process"
            )
            self.recorder.event(self.now_ns(), "note", reason=reason)

    def _last_words(self) -> None:
        """Whoever hosts a plan ends now; twice is fine."""
        if self.before_leaving is not None:
            self.before_leaving()

    def close_recorder(self) -> None:
        """Writes what is left of this process's requests; twice is fine."""
        if self.exchanges is not None:
            self.exchanges.close()
            self.exchanges = None
        self.flush()
        if self.recorder is not None:
            self.recorder.close()
            self.recorder = None

    def _leave(self) -> None:
        """Writes what is left, and hands over what was opened by hand; twice is fine."""
        self.close_recorder()
        directory, self._directory = self._directory, None
        if directory is not None:
            self._handing_over = gevent.spawn(_hand_over, directory, self.now_ns())

    def _segment(self, journal: Path) -> Segment:
        return Segment(journal, f"locust-{self.worker}", buffer_bytes=8 << 20)

    def _open(self, sink: Frames, anchor_ns: int) -> None:
        self.anchor_ns = anchor_ns
        self.recorder = Recorder(sink, self.worker)
        self.exchanges = Exchanges(str, self.recorder.exchange, Random())
        self._cpu_s, self._cpu_at = time.process_time(), time.monotonic()

    def _obey(self, orders: Orders) -> None:
        while True:
            for order in orders.fresh():
                if order["do"] == "stop" and self.main:
                    gevent.spawn(self._quit, float(order["grace_s"]))
            gevent.sleep(0.05)

    def _quit(self, grace_s: float) -> None:
        if self.runner is None or self.environment is None or self._stopped:
            return
        self._stopped = True
        self.environment.stop_timeout = grace_s
        self.runner.quit()

    # --- requests ----------------------------------------------------------------------------------------------------

    def on_request(
        self,
        request_type: str,
        name: str,
        response_time: float | None = None,
        response_length: int | None = None,
        response: Any = None,
        exception: object = None,
        start_time: float | None = None,
        url: str | None = None,
        **_: Any,
    ) -> None:
        """A request has ended. Never raises: what a listener raises changes Locust's exit code."""
        if self.hosts:
            return
        if self.recorder is None:
            if self._waits():
                told = (request_type, name, response_time, response_length, response, exception, start_time, url)
                self._held.append(partial(self._keep, time.monotonic_ns(), current_user(), *told))
            elif self._copies is not None:
                self._copies.asks()
            return
        told = (request_type, name, response_time, response_length, response, exception, start_time, url)
        self._keep(time.monotonic_ns(), current_user(), *told)

    def _keep(
        self,
        at_ns: int,
        user: WatchedUser | None,
        request_type: str,
        name: str,
        response_time: float | None,
        response_length: int | None,
        response: Any,
        exception: object,
        start_time: float | None,
        url: str | None,
    ) -> None:
        """A request that was told of at a moment on CLOCK_MONOTONIC becomes a row."""
        recorder = self.recorder
        if recorder is None:
            return
        try:
            start, end = self._times(at_ns - self.anchor_ns, response_time, start_time)
            status = _whole(getattr(response, "status_code", 0))
            outcome, error = outcome_of(exception, status)
            endpoint = endpoint_of(str(request_type), str(name))
            unsent = outcome is Outcome.NOT_SENT
            recorder.count(start, 0, endpoint, due=1, sent=0 if unsent else 1, hops=_hops(response))
            recorder.add(
                Row(
                    endpoint,
                    user.scenario if user else "",
                    0,
                    user.number if user else -1,
                    -1,
                    str(request_type),
                    str(url if url is not None else name),
                    start,
                    -1 if unsent else start,
                    -1 if unsent else end,
                    status=status,
                    outcome=int(outcome),
                    error=error,
                    bytes_in=max(_whole(response_length), 0),
                    server_timing=_server_timing(response),
                )
            )
            if self.exchanges is not None and response is not None and end >= 0:
                wrong = error if outcome is not Outcome.OK else ""
                asked = (str(request_type), str(url if url is not None else name), response)
                self.exchanges.offer(endpoint, start, end - start, wrong, lambda: sides_of(*asked))
        except Exception:
            if not self._complained:
                log.warning("a request was not recorded:\n%s", traceback.format_exc())
            self._complained = True

    def on_answer(
        self,
        method: str,
        name: str,
        url: str,
        answer: Any,
        start_ns: int,
        exception: object,
        hops: int,
        response: Any,
    ) -> None:
        """A request of the native client has ended: as `on_request`, with the engine's own times and phases."""
        if self.recorder is None:
            if self._waits():
                told = (method, name, url, answer, start_ns, exception, hops, response)
                self._held.append(partial(self._keep_answer, current_user(), *told))
            elif self._copies is not None:
                self._copies.asks()
            return
        self._keep_answer(current_user(), method, name, url, answer, start_ns, exception, hops, response)

    def _keep_answer(
        self,
        user: WatchedUser | None,
        method: str,
        name: str,
        url: str,
        answer: Any,
        start_ns: int,
        exception: object,
        hops: int,
        response: Any,
    ) -> None:
        if self.recorder is None:
            return
        try:
            if self._samples is None:
                from surgeline._engine import Samples

                self._samples = Samples()
            status = _whole(getattr(response, "status_code", 0))
            outcome, error = (Outcome.OK, "") if not exception else native_outcome_of(exception, status, answer.error)
            endpoint = endpoint_of(str(method), str(name))
            head = answer.head
            timing = answer.header("server-timing") if b"erver-" in head else None
            self._samples.add(
                self.anchor_ns,
                endpoint,
                user.scenario if user else "",
                user.number if user else -1,
                str(method),
                str(url),
                start_ns,
                answer,
                status,
                int(outcome),
                error,
                hops,
                text_of(timing) if timing else "",
            )
            if self.exchanges is not None:
                start = start_ns - self.anchor_ns
                wrong = error if outcome is not Outcome.OK else ""
                asked = (str(method), str(url), response)
                self.exchanges.offer(endpoint, start, answer.end - start_ns, wrong, lambda: sides_of(*asked))
        except Exception:
            if not self._complained:
                log.warning("a request was not recorded:\n%s", traceback.format_exc())
            self._complained = True

    def _waits(self) -> bool:
        """Whether this is a worker whose users were started before it was told of the run."""
        return self.joined is not None and self.joined.waiting and len(self._held) < MOST_HELD

    def _times(self, now: int, response_time: float | None, start_time: float | None) -> tuple[int, int]:
        """Start and end in ns since the run began; the end is -1 where no time was measured.

        The event comes when the user's code has left its `with` block, which may be long after the answer: where the
        event says when the request began, that counts, and the end is what the measured time makes of it.
        """
        took = -1
        if isinstance(response_time, int | float) and response_time >= 0 and response_time < 1e12:
            took = round(response_time * 1e6)
        start = now - max(took, 0)
        if isinstance(start_time, int | float):
            told = monotonic_of(start_time) - self.anchor_ns
            if start - 3600 * NS_PER_S < told < start:
                start = told
        start = max(start, 0)
        return start, start + took if took >= 0 else -1

    def _cut_off(self, greenlet: WatchedUser, request: InFlight) -> None:
        """A user is killed inside a request: what Locust never tells becomes an aborted row."""
        if self.recorder is None:
            return
        start = max(monotonic_of(request.began_wall_s) - self.anchor_ns, 0)
        endpoint, who = endpoint_of(request.method, request.name), (greenlet.scenario, 0, greenlet.number, -1)
        self.recorder.count(start, 0, endpoint, due=1, sent=1)
        aborted = int(Outcome.ABORTED)
        self.recorder.add(Row(endpoint, *who, request.method, request.url, start, start, -1, outcome=aborted))

    def on_user_error(self, exception: object = None, tb: TracebackType | None = None, **_: Any) -> None:
        """A task raised. Message and traceback are those of Locust's own list of exceptions."""
        try:
            formatted = "".join(traceback.format_tb(tb))[-TRACEBACK_LENGTH:]
            key = (type(exception).__name__, str(exception)[:500], formatted)
        except Exception:
            key = (type(exception).__name__, "", "")
        if key not in self._errors and len(self._errors) >= MOST_EXCEPTIONS:
            key = ("", "more exceptions than are told apart in one second", "")
        self._errors[key] = self._errors.get(key, 0) + 1

    def _welcome(self, user: User) -> None:
        """Gives a user's client the run's headers, where its author has not set them."""
        headers = self._headers or ([(RUN_HEADER, self._run_id)] if self._run_id else [])
        client = getattr(user, "client", None)
        holder = getattr(client, "headers", None) if isinstance(user, HttpUser) else None
        if isinstance(user, FastHttpUser):
            holder = getattr(getattr(client, "client", None), "default_headers", None)
        if holder is None:
            return
        agent = self._agent
        if agent and "python" in str(holder.get("User-Agent", "python")).lower():
            holder["User-Agent"] = agent
        for name, value in headers:
            if name not in holder:
                holder[name] = value

    # --- each second -------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        while True:
            gevent.sleep(1.0 - (self.now_ns() % NS_PER_S) / NS_PER_S)
            self.flush()

    def _meter(self) -> None:
        """How late the hub wakes a greenlet that asked to be: whatever a user measures is too long by as much."""
        while self.measures_users:
            self._round_ns = asked = time.monotonic_ns()
            gevent.sleep(METER_S)
            self._lags.append(max(time.monotonic_ns() - asked - int(METER_S * 1e9), 0))
            if self._stands_still:
                self._stands_still = False
                if self.orders is not None:
                    self.orders.report("goes_on", worker=self.worker)
                if self.recorder is not None:
                    self.recorder.event(self.now_ns(), "loop_goes_on", worker=self.worker)

    def _asked_where(self, _number: int, frame: FrameType | None) -> None:
        """Whoever started this process has heard nothing for a while: says where the hub is kept, writes what there is.

        A signal's handler, in the thread of the hub. It may come while all is well, and while this process merely got
        no CPU: only code that is neither Locust's nor the system's keeps the hub.
        """
        late_ns = time.monotonic_ns() - self._round_ns
        if late_ns < STILL_NS or not self._round_ns or self.recorder is None or self.orders is None or self._flushing:
            return
        where = _kept_by(frame, self.environment)
        if where is None:
            return
        since_ns = self.since_ns(self._round_ns)
        self.orders.report("stands_still", since_ns=since_ns, where=where, worker=self.worker)
        if not self._stands_still:
            self._stands_still = True
            self.recorder.event(self.now_ns(), "loop_stands_still", since_ns=since_ns, where=where, worker=self.worker)
        self._lags.append(late_ns)
        self.flush()

    def flush(self) -> None:
        """Appends what has gathered, and how this process fares."""
        if self.recorder is None or self._flushing:
            return
        self._flushing = True
        try:
            self._flush(self.recorder)
        finally:
            self._flushing = False

    def _flush(self, recorder: Recorder) -> None:
        now = self.now_ns()
        made, asked = self._copies.heard() if self._copies is not None else (0, 0)
        if made or asked:
            recorder.event(now, "forked", worker=self.worker, processes=made, requests=asked)
        errors, self._errors = self._errors, {}
        for (kind, message, formatted), count in errors.items():
            recorder.event(now, "exception", type=kind, message=message, traceback=formatted, count=count)
        recorder.flush(now, self._health())
        if self._samples is not None and len(self._samples):
            recorder.frames(len(self._samples), self._samples.take)

    def _health(self) -> dict[str, float]:
        """This process since the last reading; nothing when that was a moment ago, as it is at the end."""
        at, used = time.monotonic(), time.process_time()
        if at - self._cpu_at < SHORTEST_S:
            return {}
        readings = {"cpu_ratio": (used - self._cpu_s) / (at - self._cpu_at)}
        self._cpu_s, self._cpu_at = used, at
        if self.joined is not None:
            readings |= self.joined.readings()
        if isinstance(self.runner, MasterRunner):
            planned = float(self.runner.target_user_count)
            per_user = self.hosting.per_user_per_s if self.hosting is not None else None
            readings |= {"users_planned": planned} if per_user is None else {"rate_planned": planned * per_user}
            readings["workers"] = float(self.runner.worker_count)
        readings["rss_bytes"] = float(_rss_bytes())
        with suppress(OSError):
            readings["descriptors"] = float(len(os.listdir("/proc/self/fd")))
        lags, self._lags = sorted(self._lags), []
        if lags:
            readings.update(lag_readings(lags))
        for metric, value in _lateness().items():
            readings[metric] = max(value, readings.get(metric, 0.0))
        if not self.measures_users:
            return readings
        if self.more_readings is not None:
            for metric, value in self.more_readings().items():
                readings[metric] = max(value, readings.get(metric, 0.0))
        elif self.runner is not None and not isinstance(self.runner, MasterRunner):
            # Where a plan came from another machine and no share of it yet, users of Locust's stand for nobody.
            readings["users"] = 0.0 if self.hosts else float(self.runner.user_count)
            readings["in_flight"] = float(self.watch.in_flight())
        return readings

    # --- runs by hand ------------------------------------------------------------------------------------------------

    def _open_by_hand(self, environment: Environment) -> None:
        """A run directory for the test that begins, in this process; told to the workers."""
        self._leave()
        hosting = self.hosting
        try:
            title, meta = _title(environment), _meta(environment)
            if hosting is not None:
                title, meta = hosting.hosted.plan.title, meta | hosting.hosted.described
            self._directory = RunDirectory.create(DEFAULT_ROOT, title, meta)
        except StoreError as error:
            log.error("nothing is recorded: %s", error)
            return
        self._run_id = self._directory.id
        if hosting is not None and not hosting.open(environment, self._run_id):
            directory, self._directory = self._directory, None
            directory.close("failed", "the plan could not be sent", 0)
            return
        if hosting is not None and hosting.readied is not None:
            self._directory.update(**hosting.readied.described(self._directory.meta.raw))
        self._open(self._segment(self._directory.journal), int(self._directory.meta.raw["clock"]["monotonic_ns"]))
        if self._copies is not None:
            self._copies.heard()  # those of before have their share in nothing
        log.info("recording to %s", self._directory.path)

    def _told(self) -> dict[str, Any]:
        """The open run, as workers that join are told of it."""
        orders = self.orders
        journal = orders.journal if orders is not None else self._directory.journal if self._directory else Path()
        return {
            "run": self._run_id,
            "journal": str(journal.resolve()),
            "anchor_ns": self.anchor_ns,
            "headers": [list(pair) for pair in self._headers],
            "user_agent": self._agent,
            "plan": None,
            "users": False,
            **({} if orders is None or orders.plan is None else _plan_of(orders)),
            **({} if self.hosting is None else self.hosting.told()),
        }

    def take_part(self, told: dict[str, Any], sink: Frames, anchor_ns: int) -> None:
        """The master has told of its run: from now on requests are recorded, and those that were held back."""
        self.close_recorder()
        self._run_id = str(told["run"])
        self._headers = [(str(name), str(value)) for name, value in told["headers"]]
        self._agent = str(told["user_agent"])
        self._open(sink, anchor_ns)
        self.hosts = told["plan"] is not None
        held, self._held = self._held, []
        for keep in held:
            keep()

    def _say_what_is_unknown(self, environment: Environment) -> None:
        others = [
            user.__name__ for user in environment.user_classes or [] if not issubclass(user, HttpUser | FastHttpUser)
        ]
        if others and self.recorder is not None:
            self.recorder.event(
                self.now_ns(),
                "note",
                reason=f"requests of {', '.join(others)} that the stop cut off are not counted: "
                "a client that is neither HttpUser's nor FastHttpUser's does not show what is in flight",
            )


def _plan_of(orders: Orders) -> dict[str, Any]:
    """What a worker of another machine needs to send its share of a plan."""
    return {name: getattr(orders, name) for name in ("plan", "compiled", "workers", "native")}


def _kept_by(frame: FrameType | None, environment: Environment | None) -> str | None:
    """`line 9 of shop.py in checkout`: the step of the user's own code that runs now; None where none does.

    The innermost in a locustfile where one is on the stack, else the innermost that is nobody's library.
    """
    parsed = (environment.parsed_locustfiles if environment is not None else None) or ()
    files = {os.path.realpath(str(path)) for path in parsed}
    found: FrameType | None = None
    while frame is not None:
        path = os.path.realpath(frame.f_code.co_filename)
        if path in files:
            found = frame
            break
        if found is None and not path.startswith(_LIBRARIES) and os.path.isfile(path):
            found = frame
        frame = frame.f_back
    if found is None:
        return None
    name = Path(found.f_code.co_filename).name
    return f"line {found.f_lineno} of {name[:100]} in {found.f_code.co_name[:100]}"


_LIBRARIES = tuple(
    os.path.realpath(path) + os.sep
    for path in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(__file__).parent.parent),
    )
)
"""What is not the user's own code: Python, what is installed, Surgeline."""


def endpoint_of(method: str, name: str) -> str:
    """The name results are grouped by: Locust's pair of method and name as one text."""
    if not method or name.upper().startswith(method.upper() + " "):
        return name
    return f"{method} {name}"


def lag_readings(lags: list[int]) -> dict[str, float]:
    """Median, p99 and greatest of ascending lags in ns; at least one."""
    return {
        "lag_p50_ns": float(lags[(len(lags) - 1) // 2]),
        "lag_p99_ns": float(lags[-(-len(lags) * 99 // 100) - 1]),
        "lag_max_ns": float(lags[-1]),
    }


def _lateness() -> dict[str, float]:
    """How late the native client's answers were seen since the last reading: its times do not contain it."""
    native = sys.modules.get("surgeline.locust.native")
    lane = native.opened() if native is not None else None
    told = lane.client.take_lag() if lane is not None else None
    if told is None:
        return {}
    return dict(zip(("lag_p50_ns", "lag_p99_ns", "lag_max_ns"), map(float, told), strict=True))


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and value == value and abs(value) < 1 << 62 else 0


def _hops(response: Any) -> int:
    """Redirects that were followed for an answer."""
    try:
        return len(response.history)
    except (AttributeError, TypeError):
        return 0


def _server_timing(response: Any) -> str:
    try:
        value = response.headers.get("server-timing")
    except AttributeError:
        return ""
    return text_of(value) if value else ""


def _rss_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _title(environment: Environment) -> str:
    return Path(str(environment.locustfile or "locust")).stem


def _meta(environment: Environment) -> dict[str, Any]:
    """What `run.json` says of a run that was started by hand."""
    from surgeline import environment as surroundings

    files = [Path(path) for path in environment.parsed_locustfiles or [] if not path.endswith("surgeline_plugin.py")]
    path = files[0] if files else Path(str(environment.locustfile or "locustfile.py"))
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        digest = ""
    return {
        "engine": "locust",
        "due_known": False,
        "subject": {"kind": "script", "path": str(path), "sha256": digest, "arguments": sys.argv[1:]},
        "source": {"kind": "script", "location": str(path)},
        "settings": {
            "target": environment.host or "",
            **{"model": "script", "arrivals": None, "seed": None, "max_in_flight": None, "workers": 1},
            **{"grace_ns": int((environment.stop_timeout or 0) * NS_PER_S), "abort": False, "addresses": [], "slo": []},
            "authorized": "started as plain Locust",
        },
        "stages": [],
        "environment": {"machine": surroundings.machine(), "generator_shares_machine": None},
        "git": surroundings.git_state(Path.cwd()),
        "versions": surroundings.versions(),
        "command": ["locust", *sys.argv[1:]],
        "notes": [],
    }


def _hand_over(directory: RunDirectory, at_ns: int) -> None:
    """Waits for the workers to close their segments, then has another process close the run: this one is patched."""
    deadline = time.monotonic() + 75
    while open_segments(directory.journal) and time.monotonic() < deadline:
        gevent.sleep(0.1)
    directory.release()
    command = [sys.executable, "-P", "-m", "surgeline.locust", "finish", str(directory.path), str(at_ns)]
    try:
        subprocess.run(command, check=False, stdout=sys.stderr, stdin=subprocess.DEVNULL, timeout=HAND_OVER_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.error("the run in %s was not closed: %s; `surgeline runs recover` does that", directory.path, error)


_installed: Plugin | None = None


def install(orders: Orders | None = None, report: int | None = None) -> Plugin:
    """Adds the plugin to this process's Locust, once; a second call gives the first one's.

    `report` is where `surgeline worker` listens, in processes that it started.
    """
    global _installed
    if _installed is None:
        _installed = Plugin(orders, report)
        _installed.listen(locust.events)
    return _installed
