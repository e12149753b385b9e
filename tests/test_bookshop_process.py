"""How the demo's bookshop opens, what it writes down, and that nothing of it stays behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from surgeline.demo import ShopError, start_shop
from surgeline.demo.shop.server import STALL_EVERY_S, STALL_S, listen


def visit(url: str, **headers: str) -> bytes:
    """The body at a URL; underscores in names of headers are dashes."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return bytes(answer.read())


def ended(pid: int) -> bool:
    """Whether a process ends within 20 s; one that nobody buried counts as ended."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            process.wait(timeout=0.1)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
    return False


def test_a_shop_says_where_it_is_and_closes_with_the_block(tmp_path: Path) -> None:
    """Its address answers, its faults are the chosen ones, and after the block its process and its sales are gone."""
    with start_shop("stall,n_plus_one", tmp_path) as shop:
        assert shop.url.startswith("http://127.0.0.1:")
        assert shop.faults == ("n_plus_one", "stall")
        assert json.loads(visit(shop.url + "/health"))["status"] == "ok"
        assert (tmp_path / f"sales-{shop.pid}.db").exists()
    assert ended(shop.pid)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["catalogue.db", "sales.db"]
    shop.stop()


def test_a_shop_closes_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The parent gets SIGKILL and can do nothing; the shop ends all the same, and its copy of the sales is gone."""
    program = (
        "import sys, pathlib; from surgeline.demo import start_shop\n"
        "shop = start_shop('none', pathlib.Path(sys.argv[1])); print(shop.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ended(pid)
    assert not list(tmp_path.glob("sales-*.db"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_shop_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """It ends with 0, with nothing on stderr, and without a shop's copy of the sales."""
    command = [sys.executable, "-m", "surgeline.demo.shop", "--faults", "all", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        visit(ready["url"] + "/bestsellers")
        os.kill(process.pid, number)
        _, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (0, b"")
    assert not list(tmp_path.glob("sales-*.db"))


def test_two_shops_may_share_a_folder(tmp_path: Path) -> None:
    """Both open, each with its own sales, and the stock they share is made once."""
    with start_shop("none", tmp_path) as one:
        made = (tmp_path / "catalogue.db").stat().st_ino
        with start_shop("none", tmp_path) as other:
            assert visit(one.url + "/books/1") == visit(other.url + "/books/1")
            assert len(list(tmp_path.glob("sales-*.db"))) == 2
        assert (tmp_path / "catalogue.db").stat().st_ino == made


def test_the_access_log_has_a_line_for_every_request_with_its_run(tmp_path: Path) -> None:
    """Method, path with query, status, the run's id where one was sent, and times of the monotonic clock."""
    log = tmp_path / "access.jsonl"
    before = time.monotonic_ns()
    with start_shop("none", tmp_path, access_log=log) as shop:
        visit(shop.url + "/books?limit=3", x_surgeline_run="2026-11-23-bookshop-a3f")
        visit(shop.url + "/search?q=dark%20sea")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            visit(shop.url + "/nowhere", x_surgeline_run='"quoted\\')
    after = time.monotonic_ns()
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [(line["kind"], line["method"], line["path"], line["status"], line["run"]) for line in lines] == [
        ("request", "GET", "/books?limit=3", 200, "2026-11-23-bookshop-a3f"),
        ("request", "GET", "/search?q=dark%20sea", 200, None),
        ("request", "GET", "/nowhere", 404, '"quoted\\'),
    ]
    for line in lines:
        assert before < line["at_ns"] < line["at_ns"] + line["duration_ns"] < after


@pytest.mark.slow
@pytest.mark.alone
def test_a_stall_is_felt_by_whoever_asks_and_is_in_the_log(tmp_path: Path) -> None:
    """Somebody who asks again and again waits about 250 ms once in 4 s, when the log says the shop stood still."""
    log = tmp_path / "access.jsonl"
    slowest_ns, slowest_at_ns = 0, 0
    with start_shop("stall", tmp_path, access_log=log) as shop:
        until = time.monotonic() + STALL_EVERY_S + 2 * STALL_S
        while time.monotonic() < until:
            at_ns = time.monotonic_ns()
            visit(shop.url + "/health")
            took_ns = time.monotonic_ns() - at_ns
            if took_ns > slowest_ns:
                slowest_ns, slowest_at_ns = took_ns, at_ns
    stalls = [line for line in map(json.loads, log.read_text("utf-8").splitlines()) if line["kind"] == "stall"]
    assert len(stalls) == 1
    assert stalls[0]["duration_ns"] >= STALL_S * 1e9
    assert slowest_ns >= 0.8 * STALL_S * 1e9
    assert slowest_at_ns < stalls[0]["at_ns"] + stalls[0]["duration_ns"]
    assert slowest_at_ns + slowest_ns > stalls[0]["at_ns"]


def test_answers_go_out_at_once() -> None:
    """Nagle's algorithm is off on accepted connections: a head and its body are two writes, 40 ms apart otherwise."""

    async def nodelay() -> int:
        found = asyncio.get_running_loop().create_future()
        listener = listen("127.0.0.1", 0)

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                return int(await found)
            finally:
                writer.close()
                await writer.wait_closed()

    assert asyncio.run(nodelay()) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "8.8.8.8", "example.org"])
def test_the_shop_is_for_this_machine_only(host: str) -> None:
    """An address that another machine could reach, or a name that could be anything, is refused before the socket."""
    with pytest.raises(ValueError, match="loopback"):
        listen(host, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "bookshop: 0.0.0.0 is not a loopback address"),
        (["--faults", "slow"], "bookshop: 'slow' is not a planted fault"),
        (["--port", "70000"], "bookshop: 70000 is not a port"),
    ],
)
def test_a_wrong_argument_ends_in_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Exit 2, one line on stderr, nothing on stdout."""
    command = [sys.executable, "-m", "surgeline.demo.shop", "--data", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_a_shop_that_cannot_open_says_what_it_said(tmp_path: Path) -> None:
    """The error of `start_shop` ends with the shop's own sentence, and no process is left."""
    threads = set(threading.enumerate())
    children = psutil.Process().children()
    with pytest.raises(ShopError, match="did not open: bookshop: 'slow' is not a planted fault"):
        start_shop("slow", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ShopError, match=r"did not open: bookshop: .*file'"):
        start_shop("none", tmp_path / "file")
    assert psutil.Process().children() == children
    assert set(threading.enumerate()) <= threads
