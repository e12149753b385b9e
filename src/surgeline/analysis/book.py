"""A run's measurement, arranged by stage and endpoint.

Every question of the analysis is a sum over some stages and endpoints: how many, how slow, when answered. The book puts
windows, counts and readings where such a sum is one pass over arrays, and knows when each stage really began and ended.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from surgeline import units
from surgeline.analysis.intervals import rate_interval, ratio_estimate
from surgeline.analysis.model import EndpointFigures, Tally
from surgeline.analysis.pooled import EMPTY, Columns
from surgeline.analysis.steered import Act, acts
from surgeline.samples import Count, Histogram, Measurement, Outcome, Reading
from surgeline.workload import closed_stage, open_stage

Array = np.ndarray[Any, np.dtype[Any]]

WITH_TIMES = (Outcome.OK, Outcome.FAILURE, Outcome.ERROR, Outcome.TIMEOUT)
"""Outcomes whose requests have an answer time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """One stage: its plan, and when it really began and ended."""

    index: int
    name: str
    model: Literal["open", "closed"]
    start: float
    end: float
    duration_ns: int | None
    begin_ns: int
    end_ns: int
    completed: bool
    own_name: str = ""
    sessions: tuple[float, float] | None = None


@dataclass(slots=True)
class _Cell:
    """One endpoint in one stage, as it is collected."""

    tally: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    by_second: dict[int, dict[Outcome, int]] = field(default_factory=dict)
    due_by_second: dict[int, list[int]] = field(default_factory=dict)
    response: dict[Outcome, list[tuple[int, Histogram]]] = field(default_factory=lambda: defaultdict(list))
    service: list[tuple[int, Histogram]] = field(default_factory=list)


@dataclass(slots=True)
class Held:
    """One endpoint in one stage: counts by second, and times as columns."""

    tally: Tally
    by_second: Mapping[int, Mapping[Outcome, int]]
    due_by_second: Mapping[int, Sequence[int]]
    response: Mapping[Outcome, Columns]
    service: Columns
    own: Mapping[int, int] = field(default_factory=dict)
    """By second, what was not sent for lack of something of the generator's own."""


_TALLY_NAMES = {outcome: outcome.name.lower() for outcome in Outcome}


