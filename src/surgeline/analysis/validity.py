"""Did the generator keep up?

A number says something about the server only where the generator was not the one that was slow. Each stage is judged
by itself: *valid*; *degraded*, its numbers carry a reason to doubt them; *invalid*, they say nothing about the server
and no verdict is made from them. Sharing the machine with the server is said elsewhere and is no reason by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from surgeline import units
from surgeline.analysis.book import Book
from surgeline.analysis.details import Details
from surgeline.analysis.model import StageFigures, Tally
from surgeline.analysis.workers import Gap, Workers
from surgeline.samples import Measurement, Outcome, histogram_index

Word = Literal["valid", "degraded", "invalid"]

CPU_DEGRADED = 0.8
"""Of the cores the generator's threads could use; the limit that k6's and Locust's guides advise."""
CPU_INVALID = {"locust": 0.9}
"""One Python process sends from one core: above this (Locust warns there too) answers wait for it to come round."""
CPU_INVALID_NATIVE = 0.95
LAG_DEGRADED = (2 * units.NS_PER_MS, 0.10)
"""A start lag above both, as a time and as a share of the response time it is part of, colours what was measured."""
LAG_INVALID = (10 * units.NS_PER_MS, 0.25)
"""A generator that waits for its core before it sends waits as long before it reads the answer, which no clock of its
own tells from the server's time: a quarter that is start lag stands for a half that is the generator's."""
STALL_NS = 20 * units.NS_PER_MS
"""A start lag of this much sends what was due in so long at once: at 200/s, four requests."""
NEVER_RESTS = 0.9
"""A thread that runs or waits for a core for this share of a stage has no time to spare: what it sends and what it
reads both queue before it, and most of a response time may be that queue however little of it is start lag."""
LITTLE_REST = 0.85
"""A thread that ran or waited for so much of a second had hardly any rest in it: a queue builds up before it."""
SLOWEST = 0.95
"""The slowest of a stage are those from this quantile on, and those that went wrong."""
MOST_OF_THE_SLOWEST = 0.5
"""With this share of a stage's slowest requests due in such seconds, its upper percentiles are the generator's own."""
FEWEST_SENT = 0.99
"""Of what was due must have been sent, unless the server was what held it back."""
IN_FLIGHT_FULL = 0.95
"""At this share of the cap on requests in flight, what is not sent is the server's doing."""
MOST_IN_FLIGHT, OWN_DESCRIPTORS = 10_000, 200
"""The cap on requests in flight is the first, or what the limit of open files leaves beside the second."""
SILENT_S, SILENT = 3, 0.3
"""A worker that tells nothing for so many seconds of a stage, and for so much of it, does not send as planned."""
CLOCK_MOVED = (0.5 * units.NS_PER_S, 0.001)
"""Wall clock against monotonic clock, as a time and as a share of the run: more than any two clocks drift apart."""
GENERATOR_KINDS = ("client_ports", "client_fds", "engine_fault", "run_ended", "paused")
"""Kinds of not sent that are the generator's own."""
NOT_KEPT, NOT_KEPT_SHARE = "body_not_kept", 0.01
"""The kind of answers whose bodies were not kept, so that nobody knows whether they were right, and the share of what
was due above which such answers put a stage's errors in doubt: an objective for errors is often no more."""
EXPOSED, MOSTLY_EXPOSED = 0.01, 0.5
"""Of a script's answers, the share whose times contain the delays of Locust's loop: up to the first not even p99 does;
up to the second the smaller percentiles do not."""
LITTLE = 0.10
"""Measured and derived requests in flight may differ by this much beyond what a reading per second scatters."""


@dataclass(slots=True)
class Judgement:
    """One stage's word, with its reasons as clauses."""

    word: Word = "valid"
    reasons: tuple[str, ...] = ()
    _ranks: dict[str, int] = field(default_factory=lambda: {"valid": 0, "degraded": 1, "invalid": 2}, repr=False)

    def add(self, word: Word, reason: str) -> None:
        """The worst word wins; reasons add up."""
        if self._ranks[word] > self._ranks[self.word]:
            self.word = word
        self.reasons = (*self.reasons, reason)


