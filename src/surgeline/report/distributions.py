"""How are distributions drawn: over time as a heatmap, over their ranks as a spectrum, apart as phases?

Parts of a document come in, drawings leave. A shade of one hue stands for a count, so that a heatmap reads without
telling colours apart; phases differ by pattern as well as by colour, and every drawing says in words what it shows.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from surgeline import units
from surgeline.report import cells, svg
from surgeline.report.cells import Document, Node
from surgeline.report.plots import NARROW, WIDE, Plot, clock, duration_limits, stage_bands, time_axis
from surgeline.report.text import plural, shown

PER_DECADE = 6
"""Rows of a heatmap within a factor of ten, as the document has them."""
SHADES = 5
LEAST_ROWS = 9
"""Rows that the heatmap of an endpoint has room for at least."""

RANKS = ((0.0, "p0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"))
"""Ranks that a spectrum names; beyond them nines are added."""

PHASES = (
    ("queue", ("queue",), "waiting to be sent"),
    ("connecting", ("dns", "connect", "tls"), "connecting (name, TCP, TLS)"),
    ("send", ("send",), "sending the request"),
    ("wait", ("wait",), "waiting for the first byte"),
    ("receive", ("receive",), "receiving the answer"),
)
"""What a bar of phases is made of: its class, the phases in it, and what it is in words."""

MOST_BARS = 24
"""Stages that the plot of phases has room for."""


# --- heatmaps --------------------------------------------------------------------------------------------------------


class Shade(NamedTuple):
    """One step of a scale of counts: from `low` to `high` requests."""

    low: int
    high: int


def shades(most: int) -> list[Shade]:
    """The steps of the scale up to the greatest count: each a like factor more than the last, none of them empty."""
    edges = [0] + [math.floor((most + 1) ** (step / SHADES) - 1 + 1e-9) for step in range(1, SHADES + 1)]
    edges[-1] = most
    return [Shade(low + 1, high) for low, high in pairwise(edges) if high > low]


def heat_plot(document: Document) -> Plot | None:
    """Response times of everything over the run; None where nothing was answered right."""
    found = document["totals"]["heat"]
    if found is None:
        return None
    most = max(max(row) for row in found["counts"])
    steps = shades(most)
    width = found["width_s"]
    each = "second" if width == 1 else f"{width} s"
    note = f"Each cell: right answers due in one {each} that took so long; the darker, the more, up to {most:,}. " + (
        "The strip above is what went wrong." if any(found["bad"]) else "Nothing went wrong."
    )
    title = "Every answer over time"
    described = _heat_words(found)
    limits = duration_limits(document)

    def draw(size: int) -> str:
        is_wide = size == WIDE
        canvas = svg.Canvas(f"heat-{size}", size, 300, 58 if is_wide else 50, 104 if is_wide else 66, 24, 26)
        return _draw_heat(canvas, found, document, steps, limits, is_wide).done(
            "wide" if is_wide else "narrow", title, described
        )

    return Plot("heat", title, note, draw(WIDE), draw(NARROW))


def _heat_words(found: Node) -> str:
    rows = [sum(row) for row in found["counts"]]
    total = sum(rows)
    edge = _row_edge(found, max(range(len(rows)), key=lambda row: rows[row]))
    slow = next((row for row in range(len(rows)) if sum(rows[row:]) <= 0.01 * total), len(rows) - 1)
    return (
        f"{plural(total, 'right answer')}; most of them near {units.format_duration(edge, 2)}, "
        f"about one in a hundred above {units.format_duration(_row_edge(found, slow), 2)}."
    )


def _row_edge(found: Node, row: int) -> float:
    """Where a row begins, ns."""
    return float(10.0 ** ((found["lowest"] + row) / PER_DECADE))


def _draw_heat(
    canvas: svg.Canvas,
    found: Node,
    document: Document,
    steps: Sequence[Shade],
    limits: Sequence[tuple[str, float]],
    is_wide: bool,
) -> svg.Canvas:
    columns, rows = len(found["bad"]), len(found["counts"])
    begin, end = found["begin_s"], found["begin_s"] + columns * found["width_s"]
    planned = max((stage["end_ns"] for stage in document["stages"]), default=0) / 1e9
    x = svg.Scale(0, max(end, planned, 1.0), canvas.x0, canvas.x1)
    strip = 12.0 if any(found["bad"]) else 0.0
    low, high = _row_edge(found, 0), _row_edge(found, rows)
    y = svg.Scale(low, high, canvas.y0, canvas.y1 + strip + (4 if strip else 0), True)
    stage_bands(canvas, document, x)
    for tick in svg.log_ticks(low, high, 8):
        canvas.add(svg.text(canvas.x0 - 7, y(tick) + 4, units.format_duration(tick), "tick", "end"))
    canvas.add(*heat_cells(found, steps, x, y, begin))
    for _, limit in limits:
        if low <= limit <= high:
            canvas.add(svg.line(canvas.x0, y(limit), canvas.x1, y(limit), "limit"))
    if strip:
        canvas.add(*_bad_strip(found, x, canvas.y1, strip - 2))
        canvas.add(svg.text(canvas.x1 + 8, canvas.y1 + 9, "wrong", "label wrong"))
    for number, step in enumerate(reversed(steps)):
        at = canvas.y1 + 24 + number * 18
        words = f"{step.low:,}" if step.low == step.high else f"{step.low:,}–{step.high:,}"
        shade = SHADES - number
        canvas.add(
            svg.rect(canvas.x1 + 8, at, 11, 11, f"heat h{shade}"), svg.text(canvas.x1 + 23, at + 10, words, "tick")
        )
    time_axis(canvas, x)
    return canvas


def heat_cells(found: Node, steps: Sequence[Shade], x: svg.Scale, y: svg.Scale, begin: float) -> list[str]:
    """The cells, one path for each shade; neighbours of one shade are drawn as one."""
    width = found["width_s"]
    outlines: dict[int, list[str]] = defaultdict(list)
    first = SHADES - len(steps) + 1
    for number, row in enumerate(found["counts"]):
        top, bottom = y(_row_edge(found, number + 1)), y(_row_edge(found, number))
        tall = svg.coordinate(bottom - top)
        for start, stop, shade in _stretches(row, steps, first):
            left, right = x(begin + start * width), x(begin + stop * width)
            across = svg.coordinate(right - left)
            outlines[shade].append(f"M{svg.spot(left, top)}h{across}v{tall}h-{across}z")
    return [svg.shape("".join(outlines[shade]), f"heat h{shade}") for shade in sorted(outlines)]


def _stretches(row: Sequence[int], steps: Sequence[Shade], first: int) -> list[tuple[int, int, int]]:
    """Stretches of cells of one shade: from, to, shade; empty cells are left out."""
    found: list[tuple[int, int, int]] = []
    for at, count in enumerate(row):
        if not count:
            continue
        shade = first + next((k for k, step in enumerate(steps) if count <= step.high), len(steps) - 1)
        if found and found[-1][1] == at and found[-1][2] == shade:
            found[-1] = (found[-1][0], at + 1, shade)
        else:
            found.append((at, at + 1, shade))
    return found


def _bad_strip(found: Node, x: svg.Scale, top: float, tall: float) -> list[str]:
    """What went wrong, in the columns where it did."""
    width, begin = found["width_s"], found["begin_s"]
    drawn = []
    for at, count in enumerate(found["bad"]):
        if count:
            left, right = x(begin + at * width), x(begin + (at + 1) * width)
            tip = f"{clock(begin + at * width)}: {count:,} went wrong"
            drawn.append(svg.rect(left, top, right - left, tall, "bar wrong", tip))
    return drawn


# --- spectra ---------------------------------------------------------------------------------------------------------


def rarity(q: float) -> float:
    """Where a quantile lies: nines, so that p90, p99 and p99.9 are equally far apart."""
    return -math.log10(max(1.0 - q, 1e-12))


def spectrum_plot(document: Document) -> Plot | None:
    """Response and service time at ever rarer ranks, of everything; None where nothing was answered right."""
    found = document["totals"]["spectrum"]
    if found is None or len(found["quantiles"]) < 3:
        return None
    title = "Percentile spectrum"
    same = _same(found)
    note = (
        "Right answers of the whole run; each nine is as wide as the one before. "
        + ("Service time is the same. " if same else "The gap between the two is waiting to be sent. ")
        + _sure_words(found)
    )
    response = document["totals"]["response"]
    described = "; ".join(
        f"{name} {cells.duration(response[name])}" for name in ("p50", "p90", "p95", "p99", "p99.9") if name in response
    )

    def draw(size: int) -> str:
        is_wide = size == WIDE
        canvas = svg.Canvas(f"spectrum-{size}", size, 280, 58 if is_wide else 50, 104 if is_wide else 66, 14, 34)
        _draw_spectrum(canvas, found, response, duration_limits(document), full=True)
        return canvas.done("wide" if is_wide else "narrow", title, f"{described}.")

    return Plot("spectrum", title, note, draw(WIDE), draw(NARROW))


def _sure_words(found: Node) -> str:
    sure = found["sure_to"]
    if sure is None:
        return "Too few answers for any percentile: dotted are single requests."
    if sure >= found["quantiles"][-1]:
        return ""
    return f"Dotted, beyond p{_percent(sure)}: single requests, too few for a percentile."


def _percent(q: float) -> str:
    """A quantile as people say it, cut where its digits end: 0.9987 is 99.8."""
    digits = max(math.floor(rarity(q)) - 1, 0) + (1 if q > 0.9 else 0)
    return f"{math.floor(q * 100 * 10**digits) / 10**digits:g}"


def _same(found: Node) -> bool:
    """Whether service time is response time, but for what a plot could not show."""
    pairs = list(zip(found["response_ns"], found["service_ns"], strict=False))
    return not pairs or all(abs(a - b) <= 0.02 * max(a, b) for a, b in pairs)


def _draw_spectrum(
    canvas: svg.Canvas, found: Node, response: Node, limits: Sequence[tuple[str, float]], full: bool
) -> None:
    same = _same(found)
    sides = [("response", found["response_ns"])] + ([] if same else [("service", found["service_ns"])])
    low, high = svg.log_range(
        [
            *(value for _, values in sides for value in values),
            *(limit for _, limit in limits if limit <= 3 * found["response_ns"][-1]),
        ]
    )
    last = rarity(found["quantiles"][-1])
    x = svg.Scale(0.0, max(last, 1.0), canvas.x0, canvas.x1)
    y = svg.Scale(low, high, canvas.y0, canvas.y1, True)
    small = "" if full else " small"
    for tick in svg.log_ticks(low, high, 8 if full else 4):
        canvas.add(
            svg.line(canvas.x0, y(tick), canvas.x1, y(tick), "grid"),
            svg.text(canvas.x0 - (7 if full else 5), y(tick) + 4, units.format_duration(tick), f"tick{small}", "end"),
        )
    reached = -math.inf
    for q, word in RANKS if full else RANKS[1:]:
        at = x(rarity(q))
        if rarity(q) <= last + 1e-9 and at - reached >= len(word) * svg.CHAR + 4:
            canvas.add(
                svg.line(at, canvas.y0, at, canvas.y0 + 4, "axis"),
                svg.text(at, canvas.y0 + (18 if full else 14), word, f"tick{small}", "middle"),
            )
            reached = at
    for _, limit in limits:
        if low <= limit <= high:
            canvas.add(svg.line(canvas.x0, y(limit), canvas.x1, y(limit), "limit"))
    sure = found["sure_to"]
    labels = []
    for name, values in reversed(sides):
        points = [(x(rarity(q)), y(max(value, 1))) for q, value in zip(found["quantiles"], values, strict=True)]
        known = sum(1 for q in found["quantiles"] if sure is not None and q <= sure + 1e-9)
        known = max(known, 1) if sure is not None else 0
        canvas.add(svg.path(points[:known], f"line {name}"))
        canvas.add(svg.path(points[max(known - 1, 0) :], f"line {name} alone"))
        labels.append((points[-1][1], name, name))
    if full:
        for name in ("p50", "p90", "p95", "p99", "p99.9"):
            _whisker(canvas, response.get(name), float(name[1:]) / 100, name, x, y)
        for (_, name, classes), place in zip(
            labels, svg.apart([at for at, _, _ in labels], 14, canvas.y1 + 5, canvas.y0 - 2), strict=True
        ):
            canvas.add(svg.text(canvas.x1 + 8, place + 4, name, f"label {classes}"))
    canvas.add(svg.line(canvas.x0, canvas.y0, canvas.x1, canvas.y0, "axis"))


def _whisker(canvas: svg.Canvas, estimate: Node | None, q: float, name: str, x: svg.Scale, y: svg.Scale) -> None:
    if estimate is None or estimate["value"] is None or rarity(q) > x.high + 1e-9:
        return
    at = x(rarity(q))
    if estimate["low"] is not None and estimate["high"] is not None:
        canvas.add(svg.line(at, y(estimate["low"]), at, y(estimate["high"]), "whisker p95"))
    around = cells.interval(estimate)
    tip = f"{name} {cells.duration(estimate)}" + (f" [{around}]" if around else "")
    canvas.add(svg.mark(at, y(estimate["value"]), "p50", tip))


# --- phases ----------------------------------------------------------------------------------------------------------


def _spent(phases: Node) -> list[tuple[str, float, str]]:
    """Class, mean ns and words of each part of a bar."""
    return [(name, float(sum(phases[f"{part}_ns"] for part in parts)), words) for name, parts, words in PHASES]


def phases_plot(document: Document) -> Plot | None:
    """Where the time went at each load; None where no engine said so."""
    known = [stage for stage in document["stages"] if stage["phases"] is not None]
    chosen = [stage for stage in cells.stages_on_page(document, MOST_BARS) if stage["phases"] is not None]
    bars = [(stage["label"], stage["phases"]) for stage in chosen]
    if not bars:
        whole = document["totals"]["phases"]
        bars = [("all", whole)] if whole is not None else []
    bars = [(load, phases) for load, phases in bars if sum(ns for _, ns, _ in _spent(phases)) > 0]
    if not bars:
        return None
    title = "Where the time goes"
    note = "The mean right answer at each load, taken apart."
    if len(chosen) < len(known):
        note += f" {len(chosen)} of {len(known)} stages; the table has all."
    described = "; ".join(f"{load}: {phases_words(phases)}" for load, phases in bars)
    most = max(sum(ns for _, ns, _ in _spent(phases)) for _, phases in bars)
    used = [
        (name, words)
        for name, _, words in PHASES
        if any(ns > 0.002 * most for _, phases in bars for part, ns, _ in _spent(phases) if part == name)
    ]

    def draw(size: int) -> str:
        is_wide = size == WIDE
        per_line = 3 if is_wide else 1
        head = 20 * -(-len(used) // per_line) + 8
        canvas = svg.Canvas(
            f"phases-{size}", size, head + 22 * len(bars) + 4, 92 if is_wide else 74, 84 if is_wide else 60, head, 4
        )
        for number, (name, words) in enumerate(used):
            at, down = canvas.x0 + (number % per_line) * 240, 4 + 20 * (number // per_line)
            canvas.add(_part(name, at, down, 12, 12, "", f"ph{size}"), svg.text(at + 18, down + 10, words, "tick"))
        x = svg.Scale(0.0, most, canvas.x0, canvas.x1)
        for number, (load, phases) in enumerate(bars):
            top = canvas.y1 + 22 * number
            words = load if is_wide else load.removesuffix(" users").removesuffix(" user")
            canvas.add(svg.text(canvas.x0 - 8, top + 13, words, "tick strong", "end"))
            canvas.add(*_bar(phases, x, top + 3, 14, f"ph{size}", load))
            total = sum(ns for _, ns, _ in _spent(phases))
            canvas.add(svg.text(x(total) + 6, top + 14, units.format_duration(total), "value"))
        return canvas.done("wide" if is_wide else "narrow", title, described, phase_patterns(f"ph{size}"))

    return Plot("phases", title, note, draw(WIDE), draw(NARROW))


def _bar(phases: Node, x: svg.Scale, top: float, tall: float, prefix: str, load: str) -> list[str]:
    drawn, at = [], 0.0
    for name, ns, words in _spent(phases):
        if ns > 0:
            tip = f"{load}: {words} {units.format_duration(ns)}" if load else f"{words} {units.format_duration(ns)}"
            drawn.append(_part(name, x(at), top, x(at + ns) - x(at), tall, tip, prefix))
            at += ns
    return drawn


def _part(name: str, x: float, y: float, width: float, height: float, tip: str, prefix: str) -> str:
    fill = f"url(#{prefix}-{name})" if name in ("queue", "connecting") else ""
    return svg.rect(x, y, width, height, f"phase {name}", tip, fill)


def phase_patterns(prefix: str) -> str:
    """Hatching for waiting to be sent, dots for connecting."""
    return (
        f'<defs><pattern id="{prefix}-queue" width="5" height="5" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect class="bar wrong" width="2.4" height="5"/></pattern>'
        f'<pattern id="{prefix}-connecting" width="4" height="4" patternUnits="userSpaceOnUse">'
        f'<circle class="stack dot" cx="2" cy="2" r="1.3"/></pattern></defs>'
    )


def phases_words(phases: Node) -> str:
    """`wait 71 ms (97 %), receive 1.9 ms (2.6 %)`: the parts that matter, largest first."""
    parts = {
        name: float(phases[f"{name}_ns"])
        for name in ("queue", "dns", "connect", "tls", "send", "wait", "receive")
        if phases[f"{name}_ns"] > 0
    }
    total = math.fsum(parts.values())
    if total <= 0:
        return "nothing that a phase covers"
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    told = [item for item in ranked if item[1] >= 0.01 * total][:4]
    return ", ".join(
        f"{'waiting to be sent' if name == 'queue' else name} {units.format_duration(ns)} "
        f"({units.format_ratio(ns / total)})"
        for name, ns in told
    )


# --- one endpoint ----------------------------------------------------------------------------------------------------


class Near(NamedTuple):
    """An endpoint seen closely: its drawings, each with a heading; empty where there is nothing to draw."""

    heat: str
    spectrum: str


def near(document: Document, part: Node, number: int, key: str = "e") -> Near:
    """The small drawings of an endpoint, or with the key `t` of a transaction."""
    name = shown(part["name"], 100)
    limits = duration_limits(document, part["name"], of_all=key == "e")
    return Near(
        _small_heat(part, f"{key}h{number}", name, limits), _small_spectrum(part, f"{key}s{number}", name, limits)
    )


def _small_heat(part: Node, key: str, name: str, limits: Sequence[tuple[str, float]]) -> str:
    found = part["heat"]
    if found is None:
        return ""
    canvas = svg.Canvas(key, 270, 132, 46, 8, 10, 20)
    columns, rows = len(found["bad"]), len(found["counts"])
    begin, end = found["begin_s"], found["begin_s"] + columns * found["width_s"]
    x = svg.Scale(begin, end, canvas.x0, canvas.x1)
    # Fewer rows than a decade has would make a few large blocks of what is one narrow band.
    spare = max(LEAST_ROWS - rows, 0)
    low, high = _row_edge(found, -(spare // 2)), _row_edge(found, rows + spare - spare // 2)
    strip = 8.0 if any(found["bad"]) else 0.0
    y = svg.Scale(low, high, canvas.y0, canvas.y1 + strip, True)
    for tick in svg.log_ticks(low, high, 4):
        canvas.add(svg.text(canvas.x0 - 5, y(tick) + 3.5, units.format_duration(tick), "tick small", "end"))
    canvas.add(*heat_cells(found, shades(max(max(row) for row in found["counts"])), x, y, begin))
    if strip:
        across = svg.coordinate(x(begin + found["width_s"]) - x(begin))
        starts = [x(begin + at * found["width_s"]) for at, count in enumerate(found["bad"]) if count]
        wrong = "".join(f"M{svg.spot(start, canvas.y1 - 2)}h{across}v6h-{across}z" for start in starts)
        canvas.add(svg.shape(wrong, "bar wrong", f"{sum(found['bad']):,} went wrong"))
    for _, limit in limits:
        if low <= limit <= high:
            canvas.add(svg.line(canvas.x0, y(limit), canvas.x1, y(limit), "limit"))
    canvas.add(svg.line(canvas.x0, canvas.y0, canvas.x1, canvas.y0, "axis"))
    for at, anchor in ((begin, "start"), (end, "end")):
        canvas.add(svg.text(x(at), canvas.y0 + 14, clock(at) if at else "0 s", "tick small", anchor))
    return canvas.done("small", f"Response times over the run: {name}", _heat_words(found))


def _small_spectrum(part: Node, key: str, name: str, limits: Sequence[tuple[str, float]]) -> str:
    found = part["spectrum"]
    if found is None or len(found["quantiles"]) < 3:
        return ""
    canvas = svg.Canvas(key, 208, 132, 44, 10, 10, 20)
    _draw_spectrum(canvas, found, part["response"], limits, full=False)
    response = part["response"]
    words = ", ".join(f"{name} {cells.duration(response[name])}" for name in ("p50", "p95", "p99"))
    return canvas.done("small", f"Percentile spectrum: {name}", f"{words}.")


def phase_bar(part: Node) -> str:
    """Where the time of one endpoint went, as one bar; empty where nobody knows."""
    phases = part["phases"]
    if phases is None or sum(ns for _, ns, _ in _spent(phases)) <= 0:
        return ""
    total = sum(ns for _, ns, _ in _spent(phases))
    body = "".join(_bar(phases, svg.Scale(0.0, total, 0, 600), 1, 10, "ph", ""))
    label = escape(f"Where the time goes: {phases_words(phases)}", quote=True)
    return f'<svg class="phasebar" viewBox="0 0 600 12" role="img" aria-label="{label}">{body}</svg>'


# --- when errors occurred --------------------------------------------------------------------------------------------


def span_strip(document: Document, error: Mapping[str, Any]) -> str:
    """From the first to the last of a group of errors, within the run."""
    end = max((stage["end_ns"] for stage in document["stages"]), default=0) or document["run"]["duration_ns"] or 1
    x = svg.Scale(0.0, float(max(end, error["last_ns"], 1)), 2, 118)
    first, last = x(error["first_ns"]), x(error["last_ns"])
    label = escape(
        f"from {units.format_duration(error['first_ns'])} to {units.format_duration(error['last_ns'])} of the run",
        quote=True,
    )
    body = svg.line(2, 9, 118, 9, "span") + svg.rect(first - 1, 5, max(last - first, 0) + 2, 8, "bar wrong")
    return f'<svg class="strip span" viewBox="0 0 120 18" role="img" aria-label="{label}">{body}</svg>'
