"""`kill -9` in the middle of a run costs at most its last second."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from surgeline.demo import start_shop
from surgeline.engines.native import available


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            "native", marks=pytest.mark.skipif(available() is not None, reason="the native engine is not built here")
        ),
        "locust",
    ],
)
def test_what_a_killed_run_measured_is_reported(tmp_path: Path, engine: str) -> None:
    """
    A run at 100 requests per second is killed after some six seconds. What it leaves, `surgeline runs recover` turns
    into a report with every request that was due more than a second before the kill, as the shop's own log has them.
    """
    log = tmp_path / "access.log"
    plan = tmp_path / "plan.yaml"
    with start_shop("none", tmp_path / "data", access_log=log) as shop:
        plan.write_text(
            f"target: {shop.url}\n"
            "scenarios: {books: {steps: [{get: /books?limit=10}]}}\n"
            "workload: {model: open, arrivals: uniform, stages: [{rate: 100/s, for: 60s}]}\n"
        )
        command = [sys.executable, "-m", "surgeline", "run", "plan.yaml", "--engine", engine, "--ui", "none"]
        said = tmp_path / "said.txt"
        with (
            open(said, "wb") as file,
            subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file, start_new_session=True) as run,
        ):
            # Frames are written each second: half a second after one, so that a busy machine may be late with either.
            _wait_for_requests(log, 650)
            os.kill(run.pid, signal.SIGKILL)
            killed_ns = time.monotonic_ns()
            run.wait()
        _wait_until_quiet(log)
    print(said.read_text(errors="replace"))
    directory = next(
        path for path in (tmp_path / "surgeline-runs").iterdir() if path.is_dir() and path.name[0].isdigit()
    )
    assert json.loads((directory / "run.json").read_text())["state"] == "running"

    done = subprocess.run(
        [sys.executable, "-m", "surgeline", "runs", "recover"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    meta = json.loads((directory / "run.json").read_text())
    assert meta["state"] == "interrupted"
    served = [
        entry
        for entry in map(json.loads, log.read_text().splitlines())
        if entry["kind"] == "request" and entry["run"] == meta["id"] and entry["at_ns"] < killed_ns - 1_000_000_000
    ]
    with (directory / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A request that reached the shop a second before the kill was answered, and its row written, within that second.
    assert len(served) >= 400
    assert len(rows) >= len(served)
    assert (directory / "report.html").exists()
    assert (directory / "summary.md").exists()


def _wait_for_requests(log: Path, count: int) -> None:
    """Until the shop has answered so many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b'"request"') >= count:
            return
        time.sleep(0.05)
    pytest.fail("the shop was not asked often enough")


def _wait_until_quiet(log: Path) -> None:
    """Until nobody asks the shop any more: whatever the run had started has gone with it."""
    deadline, size = time.monotonic() + 15, -1
    while time.monotonic() < deadline:
        now = log.stat().st_size
        if now == size:
            return
        size = now
        time.sleep(0.6)
    pytest.fail("the load went on after its run was killed")