@dataclass(frozen=True, slots=True)
class Standstill:
    """A time in which a script kept Locust's loop to itself: nobody's request was sent, nobody's answer read."""

    began_ns: int
    ended_ns: int | None
    """None where it lasted to the end."""
    where: str
    """In the script, as the one who was asked said it."""

    def told(self, begin_ns: int) -> str:
        """As a clause; times count from `begin_ns`."""
        since = units.format_duration(max(self.began_ns - begin_ns, 0), 2)
        lasted = "" if self.ended_ns is None else f" for {units.format_duration(self.ended_ns - self.began_ns, 2)}"
        return f"the script blocked Locust's loop from {since} on{lasted} ({self.where})"


def standstills(events: Sequence[Mapping[str, Any]]) -> tuple[Standstill, ...]:
    """What a run's events tell of them, in order of time; at most a hundred."""
    found: list[Standstill] = []
    open_: dict[str, tuple[int, str]] = {}
    for event in events:
        worker, at = str(event.get("worker")), event.get("at_ns")
        if event.get("kind") == "loop_stands_still" and isinstance(event.get("since_ns"), int):
            open_[worker] = (event["since_ns"], str(event.get("where") or "its own code")[:300])
        elif event.get("kind") == "loop_goes_on" and worker in open_ and isinstance(at, int):
            since, where = open_.pop(worker)
            found.append(Standstill(since, max(at, since), where))
    found += [Standstill(since, None, where) for since, where in open_.values()]
    return tuple(sorted(found, key=lambda still: still.began_ns)[:100])


def forked(events: Sequence[Mapping[str, Any]]) -> str:
    """That a script forked while it ran, and what of that is in no figure, as a clause; "" where it did not."""
    told = [event for event in events if event.get("kind") == "forked"]
    counts = {
        name: sum(event[name] for event in told if isinstance(event.get(name), int) and event[name] > 0)
        for name in ("processes", "requests")
    }
    if not any(counts.values()):
        return ""
    many, asked = max(counts["processes"], 1), counts["requests"]
    what = f"{asked:,} {'request' if asked == 1 else 'requests'} of" if asked else "what was sent by"
    whose = "it" if many == 1 else "them"
    processes = "a process" if many == 1 else f"{many:,} processes"
    verb = "is" if asked <= 1 else "are"
    return f"the script forked {processes} while the test ran, and {what} {whose} {verb} in no figure"


def judge(
    run: Mapping[str, Any],
    stages: Sequence[StageFigures],
    book: Book,
    details: Details | None,
    workers: Workers | None = None,
    standstills: Sequence["Standstill"] = (),
) -> dict[int, Judgement]:
    """The judgement of each stage, by its index."""
    found = {}
    for stage in stages:
        judgement = Judgement()
        gaps = workers.gaps_in(stage.begin_ns, stage.end_ns) if workers is not None else []
        _cpu(judgement, run, stage, book)
        _core(judgement, stage, book)
        if run.get("due_known", True):
            _lateness(judgement, stage, book)
        else:
            _lag(judgement, run, stage, book)
        for still in standstills:
            if still.began_ns <= stage.end_ns and (still.ended_ns is None or still.ended_ns >= stage.begin_ns):
                judgement.add("invalid" if still.ended_ns is None else "degraded", still.told(book.begin_ns))
        _sent(judgement, run, stage, book, details)
        _kept(judgement, stage, details)
        _planned(judgement, run, stage, gaps)
        _little(judgement, stage, book)
        for gap in gaps:  # a machine that was not there sent nothing; what it waited for nobody knows
            judgement.add("degraded", gap.told)
        if workers is None:
            _workers(judgement, stage, book)
        found[stage.index] = judgement
    return found


