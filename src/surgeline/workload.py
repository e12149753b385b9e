"""When each request is due.

A workload answers *when*, never *what* or *how fast it came back*. It is a list of stages.

Open model: a stage is a straight line of arrival rate over time. The number of arrivals by time t is the area under
that line, so arrival n comes where the area reaches its target E(n):

    rate (per s)            a stage of d seconds, from a to b per second, entered with area A0:
      b |      /              A(t)   = A0 + a·t + (b − a)·t² / 2d
        |    /                t(E)   = 2x / (a + √(a² + 2(b − a)·x / d)),   x = E − A0
      a |  /
        +--------> t        written this way round, the flat stage needs no branch and nothing cancels

    uniform: E(n) = n, n = 1, 2, 3 …        Poisson: E(n) = the sum of n draws from the unit exponential

Partly open model: the same, and what arrives are sessions, which then issue their requests one after the other.

Closed model: a stage is a straight line of active users over time; user u (0, 1, 2 …) is active while u < users(t).

Times are integer nanoseconds since the run began. The draws come from a generator that is part of the format
(SplitMix64), so the engine in Rust and this module give the same schedule for the same seed. Nothing here looks at a
clock.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from surgeline import units

Model = Literal["open", "closed", "partly-open"]
Arrivals = Literal["poisson", "uniform"]

DEFAULT_SEED = 42
"""Of a load that names none. Any would do; with this one, short runs have close to as many arrivals as are expected."""

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Stage:
    """A straight line of load.

    `start` and `end` are arrivals per second (open model) or users (closed model), both ≥ 0; `duration_ns` > 0.
    `name` is how a page calls the stage; never empty.
    """

    name: str
    duration_ns: int
    start: float
    end: float

    def level(self, elapsed_ns: int) -> float:
        """The rate or the number of users `elapsed_ns` after the stage began, held at its ends outside of it."""
        share = min(max(elapsed_ns / self.duration_ns, 0.0), 1.0)
        return self.start + (self.end - self.start) * share

    @property
    def area(self) -> float:
        """Arrivals expected in the stage (open), or user-seconds (closed)."""
        return (self.start + self.end) / 2 * self.duration_ns / units.NS_PER_S


@dataclass(frozen=True, slots=True)
class Workload:
    """Stages one after the other, without gaps, the first at time 0.

    `arrivals` and `seed` matter where something arrives. At least one stage.
    """

    model: Model
    stages: tuple[Stage, ...]
    arrivals: Arrivals = "poisson"
    seed: int = DEFAULT_SEED

    @property
    def arrives(self) -> bool:
        """Whether the schedule decides what begins (requests or sessions), and not users who wait for answers."""
        return self.model != "closed"

    @property
    def duration_ns(self) -> int:
        """From the beginning of the first stage to the end of the last, grace not included."""
        return sum(stage.duration_ns for stage in self.stages)

    def starts_ns(self) -> tuple[int, ...]:
        """When each stage begins."""
        starts, at = [], 0
        for stage in self.stages:
            starts.append(at)
            at += stage.duration_ns
        return tuple(starts)

    def stage_at(self, at_ns: int) -> int | None:
        """The index of the stage that holds the moment `at_ns`; None before the run and from its end on."""
        if at_ns < 0:
            return None
        for index, begin in enumerate(self.starts_ns()):
            if at_ns < begin + self.stages[index].duration_ns:
                return index
        return None

    def level(self, at_ns: int) -> float:
        """The planned rate or number of users at `at_ns`; 0 outside of the run."""
        index = self.stage_at(at_ns)
        return 0.0 if index is None else self.stages[index].level(at_ns - self.starts_ns()[index])


class SplitMix64:
    """The generator of Steele, Lea and Flood (2014): 64 bits of state, the same numbers in Rust and in Python."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next_u64(self) -> int:
        """The next 64 bits, evenly distributed."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def uniform(self) -> float:
        """In (0, 1]: never zero, so that its logarithm is finite."""
        return ((self.next_u64() >> 11) + 1) * 2.0**-53

    def exponential(self) -> float:
        """From the exponential distribution with mean 1."""
        return -math.log(self.uniform())


def due_ns(workload: Workload) -> Iterator[int]:
    """When each arrival of an open workload is due, in order, ending with the last stage.

    Raises ValueError for a closed workload: there a request is due when its user is ready, which only the run knows.
    """
    if not workload.arrives:
        raise ValueError(
            "only an open workload has a schedule; in a closed one a request is due when its user is ready"
        )
    draws = SplitMix64(workload.seed)
    target = 0.0
    area, begin_ns = 0.0, 0
    stages = iter(workload.stages)
    stage = next(stages)
    while True:
        target += 1.0 if workload.arrivals == "uniform" else draws.exponential()
        while target > area + stage.area:
            area += stage.area
            begin_ns += stage.duration_ns
            following = next(stages, None)
            if following is None:
                return
            stage = following
        yield begin_ns + math.floor(_seconds_to_area(stage, target - area) * units.NS_PER_S)


def _seconds_to_area(stage: Stage, area: float) -> float:
    """How long after its beginning the stage has let `area` arrivals in, 0 < area ≤ stage.area."""
    seconds = stage.duration_ns / units.NS_PER_S
    under_root = stage.start**2 + 2.0 * (stage.end - stage.start) * area / seconds
    # Rounding may push the root of a stage that falls to zero below it.
    return min(2.0 * area / (stage.start + math.sqrt(max(under_root, 0.0))), seconds)


def share(schedule: Iterator[int], index: int, of: int) -> Iterator[int]:
    """Worker `index`'s part of a schedule shared by `of` workers: every of-th arrival, from the index-th on.

    The shares cover the schedule exactly once, and each worker finds its own without asking anybody.
    """
    if not 0 <= index < of:
        raise ValueError(f"worker {index} of {of} does not exist")
    return islice(schedule, index, None, of)


def share_of_users(users: int, index: int, of: int) -> int:
    """How many of `users` worker `index` of `of` hosts: user u belongs to worker u mod of."""
    if not 0 <= index < of:
        raise ValueError(f"worker {index} of {of} does not exist")
    return (users - index + of - 1) // of


def default_steps(most_users: int = 64, each_ns: int = 8 * units.NS_PER_S) -> Workload:
    """The workload of a run that names none: closed steps of 1, 2, 4 … `most_users` users, `each_ns` long."""
    if most_users < 1:
        raise ValueError("a closed workload needs at least one user")
    counts: list[int] = []
    users = 1
    while users < most_users:
        counts.append(users)
        users *= 2
    counts.append(most_users)
    return Workload("closed", tuple(closed_stage(count, count, each_ns) for count in counts))


def first_look(most_users: int = 64, each_ns: int = 8 * units.NS_PER_S) -> Workload:
    """The workload of a run that was given nothing but a URL, 64 s: the default steps, then one user again.

    The first step is the floor; the last one, with the same load, shows how soon all is as before.
    """
    steps = default_steps(most_users, each_ns)
    return Workload("closed", (*steps.stages, Stage("1 user again", each_ns, 1.0, 1.0)))


def closed_stage(start: float, end: float, duration_ns: int) -> Stage:
    """A stage of the closed model, named for its users."""
    return Stage(
        _line(f"{start:.12g}", f"{end:.12g}", "users" if end != 1 or start != 1 else "user"),
        duration_ns,
        start,
        end,
    )


def open_stage(start: float, end: float, duration_ns: int) -> Stage:
    """A stage of the open model, named for its rate."""
    first, last = units.format_rate(start), units.format_rate(end)
    return Stage(_line(first, last, ""), duration_ns, start, end)


def session_stage(start: float, end: float, duration_ns: int) -> Stage:
    """A stage of the partly open model, named for its rate of sessions."""
    first, last = (units.format_rate(rate).removesuffix("/s") for rate in (start, end))
    return Stage(_line(first, last, "sessions/s"), duration_ns, start, end)


def _line(first: str, last: str, noun: str) -> str:
    line = first if first == last else f"{first} → {last}"
    return f"{line} {noun}".strip()


def describe(workload: Workload) -> str:
    """One clause a person reads before the load starts: `closed, 1 to 64 users in 7 stages, 56 s`."""
    levels = [level for stage in workload.stages for level in (stage.start, stage.end)]
    low, high = min(levels), max(levels)
    if workload.model == "closed":
        load = f"{high:.12g} user{'' if high == 1 else 's'}" if low == high else f"{low:.12g} to {high:.12g} users"
    else:
        load = units.format_rate(high) if low == high else f"{units.format_rate(low)} to {units.format_rate(high)}"
        load += " of sessions" if workload.model == "partly-open" else ""
        load += f", {'Poisson' if workload.arrivals == 'poisson' else 'uniform'} arrivals"
    count = len(workload.stages)
    stages = "" if count == 1 else f" in {count} stages"
    return f"{workload.model}, {load}{stages}, {units.format_duration(workload.duration_ns)}"


def total_level(stages: Sequence[Stage]) -> float:
    """The highest level any of the stages reaches; 0 without stages."""
    return max((max(stage.start, stage.end) for stage in stages), default=0.0)


# --- shapes with a name ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a preset: from one share of the peak to another, for a share of the whole time.

    `start` and `end` are 0 to 1; a level of users is never below one. `name` is how a page calls the stage; "" names it
    for its level.
    """

    start: float
    end: float
    parts: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Preset:
    """A load that answers a question: its shape, how long it takes by default, and what to look at afterwards."""

    question: str
    answered_by: str
    phases: tuple[Phase, ...]
    duration_ns: int


