"""The pretend server: a run on virtual time, without a socket or a moment of waiting.

A plan's workload is played against a formula that says how long each answer takes and what it is. What comes out are
the same frames that the real engines write, second by second, so that everything behind the seam can be tested against
an answer that is known beforehand. Virtual time passes only in `wait`: `wait(1.0)` plays one second of the run and
returns at once, so whoever watches the run sees it grow as a real one would, and a stop lands where it was asked for.

The same plan, settings and server give the same frames, byte for byte.
"""

import heapq
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgeline import units
from surgeline.engines import Ending, Engine, EngineError, Settings, Sink, Subject, Unsupported
from surgeline.plan.model import Plan, Step
from surgeline.plan.pause import draw_ns, pause_data
from surgeline.samples import (
    COUNT_COLUMNS,
    HEALTH_COLUMNS,
    ROW_COLUMNS,
    WINDOW_COLUMNS,
    Frame,
    Measurement,
    Merger,
    Outcome,
    Reading,
    Table,
    Texts,
    decode_table,
    encode_object,
    encode_table,
    fold_rows,
    windows_of,
)
from surgeline.workload import SplitMix64, Stage, Workload, due_ns

# --- Servers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pretend server does with one request.

    `service_ns` is from the actual start to the last byte (or to the error). `status` is 0 where no answer came; then
    `error` is the kind word. Beyond the plan's timeout an answer never arrives, whatever it says.
    """

    service_ns: int
    status: int = 200
    error: str = ""
    bytes_in: int = 512
    bytes_out: int = 128


Server = Callable[[str, int, int], Answer]
"""(endpoint, moment it was sent in ns, requests in flight with this one) → what comes of it.

