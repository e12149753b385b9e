"""What is a baseline, on one page of Markdown to commit beside the code?

What the store knows of it and the figures of its runs come in; `BASELINE.md` leaves: environment, plan, numbers with
their intervals over the runs, charts drawn in text, findings, and what it replaced and why.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from surgeline import units
from surgeline.analysis.distributions import t_quantile, wilson
from surgeline.analysis.figures import ALL, SHARED_LUCK, TIMES, RunFigures
from surgeline.report.comparison_text import escaped
from surgeline.report.text import plural, shown

MOST_ENDPOINTS = 60
MOST_STEPS = 40
CHART = 48
"""Characters of a chart."""


def render(baseline: Mapping[str, Any], runs: Sequence[RunFigures]) -> str:
    """The page. The same baseline gives the same text."""
    return "\n".join(_lines(baseline, runs)).rstrip() + "\n"


def _lines(baseline: Mapping[str, Any], runs: Sequence[RunFigures]) -> Iterator[str]:
    first = runs[0]
    yield f"# Baseline {escaped(baseline['name'])}"
    yield ""
    if baseline["note"]:
        yield escaped(baseline["note"])
        yield ""
    yield f"{plural(len(runs), 'run')} of {escaped(first.load)}, saved {baseline['created_at']}. " + _worth(runs)
    yield ""
    yield "## Numbers"
    yield ""
    if len(runs) > 1:
        told = "Geometric means over the runs, with 95 % intervals that hold the luck of runs."
    else:
        told = (
            "Of one run, with 95 % intervals within it: what another run would differ by is not known. “too short”: it "
            "has no interval with both ends."
        )
    yield f"{told} Of errors as if four requests were worth one."
    yield ""
    yield "| endpoint | requests | p50 | p95 | p99 | errors |"
    yield "| --- | ---: | --- | --- | --- | --- |"
    stages = frozenset.intersection(*(run.usable_stages for run in runs))
    names = list(dict.fromkeys(name for run in runs for name in (*run.endpoints, *run.transactions)))
    for name in (None, *names[:MOST_ENDPOINTS]):
        yield _row(runs, name, stages)
    if len(names) > MOST_ENDPOINTS:
        yield f"| … {len(names) - MOST_ENDPOINTS} more | | | | | |"
    capacities = [run.capacity_per_s for run in runs if run.capacity_per_s]
    if len(capacities) == len(runs):
        yield ""
        yield f"Throughput stops growing at {units.format_rate(_mean(capacities))}."
    yield from _charts(runs, names, stages)
    yield from _findings(runs)
    yield from _setting(baseline, runs)
    yield from _history(baseline)


def _worth(runs: Sequence[RunFigures]) -> str:
    if len(runs) >= 5:
        return "Enough runs for verdicts."
    return "Fewer than five runs: comparisons with it are *indicative*."


def _row(runs: Sequence[RunFigures], name: str | None, stages: frozenset[int]) -> str:
    tallies = [run.tally(name, stages) for run in runs]
    judged, bad = sum(j for j, _ in tallies), sum(b for _, b in tallies)
    cells = [escaped(name or ALL), f"{judged:,}", *(_figure(runs, name, metric, stages) for metric in TIMES)]
    if judged:
        around = units.format_ratios(*wilson(bad / judged, judged / SHARED_LUCK))
        cells.append(f"{units.format_ratio(bad / judged)} [{around}]")
    else:
        cells.append("–")
    return f"| {' | '.join(cells)} |"


def _figure(runs: Sequence[RunFigures], name: str | None, metric: str, stages: frozenset[int]) -> str:
    values = [run.quantile(name, TIMES[metric], stages) for run in runs]
    known = [value for value in values if value]
    if len(known) < len(runs):
        return "–"
    if len(known) == 1:
        span = runs[0].spans.get((name or ALL, metric))
        ends = units.format_ends(*span, known[0]) if span else "too short"
        return f"{units.format_duration(known[0])} [{ends}]"
    logs = [math.log(value) for value in known]
    centre = math.fsum(logs) / len(logs)
    sd = math.sqrt(math.fsum((value - centre) ** 2 for value in logs) / (len(logs) - 1))
    half = t_quantile(0.975, len(logs) - 1.0) * sd / math.sqrt(len(logs))
    low, middle, high = (math.exp(value) for value in (centre - half, centre, centre + half))
    return f"{units.format_duration(middle)} [{units.format_ends(low, high, middle)}]"


def _charts(runs: Sequence[RunFigures], names: Sequence[str], stages: frozenset[int]) -> Iterator[str]:
    """p50, p95 and p99 of each endpoint on one logarithmic line."""
    points = {}
    for name in names[:MOST_ENDPOINTS]:
        values = [[run.quantile(name, q, stages) for run in runs] for q in TIMES.values()]
        means = [_mean([value for value in side if value]) if all(side) else None for side in values]
        if any(value for value in means):
            points[name] = means
    known = [value for means in points.values() for value in means if value]
    if not known:
        return
    low, high = math.log(min(known)) - 0.05, math.log(max(known)) + 0.05
    wide = min(max(len(shown(name, 40)) for name in points), 40)
    yield ""
    yield "## Response times"
    yield ""
    yield "p50 `o`, p95 `#`, p99 `>`, on a logarithmic scale over the runs together."
    yield ""
    yield "```text"
    for name, means in points.items():
        line = [" "] * CHART
        places = [round((math.log(value) - low) / (high - low) * (CHART - 1)) if value else None for value in means]
        present = [place for place in places if place is not None]
        for place in range(min(present), max(present) + 1):
            line[place] = "-"
        for at, sign in zip(places, "o#>", strict=True):
            if at is not None:
                line[at] = sign
        yield f"{shown(name, 40).replace('`', ' '):<{wide}} |{''.join(line)}|"
    ends = f"{units.format_duration(math.exp(low))}{units.format_duration(math.exp(high)):>{CHART - 8}}"
    yield f"{'':<{wide}}  {ends}"
    yield "```"


def _findings(runs: Sequence[RunFigures]) -> Iterator[str]:
    """What most of the runs found."""
    held: dict[tuple[str, str | None], list[Any]] = {}
    for run in runs:
        for key, found in {(f.rule, f.endpoint): f for f in run.findings}.items():
            held.setdefault(key, []).append(found)
    for kind, heading in (("failed", "Failed"), ("explore", "To explore"), ("well", "Performed well")):
        said = [f[-1] for f in held.values() if 2 * len(f) > len(runs) and f[-1].kind == kind]
        if said:
            yield ""
            yield f"## {heading}"
            yield ""
            for found in said:
                yield f"- {escaped(found.sentence)} ({found.rule})"


def _setting(baseline: Mapping[str, Any], runs: Sequence[RunFigures]) -> Iterator[str]:
    first = runs[0]
    yield ""
    yield "## Environment"
    yield ""
    machine = (baseline.get("environment") or first.meta.get("environment") or {}).get("machine") or {}
    for key, value in sorted(machine.items()):
        shown_value = units.format_size(value) if key.endswith("_bytes") and isinstance(value, int) else value
        yield f"- {escaped(key)}: {escaped(shown_value)}"
    shares = (first.meta.get("environment") or {}).get("generator_shares_machine")
    yield f"- generator and server on one machine: {'yes' if shares else 'no, or not known'}"
    versions = first.meta.get("versions") or {}
    yield f"- versions: {escaped(', '.join(f'{name} {value}' for name, value in sorted(versions.items())) or '–')}"
    yield f"- engine: {escaped(first.meta.get('engine') or '–')}"
    yield ""
    yield "## Code and runs"
    yield ""
    yield "| run | started (UTC) | commit | measurement | verdict |"
    yield "| --- | --- | --- | --- | --- |"
    verdicts = dict(zip(baseline.get("runs") or (), baseline.get("verdicts") or (), strict=False))
    for run in runs:
        git = run.meta.get("git") or {}
        commit = f"{str(git.get('commit') or '–')[:12]}{' with changes' if git.get('dirty') else ''}"
        verdict = verdicts.get(run.id)
        said = verdict.get("sentence") if isinstance(verdict, Mapping) else None
        cells = (run.id, run.started_at.replace("T", " ")[:19] or "–", commit, run.validity, str(said or "–"))
        yield f"| {' | '.join(escaped(cell) for cell in cells)} |"
    yield ""
    yield "## Plan"
    yield ""
    yield f"- target: {escaped(first.meta.get('target') or '–')}"
    yield f"- load: {escaped(first.load)}"
    yield f"- subject: {escaped(baseline.get('subject_hash') or first.subject or '–')}"
    plan = (baseline.get("subject") or {}).get("plan") or {}
    scenarios = plan.get("scenarios") or {}
    steps = [
        (name, step) for name, scenario in scenarios.items() for step in (scenario or {}).get("steps", ()) if step
    ] if isinstance(scenarios, Mapping) else []  # fmt: skip
    for name, step in steps[:MOST_STEPS]:
        yield f"- {escaped(name)}: {escaped(_step(step))}"
    for objective in plan.get("slo") or ():
        yield f"- objective: {escaped(objective)}"


def _step(step: Any) -> str:
    if not isinstance(step, Mapping):
        return str(step)
    for method in ("get", "post", "put", "patch", "delete", "head", "options"):
        if step.get(method):
            return f"{method.upper()} {step[method]}"
    return str(step.get("name") or step.get("path") or "a step")


def _history(baseline: Mapping[str, Any]) -> Iterator[str]:
    history = baseline.get("history") or ()
    if not history:
        return
    yield ""
    yield "## What it was before"
    yield ""
    for was in history:
        note = f" ({escaped(was['note'])})" if was["note"] else ""
        runs = plural(len(was["runs"]), "run")
        yield f"- until {was['replaced_at']}: {runs}{note}, replaced: {escaped(was['reason'])}"


def _mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))
