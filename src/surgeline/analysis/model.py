"""What analysis returns: the numbers of a run, as plain values.

Times are ns, rates per second, ratios 0..1. A number that was not measured, or not often enough to be shown, is None
with the reason beside it; zero is a measurement.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from surgeline.analysis.capacity_search import Capacity
from surgeline.analysis.steered import Act
from surgeline.analysis.traits import Traits
from surgeline.analysis.workers import Workers
from surgeline.plan.objective import Objective
from surgeline.samples import Histogram, Outcome

if TYPE_CHECKING:
    from surgeline.analysis.shape import Heat, Parts, Spectrum


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval.

    `value` None: nothing can be said, and `why_not` is the reason as a clause ("12 samples, p99 needs 368"). Both `low`
    and `high` None with a value: the value is plain, and `why_not` says why it has no interval. Only `high` None: that
    side is open ("at least"). `n` is the number of requests behind it, `n_eff` the number of independent ones they are
    worth. `brief` is `why_not` in two or three words, for the cell of a table ("needs 368").
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    n_eff: float | None = None
    why_not: str = ""
    brief: str = ""

    @property
    def bounded(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many requests were due and what became of them. due = sent + not_sent once a run has ended."""

    due: int = 0
    sent: int = 0
    ok: int = 0
    failure: int = 0
    error: int = 0
    timeout: int = 0
    not_sent: int = 0
    aborted: int = 0
    hops: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    own: int = 0
    """Of those not sent, the ones for which the generator had no descriptor, no port or no time itself."""

    @property
    def answered(self) -> int:
        """Requests that got a whole answer, right or wrong."""
        return self.ok + self.failure

    @property
    def bad(self) -> int:
        """Due requests that went wrong: known outcome, not ok. What the generator itself could not send is none."""
        return self.failure + self.error + self.timeout + self.unsent

    @property
    def unsent(self) -> int:
        """Due requests not sent because those before them had filled the bound on requests in flight."""
        return self.not_sent - self.own

    @property
    def judged(self) -> int:
        """Due requests whose outcome says something: all but those that the end of the run cut off, and those that the
        generator itself could not send.
        """
        return self.ok + self.bad


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception of a script's own code, told apart from others by type, message and traceback."""

    message: str
    count: int
    type: str = ""
    """Its class; empty in runs that did not keep it."""
    first_ns: int | None = None
    """Since the first stage began; both of the second in which it was told of."""
    last_ns: int | None = None
    traceback: str = ""
    """The last lines of it; empty where there is none."""


QUANTILES: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99, 0.999)
"""The quantiles that are computed for everything."""


@dataclass(frozen=True, slots=True)
class Times:
    """The distribution of response or service times of some requests.

    `quantiles` maps each of QUANTILES to its estimate. Of ok requests unless said otherwise. `histogram` is what they
    were read from.
    """

    quantiles: Mapping[float, Estimate]
    mean_ns: float | None
    min_ns: int | None
    max_ns: int | None
    histogram: Histogram = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """One endpoint, in the whole run or in one stage.

    `response` and `service` are of ok requests; `failed_response` of failures, errors and timeouts. `error_ratio` is
    bad over judged. `share_of_time` is this endpoint's part of all ok response time, 0..1.
    """

    name: str
    tally: Tally
    duration_s: float
    throughput_per_s: float | None
    goodput_per_s: float | None
    error_ratio: Estimate
    response: Times
    service: Times
    failed_response: Times
    share_of_time: float | None
    parts: "Parts | None" = None
    """Where the time of its right answers went; None where rows were not looked at or the engine knows no phases."""
    heat: "Heat | None" = None
    """Its response times over the run; None of a stage, and where nothing was answered right."""
    spectrum: "Spectrum | None" = None
    """Its times at ever rarer ranks; None of a stage, and where nothing was answered right."""
    goodput_interval: tuple[float, float] | None = None
    """The 95 % interval of `goodput_per_s`, from its scatter between the seconds; None of stages too short for one, and
    of several stages together: what differs between those was planned."""


