"""Equal runs of real servers, compared as if something had changed: how often is that called a change?

    python -m scripts.campaigns.compare_real DIRECTORY                 makes what is missing of 40 runs a server
    python -m scripts.campaigns.compare_real DIRECTORY --page          only the page, of the runs that are there
    python -m scripts.campaigns.compare_real DIRECTORY --minutes 20    stops after that time; again goes on

Four small servers, 40 runs of 10 s against each, in rounds, so an interrupted campaign has about as many of each. Each
run has a server of its own, started before and ended after it. Two of them have a process beside them that keeps a core
busy half of the time. Nothing changes between runs: whatever a comparison of five with five calls a change is false.
"""

import argparse
import gc
import http.server
import json
import math
import multiprocessing
import os
import random
import signal
import socket
import socketserver
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # an oracle, only here and in tests
from scripts.campaigns.compare import Rate

from surgeline import runner
from surgeline.analysis.compare import compare_runs
from surgeline.analysis.figures import ALL, RunFigures
from surgeline.samples import Outcome
from surgeline.store.index import Index
from surgeline.store.rundir import Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "error-rates" / "compare-real.md"
RUNS = 40
SPLITS = 400
SECONDS = 10
RATE = 120


def _constant() -> Callable[[], bytes]:
    return lambda: b"ok"


def _json() -> Callable[[], bytes]:
    items = [{"id": i, "name": f"item {i}", "tags": ["a", "b"], "price": i * 1.5} for i in range(300)]
    return lambda: json.dumps(items).encode()


def _database() -> Callable[[], bytes]:
    held = sqlite3.connect(":memory:", check_same_thread=False)
    held.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL)")
    held.executemany("INSERT INTO item VALUES (?, ?, ?)", [(i, f"item {i % 977}", i % 31) for i in range(30_000)])
    query = "SELECT name, sum(price) FROM item WHERE id % 7 = ? GROUP BY name ORDER BY 2 DESC LIMIT 20"
    return lambda: json.dumps(held.execute(query, (random.randrange(7),)).fetchall()).encode()


def _garbage() -> Callable[[], bytes]:
    kept: list[Any] = []

    def answer() -> bytes:
        cycle: list[Any] = [bytearray(2000) for _ in range(60)]
        cycle.append(cycle)
        kept.append(cycle)
        if len(kept) > 120:
            kept.clear()
            gc.collect()
        return b"ok"

    return answer


SERVERS: dict[str, tuple[Callable[[], Callable[[], bytes]], bool]] = {
    "constant": (_constant, False),
    "json": (_json, True),
    "database": (_database, True),
    "garbage": (_garbage, False),
}
"""Name, what makes an answer, and whether a hog runs beside it."""


def serve(name: str, port: int) -> None:
    """One of the servers, until it is ended."""
    answer = SERVERS[name][0]()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = answer()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        request_queue_size = 512

    Server(("127.0.0.1", port), Handler).serve_forever()


def hog() -> None:
    """A core busy half of the time, in bursts of 50 ms."""
    while True:
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        time.sleep(0.05)


def make_run(root: Path, name: str, number: int) -> None:
    """One run against a server of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [multiprocessing.Process(target=serve, args=(name, port), daemon=True)]
    if SERVERS[name][1]:
        processes.append(multiprocessing.Process(target=hog, daemon=True))
    for process in processes:
        process.start()
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        plan = root / "plan.yaml"
        plan.write_text(
            f"target: http://127.0.0.1:{port}\nscenarios: {{a: {{steps: [{{get: /}}]}}}}\n"
            f"workload: {{model: open, stages: [{{rate: {RATE}/s, for: {SECONDS}s}}]}}\n"
        )
        command = [sys.executable, "-m", "surgeline", "run", str(plan), "--out", str(root / name), "--name", name]
        command += ["--ui", "none", "--seed", str(1000 + number)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finally:
        for process in processes:
            process.terminate()
            process.join(5)
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGKILL)


def runs_of(root: Path, name: str) -> list[Run]:
    """The finished runs of a server, oldest first."""
    found = [entry for entry in Index(root / name).runs() if entry.state == "finished" and not entry.problem]
    return [Run(entry.path) for entry in reversed(found)]


def campaign(root: Path, minutes: float) -> None:
    """Makes what is missing, in rounds over the servers."""
    until = time.monotonic() + 60 * minutes
    root.mkdir(parents=True, exist_ok=True)
    for number in range(RUNS):
        for name in SERVERS:
            if len(runs_of(root, name)) <= number:
                if time.monotonic() > until:
                    return
                try:
                    make_run(root, name, number)
                except subprocess.CalledProcessError as error:
                    print(
                        f"{name} {number + 1}: a run failed, exit code {error.returncode}", file=sys.stderr, flush=True
                    )
                    continue
                print(f"{name} {number + 1} of {RUNS}", file=sys.stderr, flush=True)


# --- what is said of them --------------------------------------------------------------------------------------------


def splits(runs: list[RunFigures], seed: int) -> Iterator[tuple[list[RunFigures], list[RunFigures]]]:
    """Random fives against random fives, of different runs."""
    dice = np.random.default_rng(seed)
    for _ in range(SPLITS):
        chosen = dice.permutation(len(runs))[:10]
        yield [runs[i] for i in chosen[:5]], [runs[i] for i in chosen[5:]]


def times_of(run: Run) -> Any:
    """The response times of a run's ok requests, ns."""
    parts = [
        (rows["end_ns"] - rows["intended_ns"])[rows["outcome"] == int(Outcome.OK)]
        for rows in run.rows(["intended_ns", "end_ns", "outcome"])
    ]
    return np.concatenate(parts)


