"""A search for capacity as it is driven, and as it is read again from what was stored.

Frames of the journal come in, commands for the engine leave: a stage to append, the present one to end. What came of
each load is told by one fold of windows and counts, whether the run still lasts or has been stored for years, so the
page rests on the same arithmetic as the search did. Nothing here looks at a clock: "now" is the newest moment that a
frame has told of.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import numpy as np

from surgeline import units
from surgeline.analysis import slo
from surgeline.analysis.book import second_of
from surgeline.analysis.capacity_search import (
    DISCARD,
    FULL,
    LONGEST_SETTLE_S,
    MAY_BE_HOPELESS,
    NEAR_FLOOR,
    NEAR_FLOOR_NS,
    PACES,
    Capacity,
    Move,
    Role,
    Search,
    Tried,
    capacity,
    hopeless,
    next_move,
    settle_after,
)
from surgeline.analysis.intervals import spread
from surgeline.analysis.model import StageFigures
from surgeline.analysis.validity import SLOWEST, restless, starved, starved_when_slow
from surgeline.plan.objective import Objective, parse_objectives
from surgeline.samples import (
    HISTOGRAM_HALF,
    Count,
    Frame,
    Histogram,
    Outcome,
    Window,
    decode_table,
    histogram_index,
    windows_of,
)

Array = np.ndarray[Any, np.dtype[Any]]

KNOWN_AFTER_NS = 1_300 * units.NS_PER_MS
"""How long beyond its limit an answer may take to be told of: a flush a second, and what it takes to look."""
SPARE_S = 3.0
"""A settle step is left so long before its end, as behind it nothing is planned yet and the run would be over."""
LONGEST_WAIT_S = 15
"""Answers that took longer are not looked for where completed requests are counted."""
FEWEST_ANSWERS = 6
"""Of which a median tells whether the server has recovered."""
ANSWERED = 0.95
"""With this share of a second's requests answered, what is missing cannot change its median."""
LATE = (10 * units.NS_PER_MS, 0.25)
"""A start lag above both, as a time and as a share of the response time, makes a load the generator's limit; what is
late in sending is as late in reading, so a quarter stands for a half."""
IN_TIME = 0.9
"""With this share of a second's requests answered in time, what had piled up is worked off."""
CPU_FULL = 0.95
"""A generator that uses more than this share of the cores it can use is slow itself."""
READINGS = ("cpu_ratio", "sender_cpu_ratio", "sender_wait_ratio", "lag_p99_ns")
"""What the generator tells of itself that says whether it was the limit."""

# --- What came of a load ---------------------------------------------------------------------------------------------


