"""How far from the truth is a searched capacity on real servers, and is the kind of limit named rightly?

    python -m scripts.campaigns.capacity_real DIRECTORY               makes what is missing; again goes on
    python -m scripts.campaigns.capacity_real DIRECTORY --minutes 9   stops after that time
    python -m scripts.campaigns.capacity_real DIRECTORY --page        only the page, of what is there

Each search is `surgeline stress` against a small server of its own on this machine, over loopback. The truth of pools
and of the limiter follows from how they are made (by the same formulas and long simulations as for pretended servers;
what HTTP adds to each answer is a millisecond of a limit of 300). Short searches of forty seconds are only asked what
the limit was. Searches of servers that wait (pools, limiters) go five at a time; those that need a core have the
machine to themselves.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.campaigns import capacity

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "capacity-real.md"
SLO = "p95 < 300ms, errors < 1%"
SHORT = "40s"
FEWEST_NAMED = 5
"""Searches of a kind of limit, below which no share of them is shown."""
MOST_S = 330.0


@dataclass(frozen=True)
class Case:
    """A server, how often it is searched in full and in short, and what its limit is.

    `like` is a pretended server of the same make, whose truth is this one's; None where only the name is asked for.
    `hampered` says how the generator is: "hog" beside it on its core, "slow" core, or not at all.
    """

    name: str
    server: tuple[str, ...]
    limit: str
    like: capacity.Case | None = None
    full: int = 0
    short: int = 0
    hampered: str = ""
    more: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether it needs a core."""
        return self.limit in ("CPU", "generator")


def _pretended(name: str) -> capacity.Case:
    return next(case for case in capacity.CASES if case.name == name)


LIMITER = capacity.Case(
    "", SLO, lambda seed: capacity.limiter(200, 100, 5 * capacity.MS), capacity.by_long_run(100, 260)
)
"""Its burst of 100 takes what a busy machine does to the spacing of arrivals; one of 20 does not."""
CASES = (
    Case("pool of 4, exponential, 200/s", ("pool",), "pool or lock", _pretended("M/M/4, 200/s"), 3, 2),
    Case("pool of 8, fixed times, 400/s", ("pool", "--places", "8", "--fixed"), "pool or lock",
         _pretended("pool of 8, fixed times, 400/s"), 3, 2),
    Case("rate limiter, 200/s, burst of 20", ("limiter",), "rate limiter", _pretended("rate limiter, 200/s"), 3, 7),
    Case("rate limiter, 200/s, burst of 100", ("limiter", "--burst", "100"), "rate limiter", LIMITER, 3),
    Case("CPU, 4 ms each", ("cpu", "--mean-ms", "4"), "CPU", short=10),
    Case("at once, a hog on the generator's core", ("fast",), "generator", short=5, hampered="hog",
         more=("--from", "2k/s")),
    Case("at once, the generator has a tenth of a core", ("fast",), "generator", short=5, hampered="slow",
         more=("--from", "200/s")),
)  # fmt: skip


# --- one search ------------------------------------------------------------------------------------------------------


@contextmanager
def served(*words: str) -> Iterator[int]:
    """One of the small servers; its port."""
    command = [sys.executable, "-m", "scripts.campaigns.small_servers", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


HOG = "import os, time\nos.nice(-15)\nend = time.monotonic() + 600\nwhile time.monotonic() < end: pass"


@contextmanager
def hampered(how: str) -> Iterator[tuple[str, ...]]:
    """What a generator is started with, so that it is short of CPU or descriptors."""
    if how == "hog":
        # The server keeps the other core, so that it is the generator that is short of CPU.
        hog = subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", HOG])
        try:
            yield ("taskset", "-c", "0")
        finally:
            hog.kill()
            hog.wait()
    elif how == "slow":
        with slow_core(0.1) as group:
            yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    elif how == "descriptors":
        yield ("sh", "-c", 'ulimit -n 230; exec "$@"', "sh")
    else:
        yield ()


@contextmanager
def slow_core(share: float) -> Iterator[Path]:
    """A control group whose processes get that share of one core. Raises OSError where none may be made."""
    old, new = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    group = (old if (old / "cpu.cfs_quota_us").exists() else new) / f"surgeline-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text("20000")
            (group / "cpu.cfs_quota_us").write_text(str(round(20_000 * share)))
        else:
            (group / "cpu.max").write_text(f"{round(20_000 * share)} 20000")
        yield group
    finally:
        for _ in range(50):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def surgeline(before: Sequence[str], *words: str) -> dict[str, Any] | None:
    """The result document of one run of the command line; None where there was none. Its directory is not kept."""
    place = tempfile.mkdtemp(prefix="surgeline-campaign-")
    try:
        command = [*before, sys.executable, "-m", "surgeline", *words, "--json", "--ui", "none", "--out", place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_S, check=False)
        return dict(json.loads(done.stdout)) if done.stdout.startswith("{") else None
    except (subprocess.TimeoutExpired, ValueError):
        return None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def searched(case: Case, kind: str, number: int) -> dict[str, Any]:
    """What one search found, as it is kept."""
    began = time.monotonic()
    with served(*case.server, "--seed", str(number)) as port, hampered(case.hampered) as before:
        url = f"http://127.0.0.1:{port}/"
        budget = () if kind == "full" else ("--budget", SHORT)
        seed = ("--seed", str(100 + number))
        document = surgeline(before, "stress", url, "--slo", SLO, *budget, *seed, *case.more)
    found = (document or {}).get("capacity") or {}
    return {
        "case": case.name, "kind": kind, "number": number, "at": round(time.time()),
        "rate": found.get("rate_per_s"), "low": found.get("low_per_s"), "high": found.get("high_per_s"),
        "at_least": found.get("at_least"), "steps": found.get("steps"), "held": found.get("held"),
        "limit": ((document or {}).get("limit") or {}).get("kind"),
        "evidence": ((document or {}).get("limit") or {}).get("evidence"),
        "validity": ((document or {}).get("verdict") or {}).get("validity"),
        "seconds": round(time.monotonic() - began, 1), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


# --- the campaign ----------------------------------------------------------------------------------------------------


def campaign(results: Path, minutes: float) -> None:
    """Makes what is missing, until the time is over."""
    until = time.monotonic() + 60.0 * minutes
    done = {(one["case"], one["kind"], one["number"]) for one in kept(results)}
    wanted = [
        (case, kind, number)
        for kind in ("full", "short")
        for number in range(1, 11)
        for case in CASES
        if number <= (case.full if kind == "full" else case.short) and (case.name, kind, number) not in done
    ]

    def keep(result: dict[str, Any]) -> None:
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result), flush=True)

    def one(work: tuple[Case, str, int]) -> None:
        if time.monotonic() + (260.0 if work[1] == "full" else 60.0) < until:
            keep(searched(*work))

    with ThreadPoolExecutor(5) as together:
        list(together.map(one, [work for work in wanted if not work[0].alone]))
    for work in wanted:
        if work[0].alone:
            one(work)