def measured(root: Path, name: str, seed: int) -> dict[str, Any] | None:
    """The rates of one server; None with fewer than ten usable runs."""
    stored = runs_of(root, name)
    held = [runner.figures(run) for run in stored]
    runs = [run for run in held if run.validity != "invalid"]
    if len(runs) < 10:
        return None
    logs = {q: np.log([run.quantile(None, q, run.usable_stages) or np.nan for run in runs]) for q in (0.5, 0.95, 0.99)}
    alarms, regressed, gates, refused, unchanged = 0, 0, 0, 0, 0
    dice = np.random.default_rng(seed)
    for base, candidate in splits(runs, seed):
        found = compare_runs(base, candidate)
        if not found.comparable:
            refused += 1
            continue
        rows = {c.metric: c for c in found.changes if c.endpoint == ALL}
        metric = ("p50", "p95", "p99")[int(dice.integers(3))]
        alarms += (rows[metric].p or 1.0) < 0.05
        regressed += rows[metric].word == "regressed"
        unchanged += rows["p95"].word == "unchanged"
        gates += found.gate == "failed"
    naive_u = naive_t = 0
    times = [times_of(run) for run in stored]
    for _ in range(SPLITS):
        one, other = (times[i] for i in dice.permutation(len(times))[:2])
        naive_u += stats.mannwhitneyu(one, other).pvalue < 0.05
        naive_t += stats.ttest_ind(np.log(one), np.log(other), equal_var=False).pvalue < 0.05
    tried = SPLITS - refused
    return {
        "runs": len(runs),
        "invalid": len(held) - len(runs),
        "noise": {q: float(np.nanstd(values, ddof=1)) for q, values in logs.items()},
        "p50": math.exp(float(np.nanmean(logs[0.5]))) / 1e6,
        "refused": refused,
        "unchanged": unchanged / max(tried, 1),
        "rates": {
            "two-sided": Rate(alarms, tried, 0.05),
            "gate": Rate(gates, tried, 0.05),
            "regressed": Rate(regressed, tried, 0.01),
            "Mann-Whitney on requests": Rate(naive_u, SPLITS, 1.0),
            "t on requests": Rate(naive_t, SPLITS, 1.0),
        },
    }


def page(root: Path, note: str) -> str:
    """The page."""
    found = {name: measured(root, name, seed) for seed, name in enumerate(SERVERS, 1)}
    rows = [(name, held) for name, held in found.items() if held is not None]
    counts = " and ".join(sorted({str(len(runs_of(root, name))) for name in SERVERS}))
    lines = [
        "# Equal runs of real servers",
        "",
        f"Runs of {SECONDS} s at {RATE}/s against four small servers in Python, one process each, generator and server",
        "on one machine of two cores; *json* and *database* have a process beside them that keeps a core busy half of",
        "the time. Nothing changes between the runs of a server, so every change that is said of five random runs",
        f"against five others is false. {SPLITS} random splits a server. They share runs, so they are *dependent*:",
        "the intervals (Clopper and Pearson, as if each split were new) are too narrow, and forty runs hold only four",
        "splits without a common run.",
        "",
        f"{counts} runs a server{'' if counts == str(RUNS) else f' so far, of {RUNS}'}. {note}".rstrip(),
        "",
        "Made by `python -m scripts.campaigns.compare_real DIRECTORY`, which goes on where it was interrupted.",
        "",
        "| server | runs | p50 | noise of p50, p95, p99 | two-sided ≤ 5 % | gate ≤ 5 % | regressed ≤ 1 % | unchanged |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, held in rows:
        noise = ", ".join(f"{100 * held['noise'][q]:.1f} %" for q in (0.5, 0.95, 0.99))
        rates = held["rates"]
        lines.append(
            f"| {name} | {held['runs']} ({held['invalid']} invalid left out) | {held['p50']:.2f} ms | {noise} | "
            f"{rates['two-sided']} | {rates['gate']} | {rates['regressed']} | {100 * held['unchanged']:.0f} % |"
        )
    lines += [
        "",
        "What a test on the raw requests of two single runs would have said of the same runs, at a nominal 5 %:",
        "",
        "| server | Mann-Whitney on requests | t on the logarithms of requests |",
        "| --- | --- | --- |",
    ]
    for name, held in rows:
        rates = held["rates"]
        lines.append(f"| {name} | {rates['Mann-Whitney on requests']} | {rates['t on requests']} |")
    few = [name for name, held in found.items() if held is None]
    if few:
        lines += ["", f"Fewer than ten usable runs, so nothing is said: {', '.join(few)}."]
    pooled = {key: [sum(getattr(h["rates"][key], part) for _, h in rows) for part in ("hits", "tries")]
              for key in ("two-sided", "gate", "regressed")}  # fmt: skip
    lines += ["", "All servers together:", ""]
    limits = {"two-sided": 0.05, "gate": 0.05, "regressed": 0.01}
    for key, (hits, tries) in pooled.items():
        if tries:
            lines.append(f"- {key}: {Rate(hits, tries, limits[key])}, at most {100 * limits[key]:g} % wanted")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    options.add_argument("directory", type=Path)
    options.add_argument("--page", action="store_true", help="only the page")
    options.add_argument("--minutes", type=float, default=1e9, help="stop making runs after that time")
    options.add_argument("--note", default="", help="what else is to be known of how the runs were made")
    given = options.parse_args()
    if not given.page:
        campaign(given.directory.resolve(), given.minutes)
    text = page(given.directory.resolve(), given.note)
    PAGE.write_text(text, "utf-8")
    sys.stdout.write(text)
