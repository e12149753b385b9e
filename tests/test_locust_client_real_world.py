"""Locustfiles as people write them run on the native client as on the stock one, in Locust's own process."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributed import free_port

pytest.importorskip("surgeline._engine", reason="the native engine is not built")

ROOT = Path(__file__).parent.parent


@pytest.fixture
def port() -> Iterator[str]:
    """A server that answers what the shop asks."""
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/locust_client/server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None and server.stdout is not None
    yield server.stdout.readline().decode().strip()
    server.stdin.close()
    server.stdout.close()
    server.wait(10)


def run(kind: str, port: str, folder: Path, *more: str, swap: str = "") -> tuple[int, str, set[tuple[str, str]]]:
    """Exit code, what was printed, and the names with requests."""
    folder.mkdir()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    here = {**os.environ, "PYTHONPATH": path, "CLIENT_KIND": kind, "SURGELINE_LOCUST_CLIENT": swap}
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "surgeline.locust.launch", "-f", str(ROOT / "tests/locust_client/shop.py")),
            *("--headless", "-H", f"http://127.0.0.1:{port}", "--csv", str(folder / "x"), "--only-summary", *more),
        ],
        cwd=folder,
        env=here,
        capture_output=True,
        timeout=100,
        check=False,
    )
    with open(folder / "x_stats.csv", newline="") as file:
        names = {(row["Type"], row["Name"]) for row in csv.DictReader(file) if int(row["Request Count"])}
    return done.returncode, done.stderr.decode(), names


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["import", "swap"])
def test_a_shop_with_login_cookies_uploads_and_nested_task_sets(way: str, port: str, tmp_path: Path) -> None:
    """
    The same file with stock classes, with ours imported, and with ours put under the names it imports: the same
    requests by name, the same failures, no exception, and a listener that has seen what the statistics have.
    """
    stock = run("stock", port, tmp_path / "stock")
    ours = run(
        "native" if way == "import" else "stock", port, tmp_path / "ours", swap="native" if way == "swap" else ""
    )
    assert stock[0] == 0, stock[1][-2000:]
    assert ours[0] == 0, ours[1][-2000:]
    assert ours[2] == stock[2]


def test_processes_each_have_their_own_connections(port: str, tmp_path: Path) -> None:
    """Two forked workers send over connections that they opened themselves, and their statistics meet in the master."""
    free = free_port()
    code, said, names = run(
        "native", port, tmp_path / "two", "--processes", "2", "--master-bind-port", free, "--master-port", free
    )
    assert code in (0, 77, 78), said[-2000:]  # the master has no listener's view of the workers' requests
    assert ("GET", "/search") in names


def test_asking_for_the_classes_is_what_imports_locust() -> None:
    """Importing the package patches nothing."""
    text = "import surgeline.locust, sys; assert 'locust' not in sys.modules and 'gevent' not in sys.modules"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": path}, check=True)


def test_a_client_that_is_none_is_refused() -> None:
    """`--client` is one of two words."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-m", "surgeline", "locust", "--client", "fast"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, b"surgeline: --client is stock or native, not 'fast'\n")
