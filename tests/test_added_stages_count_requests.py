"""A stage that is added while a run lasts means the same as one that was planned."""

import http.server
import threading
import time
from pathlib import Path

import pytest

from surgeline.engines import Settings
from surgeline.engines.native import NativeEngine, available
from surgeline.plan.model import Plan
from surgeline.store.rundir import RunDirectory
from surgeline.workload import Workload, open_stage


class _Quick(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers at once."""
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.mark.skipif(available() is not None, reason="the native engine is not built here")
def test_an_added_stage_counts_requests_not_iterations(tmp_path: Path) -> None:
    """
    Iterations have four requests each. One second at 40 requests per second is planned, one more is added: both bring
    ten iterations, evenly spaced, so eighty requests are due in all.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quick) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        plan = Plan.model_validate(
            {
                "target": f"http://127.0.0.1:{server.server_address[1]}",
                "scenarios": {"all": {"steps": [{"get": f"/{letter}"} for letter in "abcd"]}},
            }
        )
        stage = open_stage(40, 40, 1_000_000_000)
        load = Workload("open", (stage,), "uniform")
        directory = RunDirectory.create(tmp_path, "stages", {})
        sink = directory.segment("main")
        begin_ns = time.monotonic_ns() + 50_000_000
        running = NativeEngine().start(plan, Settings("run", begin_ns, load, addresses=("127.0.0.1",)), sink)
        running.append_stage(stage)
        ending = running.wait(30)
        sink.close()
        server.shutdown()
    assert ending is not None
    assert ending.reason == "finished"
    due = {stage: sum(c.due for c in directory.measurement().counts if c.stage == stage) for stage in (0, 1)}
    # The last iterations of a stage may send their later requests in the next one, or not at all after the last.
    assert due[0] + due[1] == pytest.approx(80, abs=4)
    assert due[1] == pytest.approx(40, abs=6)
    directory.release()
