"""Which load to try next, and what do the loads tried so far say about capacity?

Capacity is the highest arrival rate at which every objective just holds in the long run. It is searched, not guessed
from one run, and the search is a pure function: the loads tried so far go in, the next one leaves, or None when enough
is known. The same loads, read again from a stored run, give the same capacity.

    floor      a few requests per second: what answers cost when nobody else asks
    climb      twice the load each time, until an objective breaks
    settle     after each of them a light load, until all its answers are known; after a failure until the median is
               near the floor again, which is how long recovery takes
    bisect     short steps between what passed and what failed, to a ratio of 1.15
    probe      three long steps, up and down by a shrinking factor; their beginning does not count
    overrun    a moment of far too much, with the load of the hold behind it: does the server come back by itself?
    hold       a minute just below the estimate: what fills slowly shows here, and what collapsed in the moment before

How far an objective is from breaking is a number that noise can be taken out of: the log-odds of the share of
requests over its limit, less those of the share that it allows. Zero is the edge. Whatever went wrong is over every
limit, and so is what is still unanswered when its step is judged.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from surgeline import units
from surgeline.plan.objective import Objective, parse_objectives

Role = Literal["floor", "climb", "settle", "bisect", "probe", "overrun", "hold"]

FEWEST_REQUESTS = 80
"""A step is made longer until it expects so many requests, up to three times its length."""
UNHURRIED = 1.25
"""A mean response time within so many times the floor's shows nobody waiting: the next climb may be a stride."""
GUESS_AT = 0.95
"""Of the answers per second that came while requests piled up: where a short search looks next."""
FIRST_STEP, SMALLEST_STEP = 1.06, 1.015
"""The factor between probes, and the least it shrinks to."""
DISCARD = {"probe": 0.4, "hold": 0.2, "climb": 0.25, "bisect": 0.25}
"""The part of each step's beginning that does not count: queues have to build up or drain first."""
HOLD_AT = 0.97
OVERRUN_BY, OVERRUN_S = 1.5, 1.2
"""How far above the estimate, and for how long: a server with 3 % to spare works off within 20 s what waits then."""
COLLAPSED = 0.9
"""Less than this share of what was held comes through when overrun: the server collapses."""
FEWEST_COLLAPSED = 0.2
"""The share of a step's requests over the limit from which on a collapse may be what its completions show."""
SETTLE_AT = 0.3
LONGEST_SETTLE_S = 25.0
NEAR_FLOOR, NEAR_FLOOR_NS = 1.25, 2 * units.NS_PER_MS
"""As before: the median within a quarter of the floor's, or within two milliseconds."""
PILED = 0.93
"""With fewer answers than this share of what was due, requests pile up."""
FULL_WIDTH_REQUESTS = 4000
"""Requests in a probe at which the interval is as wide as simulation found necessary; more of them make it narrower."""
MAY_BE_HOPELESS = ("climb", "bisect", "hold")
"""Steps that a clear failure ends early; a hold only once its beginning is long over."""
SHORTEST_BROKEN_HOLD_S = 12.0
RESERVE_S = 4.0
"""Of the budget is kept for the last answers, so that the whole run ends within it."""
MOST_HICCUPS = 3
"""Steps that the generator may spoil; each is tried once more."""
SCARCE_PER_S = 100.0
"""Below this many requests per second four minutes do not suffice for 3 %."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each part of a search lasts, and how much is made of it.

    Times are seconds. `first_climb` is the highest rate of the first step up, unless the
    floor was measured at more than half of it, `stride` the factor of a step up behind
    one in which nobody waited, 2 for the others. `narrow`: bisection ends when what failed is at most so many times
    what passed; with `guessing` its first step is put where requests came through while they piled up. `overrun` is
    whether there is a moment of far too much. `below` and `above` are the least that the interval reaches, as shares of
    the rate, with FULL_WIDTH_REQUESTS in a probe; simulation found them.

    A probe that begins with empty queues passes up to X / T above capacity, X being the limit and T its length: until
    then the queue has not grown to it. The estimate is lowered by that, at most by `slack`.
    """

    name: Literal["full", "short"]
    floor_s: float
    climb_s: float
    bisect_s: float
    probe_s: float
    probes: int
    hold_s: float
    shortest_hold_s: float
    first_climb: float
    stride: float
    narrow: float
    guessing: bool
    overrun: bool
    below: float
    above: float
    slack: float


