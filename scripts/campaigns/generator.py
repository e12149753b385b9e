"""Does a generator that cannot keep up say so, and does a healthy one keep quiet?

    python -m scripts.campaigns.generator DIRECTORY               makes what is missing; again goes on
    python -m scripts.campaigns.generator DIRECTORY --minutes 9   stops after that time
    python -m scripts.campaigns.generator DIRECTORY --page        only the page, of what is there

Real runs over loopback. Twenty of a generator that is short of something: a hog on its core, a tenth of a core, or too
few descriptors for a server that takes its time; every one of their stages has to be stamped. Fifteen healthy runs of
twenty stages, of which at most one in a hundred may be. A stage counts as stamped where it is degraded or invalid.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.campaigns.capacity_real import hampered, kept, served, surgeline

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "generator.md"
STEPS = ", ".join(f"{rate}/s for 4s" for rate in range(20, 420, 20))


@dataclass(frozen=True)
class Case:
    """How the generator is, what it is to send to which server, and how often that is tried."""

    name: str
    server: tuple[str, ...]
    stages: str
    runs: int
    how: str = ""
    healthy: bool = False


CASES = (
    Case("a hog on its core", ("fast",), "20k/s for 4s, 40k/s for 4s", 7, "hog"),
    Case("a tenth of a core", ("fast",), "4k/s for 4s, 20k/s for 4s", 7, "slow"),
    Case("230 descriptors, answers take 0.5 s", ("pool", "--places", "2000", "--mean-ms", "500", "--fixed"),
         "200/s for 4s, 400/s for 4s", 6, "descriptors"),
    Case("healthy, answers at once", ("fast",), STEPS, 5, healthy=True),
    Case("healthy, a pool", ("pool", "--places", "16", "--mean-ms", "20"), STEPS, 5, healthy=True),
    Case("healthy, a rate limiter", ("limiter", "--per-s", "250"), STEPS, 5, healthy=True),
)  # fmt: skip


def one_run(case: Case, number: int) -> dict[str, Any]:
    """What was said of each stage of one run."""
    with served(*case.server, "--seed", str(number)) as port, hampered(case.how) as before:
        where = f"http://127.0.0.1:{port}/"
        document = surgeline(before, "run", where, "--stages", case.stages, "--seed", str(number), "--no-abort")
    stages = (document or {}).get("stages") or []
    return {
        "case": case.name, "number": number, "at": round(time.time()), "load": round(os.getloadavg()[0], 1),
        "stages": [stage["validity"] for stage in stages],
        "reasons": sorted({reason for stage in stages for reason in stage["validity_reasons"][:1]})[:3],
    }  # fmt: skip


def campaign(results: Path, minutes: float) -> None:
    """Makes what is missing, until the time is over; healthy runs five at a time, the others alone."""
    until = time.monotonic() + 60.0 * minutes
    done = {(one["case"], one["number"]) for one in kept(results)}
    wanted = [(case, n) for n in range(1, 11) for case in CASES if n <= case.runs and (case.name, n) not in done]

    def one(work: tuple[Case, int]) -> None:
        if time.monotonic() + (110.0 if work[0].healthy else 25.0) < until:
            result = one_run(*work)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)

    for work in wanted:
        if not work[0].healthy:
            one(work)
    with ThreadPoolExecutor(5) as together:
        list(together.map(one, [work for work in wanted if work[0].healthy]))


def page(found: Sequence[dict[str, Any]]) -> str:
    """The page of the docs."""
    loads = sorted(one["load"] for one in found)
    lines = [
        "# Error rates: the generator's own health",
        "",
        "Made by `python -m scripts.campaigns.generator DIRECTORY`: real runs of the native engine over loopback, on a",
        "machine of two cores" + (f" with a load average of {loads[0]:g} to {loads[-1]:g}." if loads else "."),
        "*Stamped* are stages said to be degraded or invalid: *invalid* ones get no verdict about the server.",
        "",
        "| generator | runs | stages | stamped | of them invalid | what was said |",
        "|---|--:|--:|--:|--:|---|",
    ]
    totals = {True: [0, 0], False: [0, 0]}
    for case in CASES:
        mine = [one for one in found if one["case"] == case.name]
        words = [word for one in mine for word in one["stages"]]
        stamped = sum(word != "valid" for word in words)
        totals[case.healthy][0] += stamped
        totals[case.healthy][1] += len(words)
        reason = next((one["reasons"][0] for one in mine if one["reasons"]), "")
        lines.append(f"| {case.name} | {len(mine)} | {len(words)} | {stamped} | {words.count('invalid')} | {reason} |")
    hit, of = totals[False]
    false, healthy = totals[True]
    lines += [
        "",
        "| promise | here | holds |",
        "|---|--:|---|",
        f"| stages of a saturated generator that are stamped: all | {hit} of {of} | {_word(of > 0 and hit == of)} |",
        f"| healthy stages that are stamped: at most 1 % | {false} of {healthy} | "
        f"{_word(healthy > 0 and false <= 0.01 * healthy)} |",
        "",
    ]
    return "\n".join(lines)


def _word(holds: bool) -> str:
    return "yes" if holds else "**no**"


def main() -> None:
    """Runs the campaign, or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after this time")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    results = given.directory / "generator.jsonl"
    if not given.page:
        campaign(results, given.minutes)
    PAGE.write_text(page(kept(results)), "utf-8")


if __name__ == "__main__":
    main()