@dataclass
class Fold:
    """What windows and counts say about each stage of a search, while it lasts or afterwards.

    Fed with windows, counts and the generator's readings in any order; asked for one stage at a time.
    """

    objectives: tuple[Objective, ...]
    _windows: dict[int, list[Window]] = field(default_factory=dict)
    _counts: dict[int, dict[tuple[int, str], list[int]]] = field(default_factory=dict)
    _answers: dict[int, list[tuple[Array, Array]]] = field(default_factory=dict)
    """By the second in which requests were due: how long each bucket of answers took, in seconds, and how many."""

    def add_windows(self, windows: Iterable[Window]) -> None:
        """Takes windows as they come; deltas add up."""
        for window in windows:
            self._windows.setdefault(window.stage, []).append(window)
            if window.outcome in (Outcome.OK, Outcome.FAILURE):
                buckets, counts = window.response.arrays()
                self._answers.setdefault(window.second, []).append((_middles_s(buckets.astype(np.int64)), counts))

    def add_counts(self, counts: Iterable[Count]) -> None:
        """Takes counts as they come; deltas add up."""
        for count in counts:
            held = self._counts.setdefault(count.stage, {}).setdefault((count.second, count.endpoint), [0, 0])
            held[0] += count.due
            held[1] += count.sent

    def unknown(self, stage: int) -> int:
        """Requests due in the stage whose outcome is not known yet."""
        due = sum(pair[0] for pair in self._counts.get(stage, {}).values())
        return max(due - sum(window.count for window in self._windows.get(stage, ())), 0)

    def tried(
        self, stage: int, role: Role, rate_per_s: float, begin_ns: int, end_ns: int, now_ns: int | None = None,
        generator: str = "", floor_ns: float | None = None,
    ) -> Tried:  # fmt: skip
        """What came of one stage. `now_ns` is given while its answers may still come: what is not yet late counts
        neither way.
        """
        duration = (end_ns - begin_ns) / units.NS_PER_S
        from_ns = begin_ns + int(DISCARD.get(role, 0.0) * (end_ns - begin_ns))
        first = -(-from_ns // units.NS_PER_S) if role in DISCARD else begin_ns // units.NS_PER_S
        # Of the second in which the load ended, a part is another load's.
        last = max(end_ns // units.NS_PER_S, first + 1)
        windows = [window for window in self._windows.get(stage, ()) if first <= window.second]
        ok = Histogram()
        for window in windows:
            if window.outcome is Outcome.OK:
                ok.merge(window.response)
        due = {key: pair[0] for key, pair in self._counts.get(stage, {}).items() if first <= key[0]}
        score, se, broken, endpoint = self._worst(windows, due, now_ns)
        return Tried(
            role=role,
            rate_per_s=rate_per_s,
            duration_s=duration,
            due=sum(due.values()),
            score=score,
            score_se=se,
            broken=broken,
            endpoint=endpoint,
            completed_per_s=self._completed(first, last),
            median_ns=ok.quantile(0.5),
            mean_ns=ok.mean_ns,
            generator=generator or self._late(windows),
            recovered_s=self._recovered(stage, begin_ns, floor_ns) if role == "settle" else None,
            index=stage,
        )

    def _worst(
        self, windows: Sequence[Window], due: Mapping[tuple[int, str], int], now_ns: int | None
    ) -> tuple[float | None, float, str, str]:
        worst: tuple[float, float, str, str] | None = None
        for objective in self.objectives:
            if objective.metric == "rate":
                continue
            found = _score(objective, windows, due, now_ns)
            if found is not None and (worst is None or found[0] > worst[0]):
                worst = found
        return worst if worst is not None else (None, 0.0, "", "")

    def slowest(self, stage: int) -> dict[int, int]:
        """How many of a stage's slowest requests, those without an answer among them, were due in each second."""
        windows, ok = self._windows.get(stage, ()), Histogram()
        found: dict[int, int] = {}
        for (second, _), pair in self._counts.get(stage, {}).items():
            found[second] = found.get(second, 0) + pair[0]
        for window in windows:
            if window.outcome is Outcome.OK:
                ok.merge(window.response)
        bucket = histogram_index(ok.quantile(SLOWEST) or 0)
        for window in windows:
            quick = window.count if window.outcome is Outcome.ABORTED else 0
            if window.outcome is Outcome.OK:
                quick = sum(count for index, count in zip(*window.response.sparse(), strict=True) if index < bucket)
            found[window.second] = found.get(window.second, 0) - quick
        return {second: count for second, count in found.items() if count > 0}

    def _completed(self, first: int, last: int) -> float:
        """Answers per second that came in those seconds, whatever stage they were due in."""
        total = 0.0
        for second in range(first - LONGEST_WAIT_S, last):
            for took_s, counts in self._answers.get(second, ()):
                # Requests of a second are due in its middle, on average.
                came = (second + 0.5) + took_s
                spread_over = np.clip(np.minimum(came + 0.5, last) - np.maximum(came - 0.5, first), 0.0, 1.0)
                total += float((spread_over * counts).sum())
        return total / max(last - first, 1)

    def worked_off(self, stage: int, now_ns: int, limit_ns: int) -> bool:
        """Whether nearly all requests of the stage's newest second of which all is known were answered in time."""
        newest = (now_ns - limit_ns - KNOWN_AFTER_NS) // units.NS_PER_S - 1
        due = sum(pair[0] for (second, _), pair in self._counts.get(stage, {}).items() if second == newest)
        held = [w.response for w in self._windows.get(stage, ()) if w.second == newest and w.outcome is Outcome.OK]
        return due > 0 and sum(h.count - h.count_above(limit_ns) for h in held) >= IN_TIME * due

    def _late(self, windows: Sequence[Window]) -> str:
        """How late the generator sent, where that is most of what was measured."""
        response, service = Histogram(), Histogram()
        for window in windows:
            if window.outcome is Outcome.OK:
                response.merge(window.response)
                service.merge(window.service)
        for q in (0.5, 0.95):
            whole, part = response.quantile(q), service.quantile(q)
            if whole is not None and part is not None and whole - part > max(LATE[0], LATE[1] * whole):
                late, of = units.format_duration(whole - part), units.format_duration(whole)
                return f"requests left late: of a p{q * 100:g} of {of}, {late} is the generator's own delay"
        return ""

    def _recovered(self, stage: int, begin_ns: int, floor_ns: float | None) -> float | None:
        """Seconds until the median was near the floor's and stayed there; of single seconds, or of as many of them as
        hold FEWEST_ANSWERS: the median of a handful is that of whatever endpoints they went to.

        While answers are missing, those that came are the fast ones: such a second is not near the floor's, or, as one
        of the newest two, not known yet.
        """
        if floor_ns is None:
            return 0.0
        limit = max(NEAR_FLOOR * floor_ns, floor_ns + NEAR_FLOOR_NS)
        by_second: dict[int, Histogram] = {}
        for window in self._windows.get(stage, ()):
            if window.outcome is Outcome.OK:
                by_second.setdefault(window.second, Histogram()).merge(window.response)
        whole = [second for second in sorted(by_second) if second * units.NS_PER_S >= begin_ns] or sorted(by_second)
        due: dict[int, int] = {}
        for (second, _), pair in self._counts.get(stage, {}).items():
            due[second] = due.get(second, 0) + pair[0]
        came: dict[int, int] = {}
        for window in self._windows.get(stage, ()):
            came[window.second] = came.get(window.second, 0) + window.count
        newest = max(due, default=0)
        began: float | None = None
        held, first = Histogram(), 0
        for second in whole:
            if came[second] < ANSWERED * due.get(second, 0):
                if second > newest - 2:
                    break
                began, held = None, Histogram()
                continue
            first = first if held.count else second
            held.merge(by_second[second])
            if held.count < FEWEST_ANSWERS:
                continue
            near = (held.quantile(0.5) or 0) <= limit
            began = (first if began is None else began) if near else None
            held = Histogram()
        return None if began is None else max(began - begin_ns / units.NS_PER_S, 0.0)


def _middles_s(indices: Array) -> Array:
    """The middle of each bucket, in seconds."""
    return np.asarray((_lows_ns(indices) + _lows_ns(indices + 1) - 1) / 2.0 / units.NS_PER_S)


def _lows_ns(indices: Array) -> Array:
    """As `histogram_low`, of many."""
    shifts = np.maximum(indices // HISTOGRAM_HALF - 1, 0)
    return np.asarray((indices - HISTOGRAM_HALF * shifts) << shifts)


def longest_limit_ns(objectives: Iterable[Objective]) -> int:
    """The longest time that any of the objectives allows; what takes longer is over all of them. 1 s without any."""
    limits = [
        objective.limit * 1.0 if objective.metric in ("quantile", "mean", "max") else 4.0 * (objective.apdex_ns or 0)
        for objective in objectives
        if objective.metric in ("quantile", "mean", "max", "apdex")
    ]
    return round(max(limits, default=float(units.NS_PER_S)))


def _score(
    objective: Objective, windows: Sequence[Window], due: Mapping[tuple[int, str], int], now_ns: int | None
) -> tuple[float, float, str, str] | None:
    """Score, its standard error, the objective's text, and the endpoint with most requests over its limit."""
    mine = [w for w in windows if objective.endpoint in (None, w.endpoint) and w.outcome is not Outcome.ABORTED]
    wanted = {key: count for key, count in due.items() if objective.endpoint in (None, key[1])}
    if not wanted and not mine:
        return None
    if objective.metric in ("mean", "max", "apdex"):
        return _score_of_value(objective, mine)
    judged: dict[tuple[int, str], int] = {}
    over: dict[tuple[int, str], int] = {}
    limit = round(objective.limit) if objective.metric == "quantile" else None
    bucket = histogram_index(limit) if limit is not None else 0
    for window in mine:
        key = (window.second, window.endpoint)
        judged[key] = judged.get(key, 0) + window.count
        if window.outcome is not Outcome.OK:
            over[key] = over.get(key, 0) + window.count
        elif limit is not None:
            indices, counts = window.response.sparse()
            over[key] = over.get(key, 0) + sum(c for i, c in zip(indices, counts, strict=True) if i > bucket)
    late_s = (longest_limit_ns((objective,)) + KNOWN_AFTER_NS) / units.NS_PER_S
    for key, count in wanted.items():
        missing = count - judged.get(key, 0)
        # No answer within the limit is an answer: it is over it, unless it may still be on its way to us.
        if missing > 0 and (now_ns is None or (key[0] + 1 + late_s) * units.NS_PER_S <= now_ns):
            judged[key] = judged.get(key, 0) + missing
            over[key] = over.get(key, 0) + missing
    seconds = sorted({second for second, _ in judged})
    if not seconds:
        return None
    n_by = np.array([sum(c for (s, _), c in judged.items() if s == second) for second in seconds])
    k_by = np.array([sum(c for (s, _), c in over.items() if s == second) for second in seconds])
    n, k = int(n_by.sum()), int(k_by.sum())
    if n == 0:
        return None
    allowed = objective.limit if objective.metric == "errors" else 1.0 - (objective.quantile or 0.5)
    allowed = min(max(allowed, 1e-6), 1.0 - 1e-6)
    share = (k + allowed) / (n + 1.0)
    phi = spread(n_by, k_by, fewest_bins=4).phi
    se = math.sqrt(phi / max((n + 1.0) * share * (1.0 - share), 1e-9))
    by_endpoint: dict[str, int] = {}
    for (_, endpoint), count in over.items():
        by_endpoint[endpoint] = by_endpoint.get(endpoint, 0) + count
    most = max(sorted(by_endpoint), key=lambda name: by_endpoint[name], default="")
    return _logit(share) - _logit(allowed), se, objective.text, most if k else ""


def _logit(share: float) -> float:
    share = min(max(share, 1e-9), 1.0 - 1e-9)
    return math.log(share / (1.0 - share))


def _score_of_value(objective: Objective, windows: Sequence[Window]) -> tuple[float, float, str, str] | None:
    """For limits on a mean, a maximum or an Apdex: how far it is beyond its limit, four to a factor of e."""
    times, judged, bad = Histogram(), 0, 0
    slowest, its_mean = "", -1.0
    by_endpoint: dict[str, Histogram] = {}
    for window in windows:
        judged += window.count
        if window.outcome is Outcome.OK:
            times.merge(window.response)
            by_endpoint.setdefault(window.endpoint, Histogram()).merge(window.response)
        else:
            bad += window.count
    if not judged:
        return None
    for name, histogram in sorted(by_endpoint.items()):
        if (histogram.mean_ns or 0.0) > its_mean:
            slowest, its_mean = name, histogram.mean_ns or 0.0
    if objective.metric == "apdex":
        t = objective.apdex_ns or units.NS_PER_S
        unsatisfied = times.count_above(t)
        tolerated = unsatisfied - times.count_above(4 * t)
        value = (times.count - unsatisfied + tolerated / 2.0) / judged
        return 4.0 * (objective.limit - value), 2.0 / math.sqrt(judged), objective.text, slowest
    reached = times.mean_ns if objective.metric == "mean" else times.max_ns
    if reached is None or bad > 0.01 * judged:
        return 4.0, 0.1, objective.text, slowest
    return 4.0 * math.log(max(reached, 1.0) / objective.limit), 4.0 / math.sqrt(judged), objective.text, slowest


# --- Driving it ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """What the engine is to do: append those stages, in order, then end the one of that number if it is not over."""

    append: tuple[Move, ...] = ()
    next_stage: int | None = None


class Pilot:
    """Drives a search: told of frames, it says what the engine is to do next.

    `planned` are the loads so far, by the index of their stage; the first two are the run's own workload.
    """

    def __init__(self, search: Search, cores: int = 1, max_in_flight: int | None = None) -> None:
        self.search = search
        self._cores = max(cores, 1)
        self._max_in_flight = max_in_flight
        self._fold = Fold(search.judged)
        first = next_move((), search)
        assert first is not None  # noqa: S101 - an empty history always has a next move
        self.planned: list[Move] = [first, settle_after((), first)]
        self.history: list[Tried] = []
        self._began: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._readings: dict[str, dict[int, dict[str, float]]] = {}
        self._left: set[int] = set()
        self._frames = self._looked_at = 0
        self.now_ns = 0

    def add(self, kind: Frame, payload: bytes | memoryview) -> None:
        """Takes a frame; kinds that say nothing to a search are passed over."""
        self._frames += 1
        if kind is Frame.WINDOWS:
            windows = list(windows_of(decode_table(payload)))
            self._fold.add_windows(windows)
        elif kind is Frame.COUNTS:
            table = decode_table(payload)
            columns = (table[name].tolist() for name in ("second", "stage", "due", "sent", "hops"))
            for endpoint, second, stage, due, sent, hops in zip(table["endpoint"], *columns, strict=True):
                self._fold.add_counts((Count(second, stage, endpoint, due, sent, hops),))
        elif kind is Frame.HEALTH:
            self._add_health(payload)
        elif kind is Frame.EVENT:
            event = json.loads(bytes(payload))
            at, stage = int(event.get("at_ns", 0)), event.get("stage")
            self.now_ns = max(self.now_ns, at)
            if isinstance(stage, int) and event.get("kind") == "stage_started":
                self._began.setdefault(stage, at)
            elif isinstance(stage, int) and event.get("kind") == "stage_ended":
                self._ended[stage] = at

    def _add_health(self, payload: bytes | memoryview) -> None:
        table = decode_table(payload)
        columns = (table["at_ns"].tolist(), table["source"], table["worker"], table["metric"], table["value"].tolist())
        for at, source, worker, metric, value in zip(*columns, strict=True):
            self.now_ns = max(self.now_ns, at)
            if source == "generator" and metric in READINGS:
                held = self._readings.setdefault(metric, {}).setdefault(second_of(at), {})
                held[worker] = value

    def steer(self) -> Command:
        """What to do now; called whenever frames have come. An empty command most of the time."""
        stage = max(self._began, default=-1)
        if stage < 0 or stage in self._left or stage >= len(self.planned):
            return Command()
        move = self.planned[stage]
        if move.role != "settle":
            # What came of a load changes as frames come, once a second; looking more often costs CPU that the server
            # on the same machine may need.
            if move.role not in MAY_BE_HOPELESS or self._looked_at == self._frames:
                return Command()
            self._looked_at = self._frames
            tried = self._tried(stage, min(self.now_ns, self._ended.get(stage, self.now_ns)), self.now_ns)
            return self._leave(stage) if hopeless(tried) else Command()
        if self._looked_at == self._frames:
            return Command()
        self._looked_at = self._frames
        before, settling = self._tried(stage - 1, self._ended.get(stage - 1, self._began[stage])), self._settling(stage)
        ran_s = (self.now_ns - self._began[stage]) / units.NS_PER_S
        out_of_time = self.now_ns >= (self.search.budget_s - SPARE_S) * units.NS_PER_S
        if ran_s < LONGEST_SETTLE_S - SPARE_S and not out_of_time and not self._may_go_on(stage, before, settling):
            return Command()
        self.history += [before, settling]
        following = next_move(self.history, self.search)
        if following is None:
            return self._leave(stage)
        moves = (following, settle_after(self.history, following))
        self.planned += moves
        return self._leave(stage, moves)

    def _leave(self, stage: int, moves: tuple[Move, ...] = ()) -> Command:
        self._left.add(stage)
        return Command(moves, stage)

    def _may_go_on(self, stage: int, before: Tried, settling: Tried) -> bool:
        """The step before is known, and after a failure the server is itself again."""
        since_ns = self.now_ns - self._began[stage]
        if self._fold.unknown(stage - 1) and since_ns < longest_limit_ns(self.search.judged) + KNOWN_AFTER_NS:
            return False
        if before.role == "overrun":
            # Near capacity the median is not that of the floor again: what was left waiting must be worked off.
            return self._fold.worked_off(stage, self.now_ns, longest_limit_ns(self.search.judged))
        return before.role == "floor" or before.passed or settling.recovered_s is not None

    def _floor_ns(self) -> float | None:
        return next((tried.median_ns for tried in self.history if tried.role == "floor"), None)

    def _settling(self, stage: int) -> Tried:
        move = self.planned[stage]
        return self._fold.tried(
            stage, "settle", move.rate_per_s, self._began[stage], self.now_ns, self.now_ns, floor_ns=self._floor_ns()
        )

    def _tried(self, stage: int, end_ns: int, now_ns: int | None = None) -> Tried:
        move, begin = self.planned[stage], self._began[stage]
        return self._fold.tried(
            stage, move.role, move.rate_per_s, begin, end_ns, now_ns, self._generator(stage, begin, end_ns)
        )

    def _generator(self, stage: int, begin_ns: int, end_ns: int) -> str:
        within = range(begin_ns // units.NS_PER_S, -(-end_ns // units.NS_PER_S))
        cpu = [max(held.values()) for s, held in self._readings.get("cpu_ratio", {}).items() if s in within]
        if cpu and float(np.median(cpu)) / self._cores > CPU_FULL:
            return f"the generator used {units.format_ratio(float(np.median(cpu)) / self._cores)} of the CPU it can use"
        sender_cpu, sender_wait, lag = (self._readings.get(metric, {}) for metric in READINGS[1:])
        reason = starved(sender_cpu, sender_wait, lag, begin_ns, end_ns)
        seconds = {} if reason else restless(sender_cpu, sender_wait, lag)
        if not any(second in within for second in seconds):
            return reason
        return starved_when_slow(seconds, self._fold.slowest(stage))


# --- From a stored run -----------------------------------------------------------------------------------------------


def search_of(run: Mapping[str, Any]) -> Search | None:
    """The search that a run was; None for other runs."""
    wanted = (run.get("settings") or {}).get("search")
    if not isinstance(wanted, Mapping):
        return None
    given = {name: float(wanted[name]) for name in ("budget_s", "lowest", "highest") if name in wanted}
    objectives = tuple(objective for text in wanted.get("slo") or () for objective in parse_objectives(str(text)))
    pace = PACES.get(str(wanted.get("pace")), FULL)
    return Search(objectives or slo.objectives_of(run), pace=pace, **given)


def role_of(run: Mapping[str, Any], index: int) -> str:
    """The part of a stage in a search; empty where it has none."""
    for stage in run.get("stages") or ():
        if isinstance(stage, Mapping) and stage.get("index") == index:
            return str(stage.get("role") or "")
    return ""


def of_run(
    run: Mapping[str, Any], stages: Sequence[StageFigures], windows: Iterable[Window], counts: Iterable[Count]
) -> Capacity | None:
    """The capacity that a stored search found; None where the run was none.

    `stages` are its stage figures: when each began and ended, and whether the generator was the limit.
    """
    search = search_of(run)
    if search is None:
        return None
    fold = Fold(search.judged)
    fold.add_windows(windows)
    fold.add_counts(counts)
    history: list[Tried] = []
    floor_ns = None
    for stage in stages:
        if stage.role not in get_args(Role):
            continue
        role = cast(Role, stage.role)
        generator = stage.validity_reasons[0] if stage.validity == "invalid" else ""
        tried = fold.tried(stage.index, role, stage.start, stage.begin_ns, stage.end_ns, None, generator, floor_ns)
        if role == "floor":
            floor_ns = tried.median_ns
        history.append(tried)
    return capacity(history, search) if history else None