FULL = Pace("full", 5.0, 4.0, 6.0, 25.0, 3, 60.0, 20.0, 200.0, 2.0, 1.15, False, True, 0.07, 0.055, 0.02)
SHORT = Pace("short", 3.0, 2.5, 3.0, 9.0, 2, 15.0, 8.0, 1000.0, 4.0, 1.2, True, False, 0.09, 0.07, 0.03)
SHORT_BUDGET_S = 75.0
"""What a short search takes by default."""
PACES: dict[str, Pace] = {pace.name: pace for pace in (FULL, SHORT)}
SHORT_BELOW_S = 150.0
"""With less time than this a full search gets to no hold."""


def pace_for(budget_s: float) -> Pace:
    """The pace at which a search of that length gets to its end."""
    return FULL if budget_s >= SHORT_BELOW_S else SHORT


@dataclass(frozen=True, slots=True)
class Search:
    """What a search is after. `budget_s` is how long it may take, `lowest` and `highest` are arrivals per second."""

    objectives: tuple[Objective, ...]
    budget_s: float = 240.0
    lowest: float = 10.0
    highest: float = 50_000.0
    pace: Pace = FULL

    @property
    def judged(self) -> tuple[Objective, ...]:
        """The objectives that a load can break; a rate is what the search itself finds."""
        return tuple(objective for objective in self.objectives if objective.metric != "rate")


@dataclass(frozen=True, slots=True)
class Move:
    """The load to try next: its part in the search, arrivals per second, and for how long at most."""

    role: Role
    rate_per_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Tried:
    """A load that was tried, and what came of it.

    Counts are of the part that counts. `score` is the distance from the edge of the objective that is nearest to
    breaking or beyond it, in log-odds (above 0: broken), `score_se` its standard error; None where nothing was judged.
    `broken` is that objective's text, `endpoint` the one with most requests over its limit. `completed_per_s` counts
    answers by when they came. `generator` says how the generator was the limit, empty where it was not. `median_ns` is
    of correct answers. `recovered_s` is for a settle step: how long until the median was near the floor's; None while
    it is not. `cut` is True where a clear failure ended the step early.
    """

    role: Role
    rate_per_s: float
    duration_s: float
    due: int = 0
    score: float | None = None
    score_se: float = 0.0
    broken: str = ""
    endpoint: str = ""
    completed_per_s: float = 0.0
    median_ns: float | None = None
    mean_ns: float | None = None
    generator: str = ""
    recovered_s: float | None = None
    index: int = -1

    @property
    def passed(self) -> bool:
        """Whether every objective held, as far as this step alone can tell; a lone step up needs a clear failure."""
        if self.score is None:
            return False
        if self.role in ("climb", "floor"):
            return self.score <= min(self.score_se, 1.0)
        return self.score <= 0.0

    @property
    def piled(self) -> bool:
        """Whether requests became due clearly faster than they were answered."""
        return self.completed_per_s < PILED * self.rate_per_s


# --- The next load ---------------------------------------------------------------------------------------------------


def next_move(history: Sequence[Tried], search: Search) -> Move | None:
    """The load to try after those in `history`, or None when the search is over.

    A function of the history alone. Settle steps, one after each other step, are `settle_after`'s to name.
    """
    steps = [tried for tried in history if tried.role != "settle"]
    left = search.budget_s - RESERVE_S - sum(tried.duration_s for tried in history)
    if not steps:
        return Move("floor", search.lowest, search.pace.floor_s)
    if _over(steps, search, left):
        return None
    if steps[-1].generator and steps[-1].role != "floor":
        # As long as it was meant to be: it may have been cut short just because the generator was slow.
        pace, last = search.pace, steps[-1]
        meant = {"climb": pace.climb_s, "bisect": pace.bisect_s, "probe": pace.probe_s}.get(last.role, 0.0)
        move: Move | None = Move(last.role, last.rate_per_s, max(last.duration_s, meant))
    else:
        move = _choose(_sound(steps), search, left)
    if move is None or (move.role != "hold" and move.duration_s > left):
        return None
    return replace(move, duration_s=min(move.duration_s, left))