Called in the order of sending. One that remembers (a pool, anything drawn at random) serves one run only.
"""


def constant(service_ns: int, status: int = 200) -> Server:
    """Every answer takes the same time."""
    return lambda endpoint, sent_ns, in_flight: Answer(service_ns, status)


def lognormal(median_ns: int, sigma: float = 0.3, seed: int = 1) -> Server:
    """Times spread around a median, `sigma` being the standard deviation of their logarithm; load changes nothing."""
    draws = SplitMix64(seed)

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> Answer:
        return Answer(round(median_ns * math.exp(sigma * _normal(draws))))

    return serve


def _normal(draws: SplitMix64) -> float:
    return math.sqrt(-2.0 * math.log(draws.uniform())) * math.cos(2.0 * math.pi * draws.uniform())


def pool(servers: int, mean_service_ns: int, seed: int | None = 1) -> Server:
    """`servers` places and one queue, first come first served: M/M/c, or M/D/c with `seed` None.

    Its capacity is servers / mean_service_ns; offered more, the queue grows without bound.
    """
    draws = None if seed is None else SplitMix64(seed)
    free_ns = [0] * servers

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> Answer:
        work_ns = round(mean_service_ns * (draws.exponential() if draws else 1.0))
        end_ns = max(heapq.heappop(free_ns), sent_ns) + work_ns
        heapq.heappush(free_ns, end_ns)
        return Answer(end_ns - sent_ns)

    return serve


def freezing(server: Server, every_ns: int, for_ns: int, from_ns: int = 0) -> Server:
    """`server`, but in each period of `every_ns` it does nothing for the first `for_ns` (from `from_ns` on).

    Work that a freeze interrupts goes on after it. One second in five: `freezing(s, 5 * NS_PER_S, NS_PER_S)`.
    """

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> Answer:
        answer = server(endpoint, sent_ns, in_flight)
        return _but(answer, thawed_ns(sent_ns, answer.service_ns, every_ns, for_ns, from_ns) - sent_ns)

    return serve


def thawed_ns(begin_ns: int, work_ns: int, every_ns: int, for_ns: int, from_ns: int = 0) -> int:
    """When work begun at `begin_ns` is done by a server that freezes as `freezing` says."""
    now, left = begin_ns, work_ns
    while True:
        phase = (now - from_ns) % every_ns if now >= from_ns else -(from_ns - now)
        if 0 <= phase < for_ns:
            now += for_ns - phase
            phase = for_ns
        until_freeze = every_ns - phase if phase >= 0 else -phase
        if left <= until_freeze:
            return now + left
        now, left = now + until_freeze, left - until_freeze


def slowing(server: Server, per_request_ns: int) -> Server:
    """`server`, slower by `per_request_ns` for every other request in flight."""
    return lambda endpoint, sent_ns, in_flight: _longer(
        server(endpoint, sent_ns, in_flight), per_request_ns * (in_flight - 1)
    )


def ramping(server: Server, per_second_ns: int) -> Server:
    """`server`, slower by `per_second_ns` with every second of the run: a leak."""
    return lambda endpoint, sent_ns, in_flight: _longer(
        server(endpoint, sent_ns, in_flight), per_second_ns * sent_ns // units.NS_PER_S
    )


def failing_above(server: Server, in_flight_limit: int, status: int = 503, after_ns: int = 1_000_000) -> Server:
    """`server`, but what would be more than `in_flight_limit` at once is turned away with `status` after `after_ns`."""

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> Answer:
        if in_flight > in_flight_limit:
            return Answer(after_ns, status, bytes_in=64)
        return server(endpoint, sent_ns, in_flight)

    return serve


def failing_share(server: Server, ratio: float, status: int = 500, error: str = "", seed: int = 7) -> Server:
    """`server`, but a random share of the answers has `status`, or with an `error` kind is none at all."""
    draws = SplitMix64(seed)

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> Answer:
        answer = server(endpoint, sent_ns, in_flight)
        if draws.uniform() > ratio:
            return answer
        return Answer(answer.service_ns, 0 if error else status, error, 0 if error else 64)

    return serve


def refusing(after_ns: int = 100_000) -> Server:
    """Nothing listens."""
    return lambda endpoint, sent_ns, in_flight: Answer(after_ns, 0, "connect_refused", 0, 0)


def silent() -> Server:
    """Connections are taken and no answer ever comes: every request runs into its timeout."""
    return lambda endpoint, sent_ns, in_flight: Answer(1 << 62)


def by_endpoint(servers: Mapping[str, Server], otherwise: Server) -> Server:
    """A server of its own for each named endpoint."""
    return lambda endpoint, sent_ns, in_flight: servers.get(endpoint, otherwise)(endpoint, sent_ns, in_flight)


def until(moment_ns: int, before: Server, after: Server) -> Server:
    """`before` for what is sent before `moment_ns`, `after` from then on."""
    return lambda endpoint, sent_ns, in_flight: (before if sent_ns < moment_ns else after)(endpoint, sent_ns, in_flight)


def _but(answer: Answer, service_ns: int) -> Answer:
    return Answer(service_ns, answer.status, answer.error, answer.bytes_in, answer.bytes_out)


def _longer(answer: Answer, by_ns: int) -> Answer:
    return _but(answer, answer.service_ns + by_ns)


@dataclass(frozen=True, slots=True)
class Generator:
    """How well the pretend generator keeps up.

    `lag_ns` says how late a request due at a moment is sent; `cpu_ratio` how much of a core the generator uses then;
    `rows_dropped` how many rows it leaves out in that second; `waits_ratio` how much of the time it is ready to run but
    has no core, None where the system does not tell.
    """

    lag_ns: Callable[[int], int] = lambda due: 0
    cpu_ratio: Callable[[int], float] = lambda at: 0.1
    rows_dropped: Callable[[int], int] = lambda at: 0
    waits_ratio: Callable[[int], float] | None = None


# --- The engine ------------------------------------------------------------------------------------------------------


class Scripted(Engine):
    """The engine behind which a formula pretends to be a server."""

    name = "scripted"

    def __init__(self, server: Server | None = None, generator: Generator | None = None) -> None:
        self.server = server or constant(10 * units.NS_PER_MS)
        self.generator = generator or Generator()

    def refusal(self, subject: Subject, settings: Settings) -> str | None:
        """Scripts and runs without a workload are refused."""
        if not isinstance(subject, Plan):
            return "the scripted engine plays plans; a script needs the locust engine"
        if settings.workload is None:
            return "the scripted engine needs a workload"
        for name, scenario in subject.scenarios.items():
            if (
                scenario.once
                or scenario.pacing
                or any(step.retry or step.transaction or step.talks for step in scenario.steps)
            ):
                return f"scenario {name} does more than go through its steps; the native engine runs it"
        return None

    def start(self, subject: Subject, settings: Settings, sink: Sink) -> "Play":
        """A play at time zero. Raises Unsupported for what `refusal` names."""
        reason = self.refusal(subject, settings)
        if reason is not None or not isinstance(subject, Plan) or settings.workload is None:
            raise Unsupported(reason or "the scripted engine plays plans")
        return Play(subject, settings, settings.workload, sink, self.server, self.generator)


@dataclass(slots=True)
class _Actor:
    """A closed user, or one arrival's pass through its scenario."""

    user: int
    iteration: int
    scenario: str
    steps: tuple[Step, ...]
    at: int = 0
    closed: bool = False


