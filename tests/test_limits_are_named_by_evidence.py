"""The kind of limit is named from what was measured: status, waiting, CPU of the served process and of its machine."""

from dataclasses import replace

import pytest

from scripted_runs import MS, open_plan, summary_of
from surgeline.analysis import limits
from surgeline.analysis.capacity import saturation
from surgeline.analysis.model import Limit, Saturation, ServerHealth, Summary
from surgeline.engines import scripted
from surgeline.findings import judge
from surgeline.report.document import result_document


@pytest.fixture(scope="module")
def overrun() -> Summary:
    """A pool of four places, 200/s, offered 50, 150 and 400 per second."""
    return summary_of(open_plan((50, 150, 400), "12s"), scripted.pool(4, 20 * MS))


def named(
    summary: Summary, own: float | None, machine: float | None, processes: int = 1, cores: int = 2
) -> Limit | None:
    """The kind of limit where the process used `own` cores and its machine `machine`, at every load alike."""
    stages = [replace(stage, server_cpu=own, machine_cpu=machine) for stage in summary.stages]
    server = (
        None if own is None else ServerHealth("", processes, cores, own, own, machine, None, None, None, None, None)
    )
    return limits.kind(stages, summary.errors, server, None, saturation(stages))


@pytest.mark.parametrize(
    ("own", "machine", "processes", "cores", "kind"),
    [
        (0.97, 1.2, 1, 8, "CPU"),  # one process with one interpreter, full
        (3.6, 3.9, 4, 4, "CPU"),  # four of them on four cores
        (1.2, 1.98, 4, 2, "CPU"),  # the machine is full, with the generator's help
        (0.10, 0.6, 1, 2, "pool or lock"),
        (0.45, 1.0, 1, 8, "pool or lock"),
        (0.30, 0.9, 4, 4, "pool or lock"),
    ],
)
def test_waiting_with_and_without_cpu_to_spare_is_told_apart(
    overrun: Summary, own: float, machine: float, processes: int, cores: int, kind: str
):
    """Full CPU is the limit; waiting while the process leaves it unused is a pool or a lock; the numbers are said."""
    found = named(overrun, own, machine, processes, cores)
    assert found is not None
    assert found.kind == kind
    assert f"{own:.2f}" in found.evidence


@pytest.mark.parametrize(("machine", "said"), [(1.99, True), (1.7, False)])
def test_a_pool_on_a_machine_that_others_fill_is_doubted(overrun: Summary, machine: float, said: bool):
    """Where other programs had the cores, what a process waited for may have been a core."""
    found = named(overrun, 0.1, machine)
    assert found is not None
    assert found.kind == "pool or lock"
    assert ("with other programs" in found.evidence) == said


def test_what_was_not_seen_is_not_named(overrun: Summary):
    """Without the process, CPU, pool and lock cannot be told apart, and the page says so."""
    found = named(overrun, None, None)
    assert found is not None
    assert found.kind == "unknown"
    assert "not seen" in found.evidence


def test_a_rate_limiter_is_named_whatever_the_cpu_does():
    """What is turned away with 429 is a limiter, also where the CPU is full."""
    turned_away = scripted.failing_above(scripted.pool(4, 20 * MS), 10, 429)
    summary = summary_of(open_plan((50, 150, 400), "12s"), turned_away)
    stages = [replace(stage, server_cpu=0.99, machine_cpu=2.0) for stage in summary.stages]
    found = limits.kind(stages, summary.errors, None, None, saturation(stages))
    assert found is None or found.kind == "rate limiter"


def test_a_run_that_met_no_limit_names_none():
    """Where throughput followed the load there is nothing to name, and the document holds null."""
    summary = summary_of(open_plan((50, 100), "12s"), scripted.pool(8, 10 * MS))
    assert summary.limit is None
    assert result_document(summary, judge(summary))["limit"] is None


@pytest.mark.parametrize(("bunched", "said"), [(0.0, False), (0.1, False), (0.5, True), (None, False)])
def test_a_generator_that_sent_bunches_is_said_beside_a_rate_limiter(bunched: float | None, said: bool):
    """A limiter turns more of a bunch away than of the same arrivals sent evenly, so its rate is doubtful then."""
    turned_away = scripted.failing_above(scripted.pool(2, 20 * MS), 4, 429)
    summary = summary_of(open_plan((50, 400), "12s"), turned_away)
    stages = [replace(stage, bunched=bunched) for stage in summary.stages]
    last = stages[-1].index
    found = limits.kind(
        stages, summary.errors, None, None, Saturation(True, 1.0, 1.0, 1.0, 0, last, 0.0, (last,), False)
    )
    assert found is not None and found.kind == "rate limiter"
    assert ("bunch" in found.evidence) == said
