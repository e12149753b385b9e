"""How far from the truth is a searched capacity on real servers, and is the kind of limit named rightly?

    python -m scripts.campaigns.capacity_real DIRECTORY               makes what is missing; again goes on
    python -m scripts.campaigns.capacity_real DIRECTORY --minutes 9   stops after that time
    python -m scripts.campaigns.capacity_real DIRECTORY --page        only the page, of what is there

Each search is `surgeline stress` against a small server of its own on this machine, over loopback. The truth of pools
and of the limiter follows from how they are made (by the same formulas and long simulations as for pretended servers;
what HTTP adds to each answer is a millisecond of a limit of 300). Short searches of forty seconds are only asked what
the limit was. Searches of servers that wait go side by side (five limiters, six pools), which together take less than
a core; those that need a core have the machine to themselves, and of a generator that is held back, one behind a hog
goes beside two of a tenth of a core. One search of a pool and one of a limiter are made alone besides: how late the
generator was there and among the others says whether they disturb each other.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.campaigns import capacity
from scripts.campaigns.real_runs import (
    ERROR_RATES,
    Piece,
    Result,
    carry_on,
    command,
    hampered,
    meanwhile,
    served,
    surgeline,
)

PAGE = ERROR_RATES / "capacity-real.md"
SLO = "p95 < 300ms, errors < 1%"
SHORT = "40s"
FEWEST_NAMED = 5
"""Searches of a kind of limit, below which no share of them is shown."""
PHASES = ({"hog": 1, "slow": 2}, {"rate limiter": 5}, {"pool or lock": 6}, {"CPU": 1}, {"alone": 1})


@dataclass(frozen=True)
class Case:
    """A server, how often it is searched in full and in short, and what its limit is.

    `like` is a pretended server of the same make, whose truth is this one's; None where only the name is asked for.
    `hampered` says how the generator is: "hog" beside it on its core, "slow" core, or not at all. `alone` is how many
    full searches more are made with nothing else beside them.
    """

    name: str
    server: tuple[str, ...]
    limit: str
    like: capacity.Case | None = None
    full: int = 0
    short: int = 0
    hampered: str = ""
    more: tuple[str, ...] = ()
    alone: int = 0

    def lane(self, kind: str) -> str:
        """Beside which others it may go: one whose server needs a core has the machine to itself."""
        return "alone" if kind == "alone" else self.hampered or self.limit

    def wanted(self, kind: str) -> int:
        """How many searches of a kind are made."""
        return {"full": self.full, "short": self.short, "alone": self.alone}[kind]


def _pretended(name: str) -> capacity.Case:
    return next(case for case in capacity.CASES if case.name == name)


LIMITER = capacity.Case(
    "", SLO, lambda seed: capacity.limiter(200, 100, 5 * capacity.MS), capacity.by_long_run(100, 260)
)
"""Its burst of 100 takes what a busy machine does to the spacing of arrivals; one of 20 does not."""
CASES = (
    Case("pool of 4, exponential, 200/s", ("pool",), "pool or lock", _pretended("M/M/4, 200/s"), 3, 2,
         alone=1),
    Case("pool of 8, fixed times, 400/s", ("pool", "--places", "8", "--fixed"), "pool or lock",
         _pretended("pool of 8, fixed times, 400/s"), 3, 2),
    Case("rate limiter, 200/s, burst of 20", ("limiter",), "rate limiter", _pretended("rate limiter, 200/s"), 10,
         alone=1),
    Case("rate limiter, 200/s, burst of 100", ("limiter", "--burst", "100"), "rate limiter", LIMITER, 3),
    Case("CPU, 4 ms each", ("cpu", "--mean-ms", "4"), "CPU", short=10),
    Case("nginx, a hog on the generator's core", ("nginx",), "generator", short=5, hampered="hog",
         more=("--from", "2k/s")),
    Case("nginx, the generator has a tenth of a core", ("nginx",), "generator", short=5, hampered="slow",
         more=("--from", "2k/s")),
)  # fmt: skip


# --- one search ------------------------------------------------------------------------------------------------------


def searched(case: Case, kind: str, number: int) -> dict[str, Any]:
    """What one search found, as it is kept."""
    with served(*case.server, "--seed", str(number)) as port, hampered(case.hampered) as before:
        url = f"http://127.0.0.1:{port}/"
        budget = ("--budget", SHORT) if kind == "short" else ()
        seed = ("--seed", str(100 + number))
        document = surgeline(before, "stress", url, "--slo", SLO, *budget, *seed, *case.more)
    found, limit, health = (document.get(part) or {} for part in ("capacity", "limit", "health"))
    return {
        "rate": found.get("rate_per_s"), "low": found.get("low_per_s"), "high": found.get("high_per_s"),
        "at_least": found.get("at_least"), "steps": found.get("steps"), "held": found.get("held"),
        "took_s": (found.get("took_ns") or 0) / 1e9, "limit": limit.get("kind"), "evidence": limit.get("evidence"),
        "sentence": (document.get("verdict") or {}).get("sentence"),
        "validity": (document.get("verdict") or {}).get("validity"),
        "lag_ms": (health.get("lag_p99_ns") or 0) / 1e6,
    }  # fmt: skip


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(results: Path, minutes: float) -> None:
    """Makes what is missing, until the time is over."""
    pieces = [
        Piece(
            {"case": case.name, "kind": kind, "number": number},
            case.lane(kind),
            90.0 if kind == "short" else 260.0,
            lambda case=case, kind=kind, number=number: searched(case, kind, number),  # type: ignore[misc]
        )
        for kind in ("full", "short", "alone")
        for case in CASES
        for number in range(1, case.wanted(kind) + 1)
    ]
    carry_on(results, pieces, PHASES, minutes)


def page(found: Sequence[Result]) -> str:
    """The page of the docs."""
    lines = [
        "# Error rates: capacity of real servers",
        "",
        "Made by `python -m scripts.campaigns.capacity_real DIRECTORY`: `surgeline stress` against small servers on",
        f"this machine whose limit is known from how they are made; the objective is {SLO}. Generator and server",
        "share two cores.",
        meanwhile(found),
        "",
        "## The rate",
        "",
        "| server | truth | load average | searches | estimates | mean bias | intervals hold it | steps | time "
        "| late |",
        "|---|--:|--:|--:|---|--:|--:|--:|--:|--:|",
    ]
    for kind, word in (("full", ""), ("alone", ", nothing beside it")):
        for case in CASES:
            mine = [one for one in found if one["case"] == case.name and one["kind"] == kind]
            lines += _row(case, mine, word)
    kinds = ["pool or lock", "CPU", "rate limiter", "generator", "unknown", "none"]
    lines += [
        "",
        "*Steps* are the most that one took, *time* is what nine of ten do not exceed, *late* how late requests left",
        "(p99) in the middle one of the searches. Limiters went up to five at a time, pools up to six. A few show",
        "no more than that nothing is far off: the error rates proper are those of [pretended servers](capacity.md).",
        "",
        "## The kind of limit",
        "",
        f"In full searches and in short ones of {SHORT}. Rows: what it was; columns: what was said.",
        "",
        "| | searches | " + " | ".join(kinds) + " | rightly |",
        "|---|" + "--:|" * (len(kinds) + 2),
    ]
    for limit in kinds[:4]:
        names = {case.name for case in CASES if case.limit == limit}
        said = [one["limit"] or "none" for one in found if one["case"] in names]
        if len(said) < FEWEST_NAMED:
            lines.append(f"| {limit} | {len(said)} |" + " |" * len(kinds) + " not measured often enough |")
            continue
        share = f"{100 * said.count(limit) / len(said):.0f} %"
        lines.append(
            f"| {limit} | {len(said)} | " + " | ".join(str(said.count(kind)) for kind in kinds) + f" | {share} |"
        )
    return "\n".join([*lines, ""])


def _row(case: Case, mine: Sequence[Result], more: str) -> list[str]:
    """The line of a server whose truth is known; none where it was not searched."""
    if case.like is None or not mine:
        return []
    truth = case.like.truth(case.like)
    good = [one for one in mine if one["rate"] is not None]
    rates = ", ".join(f"{one['rate']:.0f}" for one in good)
    bias = sum(one["rate"] for one in good) / max(len(good), 1) / truth - 1.0
    held = sum(one["low"] <= truth <= (one["high"] or float("inf")) for one in good)
    loads = sorted(one["load"] for one in mine)
    return [
        f"| {case.name}{more} | {truth:.1f}/s | {loads[0]:g} to {loads[-1]:g} | {len(mine)} | {rates} | "
        f"{100 * bias:+.1f} % | {held} of {len(mine)} | {max(one['steps'] or 0 for one in mine)} | "
        f"{_nine_of_ten([_took_s(one) for one in mine]):.0f} s | "
        f"{statistics.median(one['lag_ms'] for one in mine):.1f} ms |"
    ]


def _took_s(one: Result) -> float:
    """How long a search took; the whole command where that was not kept."""
    return float(one.get("took_s") or one["seconds"])


def _nine_of_ten(values: Sequence[float]) -> float:
    """What nine of ten do not exceed."""
    return sorted(values)[max(math.ceil(0.9 * len(values)) - 1, 0)]


if __name__ == "__main__":
    command(__doc__, PAGE, campaign, page)
