"""Simulated runs for the tests of comparisons, gates and trends: figures without servers, by a formula and a seed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from surgeline.analysis.figures import Cell, Leg, RunFigures, Seen

Array = np.ndarray[Any, np.dtype[Any]]
MACHINE = {"cpu": "simulated", "cores": 2, "cores_usable": 2, "architecture": "x", "memory_bytes": 8_000_000_000}


def buckets(values: Array) -> tuple[Array, Array]:
    """The histogram of some times."""
    whole = values.astype(np.int64)
    shift = np.maximum(np.floor(np.log2(np.maximum(whole, 1))).astype(np.int64) - 10, 0)
    index, count = np.unique((whole >> shift) + 1024 * shift, return_counts=True)
    return index, count


def a_run(
    name: str = "2026-11-23-sim-001",
    seed: int = 1,
    factor: float = 1.0,
    noise: float = 0.02,
    endpoints: Sequence[str] = ("GET /a", "POST /b"),
    count: int = 3000,
    errors: float = 0.0,
    change: Callable[[str, Array], Array] = lambda name, times: times,
    findings: Sequence[Seen] = (),
    together: Sequence[str] = (),
    **meta: Any,
) -> RunFigures:
    """A run whose endpoints are lognormal around 20 ms times `factor`, with a luck of its own."""
    dice = np.random.default_rng(seed)
    luck = float(np.exp(noise * dice.standard_normal()))
    cells = []
    for endpoint in (*endpoints, *together):
        times = change(endpoint, 20e6 * np.exp(0.4 * dice.standard_normal(count)) * luck * factor)
        bad = round(errors * count)
        index, counts = buckets(times[bad:])
        cells.append(Cell(0, endpoint, count, bad, index, counts))
    known: dict[str, Any] = {
        "id": name,
        "name": "sim",
        "engine": "native",
        "started_at": f"2026-11-23T06:{seed % 60:02d}:00Z",
        "subject": {"kind": "plan", "hash": "abc"},
        "environment": {"machine": MACHINE, "generator_shares_machine": False},
        "stages": [{"model": "open", "from": 300.0, "to": 300.0, "duration_ns": 10**10}],
        "git": {"commit": f"c{seed:07d}", "dirty": False},
        "versions": {"surgeline": "0.1.0"},
        "ended": {"at_ns": 10**10, "reason": ""},
        "series": None,
        **meta,
    }
    leg = Leg(0, "300/s", 10.0, True, "valid")
    load = "open model, 300/s for 10 s"
    beside = tuple(cells[len(endpoints) :])
    cells = cells[: len(endpoints)]
    return RunFigures(
        known, "open", load, "valid", (), False, (leg,), tuple(cells), {}, None, tuple(findings), 1.0, together=beside
    )


def a_side(letter: str, runs: int = 5, first_seed: int = 1, group: str | None = None, **more: Any) -> list[RunFigures]:
    """Several runs of one side; with `group` they are blocks of an interleaved series."""
    made = []
    for number in range(runs):
        series = None
        if group:
            first = number % 2 == (letter == "a")
            series = {"group": group, "kind": "ab", "side": letter, "block": number, "order": 2 * number + first}
        made.append(a_run(f"2026-11-23-sim-{letter}{number:02d}", first_seed + number, series=series, **more))
    return made