@dataclass
class Book:
    """A measurement arranged by stage and endpoint, so that each question is one sum over some of its cells."""

    run: Mapping[str, Any]
    cells: dict[tuple[int, str], Held]
    stages: list[Limits]
    health: dict[str, dict[int, dict[str, float]]]
    """Metric → second → worker → last reading in that second; of the generator."""
    server: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    """The same of the served process, where it was seen."""
    acts: tuple[Act, ...] = ()
    """What an operator did to the load."""
    what: str = "requests"
    """What its counts count, for sentences."""

    @classmethod
    def of(cls, run: Mapping[str, Any], measurement: Measurement) -> "Book":
        """From what was measured."""
        cells: dict[tuple[int, str], _Cell] = defaultdict(_Cell)
        for window in measurement.windows:
            cell = cells[window.stage, window.endpoint]
            cell.tally[_TALLY_NAMES[window.outcome]] += window.count
            cell.tally["bytes_in"] += window.bytes_in
            cell.tally["bytes_out"] += window.bytes_out
            outcomes = cell.by_second.setdefault(window.second, {})
            outcomes[window.outcome] = outcomes.get(window.outcome, 0) + window.count
            if window.outcome in WITH_TIMES:
                cell.response[window.outcome].append((window.second, window.response))
                if window.outcome is Outcome.OK:
                    cell.service.append((window.second, window.service))
        for count in measurement.counts:
            cell = cells[count.stage, count.endpoint]
            for name, value in (("due", count.due), ("sent", count.sent), ("hops", count.hops)):
                cell.tally[name] += value
            held = cell.due_by_second.setdefault(count.second, [0, 0])
            held[0] += count.due
            held[1] += count.sent
        health: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
        server: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
        for reading in measurement.health:
            _note((health if reading.source == "generator" else server)[reading.metric], reading)
        arranged = {
            key: Held(
                Tally(**cell.tally),
                cell.by_second,
                cell.due_by_second,
                {outcome: Columns.of(key[0], parts) for outcome, parts in cell.response.items()},
                Columns.of(key[0], cell.service),
            )
            for key, cell in sorted(cells.items())
        }
        return cls(
            run, arranged, _limits(run, measurement, arranged), dict(health), dict(server), acts(measurement.events)
        )

    def of_transactions(self, measurement: Measurement) -> "Book":
        """The same of what stands beside the requests: a transaction, or messages of a kind, in an endpoint's place.

        Over the same stages. Everything in it was due and sent by the first of its steps, or by the request that began
        its conversation, so due is the sum of its outcomes.
        """
        windows = (*measurement.transactions, *measurement.messages)
        counts = [Count(w.second, w.stage, w.endpoint, w.count, w.count, 0) for w in windows]
        kept = replace(measurement, windows=windows, counts=tuple(counts), health=())
        return replace(Book.of(self.run, kept), stages=self.stages, what="transactions")

    def excuse(self, own: Mapping[tuple[int, str], int]) -> None:
        """Of what was not sent of a stage and endpoint so much was the generator's own doing, and counts neither way.

        Over the seconds in which something was not sent it is spread in proportion.
        """
        for key, count in own.items():
            cell = self.cells.get(key)
            if cell is None or not cell.tally.not_sent:
                continue
            count, spread, seen, given = min(count, cell.tally.not_sent), {}, 0, 0
            for second, outcomes in sorted(cell.by_second.items()):
                seen += outcomes.get(Outcome.NOT_SENT, 0)
                until = count * seen // cell.tally.not_sent
                if until > given:
                    spread[second] = until - given
                given = until
            cell.own, cell.tally = spread, replace(cell.tally, own=count)

    @cached_property
    def endpoints(self) -> list[str]:
        """Every endpoint that was due, in the order of the plan, then of the alphabet."""
        planned = list(dict.fromkeys(endpoint_names(self.run)))
        seen = {name for _, name in self.cells}
        return [name for name in planned if name in seen] + sorted(seen.difference(planned))

    @property
    def model(self) -> Literal["open", "closed", "script"]:
        """The load's model, or "script" where a script decided it."""
        if not self.run.get("stages"):
            return "script"
        return "open" if self.run["stages"][0].get("model") == "open" else "closed"

    @property
    def begin_ns(self) -> int:
        """When the first stage began."""
        return self.stages[0].begin_ns if self.stages else 0

    @property
    def end_ns(self) -> int:
        """When the last stage ended; answers may have come later."""
        return self.stages[-1].end_ns if self.stages else 0

    @cached_property
    def width(self) -> int:
        """How many seconds the run covers, from 0 to the last one with a request or of a stage."""
        last = max((max(cell.by_second, default=-1) for cell in self.cells.values()), default=-1)
        due = max((max(cell.due_by_second, default=-1) for cell in self.cells.values()), default=-1)
        return max(last + 1, due + 1, -(-self.end_ns // units.NS_PER_S))

    def some(self, stage: int | None, endpoint: str | None) -> list[Held]:
        """The cells of a stage, of an endpoint, of both, or all."""
        return [
            cell
            for (index, name), cell in self.cells.items()
            if (stage is None or stage == index) and (endpoint is None or endpoint == name)
        ]

    def ok(self, stage: int | None, endpoint: str | None) -> Columns:
        """The response times of ok requests."""
        return Columns.pool(cell.response.get(Outcome.OK, EMPTY) for cell in self.some(stage, endpoint))

    def by_slot(self, stage: int | None, endpoint: str | None) -> dict[int, list[int]]:
        """Per stage and second (stage x 2³² + second): requests judged, and those of them not ok.

        Neither those that the end of the run cut off are judged, nor those that the generator itself could not send.
        """
        found: dict[int, list[int]] = {}
        for (index, name), cell in self.cells.items():
            if (stage is None or stage == index) and (endpoint is None or endpoint == name):
                for second, outcomes in cell.by_second.items():
                    held = found.setdefault((index << 32) + second, [0, 0])
                    for outcome, count in outcomes.items():
                        if outcome is not Outcome.ABORTED:
                            said = count - (cell.own.get(second, 0) if outcome is Outcome.NOT_SENT else 0)
                            held[0] += said
                            held[1] += said if outcome is not Outcome.OK else 0
        return dict(sorted(found.items()))

    def bad_by_second(self, endpoint: str | None) -> dict[int, int]:
        """How many went wrong, by the second in which they were due; seconds without any are left out."""
        found: dict[int, int] = defaultdict(int)
        for slot, (_, bad) in self.by_slot(None, endpoint).items():
            if bad:
                found[slot & 0xFFFFFFFF] += bad
        return dict(found)

    def arrived(self, endpoint: str | None, outcomes: Iterable[Outcome]) -> Array:
        """How many requests came to an end with one of the outcomes, by the second in which they did."""
        wanted = frozenset(outcomes)
        total = np.zeros(self.width)
        for (_, name, outcome), ends in self._arrivals.items():
            if outcome in wanted and (endpoint is None or endpoint == name):
                total += ends
        return total

    @cached_property
    def _arrivals(self) -> dict[tuple[int, str, Outcome], Array]:
        return {
            (stage, name, outcome): columns.arrivals(self.width)
            for (stage, name), cell in self.cells.items()
            for outcome, columns in cell.response.items()
        }

    @cached_property
    def in_flight(self) -> Array:
        """The mean number of requests in flight in each second: what the times of those that ended add up to, and from
        when they were due on those that never did.
        """
        never, held = np.zeros(self.width), np.zeros(self.width)
        for cell in self.cells.values():
            for second, outcomes in cell.by_second.items():
                never[second] += outcomes.get(Outcome.ABORTED, 0)
            for outcome in WITH_TIMES:
                held += cell.response.get(outcome, EMPTY).waiting(self.width)
        return np.asarray(held + np.cumsum(never) - never / 2.0)

    def figures(
        self, label: str, stage: int | None, endpoint: str | None, begin_ns: int, end_ns: int
    ) -> EndpointFigures:
        """The figures of some cells, with rates over the time from `begin_ns` to `end_ns`."""
        cells = self.some(stage, endpoint)
        tally = _sum(cell.tally for cell in cells)
        slots = self.by_slot(stage, endpoint)
        judged = np.array([pair[0] for pair in slots.values()], dtype=np.int64)
        bad = np.array([pair[1] for pair in slots.values()], dtype=np.int64)
        strata = np.array([slot >> 32 for slot in slots], dtype=np.int64)
        failed = [c.response[o] for c in cells for o in WITH_TIMES[1:] if o in c.response]
        seconds = (end_ns - begin_ns) / units.NS_PER_S
        answered = within(self.arrived(endpoint, WITH_TIMES[:2]), begin_ns, end_ns)
        good = within(self.arrived(endpoint, WITH_TIMES[:1]), begin_ns, end_ns)
        return EndpointFigures(
            name=label,
            tally=tally,
            duration_s=seconds,
            throughput_per_s=answered / seconds if seconds > 0 else None,
            goodput_per_s=good / seconds if seconds > 0 else None,
            error_ratio=ratio_estimate(judged, bad, strata),
            response=self.ok(stage, endpoint).times(),
            service=Columns.pool(cell.service for cell in cells).times(intervals=False),
            failed_response=Columns.pool(failed).times(intervals=False),
            share_of_time=None,
            goodput_interval=self.rate_interval(endpoint, begin_ns, end_ns) if stage is not None else None,
        )

    def rate_interval(self, endpoint: str | None, begin_ns: int, end_ns: int) -> tuple[float, float] | None:
        """The 95 % interval of right answers per second from `begin_ns` to `end_ns`; None where that is too short.

        The first second counts for the rate and not for its scatter, so the interval is moved to where the rate is.
        """
        first, last = -(-begin_ns // units.NS_PER_S) + 1, end_ns // units.NS_PER_S
        right = self.arrived(endpoint, WITH_TIMES[:1])
        around = rate_interval(right[first:last])
        if around is None:
            return None
        shift = within(right, begin_ns, end_ns) / ((end_ns - begin_ns) / units.NS_PER_S) - sum(around) / 2.0
        return max(around[0] + shift, 0.0), around[1] + shift

    def readings(self, metric: str, begin_ns: int, end_ns: int) -> dict[int, dict[str, float]]:
        """The generator's readings of a metric in those seconds: second → worker → value."""
        first, last = begin_ns // units.NS_PER_S, -(-end_ns // units.NS_PER_S)
        return {second: held for second, held in self.health.get(metric, {}).items() if first <= second < last}

    def of_server(self, metric: str, begin_ns: int, end_ns: int) -> list[float]:
        """The served process's readings of a metric in those seconds, summed over its parts, in order of time."""
        first, last = begin_ns // units.NS_PER_S, -(-end_ns // units.NS_PER_S)
        held = self.server.get(metric, {})
        return [sum(held[second].values()) for second in sorted(held) if first <= second < last]

    def books(self, measurement: Measurement, rowless: int = 0) -> tuple[str, ...]:
        """The identities that do not hold. `rowless` requests are known to have no row."""
        tally = _sum(cell.tally for cell in self.cells.values())
        ended = tally.ok + tally.failure + tally.error + tally.timeout + tally.aborted
        broken = []
        if tally.due != tally.sent + tally.not_sent:
            broken.append(f"{tally.due:,} due, but {tally.sent:,} sent and {tally.not_sent:,} not sent")
        if tally.sent != ended:
            broken.append(f"{tally.sent:,} sent, but {ended:,} with an outcome")
        # What a killed run had in flight was counted as aborted when it was recovered, without a row.
        rows = measurement.rows + measurement.rows_dropped + rowless
        if measurement.rows and rows != tally.due:
            left = f" and {measurement.rows_dropped:,} left out" if measurement.rows_dropped else ""
            broken.append(f"{tally.due:,} due, but {measurement.rows:,} rows{left}")
        return tuple(broken)


def endpoint_names(run: Mapping[str, Any]) -> list[str]:
    """The endpoints of a run's plan, in its order; none for a script or a plan that this version cannot read."""
    from surgeline.plan.model import Plan

    plan = (run.get("subject") or {}).get("plan")
    if not isinstance(plan, Mapping):
        return []
    try:
        return list(Plan.model_validate({key: value for key, value in plan.items() if key != "hash"}).endpoints)
    except ValueError:
        return []


def _note(by_second: dict[int, dict[str, float]], reading: Reading) -> None:
    by_second.setdefault(second_of(reading.at_ns), {})[reading.worker] = reading.value


def second_of(at_ns: int) -> int:
    """The second that a reading tells of: readings are taken once a second, of the one before, and never quite on time.

    The middle of what it tells of decides, so one taken a little after the turn is not counted as the next second's.
    """
    return max(at_ns - units.NS_PER_S // 2, 0) // units.NS_PER_S


def _sum(tallies: Iterable[Tally]) -> Tally:
    total: dict[str, int] = defaultdict(int)
    for tally in tallies:
        for name in Tally.__slots__:
            total[name] += getattr(tally, name)
    return Tally(**total)


def within(by_second: Array, begin_ns: int, end_ns: int) -> float:
    """The sum over a stretch of time; of a second that it cuts, the part that lies within."""
    if end_ns <= begin_ns or not len(by_second):
        return 0.0
    cumulative = np.concatenate(([0.0], np.cumsum(by_second)))
    edges = np.array([begin_ns, end_ns]) / units.NS_PER_S
    low, high = np.interp(edges, np.arange(len(cumulative)), cumulative)
    return float(high - low)


# --- Stages ----------------------------------------------------------------------------------------------------------


_UNPLANNED = {"plan": "the load that Locust was told", "script": "the script's load"}
"""What a stage is called that no plan has, by the kind of what was run."""


def _limits(run: Mapping[str, Any], measurement: Measurement, cells: Mapping[tuple[int, str], Held]) -> list[Limits]:
    """The stages that began, in order: from events where there are any, else as planned, else from the windows."""
    began: dict[int, int] = {}
    ended: dict[int, int] = {}
    for event in measurement.events:
        index, at = event.get("stage"), event.get("at_ns")
        if isinstance(index, int) and isinstance(at, int):
            if event.get("kind") == "stage_started":
                began.setdefault(index, at)
            elif event.get("kind") == "stage_ended":
                ended[index] = at
    planned = {int(stage["index"]): stage for stage in run.get("stages") or ()}
    seen = {index for index, _ in cells}
    last_due = max((max(cell.due_by_second, default=-1) for cell in cells.values()), default=-1)
    run_end = int((run.get("ended") or {}).get("at_ns") or (last_due + 1) * units.NS_PER_S)
    unplanned = _UNPLANNED.get(str((run.get("subject") or {}).get("kind")), _UNPLANNED["script"])
    found, at = [], 0
    for index in sorted(seen | set(began) | (set() if began or seen else set(planned))):
        plan = planned.get(index, {})
        duration = plan.get("duration_ns")
        begin = began.get(index, at)
        if index in ended:
            end = ended[index]
        elif duration is not None and index not in began:
            end = begin + int(duration)
        else:
            mine = [second for (stage, _), cell in cells.items() if stage == index for second in cell.due_by_second]
            end = max((max(mine) + 1) * units.NS_PER_S if mine else begin, begin)
            end = min(end, run_end) if run_end > begin else end
        at = end
        found.append(
            Limits(
                index=index,
                name=str(plan.get("name") or (f"stage {index + 1}" if planned else unplanned)),
                model="open" if plan.get("model") == "open" else "closed",
                start=float(plan.get("from", 0.0)),
                end=float(plan.get("to", 0.0)),
                duration_ns=None if duration is None else int(duration),
                begin_ns=begin,
                end_ns=max(end, begin),
                completed=index in ended and (duration is None or end - begin >= 0.98 * int(duration)),
                own_name=_own_name(plan),
                sessions=_sessions(plan),
            )
        )
    return found


def _sessions(plan: Mapping[str, Any]) -> tuple[float, float] | None:
    """The sessions that arrive per second in a stage as `run.json` has it; None where requests or users do."""
    first, last = plan.get("sessions_from"), plan.get("sessions_to")
    return (float(first), float(last)) if isinstance(first, int | float) and isinstance(last, int | float) else None


def _own_name(plan: Mapping[str, Any]) -> str:
    """What a plan calls a stage; empty where the name is only its load, as of a stage that was given none."""
    name, start, end = str(plan.get("name") or ""), float(plan.get("from", 0.0)), float(plan.get("to", 0.0))
    if plan.get("role") or start == end == 0 or re.fullmatch(r"stage \d+|.* sessions/s", name):
        return ""
    made = {make(start, end, 1).name for make in (closed_stage, open_stage)}
    return "" if name in made else name