def of_run(
    run: Mapping[str, Any],
    stages: Sequence[StageFigures],
    books: Sequence[str],
    measurement: Measurement,
    tally: Tally,
    workers: Workers | None = None,
) -> tuple[Word, tuple[str, ...]]:
    """The word for the whole run: invalid when no stage says anything, degraded when some do not."""
    judgement = Judgement()
    if not tally.due:
        judgement.add("invalid", "no request was due")
    invalid = [stage for stage in stages if stage.validity == "invalid"]
    degraded = [stage for stage in stages if stage.validity == "degraded"]
    if stages and len(invalid) == len(stages):
        judgement.add("invalid", f"the generator was the limit throughout: {invalid[0].validity_reasons[0]}")
    elif invalid:
        names = _names(invalid)
        judgement.add("degraded", f"cut from the verdict: {names} ({invalid[0].validity_reasons[0]})")
    if degraded:
        judgement.add("degraded", f"to be doubted: {_names(degraded)} ({degraded[0].validity_reasons[0]})")
    for clause in workers.doubts() if workers is not None else ():
        judgement.add("degraded", clause)
    copies = forked(measurement.events)
    if copies:
        judgement.add("degraded", copies)
    moved = clock_moved_ns(run)
    if moved is not None:
        judgement.add(
            "degraded",
            f"the wall clock moved by {units.format_duration(abs(moved))} against the run's own: "
            "it was set, or the machine slept",
        )
    for clause in books:
        judgement.add("degraded", f"the books do not balance: {clause}")
    if measurement.rows_dropped > 0.01 * max(tally.due, 1):
        share = units.format_ratio(measurement.rows_dropped / max(tally.due, 1))
        judgement.add("degraded", f"{share} of the rows were left out, so errors by kind and stalls are incomplete")
    return judgement.word, judgement.reasons


def clock_moved_ns(run: Mapping[str, Any]) -> int | None:
    """How far the wall clock went ahead of the monotonic one during the run; None where no more than clocks drift."""
    begin, end = run.get("clock"), run.get("clock_end")
    if not isinstance(begin, Mapping) or not isinstance(end, Mapping):
        return None
    try:
        wall, own = (int(end[name]) - int(begin[name]) for name in ("wall_ns", "monotonic_ns"))
    except (KeyError, TypeError, ValueError):
        return None
    return wall - own if abs(wall - own) > max(CLOCK_MOVED[0], CLOCK_MOVED[1] * own) else None


def exposed(run: Mapping[str, Any], stage: StageFigures) -> float:
    """The share of a script's right answers whose times contain what Locust's event loop was late, 0 to 1.

    All those of stock clients. Those of the native client begin when the engine sent and end when the kernel received;
    only a new connection, and a redirect, wait for the loop in between. Where the system has no receive time stamps,
    they end when the loop came to look.
    """
    parts, tally = stage.total.parts, stage.total.tally
    system = str(((run.get("environment") or {}).get("machine") or {}).get("os"))
    if parts is None or not tally.ok or not system.startswith("Linux"):
        return 1.0
    return min(max(1.0 - (parts.count - parts.fresh - tally.hops) / tally.ok, 0.0), 1.0)


def times_are_apart(run: Mapping[str, Any], stage: StageFigures) -> bool:
    """Whether a script's response times hold however late Locust's event loop was."""
    return not run.get("due_known", True) and exposed(run, stage) <= EXPOSED


def _names(stages: Sequence[StageFigures]) -> str:
    shown = ", ".join(stage.name for stage in stages[:3])
    return shown if len(stages) <= 3 else f"{shown} and {len(stages) - 3} more"


