"""Who sent, where several machines did: who came late, who was lost, whose clock was off, what is missing of whom.

Events of the master come in; what leaves are the gaps in the order of their beginnings, each with the load that was
planned for it and the load there was, and clauses that say so. Times are those of the master's clock; each worker's are
mapped to it with the offset that was measured when it joined.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surgeline import units

if TYPE_CHECKING:
    from surgeline.analysis.book import Book

CLOCK_LIMIT_NS = 50 * units.NS_PER_MS
"""Beyond this, what one worker saw may stand in another tenth of a second than what happened then (taste)."""
MAPPED_LIMIT_NS = 500 * units.NS_PER_MS
"""Where rows are mapped the seconds that requests are counted in are not; beyond this, half of them would be others."""
LOAD_KEPT = 0.98
"""With this share of the planned load there, a worker that came late was not missed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What was planned for a time, and what there was; `unit` is "users" or "requests/s"."""

    planned: float
    actual: float
    unit: str

    @property
    def kept(self) -> bool:
        """Whether about as much was sent as planned."""
        return self.actual >= LOAD_KEPT * self.planned


@dataclass(frozen=True, slots=True)
class Gap:
    """A worker was not there from `begin_ns` to `end_ns` (None: to the end).

    `why` is a clause; "late" marks one that joined after the beginning. `load` is None where nothing was planned.
    """

    worker: str
    begin_ns: int
    end_ns: int | None
    why: str
    late: bool
    load: Load | None
    idle: bool = False
    """It was there, and had nothing to send: no share of the plan was left for it."""
    zero_ns: int = 0
    """When the first stage began: from there on what is told counts, as everything on a page does."""

    @property
    def told(self) -> str:
        """What happened, as a clause."""
        if self.late:
            load = "" if self.load is not None and self.load.kept else self._load("until then")
            return f"{self.worker} joined {self._at(self.end_ns or 0)} into the run{load}"
        back = "" if self.end_ns is None else f" and back at {self._at(self.end_ns)}"
        when = self._at(self.begin_ns)
        if self.idle:
            until = "on" if self.end_ns is None else f"to {self._at(self.end_ns)}"
            return f"{self.worker} sent nothing from {when} {until} into the run ({self.why}){self._load('meanwhile')}"
        return f"{self.worker} was lost {when} into the run{back} ({self.why}){self._load('meanwhile')}"

    def _at(self, moment_ns: int) -> str:
        return units.format_duration(max(moment_ns - self.zero_ns, 0))

    def _load(self, when: str) -> str:
        if self.load is None:
            return ""
        return f": {when} {self.load.actual:.3g} of {self.load.planned:.3g} planned {self.load.unit}"


@dataclass(frozen=True, slots=True)
class Skew:
    """How far a worker's clock is from the master's, ± `uncertainty_ns`, and by how much that changed in the run.

    `drift_ns` is 0 where the change is not beyond what was uncertain anyway. `mapped`: the worker's rows are told at
    the moments of the master's clock nevertheless; only the second in which its requests count is its own.
    """

    worker: str
    offset_ns: int
    uncertainty_ns: int
    drift_ns: int
    mapped: bool = False

    @property
    def off(self) -> bool:
        """Whether this worker's times may be wrong by more than is tolerated."""
        return self.uncertainty_ns > CLOCK_LIMIT_NS or abs(self.drift_ns) > (
            MAPPED_LIMIT_NS if self.mapped else CLOCK_LIMIT_NS
        )

    @property
    def told(self) -> str:
        """What is wrong with it, as a clause."""
        if abs(self.drift_ns) > self.uncertainty_ns:
            return f"the clock of {self.worker} drifted by {units.format_duration(abs(self.drift_ns))} during the run"
        return f"the clock of {self.worker} is known to ± {units.format_duration(self.uncertainty_ns)} only"


@dataclass(frozen=True, slots=True)
class Workers:
    """Those that took part in a run."""

    names: tuple[str, ...]
    gaps: tuple[Gap, ...]
    skews: tuple[Skew, ...]
    strangers: tuple[tuple[str, str], ...]
    """Workers whose requests were not recorded, and why."""
    rows_missing: Mapping[str, int]
    """Rows that were told of and never came, by worker; those without are left out."""
    told_missing: tuple[str, ...]
    """Workers of whose counts something never came."""
    locust: tuple[int, int] | None = None
    """Requests and failures in the statistics of Locust's master at the end; None where it did not say."""

    def doubts(self) -> list[str]:
        """What makes all of the run's numbers mean less, as clauses."""
        found = [f"{worker} sent requests that are not in these figures: {why}" for worker, why in self.strangers]
        found += [f"not all that {worker} counted has arrived" for worker in self.told_missing]
        return found + [skew.told for skew in self.skews if skew.off]

    def gaps_in(self, begin_ns: int, end_ns: int) -> list[Gap]:
        """The gaps that reach into a time and left load out, or may have."""
        return [
            gap
            for gap in self.gaps
            if gap.begin_ns < end_ns
            and (gap.end_ns is None or gap.end_ns > begin_ns)
            and not (gap.late and (gap.load is None or gap.load.kept))
        ]