@dataclass(slots=True)
class _Request:
    """One due request on its way to becoming a row."""

    seq: int
    actor: _Actor
    step: Step
    stage: int
    due_ns: int
    sent_ns: int = -1
    answer: Answer | None = None
    done: bool = False


_ARRIVE, _READY, _SEND, _END = range(4)


class Play:
    """A run in progress. Virtual time moves in `wait` only."""

    def __init__(
        self, plan: Plan, settings: Settings, workload: Workload, sink: Sink, server: Server, generator: Generator
    ) -> None:
        self._plan, self._settings, self._sink = plan, settings, sink
        self._server, self._generator = server, generator
        self._workload = workload
        self._per_iteration = plan.requests_per_iteration if workload.model == "open" else 1.0
        self._draws = SplitMix64(workload.seed ^ 0x5CE7A710)
        self._now = 0
        self._second = 0
        self._sequence = 0
        self._order = 0
        self._iterations = 0
        self._events: list[tuple[int, int, int, Any]] = []
        self._in_flight: dict[int, _Request] = {}
        self._paused = False
        self._factor = 1.0
        self._asked = False
        self._stopped_ns: int | None = None
        self._stop_grace_ns = settings.grace_ns
        self._ending: Ending | None = None
        self._stages = list(workload.stages)
        self._stage = -1
        self._stage_begin = 0
        self._actors: dict[int, _Actor] = {}
        self._idle: set[int] = set()
        self._held: list[_Actor] = []
        self._arrivals: Iterator[int] = iter(())
        self._arrival_token = 0
        self._rows: list[tuple[Any, ...]] = []
        self._counts: dict[tuple[int, int, str], list[int]] = {}
        self._lags: list[int] = []
        self._names = {id(step): step.endpoint for _, step in plan.steps()}
        self._urls = {id(step): plan.target + step.path for _, step in plan.steps()}
        self._enter_next_stage()

    # --- control -----------------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> Ending | None:
        """Plays `timeout_s` seconds of the run, or to its end if that is nearer; infinity plays all of it."""
        limit = math.inf if math.isinf(timeout_s) else self._now + timeout_s * units.NS_PER_S
        while self._ending is None and self._now < limit:
            self._play_until(min(limit, (self._second + 1) * units.NS_PER_S))
        return self._ending

    def stop(self, grace_s: float) -> None:
        """Nothing more becomes due from the present virtual moment on."""
        if self._ending is not None or self._stopped_ns is not None:
            return
        self._asked = True
        self._event("stop_requested")
        self._stop_grace_ns = round(grace_s * units.NS_PER_S)
        self._close_stage()
        self._stage = len(self._stages)
        self._stopped_ns = self._now
        if not self._in_flight:
            self._finish()

    def pause(self) -> None:
        """What an open schedule makes due from now on is not sent; users that become ready wait."""
        self._paused = True

    def resume(self) -> None:
        """Users that were held are due now."""
        self._paused = False
        held, self._held = self._held, []
        for actor in held:
            self._push(self._now, _READY, actor)

    def scale(self, factor: float) -> None:
        """From now on `factor` times the planned level."""
        if factor <= 0 or not math.isfinite(factor):
            raise ValueError(f"{factor!r} is no factor to scale a load by")
        self._factor = factor
        if self._stopped_ns is None and self._stage < len(self._stages):
            self._schedule_stage()

    def next_stage(self, only: int | None = None) -> None:
        """Ends the current stage now; with a number only where that is the current one."""
        if self._stopped_ns is None and self._stage < len(self._stages) and only in (None, self._stage):
            self._close_stage()
            self._enter_next_stage()

    def append_stage(self, stage: Stage) -> None:
        """Adds a stage behind the last one."""
        self._stages.append(stage)

    # --- stages ------------------------------------------------------------------------------------------------------

    @property
    def _stage_end(self) -> float:
        if self._stage >= len(self._stages):
            return math.inf
        return self._stage_begin + self._stages[self._stage].duration_ns

    def _enter_next_stage(self) -> None:
        self._stage += 1
        self._stage_begin = self._now
        if self._stage >= len(self._stages):
            self._stopped_ns = self._now
            self._stop_grace_ns = min(self._settings.grace_ns, self._plan.timeout)
            if not self._in_flight:
                self._finish()
            return
        self._event("stage_started", stage=self._stage)
        self._schedule_stage()

    def _close_stage(self) -> None:
        if self._stage < len(self._stages):
            self._event("stage_ended", stage=self._stage)

    def _schedule_stage(self) -> None:
        """Lays out what the current stage makes due from now on; earlier layouts lapse."""
        stage = self._stages[self._stage]
        if self._workload.model == "closed":
            self._wake_users(stage)
            return
        uncontrolled = self._factor == 1.0 and self._stages == list(self._workload.stages)
        if uncontrolled and self._stage == 0 and self._now == 0:
            # The whole schedule at once: what comes of it is then exactly workload.due_ns, across stages.
            self._arrivals = due_ns(self._scaled(self._workload.stages, self._workload.seed, 1.0))
        elif uncontrolled and self._now == self._workload.starts_ns()[self._stage] and self._stage_begin == self._now:
            return
        else:
            elapsed = self._now - self._stage_begin
            if elapsed >= stage.duration_ns:
                return
            rest = Stage(stage.name, stage.duration_ns - elapsed, stage.level(elapsed), stage.end)
            seed = self._workload.seed + 0x9E37 * (self._stage + 1) + elapsed
            offset = self._now
            self._arrivals = (offset + at for at in due_ns(self._scaled((rest,), seed, self._factor)) if rest.area > 0)
        self._arrival_token += 1
        self._push_arrival()

    def _scaled(self, stages: tuple[Stage, ...], seed: int, factor: float) -> Workload:
        by = factor / self._per_iteration
        scaled = tuple(Stage(s.name, s.duration_ns, s.start * by, s.end * by) for s in stages)
        return Workload("open", scaled, self._workload.arrivals, seed)

    def _push_arrival(self) -> None:
        at = next(self._arrivals, None)
        if at is not None:
            self._push(at, _ARRIVE, self._arrival_token)

    def _wake_users(self, stage: Stage) -> None:
        elapsed = self._now - self._stage_begin
        low, high = stage.level(elapsed) * self._factor, stage.end * self._factor
        left = stage.duration_ns - elapsed
        for user in range(math.ceil(max(low, high))):
            if user not in self._actors:
                self._actors[user] = _Actor(user, -1, "", (), closed=True)
                self._idle.add(user)
            if user not in self._idle:
                continue
            if user < low:
                after = 0
            elif user < high:
                after = math.floor((user - low) / (high - low) * left) + 1
            else:
                continue
            self._idle.discard(user)
            self._push(self._now + after, _READY, self._actors[user])

    def _level(self) -> float:
        """The planned level now, as scaled; 0 once nothing becomes due any more."""
        if self._stopped_ns is not None or self._stage >= len(self._stages):
            return 0.0
        return self._stages[self._stage].level(self._now - self._stage_begin) * self._factor

    # --- the play ----------------------------------------------------------------------------------------------------

    def _push(self, at_ns: int, kind: int, what: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (at_ns, self._order, kind, what))

    def _play_until(self, limit_ns: float) -> None:
        """Up to `limit_ns`, which is never behind the end of the current second."""
        while self._ending is None:
            grace_end = math.inf if self._stopped_ns is None else self._stopped_ns + self._stop_grace_ns
            at = min(self._events[0][0] if self._events else math.inf, self._stage_end, grace_end)
            if at >= limit_ns:
                # What happens at the turn of a second belongs to the next one, and is read there.
                self._now = int(limit_ns)
                break
            self._now = max(self._now, int(at))
            if at == grace_end:
                self._finish()
            elif at == self._stage_end and not self._arrival_at(at):
                self._close_stage()
                self._enter_next_stage()
            else:
                _, _, kind, what = heapq.heappop(self._events)
                (self._arrive, self._ready, self._send, self._end)[kind](what)
        if self._ending is None and self._now >= (self._second + 1) * units.NS_PER_S:
            self._flush()
            self._second += 1

    def _arrival_at(self, at_ns: float) -> bool:
        """Whether the next thing to happen is an arrival at that moment: the last moment of a stage belongs to it."""
        return bool(self._events) and self._events[0][0] == at_ns and self._events[0][2] == _ARRIVE

    def _arrive(self, token: int) -> None:
        if token != self._arrival_token or self._stopped_ns is not None:
            return
        actor = _Actor(self._iterations, -1, "", ())
        self._new_iteration(actor)
        self._due(actor)
        self._push_arrival()

    def _new_iteration(self, actor: _Actor) -> None:
        actor.iteration = self._iterations
        self._iterations += 1
        scenarios = self._plan.scenarios
        mark = self._draws.uniform() * sum(map(self._plan.weight_of, scenarios))
        for name, scenario in scenarios.items():
            actor.scenario, actor.steps, actor.at = name, scenario.steps, 0
            mark -= self._plan.weight_of(name)
            if mark <= 0:
                return

    def _ready(self, actor: _Actor) -> None:
        if self._stopped_ns is not None:
            return
        if actor.closed:
            if actor.user >= self._level():
                self._idle.add(actor.user)
                return
            if self._paused:
                self._held.append(actor)
                return
            if actor.at >= len(actor.steps):
                self._new_iteration(actor)
        self._due(actor)

    def _due(self, actor: _Actor) -> None:
        step = actor.steps[actor.at]
        request = _Request(self._sequence, actor, step, self._stage, self._now)
        self._sequence += 1
        self._count(request)[0] += 1
        if self._paused or len(self._in_flight) >= self._settings.max_in_flight:
            self._record(request, -1, Outcome.NOT_SENT, "paused" if self._paused else "in_flight_limit")
            if actor.closed:
                actor.at = len(actor.steps)
                self._push(self._now + units.NS_PER_MS, _READY, actor)
            return
        self._in_flight[request.seq] = request
        lag = self._generator.lag_ns(self._now)
        if lag > 0:
            self._push(self._now + lag, _SEND, request)
        else:
            self._send(request)

    def _count(self, request: _Request) -> list[int]:
        key = (request.due_ns // units.NS_PER_S, request.stage, self._names[id(request.step)])
        return self._counts.setdefault(key, [0, 0, 0])

    def _send(self, request: _Request) -> None:
        request.sent_ns = self._now
        self._lags.append(self._now - request.due_ns)
        self._count(request)[1] += 1
        answer = self._server(self._names[id(request.step)], self._now, len(self._in_flight))
        request.answer = answer
        limit = request.step.timeout if request.step.timeout is not None else self._plan.timeout
        self._push(self._now + min(answer.service_ns, limit), _END, request)

    def _end(self, request: _Request) -> None:
        if request.done or request.answer is None:
            return
        request.done = True
        del self._in_flight[request.seq]
        outcome, error = self._judge(request)
        self._record(request, self._now, outcome, error)
        actor = request.actor
        actor.at += 1
        if actor.closed or actor.at < len(actor.steps):
            think = request.step.think_time or self._plan.scenarios[actor.scenario].think_time
            self._push(self._now + draw_ns(pause_data(think), self._draws.uniform), _READY, actor)
        if self._stopped_ns is not None and not self._in_flight:
            self._finish()

    def _judge(self, request: _Request) -> tuple[Outcome, str]:
        answer, check = request.answer, request.step.check
        assert answer is not None  # noqa: S101 - a request that ends was sent, and sending asks the server
        limit = request.step.timeout if request.step.timeout is not None else self._plan.timeout
        if answer.service_ns > limit:
            return Outcome.TIMEOUT, "header_timeout"
        if answer.error:
            return (Outcome.TIMEOUT if answer.error.endswith("_timeout") else Outcome.ERROR), answer.error
        accepted = check.status if check.status is not None else ((200, 399),)
        if not any(low <= answer.status <= high for low, high in accepted):
            return Outcome.FAILURE, f"status {answer.status}"
        if check.time is not None and answer.service_ns > check.time:
            return Outcome.FAILURE, "check time"
        return Outcome.OK, ""

    def _finish(self) -> None:
        for request in self._in_flight.values():
            request.done = True
            # A request that waits for a late generator was never sent.
            unsent = request.sent_ns < 0
            self._record(request, -1, Outcome.NOT_SENT if unsent else Outcome.ABORTED, "run_ended" if unsent else "")
        self._in_flight.clear()
        self._flush()
        self._ending = Ending("stopped" if self._asked else "finished")

    # --- frames ------------------------------------------------------------------------------------------------------

    def _record(self, request: _Request, end_ns: int, outcome: Outcome, error: str) -> None:
        answer, step, actor = request.answer, request.step, request.actor
        answered = answer is not None and outcome in (Outcome.OK, Outcome.FAILURE)
        wait = end_ns - request.sent_ns if answered else -1
        self._rows.append(
            (
                *(request.seq, self._names[id(step)], actor.scenario, request.stage, actor.user, actor.iteration),
                *("scripted-1", step.method, self._urls[id(step)], request.due_ns, request.sent_ns, end_ns),
                *(-1, -1, -1, 0 if answered else -1, wait, 0 if answered else -1),
                *(answer.status if answer and answered else 0, int(outcome), error),
                *(answer.bytes_out if answer else 0, answer.bytes_in if answer and answered else 0),
                *(1 if answered else 2, "http/1.1", ""),
            )
        )

    def _event(self, kind: str, **more: Any) -> None:
        self._sink.append(Frame.EVENT, encode_object({"at_ns": self._now, "kind": kind, **more}))

    def _flush(self) -> None:
        """Writes what has come together since the last flush."""
        if self._counts:
            keys = sorted(self._counts)
            columns = [*zip(*keys, strict=True), *zip(*(self._counts[key] for key in keys), strict=True)]
            self._counts = {}
            self._sink.append(Frame.COUNTS, encode_table(COUNT_COLUMNS, dict(zip(COUNT_COLUMNS, columns, strict=True))))
        if self._rows:
            rows = dict(zip(ROW_COLUMNS, map(list, zip(*self._rows, strict=True)), strict=True))
            self._rows = []
            self._sink.append(Frame.WINDOWS, encode_table(WINDOW_COLUMNS, fold_rows(rows)))
            self._sink.append(Frame.ROWS, encode_table(ROW_COLUMNS, rows))
        self._sink.append(Frame.HEALTH, encode_table(HEALTH_COLUMNS, self._health()))

    def _health(self) -> dict[str, list[Any]]:
        lags = sorted(self._lags)
        self._lags = []
        at = self._now
        readings: dict[str, float] = {
            "cpu_ratio": self._generator.cpu_ratio(at),
            "in_flight": len(self._in_flight),
            "rows_dropped": self._generator.rows_dropped(at),
        }
        if self._generator.waits_ratio is not None:
            readings["sender_cpu_ratio"] = self._generator.cpu_ratio(at)
            readings["sender_wait_ratio"] = self._generator.waits_ratio(at)
        if lags:
            readings["lag_p50_ns"] = lags[(len(lags) - 1) // 2]
            readings["lag_p99_ns"] = lags[math.ceil(len(lags) * 0.99) - 1]
            readings["lag_max_ns"] = lags[-1]
        if self._workload.arrives:
            readings["planned_rate"] = self._level() / self._per_iteration * self._plan.requests_per_iteration
        else:
            readings["users"] = len(self._actors) - len(self._idle)
        count = len(readings)
        return {
            "at_ns": [at] * count,
            "source": ["generator"] * count,
            "worker": ["scripted-1"] * count,
            "metric": list(readings),
            "value": [float(value) for value in readings.values()],
        }


class Recording:
    """A sink that keeps frames in memory, and what they add up to."""

    def __init__(self) -> None:
        self.frames: list[tuple[Frame, bytes]] = []

    @property
    def directory(self) -> Path:
        """There is none: a pretend engine has no processes of its own."""
        raise EngineError("frames kept in memory have no directory")

    def append(self, kind: Frame, payload: bytes) -> None:
        """Keeps the frame."""
        self.frames.append((kind, bytes(payload)))

    def tables(self, kind: Frame) -> list[Table]:
        """The decoded tables of one kind, in order."""
        return [decode_table(payload) for held, payload in self.frames if held is kind]

    def rows(self) -> list[dict[str, Any]]:
        """Every row, as a mapping from column to value, in the order in which they were written."""
        return [
            dict(zip(table.columns, values, strict=True))
            for table in self.tables(Frame.ROWS)
            for values in zip(*(_values(column) for column in table.columns.values()), strict=True)
        ]

    def measurement(self) -> Measurement:
        """What the frames add up to, as the store gives it back for a closed run."""
        merger = Merger()
        readings = []
        for table in self.tables(Frame.WINDOWS):
            for window in windows_of(table):
                merger.add_window(window)
        for table in self.tables(Frame.COUNTS):
            merger.add_counts(table)
        for table in self.tables(Frame.HEALTH):
            readings += [Reading(*values) for values in zip(*(_values(c) for c in table.columns.values()), strict=True)]
        dropped = sum(round(reading.value) for reading in readings if reading.metric == "rows_dropped")
        return Measurement(
            windows=merger.windows(),
            counts=merger.counts(),
            health=tuple(sorted(readings, key=lambda reading: reading.at_ns)),
            events=tuple(json.loads(payload) for kind, payload in self.frames if kind is Frame.EVENT),
            rows=sum(table.rows for table in self.tables(Frame.ROWS)),
            rows_dropped=dropped,
        )


def _values(column: Any) -> list[Any]:
    return list(column) if isinstance(column, Texts) else list(column.tolist())


def play(
    plan: Plan, server: Server, generator: Generator | None = None, workload: Workload | None = None, **settings: Any
) -> Recording:
    """A whole run of the plan against the server: everything it wrote. `settings` as in Settings."""
    recording = Recording()
    chosen = Settings(run_id="scripted", monotonic_ns=0, workload=workload or plan.load(), **settings)
    Scripted(server, generator).start(plan, chosen, recording).wait(math.inf)
    return recording
