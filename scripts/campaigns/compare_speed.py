"""How long does it take to compare two series of five runs of a million samples each?

    python -m scripts.campaigns.compare_speed [DIRECTORY]

One run of a million rows is made through the journal like any other (ten endpoints, a minute), judged, and stored ten
times under ids of its own; then the command is timed as a user runs it, in a process of its own, five times.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from surgeline import runner
from surgeline.samples import COUNT_COLUMNS, ROW_COLUMNS, WINDOW_COLUMNS, Frame, encode_object, encode_table, fold_rows
from surgeline.store.rundir import Run, RunDirectory

SAMPLES = 1_000_000
SECONDS = 60
ENDPOINTS = 10
LIMIT_S = 5.0


def one_run(root: Path) -> Run:
    """A run of a million samples."""
    meta = {
        "engine": "simulated",
        "subject": {"kind": "plan", "hash": "speed"},
        "settings": {},
        "stages": [
            {"index": 0, "name": "all", "model": "open", "from": SAMPLES / SECONDS, "to": SAMPLES / SECONDS,
             "unit": "requests/s", "duration_ns": SECONDS * 10**9}
        ],
        "environment": {"machine": {}, "generator_shares_machine": False},
        "versions": {},
    }  # fmt: skip
    directory = RunDirectory.create(root, "speed", meta)
    segment = directory.segment("main")
    segment.append(Frame.EVENT, encode_object({"at_ns": 0, "kind": "stage_started", "stage": 0}))
    dice = np.random.default_rng(1)
    each = SAMPLES // SECONDS
    for second in range(SECONDS):
        count = each + (SAMPLES - each * SECONDS if second == SECONDS - 1 else 0)
        start = np.sort(dice.integers(0, 10**9, count)) + second * 10**9
        took = (20e6 * np.exp(0.5 * dice.standard_normal(count))).astype(np.int64)
        which = dice.integers(0, ENDPOINTS, count)
        names = [f"GET /endpoint/{number}" for number in which]
        rows = {name: [-1] * count if kind != "str" else [""] * count for name, kind in ROW_COLUMNS.items()}
        rows |= {
            "seq": list(range(second * each, second * each + count)),
            "endpoint": names,
            "stage": [0] * count,
            "intended_ns": start.tolist(),
            "start_ns": start.tolist(),
            "end_ns": (start + took).tolist(),
            "status": [200] * count,
            "outcome": [0] * count,
            "bytes_in": [100] * count,
            "bytes_out": [10] * count,
            "reused": [1] * count,
        }
        segment.append(Frame.ROWS, encode_table(ROW_COLUMNS, rows))
        segment.append(Frame.WINDOWS, encode_table(WINDOW_COLUMNS, fold_rows(rows)))
        due = np.bincount(which, minlength=ENDPOINTS).tolist()
        counts = {
            "second": [second] * ENDPOINTS,
            "stage": [0] * ENDPOINTS,
            "endpoint": [f"GET /endpoint/{number}" for number in range(ENDPOINTS)],
            "due": due,
            "sent": due,
            "hops": [0] * ENDPOINTS,
        }
        segment.append(Frame.COUNTS, encode_table(COUNT_COLUMNS, counts))
    segment.append(Frame.EVENT, encode_object({"at_ns": SECONDS * 10**9, "kind": "stage_ended", "stage": 0}))
    segment.close()
    directory.close("finished", "", SECONDS * 10**9)
    run = Run(directory.path)
    runner.conclude(run)
    return Run(run.path)


def main(root: Path) -> int:
    """Makes the runs, times the command, says how long it took; 1 where it was too long."""
    first = one_run(root)
    for side in "ab":
        for number in range(5):
            name = f"2026-11-23-speed-{side}{number:02d}"
            shutil.copytree(first.path, root / name)
            meta = json.loads((root / name / "run.json").read_text())
            meta["id"] = name
            meta["series"] = {"group": f"speed-{side}", "side": "a", "block": number, "order": number}
            (root / name / "run.json").write_text(json.dumps(meta))
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        command = [sys.executable, "-m", "surgeline", "compare", "speed-a", "speed-b", "--out", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took.append(time.perf_counter() - begin)
        assert done.returncode == 0, done.stdout + done.stderr
    shown = ", ".join(f"{seconds:.2f} s" for seconds in took)
    print(f"compare 2 x 5 runs of {SAMPLES:,} samples: {shown} (limit {LIMIT_S:g} s)")
    return 0 if sorted(took)[len(took) // 2] <= LIMIT_S else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as place:
        sys.exit(main(Path(place) / "runs"))
