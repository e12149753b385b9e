"""What a request of a locustfile costs: Locust's own clients and ours, and whether a busy generator tells the truth.

    python benchmarks/locust_client.py [--rounds 5] [--seconds 5] [--json FILE]

Three measurements, each round of each in turns, medians over the rounds:

- *cost*: 32 users without waits ask nginx on the other core for 95 bytes of JSON; the CPU time of the whole process,
  Locust's task loop and statistics included, over the requests of its statistics; without and with a listener to
  `request`. The locustfile differs in nothing but the class.
- *floor*: what no client can do without. Locust's own loop, 32 users with a task that does nothing, by the task; and
  the same bytes sent and received on 32 connections by a loop of two system calls, by the request.
- *truth*: 100 users whose code burns 100 us after each answer, so that the hub is saturated: the service time that each
  client reports. The server answers at once, so what is reported beyond a fraction of a millisecond is the generator's.

nginx is pinned to the last core, the generator to the first.
"""

import statistics
import sys
from collections.abc import Iterator

from rounds import Result, generate, measure, nginx, options  # type: ignore[import-not-found]  # beside this file

CLIENTS = ("native FastHttpUser", "native HttpUser", "stock FastHttpUser", "stock HttpUser")
LOCUSTFILE = """
import os, sys, time, json
import locust, gevent
from locust import task, constant
from locust.env import Environment
kind, name, url, seconds, users, burn_us, listen = sys.argv[1:]
if kind == "native":
    import surgeline.locust as classes
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
        if burn:
            end = time.perf_counter() + burn
            while time.perf_counter() < end:
                pass

burn = int(burn_us) / 1e6
environment = Environment(user_classes=[User])
runner = environment.create_local_runner()
heard, times = [0], []
if listen == "count":
    def on_request(request_type, name, response_time, response_length, exception, **_):
        heard[0] += 1
    environment.events.request.add_listener(on_request)
elif listen == "times":
    environment.events.request.add_listener(lambda response_time, **_: times.append(response_time))
runner.start(int(users), spawn_rate=100)
gevent.sleep(float(users) / 100 + 1)
times.clear()
before, used, at = environment.stats.total.num_requests, time.process_time(), time.time()
gevent.sleep(float(seconds))
used, took = time.process_time() - used, time.time() - at
total = environment.stats.total
times.sort()
print(json.dumps({
    "requests": total.num_requests - before, "cpu_us": used / (total.num_requests - before) * 1e6,
    "per_s": (total.num_requests - before) / took, "failures": total.num_failures,
    "p50_ms": times[len(times) // 2] if times else None, "p99_ms": times[len(times) * 99 // 100] if times else None,
}), flush=True)
os._exit(0)
"""
FLOORS = {"loop": "Locust's loop, a task that does nothing", "calls": "two system calls, no client"}
FLOOR = """
import json, os, select, socket, sys, time, urllib.parse
what, url, seconds, users = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
done = [0]
if what == "loop":
    import gevent, locust
    from locust.env import Environment
    class User(locust.User):
        wait_time = locust.constant(0)
        @locust.task
        def nothing(self):
            done[0] += 1
    Environment(user_classes=[User]).create_local_runner().start(users, spawn_rate=100)
    gevent.sleep(users / 100 + 1)
    before, used = done[0], time.process_time()
    gevent.sleep(seconds)
else:
    at = urllib.parse.urlsplit(url)
    lines = ("GET / HTTP/1.1", f"Host: {at.netloc}", "User-Agent: bench", "Accept-Encoding: gzip", "", "")
    request = "\\r\\n".join(lines).encode()
    poll = select.epoll()
    calls = {}
    for _ in range(users):
        one = socket.create_connection((at.hostname, at.port))
        one.setblocking(False)
        poll.register(one, select.EPOLLIN | select.EPOLLET)
        calls[one.fileno()] = one.send, one.recv
        one.send(request)
    before, used, end = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        for number, _ in poll.poll():
            send, receive = calls[number]
            receive(65536)
            send(request)
            done[0] += 1
used = time.process_time() - used
print(json.dumps({"cpu_us": used / (done[0] - before) * 1e6}), flush=True)
os._exit(0)
"""


def main() -> int:
    """Measure and print; 2 without nginx."""
    wanted = options(__doc__, "round", 5, 5).parse_args()

    def one_round(_: int, folder: str, url: str) -> Iterator[Result]:
        for listen in ("no", "count"):
            for client in CLIENTS:
                yield once(folder, url, client, wanted.seconds, 32, 0, listen) | {"case": f"cost {listen}"}
        for what in FLOORS:
            told = [what, url, str(min(wanted.seconds, 2)), "32"]
            yield generate(folder, what, [sys.executable, "-c", FLOOR, *told]) | {"case": "floor"}
        for client in CLIENTS:
            yield once(folder, url, client, wanted.seconds, 100, 100, "times") | {"case": "truth"}

    return int(measure(wanted, nginx, one_round, show))


def once(folder: str, url: str, client: str, seconds: float, users: int, burn_us: int, listen: str) -> Result:
    """One generator's result."""
    told = [str(seconds), str(users), str(burn_us), listen]
    result: Result = generate(folder, client, [sys.executable, "-c", LOCUSTFILE, *client.split(), url, *told])
    return result


def show(told: list[Result]) -> None:
    """The medians as tables."""
    for case, title in (("cost no", "without listener"), ("cost count", "with a listener")):
        cost = {}
        for client in CLIENTS:
            mine = [result["cpu_us"] for result in told if result["client"] == client and result["case"] == case]
            cost[client] = statistics.median(mine)
        print(f"| client, {title} | CPU per request | stock FastHttpUser / it | stock HttpUser / it |")
        print("| --- | --- | --- | --- |")
        for client, cpu in cost.items():
            fast, plain = cost["stock FastHttpUser"] / cpu, cost["stock HttpUser"] / cpu
            print(f"| {client} | {cpu:.1f} µs | {fast:.1f} | {plain:.1f} |")
        print()
    print("| without a client | CPU |\n| --- | --- |")
    for what, title in FLOORS.items():
        mine = [result["cpu_us"] for result in told if result["client"] == what]
        print(f"| {title} | {statistics.median(mine):.1f} µs |")
    print()
    print("| client, 100 users, 100 µs of user code | p50 | p99 |\n| --- | --- | --- |")
    for client in CLIENTS:
        mine = [result for result in told if result["client"] == client and result["case"] == "truth"]
        p50, p99 = (statistics.median(result[key] for result in mine) for key in ("p50_ms", "p99_ms"))
        print(f"| {client} | {p50:.2f} ms | {p99:.2f} ms |")


if __name__ == "__main__":
    sys.exit(main())