def _spikes(count: int) -> tuple[Phase, ...]:
    phases = [Phase(0.1, 0.1, 6, "before")]
    for number in range(1, count + 1):
        phases += [
            Phase(0.1, 1.0, 1),
            Phase(1.0, 1.0, 4, f"spike {number}"),
            Phase(1.0, 0.1, 1),
            Phase(0.1, 0.1, 8, f"recovery {number}"),
        ]
    return tuple(phases)


_MINUTE_NS = 60 * units.NS_PER_S

PRESETS: dict[str, Preset] = {
    "smoke": Preset(
        "Does every request of the plan work at all?",
        "errors, and the response times of a server that has nothing else to do",
        (Phase(0.0, 0.0, 1),),
        30 * units.NS_PER_S,
    ),
    "load": Preset(
        "Does it hold the load it is meant for?",
        "response times and errors at the peak, against the objectives",
        (Phase(0.0, 1.0, 1, "ramp up"), Phase(1.0, 1.0, 4, "peak"), Phase(1.0, 0.0, 1, "ramp down")),
        6 * _MINUTE_NS,
    ),
    "stress": Preset(
        "What gives first when the load goes beyond what it is meant for, and does it come back?",
        "the first step that misses, which errors appear there, and whether the last stage is like the first",
        (*(Phase(share, share, 1) for share in (0.25, 0.5, 0.75, 1.0)), Phase(0.25, 0.25, 1, "after")),
        5 * _MINUTE_NS,
    ),
    "spike": Preset(
        "Does it get through sudden bursts, and how long does it take to recover from one?",
        "errors in each spike, and when response times in each recovery are again as they were before",
        _spikes(3),
        4 * _MINUTE_NS,
    ),
    "soak": Preset(
        "Does anything grow, leak or fill up over time?",
        "the drift of response times, errors and memory from the beginning to the end",
        (Phase(0.0, 1.0, 1, "ramp up"), Phase(1.0, 1.0, 59, "soak")),
        60 * _MINUTE_NS,
    ),
    "breakpoint": Preset(
        "At which load does it break?",
        "the last step that holds, and the first that does not",
        tuple(Phase(step / 20, step / 20, 1) for step in range(1, 21)),
        10 * _MINUTE_NS,
    ),
    "volume": Preset(
        "Is it as fast as before when its data has grown?",
        "response times of the stage after, against those of the stage before, at the same load",
        (Phase(0.2, 0.2, 1, "before"), Phase(1.0, 1.0, 8, "filling"), Phase(0.2, 0.2, 1, "after")),
        10 * _MINUTE_NS,
    ),
}
"""The questions that load tests are run for, under the names that most tools have for them. Shares, counts and times
are taste; `peak` and `for` of a plan say the level and the whole time."""


