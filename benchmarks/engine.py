"""What the native engine costs, and how true it is, each figure beside a peer's in the same minute.

    python benchmarks/engine.py [CASE ...] [--rounds 5] [--results DIRECTORY]

A case is measured in rounds, the engine and its peer in turns, so that what others do on the machine meets both; the
ratio is taken within a round and its median is what counts. nginx, or whatever else serves, is pinned to the first core
and the generator's whole process tree to the last. CPU per request is the user and system time of the tree within a
window of the run, as /proc says, over the requests that the server counted in that window. The engine runs as its users
run it: `surgeline run`, every row, window and exchange recorded, checked by the abort rule.

Results go to one JSON file a case; `page.py` makes docs/reference/benchmarks.md of them. Needs nginx, wrk, openssl, and
for HTTP/2 h2load: Debian's packages nginx-light, wrk, openssl, nghttp2-client.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psutil

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, GENERATOR_CORE = {CORES[0]}, {CORES[-1]}
CONNECTIONS = 32
WARM_S, WINDOW_S = 2.0, 6.0
BODY = '{"id":12345,"name":"surgeline","tags":["load","test"],"ok":true,"price":12.5,"n":100,"x":"abc"}'
TICK = os.sysconf("SC_CLK_TCK")

CONFIGURATION = """
daemon off; worker_processes 1; error_log {folder}/error.log crit; pid {folder}/pid; worker_rlimit_nofile {files};
events {{ worker_connections {connections}; multi_accept on; }}
http {{
  access_log off; default_type application/json; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 100000000; keepalive_timeout 600s; open_file_cache max=100 inactive=600s;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_session_cache shared:S:10m;
  server {{
    listen 127.0.0.1:{http} backlog=16384; root {folder}/www;
    location / {{ return 200 '{body}'; }}
    location = /10k.bin {{ }}
  }}
  server {{ listen 127.0.0.1:{tls} ssl; location / {{ return 200 '{body}'; }} }}
  server {{ listen 127.0.0.1:{h2} ssl http2; http2_max_concurrent_streams 512; location / {{ return 200 '{body}'; }} }}
  server {{ listen 127.0.0.1:{status}; location = /status {{ stub_status; }} }}
}}
"""


class NotHere(Exception):
    """What a case needs is not installed."""


@dataclass
class Result:
    """One case: every figure of every round, and what is wanted of them."""

    case: str
    what: str
    unit: str
    goal: float
    least: float
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    peer_name: str = ""
    figures: list[float] = field(default_factory=list)
    """What is held against `goal` and `least`, one a round: a ratio, or what the case's text says."""
    beside: dict[str, list[float]] = field(default_factory=dict)
    """What helps to read the figures and is held against nothing, by name, one a round."""

    def row(self) -> dict[str, Any]:
        """For the result file."""
        return {**vars(self), "median": statistics.median(self.figures) if self.figures else None}


# --- the server and the machine ---------------------------------------------------------------------------------------


