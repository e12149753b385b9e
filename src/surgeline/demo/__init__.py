"""The demo: a bookshop with planted faults, and the plan that finds them.

What leaves is a running shop (`start_shop`) and a plan for its address (`plan_text`). The shop itself, `demo.shop`, is
a process of its own; which faults it has is written in `demo.shop.faults` alone.
"""

import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType

READY_WITHIN_S = 60.0
"""How long a shop may take to open: it makes its databases first, on a slow disk too."""
STOP_WITHIN_S = 10.0
"""How long a shop may take to close before it is killed."""

_TARGET = "target: http://127.0.0.1:8001"
_STAGE = "for: 8s"


class ShopError(Exception):
    """The shop did not open. The message is one sentence that ends with what the shop said itself."""


@dataclass(slots=True)
class Shop:
    """A shop that is open. As a context manager it closes at the end of the block.

    `url` is its address, `pid` its process, `faults` the ids of the planted faults that are on, sorted.
    """

    url: str
    pid: int
    faults: tuple[str, ...]
    _process: subprocess.Popen[bytes] = field(repr=False)

    def stop(self) -> None:
        """Closes the shop; requests in flight get 3 s. Does nothing to a shop that is closed."""
        _stop(self._process)

    def __enter__(self) -> "Shop":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_shop(faults: str, data_dir: Path, access_log: Path | None = None) -> Shop:
    """Opens a shop on a free loopback port and waits until it listens.

    `faults` is `all`, `none`, `default` or ids with commas between; `data_dir` holds its databases and may be empty;
    `access_log` is the file for one JSON line per request. The shop closes by itself when this process ends, however it
    ends. Raises ShopError when it does not open.
    """
    command = [sys.executable, "-m", "surgeline.demo.shop", "--port", "0", "--faults", faults]
    command += ["--data", str(data_dir), "--stop-with-stdin"]
    if access_log:
        command += ["--access-log", str(access_log)]
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
        too_long = threading.Timer(READY_WITHIN_S, process.kill)
        too_long.start()
        try:
            line = process.stdout.readline() if process.stdout else b""
        except BaseException:
            _stop(process)
            raise
        finally:
            too_long.cancel()
        if not line:
            _stop(process)
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip().splitlines()
            raise ShopError(f"the bookshop did not open: {said[-1] if said else 'it said nothing'}")
    ready = json.loads(line)
    return Shop(ready["url"], ready["pid"], tuple(ready["faults"]), process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def plan_text(target: str, stage: str = "8s") -> str:
    """The demo's plan for the shop at `target`, each of its stages `stage` long."""
    text = resources.files(__name__).joinpath("plan.yaml").read_text("utf-8")
    return text.replace(_TARGET, f"target: {target}").replace(_STAGE, f"for: {stage}")