def from_preset(
    name: str,
    model: Model,
    peak: float,
    duration_ns: int | None = None,
    arrivals: Arrivals = "poisson",
    seed: int = DEFAULT_SEED,
    least: float = 0.0,
) -> Workload:
    """The workload of a preset up to `peak` (arrivals per second or users), in `duration_ns` or the preset's own time.

    Its stages fill the time to the nanosecond. Users are whole and at least one. `smoke` has one arrival per second, or
    what it takes for `least` arrivals in its time; the peak where that is less.
    """
    preset = PRESETS[name]
    whole = duration_ns if duration_ns is not None else preset.duration_ns
    total = sum(phase.parts for phase in preset.phases)
    make = {"closed": closed_stage, "open": open_stage, "partly-open": session_stage}[model]
    stages, done, begin = [], 0.0, 0
    for phase in preset.phases:
        done += phase.parts
        end = round(whole * done / total)
        levels = (_share_of(peak, phase.start, model), _share_of(peak, phase.end, model))
        if name == "smoke" and model != "closed":
            rate = min(max(1.0, least * units.NS_PER_S / whole), peak)
            levels = (rate, rate)
        stage = make(*levels, end - begin)
        stages.append(Stage(phase.name, stage.duration_ns, *levels) if phase.name else stage)
        begin = end
    return Workload(model, tuple(stages), arrivals, seed)


def visits(scenarios: int) -> float:
    """How many arrivals it takes for each of equally likely scenarios to be among them, but once in a million runs.

    Of n arrivals one of k scenarios is missing with probability k (1 - 1/k)^n at most, which is below k e^(-n/k).
    """
    return 1.0 if scenarios < 2 else math.ceil(scenarios * (math.log(scenarios) + MISSED_ONCE_IN))


MISSED_ONCE_IN = 14.0
"""As a natural logarithm: 1.2 million."""


def _share_of(peak: float, share: float, model: Model) -> float:
    return float(max(1, round(peak * share))) if model == "closed" else peak * share
