"""Runs against the bookshop with a random half of its faults, and with none: what is found, what is accused wrongly?

    python -m scripts.campaigns.planted_faults DIRECTORY               makes what is missing of 60 runs and 30 clean
    python -m scripts.campaigns.planted_faults DIRECTORY --minutes 9   stops after that time; again goes on
    python -m scripts.campaigns.planted_faults DIRECTORY --page        writes the page from the runs that are there
    python -m scripts.campaigns.planted_faults DIRECTORY --clean 20    so many clean runs besides
    python -m scripts.campaigns.planted_faults DIRECTORY --pilot 8     other draws, to try rules out; never on the page

Every run has a shop of its own. Which faults are on is drawn from the run's number alone, so an interrupted campaign
goes on as it would have. What is said of a run is judged anew, from its directory, whenever it is looked at.
"""

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.campaigns.compare import Rate

from surgeline import runner
from surgeline.cli.order import Wanted, order_from
from surgeline.demo import plan_text, start_shop
from surgeline.demo.shop.faults import FAULTS, Fault
from surgeline.findings import judge
from surgeline.store.rundir import Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "planted-faults.md"
FAULTY, CLEAN = 60, 30
STAGES = ((10, 16), (16, 5), (24, 5), (48, 8), (10, 6))
"""Users and seconds: 40 s from a few users to many and back."""
THINK = "think_time: 50ms..100ms"
"""Half of the demo's: more requests in 40 s."""
BOOKS = "{{int(1,2)}}"
"""What everybody buys; the demo's five books are bought at once less often than a short run can show."""
SLEEP_S = 1.6
"""Between the look beforehand and the load: a shop that falls asleep does so."""
TOO_SHORT = {"leak": "what grows for minutes cannot be told from chance in 40 s; its rules want 120 s under one load"}
"""Faults that these runs leave out, and why."""
ACTS = {"contention_500": ("POST /checkout", 500)}
"""Faults that may be on without ever acting: endpoint and status of what they do, as they alone do it."""
PLANTABLE = tuple(fault for fault in FAULTS if fault.id not in TOO_SHORT)

FACTS = frozenset({"endpoint.dominates", "samples.too_few", "generator.saturated", "duration.too_short"})
"""Findings that accuse the server of nothing: where time goes, how much is known, what the generator did."""

CONSEQUENCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "n_plus_one": (("payload.size_latency", "GET /orders"),),
    "small_pool": (
        ("latency.rising", "*"),
        ("saturation.plateau", "*"),
        ("errors.onset", "POST /checkout"),
    ),
    "stall": (("stall.global", "*"),),
    "full_scan": (("scaling.linear_param", "GET /report"),),
    "contention_500": (("errors.constant", "POST /checkout"), ("errors.onset", "*")),
    "slow_upstream": (("errors.constant", "GET /books/{id}/reviews"),),
    "flaky_covers": (("errors.fast_fail", "GET /covers/{id}"),),
    "rate_limit": (
        ("errors.onset", "GET /search"),
        ("errors.onset", "all endpoints"),
        ("errors.constant", "GET /search"),
        ("errors.fast_fail", "GET /search"),
    ),
    "shedding": (
        ("errors.onset", "GET /report"),
        ("errors.onset", "all endpoints"),
        ("errors.constant", "GET /report"),
    ),
    "dropped_answers": (("errors.constant", "GET /books"),),
    "slow_serializer": (("endpoint.outlier", "GET /books/{id}/reviews"),),
    "slow_statement": (("endpoint.outlier", "GET /books"),),
    "slow_instance": (("latency.bimodal", "GET /"), ("latency.bimodal", "GET /covers/{id}")),
    "thrashing": (("latency.rising", "*"), ("saturation.plateau", "*")),
    "slow_recovery": (("latency.rising", "*"), ("latency.bimodal", "*")),
}
"""What a fault also makes true: pairs of rule and endpoint. Whoever says it has not accused wrongly."""


QUIET = 2.0
"""Load per core, the run's own included, up to which a machine counts as quiet. On a busier one a healthy shop is slow
in truth, and is rightly accused of it: what a clean run says there is shown, and not judged."""