def cpu_by_second(run: Mapping[str, Any], readings: Mapping[int, Mapping[str, float]]) -> dict[int, float]:
    """The share of its cores that the busiest generator process used, by second; a native one has a core a thread."""
    settings = run.get("settings") or {}
    threads = max(int(settings.get("workers") or 1), 1) if run.get("engine") == "native" else 1
    return {second: max(held.values()) / threads for second, held in readings.items() if held}


def _cpu(judgement: Judgement, run: Mapping[str, Any], stage: StageFigures, book: Book) -> None:
    by_second = cpu_by_second(run, book.readings("cpu_ratio", stage.begin_ns, stage.end_ns))
    if not by_second:
        return
    typical = float(np.median(list(by_second.values())))
    limit = CPU_INVALID.get(str(run.get("sender") or run.get("engine")), CPU_INVALID_NATIVE)
    used = f"the generator used {units.format_ratio(typical)} of the CPU it can use"
    if times_are_apart(run, stage):
        if typical > limit:
            text = f"{used}: its users asked less often than they would have, and the load is what it could send"
            judgement.add("degraded", text)
        return
    if typical > limit:
        judgement.add("invalid", f"{used}, and beyond {units.format_ratio(limit)} it is slow itself")
    elif typical >= CPU_DEGRADED:
        judgement.add("degraded", f"{used}; above {units.format_ratio(CPU_DEGRADED)} its own delays show")


BySecond = Mapping[int, Mapping[str, float]]
"""Readings by second and worker."""


