"""What a run looks like while it lasts, and whether it should go on.

Journal frames come in, in whatever order their writers flushed them; totals, the last seconds and the current stage can
be asked for at any time. Nothing here looks at a clock: "now" is the newest moment that a frame has told of. Bounded in
memory: histograms of the current stage and of the last ten seconds are kept, of everything before only counts.

Cheap to import: numpy is loaded with the first table, when the load has begun.
"""

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from surgeline import units
from surgeline.samples import Frame, Histogram, Outcome, decode_table, windows_of

RECENT_S = 10
"""How far back "recent" reaches."""
ABORT_SHARE = 0.5
ABORT_FEWEST = 20
"""Fewer outcomes than this in ten seconds abort nothing: a slow script may send one request in two seconds."""
GONE_S = 3
GONE_FEWEST = 3
BAD_OUTCOMES = (Outcome.FAILURE, Outcome.ERROR, Outcome.TIMEOUT, Outcome.NOT_SENT)

Word = Literal["WARMING", "HOLDING", "DEGRADING", "SATURATED", "FAILING", "LATE NOW"]


@dataclass(frozen=True, slots=True)
class LiveTimes:
    """Percentiles of ok response times, ns; None without any. `n` is how many there were."""

    n: int
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None


@dataclass(frozen=True, slots=True)
class LiveEndpoint:
    """One endpoint in the current stage. `due_per_s` is over the last seconds, the rest since the stage began."""

    name: str
    due_per_s: float
    judged: int
    bad: int
    times: LiveTimes

    @property
    def error_ratio(self) -> float | None:
        """Bad over judged; None before the first outcome."""
        return self.bad / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class LiveStage:
    """A stage as planned, and when it began; `planned_ns` is None where only the script knows."""

    index: int
    name: str
    begin_ns: int
    planned_ns: int | None
    of: int


@dataclass(frozen=True, slots=True)
class LiveHealth:
    """The newest readings of the generator, summed or at their worst over its workers; None where not read."""

    cpu_ratio: float | None
    lag_p99_ns: float | None
    rows_dropped: int
    server_cpu_ratio: float | None
    server_rss_bytes: float | None


@dataclass(slots=True)
class _Passed:
    """What a stage that is over came to."""

    done_per_s: float
    p95_ns: int | None
    level: float


@dataclass(slots=True)
class _Second:
    """Outcomes by the second in which they were told of, not in which they were due."""

    judged: int = 0
    bad: int = 0
    broken: int = 0
    done: int = 0


