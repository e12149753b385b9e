"""What does the report look like in a browser?

A document comes in, one self-contained HTML page leaves (`webpage`), its plots SVG made by `plots` and `distributions`.
Its first screen, and its first sheet on paper, is the page; the plots over time, each endpoint and the details follow.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from surgeline import units
from surgeline.report import cells, distributions, plots
from surgeline.report.cells import Document, Node
from surgeline.report.text import middle_cut, shown
from surgeline.report.webpage import drawing, rendered

_UNIT = re.compile(r"(?<=[\d≥≤±]) (?=(?:ns|µs|ms|s|min|h|B|kB|MB|GB|[kM]/s|%|users?|\d)(?![\w]))")
"""The space between a number and its unit, where a line must not end."""


def _joined(text: object) -> str:
    """The text with what belongs together kept on one line: numbers and units, comparisons, methods and paths."""
    whole = _UNIT.sub("\xa0", str(text))
    return re.sub("(?<=[A-Z]{3}) (?=/)", "\xa0", re.sub(" ([<>]) ", "\xa0\\1\xa0", whole))


_FILTERS: dict[str, Callable[..., Any]] = {
    "brief": lambda text: middle_cut(text, LONGEST_RANKED),
    "joined": _joined,
    "duration": units.format_duration,
    "count": units.format_count,
    "rate": units.format_rate,
    "size": units.format_size,
}


LONGEST_RANKED = 64
"""Characters of a name in the table of endpoints: two lines on paper. Its section has it whole."""


class Closeup(NamedTuple):
    """An endpoint seen closely: its part of the document, its anchor, drawings, findings, and its place by rank."""

    part: Node
    anchor: str
    load: plots.Small | None
    near: distributions.Near
    bar: str
    findings: tuple[tuple[str, Node], ...]


def render(document: Document) -> str:
    """The report. The same document gives the same text."""
    document = since_the_load_began(document)
    load, over_time = plots.load_plot(document), plots.time_plots(document)
    # Without several loads the page shows how response time went, and without answers what went wrong.
    stand_in = next((plot for key in ("percentiles", "wrong") for plot in over_time if plot.key == key), None)
    hero = None if load is not None else stand_in
    endpoints = document["endpoints"]
    ranked = endpoints[: cells.MOST_ROWS]
    strips = (drawing(strip) for strip in plots.strips(document, ranked))
    closeups = list(_closeups(document))
    shape = [distributions.heat_plot(document), distributions.spectrum_plot(document)]
    return rendered(
        "report.html",
        "report.css",
        {
            "document": document,
            "cells": cells,
            "columns": _columns,
            "values": _values,
            "status": cells.status(document),
            "density": _density(document),
            "load": load,
            "hero": hero,
            "plots": [plot for plot in over_time if plot is not hero],
            "shape": [plot for plot in shape if plot is not None],
            "phases": distributions.phases_plot(document),
            "phase_patterns": drawing(distributions.phase_patterns("ph")),
            "phases_words": distributions.phases_words,
            "closeups": closeups,
            "anchors": {item.part["name"]: item.anchor for item in closeups},
            "together": [
                (
                    kind,
                    [
                        (part, distributions.near(document, part, number, f"t{place}-"))
                        for number, part in enumerate(held)
                    ],
                )
                for place, kind in enumerate(cells.together(document))
                for held in (kind.parts[:MOST_TRANSACTIONS],)
            ],
            "spans": [drawing(distributions.span_strip(document, error)) for error in document["errors"]],
            "strips": list(zip(ranked, strips, strict=True)),
            "limits": [item for item in document["objectives"] if item["unit"] == "ns"],
            "more_endpoints": max(len(endpoints) - cells.MOST_ROWS, 0) + document["endpoints_left_out"],
            "timeline_head": _TIMELINE_HEAD,
            "timeline_rows": _timeline_rows(document["timeline"]),
            "small_head": ("endpoint", *(stage["label"] for stage in document["stages"])),
            "small_rows": list(_small_rows(document)),
            "legend_stages": cells.legend(document["stages"], document["stages"]),
            "legend_endpoints": cells.legend(
                ranked, search=document["capacity"] is not None, held=cells.all_held(document, ranked)
            ),
            "any_finding": any(box["items"] for box in document["findings"].values()),
            "setup": list(_setup(document)),
        },
        _FILTERS,
    )


def since_the_load_began(document: Document) -> Document:
    """The document with its moments, but for those in sentences, counted from the second in which the load began.

    A run that waited for its workers has nothing to show of that time. The same document where it did not wait.
    """
    width = document["timeline"]["bucket_s"]
    begin = min((stage["begin_ns"] for stage in document["stages"]), default=0) // units.NS_PER_S // width * width
    if begin <= 0:
        return document

    def moved(node: Node, by: int, *names: str) -> dict[str, Any]:
        return {**node, **{name: max(node[name] - by, 0) for name in names if node.get(name) is not None}}

    ns = begin * units.NS_PER_S

    def near(part: Node) -> dict[str, Any]:
        heat = part.get("heat") and moved(part["heat"], begin, "begin_s")
        return {**part, "heat": heat, "examples": [moved(one, ns, "at_ns") for one in part.get("examples", ())]}

    def error(part: Node) -> dict[str, Any]:
        example = part.get("example") and moved(part["example"], ns, "at_ns")
        return {**moved(part, ns, "first_ns", "last_ns"), "example": example}

    timeline = document["timeline"]
    first = next((at for at, second in enumerate(timeline["second"]) if second >= begin), len(timeline["second"]))
    kept = {name: column[first:] if isinstance(column, list) else column for name, column in timeline.items()}
    return {
        **document,
        "timeline": {**kept, "second": [second - begin for second in kept["second"]]},
        "stages": [moved(stage, ns, "begin_ns", "end_ns") for stage in document["stages"]],
        "stalls": [moved(stall, ns, "first_ns", "last_ns") for stall in document["stalls"]],
        "errors": [error(group) for group in document["errors"]],
        "totals": near(document["totals"]),
        **{name: [near(part) for part in document[name]] for name in ("endpoints", "transactions")},
    }


MOST_CLOSEUPS = 100
"""Endpoints with a section of their own; of a hundred the report stays below two megabytes."""
MOST_TRANSACTIONS = 20


def _closeups(document: Document) -> Iterator[Closeup]:
    smalls = {small.name: small for small in plots.multiples(document)}
    said: dict[str, list[tuple[str, Node]]] = {}
    for kind, _, mark, _ in cells.BOXES:
        for item in document["findings"][kind]["items"]:
            if item["endpoint"] is not None:
                said.setdefault(item["endpoint"], []).append((mark, item))
    for number, part in enumerate(document["endpoints"][:MOST_CLOSEUPS]):
        yield Closeup(
            part,
            f"e{number + 1}",
            smalls.get(shown(part["name"], 100)),
            distributions.near(document, part, number),
            distributions.phase_bar(part),
            tuple(said.get(part["name"], ())),
        )


# --- the first sheet -------------------------------------------------------------------------------------------------

_SHEET = 1000
"""What an A4 sheet holds between its margins, in 96ths of an inch, less what the estimate of a page may be wrong by."""


def _density(document: Document) -> str:
    """How much of the page must be left out on paper so that it ends with the first sheet.

    *Compact* sets intervals behind their figures and leaves the small pictures out, *tight* also the next steps within
    the boxes, *tighter* how sure each finding is and what is in order too, *tightest* sets it smaller. All that is left
    out stands on the sheets that follow.
    """
    for word, compact, steps, meta, good in (
        ("", False, True, True, True),
        ("compact", True, True, True, True),
        ("compact tight", True, False, True, True),
        ("compact tighter", True, False, False, False),
    ):
        if _sheet_height(document, compact, steps, meta, good) <= _SHEET:
            return word
    return "compact tighter tightest"


def _sheet_height(document: Document, compact: bool, steps: bool, meta: bool, good: bool) -> int:
    """About how high the page is on paper, from the lengths of its texts."""

    def lines(text: str, width: int) -> int:
        return -(-len(text) // width)

    boxes = [
        sum(
            8.5 + 13.4 * lines(item["sentence"], width) + steps * 13.4 * lines(step, width - 5) + 13 * meta
            for item, step in cells.on_page(box)
        )
        for box, width in zip(document["findings"].values(), (36, 52, 36), strict=True)
    ]
    trust = sum(
        2.2 + 13.2 * lines(item["sentence"], 88)
        for item in document["trust"][: cells.MOST_TRUST]
        if good or item["level"] != "good"
    )
    ranked = document["endpoints"][: cells.MOST_ROWS]
    names = sum(13 * (lines(middle_cut(part["name"], LONGEST_RANKED), 40) - 1) for part in ranked)
    rows = len(ranked) + sum(1 + min(len(kind.parts), cells.MOST_TOGETHER) for kind in cells.together(document))
    question = document["question"]
    found = cells.capacity(document) if document["capacity"] is not None else []
    head = 93 + 14 * lines(" · ".join(found), 130) + 26 * lines(document["verdict"]["sentence"], 62)
    if question is not None:
        head += 16 + 20 * lines(f"{question['asked']} {question['answer']}", 100)
    return round(head + 254 + max(boxes) + 50 + (18.2 if compact else 27.4) * rows + names + 49 + max(trust, 105))


# --- tables ----------------------------------------------------------------------------------------------------------

_TIMELINE_HEAD = (
    *("from", "due", "right", "failures", "errors", "timeouts", "not sent", "users", "in flight", "p50", "p95", "p99"),
)


def _timeline_rows(timeline: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    counted = ("due", "ok", "failure", "error", "timeout", "not_sent")
    for i, second in enumerate(timeline["second"]):
        yield (
            f"{second} s",
            *(units.format_count(timeline[name][i]) for name in counted),
            *("–" if timeline[name][i] is None else f"{timeline[name][i]:.3g}" for name in ("users", "in_flight")),
            *(units.format_duration(timeline[f"{name}_ns"][i]) for name in ("p50", "p95", "p99")),
        )


def _small_rows(document: Document) -> Iterator[tuple[str, ...]]:
    """p95 of each endpoint that has a small plot, stage by stage."""
    for endpoint in [item for item in document["endpoints"] if item["stages"]][: plots.MOST_MULTIPLES]:
        parts = {part["stage"]: cells.duration(part["response"]["p95"]) for part in endpoint["stages"]}
        yield shown(endpoint["name"]), *(parts.get(stage["index"], "–") for stage in document["stages"])


def _columns(evidence: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows, in the order in which they first occur; tracebacks stand below the table."""
    return list(dict.fromkeys(key for row in evidence for key in row if key != "traceback"))


