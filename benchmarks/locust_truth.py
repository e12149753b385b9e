"""Whether a busy generator tells the truth: service times that Locust's clients and ours report, and the server's own.

    python benchmarks/locust_truth.py [--rounds 3] [--seconds 5] [--users 100] [--burn-us 100] [--json FILE]

Users without waits whose code takes 100 us after each answer keep gevent's hub busy all the time. The server waits some
milliseconds (lognormal, median 5 ms) before each answer and keeps its own times: from the moment the kernel received
the request to the moment the answer was handed to it. Each client's `response_time` is held against them, p50 and p99
of the same requests in the same seconds. What a client adds is the generator's own delay; the native client reports
that apart, as lag.

The server runs on the last core, the generator on the first.
"""

import argparse
import contextlib
import gc
import heapq
import json
import math
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rounds import LAST, Result, generate, measure, options, pinned  # type: ignore[import-not-found]  # beside this file

CLIENTS = ("native FastHttpUser", "native HttpUser", "stock FastHttpUser", "stock HttpUser")
MEDIAN_S, SIGMA = 0.005, 0.3
LOCUSTFILE = """
import json, os, sys, time, urllib.request
import locust, gevent
from locust import task, constant
from locust.env import Environment
kind, name, url, seconds, users, burn_us = sys.argv[1:]
if kind == "native":
    import surgeline.locust as classes
    from surgeline.locust import native
elif name == "HttpUser":
    import locust as classes
else:
    import locust.contrib.fasthttp as classes

class User(getattr(classes, name)):
    host = url
    wait_time = constant(0)
    @task
    def ask(self):
        self.client.get("/")
        end = time.perf_counter() + burn
        while time.perf_counter() < end:
            pass

burn = int(burn_us) / 1e6
environment = Environment(user_classes=[User])
runner = environment.create_local_runner()
times, failed = [], []
def on_request(response_time, exception, **_):
    (failed if exception else times).append(response_time)
environment.events.request.add_listener(on_request)
runner.start(int(users), spawn_rate=100)
gevent.sleep(int(users) / 100 + 1)
urllib.request.urlopen(url + "/begin").read()
times.clear()
if kind == "native":
    native.opened().client.take_lag()
used, at = time.process_time(), time.perf_counter()
gevent.sleep(float(seconds))
cpu = (time.process_time() - used) / (time.perf_counter() - at)
seen = sorted(times)
lag = native.opened().client.take_lag() if kind == "native" else None
server = json.loads(urllib.request.urlopen(url + "/end").read())
print(json.dumps({
    "requests": len(seen), "failed": len(failed), "cpu": cpu, "server": server,
    "p50_ms": seen[len(seen) // 2], "p99_ms": seen[len(seen) * 99 // 100],
    "lag_p50_ms": lag[0] / 1e6 if lag else None, "lag_p99_ms": lag[1] / 1e6 if lag else None,
}), flush=True)
os._exit(0)
"""


def main() -> int:
    """Measure and print."""
    parser = options(__doc__, "round", 3, 5)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--burn-us", type=int, default=100)
    parser.add_argument("--client", choices=CLIENTS, action="append", help="only this one; again for more")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.serve:
        serve()
        return 0

    def one_round(_: int, folder: str, url: str) -> Iterator[Result]:
        for client in wanted.client or CLIENTS:
            yield once(folder, url, client, wanted)

    return int(measure(wanted, server, one_round, lambda told: show(told, wanted)))


def once(folder: str, url: str, client: str, wanted: argparse.Namespace) -> Result:
    """One generator's result."""
    told = [str(wanted.seconds), str(wanted.users), str(wanted.burn_us)]
    result: Result = generate(folder, client, [sys.executable, "-c", LOCUSTFILE, *client.split(), url, *told])
    return result


def show(told: list[Result], wanted: argparse.Namespace) -> None:
    """The medians as a table."""
    title = f"client, {wanted.users} users, {wanted.burn_us} µs of user code"
    print(f"| {title} | requests/s | p50: its, the server's | ratio | p99: its, the server's | ratio | lag p50, p99 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for client in dict.fromkeys(result["client"] for result in told):
        mine = [result for result in told if result["client"] == client]
        cells = [f"{statistics.median(result['requests'] for result in mine) / wanted.seconds:,.0f}"]
        for key in ("p50_ms", "p99_ms"):
            its = statistics.median(result[key] for result in mine)
            servers = statistics.median(result["server"][key] for result in mine)
            ratio = statistics.median(result[key] / result["server"][key] for result in mine)
            cells += [f"{its:.2f}, {servers:.2f} ms", f"{ratio:.3f}"]
        lags = [result for result in mine if result["lag_p50_ms"] is not None]
        keys = ("lag_p50_ms", "lag_p99_ms") if lags else ()
        lag = ", ".join(f"{statistics.median(result[key] for result in lags):.1f} ms" for key in keys)
        print(f"| {client} | {' | '.join(cells)} | {lag or 'not told'} |")


@contextmanager
def server(_folder: str) -> Iterator[str]:
    """The server as a process of its own, stopped at the end."""
    command = pinned([sys.executable, __file__, "--serve"], LAST)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


SO_TIMESTAMPNS = 35
"""Linux's; the same number is the type of the control message."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


def serve() -> None:
    """One thread, one epoll: answers each GET after its own time, and knows how long each took."""
    gc.disable()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    listening.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    due: list[tuple[float, int, int]] = []
    took: list[int] = []
    draw = random.Random(1)
    offset = time.time_ns() - time.monotonic_ns()
    while True:
        wait = max(due[0][0] - time.monotonic(), 0) if due else 1.0
        for number, _ in poll.poll(wait):
            if number == listening.fileno():
                connection, _ = listening.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            connection = connections[number]
            with contextlib.suppress(ConnectionError):
                request, extra, _, _ = connection.recvmsg(65536, 128)
                if request.startswith(b"GET / "):
                    received = time.monotonic_ns()
                    if extra:  # else it came before anybody asked the kernel for its time
                        seconds, rest = struct.unpack("qq", extra[0][2][:16])
                        received = seconds * 1_000_000_000 + rest - offset
                    pause = MEDIAN_S * math.exp(SIGMA * draw.gauss(0, 1))
                    heapq.heappush(due, (time.monotonic() + pause, number, received))
                    continue
                if request:
                    if request.startswith(b"GET /begin "):
                        took.clear()
                        offset = time.time_ns() - time.monotonic_ns()
                    took.sort()
                    told = {}
                    if took:
                        told = {"p50_ms": took[len(took) // 2] / 1e6, "p99_ms": took[len(took) * 99 // 100] / 1e6}
                    body = json.dumps(told | {"requests": len(took)}).encode()
                    head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    connection.sendall(head + body)
            poll.unregister(connection)
            connections.pop(number).close()
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, number, received = heapq.heappop(due)
            with contextlib.suppress(OSError, KeyError):
                connections[number].send(ANSWER)
                took.append(time.monotonic_ns() - received)


if __name__ == "__main__":
    sys.exit(main())
