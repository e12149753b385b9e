"""What hosting a plan in Locust costs: CPU per request of a plan in a stock worker, and of the native engine alone.

    python benchmarks/locust_lane.py [--pairs 5] [--seconds 8] [--json FILE]

Each pair is one run of the same plan by each engine, the second first in every other pair. The CPU time of everything
that a run started (`surgeline`, its warden, Locust, its workers) over the requests that nginx counted, both between the
same two moments in the middle of the run: neither starting nor closing a run is in it. Three loads: an open one of
2,000/s, 16 users without pause, and the open one in two worker processes of a Locust master against two threads. What
is printed is the median over the pairs of the ratio within a pair.

nginx runs on the last core, both engines on the first; in the third load on both.
"""

import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from rounds import FIRST, Result, measure, nginx, options, pinned  # type: ignore[import-not-found]  # beside this file

LOADS = {
    "open, 2,000/s": ("-r", "2000/s", "--arrivals", "uniform"),
    "closed, 16 users": ("-u", "16"),
    "open, 2,000/s, 2 workers": ("-r", "2000/s", "--arrivals", "uniform", "--workers", "2"),
}
AFTER_S = 2.5
"""From the first requests on: whatever only the beginning costs is over."""


def main() -> int:
    """Measure and print; 2 without nginx."""
    wanted = options(__doc__, "pair", 5, 8).parse_args()

    def one_round(number: int, folder: str, url: str) -> Iterator[Result]:
        for load in LOADS:
            for engine in ("native", "locust") if number % 2 == 0 else ("locust", "native"):
                yield once(folder, url, engine, load, wanted.seconds) | {"pair": number}

    return int(measure(wanted, nginx, one_round, show))


def once(folder: str, url: str, engine: str, load: str, seconds: float) -> Result:
    """One run of one engine."""
    average = os.getloadavg()[0]
    options = [*LOADS[load], "-t", f"{seconds + AFTER_S + 1.5:.0f}s", "--engine", engine, "--out", folder]
    options += ["--no-preflight", "--no-abort", "--ui", "none"]
    command = [str(Path(sys.executable).with_name("surgeline")), "run", url, *options]
    if "workers" not in load:
        command = pinned(command, FIRST)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        before = served(url)
        while served(url) < before + 200:
            if process.poll() is not None:
                raise SystemExit(f"bench: {engine} ended early: {process.stderr.read() if process.stderr else ''}")
            time.sleep(0.02)
        time.sleep(AFTER_S)
        requests, cpu_s = served(url), tree_cpu_s(process.pid)
        time.sleep(seconds)
        requests, cpu_s = served(url) - requests, tree_cpu_s(process.pid) - cpu_s
        process.communicate(timeout=120)
    cpu_us = cpu_s / requests * 1e6
    return {"load": load, "engine": engine, "requests": requests, "cpu_us": cpu_us, "load_average": average}


looks = 0


def served(url: str) -> int:
    """Requests that nginx has answered so far, without those for this number."""
    global looks
    looks += 1
    with urllib.request.urlopen(f"{url}/served") as answer:  # noqa: S310  # our own server
        found = re.search(r"\n\s*\d+ \d+ (\d+)", answer.read().decode())
    return int(found[1]) - looks if found else 0


def tree_cpu_s(pid: int) -> float:
    """CPU time of a process and all that came of it; what has ended is in its parent's."""
    used = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        try:
            used += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return used


def show(told: list[Result]) -> None:
    """The medians as a table."""
    print("| load | native alone | in Locust | ratio, median (least to greatest) |\n| --- | --- | --- | --- |")
    for load in LOADS:
        by = {
            engine: [result["cpu_us"] for result in told if (result["load"], result["engine"]) == (load, engine)]
            for engine in ("native", "locust")
        }
        ratios = [hosted / alone for alone, hosted in zip(by["native"], by["locust"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        alone, hosted = (f"{statistics.median(by[engine]):.1f} µs" for engine in ("native", "locust"))
        print(f"| {load} | {alone} | {hosted} | {spread} |")


if __name__ == "__main__":
    sys.exit(main())