def _values(evidence: Sequence[Mapping[str, Any]], head: Sequence[str]) -> Iterator[list[str]]:
    for row in evidence:
        yield [cells.evidence(key, row.get(key)) for key in head]


# --- setup -----------------------------------------------------------------------------------------------------------


def _setup(document: Document) -> Iterator[tuple[str, str]]:
    run, health = document["run"], document["health"]
    yield "Run", f"{run['id']}, {run['state']}"
    yield "Target", run["target"] or "–"
    yield "Source", f"{run['source']['kind']} {run['source']['location']}".strip() or "–"
    if run["subject"]["hash"]:
        yield "Plan or script", f"{run['subject']['kind']} {run['subject']['hash'][:16]}"
    yield "Load", run["load"]
    yield "Engine", run["engine"]
    yield "Started", cells.when(document)
    yield "Lasted", units.format_duration(run["duration_ns"])
    ended = run["ended"]
    if ended and ended["reason"]:
        yield "Ended", ended["reason"]
    if health["cpu_ratio_max"] is not None:
        mean = units.format_ratio(health["cpu_ratio_mean"])
        yield "Generator CPU", f"{mean} of a core on average, {units.format_ratio(health['cpu_ratio_max'])} at most"
    if health["lag_p99_ns"] is not None:
        lags = [units.format_duration(health[key]) for key in ("lag_p50_ns", "lag_p99_ns", "lag_max_ns")]
        yield "Start lag", f"p50 {lags[0]}, p99 {lags[1]}, at most {lags[2]}"
    yield "Same machine", "generator and server shared it" if health["shares_machine"] else "no, or not known"
    for name in ("git", "versions", "environment", "settings"):
        if run[name]:
            yield name.capitalize(), cells.flat(run[name])
