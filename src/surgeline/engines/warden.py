"""A process between ours and Locust's that lets nothing survive.

    python warden.py LEASH PATIENCE_S command …

It starts the command in a process group of its own and holds one end of a pipe, the leash. `T` on the leash asks the
group to end, `K` kills it, `U` asks who in it stands still (by SIGURG, which whoever is not asked ignores); when the
leash breaks because its owner is gone, however that came about, the group is asked and then killed. When the command
ends by itself, what it left behind is ended too. The exit code is the command's, or 128 and the number of the signal
that ended it. Runs as a script, with the standard library alone.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Runs the command until it and all it started are gone."""
    leash, patience_s, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    os.set_inheritable(leash, False)
    prctl = _prctl()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the command leaves behind becomes our child, so that we see it end
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, lambda *_: None)  # a handler, not SIG_IGN, which the command would inherit

    def die_with_the_warden() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))

    child = subprocess.Popen(
        command,
        process_group=0,
        close_fds=False,
        preexec_fn=die_with_the_warden,  # this process has one thread, for which it is safe
    )
    code = _watch(child, leash, wake, patience_s)
    _sweep(child.pid, patience_s)
    return code if code >= 0 else 128 - code


def _watch(child: "subprocess.Popen[bytes]", leash: int, wake: int, patience_s: float) -> int:
    """The exit code of the child, once it has one; does what the leash says until then."""
    held = [leash, wake]
    deadline: float | None = None
    while (code := child.poll()) is None:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        ready, _, _ = select.select(held, [], [], left)
        if deadline is not None and time.monotonic() >= deadline:
            _signal(child.pid, signal.SIGKILL)
            deadline = None
        if wake in ready:
            os.read(wake, 4096)
        if leash in ready:
            words = os.read(leash, 4096)
            if not words:
                held.remove(leash)
            if b"U" in words:
                _signal(child.pid, signal.SIGURG)
            if b"K" in words:
                _signal(child.pid, signal.SIGKILL)
            elif (b"T" in words or not words) and deadline is None:
                _signal(child.pid, signal.SIGTERM)
                deadline = None if words else time.monotonic() + patience_s
    return code


def _sweep(group: int, patience_s: float) -> None:
    """Ends what is left of the group, and reaps it."""
    deadline = time.monotonic() + patience_s
    number = int(signal.SIGTERM)
    while _signal(group, number):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] > 0:
                pass
        time.sleep(0.02)
        number = int(signal.SIGKILL) if time.monotonic() >= deadline else 0


def _signal(group: int, number: int) -> bool:
    """Whether there is anybody left in the group to have got it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _prctl() -> Callable[[int, int], Any]:
    """The system call of that name; nothing where there is none (it is Linux's)."""
    try:
        call = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return lambda *_: None
    return lambda option, value: call(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
