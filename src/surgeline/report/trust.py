"""How far can one trust this run?

A summary comes in; what leaves are short statements, each about one thing that could make the numbers mean less than
they seem to: the generator, the machine, due moments, sample sizes, the books, warm-up, an early end, one run only.
Each has a level: *good* (checked, and in order), *note* (true of this run, keep it in mind), *warning* (numbers are
affected). Nothing here changes a number.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from surgeline import units
from surgeline.analysis.book import endpoint_names
from surgeline.analysis.distributions import fewest_for_quantile
from surgeline.analysis.model import StageFigures, Summary
from surgeline.analysis.validity import bounded, times_are_apart
from surgeline.report.text import plural, shown
from surgeline.report.verdict import stage_text

Level = Literal["good", "note", "warning"]
_RANK: dict[Level, int] = {"warning": 0, "note": 1, "good": 2}

LONG_WARM_UP_RATIO = 0.1
"""A warm-up that takes more than this part of its stage is worth a sentence (taste)."""

LATE_NS = 2 * units.NS_PER_MS
"""From this on it is said how late Locust's loop was, where no time contains it; as validity's own bound for times."""
MOST_ACTS = 8
"""As many acts of an operator are told; the others are counted."""


class Trust(NamedTuple):
    """One statement. `about` is a stable word for what it is about."""

    about: str
    level: Level
    sentence: str


def trust(summary: Summary) -> tuple[Trust, ...]:
    """The statements, warnings first, then notes, then what is in order."""
    statements = [
        *_generator(summary),
        *_workers(summary),
        *_server(summary),
        *_due(summary),
        *_books(summary),
        *_unsent(summary),
        *_never_asked(summary),
        *_steered(summary),
        *_ending(summary),
        *_machine(summary),
        *_samples(summary),
        *_warm_up(summary),
        *_unsteady(summary),
        *_rows(summary),
        Trust(
            "runs",
            "note",
            "One run: how much a second would differ is not known, so small differences to other runs mean nothing.",
        ),
    ]
    return tuple(sorted(statements, key=lambda statement: _RANK[statement.level]))


def _unsteady(summary: Summary) -> Iterator[Trust]:
    """Stages that came to no steady state: their figures depend on how long they lasted."""
    stages = [stage for stage in summary.stages if stage.steady is False and stage.validity != "invalid"]
    if stages:
        yield Trust(
            "steady state",
            "warning",
            f"No steady state in {_stages(stages, summary)}: response times differ between its halves by more than "
            "chance, so a longer stage would have had other figures.",
        )


def _server(summary: Summary) -> Iterator[Trust]:
    """What the served process used, where it was seen."""
    server = summary.server
    if server is None or server.cpu_ratio_max is None:
        return
    facts = [f"CPU at most {server.cpu_ratio_max:.2f}{f' of {server.cores}' if server.cores else ''} cores"]
    if server.rss_first_bytes is not None and server.rss_last_bytes is not None:
        first, last = units.format_size(round(server.rss_first_bytes)), units.format_size(round(server.rss_last_bytes))
        facts.append(f"memory {first} → {last}")
    if server.threads_max is not None:
        facts.append(plural(round(server.threads_max), "thread"))
    if server.descriptors_max:
        facts.append(plural(round(server.descriptors_max), "descriptor"))
    many = f" and its children, {server.processes} in all" if server.processes > 1 else ""
    yield Trust("server", "note", f"The served process{many} was watched: {', '.join(facts)}.")


MOST_NAMES = 5
"""As many endpoints that were never asked are named; the others are counted."""


def never_asked(summary: Summary) -> tuple[str, ...]:
    """The endpoints of the plan of which no request was ever due, in the plan's order; none for a script."""
    seen = {figures.name for figures in summary.endpoints}
    return tuple(name for name in dict.fromkeys(endpoint_names(summary.run)) if name not in seen)


