"""Where did throughput stop growing? Only correct answers count: refusing quickly is no throughput.

Stages are put in the order of their load. Throughput is on its plateau from the stage on that already reaches most of
the highest throughput measured, provided that the load grew a good deal beyond it and that what more load brought was
waiting: by Little's law the requests in flight, and with them the response time, must have grown. Under a planned
arrival rate one stage suffices: where clearly fewer answers come than requests are due, the difference piles up. A
stage that the generator limited says nothing, and one after the other of them only that the server holds at least what
was measured before.
"""

from collections.abc import Sequence

from surgeline.analysis.model import Saturation, StageFigures

REACHES = 0.8
"""A stage with this share of the highest throughput may be on the plateau: twice the load brings a quarter at most."""
LOAD_GROWTH = 1.4
"""The load must have grown by this much beyond the plateau's first stage: less would be within its scatter."""
EFFICIENCY = 0.35
"""Of the growth of the load, throughput may have followed by this share from the plateau's first stage to the last."""
WAITING_GROWTH = 1.25
"""Response time must have grown by this much from there to the highest load: what did not pass had to wait."""
FEWEST_ANSWERS = 30
KEEPS_UP = 0.93
"""Open model: with fewer answers than this share of what was due in a stage, requests pile up."""


def load_of(stage: StageFigures) -> float:
    """What a stage is ordered by: its highest planned level, users or arrivals per second."""
    return max(stage.start, stage.end)


def by_load(stages: Sequence[StageFigures]) -> list[StageFigures]:
    """In the order of load."""
    return sorted(stages, key=lambda stage: (load_of(stage), stage.index))


LIKE = (0.7, 1.4)
"""Loads that are taken for the same: one over the other lies between these."""


def like(stage: StageFigures, other: StageFigures) -> bool:
    """Whether two stages have about the same load."""
    least, most = LIKE
    return least * load_of(other) <= load_of(stage) <= most * load_of(other)


def ladder(stages: Sequence[StageFigures]) -> list[StageFigures]:
    """The stages that tell which load is held, in order of load.

    Those are left out that tell of something else: ramps down; ramps up to a load that a stage of one load has too; and
    what comes after a heavier load at one that was tried before it, because it carries what the heavier one left
    behind. The stages of a search have been drained of that, and all of them count. So do all where none is left.
    """
    ordered = by_load(stages)
    if any(stage.role for stage in stages):
        return ordered
    found = [stage for stage in ordered if not _tells_of_another(stage, stages)]
    return found or ordered


def _tells_of_another(stage: StageFigures, stages: Sequence[StageFigures]) -> bool:
    if stage.start > stage.end:
        return True
    level = [
        other
        for other in stages
        if other.start == other.end and (other.validity != "invalid" or stage.validity == "invalid")
    ]
    if stage.start < stage.end:
        return any(load_of(other) >= load_of(stage) for other in level)
    heavier = next((o.index for o in stages if o.index < stage.index and load_of(o) > LIKE[1] * load_of(stage)), None)
    return heavier is not None and any(other.index < heavier and like(other, stage) for other in level)


def saturation(stages: Sequence[StageFigures]) -> Saturation | None:
    """Where throughput stopped growing; None where fewer than two stages of different load say anything."""
    usable = [
        stage
        for stage in ladder(stages)
        if stage.validity != "invalid" and stage.total.goodput_per_s and stage.total.tally.ok >= FEWEST_ANSWERS
    ]
    piled = [stage for stage in usable if _piles_up(stage)]
    if piled and not any(load_of(stage) > load_of(piled[0]) and not _piles_up(stage) for stage in usable):
        return _overrun(usable, piled)
    if len(usable) < 2 or load_of(usable[0]) == load_of(usable[-1]):
        return None
    rates = [stage.total.goodput_per_s or 0.0 for stage in usable]
    top = max(rates)
    limited = any(stage.validity == "invalid" and load_of(stage) > load_of(usable[-1]) for stage in stages)
    first = next((index for index, rate in enumerate(rates) if rate >= REACHES * top and _level(usable, index)), None)
    if first is None:
        highest = rates.index(top)
        return Saturation(False, top, top, top, None, usable[highest].index, 0.0, (usable[highest].index,), limited)
    plateau = [index for index in range(first, len(usable)) if rates[index] >= REACHES * top]
    return Saturation(
        reached=True,
        throughput_per_s=top,
        low_per_s=min(rates[i] for i in plateau),
        high_per_s=top,
        before=usable[first - 1].index if first else None,
        stage=usable[first].index,
        fell=max(0.0, 1.0 - rates[-1] / top),
        stages=tuple(usable[i].index for i in plateau),
        generator=limited,
    )


def _level(usable: Sequence[StageFigures], first: int) -> bool:
    """Whether from the first stage to the last the load grew, throughput hardly followed, and requests waited."""
    begin, end = usable[first], usable[-1]
    grown = load_of(end) / max(load_of(begin), 1e-9)
    followed = ((end.total.goodput_per_s or 0.0) / (begin.total.goodput_per_s or 1.0) - 1.0) / max(grown - 1.0, 1e-9)
    return grown >= LOAD_GROWTH and followed <= EFFICIENCY and _waited(begin, end)


def _piles_up(stage: StageFigures) -> bool:
    """Whether, in the open model, requests became due clearly faster than they came to an end.

    By a share that no scatter explains, and by more than a second's worth: a freeze at the end of a stage is no pile.
    """
    if stage.model != "open" or stage.duration_s <= 0:
        return False
    tally = stage.total.tally
    missing = tally.due - (stage.total.throughput_per_s or 0.0) * stage.duration_s - tally.error
    return missing > (1.0 - KEEPS_UP) * tally.due + FEWEST_ANSWERS and missing > tally.due / stage.duration_s


def _overrun(usable: Sequence[StageFigures], piled: Sequence[StageFigures]) -> Saturation:
    """From the stages in which requests piled up, all those of the highest loads."""
    rates = [stage.total.goodput_per_s or 0.0 for stage in piled]
    below = [stage for stage in usable if load_of(stage) < load_of(piled[0])]
    top = max(rates + [stage.total.goodput_per_s or 0.0 for stage in below])
    return Saturation(
        reached=True,
        throughput_per_s=sorted(rates)[len(rates) // 2],
        low_per_s=min(rates),
        high_per_s=max(rates),
        before=below[-1].index if below else None,
        stage=piled[0].index,
        fell=max(0.0, 1.0 - rates[-1] / top),
        stages=tuple(stage.index for stage in piled),
        generator=False,
    )


def _waited(first: StageFigures, last: StageFigures) -> bool:
    """Whether requests took longer, or were turned away, at the higher of the two loads."""
    if (last.total.error_ratio.low or 0.0) > (first.total.error_ratio.value or 0.0) + 0.01:
        return True
    before, after = first.total.response.mean_ns, last.total.response.mean_ns
    return before is not None and after is not None and after >= WAITING_GROWTH * before
