"""What hosting a plan in Locust costs: CPU per request of a plan in a stock worker, and of the native engine alone.

    python benchmarks/locust_lane.py [--pairs 5] [--seconds 8] [--json FILE]

Each pair is one run of the same plan by each engine, the second first in every other pair. The CPU time of everything
that a run started (`surgeline`, its warden, Locust, its workers) over the requests that nginx counted, both between the
same two moments in the middle of the run: neither starting nor closing a run is in it. Three loads: an open one of
2,000/s, 16 users without pause, and the open one in two worker processes of a Locust master against two threads. What
is printed is the median over the pairs of the ratio within a pair.

nginx runs on the last core, both engines on the first; in the third load on both.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from locust_client import server  # type: ignore[import-not-found]  # beside this file

LOADS = {
    "open, 2,000/s": ("-r", "2000/s", "--arrivals", "uniform"),
    "closed, 16 users": ("-u", "16"),
    "open, 2,000/s, 2 workers": ("-r", "2000/s", "--arrivals", "uniform", "--workers", "2"),
}
AFTER_S = 2.5
"""From the first requests on: whatever only the beginning costs is over."""


def main() -> int:
    """Measure and print; 2 without nginx."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--json", type=Path, help="where to write every single result")
    wanted = parser.parse_args()
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        print("bench: nginx is needed as the server: apt-get install nginx-light", file=sys.stderr)
        return 2
    told: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, server(nginx, Path(folder)) as url:
        for number in range(wanted.pairs):
            for load in LOADS:
                engines = ("native", "locust") if number % 2 == 0 else ("locust", "native")
                told += [once(folder, url, engine, load, wanted.seconds) | {"pair": number} for engine in engines]
            print(f"pair {number + 1} of {wanted.pairs} done", file=sys.stderr)
    if wanted.json:
        wanted.json.write_text(json.dumps({"machine": platform.platform(), "results": told}, indent=1) + "\n")
    show(told)
    return 0


def once(folder: str, url: str, engine: str, load: str, seconds: float) -> dict[str, Any]:
    """One run of one engine."""
    average = os.getloadavg()[0]
    options = [*LOADS[load], "-t", f"{seconds + AFTER_S + 1.5:.0f}s", "--engine", engine, "--out", folder]
    options += ["--no-preflight", "--no-abort", "--ui", "none"]
    command = [str(Path(sys.executable).with_name("surgeline")), "run", url, *options]
    if "workers" not in load and shutil.which("taskset"):
        command = ["taskset", "-c", "0", *command]
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


def show(told: list[dict[str, Any]]) -> None:
    """The medians as a table."""
    loads = [result["load_average"] for result in told]
    print(f"\n{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, ", end="")
    print(f"load average {min(loads):.1f} to {max(loads):.1f}\n")
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