def workers_of(events: Iterable[Mapping[str, Any]], book: "Book") -> Workers | None:
    """What a run's events tell of its workers; None for a run without any."""
    names: dict[str, None] = {}
    gaps: list[Gap] = []
    lost: dict[str, tuple[int, str, bool]] = {}
    skews: dict[str, Skew] = {}
    strangers: dict[str, str] = {}
    missing: dict[str, int] = {}
    cut: dict[str, None] = {}
    counted: tuple[int, int] | None = None
    for event in events:
        if event.get("kind") == "locust_counted":
            counted = _whole(event.get("requests")), _whole(event.get("failures"))
        worker, at = event.get("worker"), event.get("at_ns")
        if not isinstance(worker, str) or not isinstance(at, int):
            continue
        match event.get("kind"):
            case "worker_joined":
                names[worker] = None
                strangers.pop(worker, None)
                if event.get("late"):
                    gaps.append(Gap(worker, book.begin_ns, at, "", True, _load_until(book, at), zero_ns=book.begin_ns))
            case "worker_lost" | "worker_idle":
                names[worker] = None
                if worker in lost and lost[worker][2]:  # what had nothing to send is missed by nobody
                    continue
                lost.setdefault(worker, (at, str(event.get("why", "")), event.get("kind") == "worker_idle"))
            case "worker_back" if worker in lost:
                begin, why, idle = lost.pop(worker)
                load = load_between(book, begin, at)
                gaps.append(Gap(worker, begin, at, why, False, load, idle, book.begin_ns))
            case "worker_clock":
                skews[worker] = _skew(worker, event)
            case "worker_refused" | "worker_unknown" if event.get("sent", True):
                strangers[worker] = str(event.get("why", ""))
            case "worker_rows":
                if (count := _whole(event.get("missing"))) > 0:
                    missing[worker] = count
                if _whole(event.get("frames_missing")) > 0:
                    cut[worker] = None
    for worker, (begin, why, idle) in lost.items():
        load = load_between(book, begin, book.end_ns)
        gaps.append(Gap(worker, begin, None, why, False, load, idle, book.begin_ns))
    if not (names or strangers):
        return None
    gaps.sort(key=lambda gap: gap.end_ns or 0 if gap.late else gap.begin_ns)
    ordered = sorted(skews.values(), key=lambda skew: -max(skew.uncertainty_ns, abs(skew.drift_ns)))
    return Workers(tuple(names), tuple(gaps), tuple(ordered), tuple(strangers.items()), missing, tuple(cut), counted)


def _skew(worker: str, event: Mapping[str, Any]) -> Skew:
    uncertainty, drift = _whole(event.get("uncertainty_ns")), _whole(event.get("drift_ns"))
    beyond = drift if abs(drift) > 2 * uncertainty else 0
    return Skew(worker, _whole(event.get("offset_ns")), uncertainty, beyond, bool(event.get("mapped")))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _load_until(book: "Book", at_ns: int) -> Load | None:
    """The load until a worker came. Where just before that all planned users were there, they were only being started
    at first, and nobody was missed: then that of those seconds.
    """
    load, just = (load_between(book, begin, at_ns) for begin in (book.begin_ns, at_ns - 3 * units.NS_PER_S))
    return just if just is not None and just.unit == "users" and just.kept else load


def load_between(book: "Book", begin_ns: int, end_ns: int) -> Load | None:
    """The planned load of a time and the actual one, over its whole seconds; None without any, or without a plan."""
    begin_ns = -(-max(begin_ns, book.begin_ns) // units.NS_PER_S) * units.NS_PER_S
    end_ns = min(end_ns, book.end_ns) // units.NS_PER_S * units.NS_PER_S
    if end_ns <= begin_ns:
        return None
    seconds = range(begin_ns // units.NS_PER_S, end_ns // units.NS_PER_S)
    levels = [_planned_at(book, second * units.NS_PER_S + units.NS_PER_S // 2) for second in seconds]
    planned = [max(held.values()) for held in book.readings("users_planned", begin_ns, end_ns).values()]
    if book.model == "closed":
        planned = levels
    rates = [max(held.values()) for held in book.readings("rate_planned", begin_ns, end_ns).values()]
    users = [sum(held.values()) for held in book.readings("users", begin_ns, end_ns).values()]
    if book.model != "open" and not rates:
        if not planned or not users or not any(planned):
            return None
        return Load(float(np.mean(planned)), float(np.mean(users)), "users")
    due = sum(cell.due_by_second.get(second, (0, 0))[0] for cell in book.cells.values() for second in seconds)
    wanted = sum(levels) if book.model == "open" else float(np.mean(rates)) * len(seconds)
    return Load(wanted / len(seconds), due / len(seconds), "requests/s") if wanted else None


def _planned_at(book: "Book", at_ns: int) -> float:
    for stage in book.stages:
        if stage.begin_ns <= at_ns < stage.end_ns:
            duration = stage.duration_ns or stage.end_ns - stage.begin_ns
            return stage.start + (stage.end - stage.start) * min((at_ns - stage.begin_ns) / max(duration, 1), 1.0)
    return 0.0
