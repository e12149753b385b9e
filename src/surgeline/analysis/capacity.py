"""Where did throughput stop growing?

Stages are put in the order of their load. Throughput is on its plateau from the stage on that already reaches most of
the highest throughput measured, provided that the load grew a good deal beyond it and that what more load brought was
waiting: by Little's law the requests in flight, and with them the response time, must have grown. A stage that the
generator limited says nothing, and one after the other of them only that the server holds at least what was measured
before.
"""

from collections.abc import Sequence

from surgeline.analysis.model import Saturation, StageFigures

REACHES = 0.9
"""A stage with this share of the highest throughput is on the plateau."""
LOAD_GROWTH = 1.4
"""The load must have grown by this much beyond the plateau's first stage: less would be within its scatter."""
EFFICIENCY = 0.35
"""Of the growth of the load, throughput may have followed by this share from the plateau's first stage to the last."""
WAITING_GROWTH = 1.25
"""Response time must have grown by this much from there to the highest load: what did not pass had to wait."""
FEWEST_ANSWERS = 30


def load_of(stage: StageFigures) -> float:
    """What a stage is ordered by: its highest planned level, users or arrivals per second."""
    return max(stage.start, stage.end)


def by_load(stages: Sequence[StageFigures]) -> list[StageFigures]:
    """In the order of load."""
    return sorted(stages, key=lambda stage: (load_of(stage), stage.index))


def saturation(stages: Sequence[StageFigures]) -> Saturation | None:
    """Where throughput stopped growing; None where fewer than two stages of different load say anything."""
    usable = [
        stage
        for stage in by_load(stages)
        if stage.validity != "invalid" and stage.total.throughput_per_s and stage.total.tally.answered >= FEWEST_ANSWERS
    ]
    if len(usable) < 2 or load_of(usable[0]) == load_of(usable[-1]):
        return None
    rates = [stage.total.throughput_per_s or 0.0 for stage in usable]
    top = max(rates)
    first = next(index for index, rate in enumerate(rates) if rate >= REACHES * top)
    limited = any(stage.validity == "invalid" and load_of(stage) > load_of(usable[-1]) for stage in stages)
    grown = load_of(usable[-1]) / max(load_of(usable[first]), 1e-9)
    followed = (rates[-1] / rates[first] - 1.0) / max(grown - 1.0, 1e-9)
    if grown < LOAD_GROWTH or followed > EFFICIENCY or not _waited(usable[first], usable[-1]):
        highest = rates.index(top)
        return Saturation(False, top, top, top, None, usable[highest].index, 0.0, (usable[highest].index,), limited)
    plateau = [index for index in range(first, len(usable)) if rates[index] >= REACHES * top]
    return Saturation(
        reached=True,
        throughput_per_s=sorted(rates[i] for i in plateau)[len(plateau) // 2],
        low_per_s=min(rates[i] for i in plateau),
        high_per_s=max(rates[i] for i in plateau),
        before=usable[first - 1].index if first else None,
        stage=usable[first].index,
        fell=max(0.0, 1.0 - rates[-1] / top),
        stages=tuple(usable[i].index for i in plateau),
        generator=limited,
    )


def _waited(first: StageFigures, last: StageFigures) -> bool:
    """Whether requests took longer, or were turned away, at the higher of the two loads."""
    if (last.total.error_ratio.low or 0.0) > (first.total.error_ratio.value or 0.0) + 0.01:
        return True
    before, after = first.total.response.mean_ns, last.total.response.mean_ns
    return before is not None and after is not None and after >= WAITING_GROWTH * before