def starved(cpu: BySecond, wait: BySecond, lag: BySecond, begin_ns: int, end_ns: int) -> str:
    """That the thread that sends had no core when it needed one between two moments, as a clause; empty where it had.

    `cpu` and `wait` are how much of the time it ran, and was ready to run but had no core; `lag` is its start lag at
    p99, in ns, without the seconds in which it did not even come to tell. Waiting alone is no fault where each wait is
    short: a thread that in addition never rests and is late has fallen behind, because a hog, a quota or other machines
    on the same hardware hold its core. A second at the edge tells of the neighbour too, so whole seconds are taken; of
    a stage that has none, as a search cuts a hopeless step short, the one in which the thread rested least.
    """
    both = {
        second: [(held[worker], cpu.get(second, {}).get(worker, 0.0)) for worker in held]
        for second, held in wait.items()
        if held and begin_ns // units.NS_PER_S <= second < -(-end_ns // units.NS_PER_S)
    }
    if not both:
        return ""
    whole = range(-(-begin_ns // units.NS_PER_S), end_ns // units.NS_PER_S)
    seconds = [second for second in both if second in whole]
    seconds = seconds or [max(both, key=lambda second: max(map(sum, both[second])))]
    late = typical({second: held for second, held in lag.items() if second in seconds})
    # Means, as a wait counts in the second in which it ends.
    waited, ran = (float(value) for value in np.mean([pair for second in seconds for pair in both[second]], axis=0))
    if waited + ran < NEVER_RESTS or (late is not None and late <= LAG_INVALID[0]):
        return ""
    return (
        f"the generator waited for a core {units.format_ratio(min(waited, 1.0))} of the time "
        f"and had one {units.format_ratio(min(ran, 1.0))} of it"
    )


def restless(cpu: BySecond, wait: BySecond, lag: BySecond) -> dict[int, tuple[float, float]]:
    """The seconds in which the thread that sends had hardly any rest and was late: how much it waited, and how much it
    ran. The readings are as of `starved`.
    """
    found = {}
    for second, held in wait.items():
        waited, ran = max(((held[worker], cpu.get(second, {}).get(worker, 0.0)) for worker in held), key=sum)
        if waited + ran >= LITTLE_REST and max(lag.get(second, {}).values(), default=np.inf) > LAG_INVALID[0]:
            found[second] = (waited, ran)
    return found


def starved_when_slow(seconds: Mapping[int, tuple[float, float]], slowest: Mapping[int, int]) -> str:
    """That most of a stage's slowest requests were due in restless seconds, as a clause; empty where they were not.

    `slowest` counts them by second. Just at saturation a starved generator rests for most of a stage and then falls
    behind: on average it rested, but not when it mattered. A server that is slow is so while the generator rests.
    """
    mine = {second: count for second, count in slowest.items() if second in seconds and count > 0}
    share = sum(mine.values()) / max(sum(slowest.values()), 1)
    if not mine or share < MOST_OF_THE_SLOWEST:
        return ""
    shares = np.average([seconds[second] for second in mine], axis=0, weights=list(mine.values()))
    waited, ran = (units.format_ratio(min(float(part), 1.0)) for part in shares)
    return (
        f"{units.format_ratio(share)} of the slowest requests were due while the generator waited for a core "
        f"{waited} of the time and had one {ran} of it"
    )


def _core(judgement: Judgement, stage: StageFigures, book: Book) -> None:
    cpu, wait, lag = (
        book.readings(metric, stage.begin_ns, stage.end_ns)
        for metric in ("sender_cpu_ratio", "sender_wait_ratio", "lag_p99_ns")
    )
    reason = starved(cpu, wait, lag, stage.begin_ns, stage.end_ns)
    if not reason and (seconds := restless(cpu, wait, lag)):
        reason = starved_when_slow(seconds, _slowest(stage, book))
    if reason:
        judgement.add("invalid", reason)


def _slowest(stage: StageFigures, book: Book) -> dict[int, int]:
    """How many of a stage's slowest requests were due in each second."""
    found = {slot & 0xFFFFFFFF: bad for slot, (_, bad) in book.by_slot(stage.index, None).items() if bad}
    limit = stage.total.response.quantiles[SLOWEST].value
    if limit is not None:
        slots, counts = book.ok(stage.index, None).beyond(histogram_index(round(limit)) - 1)
        for slot, count in zip(slots.tolist(), counts.astype(int).tolist(), strict=True):
            if count:
                found[slot & 0xFFFFFFFF] = found.get(slot & 0xFFFFFFFF, 0) + count
    return found


def typical(readings: BySecond) -> float | None:
    """The greatest reading of each second, in the median second; None where nothing was read."""
    return float(np.median([max(held.values()) for held in readings.values()])) if readings else None


def bunched(book: Book, begin_ns: int, end_ns: int) -> float | None:
    """The share of those seconds in which the generator stalled; None where no start lag was read."""
    most = [max(held.values()) for held in book.readings("lag_max_ns", begin_ns, end_ns).values()]
    return sum(lag > STALL_NS for lag in most) / len(most) if most else None


def _typical_lag(stage: StageFigures, book: Book) -> float | None:
    """The p99 of the start lag in the median second: one hiccup of the machine is no generator that cannot keep up."""
    return typical(book.readings("lag_p99_ns", stage.begin_ns, stage.end_ns))


def _lateness(judgement: Judgement, stage: StageFigures, book: Book) -> None:
    """How much of each shown percentile is the generator's own delay: response less service time, at the same rank.

    A lag at p99 that is a small part of the p99 shown changes nothing, however it compares with the median. Where only
    p99 is mostly lag, the smaller percentiles still speak of the server. Between two modes of a distribution a
    percentile may jump by more than any request was late: the lag that was read bounds what counts.
    """
    most = _typical_lag(stage, book)
    for quantile in (0.5, 0.95, 0.99):
        response, service = (
            stage.total.response.quantiles[quantile].value,
            stage.total.service.quantiles[quantile].value,
        )
        if response is None or service is None:
            continue
        late = response - service if most is None else min(response - service, most)
        for word, (time, share) in (("invalid", LAG_INVALID), ("degraded", LAG_DEGRADED)):
            if late > max(time, share * response):
                text = (
                    f"requests left late: of a p{quantile * 100:g} of {units.format_duration(response)}, "
                    f"{units.format_duration(late)} is the generator's own delay"
                )
                judgement.add("invalid" if word == "invalid" and quantile < 0.99 else "degraded", text)
                return


def _lag(judgement: Judgement, run: Mapping[str, Any], stage: StageFigures, book: Book) -> None:
    lag, share = _typical_lag(stage, book), exposed(run, stage)
    if lag is None or share <= EXPOSED:
        return
    median = stage.total.response.quantiles[0.5].value or stage.total.failed_response.quantiles[0.5].value
    text = f"Locust's event loop ran {units.format_duration(lag)} late (p99)"
    if median is not None:
        text += f" where the median response time is {units.format_duration(median)}"
    if share <= MOSTLY_EXPOSED:
        text += f", and {units.format_ratio(share)} of the times contain that"
    for word, (time, part) in (("invalid", LAG_INVALID), ("degraded", LAG_DEGRADED)):
        if lag > max(time, part * (median or 0.0)):
            judgement.add("invalid" if word == "invalid" and share > MOSTLY_EXPOSED else "degraded", text)
            return


def _sent(
    judgement: Judgement, run: Mapping[str, Any], stage: StageFigures, book: Book, details: Details | None
) -> None:
    tally = stage.total.tally
    if not tally.due or not tally.not_sent:
        return
    few = _few_descriptors(run)
    if few or details is not None:
        own = tally.own
    else:
        own = 0 if _was_full(run, stage, book) else tally.not_sent
    bound = set_bound(run)
    if bound is not None and tally.not_sent - own > (1.0 - FEWEST_SENT) * tally.due:
        left = units.format_ratio((tally.not_sent - own) / tally.due)
        judgement.add("degraded", f"{left} of what was due was not sent: {bound:,} in flight were {THE_BOUND}")
    if own > (1.0 - FEWEST_SENT) * tally.due:
        sent = units.format_ratio(1 - own / tally.due)
        judgement.add("invalid", f"the generator sent only {sent} of the {tally.due:,} requests that were due{few}")


def _kept(judgement: Judgement, stage: StageFigures, details: Details | None) -> None:
    """Answers that nobody could check are errors of the plan or the generator, and tell nothing of the server."""
    due = stage.total.tally.due
    unseen = sum(
        group.by_stage.get(stage.index, 0)
        for group in (details.errors if details is not None else ())
        if group.kind == NOT_KEPT
    )
    if unseen > NOT_KEPT_SHARE * due:
        judgement.add(
            "degraded",
            f"{units.format_ratio(unseen / due)} of the requests are errors only because their answers' bodies were "
            "too long, or too many at once, to be kept and checked",
        )


THE_BOUND = "the bound that was set"


def set_bound(run: Mapping[str, Any]) -> int | None:
    """The bound on requests in flight, where somebody set it lower than it is by itself; else None."""
    cap = (run.get("settings") or {}).get("max_in_flight")
    return cap if isinstance(cap, int) and cap < MOST_IN_FLIGHT and not _few_descriptors(run) else None


def bounded(stage: StageFigures) -> bool:
    """Whether somebody's bound on requests in flight, rather than the plan, decided how much was sent in a stage."""
    return any(reason.endswith(THE_BOUND) for reason in stage.validity_reasons)


def own_not_sent(run: Mapping[str, Any], book: Book, details: Details | None) -> dict[tuple[int, str], int]:
    """By stage and endpoint, what was not sent for lack of descriptors, ports or time of the generator's own.

    Without rows the kinds are not known, and only a limit of open files that caps what is in flight says so.
    """
    if _few_descriptors(run):
        return {key: cell.tally.not_sent for key, cell in book.cells.items() if cell.tally.not_sent}
    found: dict[tuple[int, str], int] = {}
    for group in details.errors if details is not None else ():
        if group.outcome is Outcome.NOT_SENT and group.kind in GENERATOR_KINDS:
            for stage, count in group.by_stage.items():
                found[stage, group.endpoint] = found.get((stage, group.endpoint), 0) + count
    return found


def _few_descriptors(run: Mapping[str, Any]) -> str:
    """That the limit of open files is what capped the requests in flight, in words; empty where it did not."""
    cap = (run.get("settings") or {}).get("max_in_flight")
    limit = ((run.get("environment") or {}).get("machine") or {}).get("descriptors")
    if not isinstance(cap, int) or not isinstance(limit, int) or cap >= MOST_IN_FLIGHT:
        return ""
    if cap != max(1, limit - OWN_DESCRIPTORS):
        return ""
    return f": its {limit:,} descriptors allow {cap:,} in flight"


def _was_full(run: Mapping[str, Any], stage: StageFigures, book: Book) -> bool:
    """Whether the cap on requests in flight was reached, which a slow server brings about."""
    cap = (run.get("settings") or {}).get("max_in_flight")
    readings = book.readings("in_flight", stage.begin_ns, stage.end_ns)
    most = max((sum(held.values()) for held in readings.values()), default=0.0)
    return cap is None or not readings or most >= IN_FLIGHT_FULL * float(cap)


def _planned(judgement: Judgement, run: Mapping[str, Any], stage: StageFigures, gaps: Sequence[Gap]) -> None:
    """Open model, one step per arrival: what was due must be what was planned, but for chance."""
    if stage.planned_due is None or stage.planned_due <= 0 or not _one_step(run):
        return
    due = stage.total.tally.due
    # Poisson arrivals scatter by the root of their number; five times that is not scatter.
    allowed = (1.0 - FEWEST_SENT) * stage.planned_due + 5.0 * stage.planned_due**0.5
    if due < stage.planned_due - allowed:
        judgement.add(
            "invalid",
            f"{due:,} requests became due where {round(stage.planned_due):,} were planned: "
            + (f"{gaps[0].worker} was missing" if gaps else "the generator fell behind"),
        )


def _one_step(run: Mapping[str, Any]) -> bool:
    plan = (run.get("subject") or {}).get("plan") or {}
    scenarios = plan.get("scenarios") or {}
    return bool(scenarios) and all(len(scenario.get("steps") or ()) == 1 for scenario in scenarios.values())


def _little(judgement: Judgement, stage: StageFigures, book: Book) -> None:
    """Little's law: requests in flight as they were counted, against those that the samples add up to."""
    readings = book.readings("in_flight", stage.begin_ns, stage.end_ns)
    if len(readings) < 15 or stage.in_flight is None or stage.total.tally.aborted:
        return
    counted = np.array([sum(held.values()) for held in readings.values()])
    scatter = 4.0 * float(counted.std()) / len(counted) ** 0.5
    mean = float(counted.mean())
    if abs(mean - stage.in_flight) > LITTLE * mean + scatter + 1.0:
        judgement.add(
            "degraded",
            f"{mean:.3g} requests were in flight, but the samples add up to {stage.in_flight:.3g} (Little's law)",
        )


def _workers(judgement: Judgement, stage: StageFigures, book: Book) -> None:
    """Each worker tells of itself every second, from its first word on; one that does not has ended, or stood still."""
    everyone = book.health.get("in_flight", {})
    first: dict[str, int] = {}
    for second in sorted(everyone):
        for worker in everyone[second]:
            first.setdefault(worker, second)
    begin, end = -(-stage.begin_ns // units.NS_PER_S), stage.end_ns // units.NS_PER_S
    seconds = range(begin, end)
    for worker, joined in first.items():
        expected = [second for second in seconds if second >= joined]
        silent = sum(worker not in everyone.get(second, {}) for second in expected)
        if silent >= max(SILENT_S, SILENT * len(expected)):
            word: Word = "invalid" if silent == len(expected) == len(seconds) else "degraded"
            judgement.add(word, f"worker {worker} told nothing for {silent} of {len(expected)} s")