def _choose(steps: Sequence[Tried], search: Search, left: float) -> Move | None:
    return (
        _climb(steps, search)
        or _bisect(steps, search, left)
        or _probe(steps, search, left)
        or _hold(steps, search, left)
    )


def settle_after(history: Sequence[Tried], move: Move) -> Move:
    """The load behind a step: a share of what is known to hold, for as long as it may at most take.

    Behind the moment of far too much it is that of the hold: what does not come back there by itself is no capacity.
    """
    if move.role == "overrun":
        return Move("settle", HOLD_AT / OVERRUN_BY * move.rate_per_s, LONGEST_SETTLE_S)
    passed = [t.rate_per_s for t in history if t.role != "settle" and t.passed and t.rate_per_s < move.rate_per_s]
    base = min(max(passed, default=move.rate_per_s), _came_through(history) or math.inf)
    return Move("settle", SETTLE_AT * base if move.role != "floor" else base, LONGEST_SETTLE_S)


def _over(steps: Sequence[Tried], search: Search, left: float) -> bool:
    last = steps[-1]
    if (last.score is None and last.role != "overrun") or left < search.pace.climb_s:
        return True
    holds = [tried for tried in steps if tried.role == "hold"]
    # A first hold that fails is followed by a second one, and that is the end either way.
    if holds and (holds[-1].passed or len(holds) > 1):
        return True
    # Beyond what the generator can send there is nothing to learn; a hiccup of its machine gets a second try.
    return sum(bool(tried.generator) for tried in steps) > MOST_HICCUPS or (bool(last.generator) and _again(steps))


def _again(steps: Sequence[Tried]) -> bool:
    """Whether the last step was a second try already."""
    return len(steps) > 1 and bool(steps[-2].generator) and steps[-2].rate_per_s == steps[-1].rate_per_s


def _sound(steps: Sequence[Tried]) -> list[Tried]:
    """The steps less those that the generator spoiled and that were tried again."""
    return [t for i, t in enumerate(steps) if not (t.generator and i + 1 < len(steps))]


def _longer(rate: float, seconds: float) -> float:
    return min(max(seconds, FEWEST_REQUESTS / rate), 3.0 * seconds)


def _bracket(steps: Sequence[Tried]) -> tuple[float | None, float | None]:
    """The highest rate that passed below the lowest that failed, and that one; of short steps and the generator's."""
    short = [tried for tried in steps if tried.role in ("floor", "climb", "bisect")]
    failed = [tried.rate_per_s for tried in short if not tried.passed or tried.generator]
    high = min(failed, default=None)
    passed = [t.rate_per_s for t in short if t.passed and not t.generator and (high is None or t.rate_per_s < high)]
    return max(passed, default=None), high


def _climb(steps: Sequence[Tried], search: Search) -> Move | None:
    low, high = _bracket(steps)
    if low is None and high is not None:
        rate = high / 4.0
        return Move("climb", rate, _longer(rate, search.pace.climb_s)) if rate >= 0.5 else None
    if high is not None or low is None:
        return None
    if low >= search.highest:
        return None
    if len(steps) == 1:
        # A server that does one thing at a time would be a quarter busy.
        median_s = (steps[0].median_ns or units.NS_PER_S) / units.NS_PER_S
        rate = max(min(0.25 / max(median_s, 1e-6), search.pace.first_climb), 2.0 * search.lowest)
    else:
        rate = low * (search.pace.stride if _unhurried(steps) else 2.0)
    rate = min(rate, search.highest)
    return Move("climb", rate, _longer(rate, search.pace.climb_s))


