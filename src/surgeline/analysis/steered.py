"""What an operator did to the load while it ran, and what was planned then.

Events come in; what leaves are the acts in order, and the arrivals that a stage was meant to have: the area under its
line, times the factor that held at each moment. Where the schedule stands still during a pause nothing is planned then,
and the stage goes on afterwards where it was.

    planned = Σ factor·∫ level(e) de over the pieces between two acts, e being the schedule's time in the stage
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from surgeline import units


@dataclass(frozen=True, slots=True)
class Act:
    """One thing an operator did, at `at_ns` of the run.

    `do` is pause, resume, scale, next_stage or append_stage; `factor` is what a scale set, of the plan's own level.
    """

    at_ns: int
    do: str
    factor: float = 1.0


def acts(events: Iterable[Mapping[str, Any]]) -> tuple[Act, ...]:
    """The acts among a run's events, by time; what is no act is left out."""
    found = []
    for event in events:
        if event.get("kind") != "control" or not isinstance(event.get("do"), str):
            continue
        at, factor = event.get("at_ns"), event.get("factor", 1.0)
        if isinstance(at, int) and isinstance(factor, int | float) and factor >= 0:
            found.append(Act(at, event["do"], float(factor)))
    return tuple(sorted(found, key=lambda act: act.at_ns))


def planned_arrivals(
    start: float, end: float, duration_ns: int | None, begin_ns: int, end_ns: int, done: tuple[Act, ...], still: bool
) -> float:
    """How many arrivals a stage from `begin_ns` to `end_ns` was meant to have, its line going from `start` to `end`.

    `still`: the schedule stands still while the run is paused; otherwise what is due then counts as planned.
    """
    factor, paused, elapsed, area, at = 1.0, False, 0, 0.0, begin_ns
    for act in (*done, Act(end_ns, "end")):
        until = min(max(act.at_ns, begin_ns), end_ns)
        if until > at:
            if not (paused and still):
                area += factor * _area(start, end, duration_ns, elapsed, elapsed + until - at)
                elapsed += until - at
            at = until
        if act.do == "scale":
            factor = act.factor
        elif act.do in ("pause", "resume"):
            paused = act.do == "pause"
    return area


def _area(start: float, end: float, duration_ns: int | None, low_ns: int, high_ns: int) -> float:
    """The area under the line between two moments of the stage; beyond its end the line is level."""
    if not duration_ns:
        return start * (high_ns - low_ns) / units.NS_PER_S
    inside = min(high_ns, duration_ns), min(low_ns, duration_ns)
    high, low = (start + (end - start) * moment / duration_ns for moment in inside)
    beyond = (high_ns - inside[0]) - (low_ns - inside[1])
    return ((low + high) / 2 * (inside[0] - inside[1]) + end * beyond) / units.NS_PER_S
