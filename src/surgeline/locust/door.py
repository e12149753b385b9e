"""`surgeline locust`: stock Locust with exactly its own flags, and a run directory when it has ended.

Locust runs in a child process, in the terminal's own process group: its keys, its web page and Ctrl-C are as they are
without us. The child closes and reports its runs itself (`finish`), one for each test that was started in it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surgeline.locust.plans import AUTHORIZED
from surgeline.locust.swap import CLIENT, CLIENTS

COMMAND = (sys.executable, "-P", "-m", "surgeline.locust.launch")
"""Stock Locust with the plugin. `-P`: Locust itself decides what is on the path, as its own command does."""
DOOR = "SURGELINE_LOCUST_DOOR"
"""Environment variable: `1` in the process that this one starts, which ends when this one is gone."""


def main(arguments: Sequence[str]) -> int:
    """Runs Locust with these arguments and returns its exit code; 128 and the number where a signal ended it."""
    try:
        rest, client = _client([word for word in arguments if word != "--authorized"])
    except ValueError as error:
        sys.stderr.write(f"surgeline: {error}\n")
        return 2
    own = {DOOR: "1"} | ({CLIENT: client} if client else {})
    if "--authorized" in arguments:
        own[AUTHORIZED] = "1"
    environment = {**os.environ, **own}
    with _signals_go_to_the_child() as children:
        child = subprocess.Popen([*COMMAND, *rest], env=environment)
        children.append(child)
        code = child.wait()
    return code if code >= 0 else 128 - code


def _client(arguments: list[str]) -> tuple[list[str], str]:
    """Takes `--client NAME`, an option of ours, out of Locust's; empty where it is not there."""
    client = ""
    rest = []
    words = iter(arguments)
    for word in words:
        if word == "--client" or word.startswith("--client="):
            client = word.partition("=")[2] if "=" in word else next(words, "")
            if client not in CLIENTS:
                raise ValueError(f"--client is stock or native, not {client!r}")
        else:
            rest.append(word)
    return rest, client


@contextmanager
def _signals_go_to_the_child() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """While this lasts, SIGINT is left to the child, who gets it from the terminal too, and SIGTERM is passed on."""
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: Any) -> None:
        for child in children:
            child.send_signal(number)

    before = {}
    try:
        # Handlers, unlike SIG_IGN, do not outlive exec: the child starts with the system's.
        before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, pass_on)
    except ValueError:
        pass  # not the main thread: signals do not arrive here anyway
    try:
        yield children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(path: Path, at_ns: int) -> int:
    """Closes a run that Locust made and writes its pages; the exit code of the process that does it."""
    from surgeline.store.errors import StoreError
    from surgeline.store.rundir import Run, RunDirectory

    try:
        with RunDirectory.hold(path) as directory:
            directory.close("finished", "", at_ns)
        from surgeline.runner import conclude

        run = Run(path)
        if run.measurement().counts:
            conclude(run)
    except StoreError as error:
        sys.stderr.write(f"surgeline: {error}\n")
        return 1
    sys.stderr.write(f"surgeline: the run is in {path}; `surgeline report {path.name}` shows it\n")
    return 0
