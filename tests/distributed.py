"""A master and its workers as child processes, on this machine or in network namespaces of their own."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from surgeline.store.rundir import Run

CLI = (sys.executable, "-m", "surgeline")


@dataclass
class Started:
    """A command of ours that runs, and where it says what."""

    process: "subprocess.Popen[bytes]"
    said: Path

    def ended(self, timeout_s: float = 90.0) -> int:
        """Its exit code."""
        return self.process.wait(timeout_s)

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self.said.read_text(errors="replace")

    def says(self, text: str, timeout_s: float = 60.0) -> None:
        """Waits until it has said something."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            assert self.process.poll() is None or text in self.text, f"it ended:\n{self.text}"
            assert time.monotonic() < deadline, f"it never said {text!r}:\n{self.text}"
            time.sleep(0.05)

    def locusts(self) -> list[psutil.Process]:
        """The processes of stock Locust that belong to it."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [
            p for p in family if "surgeline.locust.launch" in p.cmdline() and "warden.py" not in " ".join(p.cmdline())
        ]


@dataclass
class Troupe:
    """What a test starts; all of it is gone at the end, and what is not is a failure."""

    place: Path
    started: list[Started] = field(default_factory=list)

    def __enter__(self) -> "Troupe":
        return self

    def __exit__(self, *_: object) -> None:
        family: list[psutil.Process] = []
        for one in self.started:
            if one.process.poll() is None:
                family += psutil.Process(one.process.pid).children(recursive=True)
                one.process.send_signal(signal.SIGKILL)
                one.process.wait(10)
        psutil.wait_procs(family, timeout=15)
        for one in self.started:  # pytest shows it where the test fails: what one of them says is the other one's doing
            print(f"--- {one.said.name} (exit code {one.process.returncode})\n{one.text}")

    def start(
        self, *arguments: str, inside: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> Started:
        """Starts a surgeline command, perhaps inside of something."""
        return self.run([*CLI, *arguments], inside=inside, environment=environment)

    def run(
        self, command: Sequence[str], inside: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> Started:
        """Starts any command."""
        said = self.place / f"said-{len(self.started)}.txt"
        with open(said, "wb") as file:
            process = subprocess.Popen(
                [*inside, *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.place,
                env={**os.environ, "COLUMNS": "400", **(environment or {})},
            )
        started = Started(process, said)
        self.started.append(started)
        return started


@dataclass
class Network:
    """Machines that are network namespaces: 10.77.0.1 and on, joined by a bridge in the first."""

    name: str
    machines: int = 0

    def __enter__(self) -> "Network":
        self._first = self._machine()
        self._ip("-n", self._first, "link", "add", "bridge", "type", "bridge")
        self._ip("-n", self._first, "addr", "add", "10.77.0.1/24", "dev", "bridge")
        self._ip("-n", self._first, "link", "set", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for number in range(1, self.machines + 1):
            subprocess.run(["ip", "netns", "del", f"{self.name}{number}"], check=False, capture_output=True)

    def _machine(self) -> str:
        name = f"{self.name}{self.machines + 1}"
        self._ip("netns", "add", name)
        self.machines += 1
        self._ip("-n", name, "link", "set", "lo", "up")
        return name

    def machine(self) -> tuple[str, list[str]]:
        """One more: its address, and what a command is run inside of to be there."""
        name = self._machine()
        address, port = f"10.77.0.{self.machines}", f"port{self.machines}"
        ends = ["type", "veth", "peer", "name", "eth0", "netns", name]
        self._ip("link", "add", port, "netns", self._first, *ends)
        self._ip("-n", self._first, "link", "set", port, "master", "bridge", "up")
        self._ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        self._ip("-n", name, "link", "set", "eth0", "up")
        return address, ["ip", "netns", "exec", name]

    def plug(self, inside: list[str], how: str) -> None:
        """Takes a machine off the network (`down`), or puts it back (`up`)."""
        self._ip("-n", inside[-1], "link", "set", "eth0", how)

    @property
    def first(self) -> tuple[str, list[str]]:
        """The machine with the bridge."""
        return "10.77.0.1", ["ip", "netns", "exec", self._first]

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _ports() -> Iterator[int]:
    """Ports that the system gives to nobody by itself, in an order that no other process of the tests goes by."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        lowest = 32768
    first = 10_000 if lowest > 12_000 else 1024
    order = list(range(first, max(lowest, first + 2000)))
    random.SystemRandom().shuffle(order)  # `random` itself begins alike in every process and every test
    yield from order


_PORTS = _ports()


def free_port() -> str:
    """
    A port that nobody listens on now, and that nobody gets by chance until it is listened on: no connection that goes
    out and no server that asks for any port has one of these.
    """
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return str(port)
    raise AssertionError("every port is taken")


def the_run(place: Path) -> Run:
    """The one run that is kept there."""
    (found,) = (path for path in (place / "surgeline-runs").iterdir() if (path / "run.json").exists())
    return Run(found)


def events_of(run: Run, kind: str) -> list[dict[str, Any]]:
    """The events of a kind."""
    events = map(json.loads, (run.path / "events.jsonl").read_text().splitlines())
    return [event for event in events if event["kind"] == kind]
