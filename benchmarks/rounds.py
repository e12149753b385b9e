"""What the measurements of Locust beside this file share: their options, a server, rounds in turns, results as JSON.

Each round measures everything once, so that what others do on the machine meets all alike; the load average before each
measurement is in its result. The server is pinned to the last core, the generator to the first.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

Result = dict[str, Any]

FIRST, LAST = 0, (os.cpu_count() or 1) - 1
"""Cores: the generator's and the server's."""
BODY = '{"id":12345,"name":"surgeline","tags":["load","test"],"ok":true,"price":12.5,"n":100,"x":"abc"}'
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


def options(description: str, unit: str, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """The options that all have; `unit` is what a round is called here."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument(f"--{unit}s", dest="rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--json", type=Path, help="where to write every single result; - prints it and no table")
    return parser


def measure(
    wanted: argparse.Namespace,
    server: Callable[[str], AbstractContextManager[str]],
    one_round: Callable[[int, str, str], Iterable[Result]],
    show: Callable[[list[Result]], None],
) -> int:
    """Runs the rounds (number, folder, server's URL), keeps what they tell, and shows it; the exit code."""
    told: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, server(folder) as url:
        for number in range(wanted.rounds):
            for result in one_round(number, folder, url):
                told.append(result)
            print(f"{number + 1} of {wanted.rounds} done", file=sys.stderr)
    text = json.dumps({"machine": platform.platform(), "results": told}, indent=1) + "\n"
    if wanted.json == Path("-"):
        print(text, end="")
        return 0
    if wanted.json:
        wanted.json.write_text(text)
    loads = [result["load_average"] for result in told]
    print(f"\n{platform.platform()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, ", end="")
    print(f"load average {min(loads):.1f} to {max(loads):.1f}\n")
    show(told)
    return 0


def generate(folder: str, client: str, command: Sequence[str]) -> Result:
    """What a generator prints as JSON, alone on the first core; SystemExit with its last words where it breaks."""
    load = os.getloadavg()[0]
    done = subprocess.run(pinned(command, FIRST), capture_output=True, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {client}: {done.stderr.decode(errors='replace')[-2000:]}")
    result: Result = json.loads(done.stdout)
    return {"client": client, "load_average": load, **result}


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The command, kept to one core where the system can."""
    return ["taskset", "-c", str(core), *command] if shutil.which("taskset") else list(command)


@contextmanager
def nginx(folder: str) -> Iterator[str]:
    """An nginx of our own on a free port, stopped at the end; SystemExit with code 2 where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        print("bench: nginx is needed as the server: apt-get install nginx-light", file=sys.stderr)
        raise SystemExit(2)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    file = Path(folder) / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port, body=BODY, mask="1" + "0" * LAST))
    with subprocess.Popen([program, "-c", str(file), "-p", folder]) as process:
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
