"""What did the server run out of: CPU, a pool or lock, or was it a rate limiter, or the generator?

Only what was measured counts as evidence: the status of the answers that went wrong, how long they took, and the CPU of
the served process where it could be seen. A limit of which nothing but its effect was seen stays *unknown*.
"""

from collections.abc import Sequence

import numpy as np

from surgeline import units
from surgeline.analysis.capacity_search import Capacity
from surgeline.analysis.model import ErrorGroup, Limit, Saturation, ServerHealth, StageFigures

LIMITER_STATUS = 429
LIMITER_SHARE = 0.8
"""Of what went wrong at the limit must have been turned away, for a rate limiter to be named."""
CPU_FULL = 0.85
"""Of a core per process, or of the whole machine: what schedulers and clients on the same machine leave of it."""
MACHINE_FULL = 0.92
"""Of all cores, for the machine itself to be what is short where the served process has a good part of it."""
CPU_IDLE = 0.75
"""Below this share of a core per process, and of the machine, CPU is not what is short."""
BUNCHED = 0.2
"""From this share of seconds on with a stall of the generator, a limiter that allows small bursts only turned away
clearly more than at the same rate sent evenly: simulated, capacity comes out up to a fifth low."""
WAITING = 1.5
"""Response time must have grown by this much for waiting to be the limit."""


def kind(
    stages: Sequence[StageFigures],
    errors: Sequence[ErrorGroup],
    server: ServerHealth | None,
    found: Capacity | None,
    saturated: Saturation | None,
) -> Limit | None:
    """The kind of limit that a run met; None where it met none."""
    if found is not None and found.stopped == "generator":
        return Limit("generator", found.generator)
    beyond = _beyond(stages, found, saturated)
    if not beyond:
        return None
    limiter = _limiter(beyond, errors)
    if limiter is not None:
        return limiter
    calm = _calm(stages)
    if calm is not None and not _waited(calm, beyond):
        return Limit("unknown", "response times did not grow with the load, so nothing seems to be waited for")
    return _by_cpu(beyond, server)


def _beyond(stages: Sequence[StageFigures], found: Capacity | None, saturated: Saturation | None) -> list[StageFigures]:
    """The stages in which the limit was met, the clearest last."""
    valid = [stage for stage in stages if stage.validity != "invalid" and stage.total.tally.judged]
    if found is not None:
        failed = {tried.index for tried in found.tried if tried.role not in ("settle", "floor") and not tried.passed}
        return sorted((stage for stage in valid if stage.index in failed), key=lambda stage: stage.end)
    if saturated is not None and saturated.reached:
        return sorted((stage for stage in valid if stage.index in saturated.stages), key=lambda stage: stage.end)
    return []


def _limiter(beyond: Sequence[StageFigures], errors: Sequence[ErrorGroup]) -> Limit | None:
    indices = {stage.index for stage in beyond}
    bad = sum(stage.total.tally.bad for stage in beyond)
    refused = sum(
        count
        for group in errors
        if group.status == LIMITER_STATUS
        for index, count in group.by_stage.items()
        if index in indices
    )
    if not refused or refused < LIMITER_SHARE * bad:
        return None
    rates = [stage.total.goodput_per_s or 0.0 for stage in beyond]
    share = units.format_ratio(refused / bad)
    passed = units.format_rate(max(rates))
    evidence = f"{share} of what went wrong was turned away with 429, and {passed} came through"
    bunched = float(np.mean([stage.bunched or 0.0 for stage in beyond]))
    if bunched >= BUNCHED:
        evidence += (
            f"; in {units.format_ratio(bunched)} of the seconds the generator stalled and sent in a bunch, "
            "of which a limiter turns more away"
        )
    return Limit("rate limiter", evidence)


def _calm(stages: Sequence[StageFigures]) -> StageFigures | None:
    valid = [stage for stage in stages if stage.validity != "invalid" and stage.total.response.mean_ns]
    return min(valid, key=lambda stage: max(stage.start, stage.end), default=None)


def _waited(calm: StageFigures, beyond: Sequence[StageFigures]) -> bool:
    most = max((stage.total.response.mean_ns or 0.0) for stage in beyond)
    return most > WAITING * (calm.total.response.mean_ns or 0.0) or any(stage.total.tally.timeout for stage in beyond)


def _by_cpu(beyond: Sequence[StageFigures], server: ServerHealth | None) -> Limit:
    used = [stage.server_cpu for stage in beyond if stage.server_cpu is not None]
    machine = [stage.machine_cpu for stage in beyond if stage.machine_cpu is not None]
    if server is None or not used:
        return Limit("unknown", "the served process was not seen, so CPU, pool and lock cannot be told apart")
    most = max(used)
    cores = float(server.cores or 1)
    processes = float(max(server.processes, 1))
    whole = max(machine, default=0.0)
    of = f"{units.format_ratio(whole / cores)} of the machine's {cores:g} cores" if machine else ""
    own = f"the served process used {most:.2f} cores"
    if most >= CPU_FULL * min(processes, cores):
        return Limit("CPU", f"{own}{f', {of} were busy' if of else ''}")
    full = bool(machine) and whole >= MACHINE_FULL * cores
    if full and most >= 0.3 * min(processes, cores):
        return Limit("CPU", f"{of} were busy, {most:.2f} of them with the served process")
    if most < CPU_IDLE * min(processes, cores) or (machine and whole < CPU_IDLE * cores):
        others = ", nearly all with other programs, for which it may have waited too" if full else ""
        return Limit(
            "pool or lock", f"{own} of {cores:g} while requests waited{f'; {of} were busy{others}' if of else ''}"
        )
    return Limit("unknown", f"{own}, between idle and full")
