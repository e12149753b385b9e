"""What a request of a locustfile costs: Locust's own clients and ours, and whether a busy generator tells the truth.

    python benchmarks/locust_client.py [--rounds 5] [--seconds 5] [--json FILE]

Two measurements, each round of each in turns, medians over the rounds:

- *cost*: 32 users without waits ask nginx on the other core for 95 bytes of JSON; the CPU time of the whole process,
  Locust's task loop and statistics included, over the requests of its statistics; without and with a listener to
  `request`. The locustfile differs in nothing but the class.
- *truth*: 100 users whose code burns 100 us after each answer, so that the hub is saturated: the service time that each
  client reports. The server answers at once, so what is reported beyond a fraction of a millisecond is the generator's.

nginx is pinned to the last core, the generator to the first. The load average before each round is in the result: what
others do on the machine shows there.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLIENTS = ("native FastHttpUser", "native HttpUser", "stock FastHttpUser", "stock HttpUser")
CONFIGURATION = """
daemon off; worker_processes 1; worker_cpu_affinity {mask}; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
  keepalive_requests 100000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; access_log off;
  server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{body}'; }}
           location /served {{ stub_status; }} }}
}}
"""
BODY = '{"id":12345,"name":"surgeline","tags":["load","test"],"ok":true,"price":12.5,"n":100,"x":"abc"}'
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


def main() -> int:
    """Measure and print; 2 without nginx."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", type=Path, help="where to write every single result")
    wanted = parser.parse_args()
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        print("bench: nginx is needed as the server: apt-get install nginx-light", file=sys.stderr)
        return 2
    told: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, server(nginx, Path(folder)) as url:
        for number in range(wanted.rounds):
            for listen in ("no", "count"):
                for client in CLIENTS:
                    told.append(once(folder, url, client, wanted.seconds, 32, 0, listen) | {"case": f"cost {listen}"})
            for client in CLIENTS:
                told.append(once(folder, url, client, wanted.seconds, 100, 100, "times") | {"case": "truth"})
            print(f"round {number + 1} of {wanted.rounds} done", file=sys.stderr)
    if wanted.json:
        wanted.json.write_text(json.dumps({"machine": platform.platform(), "results": told}, indent=1) + "\n")
    show(told)
    return 0


def once(folder: str, url: str, client: str, seconds: float, users: int, burn_us: int, listen: str) -> dict[str, Any]:
    """One generator's result."""
    kind, name = client.split()
    load = os.getloadavg()[0]
    command = [sys.executable, "-c", LOCUSTFILE, kind, name, url, str(seconds), str(users), str(burn_us), listen]
    if shutil.which("taskset"):
        command = ["taskset", "-c", "0", *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return {"client": client, "load_average": load, **result}


def show(told: list[dict[str, Any]]) -> None:
    """The medians as tables."""
    loads = [result["load_average"] for result in told]
    print(f"\n{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, ", end="")
    print(f"load average {min(loads):.1f} to {max(loads):.1f}\n")
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
    print("| client, 100 users, 100 µs of user code | p50 | p99 |\n| --- | --- | --- |")
    for client in CLIENTS:
        mine = [result for result in told if result["client"] == client and result["case"] == "truth"]
        p50, p99 = (statistics.median(result[key] for result in mine) for key in ("p50_ms", "p99_ms"))
        print(f"| {client} | {p50:.2f} ms | {p99:.2f} ms |")


@contextmanager
def server(nginx: str, folder: Path) -> Iterator[str]:
    """An nginx of our own on a free port, stopped at the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    cores = os.cpu_count() or 1
    text = CONFIGURATION.format(folder=folder, port=port, body=BODY, mask="1" + "0" * (cores - 1))
    (folder / "nginx.conf").write_text(text)
    with subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)]) as process:
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
