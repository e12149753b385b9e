"""Stored runs for the tests of commands: the scripted engine plays a server, the runner stores what it measured."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripted_runs import MS, open_plan
from surgeline import runner
from surgeline.cli import main
from surgeline.cli.live import Silent
from surgeline.engines import scripted
from surgeline.plan.model import Plan
from surgeline.runner import Order, Turn
from surgeline.store.rundir import Run


def order_of(root: Path, median_ms: float = 20, seed: int = 1, plan: Plan | None = None, errors: float = 0.0) -> Order:
    """An order for a scripted server with that median."""
    plan = plan or open_plan((300,), "4s")
    server = scripted.lognormal(round(median_ms * MS), 0.25, seed)
    if errors:
        server = scripted.failing_share(server, errors, seed=seed)
    return Order(
        subject=plan,
        source={"kind": "plan", "location": "plan.yaml"},
        name="shop",
        engine=scripted.Scripted(server),
        root=root,
        workload=plan.load(),
    )


def series(root: Path, medians: Sequence[float], group: str, side: str = "a", seed: int = 1, **more: Any) -> list[Run]:
    """One run after the other, kept as one side of a series."""
    turns = [Turn(order_of(root, median, seed + i, **more), side, i) for i, median in enumerate(medians)]
    return [done.run for done in carried_out(turns, group)]


def carried_out(turns: Sequence[Turn], group: str, spacing: runner.Spacing | None = None) -> list[runner.Finished]:
    """The turns as a series, watched by nobody."""

    @contextlib.contextmanager
    def nobody(number: int, turn: Turn) -> Iterator[Silent]:
        del number, turn
        yield Silent()

    place = {"group": group, "kind": "ab"}
    return runner.carry_out_series(turns, place, spacing or runner.Spacing(), nobody, threading.Event())


def surgeline(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """What a command line ends in: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err
