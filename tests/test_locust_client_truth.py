"""A generator whose hub is busy all the time tells the service times that the server has measured itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from surgeline.engines.native import available
from witness import Witness

TRUTH = Path(__file__).parents[1] / "benchmarks" / "locust_truth.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(available() is not None, reason="the native engine is not built here"),
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel's receive time stamps are Linux's"),
]


@pytest.mark.parametrize("client", ["native HttpUser", "native FastHttpUser"])
def test_a_saturated_hub_changes_no_service_time(client: str) -> None:
    """100 users with 100 us of code for each request: p50 and p99 within 5 % of the server's, the lag told apart."""
    if os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip("others use this machine")
    command = [sys.executable, str(TRUTH), "--client", client, "--rounds", "1", "--seconds", "2", "--json", "-"]
    with Witness() as witness:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (told,) = json.loads(done.stdout)["results"]
    assert told["failed"] == 0
    with witness.judging():
        assert told["requests"] > 1000
        assert told["cpu"] > 0.9, "the hub was not saturated"
        assert 0.95 < told["p50_ms"] / told["server"]["p50_ms"] < 1.05
        assert 0.95 < told["p99_ms"] / told["server"]["p99_ms"] < 1.05
        assert told["lag_p50_ms"] > 1, "how late Python came is told, and is more than the server's own fluctuation"