def kept(results: Path) -> list[dict[str, Any]]:
    """What is there already."""
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []


def page(found: Sequence[dict[str, Any]]) -> str:
    """The page of the docs."""
    lines = [
        "# Error rates: capacity of real servers",
        "",
        "Made by `python -m scripts.campaigns.capacity_real DIRECTORY`: `surgeline stress` against small servers on",
        f"this machine whose limit is known from how they are made; the objective is {SLO}. Generator and server",
        f"share two cores. {_loads(found)}",
        "",
        "## The rate",
        "",
        "| server | truth | searches | estimates | mean bias | intervals that hold the truth | steps | longest |",
        "|---|--:|--:|---|--:|--:|--:|--:|",
    ]
    for case in CASES:
        mine = [one for one in found if one["case"] == case.name and one["kind"] == "full"]
        if case.like is None or not mine:
            continue
        truth = case.like.truth(case.like)
        good = [one for one in mine if one["rate"] is not None]
        rates = ", ".join(f"{one['rate']:.0f}" for one in good)
        bias = sum(one["rate"] for one in good) / max(len(good), 1) / truth - 1.0
        held = sum(one["low"] <= truth <= (one["high"] or float("inf")) for one in good)
        lines.append(
            f"| {case.name} | {truth:.1f}/s | {len(mine)} | {rates} | {100 * bias:+.1f} % | {held} of {len(mine)} | "
            f"{max(one['steps'] or 0 for one in mine)} | {max(one['seconds'] for one in mine):.0f} s |"
        )
    kinds = ["pool or lock", "CPU", "rate limiter", "generator", "unknown", "none"]
    lines += [
        "",
        "A few searches show no more than that nothing is far off: the error rates proper are those of",
        "[pretended servers](capacity.md).",
        "",
        "## The kind of limit",
        "",
        f"In full searches and in short ones of {SHORT}. Rows: what it was; columns: what was said.",
        "",
        "| | " + " | ".join(kinds) + " | rightly |",
        "|---|" + "--:|" * (len(kinds) + 1),
    ]
    for limit in kinds[:4]:
        names = {case.name for case in CASES if case.limit == limit}
        said = [one["limit"] or "none" for one in found if one["case"] in names]
        if len(said) < FEWEST_NAMED:
            lines.append(f"| {limit} |" + " |" * len(kinds) + " not measured often enough |")
            continue
        share = f"{100 * said.count(limit) / len(said):.0f} %"
        lines.append(f"| {limit} | " + " | ".join(str(said.count(kind)) for kind in kinds) + f" | {share} |")
    return "\n".join([*lines, ""])


def _loads(found: Sequence[dict[str, Any]]) -> str:
    loads = sorted(one["load"] for one in found)
    return f"Load average of the machine meanwhile: {loads[0]:g} to {loads[-1]:g}." if loads else ""


def main(run: Callable[[Path, float], None] = campaign) -> None:
    """Runs the campaign, or writes its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after this time")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    results = given.directory / "capacity-real.jsonl"
    if not given.page:
        run(results, given.minutes)
    PAGE.write_text(page(kept(results)), "utf-8")


if __name__ == "__main__":
    main()
