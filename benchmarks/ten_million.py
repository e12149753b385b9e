"""What judging a long run costs: from ten million stored samples to result document, page and report.

Makes a run of ten million requests (600 s, eight endpoints, three loads, one in fifty gone wrong) in a scratch folder,
then judges it as `surgeline report` does in a process of its own, without `requests.csv`, which a run of that size does
not get. Printed: time, CPU time, and the most memory it held, against what is promised: 10 s and 1 GiB.

    make bench            or: python benchmarks/ten_million.py [--samples 10000000] [--keep FOLDER]
"""

import argparse
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from surgeline import units
from surgeline.plan.model import Plan
from surgeline.samples import (
    COUNT_COLUMNS,
    HEALTH_COLUMNS,
    HISTOGRAM_HALF,
    ROW_COLUMNS,
    WINDOW_COLUMNS,
    ColumnType,
    Frame,
    Outcome,
    encode_object,
    encode_table,
)
from surgeline.store.rundir import RunDirectory

PROMISED_S, PROMISED_BYTES = 10.0, 1 << 30
SECONDS, LOADS, ENDPOINTS = 600, 3, 8
_CODES: dict[ColumnType, tuple[int, str]] = {"i64": (0, "<i8"), "i32": (1, "<i4"), "u8": (2, "u1"), "str": (5, "<u4")}

Array = np.ndarray[Any, np.dtype[Any]]


def plan() -> Plan:
    """Eight endpoints at three rates."""
    steps = [{"get": f"/things/{number}"} for number in range(ENDPOINTS)]
    stages = [{"rate": f"{rate}/s", "for": f"{SECONDS // LOADS}s"} for rate in (4000, 16_000, 30_000)]
    return Plan.model_validate(
        {
            "target": "http://127.0.0.1:1",
            "scenarios": {"all": {"steps": steps}},
            "workload": {"model": "open", "stages": stages},
            "slo": ["p95 < 300ms, errors < 1%"],
        }
    )