def _unhurried(steps: Sequence[Tried]) -> bool:
    """Whether in the last step nobody waited, so that capacity is a good deal further up."""
    floor, last = steps[0].mean_ns, steps[-1].mean_ns
    return floor is not None and last is not None and last <= max(UNHURRIED * floor, floor + NEAR_FLOOR_NS / 2)


def _bisect(steps: Sequence[Tried], search: Search, left: float) -> Move | None:
    low, high = _bracket(steps)
    if low is None or high is None or high / low <= search.pace.narrow:
        return None
    pace = search.pace
    if any(tried.role in ("probe", "hold") for tried in steps):
        return None
    if left < pace.bisect_s + pace.probe_s + pace.shortest_hold_s:
        return None
    rate = math.sqrt(low * high)
    last = steps[-1]
    if pace.guessing and last.role == "climb" and last.piled:
        # Well inside the bracket, so that either answer narrows it.
        rate = min(max(GUESS_AT * last.completed_per_s, low * pace.narrow), high / pace.narrow)
    return Move("bisect", rate, _longer(rate, pace.bisect_s))


def _probe(steps: Sequence[Tried], search: Search, left: float) -> Move | None:
    probe_s = search.pace.probe_s
    probes = [tried for tried in steps if tried.role == "probe"]
    low, high = _bracket(steps)
    if low is None or high is None or len(probes) >= search.pace.probes or any(tried.role == "hold" for tried in steps):
        return None
    if left < probe_s:
        return None
    if probes and left < probe_s + search.pace.shortest_hold_s:
        # What was found is worth more held for a while than tried once more.
        return None
    if not probes:
        return Move("probe", math.sqrt(low * high) / math.sqrt(FIRST_STEP), probe_s)
    step, rate = FIRST_STEP, probes[0].rate_per_s
    for place, tried in enumerate(probes):
        if place and tried.passed != probes[place - 1].passed:
            step = max(math.sqrt(step), SMALLEST_STEP)
        rate = tried.rate_per_s * (step if tried.passed else 1.0 / step)
    return Move("probe", rate, probe_s)


def _hold(steps: Sequence[Tried], search: Search, left: float) -> Move | None:
    if left < search.pace.shortest_hold_s:
        return None
    low, high = _bracket(steps)
    if low is None or high is None:
        return None
    found = crossing(steps, search)
    if found is None:
        return None
    # Where less came through under overload than was held before, the collapse has been seen already.
    most = max((tried.rate_per_s for tried in steps if tried.role != "overrun" and tried.passed), default=0.0)
    if search.pace.overrun and steps[-1].role == "probe" and (_came_through(steps) or math.inf) > COLLAPSED * most:
        return Move("overrun", OVERRUN_BY * found, OVERRUN_S)
    return Move("hold", HOLD_AT * found, min(search.pace.hold_s, left))


def hopeless(tried: Tried) -> bool:
    """Whether a step has failed beyond doubt before its end, so that it need not go on."""
    return (
        tried.role in MAY_BE_HOPELESS
        and (tried.role != "hold" or (tried.duration_s >= SHORTEST_BROKEN_HOLD_S and tried.piled))
        and tried.due >= FEWEST_REQUESTS
        and tried.score is not None
        and tried.score > 3.0 * tried.score_se + 0.5
    )


