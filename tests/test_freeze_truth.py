"""A frozen server is slow for everybody who was due, and the numbers say so."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgeline import runner
from surgeline.engines import Engine
from surgeline.engines.native import NativeEngine, available
from surgeline.plan.model import Plan
from surgeline.workload import due_ns
from witness import Witness

SERVER = Path(__file__).parent / "targets" / "freezing.py"


@pytest.fixture
def freezing(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a freezing server, and its log."""
    log = tmp_path / "freezes.log"
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin and server.stdout
        port = int(server.stdout.readline())
        yield f"http://127.0.0.1:{port}", log
        server.stdin.close()
        server.wait(10)


class _Silent:
    def started(self, run: object, order: object) -> None: ...

    def tick(self, live: object, elapsed_ns: int) -> None: ...

    def ending(self, reason: str) -> None: ...


@pytest.mark.skipif(available() is not None, reason="the native engine is not built here")
@pytest.mark.skipif(
    os.getloadavg()[0] > 2 * (os.cpu_count() or 1), reason="others use this machine: what would be judged is them"
)
@pytest.mark.slow
@pytest.mark.alone
def test_a_freeze_is_felt_by_everyone_who_was_due_during_it(freezing: tuple[str, Path], tmp_path: Path) -> None:
    """
    200 arrivals per second for 20 s, and the server freezes for one second in five. What each request would have waited
    follows from when it was due and from the server's own log; p90 and p99 are within 2 % of that, p50 within 1 ms.
    """
    target, log = freezing
    plan = Plan.model_validate(
        {
            "target": target,
            "scenarios": {"all": {"steps": [{"get": "/"}]}},
            "workload": {"model": "open", "stages": [{"rate": "200/s", "for": "20s"}]},
        }
    )
    engine: Engine = NativeEngine()
    order = runner.Order(
        subject=plan,
        source={"kind": "plan", "location": "test"},
        name="freeze",
        engine=engine,
        root=tmp_path / "runs",
        workload=plan.load(),
        addresses=("127.0.0.1",),
        target=target,
    )
    with Witness() as witness:
        finished = runner.carry_out(order, _Silent(), threading.Event())
    begin = int(finished.run.meta.clock["monotonic_ns"])
    freezes = [tuple(int(part) - begin for part in line.split()) for line in log.read_text().splitlines()]
    truth = sorted(next((end - due for start, end in freezes if start <= due < end), 0) for due in due_ns(plan.load()))
    response = finished.document["totals"]["response"]
    assert finished.document["totals"]["tally"]["due"] == len(truth)
    with witness.judging():
        for q in (0.9, 0.99):
            expected = truth[-(-int(q * 1000) * len(truth) // 1000) - 1]
            assert expected > 100_000_000, "the server froze long enough to be seen"
            assert response[f"p{q * 100:g}"]["value"] == pytest.approx(expected, rel=0.02)
        assert response["p50"]["value"] == pytest.approx(truth[len(truth) // 2], abs=1_000_000)