def names_text(names: Sequence[str]) -> str:
    """`GET /a, GET /b`; of more than five, the first and how many more."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(shown(name, 80) for name in names[:MOST_NAMES]) + more


def _never_asked(summary: Summary) -> Iterator[Trust]:
    names = never_asked(summary)
    if names and summary.total.tally.due:
        of = f"{len(names)} of the plan's {plural(len(set(endpoint_names(summary.run))), 'endpoint')}"
        yield Trust(
            "never asked",
            "warning",
            f"Never asked: {names_text(names)} ({of}); nothing here says anything about "
            f"{'it' if len(names) == 1 else 'them'}.",
        )


_ACTS = {"pause": "paused", "resume": "went on", "next_stage": "next stage", "append_stage": "a stage added"}


def _steered(summary: Summary) -> Iterator[Trust]:
    """What an operator did to the load, and what the engine had to say about it."""
    if summary.acts:
        told = [
            f"{f'{act.factor:.3g} times the plan' if act.do == 'scale' else _ACTS.get(act.do, shown(act.do))}"
            f" from {units.format_duration(act.at_ns)} on"
            for act in summary.acts[:MOST_ACTS]
        ]
        more = f", and {len(summary.acts) - MOST_ACTS} more" if len(summary.acts) > MOST_ACTS else ""
        yield Trust(
            "steered",
            "note",
            f"The load was steered by hand: {', '.join(told)}{more}. Planned rates follow; the names of stages do not.",
        )
    if summary.forked:
        yield Trust("forked", "warning", f"{_upper(shown(summary.forked))}.")
    if summary.not_asked:
        yield Trust("note", "note", f"Findings left out as ordered: {shown(', '.join(summary.not_asked))}.")
    for note in summary.notes[:MOST_ACTS]:
        yield Trust("note", "note", f"The engine notes: {shown(note)}.")


def _generator(summary: Summary) -> Iterator[Trust]:
    invalid = [stage for stage in summary.stages if stage.validity == "invalid"]
    gone = set() if summary.workers is None else {gap.told for gap in summary.workers.gaps}
    near = [s for s in summary.stages if s.validity == "degraded" and not gone.issuperset(s.validity_reasons)]
    short = [stage for stage in near if bounded(stage)]
    degraded = [stage for stage in near if stage not in short]
    if short:
        yield Trust(
            "in flight",
            "warning",
            f"Less than planned was sent in {_stages(short, summary)}{_reason(short)}; what was sent is measured, "
            "what was not is no answer of the server.",
        )
    if invalid:
        yield Trust(
            "generator",
            "warning",
            f"The generator was the limit in {_stages(invalid, summary)}{_reason(invalid)}; "
            "those figures say nothing about the server and are left out of the verdict.",
        )
    apart = [stage for stage in summary.stages if times_are_apart(summary.run, stage)]
    if degraded and len(apart) == len(summary.stages):
        yield Trust(
            "generator",
            "warning",
            f"The generator was at its limit in {_stages(degraded, summary)}{_reason(degraded)}; "
            "response times hold, throughput says nothing about the server.",
        )
    elif degraded:
        yield Trust(
            "generator",
            "warning",
            f"The generator was near its limit in {_stages(degraded, summary)}{_reason(degraded)}; "
            "response times there may be too long.",
        )
    lag = summary.health.lag_p99_ns
    if lag is not None and lag >= LATE_NS and apart and len(apart) == len(summary.stages):
        yield Trust(
            "generator",
            "note",
            f"Locust's event loop ran {units.format_duration(lag)} late (p99): users came to their next request that "
            "much later. Response times do not contain it, they end when the kernel received the answer.",
        )
    if not invalid and not near:
        if summary.validity != "valid" and any(stage.validity != "valid" for stage in summary.stages):
            pass  # a worker was missing, which is said where workers are spoken of
        elif summary.validity != "valid" and summary.validity_reasons != (
            summary.forked,
        ):  # which has its own sentence
            others = [reason for reason in summary.validity_reasons if reason != summary.forked]
            why = f": {shown(others[0])}" if others else ""
            yield Trust("generator", "warning", f"The measurement is {summary.validity}{why}.")
        else:
            facts = _health_facts(summary)
            if facts:
                yield Trust("generator", "good", f"The generator was not the limit: {facts}.")
            else:
                yield Trust("generator", "note", "The generator's own health was not read; it may have been the limit.")


def _workers(summary: Summary) -> Iterator[Trust]:
    """Who sent, where several did: gaps, what is missing, and how far their clocks agree."""
    workers = summary.workers
    if workers is None:
        return
    for gap in workers.gaps[:MOST_ACTS]:
        lost = 0 if gap.late else workers.rows_missing.get(gap.worker, 0)
        rows = f"; {plural(lost, 'row')} of it {'is' if lost == 1 else 'are'} not in requests.csv" if lost else ""
        word: Level = "note" if gap.late and (gap.load is None or gap.load.kept) else "warning"
        yield Trust("workers", word, f"{_upper(shown(gap.told))}{rows}.")
    if len(workers.gaps) > MOST_ACTS:
        yield Trust("workers", "warning", f"{len(workers.gaps) - MOST_ACTS} more such gaps are in events.jsonl.")
    gone = {gap.worker for gap in workers.gaps if not gap.late}
    for name, count in workers.rows_missing.items():
        if name not in gone:
            yield Trust("workers", "warning", f"{plural(count, 'row')} of {shown(name)} did not arrive.")
    for clause in workers.doubts()[:MOST_ACTS]:
        yield Trust("workers", "warning", f"{_upper(shown(clause))}.")
    tally = summary.total.tally
    ended = tally.due - tally.aborted
    names_of_strangers = ", ".join(shown(name) for name, _ in workers.strangers[:MOST_ACTS])
    if workers.locust is not None and workers.locust[0] != ended:
        why = (
            "a worker was lost, or cut off in requests, before both had been told of the same"
            if gone or tally.aborted
            else f"those of {names_of_strangers} are not recorded"
            if names_of_strangers
            else "a script may have reset them"
        )
        yield Trust(
            "workers",
            "note",
            f"Locust's own statistics have {plural(workers.locust[0], 'request')}, these figures "
            f"{units.format_count(ended)} that ended: {why}.",
        )
    if len(workers.names) > 1 and not gone:
        worst = max((skew.uncertainty_ns for skew in workers.skews), default=None)
        clocks = "" if worst is None else f"; their clocks agree to ± {units.format_duration(worst)} or better"
        yield Trust("workers", "good", f"{len(workers.names)} workers sent, none was lost{clocks}.")


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _health_facts(summary: Summary) -> str:
    health = summary.health
    facts = []
    if health.cpu_ratio_max is not None:
        facts.append(f"CPU at most {units.format_ratio(health.cpu_ratio_max)} of a core")
    if health.lag_p99_ns is not None and summary.response_is_service:
        facts.append(f"Locust's event loop at most {units.format_duration(health.lag_p99_ns)} late (p99)")
    elif health.lag_p99_ns is not None:
        facts.append(_started(summary))
    return ", ".join(facts)


def _started(summary: Summary) -> str:
    """`99 % of requests started within 1.2 ms of being due`; of too few requests for a p99 all of them are told of."""
    health, few = summary.health, summary.total.tally.sent < fewest_for_quantile(0.99)
    if few and health.lag_max_ns is not None:
        return f"every request started within {units.format_duration(health.lag_max_ns)} of being due"
    return f"99 % of requests started within {units.format_duration(health.lag_p99_ns)} of being due"


def _stages(stages: list[StageFigures], summary: Summary) -> str:
    loads = ", ".join(stage_text(stage) for stage in stages[:4]) + (" …" if len(stages) > 4 else "")
    return f"{len(stages)} of {plural(len(summary.stages), 'stage')} ({loads})"


def _reason(stages: list[StageFigures]) -> str:
    reasons = [reason for stage in stages for reason in stage.validity_reasons]
    return f": {shown(reasons[0])}" if reasons else ""


def _due(summary: Summary) -> Iterator[Trust]:
    if summary.response_is_service:
        yield Trust(
            "due",
            "warning",
            "The engine knew no due moments: response time is service time here. What waited to be sent during a stall "
            "is not in it, so p95 and p99 look better than users would find them.",
        )
    elif _sessions(summary):
        yield Trust(
            "due",
            "note",
            "Partly open model: sessions arrive whatever is answered, and the first request of each is due then; a "
            "later one is due a think time after the answer before it, so a slow server is asked it later.",
        )
    elif summary.model == "open" or (summary.run.get("settings") or {}).get("model") == "open":
        yield Trust(
            "due", "good", "Response time counts from when a request was due, so waiting for a stalled server is in it."
        )
    else:
        yield Trust(
            "due",
            "note",
            "Closed model: users wait for their answers, so a slow server is asked less and stalls weigh less than "
            "under arrivals at a fixed rate.",
        )


def _sessions(summary: Summary) -> bool:
    return (summary.run.get("settings") or {}).get("model") == "partly-open"


def _books(summary: Summary) -> Iterator[Trust]:
    tally = summary.total.tally
    if summary.books:
        more = f" (+{len(summary.books) - 1} more)" if len(summary.books) > 1 else ""
        yield Trust("books", "warning", f"The books do not balance: {shown(summary.books[0])}{more}.")
    else:
        yield Trust(
            "books",
            "good",
            f"The books balance: {units.format_count(tally.due)} due = {units.format_count(tally.sent)} sent + "
            f"{units.format_count(tally.not_sent)} not sent.",
        )


def _unsent(summary: Summary) -> Iterator[Trust]:
    tally = summary.total.tally
    if tally.unsent:
        yield Trust(
            "not sent",
            "warning",
            f"{plural(tally.unsent, 'request')} {'was' if tally.unsent == 1 else 'were'} due but never sent, because "
            "as many as may be were in flight; they count as errors and have no response time.",
        )
    if tally.own:
        yield Trust(
            "not sent",
            "warning",
            f"{plural(tally.own, 'request')} {'was' if tally.own == 1 else 'were'} due but never sent, for lack of "
            "descriptors, ports or time of the generator's own; they count neither way.",
        )
    if tally.aborted:
        yield Trust(
            "aborted",
            "note",
            f"{plural(tally.aborted, 'request')} {'was' if tally.aborted == 1 else 'were'} still in flight at the end; "
            "their outcome is not known and counts neither way.",
        )


def _ending(summary: Summary) -> Iterator[Trust]:
    state = str(summary.run.get("state", ""))
    ended = summary.run.get("ended")
    reason = shown(ended.get("reason") or "") if isinstance(ended, dict) else ""
    cut = [stage for stage in summary.stages if not stage.completed]
    if summary.capacity is not None and state == "finished":
        # A search leaves its stages as soon as it knows enough.
        cut = []
    if state == "interrupted":
        yield Trust("end", "warning", "The run was interrupted and recovered: at most its last second is missing.")
    if cut:
        why = f": {reason}" if reason else ""
        yield Trust(
            "end",
            "note",
            f"The run ended early, in stage {cut[0].index + 1} of {len(summary.stages)} ({stage_text(cut[0])}){why}.",
        )


def _machine(summary: Summary) -> Iterator[Trust]:
    if summary.health.shares_machine or summary.shares_machine:
        yield Trust(
            "machine",
            "note",
            "Generator and server shared one machine and its CPU: on two machines the limits may lie elsewhere.",
        )


def _samples(summary: Summary) -> Iterator[Trust]:
    silent = {
        name: sum(1 for figures in summary.endpoints if figures.response.quantiles[q].value is None)
        for name, q in (("p95", 0.95), ("p99", 0.99))
    }
    of = plural(len(summary.endpoints), "endpoint")
    told = [f"no {name} for {count} of {of}" for name, count in silent.items() if count]
    if told:
        yield Trust("samples", "note", f"Too few right answers for some percentiles: {', '.join(told)}.")
    elif summary.endpoints:
        yield Trust(
            "samples",
            "good",
            f"{plural(summary.total.tally.answered, 'answer')}, enough for p95 and p99 of every endpoint.",
        )


def _warm_up(summary: Summary) -> Iterator[Trust]:
    assessed = [(stage.warm_up_s, stage) for stage in summary.stages if stage.warm_up_s is not None]
    if not assessed:
        yield Trust(
            "warm-up", "note", "Warm-up could not be told from the rest; a slow beginning is part of the numbers."
        )
        return
    longest_s, stage = max(assessed, key=lambda item: item[0])
    if longest_s > LONG_WARM_UP_RATIO * stage.duration_s:
        yield Trust(
            "warm-up",
            "note",
            f"Stages needed up to {units.format_duration(longest_s * units.NS_PER_S)} to settle "
            f"({stage_text(stage)}); that time is part of the numbers.",
        )
    else:
        yield Trust("warm-up", "good", "No stage needed a noticeable warm-up.")


def _rows(summary: Summary) -> Iterator[Trust]:
    if not summary.rows_seen and summary.total.tally.bad:
        yield Trust("rows", "note", "Single requests were not looked at: errors are known by outcome only.")
    if summary.health.rows_dropped:
        yield Trust(
            "rows",
            "note",
            f"{plural(summary.health.rows_dropped, 'row')} could not be kept one by one; totals and percentiles "
            "include them, requests.csv does not.",
        )
