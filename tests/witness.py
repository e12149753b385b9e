"""Whether this machine had cores to spare while a test measured time.

A witness is a process that sleeps a millisecond at a time and notes how late it wakes. What keeps the measured ones
waiting, a limit of the container or the host of a virtual machine, keeps it waiting too. Other programs may leave it a
core and take the one that is measured on: how much of all cores was used by others is asked as well.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

LATE_MS = 1.0
"""A witness that is later than this one time in a hundred was kept from a core; undisturbed it is late by a tenth."""
OTHERS = 0.05
"""Others may use this much of what all cores can do: what a machine does that nobody uses is a fifth of it."""

_WITNESS = """
import select, sys, time
late = []
print("up", flush=True)
while True:
    begin = time.monotonic_ns()
    if select.select([sys.stdin], [], [], 0.001)[0]:
        break
    late.append(time.monotonic_ns() - begin - 1_000_000)
print(sorted(late)[len(late) * 99 // 100] / 1e6 if late else 0.0)
"""


class Witness:
    """Watches while a block measures; then `judging` is the block that judges what was measured."""

    late_ms = 0.0
    """One time in a hundred it woke later than this."""
    others = 0.0
    """What others took of all cores, 0 to 1."""

    def __enter__(self) -> Self:
        self._witness = subprocess.Popen(
            [sys.executable, "-c", _WITNESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._witness.stdout is not None
        self._witness.stdout.readline()
        self._begun_s, self._others_s = time.monotonic(), _others_s()
        return self

    def __exit__(self, *_: object) -> None:
        said, _ = self._witness.communicate(timeout=60)
        self.late_ms = float(said)
        took_s = time.monotonic() - self._begun_s
        self.others = (_others_s() - self._others_s) / took_s / (os.cpu_count() or 1)

    @contextmanager
    def judging(self) -> Iterator[None]:
        """
        What fails in this block fails the test, unless the machine was kept busy by others: then nothing can be told of
        times, and the test is skipped and says by how much. What holds at any speed is no matter of this block.
        """
        try:
            yield
        except AssertionError:
            if self.late_ms <= LATE_MS and self.others <= OTHERS:
                raise
            pytest.skip(
                f"others use this machine: they took {self.others:.0%} of all cores meanwhile, and who slept for 1 ms "
                f"woke more than {self.late_ms:.1f} ms late one time in a hundred"
            )


def _others_s() -> float:
    """CPU time of all processes of this machine but this one and the children that it has waited for, s."""
    try:
        user, nice, system, _, _, *more = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except (OSError, ValueError):
        return 0.0
    ticks = sum(map(int, (user, nice, system, *more)))  # those more are interrupts, and what the host took
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return ticks / os.sysconf("SC_CLK_TCK") - sum(used.ru_utime + used.ru_stime for used in own)