# --- Capacity --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Knee:
    """Between which two rates response time begins to outgrow throughput; `low` None: already at the lowest tried."""

    low: float | None
    high: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the search found.

    `rate_per_s` is the highest rate within the objectives, `low` and `high` its 95 % interval; None where nothing held.
    `at_least`: no higher load was judged, because of `stopped`: "generator", "budget" or "highest". `broken` and
    `endpoint` say what gave way first. `held` is "held", "broke", or "not tried", `held_s` how long it lasted.
    `recovery_s` is the longest time after a failure until the median was near the floor again; None with `recovered`
    False: not within `LONGEST_SETTLE_S`; None with True: nothing failed, or the search
    ended before it was known. `steps` counts the loads tried without floor and settling, `seconds` is the time spent.
    `wide` says why little is known, `generator` how the generator was the limit.
    """

    rate_per_s: float | None
    low: float | None
    high: float | None
    at_least: bool
    stopped: str
    broken: str
    endpoint: str
    knee: Knee | None
    held: Literal["held", "broke", "not tried"]
    held_s: float
    recovery_s: float | None
    recovered: bool
    floor_ns: float | None
    steps: int
    seconds: float
    wide: str
    generator: str = ""
    tried: tuple[Tried, ...] = field(default=(), repr=False)


def capacity(history: Sequence[Tried], search: Search) -> Capacity:
    """What the loads tried so far say."""
    every = [tried for tried in history if tried.role not in ("settle", "overrun")]
    steps = _sound(every)
    judged = [tried for tried in steps if tried.role != "floor" and tried.score is not None]
    sound = [tried for tried in judged if not tried.generator]
    passed = [tried for tried in sound if tried.passed]
    failed = _by_server([tried for tried in sound if not tried.passed], every)
    # A generator that is too slow for the floor may be too slow to tell anything of the loads behind it.
    spoiled = [tried for tried in (judged if sound else steps) if tried.generator]
    limited = next((tried.generator for tried in reversed(spoiled) if not tried.passed), "")
    limited = limited or next((tried.generator for tried in spoiled), "")
    floor = [tried.rate_per_s for tried in steps if tried.role == "floor" and tried.passed and not tried.generator]
    rate = crossing(steps, search) if failed else max([tried.rate_per_s for tried in passed] + floor, default=None)
    low, high = _interval(sound, rate, bool(failed), search.pace)
    breaker = _breaker(failed, rate)
    holds = [tried for tried in steps if tried.role == "hold"]
    settles = [
        settle
        for before, settle in itertools.pairwise(history)
        if settle.role == "settle" and before.role not in ("settle", "floor", "overrun") and not before.passed
    ]
    # One that the search ended before its time was up says nothing of how long it would have taken.
    times = [
        settle.recovered_s
        for settle in settles
        if settle.recovered_s is not None or settle.duration_s >= LONGEST_SETTLE_S - 1.0
    ]
    stopped = "" if failed else "generator" if limited else "highest" if _reached(passed, search) else "budget"
    return Capacity(
        rate_per_s=rate,
        low=low,
        high=high,
        at_least=not failed and rate is not None,
        stopped=stopped,
        broken=breaker.broken if breaker else "",
        endpoint=breaker.endpoint if breaker else "",
        knee=knee(steps),
        held="not tried" if not holds else "held" if holds[-1].passed else "broke",
        held_s=holds[-1].duration_s if holds else 0.0,
        recovery_s=max((time for time in times if time is not None), default=None) if None not in times else None,
        recovered=None not in times,
        floor_ns=next((tried.median_ns for tried in steps if tried.role == "floor"), None),
        steps=len(judged),
        seconds=sum(tried.duration_s for tried in history),
        wide=_wide(rate, search) if failed else "",
        generator=limited,
        tried=tuple(history),
    )


def _by_server(failed: Sequence[Tried], steps: Sequence[Tried]) -> list[Tried]:
    """The failures that may be the server's.

    Where the generator was the limit of a short step twice in a row, which ends a search, short steps that failed at
    that load or above show nothing of the server, whatever the generator looked like in them.
    """
    if not steps or not steps[-1].generator or not _again(steps):
        return list(failed)
    if any(tried.role in ("probe", "hold") for tried in (*failed, steps[-1])):
        return list(failed)
    return [tried for tried in failed if tried.rate_per_s < steps[-1].rate_per_s]


def _reached(passed: Sequence[Tried], search: Search) -> bool:
    return any(tried.rate_per_s >= search.highest for tried in passed)


def _wide(rate: float | None, search: Search) -> str:
    if rate is None:
        return ""
    more = "more time (--budget)" if search.pace.name == "full" else "surgeline stress, in four minutes,"
    if rate < SCARCE_PER_S:
        few = f"at {units.format_rate(rate)} a probe has only about {rate * search.pace.probe_s:,.0f} requests"
        return f"{few}; {more} makes the interval narrower"
    return f"this was a short search; {more} makes the interval narrower" if search.pace.name == "short" else ""


def _weight(tried: Tried) -> float:
    """Long steps count by how sure they are; short ones, which queues have not filled yet, only a little."""
    sure = 1.0 / max(tried.score_se, 0.15) ** 2
    return sure if tried.role in ("probe", "hold") else 0.05 * sure


def crossing(steps: Sequence[Tried], search: Search) -> float | None:
    """The rate at which the score crosses zero, of isotonic scores against log rate; None where nothing passed.

    Where every long step passed, the lowest short failure bounds it. Less what the length of a probe lets pass, and
    capped by the rate at which answers came while requests piled up: more than that does not come back by itself.
    """
    used = [
        t
        for t in steps
        if t.role not in ("floor", "overrun") and t.score is not None and not t.generator and t.rate_per_s > 0
    ]
    if not used or not any(tried.passed for tried in used):
        return None
    used = sorted(used, key=lambda tried: tried.rate_per_s)
    x = np.array([math.log(tried.rate_per_s) for tried in used])
    y = np.clip(np.array([tried.score or 0.0 for tried in used]), -4.0, 4.0)
    w = np.array([_weight(tried) for tried in used])
    fitted = _isotonic(x, y, w)
    above = np.flatnonzero(fitted > 0.0)
    if not len(above):
        found = float(x[-1])
    elif above[0] == 0:
        found = float(x[0])
    else:
        i = int(above[0])
        share = -fitted[i - 1] / (fitted[i] - fitted[i - 1])
        found = float(x[i - 1] + share * (x[i] - x[i - 1]))
    rate = math.exp(found) / (1.0 + _slack(used, search, math.exp(found)))
    # A server that collapses does less when overrun than it did before, and what counts in the long run is that.
    return min(rate, _came_through(steps) or rate)


def _came_through(steps: Sequence[Tried]) -> float | None:
    """Answers per second while requests piled up, in the middle one of the long steps; None where none was overrun.

    Where a server collapsed halfway through a step, its completions are a mixture: of share s of the requests that were
    over the limit, at the rate wanted, and of the others, which came through as they came. Where that share is small
    nothing collapsed: a rate limiter turns a few in a hundred away at once, and the scatter of the completions, divided
    by so little, would pass for a server that does far less. Short steps do not count: they are cut before what they
    show is more than the start of a queue.
    """
    found = []
    for tried in steps:
        if tried.role in ("probe", "hold") and not tried.generator and not tried.passed and tried.piled:
            share = _share_over(tried)
            if share < FEWEST_COLLAPSED:
                continue
            found.append((tried.completed_per_s - (1.0 - share) * tried.rate_per_s) / share)
    sound = [rate for rate in found if rate > 0.0]
    return float(np.median(sound)) if sound else None


def _share_over(tried: Tried) -> float:
    """The share of requests over the limit that broke; 1 where that is not known."""
    objective = next(iter(parse_objectives(tried.broken)), None) if tried.broken else None
    if objective is None or objective.metric not in ("quantile", "errors") or tried.score is None:
        return 1.0
    allowed = objective.limit if objective.metric == "errors" else 1.0 - (objective.quantile or 0.5)
    allowed = min(max(allowed, 1e-6), 1.0 - 1e-6)
    odds = math.exp(min(tried.score, 30.0)) * allowed / (1.0 - allowed)
    return odds / (1.0 + odds)


def _slack(steps: Sequence[Tried], search: Search, rate: float) -> float:
    """By how much a probe overstates capacity; nothing where errors are what gave way, which no queue hides."""
    breaker = _breaker([tried for tried in steps if not tried.passed and tried.role != "overrun"], rate)
    broken = next((o for o in search.judged if breaker is not None and o.text == breaker.broken), None)
    if broken is None or broken.metric not in ("quantile", "mean", "max"):
        return 0.0
    return min(broken.limit / units.NS_PER_S / search.pace.probe_s, search.pace.slack)


def _isotonic(x: Any, y: Any, w: Any) -> Any:
    """The non-decreasing values nearest to y, weighted: pool adjacent violators. Equal x share a value."""
    blocks: list[list[float]] = []
    for index in range(len(x)):
        blocks.append([float(y[index]), float(w[index]), 1.0])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, weight, count = blocks.pop()
            held = blocks[-1]
            total = held[1] + weight
            blocks[-1] = [(held[0] * held[1] + value * weight) / total, total, held[2] + count]
    return np.array([value for value, _, count in blocks for _ in range(int(count))])


def _interval(
    sound: Sequence[Tried], rate: float | None, failed: bool, pace: Pace
) -> tuple[float | None, float | None]:
    """From the highest clear pass below the estimate to the lowest clear failure above it, at least as wide as ever."""
    if rate is None:
        return None, None
    if not failed:
        return rate, None
    long = [tried for tried in sound if tried.role in ("probe", "hold")]
    requests = rate * pace.probe_s
    scale = min(max(math.sqrt(FULL_WIDTH_REQUESTS / max(requests, 1.0)), 0.7), 6.0)
    sure = [(t.rate_per_s, t.score or 0.0, t.score_se) for t in long]
    below = [r for r, score, se in sure if score + se < 0 and r <= rate]
    above = [r for r, score, se in sure if score - se > 0 and r >= rate]
    low, high = rate * (1.0 - min(pace.below * scale, 0.6)), rate * (1.0 + pace.above * scale)
    passed = [t.rate_per_s for t in sound if t.passed and t.rate_per_s < rate]
    broken = [t.rate_per_s for t in sound if not t.passed and t.rate_per_s > rate]
    low = min(low, max(below or passed, default=low))
    high = max(high, min(above or broken, default=high))
    # A step that failed clearly below the estimate, or held above it, is part of what is not known.
    low = min([low, *(r for r, score, se in sure if score > se and r < rate)])
    high = max([high, *(r for r, score, se in sure if score < -se and r > rate)])
    return low, high


def _breaker(failed: Sequence[Tried], rate: float | None) -> Tried | None:
    """The failed step nearest above the estimate, long ones first: what breaks there breaks first."""
    if not failed:
        return None
    near = rate or failed[0].rate_per_s
    return min(failed, key=lambda t: (t.role not in ("probe", "hold"), abs(math.log(t.rate_per_s / near))))


def knee(steps: Sequence[Tried]) -> Knee | None:
    """Where response time outgrows throughput; None where fewer than two of three signs agree.

    The signs: the mean response time is twice the floor's; answers fall behind what is due; the curve of response time
    over load is furthest below its chord (Kneedle, Satopää et al. 2011), which means something only if it bends at all.
    """
    used = sorted(
        (t for t in steps if t.mean_ns is not None and not t.generator and t.rate_per_s > 0), key=lambda t: t.rate_per_s
    )
    if len(used) < 4:
        return None
    floor = next((t.mean_ns for t in steps if t.role == "floor" and t.mean_ns), None) or used[0].mean_ns or 1.0
    signs = [
        next((i for i, t in enumerate(used) if (t.mean_ns or 0.0) > 2.0 * floor + NEAR_FLOOR_NS), None),
        next((i for i, t in enumerate(used) if t.role not in ("floor", "climb") and t.piled), None)
        or next((i for i, t in enumerate(used) if t.piled and t.role == "climb"), None),
    ]
    means = np.array([t.mean_ns or 0.0 for t in used])
    rates = np.array([t.rate_per_s for t in used])
    if means.max() > 3.0 * floor:
        rise = (np.minimum(means, 20.0 * floor) - means.min()) / (min(means.max(), 20.0 * floor) - means.min())
        signs.append(int(np.argmax((rates - rates[0]) / (rates[-1] - rates[0]) - rise)) + 1)
    seen = sorted(sign for sign in signs if sign is not None and 0 < sign < len(used))
    if len(seen) < 2:
        return None
    first = seen[0]
    return Knee(used[first - 1].rate_per_s if first else None, used[seen[1]].rate_per_s)
