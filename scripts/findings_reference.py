"""Writes docs/reference/findings/ from the rules themselves: a page for each, and the list of all.

The examples are what the rules say of runs against pretend servers, so they are sentences that really come out. A test
compares the pages with the rules; after a change of a rule, run this and read the difference.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from surgeline import units
from surgeline.analysis.details import look
from surgeline.analysis.marks import (
    Cookies,
    Handshakes,
    Instance,
    LoginPage,
    Marks,
    OwnTime,
    Retries,
    SameData,
    Tail,
)
from surgeline.analysis.model import ErrorGroup, Raised, ServerHealth
from surgeline.analysis.summary import summarise
from surgeline.analysis.traits import EndpointTraits, Gap, Modes, Scaling, SizeCost, Traits
from surgeline.engines import scripted
from surgeline.findings import RULES, cleared, judge
from surgeline.findings.kinds import KINDS
from surgeline.findings.model import Finding, Rule
from surgeline.plan.model import Plan
from surgeline.samples import Frame, Outcome

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference" / "findings"
MS, S = units.NS_PER_MS, units.NS_PER_S
NOT_JUDGED = (
    (
        "Do requests on one connection wait for each other (head-of-line blocking)?",
        "A row names neither its connection nor its stream, so waiting for a neighbour looks like work.",
    ),
    (
        "Could the server speak HTTP/2 or HTTP/3?",
        "Only the protocol that the plan names is offered to it; what else it could speak is not seen.",
    ),
    (
        "Does the generator share the server's machine?",
        "A fact about the set-up: it stands on every page under *how far to trust it*, and is no judgement.",
    ),
    (
        "Did the environment change since the baseline, is it noisy?",
        "It needs a second run: comparisons say it beside their verdict.",
    ),
    (
        "Is it CPU, a pool, a lock or a limiter that limits?",
        "Named beside the capacity, from the served process's CPU and the answers that went wrong.",
    ),
    (
        "Does the whole stay slow until it is restarted (metastable)?",
        "recovery.time says that it did not come back while it was watched; longer than that nobody looked.",
    ),
    (
        "Is an address of one name slower than another (DNS, load balancers)?",
        "A row does not hold the address it went to; fairness.instances needs answers that name their instance.",
    ),
    (
        "Which line of a locustfile costs the generator its time?",
        "That takes a profiler in its process; script.hub_delay says only that something does.",
    ),
    (
        "Do passwords, tokens or bodies repeat in a login?",
        "Secrets are masked before they are kept, so equal and different ones look alike.",
    ),
)
"""Questions that people ask, and why what is measured does not support an answer."""
HEADINGS = {"well": "Performed well", "failed": "Failed", "explore": "What to explore next"}


def _closed(slo: tuple[str, ...] = (), **more: Any) -> Plan:
    steps = [{"get": path} for path in ("/", "/books", "/books/1", "/health", "/orders", "/report")]
    return Plan.model_validate(
        {
            "target": "http://127.0.0.1:8001",
            "scenarios": {
                "visit": {"weight": 30, "think_time": "100ms..200ms", "steps": [*steps, {"post": "/checkout"}]},
                **more,
            },
            "slo": list(slo),
        }
    )


def _open(*rates: int, slo: tuple[str, ...] = (), each: str = "15s") -> Plan:
    return Plan.model_validate(
        {
            "target": "http://127.0.0.1:8001",
            "scenarios": {"search": {"steps": [{"get": "/search"}]}},
            "workload": {"model": "open", "stages": [{"rate": f"{rate}/s", "for": each} for rate in rates]},
            "slo": list(slo),
        }
    )


def _judge(summary: Any) -> list[Finding]:
    """What is said of a run; what was looked for and not found is kept for `absent`."""
    found = judge(summary)
    for id, sentence in cleared(summary, found):
        _ABSENT.setdefault(id, sentence)
    return found


_ABSENT: dict[str, str] = {}


def absent() -> dict[str, str]:
    """A sentence of the other direction for each rule that has one of its own, by its id."""
    examples()
    return _ABSENT


@cache
def examples() -> tuple[Finding, ...]:
    """What is said of a clean server, of a shop with faults, of an overloaded pool, and of a slow generator."""
    fast = scripted.lognormal(3 * MS)
    pool = scripted.pool(4, 40 * MS)
    shop = scripted.by_endpoint(
        {
            "GET /orders": scripted.lognormal(70 * MS),
            "GET /report": pool,
            "POST /checkout": scripted.failing_above(pool, 30, 500),
        },
        fast,
    )
    upstream = scripted.failing_share(scripted.constant(1004 * MS), 0.5, 504)
    late = scripted.Generator(lag_ns=lambda due: 80 * MS if due > 30 * S else 0)
    runs = (
        (_closed(), scripted.lognormal(3 * MS), None),
        (_closed(("p95 < 300ms", "errors < 1%")), scripted.freezing(shop, 4 * S, S // 4), None),
        (_closed(("p95 < 2s",)), scripted.by_endpoint({"GET /books/1": upstream}, fast), None),
        (_open(50, 100, 150, 250, 100, slo=("p95 < 300ms",)), scripted.pool(4, 20 * MS), None),
        (_open(100, 200), scripted.failing_above(scripted.pool(4, 25 * MS), 8), None),
        (_open(50, 100, 200), scripted.lognormal(3 * MS), late),
        (_closed(nightly={"steps": [{"get": "/export"}], "think_time": "9s"}), scripted.lognormal(3 * MS), None),
    )
    return (*(finding for run in runs for finding in _judge(_summary(*run))), *_of_single_requests())


def _of_single_requests() -> Iterator[Finding]:
    """What is said of traits, of a limiter, of a pool that thrashes, of a cold start, and of times that creep."""
    calm = _summary(_open(50, 100), scripted.lognormal(3 * MS), None)
    plain = EndpointTraits("", 600, None, None, None, 0, 600, 0.0, 1_000.0, 0, 0, True, False, 0.0, "")
    search = Modes(2.4 * MS, 93.0 * MS, 0.34, 600, "header x-cache (hit fast, miss slow, 9 answers seen)", 0.97)
    orders = Scaling(
        "limit", 10.0, 50.0, 72.0 * MS, 337.0 * MS, 6.6 * MS, 6.5 * MS, 6.8 * MS, 0.96, 0.999, 132
    )  # fmt: skip
    report = SizeCost(200.0, 1e4, 1e6, 7.0 * MS, 205.0 * MS, 0.98, 300)
    endpoints = (
        replace(plain, name="GET /search", modes=search),
        replace(plain, name="GET /orders", scaling=orders),
        replace(plain, name="GET /report", size=report),
        replace(plain, name="GET /covers/{id}", validators=False, repeats=8, repeat_share=0.97, mean_bytes=18_700.0),
    )
    gaps = (Gap(21_500 * MS, 21_763 * MS, 15),)
    packed = {"endpoint": "GET /books", "content_type": "application/json", "plain_bytes": 20_799, "gzip_bytes": 5_120}
    for encoding in ("", "gzip"):
        looked = {**calm.run, "looked": [{**packed, "encoding": encoding}]}
        yield from _judge(replace(calm, run=looked, traits=Traits(endpoints, gaps, calm.total.tally.due)))
    fresh = replace(plain, name="GET /search", new_connections=600, setup_share=0.31, differ=8)
    yield from _judge(replace(calm, traits=Traits((fresh,), (), calm.total.tally.due)))
    (only,) = calm.endpoints
    moved = replace(only.tally, hops=only.tally.sent, bytes_in=900_000 * only.tally.answered)
    yield from _judge(replace(calm, endpoints=(replace(only, tally=moved),)))
    limited = scripted.failing_share(scripted.lognormal(3 * MS), 0.2, 429)
    yield from _judge(_summary(_open(50, 100, 200), limited, None))
    yield from _judge(_summary(_open(60, 120, 240), _thrashing(), None))
    entries = json.loads((resources.files("surgeline") / "reference_times.json").read_text("utf-8"))["entries"]
    for times in (scripted.lognormal(900 * MS), scripted.lognormal(3 * MS)):
        usual = _summary(_open(20), times, None)
        yield from _judge(replace(usual, run={**usual.run, "reference_times": entries}))
    cold = scripted.until(3 * S, scripted.lognormal(400 * MS), scripted.lognormal(3 * MS))
    yield from _judge(_summary(_open(50), cold, None))
    for server in (scripted.ramping(scripted.lognormal(20 * MS), MS // 5), scripted.lognormal(20 * MS)):
        yield from _judge(_summary(_open(40, each="180s"), server, None))
    yield from _of_marks(calm)


def _of_marks(calm: Any) -> Iterator[Finding]:
    """What is said of what single requests carry, of scripts, of memory, and of loads that never come to rest."""
    tail = Tail("GET /search", 600, 15, 0.015, 3.1 * MS, 402.0 * MS, 0.0)
    own = OwnTime("GET /search", "db", 61.0 * MS, 64.5 * MS, 0.94, 600)
    slow = Instance(
        "Server-Timing instance", "c", 3, 200, 400, 43.0 * MS, 2.9 * MS, 1e-9, 0, 0, False, ("GET /search",)
    )
    loud = Marks(
        own_times=(own,),
        timed=1,
        tails=(tail,),
        tails_looked=1,
        instances=(slow,),
        tls=Handshakes(120, 61.0 * MS, 9.0 * MS, 0.62),
        dns=Handshakes(40, 84.0 * MS, 2.0 * MS, 0.7),
        retries=Retries(900, 31, 0.4 * MS),
        same_data=(SameData("GET /books/{id}", 1_200, 1, "address"),),
        cookies=(Cookies("GET /search", 600, 1.0, 4_010.0),),
        hosts=(("127.0.0.1:8001", 900), ("cdn.example", 100)),
        login_pages=(LoginPage("GET /search", 9),),
    )
    quiet = Marks(
        own_times=(replace(own, own_ns=4.0 * MS, share=0.3),),
        timed=1,
        tails_looked=4,
        instances=(replace(slow, median_ns=3.0 * MS, chance=0.4),),
        tls=Handshakes(120, 2.1 * MS, 1.4 * MS, 0.02),
        dns=Handshakes(40, 0.8 * MS, 0.3 * MS, 0.01),
        retries=Retries(900, 0, 0.4 * MS),
        hosts=(("127.0.0.1:8001", 900),),
    )
    run = {**calm.run, "settings": {**calm.run["settings"], "target": "http://127.0.0.1:8001"}}
    for marks in (loud, quiet):
        seen = Traits(marks=marks, rows=calm.total.tally.due)
        yield from _judge(replace(calm, run=run, traits=seen, exchanges=({"endpoint": "GET /search"},)))
    cut = ErrorGroup("GET /search", Outcome.ERROR, "short_body", 200, 90, 4 * S, 29 * S, 3 * MS, {0: 30, 1: 60})
    (only,) = calm.endpoints
    many = tuple(replace(only, name=f"/books/{number}") for number in range(1, 61))
    late = replace(calm.health, lag_p99_ns=48.0 * MS, cpu_ratio_max=0.31)
    yield from _judge(replace(calm, errors=(cut,), endpoints=many, exceptions=(Raised("'token'", 41, "KeyError"),)))
    yield from _judge(
        replace(calm, run={**calm.run, "engine": "locust"}, health=late, response_is_service=True, errors=())
    )
    script = {**calm.run, "engine": "locust", "subject": {"kind": "script"}}
    prompt = replace(late, lag_p99_ns=1.2 * MS)
    yield from _judge(replace(calm, run=script, health=prompt, response_is_service=True, errors=()))
    yield from _judge(_summary(_open(50, each="10s"), scripted.lognormal(3 * MS), None))
    yield from _judge(_summary(_open(50, 185, 50), scripted.pool(4, 20 * MS), None))
    steps = scripted.until(30 * S, scripted.lognormal(20 * MS), scripted.lognormal(31 * MS))
    yield from _judge(_summary(_open(40, each="60s"), steps, None))
    for grown in (0.4e6, 0.0):
        memory = tuple(120e6 + grown * second for second in range(180))
        server = ServerHealth(
            "", 1, 2, 0.5, 0.6, 1.0, memory[0], memory[-1], memory[-1], 8.0, 30.0, calm.stages[0].index, memory
        )
        yield from _judge(replace(calm, server=server))


def _thrashing() -> scripted.Server:
    """Two places, whose work takes nearly three times as long once thirty requests wait."""
    free = [0, 0]

    def serve(endpoint: str, sent_ns: int, in_flight: int) -> scripted.Answer:
        place = free.index(min(free))
        free[place] = max(free[place], sent_ns) + (10 * MS if in_flight < 30 else 28 * MS)
        return scripted.Answer(free[place] - sent_ns)

    return serve


def _summary(plan: Plan, server: scripted.Server, generator: scripted.Generator | None) -> Any:
    recording = scripted.play(plan, server, generator)
    load = plan.load()
    stages = [
        {
            "index": index,
            "name": stage.name,
            "model": load.model,
            "from": stage.start,
            "to": stage.end,
            "duration_ns": stage.duration_ns,
        }
        for index, stage in enumerate(load.stages)
    ]
    run = {
        "engine": "scripted",
        "due_known": True,
        "settings": {"workers": 1, "max_in_flight": 10_000},
        "subject": {"kind": "plan", "plan": plan.dump(), "hash": plan.hash},
        "stages": stages,
    }
    return summarise(run, recording.measurement(), look(t.columns for t in recording.tables(Frame.ROWS)))


def page(rule: Rule) -> str:
    """The page of one rule."""
    parts = [
        f"# {rule.id}: {rule.title}\n",
        f"{rule.question}\n",
        f"**Why it matters.** {rule.why}\n",
        "| | |",
        "|---|---|",
        f"| What is computed | {_sentence(rule.statistic)} |",
        f"| When it speaks | {_sentence(rule.threshold)} |",
        f"| What keeps it quiet | {_sentence(rule.guard)} |",
        f"| What to do | {rule.next_step} |",
        "",
        "## What it says\n",
    ]
    shown = _distinct([finding for finding in examples() if finding.id == rule.id])
    for finding in shown:
        parts.append(f"*{HEADINGS[finding.kind]}*, {finding.confidence} confidence\n\n> {finding.sentence}\n")
    if rule.id in absent():
        parts.append(f"*Looked for and not found*\n\n> {absent()[rule.id]}\n")
    if rule.counterpart:
        parts.append(f"The opposite is said by [{rule.counterpart}]({rule.counterpart}.md).\n")
    parts.append(
        "[What confidence means, and all findings](README.md) · [how often each rule speaks at its threshold, at half "
        "of it and at twice it](../error-rates/findings.md)\n"
    )
    return "\n".join(parts)


def _distinct(findings: list[Finding]) -> list[Finding]:
    """The first of each kind: one sentence in each direction."""
    kinds: dict[str, Finding] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, finding)
    return list(kinds.values())


def _sentence(text: str) -> str:
    first = text if text.startswith("p9") else text[0].upper() + text[1:]
    return first + ("" if text.endswith(".") else ".")


def index() -> str:
    """The list of all, and what holds for each."""
    rows = [f"| [{rule.id}]({rule.id}.md) | {rule.title} | {rule.question} |" for rule in RULES]
    return "\n".join(
        [
            "# Findings\n",
            "A finding is one judgement with its evidence. A page shows them in three boxes, *performed well*, "
            "*failed* and",
            "*what to explore next*, those first that cost users the most time: seconds waited longer than need "
            "be, and ten",
            "seconds for each request that went wrong. Objectives of your own that were missed come before all others.",
            "What was looked for and not found, the other direction of those that speak of trouble only, is listed",
            "below them in the report. `surgeline explain ID` says the same as these pages.\n",
            "| Finding | | It asks |",
            "|---|---|---|",
            *rows,
            "",
            "## Confidence\n",
            "| Word | When |",
            "|---|---|",
            "| high | the effect is beyond its threshold at 99 %, three or more independent stages (or cycles) "
            "agree, there are"
            " enough samples, and no stage it rests on is degraded |",
            "| medium | 95 %, or one stage or one run, or a stage it rests on is degraded; enough samples |",
            "| low | the pattern is there, but there are too few samples: it is a question, and stands under *what "
            "to explore"
            " next* |\n",
            "A stage that the generator limited is no evidence for anything. Causes are only ever *consistent "
            "with*: what is",
            "measured from outside shows that something waits, not what for. How often rules speak at, below and above",
            "their thresholds [was measured](../error-rates/findings.md), and so was [what they find in a shop with",
            "planted faults](../error-rates/planted-faults.md).\n",
            "## What is not judged, and why\n",
            "| Question | Why there is no rule |",
            "|---|---|",
            *(f"| {question} | {why} |" for question, why in NOT_JUDGED),
            "",
        ]
    )


def outcomes() -> str:
    """The page of outcomes and their kinds."""
    whose = {"server": "the server, or what stands before it", "network": "the network", "plan": "the plan"}
    return "\n".join(
        [
            "# Outcomes\n",
            "Every request that was due ends in one of six outcomes; what did not end well says by which kind:",
            "the column `error` of [requests.csv](csv-files.md), and *errors by kind* on the page.",
            "`surgeline explain KIND` prints one.\n",
            "| outcome | what it means |",
            "|---|---|",
            "| `ok` | the answer was right: its status (2xx and 3xx, or what `check` accepts) and every check |",
            "| `failure` | an answer came and was wrong: `status 503`, `check body contains OK`, or a kind below |",
            "| `error` | the transport broke |",
            "| `timeout` | no whole answer in time; it counts as infinitely slow |",
            "| `not_sent` | due, but not sent: for want of something of the generator's own, which counts neither way, "
            "or because the bound of requests in flight was reached, which counts as gone wrong |",
            "| `aborted` | in flight when the run ended: counts neither way |\n",
            "## Kinds\n",
            "| kind | outcome | what happened | whose doing, mostly | what to do |",
            "|---|---|---|---|---|",
            *(
                f"| `{word}` | {kind.outcome} | {kind.what} | {whose.get(kind.whose, 'the ' + kind.whose)} "
                f"| {kind.advice} |"
                for word, kind in KINDS.items()
            ),
            "",
            "A stage with too much of the generator's own doing (`client_fds`, `client_ports`) is marked invalid",
            "and says nothing about the server. Scripts may have other texts there: those of the exceptions that they",
            "raise.\n",
        ]
    )


def reference_times() -> str:
    """The page of what is expected of endpoints that nobody has set an objective for."""
    entries = json.loads((resources.files("surgeline") / "reference_times.json").read_text("utf-8"))["entries"]
    return "\n".join(
        [
            "# Reference response times\n",
            "What to expect of an endpoint of a kind: its p95 at the lightest load. These are conventions, each with",
            "its source, and no measurements of yours: they are held against endpoints only where a run has no",
            "objective on times ([reference.slow](findings/reference.slow.md)), and never fail a run. Your own",
            "objectives and baselines come first.\n",
            "| kind | methods | path (regular expression) | good | acceptable | source |",
            "|---|---|---|--:|--:|---|",
            *(
                f"| {entry['kind']} | {', '.join(entry['methods'])} | `{entry['path'].replace('|', chr(92) + '|')}` "
                f"| {entry['good_ms']} ms | {entry['acceptable_ms']} ms | {entry['source']} ({entry['year']}) |"
                for entry in entries
            ),
            "",
            "The first entry whose method and path match counts. To change them, put a file `reference-times.json`",
            "into the directory of your runs (`surgeline-runs`, or what `--out` names); it takes the place of the",
            "whole table. Runs keep the entries that they were made with.\n",
            "```json",
            '{"entries": [{"kind": "search", "methods": ["GET"], "path": "/search", "good_ms": 80,',
            '  "acceptable_ms": 250, "source": "our product owner", "year": 2026}]}',
            "```",
            "",
        ]
    )


def pages() -> dict[str, str]:
    """File name to text, for all of them."""
    return {"README.md": index()} | {f"{rule.id}.md": page(rule) for rule in RULES}


def main() -> None:
    """Writes the pages, and removes those of rules that are gone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    written = pages()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    (FOLDER.parent / "reference-times.md").write_text(reference_times(), encoding="utf-8")
    (FOLDER.parent / "outcomes.md").write_text(outcomes(), encoding="utf-8")
    for path in FOLDER.glob("*.md"):
        if path.name not in written:
            path.unlink()


if __name__ == "__main__":
    main()