@dataclass(frozen=True, slots=True)
class Made:
    """One run of the campaign: its number, the faults that were on, and the load of the machine around it."""

    number: int
    faults: tuple[str, ...]
    path: str
    busy: float
    """Load average over one minute per core when it ended, the run's own load included."""


@dataclass(frozen=True, slots=True)
class Said:
    """What matters of a finding here: its rule and the endpoints that it accuses (none: everything)."""

    rule: str
    endpoints: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run: faults found and missed, accusations that a fault explains and others."""

    faults: tuple[str, ...]
    found: tuple[str, ...]
    right: tuple[Said, ...]
    wrong: tuple[Said, ...]
    idle: tuple[str, ...] = ()
    """Faults that were on and did nothing in this run; nothing of them could be found."""


def faults_of(number: int, pilot: bool = False) -> tuple[str, ...]:
    """A random half of the faults, none in every third run."""
    if number % 3 == 2:
        return ()
    dice = random.Random(f"{'pilot' if pilot else 'draw'} {number}")
    ids = [fault.id for fault in PLANTABLE]
    return tuple(sorted(dice.sample(ids, len(ids) // 2)))


# --- judging ---------------------------------------------------------------------------------------------------------


def accusations(document_findings: Sequence[Any]) -> list[Said]:
    """The findings that say something is wrong with the server."""
    return [
        Said(finding.id, _accused(finding), finding.sentence)
        for finding in document_findings
        if finding.kind != "well" and finding.id not in FACTS
    ]


def _accused(finding: Any) -> tuple[str, ...]:
    if finding.endpoint is not None:
        return (finding.endpoint,)
    if finding.id.startswith(("http.", "cache.", "conn.", "fairness.")):
        return tuple(dict.fromkeys(str(row["endpoint"]) for row in finding.evidence if row.get("endpoint")))
    return ()


def _touches(fault: Fault, said: Said) -> bool:
    """Whether the fault is on an endpoint that is meant, or one of the two is about everything."""
    places = [place.strip() for place in fault.where.split(",")]
    return not said.endpoints or not places[0].startswith(("GET", "POST")) or bool(set(places) & set(said.endpoints))


def _explains(fault: Fault, said: Said) -> bool:
    if said.rule in fault.rules and _touches(fault, said):
        return True
    names = said.endpoints or ("all endpoints",)
    return any(
        rule == said.rule and any(place in ("*", name) for name in names)
        for rule, place in CONSEQUENCES.get(fault.id, ())
    )


def outcome(faults: Sequence[str], said: Sequence[Said], idle: Sequence[str] = ()) -> Outcome:
    """What was found and what was accused, held against the faults that were on; `idle` ones never acted."""
    on = [fault for fault in FAULTS if fault.id in faults and fault.id not in idle]
    found = [f.id for f in on if any(one.rule in f.rules and _touches(f, one) for one in said)]
    right = [one for one in said if any(_explains(fault, one) for fault in on)]
    wrong = [one for one in said if one not in right]
    return Outcome(tuple(fault.id for fault in on), tuple(found), tuple(right), tuple(wrong), tuple(idle))


def judged(made: Made) -> Outcome:
    """The outcome of a stored run, judged anew."""
    _, summary = runner.judged(Run(Path(made.path)))
    done = {(group.endpoint, group.status) for group in summary.errors}
    idle = [fault for fault in made.faults if fault in ACTS and ACTS[fault] not in done]
    return outcome(made.faults, accusations(judge(summary)), idle)


# --- making ----------------------------------------------------------------------------------------------------------


def made_in(root: Path) -> list[Made]:
    """The runs that are there, by number."""
    with contextlib.suppress(FileNotFoundError):
        lines = (root / "made.jsonl").read_text("utf-8").splitlines()
        return sorted((_read(json.loads(line)) for line in lines), key=lambda made: made.number)
    return []


def _read(held: Mapping[str, Any]) -> Made:
    return Made(int(held["number"]), tuple(held["faults"]), str(held["path"]), float(held["busy"]))


def plan_for(url: str, seed: int) -> str:
    """The demo's scenarios under this campaign's load, without objectives."""
    scenarios = plan_text(url).partition("\nworkload:")[0]
    scenarios = scenarios.replace("think_time: 100ms..200ms", THINK).replace("{{int(1,5)}}", BOOKS)
    stages = "".join(f"    - {{users: {users}, for: {seconds}s}}\n" for users, seconds in STAGES)
    return f"{scenarios}\nworkload:\n  model: closed\n  seed: {seed}\n  stages:\n{stages}"


def make_run(root: Path, number: int, pilot: bool) -> Made:
    """One run against a shop of its own."""
    faults = faults_of(number, pilot)
    with (
        tempfile.TemporaryDirectory(prefix="planted-") as place,
        start_shop(",".join(faults) or "none", root / "shop") as shop,
    ):
        plan = Path(place) / "plan.yaml"
        plan.write_text(plan_for(shop.url, 1000 + number), "utf-8")
        with contextlib.redirect_stderr(open(os.devnull, "w")):
            order = order_from(str(plan), Wanted(engine="native", out=root, name=f"planted-{number}", anyway=True))
        time.sleep(SLEEP_S)
        run = runner.measure(order, _Unseen(), threading.Event())
    return Made(number, faults, str(run.path), os.getloadavg()[0] / (os.cpu_count() or 1))


class _Unseen:
    """Nobody watches."""

    def started(self, run: Any, order: Any) -> None:
        del run, order

    def tick(self, live: Any, elapsed_ns: int) -> None:
        del live, elapsed_ns

    def ending(self, reason: str) -> None:
        del reason


def campaign(root: Path, minutes: float, numbers: Sequence[int], pilot: bool) -> None:
    """Makes what is missing of the runs with those numbers, in order."""
    until = time.monotonic() + 60 * minutes
    root.mkdir(parents=True, exist_ok=True)
    there = {made.number for made in made_in(root)}
    for number in numbers:
        if number in there:
            continue
        if time.monotonic() + sum(seconds for _, seconds in STAGES) + 10 > until:
            return
        made = make_run(root, number, pilot)
        with open(root / "made.jsonl", "a", encoding="utf-8") as file:
            held = {"number": made.number, "faults": made.faults, "path": made.path, "busy": made.busy}
            file.write(json.dumps(held) + "\n")
        print(f"run {number}: {len(made.faults)} faults, load {made.busy:.1f}", file=sys.stderr, flush=True)


# --- the page --------------------------------------------------------------------------------------------------------


def page(outcomes: Sequence[Outcome], busy: Sequence[float]) -> str:
    """The page, from what became of the runs and how busy the machine was."""
    faulty = [one for one in outcomes if one.faults]
    clean = [one for one, load in zip(outcomes, busy, strict=True) if not one.faults and load <= QUIET]
    hurried = [one for one, load in zip(outcomes, busy, strict=True) if not one.faults and load > QUIET]
    right, wrong = sum(len(one.right) for one in outcomes), sum(len(one.wrong) for one in outcomes)
    rates = {
        "recall: planted faults that were found": (
            Rate(sum(len(o.found) for o in faulty), max(sum(len(o.faults) for o in faulty), 1), 0.95, True)
        ),
        "precision: accusations that a planted fault explains": Rate(right, max(right + wrong, 1), 0.95, True),
        "clean runs without an accusation": Rate(sum(not o.wrong for o in clean), max(len(clean), 1), 0.95, True),
    }
    beside = Rate(sum(not o.wrong for o in hurried), max(len(hurried), 1), 0.95, True)
    seconds = sum(length for _, length in STAGES)
    whole = f"{FAULTY} runs with faults and {CLEAN} clean ones are meant"
    lines = [
        "# Error rates: planted faults",
        "",
        "Made by `python -m scripts.campaigns.planted_faults DIRECTORY`, which goes on where it was interrupted, and",
        f"`--page`. Here are {len(faulty)} runs with faults and {len(clean) + len(hurried)} clean ones; {whole}. A run "
        f"is {seconds} s",
        f"of the demo's scenarios at twice their pace ({_load()}) against [the bookshop](../bookshop.md) with a "
        "random half of",
        f"{len(PLANTABLE)} faults, generator and shop on one machine of two cores. While they were made the machine's",
        f"load was {min(busy, default=0):.1f} to {max(busy, default=0):.1f} per core, the run's own included. Clean",
        f"runs are judged where it was {QUIET:g} at most: on a busier machine a healthy shop is slow in truth.",
        "A fault is found when one of its rules speaks of an endpoint that has it. An accusation is",
        "every finding under *failed* and *to explore* but those that only say where time goes, how much is known, or",
        "what the generator did; it is right when a fault that was on explains it. Intervals are 95 %, Clopper and",
        "Pearson, as if findings of one run were independent, which they are not quite. *Holds* is about what was",
        "measured, not about what so few runs can prove.",
        "",
        "| | measured | wanted | holds |",
        "|---|--:|--:|---|",
        *(f"| {name} | {rate.hits} of {rate.tries}: {rate} | {100 * rate.limit:.0f} % | {_word(rate.holds)} |"
          for name, rate in rates.items()),
        f"| clean runs without an accusation on a machine that was busier | {beside.hits} of {beside.tries}: {beside} "
        "| – | not judged |",
        "",
        "## By fault",
        "",
        "| fault | rules that should see it | on in | found in |",
        "|---|---|--:|--:|",
        *_by_fault(faulty),
        "",
        *(f"`{fault}` is left out: {why}." for fault, why in TOO_SHORT.items()),
        *(
            f"`{fault}` was on without ever acting in {count} more runs (other faults kept requests apart): not "
            "counted."
            for fault in ACTS
            if (count := sum(fault in one.idle for one in outcomes))
        ),
        "",
        "## Accusations that no fault explains",
        "",
        *_wrong(outcomes),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _load() -> str:
    return ", ".join(f"{users} users for {seconds} s" for users, seconds in STAGES)


def _word(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _by_fault(faulty: Sequence[Outcome]) -> Iterator[str]:
    for fault in PLANTABLE:
        on = [one for one in faulty if fault.id in one.faults]
        found = sum(fault.id in one.found for one in on)
        rules = ", ".join(f"[{rule}](../findings/{rule}.md)" for rule in fault.rules)
        yield f"| `{fault.id}` | {rules} | {len(on)} | {found} |"


def _wrong(outcomes: Sequence[Outcome]) -> list[str]:
    counts = Counter(
        (said.rule, ", ".join(said.endpoints) or "everything", bool(one.faults))
        for one in outcomes
        for said in one.wrong
    )
    if not counts:
        return ["None."]
    rows = [
        f"| {rule} | {endpoint} | {'runs with faults' if faulty else 'clean runs'} | {count} |"
        for (rule, endpoint, faulty), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    return ["| rule | of | in | times |", "|---|---|---|--:|", *rows]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the campaign, or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--page", action="store_true", help="only the page, of the runs that are there")
    parser.add_argument("--clean", type=int, default=0, help="so many clean runs besides")
    parser.add_argument("--pilot", type=int, help="so many runs with draws of their own; what is said is printed")
    chosen = parser.parse_args(arguments)
    if not chosen.page:
        whole = chosen.pilot or FAULTY + CLEAN
        besides = [whole + 2 + 3 * number for number in range(chosen.clean)]
        campaign(chosen.directory, chosen.minutes, [*range(whole), *besides], chosen.pilot is not None)
    made = made_in(chosen.directory)
    outcomes = [judged(one) for one in made]
    if chosen.page and chosen.pilot is None:
        PAGE.write_text(page(outcomes, [one.busy for one in made]), "utf-8")
        return
    for one, what in zip(made, outcomes, strict=True):
        print(f"{one.number}: on {', '.join(one.faults) or 'nothing'}")
        print(f"   missed {', '.join(sorted(set(what.faults) - set(what.found))) or 'nothing'}")
        for said in what.wrong:
            print(f"   WRONG {said.rule} {said.endpoints}: {said.sentence}")
    print(page(outcomes, [one.busy for one in made]))


if __name__ == "__main__":
    main()