class Nginx:
    """An nginx of our own: an answer of 95 bytes and one of 10 KiB, in the clear, over TLS, over HTTP/2."""

    def __init__(self, folder: Path) -> None:
        nginx = _program("nginx", "/usr/sbin")
        self.http, self.tls, self.h2, self.status = _free_ports(4)
        (folder / "www").mkdir()
        folder.chmod(0o755)
        (folder / "www").chmod(0o755)
        (folder / "www" / "10k.bin").write_bytes(bytes((i * 7 + i // 97) % 251 for i in range(10240)))
        certify = [
            _program("openssl"),
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        certify += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"), "-days", "2"]
        certify += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(certify, check=True, stderr=subprocess.DEVNULL)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        ports = {"http": self.http, "tls": self.tls, "h2": self.h2, "status": self.status}
        text = CONFIGURATION.format(folder=folder, files=files, connections=files - 1000, body=BODY, **ports)
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(
            [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)], preexec_fn=lambda: _settle(SERVER_CORE)
        )
        _wait_for(self.status)

    def requests(self) -> int:
        """Requests answered so far, this one among them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.status}/status", timeout=5) as answer:
            found = re.search(rb"\n\s*\d+ \d+ (\d+)", answer.read())
        assert found
        return int(found[1])

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(10)


def _settle(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _program(name: str, *places: str) -> str:
    found = shutil.which(name) or next(filter(None, (shutil.which(name, path=place) for place in places)), None)
    if not found:
        raise NotHere(f"{name} is not installed")
    return found


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"benchmark: nothing listens on port {port} after 10 s")


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_s(pid: int) -> float:
    """User and system time of a process tree so far, ended children included, s."""
    ticks = 0
    for process in _tree(pid):
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(part) for part in fields[11:15])
    return ticks / TICK


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A generator on its core; ended at the end if it still runs."""
    # Surgeline ends with 4 where it says that it was its own limit: under full load that is so, and is not judged here.
    # Python keeps what it has compiled, as where it is installed, whatever it is told here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=lambda: _settle(GENERATOR_CORE),
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def _cost(server: Nginx, command: list[str], warm_s: float = WARM_S, window_s: float = WINDOW_S) -> float:
    """CPU per request of a generator within a window of its run, us."""
    return _cost_and_segments(server, command, warm_s, window_s)[0]


def _segments() -> int:
    """TCP segments that this machine has sent, from the kernel's own count (RFC 4022, tcpOutSegs)."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:4] == "Tcp:")
    return int(values[names.index("OutSegs")])


def _cost_and_segments(server: Nginx, command: list[str], warm_s: float, window_s: float) -> tuple[float, float]:
    """CPU per request within a window of a run, us, and the TCP segments that both sides send for one."""
    with _running(command) as process:
        begin = server.requests()
        until = time.monotonic() + 20
        while server.requests() < begin + 500:
            if process.poll() is not None or time.monotonic() > until:
                assert process.stderr
                raise SystemExit(f"benchmark: {command[:2]} sent nothing: {process.stderr.read().decode()[-500:]}")
            time.sleep(0.05)
        time.sleep(warm_s)
        before, cpu, segments = server.requests(), _cpu_s(process.pid), _segments()
        time.sleep(window_s)
        after, cpu, segments = server.requests(), _cpu_s(process.pid) - cpu, _segments() - segments
    return cpu / (after - before) * 1e6, segments / (after - before)


def _surgeline(folder: Path, plan: dict[str, Any], *options: str) -> list[str]:
    """`surgeline run` of a plan, without the look at the target before."""
    file = folder / f"plan-{len(list(folder.glob('plan-*')))}.json"
    file.write_text(json.dumps(plan))
    command = [sys.executable, "-m", "surgeline", "run", str(file), "--no-preflight", "--no-abort", "--ui", "none"]
    return [*command, "--out", str(folder / "runs"), *options]


def _closed(url: str, steps: list[dict[str, Any]], users: int = CONNECTIONS, **more: Any) -> dict[str, Any]:
    stage = {"users": users, "for": f"{WARM_S + WINDOW_S + 30:g}s"}
    scenario = {"steps": steps, **more}
    return {"target": url, "scenarios": {"a": scenario}, "workload": {"model": "closed", "stages": [stage]}}


def _wrk(url: str, connections: int = CONNECTIONS) -> list[str]:
    return [_program("wrk"), "-t1", f"-c{connections}", f"-d{WARM_S + WINDOW_S + 30:g}s", url]


# --- cases ------------------------------------------------------------------------------------------------------------


def _against(
    result: Result, ours: Callable[[], float], peer: Callable[[], float], rounds: int, say: Callable[[str], None]
) -> Result:
    for number in range(rounds):
        measured = [ours, peer] if number % 2 == 0 else [peer, ours]
        values = {one: one() for one in measured}
        result.ours.append(values[ours])
        result.peer.append(values[peer])
        result.figures.append(values[ours] / values[peer])
        say(f"{values[ours]:.2f} : {values[peer]:.2f} = {result.figures[-1]:.3f}")
    return result


def _against_wrk(
    result: Result, server: Nginx, ours: list[str], url: str, rounds: int, say: Callable[[str], None]
) -> Result:
    return _against(result, lambda: _cost(server, ours), lambda: _cost(server, _wrk(url)), rounds, say)


def small(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """One request, 95 bytes of JSON, 32 connections."""
    url = f"http://127.0.0.1:{server.http}"
    result = Result("small", small.__doc__ or "", "us per request", 0.85, 1.0, peer_name="wrk")
    plan = _closed(url, [{"get": "/json"}])
    return _against_wrk(result, server, _surgeline(folder, plan), f"{url}/json", rounds, say)


def plan(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """A plan of 8 endpoints with templates, a feed, a status and a JSONPath check each, against one request of wrk."""
    url = f"http://127.0.0.1:{server.http}"
    rows = "\n".join(f"{number},term{number % 97}" for number in range(1000))
    (folder / "rows.csv").write_text(f"id,term\n{rows}\n")
    steps = [
        {
            "get": f"/part{number}/{{{{rows.id}}}}?q={{{{rows.term}}}}&n={{{{int(1, 1000)}}}}",
            "name": f"part {number}",
            "check": {"status": 200, "json": {"$.name": "surgeline"}},
        }
        for number in range(8)
    ]
    result = Result("plan", plan.__doc__ or "", "us per request", 1.2, 1.6, peer_name="wrk, one request")
    data = {**_closed(url, steps), "data": {"rows": {"file": "rows.csv"}}}
    return _against_wrk(result, server, _surgeline(folder, data), f"{url}/json", rounds, say)


def body(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """10 KiB of body, 32 connections."""
    url = f"http://127.0.0.1:{server.http}"
    result = Result("body", body.__doc__ or "", "us per request", 0.85, 1.0, peer_name="wrk")
    plan = _closed(url, [{"get": "/10k.bin"}])
    return _against_wrk(result, server, _surgeline(folder, plan), f"{url}/10k.bin", rounds, say)


def tls(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """95 bytes of JSON over TLS, 32 keep-alive connections."""
    url = f"https://127.0.0.1:{server.tls}"
    result = Result("tls", tls.__doc__ or "", "us per request", 0.95, 1.1, peer_name="wrk")
    plan = {**_closed(url, [{"get": "/json"}]), "insecure": True}
    return _against_wrk(result, server, _surgeline(folder, plan), f"{url}/json", rounds, say)


def http2(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """95 bytes of JSON over HTTP/2 and TLS, 4 connections of 10 streams."""
    url = f"https://127.0.0.1:{server.h2}"
    result = Result("http2", http2.__doc__ or "", "us per request", 1.0, 1.3, peer_name="h2load")
    plan = {**_closed(url, [{"get": "/json"}], 40), "insecure": True, "connection": {"http": "2", "streams": 10}}
    peer = [_program("h2load"), "-t1", "-c4", "-m10", f"-D{WARM_S + WINDOW_S + 30:g}", f"{url}/json"]
    return _against(result, lambda: _cost(server, _surgeline(folder, plan)), lambda: _cost(server, peer), rounds, say)


def connections(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """
    CPU per request at 10,000 connections against 100. Beside it what wrk, which keeps nothing, pays for the same, and
    how many TCP segments the two sides send for one of our requests: what waits for 40 ms, a request for the server
    or an answer for the generator, is acknowledged by itself, where otherwise the next message does it.
    """
    url = f"http://127.0.0.1:{server.http}"
    result = Result("connections", connections.__doc__ or "", "us per request", 1.2, 1.5, peer_name="100 connections")
    wrk, segments_many, segments_few = "wrk's own ratio", "segments a request at 10,000", "at 100"
    result.beside = {wrk: [], segments_many: [], segments_few: []}
    _enough_files(10_000)

    def cost(command: list[str], many: bool) -> tuple[float, float]:
        # Connecting takes its time; then a short window is enough, as many requests are in it.
        return _cost_and_segments(server, command, warm_s=4 if many else 1, window_s=4)

    for number in range(rounds):
        costs = {}
        for users in (10_000, 100) if number % 2 == 0 else (100, 10_000):
            plan = _closed(url, [{"get": "/json"}], users)
            costs[users] = cost(_surgeline(folder, plan), users > 100), cost(_wrk(f"{url}/json", users), users > 100)
        ((many, segments), (wrk_many, _)), ((few, segments_then), (wrk_few, _)) = costs[10_000], costs[100]
        result.ours.append(many)
        result.peer.append(few)
        result.figures.append(many / few)
        for name, value in zip(result.beside, (wrk_many / wrk_few, segments, segments_then), strict=True):
            result.beside[name].append(value)
        say(f"{many:.2f} : {few:.2f} = {many / few:.3f}; wrk {wrk_many:.2f} : {wrk_few:.2f} = {wrk_many / wrk_few:.3f}")
        say(f"TCP segments a request: {segments:.2f} : {segments_then:.2f}")
    return result


def paced(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """
    CPU per request at 10,000 connections against 100, both at 20,000 requests/s: users pause, so that the connections
    are all that differs. Peers that cannot pause have no such figure.
    """
    url = f"http://127.0.0.1:{server.http}"
    result = Result("paced", paced.__doc__ or "", "us per request", 1.2, 1.5, peer_name="100 connections")
    _enough_files(10_000)

    def cost(users: int) -> float:
        mean_ms = users / 20
        plan = _closed(url, [{"get": "/json"}], users, pacing=f"{mean_ms / 2:g}ms..{mean_ms * 3 / 2:g}ms")
        return _cost(server, _surgeline(folder, plan), warm_s=4, window_s=4)

    return _against(result, lambda: cost(10_000), lambda: cost(100), rounds, say)


def _enough_files(connections: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < connections + 1000:
        raise NotHere(f"a process here may open {most} files, {connections} connections need more")


def idle(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """Memory of a user that thinks: 10,000 users minus 100, over 9,900."""
    url = f"http://127.0.0.1:{server.http}"
    result = Result("idle", idle.__doc__ or "", "KiB per user", 4, 12)
    _enough_files(10_000)

    def held(users: int) -> float:
        plan = _closed(url, [{"get": "/json"}], users, think_time="5m")
        with _running(_surgeline(folder, plan)) as process:
            begin = server.requests()
            until = time.monotonic() + 30
            while server.requests() < begin + users and time.monotonic() < until:
                time.sleep(0.2)
            time.sleep(3)
            return float(sum(part.memory_full_info().pss for part in _tree(process.pid))) / 1024

    for _ in range(rounds):
        many, few = held(10_000), held(100)
        result.ours.append(many)
        result.peer.append(few)
        result.figures.append((many - few) / 9900)
        say(f"{many:.0f} - {few:.0f} KiB, {result.figures[-1]:.2f} a user")
    return result


def lag(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """Start lag p99 at 10,000 arrivals/s above that of a bare timer loop at the same rate, server on the other core."""
    result = Result("lag", lag.__doc__ or "", "us", 50, 300, peer_name="bare timer loop")
    loop = _example("timer_loop")
    plan = {
        "target": f"http://127.0.0.1:{server.http}",
        "scenarios": {"a": {"steps": [{"get": "/json"}]}},
        "workload": {"model": "open", "arrivals": "uniform", "stages": [{"rate": "10000/s", "for": "6s"}]},
    }

    def engine() -> float:
        root = folder / f"lag-{time.monotonic_ns()}"
        with _running([*_surgeline(folder, plan), "--out", str(root)]) as process:
            process.wait(60)
        (rows,) = root.glob("*/samples.parquet")
        late = "quantile_cont(start_ns - intended_ns, 0.99)"
        ((found,),) = _sql(f"SELECT {late} FROM '{rows}' WHERE start_ns >= 0 AND intended_ns > 1e9")
        return float(found) / 1000

    def bare() -> float:
        done = subprocess.run(
            [loop, "10000", "6"], capture_output=True, check=True, preexec_fn=lambda: _settle(GENERATOR_CORE)
        )
        return float(json.loads(done.stdout)["p99_ns"]) / 1000

    left_out = 0
    while len(result.figures) < rounds:
        ours, peer = engine(), bare()
        if peer > 1000:
            left_out += 1
            say(f"not judged: the bare loop's own p99 is {peer:.0f} us")
            if left_out > 3 * rounds:
                break
            continue
        result.ours.append(ours)
        result.peer.append(peer)
        result.figures.append(ours - peer)
        say(f"{ours:.0f} - {peer:.0f} = {ours - peer:.0f} us")
    return result


def freeze(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """
    A server that freezes 1 s in 5 s, 200 uniform arrivals/s, whole periods: the worst of p90, p99 and p99.9 against the
    truth, worked out for each request from when it was due and when the server answered it, by its own log, %. Beside
    it the same against the end of the freeze, without what the server takes for the requests that piled up.
    """
    del server
    result = Result("freeze", " ".join((freeze.__doc__ or "").split()), "%", 0.5, 2.0)
    until_the_end = result.beside.setdefault("against the end of the freeze", [])
    for _ in range(rounds):
        place = folder / f"freeze-{time.monotonic_ns()}"
        place.mkdir()
        with subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "targets" / "freezing.py"), str(place / "log")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: _settle(SERVER_CORE),
        ) as target:
            assert target.stdin and target.stdout
            plan = {
                "target": f"http://127.0.0.1:{int(target.stdout.readline())}",
                "data": {"ids": {"file": "ids.csv"}},
                "scenarios": {"a": {"steps": [{"get": "/{{ids.n}}", "name": "GET /"}]}},
                "workload": {"model": "open", "arrivals": "uniform", "stages": [{"rate": "200/s", "for": "25s"}]},
            }
            (place / "ids.csv").write_text("\n".join(["n", *map(str, range(6000))]))
            with _running([*_surgeline(place, plan), "--out", str(place / "runs")]) as process:
                process.wait(90)
            target.stdin.close()
            target.wait(20)
        (run,) = (place / "runs").glob("*/run.json")
        begin = json.loads(run.read_text())["clock"]["monotonic_ns"]
        freezes = [[int(part) - begin for part in line.split()] for line in (place / "log").read_text().splitlines()]
        answers = (line.split() for line in (place / "log.answers").read_text().splitlines())
        answered = {path: int(at) - begin for path, at in answers}
        rows = _sql(f"SELECT url, intended_ns, end_ns - intended_ns FROM '{run.parent / 'samples.parquet'}'")
        seen = [response for _, _, response in rows]
        off = _off(seen, [answered[urlsplit(url).path] - due for url, due, _ in rows])
        plain = [next((end - due for start, end in freezes if start <= due < end), 0) for _, due, _ in rows]
        result.figures.append(max(off))
        result.ours.append(max(off))
        until_the_end.append(max(_off(seen, plain)))
        say(f"p90, p99, p99.9 off by {off[0]:.3f}, {off[1]:.3f}, {off[2]:.3f} %; {until_the_end[-1]:.3f} {result.unit}")
    return result


def _off(seen: list[int], truth: list[int]) -> list[float]:
    """By how much p90, p99 and p99.9 of what was seen differ from those of the truth, %."""
    seen, truth = sorted(seen), sorted(truth)
    places = [min(len(truth) - 1, -(-int(q * 1000) * len(truth) // 1000) - 1) for q in (0.9, 0.99, 0.999)]
    return [abs(seen[place] / truth[place] - 1) * 100 for place in places]


def start(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None]) -> Result:
    """`surgeline run plan.json` from its start to the first connection, without preflight."""
    del server
    result = Result("start", start.__doc__ or "", "ms", 250, 500)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plan = _closed(f"http://127.0.0.1:{listener.getsockname()[1]}", [{"get": "/"}], users=1)
        for number in range(rounds + 1):
            command = _surgeline(folder, plan)
            begin = time.monotonic()
            with _running(command):
                connection, _ = listener.accept()
                took = (time.monotonic() - begin) * 1000
                connection.close()
            listener.settimeout(0.3)
            try:
                while True:
                    listener.accept()[0].close()
            except TimeoutError:
                listener.settimeout(30)
            if number:  # the first one also compiles what Python has not seen yet
                result.figures.append(took)
                result.ours.append(took)
                say(f"{took:.0f} ms")
    return result


def soak(server: Nginx, folder: Path, rounds: int, say: Callable[[str], None], minutes: float = 10) -> Result:
    """10 minutes at 20,000 requests/s with windows and rows: growth of resident memory after minute 1, %."""
    result = Result("soak", soak.__doc__ or "", "%", 0, 5)
    plan = {
        "target": f"http://127.0.0.1:{server.http}",
        "scenarios": {"a": {"steps": [{"get": "/json"}]}},
        "workload": {"model": "open", "stages": [{"rate": "20000/s", "for": f"{minutes:g}m"}]},
    }
    with _running(_surgeline(folder, plan)) as process:
        begin, readings = time.monotonic(), []
        while process.poll() is None and (at := time.monotonic() - begin) < 60 * minutes - 2:
            readings.append((at, sum(part.memory_info().rss for part in _tree(process.pid))))
            time.sleep(2)
    after = [size for at, size in readings if 60 <= at < 75]
    last = [size for at, size in readings if at > readings[-1][0] - 15]
    growth = (statistics.median(last) / statistics.median(after) - 1) * 100
    result.ours = [size / 2**20 for _, size in readings[::15]]
    result.figures = [growth]
    say(f"{statistics.median(after) / 2**20:.1f} MiB after a minute, {statistics.median(last) / 2**20:.1f} at the end")
    return result


def _sql(query: str) -> list[tuple[Any, ...]]:
    found = duckdb.sql(query)
    assert found is not None, query
    return found.fetchall()


def _example(name: str) -> str:
    cargo = _program("cargo")
    build = [cargo, "build", "--quiet", "--release", "--locked", "-p", "surgeline-engine", "--example", name]
    subprocess.run(build, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return str(target / "release" / "examples" / name)


CASES: dict[str, Callable[[Nginx, Path, int, Callable[[str], None]], Result]] = {
    "small": small,
    "plan": plan,
    "body": body,
    "tls": tls,
    "http2": http2,
    "connections": connections,
    "paced": paced,
    "idle": idle,
    "lag": lag,
    "freeze": freeze,
    "start": start,
    "soak": soak,
}


def _say(case: str, text: str) -> None:
    print(f"{case}: {text}", flush=True)


def _machine() -> dict[str, Any]:
    from surgeline import __version__

    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": len(CORES),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "surgeline": __version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    """Measure the cases that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all but soak by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    if unknown := set(wanted.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if len(CORES) < 2:
        print("benchmark: server and generator need a core each, here is one", file=sys.stderr)
        return 2
    wanted.results.mkdir(exist_ok=True)
    code = 0
    for name in wanted.cases or [case for case in CASES if case != "soak"]:
        with tempfile.TemporaryDirectory() as place:
            try:
                server = Nginx(Path(place))
            except NotHere as error:
                print(f"benchmark: {error}", file=sys.stderr)
                return 2
            try:
                load = os.getloadavg()[0]
                result = CASES[name](server, Path(place), wanted.rounds, partial(_say, name))
            except NotHere as error:
                print(f"{name}: left out, {error}", file=sys.stderr)
                code = 2
                continue
            finally:
                server.stop()
        row = {**result.row(), "load_average_before": round(load, 2), "machine": _machine()}
        (wanted.results / f"{name}.json").write_text(json.dumps(row, indent=1) + "\n")
        print(f"{name}: median {row['median']:.3f} (goal {result.goal:g}, at least {result.least:g})", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