@dataclass(frozen=True, slots=True)
class StageFigures:
    """One stage as it was planned and as it went.

    `start` and `end` are the planned levels (per second, or users); `begin_ns` and `end_ns` when it really began and
    ended. `completed` is False when the run was stopped or aborted within it. `in_flight` is the mean number of
    requests in flight (Little's law from samples), `users` the mean number of active users where known.
    `warm_up_s` is how much of its beginning does not look like the rest (None: not assessed). `validity` is "valid",
    "degraded" or "invalid" with `validity_reasons` as clauses; figures of an invalid stage say nothing about the
    server.
    """

    index: int
    name: str
    model: Literal["open", "closed"]
    start: float
    end: float
    begin_ns: int
    end_ns: int
    completed: bool
    total: EndpointFigures
    endpoints: tuple[EndpointFigures, ...]
    planned_due: float | None
    in_flight: float | None
    users: float | None
    warm_up_s: float | None
    validity: Literal["valid", "degraded", "invalid"]
    validity_reasons: tuple[str, ...]
    steady: bool | None = None
    """Whether what follows the warm-up came to a steady state; None: not assessed."""
    role: str = ""
    """Its part in a search for capacity; empty in other runs."""
    server_cpu: float | None = None
    """Cores' worth of CPU that the served process used, the median of its seconds; None where it was not seen."""
    machine_cpu: float | None = None
    """The same of everything on the server's machine."""
    bunched: float | None = None
    """The share of its seconds in which the generator stalled so long that what was due meanwhile left in a bunch;
    None where no start lag was read."""
    transactions: tuple[EndpointFigures, ...] = ()
    """Steps timed together, of which the first was due in this stage."""
    own_name: str = ""
    """What its plan calls it; empty where that only repeats its load."""
    sessions: tuple[float, float] | None = None
    """Partly open model: sessions arriving per second at its beginning and end; `start` and `end` are the requests."""

    @property
    def duration_s(self) -> float:
        """How long it really lasted."""
        return (self.end_ns - self.begin_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the run, requests grouped by the second in which they were due.

    Quantiles are of ok requests due in it, None when there are none. `users` and `in_flight` are None where no reading
    falls into it.
    """

    second: int
    stage: int
    due: int
    sent: int
    outcomes: Mapping[Outcome, int]
    users: float | None
    in_flight: float | None
    planned_rate: float | None
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None
    max_ns: int | None
    by_endpoint: Mapping[str, Mapping[Outcome, int]]
    completed: float | None = None
    """Answers, right or wrong, that arrived in this second, whenever they were due; from windows, so to ±1 s."""


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Requests that went wrong in the same way: endpoint, outcome, kind and status equal.

    `first_ns` and `last_ns` are when the first and the last of them were due. `median_ns` is their median response
    time. `by_stage` counts them per stage. Without rows, `kind` is the outcome's word and `status` 0.
    """

    endpoint: str
    outcome: Outcome
    kind: str
    status: int
    count: int
    first_ns: int
    last_ns: int
    median_ns: int | None
    by_stage: Mapping[int, int]
    cluster_ns: int | None = None
    """The service time around which most of them lie, within 2 % of it; None where none has one."""
    cluster_share: float | None = None
    """The share of them that lies there."""
    excess_ns: int | None = None
    """The same of what they took beyond a right answer of their endpoint and stage (its median), within 4 %."""
    excess_share: float | None = None


@dataclass(frozen=True, slots=True)
class GeneratorHealth:
    """The generator's own state over the run; None where it was not read.

    `cpu_ratio_max` is in cores' worth of the process per worker thread; lag is of start against due.
    """

    cpu_ratio_mean: float | None
    cpu_ratio_max: float | None
    lag_p50_ns: float | None
    lag_p99_ns: float | None
    lag_max_ns: float | None
    rows_dropped: int
    shares_machine: bool


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """The served process and its children over the run, where they could be seen; None where a figure was not read.

    CPU is in cores' worth; `machine_cpu_max` is of everything on its machine, `cores` how many that has. Bytes and
    counts are summed over the processes. `found` says how it was found.
    """

    found: str
    processes: int
    cores: int | None
    cpu_ratio_mean: float | None
    cpu_ratio_max: float | None
    machine_cpu_max: float | None
    rss_first_bytes: float | None
    rss_last_bytes: float | None
    rss_max_bytes: float | None
    threads_max: float | None
    descriptors_max: float | None
    rss_stage: int | None = None
    """The longest stage of one load; None where there is none."""
    rss_flat_bytes: tuple[float, ...] = ()
    """Its readings of memory, one a second, without those of its warm-up."""


LimitKind = Literal["CPU", "pool or lock", "rate limiter", "generator", "unknown"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What kind of thing the server ran out of, and what says so, as a clause with its numbers."""

    kind: LimitKind
    evidence: str


SloVerdict = Literal["met", "missed", "no data"]


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """What became of an objective: met, missed, or no data; `observed` is the figure it was held against.

    `first_missed_stage` is the stage of the lowest load that missed it; where none of `capacity.ladder` did, the first
    of the others that did. `reason` is a clause with the numbers.
    `by_stage` holds the verdict of each valid stage in which its requests were due. `exceeded` of `judged` requests
    were over the limit, where it is a limit on single requests.
    """

    objective: Objective
    verdict: SloVerdict
    observed: Estimate
    first_missed_stage: int | None
    reason: str
    by_stage: Mapping[int, SloVerdict] = field(default_factory=dict)
    exceeded: int | None = None
    judged: int | None = None


@dataclass(frozen=True, slots=True)
class Saturation:
    """Where throughput stopped growing, or that it did not.

    Of correct answers. `reached` False: it grew up to the highest load that was tried. `throughput_per_s` is the
    plateau, or the highest that was measured; `low_per_s` and `high_per_s` the least and the greatest of the stages it
    comes from. The knee lies between the loads of the stages `before` (None: already in the first) and `stage`. `fell`
    is the share of it lost from its peak to the highest load. `stages` are those on the plateau, by load. `generator`:
    the stages above were not valid, so the generator may have been the limit. `interval` is the 95 % interval of the
    throughput from its scatter between the seconds of one stage; None where they are too few.
    """

    reached: bool
    throughput_per_s: float
    low_per_s: float
    high_per_s: float
    before: int | None
    stage: int
    fell: float
    stages: tuple[int, ...]
    generator: bool
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a server came back after a load that was at least twice as heavy.

    `peak`, `before` and `after` are stages: the heavy one, an earlier one under a load like that of the first after it.
    `within` are that one and those that follow it under such a load, `length_s` how long they lasted together.
    `seconds` passed of them until three seconds in a row were as before; None: there were none. `late` is the share of
    the answers due until then (all of them with None) that took longer than the median of their endpoint did in
    `before`, by a quarter and 5 ms at least; `requests` how many were looked at.
    """

    peak: int
    before: int
    after: int
    within: tuple[int, ...]
    length_s: float
    seconds: int | None
    requests: int
    late: Estimate


@dataclass(frozen=True, slots=True)
class PeriodicStall:
    """Moments at regular intervals at which requests took much longer than usual.

    `period_ns` apart, each `duration_ns` long (what the worst-hit request of a typical one lost). `cycles_hit` of
    `cycles` were seen between `first_ns` and `last_ns`, the ends of the first and the last stall. `requests` were hit,
    `share` of all in that time, and lost `lost_ns` together. `endpoints` are the names of those hit, most often first;
    `endpoints_seen` is how many were active. `chance` is how likely chance alone would do this.
    """

    period_ns: int
    duration_ns: int
    cycles: int
    cycles_hit: int
    first_ns: int
    last_ns: int
    requests: int
    share: float
    lost_ns: int
    endpoints: tuple[str, ...]
    endpoints_seen: int
    chance: float


@dataclass(frozen=True, slots=True)
class Summary:
    """All the numbers of one run.

    `response_is_service`: the engine knew no due moments, so response time equals service time and stalls are
    under-weighted. `books` lists the identities that do not hold, as clauses; empty means they balance.
    `holds` is the index of the last stage, in order of load, up to which every objective was met in valid stages;
    None where there are no objectives or the first stage already missed them.
    """

    run: Mapping[str, Any]
    model: Literal["open", "closed", "script"]
    duration_s: float
    total: EndpointFigures
    endpoints: tuple[EndpointFigures, ...]
    stages: tuple[StageFigures, ...]
    seconds: tuple[Second, ...]
    errors: tuple[ErrorGroup, ...]
    health: GeneratorHealth
    objectives: tuple[ObjectiveResult, ...]
    holds: int | None
    validity: Literal["valid", "degraded", "invalid"]
    validity_reasons: tuple[str, ...]
    response_is_service: bool
    books: tuple[str, ...]
    saturation: Saturation | None = None
    """None where fewer than two stages of different load are valid."""
    stalls: tuple[PeriodicStall, ...] = ()
    """Regular stalls found in the rows; empty also where no rows were looked at."""
    acts: tuple[Act, ...] = ()
    """What an operator did to the load while it ran."""
    notes: tuple[str, ...] = ()
    """What the engine had to say about the run, as clauses."""
    forked: str = ""
    """That a script forked while it ran, and what of that is in no figure, as a clause; empty where it did not."""
    exceptions: tuple["Raised", ...] = ()
    """What user code of a script raised outside of its requests, the most frequent first."""
    shares_machine: bool = False
    """Whether generator and server ran on one machine."""
    traits: Traits = field(default_factory=Traits)
    """What single requests and exchanges tell about each endpoint; empty where none were looked at."""
    server: ServerHealth | None = None
    """None where the served process was not seen."""
    recoveries: tuple[Recovery, ...] = ()
    """After each heavy load, in order of time; empty where the load never fell to one that was there before."""
    capacity: Capacity | None = None
    """What a search for capacity found; None for other runs."""
    limit: Limit | None = None
    """What kind of limit was met; None where none was."""
    transactions: tuple[EndpointFigures, ...] = ()
    """What is timed beside the requests: steps as a whole, and messages of conversations; empty without any."""
    messages: frozenset[str] = frozenset()
    """Which of those are of conversations, by name."""
    exchanges: tuple[Mapping[str, Any], ...] = ()
    """Whole requests with their answers, as evidence: of each endpoint a few."""
    rows_seen: bool = False
    """Whether rows were looked at; without them errors have no kinds and stalls are not searched for."""
    workers: Workers | None = None
    """Who sent, where several processes or machines did; None where one did."""
    not_asked: tuple[str, ...] = ()
    """Ids of findings that were left out as ordered."""


ChangeWord = Literal["improved", "regressed", "unchanged", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one endpoint (or of all together) on two sides of a comparison.

    `metric` is "p50", "p95", "p99", "errors", "goodput" or "capacity". `base` and `candidate` are the geometric mean
    over the runs of a side (for errors the pooled ratio). `change` is candidate over base less one, for errors the
    difference of the two ratios; None where a side was not measured. `low` and `high` are its 95 % interval, the luck
    of runs included. `word` None: nothing can be said, `reason` is why; else it is what the word rests on.

    `budget` is the change that matters, as `change` counts. `p` is two-sided, `p_table` the same adjusted over
    everything in the comparison (Benjamini and Hochberg), `p_gate` one-sided in the direction that is worse, adjusted
    over what the gate looks at (Holm); None where it does not look at this. `gate` is "failed", "passed" or
    "inconclusive" there, else "". `runs_needed` is how many runs a side would tell, for *inconclusive*. `figures` are
    those of the single runs, base then candidate. `detectable` is the smallest change that these runs would show nine
    times in ten.
    """

    endpoint: str
    metric: str
    base: Estimate
    candidate: Estimate
    change: float | None
    low: float | None
    high: float | None
    word: ChangeWord | None
    reason: str
    budget: float | None = None
    p: float | None = None
    p_table: float | None = None
    p_gate: float | None = None
    gate: str = ""
    runs_needed: int | None = None
    detectable: float | None = None
    figures: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    caution: str = ""
    together: bool = False
    """Of a transaction or of messages of a conversation, not of an endpoint."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How much each percentile of an endpoint moved: `change` at `quantiles`, with a 95 % band where runs allow one.

    `pattern` is "none", "even", "grows", "tail", "fast" or "mixed"; `sentence` says it in words.
    """

    endpoint: str
    quantiles: tuple[float, ...]
    change: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    pattern: str
    sentence: str


@dataclass(frozen=True, slots=True)
class FindingChange:
    """A finding that most runs of one side have, or of both: `state` is "new", "gone" or "persisting"."""

    state: str
    rule: str
    kind: str
    endpoint: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, each of one run or of several.

    `comparable` False: they are not alike, `unlike` says why, and no change has a word. `differences` lists what else
    was different. `changes` are of everything together first, then of each endpoint that both have. `word` is for
    everything together. `indicative`: too few runs a side, so a word is a hint. `noise_ratio` is how much runs were
    taken to differ (standard deviation), `noise_learned` whether that was measured. `design` is "paired" (interleaved
    blocks), "separate", "single" or "same"; `order` says in words in which order the runs were made. `gate` is
    "failed", "passed", "inconclusive" or "" where nothing could be judged.
    """

    comparable: bool
    unlike: tuple[str, ...]
    differences: tuple[str, ...]
    changes: tuple[Change, ...]
    word: ChangeWord | None
    indicative: bool
    noise_ratio: float
    noise_learned: bool
    only_base: tuple[str, ...]
    only_candidate: tuple[str, ...]
    design: str = "single"
    order: str = ""
    base_runs: tuple[str, ...] = ()
    candidate_runs: tuple[str, ...] = ()
    shifts: tuple[Shift, ...] = ()
    findings: tuple[FindingChange, ...] = ()
    gate: str = ""
    load: str = ""
    cautions: tuple[str, ...] = ()
