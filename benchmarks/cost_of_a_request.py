"""What a request costs the generator: each engine against a server that does next to nothing.

nginx on loopback answers every request with the same 128 bytes from memory; each engine asks it with 16 users for 8 s,
one after the other, and so does wrk where it is installed, as the measure of what is possible. Printed as a table:
requests per second, and the generator's CPU time per request. Server and generator share the machine, so the first
number says as much about nginx; the second is the one to compare.

    make bench
"""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

USERS = 16
SECONDS = 8
CONFIGURATION = """
daemon off; worker_processes 1; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{body}"; }} }}
}}
"""


class Cost(NamedTuple):
    """What one generator did in SECONDS."""

    generator: str
    requests_per_s: float
    cpu_ns_per_request: float | None
    """CPU time of the generator's processes while it sent; None where it was not measured."""


def main() -> int:
    """Measure everything that is installed and print the table."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        print("bench: nginx is needed as the server: apt-get install nginx-light", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, _server(nginx, Path(folder)) as url:
        costs = [_surgeline(engine, url, folder) for engine in ("native", "locust")]
        if wrk := shutil.which("wrk"):
            costs.append(_wrk(wrk, url))
    machine = f"{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    print(f"\n{USERS} users, {SECONDS} s each, {machine}\n")
    print("| generator | requests per second | CPU per request |\n| --- | --- | --- |")
    for cost in costs:
        cpu = "–" if cost.cpu_ns_per_request is None else f"{cost.cpu_ns_per_request / 1000:.1f} µs"
        print(f"| {cost.generator} | {cost.requests_per_s:,.0f} | {cpu} |")
    return 0


def _surgeline(engine: str, url: str, folder: str) -> Cost:
    command = [str(Path(sys.executable).with_name("surgeline")), "run", url, "--engine", engine, "--out", folder]
    command += ["-u", str(USERS), "-t", f"{SECONDS}s", "--no-preflight", "--ui", "none", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    document = json.loads(done.stdout)
    throughput = document["totals"]["throughput_per_s"]
    cores = document["health"]["cpu_ratio_mean"]
    return Cost(f"surgeline, {engine}", throughput, cores and cores / throughput * 1e9)


def _wrk(wrk: str, url: str) -> Cost:
    before = os.times()
    done = subprocess.run([wrk, "-t1", f"-c{USERS}", f"-d{SECONDS}s", url], capture_output=True, text=True, check=True)
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    found = re.search(r"(\d+) requests in", done.stdout)
    requests = int(found[1]) if found else 0
    return Cost("wrk", requests / SECONDS, cpu_s / requests * 1e9 if requests else None)


@contextmanager
def _server(nginx: str, folder: Path) -> Iterator[str]:
    """An nginx of our own on a free port, stopped at the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, body="x" * 128))
    with subprocess.Popen([nginx, "-c", str(configuration), "-p", str(folder)]) as server:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("bench: nginx did not start listening within 5 s")


if __name__ == "__main__":
    sys.exit(main())
