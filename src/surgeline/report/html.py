"""What does the report look like in a browser?

A document comes in, one self-contained HTML page leaves. It needs no network and no script: the Content-Security-Policy
in it forbids everything but its own style sheet, known by its hash, and the plots are SVG made by `plots`. Its first
screen, and its first sheet on paper, is the page; the plots over time and the details follow.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from surgeline import units
from surgeline.report import cells, plots
from surgeline.report.cells import Document
from surgeline.report.text import shown

_UNIT = re.compile(r"(?<=[\d≥≤±]) (?=(?:ns|µs|ms|s|min|h|B|kB|MB|GB|[kM]/s|%|users?|\d)(?![\w]))")
"""The space between a number and its unit, where a line must not end."""


def _joined(text: object) -> str:
    """The text with what belongs together kept on one line: numbers and units, comparisons, methods and paths."""
    whole = _UNIT.sub("\xa0", str(text))
    return re.sub("(?<=[A-Z]{3}) (?=/)", "\xa0", re.sub(" ([<>]) ", "\xa0\\1\xa0", whole))


def _drawing(svg: str) -> Markup:
    """A drawing of `plots`, which has escaped every text in it."""
    return Markup(svg)  # noqa: S704 - made by plots, texts escaped there


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("surgeline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        shown=shown,
        joined=_joined,
        drawing=_drawing,
        duration=units.format_duration,
        count=units.format_count,
        rate=units.format_rate,
    )
    environment.globals.update(cells=cells, columns=_columns, values=_values)
    return environment


@lru_cache(maxsize=1)
def _style() -> str:
    loader = _environment().loader
    assert loader is not None  # noqa: S101 - given above
    source, _, _ = loader.get_source(_environment(), "report.css")
    return source


def render(document: Document) -> str:
    """The report. The same document gives the same text."""
    style = _style()
    load, over_time = plots.load_plot(document), plots.time_plots(document)
    # Without several loads the page shows how response time went, and without answers what went wrong.
    stand_in = next((plot for key in ("percentiles", "wrong") for plot in over_time if plot.key == key), None)
    hero = None if load is not None else stand_in
    endpoints = document["endpoints"]
    ranked = endpoints[: cells.MOST_ROWS]
    drawn = (_drawing(strip) for strip in plots.strips(document, ranked))
    text = (
        _environment()
        .get_template("report.html")
        .render(
            document=document,
            status=cells.status(document),
            style=Markup(style),  # noqa: S704 - our own style sheet
            csp=_csp(style),
            density=_density(document),
            load=load,
            hero=hero,
            plots=[plot for plot in over_time if plot is not hero],
            smalls=plots.multiples(document),
            strips=list(zip(ranked, drawn, strict=True)),
            limits=[item for item in document["objectives"] if item["unit"] == "ns"],
            more_endpoints=max(len(endpoints) - cells.MOST_ROWS, 0) + document["endpoints_left_out"],
            endpoint_rows=_endpoint_rows(document),
            timeline_head=_TIMELINE_HEAD,
            timeline_rows=_timeline_rows(document["timeline"]),
            small_head=("endpoint", *(stage["load"] for stage in document["stages"])),
            small_rows=_small_rows(document),
            any_finding=any(box["items"] for box in document["findings"].values()),
            setup=list(_setup(document)),
        )
    )
    return text.rstrip("\n") + "\n"


def _csp(style: str) -> str:
    """Nothing may be loaded, sent or run; of styles only this one, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


# --- the first sheet -------------------------------------------------------------------------------------------------

_SHEET = 1000
"""What an A4 sheet holds between its margins, in 96ths of an inch, less what the estimate of a page may be wrong by."""


def _density(document: Document) -> str:
    """How much of the page must be left out on paper so that it ends with the first sheet.

    *Tight* leaves out the next steps within the boxes, *tighter* also how sure each finding is and what is in order,
    *tightest* sets it smaller too. All that is left out stands on the sheets that follow.
    """
    for word, steps, meta, good in (
        ("", True, True, True),
        ("tight", False, True, True),
        ("tighter", False, False, False),
    ):
        if _sheet_height(document, steps, meta, good) <= _SHEET:
            return word
    return "tighter tightest"


def _sheet_height(document: Document, steps: bool, meta: bool, good: bool) -> int:
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
    rows = min(len(document["endpoints"]), cells.MOST_ROWS)
    head = 93 + 26 * lines(document["verdict"]["sentence"], 62)
    return round(head + 254 + max(boxes) + 50 + 20.3 * rows + 35 + max(trust, 105))


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


def _endpoint_rows(document: Document) -> Iterator[tuple[str, ...]]:
    for endpoint in document["endpoints"]:
        response = endpoint["response"]
        yield (
            shown(endpoint["name"]),
            units.format_count(endpoint["tally"]["due"]),
            *(cells.duration(response[name]) for name in ("p50", "p95", "p99")),
            cells.errors(endpoint),
        )


def _small_rows(document: Document) -> Iterator[tuple[str, ...]]:
    """p95 of each endpoint that has a small plot, stage by stage."""
    for endpoint in [item for item in document["endpoints"] if item["stages"]][: plots.MOST_MULTIPLES]:
        parts = {part["stage"]: cells.duration(part["response"]["p95"]) for part in endpoint["stages"]}
        yield shown(endpoint["name"]), *(parts.get(stage["index"], "–") for stage in document["stages"])


def _columns(evidence: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows, in the order in which they first occur."""
    return list(dict.fromkeys(key for row in evidence for key in row))


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