@dataclass
class Live:
    """A run's frames, folded as they come.

    Made from `run.json`. `totals` counts outcomes since the beginning; `due`, `sent` and `hops` count requests.
    """

    run: Mapping[str, Any]
    due: int = 0
    sent: int = 0
    hops: int = 0
    bytes_in: int = 0
    now_ns: int = 0
    """The newest moment that any frame told of."""
    totals: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    exceptions: int = 0
    factor: float = 1.0
    """What an operator multiplies the planned load by."""
    paused: bool = False
    """Whether an operator has paused the load."""
    ended: bool = False
    """Whether the last stage has ended; answers may still come."""

    def __post_init__(self) -> None:
        self._planned = [stage for stage in self.run.get("stages") or () if isinstance(stage, Mapping)]
        self._stage = 0
        self._begin_ns = 0
        self._began = False
        self._due_by_second: dict[int, int] = defaultdict(int)
        self._due_by_endpoint: dict[tuple[int, str], int] = defaultdict(int)
        self._told: dict[int, _Second] = defaultdict(_Second)
        self._stage_times: dict[str, Histogram] = {}
        self._stage_counts: dict[str, list[int]] = {}
        self._recent: deque[tuple[int, Histogram]] = deque()
        self._all = Histogram()
        self._failed: dict[tuple[str, Outcome], int] = defaultdict(int)
        self._health: dict[tuple[str, str], dict[str, tuple[int, float]]] = defaultdict(dict)
        self._dropped = 0
        self._lost: set[str] = set()
        self.standing_still: dict[str, tuple[int, str]] = {}
        """Processes of Locust whose loop the script keeps to itself: since when, in ns, and where in the script."""
        self._passed: dict[int, _Passed] = {}
        self._first_second: int | None = None

    def plan_stage(self, described: Mapping[str, Any]) -> None:
        """A stage has been appended to the run; described as in `run.json`."""
        self._planned.append(described)

    # --- frames in ---------------------------------------------------------------------------------------------------

    def add(self, kind: Frame, payload: bytes | memoryview) -> None:
        """Folds one frame in; kinds that say nothing about the state of a run are passed over."""
        if kind is Frame.COUNTS:
            self._add_counts(payload)
        elif kind is Frame.WINDOWS:
            self._add_windows(payload)
        elif kind is Frame.HEALTH:
            self._add_health(payload)
        elif kind is Frame.EVENT:
            self._add_event(json.loads(bytes(payload)))

    def _add_counts(self, payload: bytes | memoryview) -> None:
        table = decode_table(payload, arrays=False)
        columns = (table[name].tolist() for name in ("second", "stage", "due", "sent", "hops"))
        for endpoint, second, stage, due, sent, hops in zip(table["endpoint"], *columns, strict=True):
            self.due += due
            self.sent += sent
            self.hops += hops
            self._due_by_second[second] += due
            self._due_by_endpoint[second, endpoint] += due
            self._moment(second * units.NS_PER_S)
            if not self._began and stage > self._stage:
                self._enter(stage, second * units.NS_PER_S)
        for second in [second for second in self._due_by_second if second < self._now_s - 3 * RECENT_S]:
            del self._due_by_second[second]
        for key in [key for key in self._due_by_endpoint if key[0] < self._now_s - RECENT_S]:
            del self._due_by_endpoint[key]

    def _add_windows(self, payload: bytes | memoryview) -> None:
        for window in windows_of(decode_table(payload, arrays=False)):
            self._moment(window.second * units.NS_PER_S)
            self.totals[window.outcome] += window.count
            self.bytes_in += window.bytes_in
            bad = window.outcome in BAD_OUTCOMES
            told = self._told[self._now_s]
            if window.outcome is not Outcome.ABORTED:
                told.judged += window.count
                told.bad += window.count if bad else 0
                told.broken += window.count if window.outcome is Outcome.ERROR else 0
                told.done += window.count if window.outcome in (Outcome.OK, Outcome.FAILURE) else 0
            if bad:
                self._failed[window.endpoint, window.outcome] += window.count
            if window.stage == self._stage and window.outcome is not Outcome.ABORTED:
                counts = self._stage_counts.setdefault(window.endpoint, [0, 0])
                counts[0] += window.count
                counts[1] += window.count if bad else 0
            if window.outcome is Outcome.OK:
                self._all.merge(window.response)
                self._recent.append((window.second, window.response))
                if window.stage == self._stage:
                    self._stage_times.setdefault(window.endpoint, Histogram()).merge(window.response)
        while self._recent and self._recent[0][0] < self._now_s - RECENT_S:
            self._recent.popleft()
        for second in [second for second in self._told if second < self._now_s - 3 * RECENT_S]:
            del self._told[second]

    def _add_health(self, payload: bytes | memoryview) -> None:
        table = decode_table(payload, arrays=False)
        for at, source, worker, metric, value in zip(
            table["at_ns"].tolist(),
            table["source"],
            table["worker"],
            table["metric"],
            table["value"].tolist(),
            strict=True,
        ):
            self._moment(at)
            if metric == "rows_dropped":
                self._dropped += round(value)
            held = self._health[source, metric].get(worker)
            if held is None or held[0] <= at:
                self._health[source, metric][worker] = (at, value)

    def _add_event(self, event: Mapping[str, Any]) -> None:
        at, stage = int(event.get("at_ns", 0)), event.get("stage")
        self._moment(at)
        kind = event.get("kind")
        if kind == "stage_started" and isinstance(stage, int) and (stage > self._stage or not self._began):
            self._enter(stage, at)
            self._began = True
        elif kind == "stage_ended" and isinstance(stage, int):
            self._passed[stage] = self._sum_up(at)
            self.ended = stage >= len(self._planned) - 1
        elif kind == "control":
            self._steer(event)
        elif kind == "worker_lost":
            self._lost.add(str(event.get("worker")))
        elif kind == "worker_back":
            self._lost.discard(str(event.get("worker")))
        elif kind == "loop_stands_still":
            self.standing_still[str(event.get("worker"))] = (
                int(event.get("since_ns", at)),
                str(event.get("where", "")),
            )
        elif kind == "loop_goes_on":
            self.standing_still.pop(str(event.get("worker")), None)
        elif kind == "exception":
            self.exceptions += int(event.get("count", 1))

    def _steer(self, event: Mapping[str, Any]) -> None:
        match event.get("do"):
            case "pause" | "resume":
                self.paused = event["do"] == "pause"
            case "scale":
                self.factor = float(event.get("factor", 1.0))

    def _enter(self, stage: int, at_ns: int) -> None:
        if stage != self._stage:
            self._passed.setdefault(self._stage, self._sum_up(at_ns))
        self._stage, self._begin_ns, self.ended = stage, at_ns, False
        self._stage_times, self._stage_counts = {}, {}

    def _sum_up(self, at_ns: int) -> _Passed:
        seconds = max((at_ns - self._begin_ns) / units.NS_PER_S, 1e-9)
        done = sum(counts[0] for counts in self._stage_counts.values())
        return _Passed(done / seconds, self.stage_times().p95_ns, self._level())

    def _level(self) -> float:
        plan = self._planned[self._stage] if self._stage < len(self._planned) else {}
        return max(float(plan.get("from", 0.0)), float(plan.get("to", 0.0)))

    def _moment(self, at_ns: int) -> None:
        self.now_ns = max(self.now_ns, at_ns)
        if self._first_second is None:
            self._first_second = self.now_ns // units.NS_PER_S

    @property
    def _now_s(self) -> int:
        return self.now_ns // units.NS_PER_S

    # --- what a view asks --------------------------------------------------------------------------------------------

    @property
    def stage(self) -> LiveStage:
        """The current stage."""
        plan = self._planned[self._stage] if self._stage < len(self._planned) else {}
        duration = plan.get("duration_ns")
        return LiveStage(
            self._stage,
            str(plan.get("name") or ""),
            self._begin_ns,
            None if duration is None else int(duration),
            max(len(self._planned), self._stage + 1),
        )

    @property
    def planned_ns(self) -> int | None:
        """How long the run is planned to last; None where only the script knows."""
        if not self._planned:
            return None
        return sum(int(stage.get("duration_ns", 0)) for stage in self._planned)

    def due_per_s(self, over_s: int = 3) -> float:
        """Requests due per second, over the last whole seconds."""
        seconds = range(max(self._now_s - over_s, 0), self._now_s)
        return sum(self._due_by_second.get(second, 0) for second in seconds) / max(len(seconds), 1)

    def done_per_s(self, over_s: int = 3) -> float:
        """Answers per second, right or wrong, as they were told of."""
        seconds = range(max(self._now_s - over_s + 1, 0), self._now_s + 1)
        return sum(self._told[second].done for second in seconds if second in self._told) / max(len(seconds), 1)

    @property
    def judged(self) -> int:
        """Requests whose outcome is known."""
        return sum(count for outcome, count in self.totals.items() if outcome is not Outcome.ABORTED)

    @property
    def bad(self) -> int:
        """Of those, the ones that are not ok."""
        return sum(self.totals[outcome] for outcome in BAD_OUTCOMES)

    def recent_bad(self, over_s: int = RECENT_S) -> tuple[int, int]:
        """Requests whose outcome became known in the last seconds, and those of them that are not ok."""
        held = [told for second, told in self._told.items() if self._now_s - over_s < second <= self._now_s]
        return sum(told.judged for told in held), sum(told.bad for told in held)

    def stage_times(self) -> LiveTimes:
        """Of the current stage since it began."""
        return _times(_merged(self._stage_times.values()))

    def recent_times(self) -> LiveTimes:
        """Of what was due in the last ten seconds and has been answered."""
        return _times(_merged(histogram for _, histogram in self._recent))

    def run_times(self) -> LiveTimes:
        """Of the whole run."""
        return _times(self._all)

    def endpoints(self) -> list[LiveEndpoint]:
        """Those of the current stage, worst first: by errors, then by p95."""
        names = set(self._stage_counts) | {name for second, name in self._due_by_endpoint if second >= self._now_s - 3}
        seconds = range(max(self._now_s - 3, 0), self._now_s)
        found = []
        for name in names:
            judged, bad = self._stage_counts.get(name, [0, 0])
            due = sum(self._due_by_endpoint.get((second, name), 0) for second in seconds)
            times = _times(self._stage_times.get(name, Histogram()))
            found.append(LiveEndpoint(name, due / max(len(seconds), 1), judged, bad, times))
        return sorted(found, key=lambda e: (-round(e.error_ratio or 0.0, 2), -(e.times.p95_ns or 0), e.name))

    def errors(self) -> list[tuple[str, Outcome, int]]:
        """Endpoint, outcome and how often since the run began, most often first."""
        found = [(name, outcome, count) for (name, outcome), count in self._failed.items()]
        return sorted(found, key=lambda item: (-item[2], item[0], item[1]))

    @property
    def users(self) -> int | None:
        """Active users, over all workers; None where not read."""
        value = self._sum("generator", "users")
        return None if value is None else round(value)

    @property
    def in_flight(self) -> int | None:
        """Requests in flight, over all workers; None where not read."""
        value = self._sum("generator", "in_flight")
        return None if value is None else round(value)

    @property
    def health(self) -> LiveHealth:
        """The newest readings."""
        return LiveHealth(
            cpu_ratio=self._worst("generator", "cpu_ratio"),
            lag_p99_ns=self._worst("generator", "lag_p99_ns"),
            rows_dropped=self._dropped,
            server_cpu_ratio=self._sum("server", "cpu_ratio"),
            server_rss_bytes=self._sum("server", "rss_bytes"),
        )

    def health_line(self) -> str:
        """A clause on the generator, and one on the served process where it is seen.

        `generator ok: CPU 38 % of a core, start lag p99 0.3 ms · server CPU 0.97 cores, 81 MB`.
        """
        if self.standing_still:
            return self.standstill()
        health = self.health
        parts = []
        if health.cpu_ratio is not None:
            parts.append(f"CPU {units.format_ratio(health.cpu_ratio)} of a core")
        if health.lag_p99_ns is not None:
            parts.append(f"start lag p99 {units.format_duration(health.lag_p99_ns, 2)}")
        if health.rows_dropped:
            parts.append(f"{health.rows_dropped:,} rows left out")
        if self._lost:
            parts.append(f"{len(self._lost)} worker{'s' if len(self._lost) > 1 else ''} lost")
        server = "" if health.server_cpu_ratio is None else f" · server CPU {health.server_cpu_ratio:.2f} cores"
        if server and health.server_rss_bytes is not None:
            server += f", {units.format_size(round(health.server_rss_bytes))}"
        if not parts:
            return f"generator: no reading yet{server}"
        return f"generator {'at its limit now' if self._late() else 'ok'}: {', '.join(parts)}{server}"

    def standstill(self) -> str:
        """`the locustfile blocks Locust's loop since 1.4 s (line 9 of shop.py in go)`; "" where none stands still."""
        if not self.standing_still:
            return ""
        since_ns, where = min(self.standing_still.values())
        since = units.format_duration(max(since_ns - self._begin_ns, 0), 2)
        return f"the locustfile blocks Locust's loop since {since} ({where})"

    def word(self) -> Word:
        """The state of the run in one word; thin, for a glance: the page after the run judges carefully."""
        judged, bad = self.recent_bad()
        stage = self.stage_times()
        if self._late():
            return "LATE NOW"
        if judged >= ABORT_FEWEST and bad > 0.05 * judged:
            return "FAILING"
        if stage.n < 30 or self.now_ns - self._begin_ns < 2 * units.NS_PER_S:
            return "WARMING"
        first = self._passed.get(min(self._passed, default=-1))
        last = self._passed.get(self._stage - 1)
        if last is not None and self._level() > 1.3 * last.level > 0.0:
            grown = self.done_per_s() / last.done_per_s if last.done_per_s else 2.0
            if grown < 1.1 and (stage.p95_ns or 0) > 1.25 * (last.p95_ns or 0):
                return "SATURATED"
        if first is not None and first.p95_ns and stage.p95_ns and stage.p95_ns > 2 * first.p95_ns:
            return "DEGRADING"
        return "HOLDING"

    def _late(self) -> bool:
        """Whether the generator is behind at this moment: by the newest readings alone, while a stage is judged as a
        whole when it is over.
        """
        health = self.health
        threads = int((self.run.get("settings") or {}).get("workers") or 1) if self.run.get("engine") == "native" else 1
        if health.cpu_ratio is not None and health.cpu_ratio / max(threads, 1) > 0.95:
            return True
        median = self.recent_times().p50_ns
        late = max(10 * units.NS_PER_MS, (median or 0) // 2)
        return health.lag_p99_ns is not None and median is not None and health.lag_p99_ns > late

    def _readings(self, source: str, metric: str) -> list[float]:
        held = self._health.get((source, metric), {}).values()
        return [value for at, value in held if at >= self.now_ns - 5 * units.NS_PER_S]

    def _sum(self, source: str, metric: str) -> float | None:
        values = self._readings(source, metric)
        return sum(values) if values else None

    def _worst(self, source: str, metric: str) -> float | None:
        return max(self._readings(source, metric), default=None)


def _merged(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total


def _times(histogram: Histogram) -> LiveTimes:
    return LiveTimes(histogram.count, histogram.quantile(0.5), histogram.quantile(0.95), histogram.quantile(0.99))


def gone_reason(live: Live, now_ns: int) -> str | None:
    """That for three seconds every request broke before an answer came, as a clause; None where it did not.

    `now_ns` is how long the run has lasted. Not said in its first moments, nor of a handful of requests.
    """
    begun_ns = (live._first_second or 0) * units.NS_PER_S
    told = {second: held for second, held in live._told.items() if second > live._now_s - GONE_S and held.judged}
    judged = sum(held.judged for held in told.values())
    lasted = max(now_ns, live.now_ns) - begun_ns
    if (
        lasted >= GONE_S * units.NS_PER_S
        and judged >= GONE_FEWEST
        and len(told) >= GONE_S - 1
        and all(held.broken == held.judged for held in told.values())
    ):
        return f"the target is gone: for {GONE_S} s every request broke before an answer came"
    return None


def abort_reason(live: Live, now_ns: int) -> str | None:
    """Why the run should not go on, as a clause; None while it may. `now_ns` is how long it has lasted.

    Over half of the requests of the last ten seconds went wrong, or for three seconds every one of them broke before an
    answer. Neither is said in the first moments of a run, nor of a handful of requests.
    """
    gone = gone_reason(live, now_ns)
    lasted = max(now_ns, live.now_ns) - (live._first_second or 0) * units.NS_PER_S
    if gone is not None or lasted < RECENT_S * units.NS_PER_S:
        return gone
    judged, bad = live.recent_bad()
    if judged >= ABORT_FEWEST and bad > ABORT_SHARE * judged:
        share = units.format_ratio(bad / judged)
        return f"{share} of the {judged:,} requests of the last {RECENT_S} s went wrong"
    return None