def second_of(number: int, count: int, first: int, dice: np.random.Generator) -> dict[str, Array]:
    """The numbers of the requests that are due in one second."""
    due = np.sort(dice.integers(0, units.NS_PER_S, count)) + number * units.NS_PER_S
    endpoint = dice.integers(0, ENDPOINTS, count)
    took = (np.exp(dice.standard_normal(count) * 0.5) * (3 + 2 * endpoint) * units.NS_PER_MS).astype(np.int64)
    bad = dice.random(count) < 0.02
    seq = np.arange(first, first + count)
    lag = dice.integers(10_000, 200_000, count)
    nothing, zero = np.full(count, -1), np.zeros(count, np.int64)
    return {
        "seq": seq, "endpoint": endpoint, "scenario": zero, "stage": np.full(count, number * LOADS // SECONDS),
        "user": seq, "iteration": seq, "worker": zero, "method": zero, "url": endpoint, "intended_ns": due,
        "start_ns": due + lag, "end_ns": due + lag + took, "dns_ns": nothing, "connect_ns": nothing, "tls_ns": nothing,
        "send_ns": zero, "wait_ns": took, "receive_ns": zero, "status": np.where(bad, 500, 200),
        "outcome": np.where(bad, int(Outcome.FAILURE), int(Outcome.OK)), "error": bad.astype(np.int64),
        "bytes_out": np.full(count, 120), "bytes_in": dice.integers(200, 4000, count), "reused": np.ones(count),
        "protocol": zero, "server_timing": zero,
    }  # fmt: skip


TEXTS: dict[str, list[str]] = {
    "endpoint": [f"GET /things/{number}" for number in range(ENDPOINTS)],
    "url": [f"http://127.0.0.1:1/things/{number}" for number in range(ENDPOINTS)],
    "scenario": ["all"],
    "worker": ["native-1"],
    "method": ["GET"],
    "error": ["", "status 500"],
    "protocol": ["http/1.1"],
    "server_timing": [""],
}


def rows_frame(columns: Mapping[str, Array]) -> bytes:
    """As `samples.encode_table`, of arrays that are there already."""
    parts = [struct.pack("<IH", len(columns["seq"]), len(ROW_COLUMNS))]
    for name, kind in ROW_COLUMNS.items():
        code, dtype = _CODES[kind]
        parts.append(struct.pack("<B", len(name)) + name.encode() + struct.pack("<B", code))
        if kind == "str":
            texts = [text.encode() for text in TEXTS[name]]
            parts.append(struct.pack("<I", len(texts)) + b"".join(struct.pack("<I", len(t)) + t for t in texts))
        parts.append(columns[name].astype(dtype).tobytes())
    return b"".join(parts)


def _buckets(values: Array) -> tuple[list[int], list[int]]:
    """As `samples.histogram_index`, of many, counted."""
    shift = np.maximum(np.floor(np.log2(np.maximum(values, 1))).astype(np.int64) - 10, 0)
    found, counts = np.unique(HISTOGRAM_HALF * shift + (values >> shift), return_counts=True)
    return found.tolist(), counts.tolist()


def windows_and_counts(number: int, columns: Mapping[str, Array]) -> Iterator[tuple[Frame, bytes]]:
    """What the engine tells of the same second."""
    lines: dict[str, list[Any]] = {name: [] for name in WINDOW_COLUMNS}
    due: dict[str, list[Any]] = {name: [] for name in COUNT_COLUMNS}
    stage = int(columns["stage"][0])
    for endpoint in range(ENDPOINTS):
        mine = columns["endpoint"] == endpoint
        name, total = TEXTS["endpoint"][endpoint], int(mine.sum())
        for key, value in zip(COUNT_COLUMNS, (number, stage, name, total, total, 0), strict=True):
            due[key].append(value)
        for outcome in (int(Outcome.OK), int(Outcome.FAILURE)):
            held = mine & (columns["outcome"] == outcome)
            if not held.any():
                continue
            line: dict[str, Any] = {"second": number, "stage": stage, "endpoint": name, "outcome": outcome}
            line |= {"count": int(held.sum()), "bytes_in": int(columns["bytes_in"][held].sum()), "bytes_out": 0}
            for side, begin in (("response", "intended_ns"), ("service", "start_ns")):
                values = columns["end_ns"][held] - columns[begin][held]
                line[f"{side}_index"], line[f"{side}_count"] = _buckets(values)
                line[f"{side}_sum_ns"] = int(values.sum())
                line[f"{side}_min_ns"], line[f"{side}_max_ns"] = int(values.min()), int(values.max())
            for key, value in line.items():
                lines[key].append(value)
    yield Frame.WINDOWS, encode_table(WINDOW_COLUMNS, lines)
    yield Frame.COUNTS, encode_table(COUNT_COLUMNS, due)
    readings = {"cpu_ratio": 0.4, "lag_p99_ns": 200_000.0, "in_flight": 200.0, "rows_dropped": 0.0}
    size = len(readings)
    table: dict[str, list[Any]] = {"at_ns": [(number + 1) * units.NS_PER_S] * size, "source": ["generator"] * size}
    table |= {"worker": ["native-1"] * size, "metric": list(readings), "value": list(readings.values())}
    yield Frame.HEALTH, encode_table(HEALTH_COLUMNS, table)


def make(folder: Path, samples: int) -> Path:
    """A closed run of so many requests."""
    of = plan()
    load = of.load()
    stages = [
        {
            "index": index, "name": stage.name, "model": "open", "from": stage.start, "to": stage.end,
            "unit": "requests/s", "duration_ns": stage.duration_ns,
        }
        for index, stage in enumerate(load.stages)
    ]  # fmt: skip
    meta = {
        "engine": "native", "due_known": True, "stages": stages,
        "subject": {"kind": "plan", "plan": of.dump(), "hash": of.hash},
        "settings": {"workers": 1, "max_in_flight": 10_000, "slo": list(of.slo), "model": "open"},
        "environment": {"machine": {"cpu": "bench"}, "generator_shares_machine": False},
    }  # fmt: skip
    directory = RunDirectory.create(folder, "ten-million", meta)
    sink, dice, first = directory.segment("main"), np.random.default_rng(1), 0
    shares = np.repeat([stage.start for stage in load.stages], SECONDS // LOADS)
    per_second = np.round(shares / shares.sum() * samples).astype(int)
    for number in range(SECONDS):
        if number % (SECONDS // LOADS) == 0:
            index = number * LOADS // SECONDS
            event = {"at_ns": number * units.NS_PER_S, "kind": "stage_started", "stage": index}
            sink.append(Frame.EVENT, encode_object(event))
        columns = second_of(number, int(per_second[number]), first, dice)
        first += len(columns["seq"])
        sink.append(Frame.ROWS, rows_frame(columns))
        for kind, payload in windows_and_counts(number, columns):
            sink.append(kind, payload)
    sink.close()
    directory.close("finished", "", SECONDS * units.NS_PER_S)
    return directory.path


def judge(path: Path) -> None:
    """Result document, page, report and tables of the run, and what they cost; in a process of its own."""
    from surgeline import runner
    from surgeline.store.rundir import Run

    began = time.perf_counter()
    runner.conclude(Run(path))
    took = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {"seconds": took, "cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024}
    print(json.dumps(told))


def main() -> int:
    """Makes the run, judges it, prints the figures; 1 where they are not what is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="a folder in which the run stays, and is taken from the next time")
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.judge:
        judge(given.judge)
        return 0
    with tempfile.TemporaryDirectory(prefix="surgeline-bench-") as scratch:
        folder = given.keep or Path(scratch)
        path = next(folder.glob("*-ten-million-*"), None) if folder.exists() else None
        path = path or make(folder, given.samples)
        done = subprocess.run([sys.executable, __file__, "--judge", path], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    print(f"{given.samples:,} samples to document, page and report")
    print(f"  time   {told['seconds']:8.1f} s     promised {PROMISED_S:.0f} s  (CPU {told['cpu_s']:.1f} s)")
    print(f"  load average of the machine {os.getloadavg()[0]:.1f}")
    print(f"  memory {told['peak_bytes'] / 2**20:8.0f} MiB   promised {PROMISED_BYTES / 2**20:.0f} MiB")
    return int(told["seconds"] > PROMISED_S or told["peak_bytes"] > PROMISED_BYTES)


if __name__ == "__main__":
    sys.exit(main())
