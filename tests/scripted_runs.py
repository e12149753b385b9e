"""Runs against pretend servers, for the tests of the analysis and the findings: no sockets, no time passing."""

from collections.abc import Mapping, Sequence
from typing import Any

from surgeline.analysis.details import look
from surgeline.analysis.model import Summary
from surgeline.analysis.summary import summarise
from surgeline.engines import scripted
from surgeline.engines.scripted import Generator, Recording, Server
from surgeline.findings import judge
from surgeline.findings.model import Finding
from surgeline.plan.model import Plan
from surgeline.samples import Frame
from surgeline.units import NS_PER_MS, NS_PER_S

MS, S = NS_PER_MS, NS_PER_S
SHOP = ("/", "/books", "/books/1", "/health", "/orders", "/report")
STEPS = tuple({"users": users, "for": "8s"} for users in (1, 2, 4, 8, 16, 32, 64))
"""The default load: 1, 2, 4 … 64 users, 8 s each."""


def closed_plan(
    stages: Sequence[Mapping[str, Any]] = STEPS,
    paths: Sequence[str] = SHOP,
    think_time: str = "100ms..200ms",
    writes: Sequence[str] = (),
    **more: Any,
) -> Plan:
    """One scenario that goes through all the paths, then the writes."""
    steps = [{"get": path} for path in paths] + [{"post": path} for path in writes]
    return Plan.model_validate(
        {
            "target": "http://127.0.0.1:1",
            "scenarios": {"a": {"think_time": think_time, "steps": steps}},
            "workload": {"model": "closed", "stages": list(stages)},
            **more,
        }
    )


def open_plan(
    rates: Sequence[float] = (200,),
    each: str = "20s",
    path: str = "/x",
    seed: int = 1,
    arrivals: str = "poisson",
    **more: Any,
) -> Plan:
    """One request per arrival, a flat stage for each rate."""
    return Plan.model_validate(
        {
            "target": "http://127.0.0.1:1",
            "scenarios": {"a": {"steps": [{"get": path}]}},
            "workload": {
                "model": "open",
                "seed": seed,
                "arrivals": arrivals,
                "stages": [{"rate": f"{rate}/s", "for": each} for rate in rates],
            },
            **more,
        }
    )


def run_json(plan: Plan, **changes: Any) -> dict[str, Any]:
    """What `run.json` says of a run of the plan."""
    load = plan.load()
    return {
        "id": "2026-11-23-scripted-abc",
        "engine": "scripted",
        "due_known": True,
        "settings": {"workers": 1, "max_in_flight": 10_000},
        "subject": {"kind": "plan", "plan": plan.dump(), "hash": plan.hash},
        "environment": {"machine": {"cpu": "test"}, "generator_shares_machine": False},
        "stages": [
            {
                "index": index,
                "name": stage.name,
                "model": load.model,
                "from": stage.start,
                "to": stage.end,
                "unit": "users",
                "duration_ns": stage.duration_ns,
            }
            for index, stage in enumerate(load.stages)
        ],
        **changes,
    }


def summary_of(
    plan: Plan, server: Server, generator: Generator | None = None, rows: bool = True, **changes: Any
) -> Summary:
    """The summary of a whole run."""
    return summary_from(scripted.play(plan, server, generator), run_json(plan, **changes), rows)


def summary_from(recording: Recording, run: Mapping[str, Any], rows: bool = True) -> Summary:
    """The summary of what was recorded."""
    seen = look(table.columns for table in recording.tables(Frame.ROWS)) if rows else None
    return summarise(run, recording.measurement(), seen)


def findings_of(plan: Plan, server: Server, generator: Generator | None = None, **changes: Any) -> list[Finding]:
    """What is said about a whole run."""
    return judge(summary_of(plan, server, generator, **changes))


def said(findings: Sequence[Finding], rule: str, kind: str | None = None) -> list[Finding]:
    """The findings of one rule, of one kind if that is given."""
    return [finding for finding in findings if finding.id == rule and kind in (None, finding.kind)]


def fast(seed: int = 1) -> Server:
    """About 3 ms, spread a little."""
    return scripted.lognormal(3 * MS, 0.3, seed)
