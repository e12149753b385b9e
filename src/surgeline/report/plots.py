"""Which plots does a report show?

A document comes in, drawings leave. Every difference that a colour makes is made by a shape, a dash or a word too. Each
plot exists twice, wide for a page and narrow for a telephone, because text in a drawing that is scaled down cannot be
read.

    x ->  time, or load (users, requests due per second)          log where it spans a factor of eight
    y ->  response time (log), or requests per second (from 0)
"""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from surgeline import units
from surgeline.report import cells, svg
from surgeline.report.capacity import BESIDE
from surgeline.report.cells import Document, Node
from surgeline.report.text import plural, shown

WIDE, NARROW, PAPER = 912, 358, 840
"""Widths of the drawings, in the units of their text, which is 12 high."""

PERCENTILES = ("p50", "p95", "p99")

MOST_MULTIPLES = 100
"""Endpoints that have a small plot of their own."""

SMALL_PERCENTILES = ("p50", "p95")
"""What the small plots show."""

MANY_ERRORS_RATIO = 0.01
"""A load at which this share of an endpoint's requests went wrong is marked in its small plot."""

WRONG = ("failure", "error", "timeout", "not_sent")
"""Outcomes that went wrong, in the order in which they are stacked."""


class Plot(NamedTuple):
    """A plot: what it shows, said in words, and its two drawings."""

    key: str
    title: str
    note: str
    wide: str
    narrow: str
    paper: str = ""
    """A third drawing for a sheet of paper that has to hold more than this plot; empty where the wide one serves."""


# --- what plots have in common ---------------------------------------------------------------------------------------


def duration_limits(document: Document, endpoint: str | None = None, of_all: bool = True) -> list[tuple[str, float]]:
    """The limits on times that hold for everything, and for one endpoint if that is asked: name, ns.

    Without `of_all` those alone that name it: what every request has to hold says nothing of a transaction.
    """
    return [
        (item["text"] if item["endpoint"] is None else item["text"].rpartition(": ")[2], float(item["limit"]))
        for item in document["objectives"]
        if item["unit"] == "ns"
        and item["limit"]
        and (item["endpoint"] == endpoint or (of_all and not item["endpoint"]))
    ]


def clock(second: float) -> str:
    """`45 s`, `2:30`, `1:05:00`."""
    whole = round(second)
    if whole < 60:
        return f"{whole} s" if whole else "0"
    minutes, seconds = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _time_ticks(end: float, most: int) -> list[float]:
    for step in (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400):
        if end / step <= most:
            return [float(k) for k in range(0, math.floor(end) + 1, step)]
    return [0.0]


def stage_bands(canvas: svg.Canvas, document: Document, x: svg.Scale, labels: bool = True) -> None:
    """Each second stage a shade darker, an invalid one hatched, its load written at the top where there is room."""
    reached = -math.inf
    for number, stage in enumerate(document["stages"]):
        begin, end = x(stage["begin_ns"] / 1e9), x(stage["end_ns"] / 1e9)
        classes = "band odd" if number % 2 else "band"
        if stage["validity"] == "invalid":
            classes += " invalid"
        canvas.add(
            svg.rect(
                begin, canvas.y1, end - begin, canvas.y0 - canvas.y1, classes, f"stage {number + 1}: {stage['label']}"
            )
        )
        text = stage["load"]
        short = text.removesuffix(" users").removesuffix(" user")
        for candidate in (*((stage["label"],) if stage["label"] != text else ()), text, short):
            if labels and len(candidate) * svg.CHAR + 6 <= end - begin and begin >= reached:
                canvas.add(svg.text((begin + end) / 2, canvas.y1 - 6, candidate, "tick", "middle"))
                reached = end
                break


def time_axis(canvas: svg.Canvas, x: svg.Scale) -> None:
    """Moments of the run under the plot."""
    for tick in _time_ticks(x.high, 10 if (canvas.width == WIDE) else 5):
        at = x(tick)
        canvas.add(
            svg.line(at, canvas.y0, at, canvas.y0 + 4, "axis"),
            svg.text(at, canvas.y0 + 18, clock(tick), "tick", "middle"),
        )
    canvas.add(svg.line(canvas.x0, canvas.y0, canvas.x1, canvas.y0, "axis"))


def _end_labels(canvas: svg.Canvas, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right end of lines: (y, text, classes), moved apart where they would touch."""
    places = svg.apart([y for y, _, _ in labels], 14, canvas.y1 + 5, canvas.y0 - 2)
    for (_, text, classes), y in zip(labels, places, strict=True):
        canvas.add(svg.text(canvas.x1 + 8, y + 4, text, f"label {classes}"))


def _limit_labels(limits: Sequence[tuple[str, float]], y: svg.Scale, is_wide: bool) -> list[tuple[float, str, str]]:
    """What stands at the right end of limit lines: the objective, or where there is no room just that it is one."""
    return [(y(limit), text if is_wide and len(text) <= 14 else "limit", "limit") for text, limit in limits]


def _seconds(document: Document) -> tuple[list[float], float]:
    """The middle of each bucket of the timeline, and where the time axis ends; seconds."""
    timeline = document["timeline"]
    width = timeline["bucket_s"]
    middles = [second + width / 2 for second in timeline["second"]]
    last = (timeline["second"][-1] + width) if middles else 1
    planned = max((stage["end_ns"] for stage in document["stages"]), default=0) / 1e9
    return middles, max(float(last), planned, 1.0)


def _size(width: int) -> str:
    return {WIDE: "wide", NARROW: "narrow", PAPER: "paper"}[width]


def _drawn_twice(draw: Callable[[int], str]) -> tuple[str, str]:
    return draw(WIDE), draw(NARROW)


# --- response time against load --------------------------------------------------------------------------------------


class _Load(NamedTuple):
    """A stage on the load axis."""

    level: float
    stage: Node


def _by_load(document: Document) -> list[_Load]:
    stages = [stage for stage in document["stages"] if stage["tally"]["due"] and stage["role"] not in BESIDE]
    stages = [stage for stage in stages if stage["rung"] is not None]
    found = [_Load((stage["start"] + stage["end"]) / 2, stage) for stage in stages]
    return sorted(found, key=lambda item: (item.level, item.stage["index"]))


def _level(value: float) -> str:
    """A load on an axis: as it was planned, to three digits where a search found it."""
    return f"{value:g}" if value == round(value, 1) else units.format_rate(value).removesuffix("/s")


def _load_scale(loads: Sequence[_Load], begin: float, end: float) -> svg.Scale:
    """Logarithmic where the loads span a factor of eight and that sets them more evenly apart."""
    levels = sorted({item.level for item in loads})
    log = levels[0] > 0 and levels[-1] / levels[0] >= 8 and _unevenness(levels, math.log) < _unevenness(levels, float)
    return svg.Scale(levels[0], levels[-1], begin, end, log)


def _unevenness(levels: Sequence[float], scale: Callable[[float], float]) -> float:
    """The widest gap between neighbours over the narrowest."""
    gaps = [scale(b) - scale(a) for a, b in pairwise(levels)]
    return max(gaps) / min(gaps)


def load_plot(document: Document) -> Plot | None:
    """Response time and answers per second at each load; None where only one load was tried."""
    loads = _by_load(document)
    if len({item.level for item in loads}) < 2 or not any(item.stage["response"]["count"] for item in loads):
        return None
    closed = loads[0].stage["model"] == "closed"
    unit = "active users" if closed else "requests due per second"
    log = ", on a log scale" if _load_scale(loads, 0, 1).log else ""
    left = sum(1 for stage in document["stages"] if stage["rung"] is None)
    without = f", {left} of ramps or recovery left out" if left else ""
    note = f"Each point is one stage{without}; {_bars(loads)}. Load in {unit}{log}."
    title = "Response time against load"
    described = "; ".join(
        f"{item.stage['label']}: p95 {cells.duration(item.stage['response']['p95'])}, "
        f"{cells.rate(item.stage['goodput_per_s'])} right answers"
        for item in loads
    )
    wide, narrow = _drawn_twice(lambda width: _draw_load(document, loads, width, title, described))
    return Plot("load", title, note, wide, narrow, _draw_load(document, loads, PAPER, title, described))


def _bars(loads: Sequence[_Load]) -> str:
    """What the bars are, and why where some have none."""
    silent = [why for item in loads if (why := cells.bare(item.stage))]
    parts = [item.stage["response"][name] for item in loads for name in PERCENTILES]
    above = any(part["low"] is not None and part["high"] is None for part in parts)
    bars = "bars are 95 % intervals" + (", open above where they end at the point" if above else "")
    if not silent:
        return bars
    why = silent[0]
    if not any(part["low"] is not None or part["high"] is not None for part in parts):
        return f"no 95 % intervals: {why}"
    return f"{bars}; p95 has none in {len(silent)} of {len(loads)} stages ({why})"


def _draw_load(document: Document, loads: Sequence[_Load], width: int, title: str, described: str) -> str:
    is_wide = width != NARROW
    height, lower = {WIDE: (392, 84), NARROW: (400, 74), PAPER: (268, 46)}[width]
    canvas = svg.Canvas(f"load-{width}", width, height, 58, 104 if is_wide else 52, 22, lower + 70)
    inset = 26 if is_wide else 16
    x = _load_scale(loads, canvas.x0 + inset, canvas.x1 - inset)
    limits = duration_limits(document)
    low, high = svg.log_range(
        [
            *(
                item.stage["response"][name][key]
                for item in loads
                for name in PERCENTILES
                for key in ("value", "low", "high")
            ),
            *(limit for _, limit in limits),
        ]
    )
    y = svg.Scale(low, high, canvas.y0, canvas.y1, True)
    _beyond(canvas, document, loads, x, lower)
    _doubtful(canvas, loads, x, lower)
    canvas.y_axis(y, svg.log_ticks(low, high, 8), units.format_duration)
    for _, limit in limits:
        canvas.add(svg.line(canvas.x0, y(limit), canvas.x1, y(limit), "limit"))
    labels = []
    for name, stagger in zip(PERCENTILES, (-3.0, 0.0, 3.0), strict=True):
        points = [(x(item.level), item.stage["response"][name], item.stage) for item in loads]
        good = [
            (at, None if e["value"] is None else y(e["value"])) for at, e, s in points if s["validity"] != "invalid"
        ]
        canvas.add(svg.path(good, f"line {name}"))
        for at, estimate, stage in points:
            if estimate["value"] is None:
                continue
            faint = stage["validity"] == "invalid"
            if estimate["low"] is not None:
                # Open above, it ends at its value.
                ends = y(estimate["low"]), y(estimate["value"] if estimate["high"] is None else estimate["high"])
                canvas.add(
                    svg.line(
                        at + stagger, ends[0], at + stagger, ends[1], f"whisker {name}" + (" faint" if faint else "")
                    )
                )
            around = cells.interval(estimate)
            tip = f"{stage['label']}: {name} {cells.duration(estimate)}" + (f" [{around}]" if around else "")
            canvas.add(svg.mark(at + stagger, y(estimate["value"]), name, tip, faint))
        ends_at = [place for _, place in good if place is not None]
        if ends_at:
            labels.append((ends_at[-1], name, name))
    _end_labels(canvas, [*labels, *_limit_labels(limits, y, is_wide)])
    _answers(canvas, loads, x, lower)
    return canvas.done(_size(width), title, described)


def _beyond(canvas: svg.Canvas, document: Document, loads: Sequence[_Load], x: svg.Scale, lower: float) -> None:
    """Shades the loads from the one on at which the limit showed."""
    verdict = document["verdict"]
    at = next((i for i, item in enumerate(loads) if item.stage["index"] == verdict["breaks_stage"]), None)
    if at is None:
        return
    edge = canvas.x0 if at == 0 else (x(loads[at - 1].level) + x(loads[at].level)) / 2
    found = document["capacity"]
    if found is not None and found["rate_per_s"] is not None:
        edge, at = _within(x, found["rate_per_s"]), 1
        if found["low_per_s"] is not None and found["high_per_s"] is not None:
            ends = [_within(x, found[key]) for key in ("low_per_s", "high_per_s")]
            around = f"{units.format_rate(found['low_per_s'])} to {units.format_rate(found['high_per_s'])}"
            tip = f"capacity {units.format_rate(found['rate_per_s'])}, 95 % interval {around}"
            canvas.add(svg.rect(ends[0], canvas.y1 - 2, max(ends[1] - ends[0], 2), 4, "bar ok", tip))
    words = {
        "objectives": ("misses its objectives", "misses"),
        "errors": ("errors", "errors"),
        "throughput": ("throughput no longer grows", "flat"),
        "capacity": ("beyond capacity, and its interval", "beyond capacity", "beyond"),
    }
    canvas.add(svg.rect(edge, canvas.y1, canvas.x1 - edge, canvas.y0 - canvas.y1 + lower + 30, "beyond"))
    if at > 0:
        canvas.add(svg.line(edge, canvas.y1, edge, canvas.y0 + lower + 30, "edge"))
    for text in words.get(verdict["basis"], ()):
        if len(text) * svg.CHAR <= canvas.width - edge - 8:
            canvas.add(svg.text(edge + 6, canvas.y1 - 7, text, "label bad"))
            break
    if at > 0 and edge - canvas.x0 > 44:
        canvas.add(
            svg.text(
                edge - 6, canvas.y1 - 7, "holds" if verdict["basis"] != "throughput" else "grows", "label good", "end"
            )
        )


def _within(x: svg.Scale, level: float) -> float:
    """Where a level is, or the nearest end of the scale."""
    return x(min(max(level, x.low), x.high))


def _doubtful(canvas: svg.Canvas, loads: Sequence[_Load], x: svg.Scale, lower: float) -> None:
    """Marks the loads at which the generator, not the server, was the limit."""
    named = False
    for i, item in enumerate(loads):
        if item.stage["validity"] != "invalid":
            continue
        begin = canvas.x0 if i == 0 else (x(loads[i - 1].level) + x(item.level)) / 2
        end = canvas.x1 if i == len(loads) - 1 else (x(loads[i + 1].level) + x(item.level)) / 2
        canvas.add(svg.rect(begin, canvas.y1, end - begin, canvas.y0 - canvas.y1 + lower + 30, "doubtful"))
        if not named:
            text = "generator at its limit"
            beside = len(text) * svg.CHAR <= canvas.width - begin
            canvas.add(
                svg.text(
                    begin + 4 if beside else canvas.width,
                    canvas.y1 - 7,
                    text,
                    "label doubt",
                    "start" if beside else "end",
                )
            )
            named = True


def _answers(canvas: svg.Canvas, loads: Sequence[_Load], x: svg.Scale, lower: float) -> None:
    """The lower panel: right answers per second as bars, wrong ones on top, and the load axis for both panels."""
    top, floor = canvas.y0 + 30, canvas.y0 + 30 + lower
    rates = [item.stage["goodput_per_s"] or 0.0 for item in loads]
    wrong = [_wrong_per_s(item.stage) for item in loads]
    most = max((a + b for a, b in zip(rates, wrong, strict=True)), default=0.0) or 1.0
    y = svg.Scale(0, most * 1.18, floor, top)
    places = [x(item.level) for item in loads]
    gaps = [b - a for a, b in pairwise(places) if b - a > 0.5]
    wide = min(max(min(gaps, default=40) * 0.62, 3), 40)
    for tick in svg.nice_ticks(0, most, 2):
        canvas.add(svg.line(canvas.x0, y(tick), canvas.x1, y(tick), "grid"))
        canvas.add(svg.text(canvas.x0 - 7, y(tick) + 4, units.format_rate(tick), "tick", "end"))
    reached = -math.inf
    for item, at, right, bad in zip(loads, places, rates, wrong, strict=True):
        faint = " faint" if item.stage["validity"] == "invalid" else ""
        tip = f"{item.stage['label']}: {cells.rate(right)} right answers, {cells.errors(item.stage)} went wrong"
        canvas.add(svg.rect(at - wide / 2, y(right), wide, floor - y(right), f"bar ok{faint}", tip))
        if bad > 0:
            canvas.add(
                svg.rect(at - wide / 2, y(right + bad), wide, y(right) - y(right + bad), f"bar wrong{faint}", tip)
            )
        text = units.format_rate(right).removesuffix("/s")
        if at - len(text) * svg.CHAR / 2 >= reached + 4:
            canvas.add(svg.text(at, y(right + bad) - 4, text, "value", "middle"))
            reached = at + len(text) * svg.CHAR / 2
    canvas.add(svg.line(canvas.x0, floor, canvas.x1, floor, "axis"))
    canvas.add(svg.text(canvas.x0, top - 4, "right answers per second", "panel"))
    reached = -math.inf
    closed = loads[0].stage["model"] == "closed"
    for item, at in zip(loads, places, strict=True):
        start, end = item.stage["start"], item.stage["end"]
        text = _level(end) if start == end else f"{_level(start)}–{_level(end)}"
        half = len(text) * svg.CHAR / 2
        if at - half >= reached + 6:
            canvas.add(
                svg.line(at, floor, at, floor + 4, "axis"), svg.text(at, floor + 18, text, "tick strong", "middle")
            )
            reached = at + half
    unit = "users" if closed else "requests due per second"
    canvas.add(svg.text((canvas.x0 + canvas.x1) / 2, floor + 35, unit, "panel", "middle"))


def _wrong_per_s(stage: Node) -> float:
    length = (stage["end_ns"] - stage["begin_ns"]) / 1e9
    return float(stage["tally"]["bad"]) / length if length > 0 else 0.0


# --- over time -------------------------------------------------------------------------------------------------------


def time_plots(document: Document) -> list[Plot]:
    """The run over time: requests per second, users, percentiles, and what went wrong; those that have something."""
    if not document["timeline"]["second"]:
        return []
    plots = [_throughput(document), _users(document), _percentiles(document), _wrong(document)]
    return [plot for plot in plots if plot is not None]


def _time_canvas(
    key: str, document: Document, width: int, height: int, labels: bool = True
) -> tuple[svg.Canvas, svg.Scale]:
    canvas = svg.Canvas(
        f"{key}-{width}",
        width,
        height,
        58 if width == WIDE else 50,
        104 if width == WIDE else 66,
        24 if labels else 8,
        26,
    )
    _, end = _seconds(document)
    x = svg.Scale(0, end, canvas.x0, canvas.x1)
    stage_bands(canvas, document, x, labels)
    return canvas, x


def _throughput(document: Document) -> Plot:
    timeline = document["timeline"]
    middles, _ = _seconds(document)
    per = timeline["bucket_s"]
    due = [value / per for value in timeline["due"]]
    right = [value / per for value in timeline["ok"]]
    bad = [sum(timeline[name][i] for name in WRONG) / per for i in range(len(middles))]
    title = "Requests per second"
    note = "By the second in which they were due: all that were due, those answered right, and those that went wrong."
    described = f"At most {units.format_rate(max(due))} due and {units.format_rate(max(right))} answered right."
    highest = max(max(due), max(right), 1.0)

    def draw(width: int) -> str:
        canvas, x = _time_canvas("throughput", document, width, 226)
        y = svg.Scale(0, highest * 1.05, canvas.y0, canvas.y1)
        canvas.y_axis(y, svg.nice_ticks(0, highest * 1.05, 5), units.format_rate)
        canvas.add(svg.area([(x(t), y(v)) for t, v in zip(middles, right, strict=True)], canvas.y0, "area ok"))
        labels = []
        for values, name, classes in ((due, "due", "due"), (right, "right", "ok"), (bad, "wrong", "wrong")):
            if classes == "wrong" and not any(values):
                continue
            canvas.add(svg.path([(x(t), y(v)) for t, v in zip(middles, values, strict=True)], f"line {classes}"))
            labels.append((y(values[-1]), name, classes))
        time_axis(canvas, x)
        _end_labels(canvas, labels)
        return canvas.done(_size(width), title, described)

    return Plot("throughput", title, note, *_drawn_twice(draw))


def _users(document: Document) -> Plot | None:
    timeline = document["timeline"]
    middles, _ = _seconds(document)
    arrive = bool(document["stages"]) and all(stage["model"] == "open" for stage in document["stages"])
    series = [
        (values, name, classes)
        for values, name, classes in (
            (timeline["users"], "users", "due"),
            (timeline["in_flight"], "in flight", "ok"),
        )
        # Who arrives whatever is answered is no population that could all be waiting.
        if any(value is not None for value in values) and (name != "users" or not arrive)
    ]
    if not series:
        return None
    highest = max(value for values, _, _ in series for value in values if value is not None) or 1.0
    has_users = series[0][1] == "users"
    title = (
        "Users and requests in flight"
        if has_users and len(series) == 2
        else "Users"
        if has_users
        else "Requests in flight"
    )
    note = (
        "Where requests in flight come near the number of users, everybody is waiting for an answer."
        if len(series) == 2
        else ("Active users." if has_users else "Sent and not yet answered.")
    )
    described = (
        f"At most {', '.join(f'{max(v for v in values if v is not None):.0f} {name}' for values, name, _ in series)}."
    )

    def draw(width: int) -> str:
        canvas, x = _time_canvas("users", document, width, 132, labels=False)
        y = svg.Scale(0, highest * 1.1, canvas.y0, canvas.y1)
        canvas.y_axis(y, svg.nice_ticks(0, highest * 1.1, 3), lambda value: f"{value:,g}")
        labels = []
        for values, name, classes in series:
            points = [(x(t), None if v is None else y(v)) for t, v in zip(middles, values, strict=True)]
            canvas.add(svg.path(points, f"line {classes}"))
            labels.append(([place for _, place in points if place is not None][-1], name, classes))
        time_axis(canvas, x)
        _end_labels(canvas, labels)
        return canvas.done(_size(width), title, described)

    return Plot("users", title, note, *_drawn_twice(draw))


def _percentiles(document: Document) -> Plot | None:
    timeline = document["timeline"]
    middles, end = _seconds(document)
    series = {name: timeline[f"{name}_ns"] for name in PERCENTILES}
    known = [value for values in series.values() for value in values if value]
    if not known:
        return None
    limits = duration_limits(document)
    low, high = svg.log_range([*known, *(limit for _, limit in limits)])
    title = "Response time over time"
    width = timeline["bucket_s"]
    each = "due in each second" if width == 1 else f"in the worst second of each {clock(width)}"
    note = f"p50, p95 and p99 of the right answers {each}; log scale."
    described = (
        f"p95 between {units.format_duration(min(v for v in series['p95'] if v))} and " if any(series["p95"]) else ""
    )
    described += f"{units.format_duration(max(v for v in series['p95'] if v))}." if any(series["p95"]) else ""

    def draw(width: int) -> str:
        canvas, x = _time_canvas("percentiles", document, width, 262)
        y = svg.Scale(low, high, canvas.y0, canvas.y1, True)
        canvas.y_axis(y, svg.log_ticks(low, high, 8), units.format_duration)
        for _, limit in limits:
            canvas.add(svg.line(canvas.x0, y(limit), canvas.x1, y(limit), "limit"))
        labels = []
        for name in reversed(PERCENTILES):
            points = [(x(t), y(v) if v else None) for t, v in zip(middles, series[name], strict=True)]
            canvas.add(svg.path(points, f"line thin {name}"))
            ends = [place for _, place in points if place is not None]
            if ends:
                labels.append((ends[-1], name, name))
        labels += _limit_labels(limits, y, width == WIDE)
        _stall_marks(canvas, document, x, end)
        time_axis(canvas, x)
        _end_labels(canvas, labels)
        return canvas.done(_size(width), title, described)

    return Plot("percentiles", title, note, *_drawn_twice(draw))


def _stall_marks(canvas: svg.Canvas, document: Document, x: svg.Scale, end: float) -> None:
    """A small triangle at the foot for each moment of a regular stall, the first one named."""
    for stall in document["stalls"][:1]:
        period, first, last = stall["period_ns"] / 1e9, stall["first_ns"] / 1e9, stall["last_ns"] / 1e9
        count = min(round((last - first) / period) + 1 if period > 0 else 1, 200)
        for k in range(count):
            at = first + k * period
            if 0 <= at <= end:
                canvas.add(svg.shape(f"M{svg.spot(x(at), canvas.y0 - 7)}l4 7h-8Z", "stall", "stall"))
        canvas.add(
            svg.text(
                x(first) + 8, canvas.y0 - 4, f"stall every {units.format_duration(stall['period_ns'])}", "label stall"
            )
        )


def _wrong(document: Document) -> Plot | None:
    timeline = document["timeline"]
    middles, _ = _seconds(document)
    per = timeline["bucket_s"]
    kinds = [name for name in WRONG if any(timeline[name])]
    if not kinds:
        return None
    names = {"failure": "failures", "error": "errors", "timeout": "timeouts", "not_sent": "not sent"}
    stacks = [sum(timeline[name][i] for name in kinds) for i in range(len(middles))]
    highest = max(stacks) / per
    title = "What went wrong over time"
    counted = ", ".join(f"{sum(timeline[name]):,} {names[name]}" for name in kinds)
    note = f"Per second, by the second in which they were due: {counted}."

    def draw(width: int) -> str:
        canvas, x = _time_canvas("wrong", document, width, 196)
        y = svg.Scale(0, highest * 1.08, canvas.y0, canvas.y1)
        canvas.y_axis(y, svg.nice_ticks(0, highest * 1.08, 4), lambda value: f"{value:,g}/s")
        prefix = "wrong-" + ("w" if width == WIDE else "n")
        bar = max((x(per) - x(0)) * 0.86, 0.8)
        for i, middle in enumerate(middles):
            floor = 0.0
            for name in kinds:
                count = timeline[name][i]
                if count:
                    rate = count / per
                    fill = f"url(#{prefix}-{name})" if name in ("error", "timeout") else ""
                    tip = f"{clock(timeline['second'][i])}: {plural(count, names[name].removesuffix('s'))}"
                    spot = x(middle) - bar / 2
                    canvas.add(
                        svg.rect(spot, y(floor + rate), bar, y(floor) - y(floor + rate), f"stack {name}", tip, fill)
                    )
                    floor += rate
        time_axis(canvas, x)
        _swatches(canvas, [(names[name], name, prefix) for name in kinds])
        return canvas.done(_size(width), title, note, _patterns(prefix))

    return Plot("wrong", title, note, *_drawn_twice(draw))


def _patterns(prefix: str) -> str:
    """Hatching for errors, dots for timeouts: kinds that can be told apart without colour."""
    return (
        f'<defs><pattern id="{prefix}-error" width="5" height="5" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect class="stack failure" width="2.4" height="5"/></pattern>'
        f'<pattern id="{prefix}-timeout" width="4" height="4" patternUnits="userSpaceOnUse">'
        f'<circle class="stack dot" cx="2" cy="2" r="1.3"/></pattern></defs>'
    )


def _swatches(canvas: svg.Canvas, items: Sequence[tuple[str, str, str]]) -> None:
    """The legend at the right: a box of each kind with its name."""
    for number, (text, name, prefix) in enumerate(items):
        y = canvas.y1 + 4 + number * 19
        fill = f"url(#{prefix}-{name})" if name in ("error", "timeout") else ""
        canvas.add(
            svg.rect(canvas.x1 + 8, y, 11, 11, f"stack {name}", fill=fill),
            svg.text(canvas.x1 + 24, y + 10, text, "label"),
        )


# --- one small plot per endpoint -------------------------------------------------------------------------------------


class Small(NamedTuple):
    """A small plot: the endpoint, its figures in words, and its drawing."""

    name: str
    note: str
    drawing: str


def multiples(document: Document) -> list[Small]:
    """p50 and p95 against load for the worst endpoints, on one scale."""
    loads = _by_load(document)
    endpoints = [item for item in document["endpoints"] if item["stages"]][:MOST_MULTIPLES]
    parts = [part["response"] for item in endpoints for part in item["stages"]]
    values = [part[name]["value"] for part in parts for name in SMALL_PERCENTILES]
    if len({item.level for item in loads}) < 2 or not any(values):
        return []
    low, high = svg.log_range(values)
    return [_small(document, endpoint, loads, low, high, number) for number, endpoint in enumerate(endpoints)]


def _small(document: Document, endpoint: Node, loads: Sequence[_Load], low: float, high: float, number: int) -> Small:
    canvas = svg.Canvas(f"small-{number}", 208, 128, 42, 12, 12, 22)
    x = _load_scale(loads, canvas.x0 + 6, canvas.x1 - 6)
    y = svg.Scale(low, high, canvas.y0, canvas.y1, True)
    for tick in svg.log_ticks(low, high, 4):
        canvas.add(svg.line(canvas.x0, y(tick), canvas.x1, y(tick), "grid"))
        canvas.add(svg.text(canvas.x0 - 5, y(tick) + 3.5, units.format_duration(tick), "tick small", "end"))
    for _, limit in duration_limits(document, endpoint["name"]):
        if low <= limit <= high:
            canvas.add(svg.line(canvas.x0, y(limit), canvas.x1, y(limit), "limit"))
    parts = {part["stage"]: part for part in endpoint["stages"]}
    held = [(x(item.level), item.stage, parts[item.stage["index"]]) for item in loads if item.stage["index"] in parts]
    for name in SMALL_PERCENTILES:
        points = [(at, stage, part["response"][name]) for at, stage, part in held]
        canvas.add(svg.path([(at, _place(y, estimate["value"])) for at, _, estimate in points], f"line {name}"))
        for at, stage, estimate in points:
            place = _place(y, estimate["value"])
            if place is not None:
                tip = f"{stage['label']}: {name} {cells.duration(estimate)}"
                canvas.add(svg.mark(at, place, name, tip, stage["validity"] == "invalid"))
    for at, stage, part in held:
        if (part["error_ratio"]["value"] or 0) >= MANY_ERRORS_RATIO:
            tip = f"{stage['load']}: {units.format_ratio(part['error_ratio']['value'])} went wrong"
            canvas.add(svg.shape(f"M{svg.spot(at - 3, canvas.y1 - 9)}l6 6m0-6l-6 6", "cross", tip))
    for item in (loads[0], loads[-1]):
        canvas.add(svg.text(x(item.level), canvas.y0 + 14, _level(item.level), "tick small", "middle"))
    unit = "users" if loads[0].stage["model"] == "closed" else "per second"
    canvas.add(svg.text((canvas.x0 + canvas.x1) / 2, canvas.y0 + 14, unit, "tick small", "middle"))
    canvas.add(svg.line(canvas.x0, canvas.y0, canvas.x1, canvas.y0, "axis"))
    p95 = endpoint["response"]["p95"]
    silent = [part["response"]["p95"] for _, _, part in held if part["response"]["p95"]["value"] is None]
    note = ""
    if silent and len(silent) == len(held):
        note = f"no p95 at any load: at best {max(silent, key=lambda part: part['n'])['why_not']}"
    elif p95["value"] is None:
        note = f"no p95: {p95['why_not']}"
    described = "; ".join(
        f"{stage['load']}: p50 {cells.duration(part['response']['p50'])}, p95 {cells.duration(part['response']['p95'])}"
        for _, stage, part in held
    )
    name = shown(endpoint["name"], 100)
    return Small(name, note, canvas.done("small", f"Response time against load: {name}", described))


def _place(scale: svg.Scale, value: float | None) -> float | None:
    return None if value is None or value <= 0 else scale(value)


# --- the strip in a table row ----------------------------------------------------------------------------------------


def strips(document: Document, endpoints: Sequence[Node]) -> Iterator[str]:
    """For each endpoint a strip on one log scale: p50, p95 with its interval, p99, and the limit."""
    parts = [endpoint["response"] for endpoint in endpoints]
    limits = duration_limits(document)
    values = [part[name][key] for part in parts for name in PERCENTILES for key in ("value", "low", "high")]
    low, high = svg.log_range([*values, *(limit for _, limit in limits)])
    x = svg.Scale(low, high, 4, 146, True)
    for endpoint, part in zip(endpoints, parts, strict=True):
        yield _strip(endpoint, part, x, [limit for _, limit in duration_limits(document, endpoint["name"])])


def _strip(endpoint: Node, response: Node, x: svg.Scale, limits: Sequence[float]) -> str:
    known = [response[name]["value"] for name in PERCENTILES if response[name]["value"] is not None]
    body = []
    for limit in limits[:2]:
        body.append(svg.line(x(limit), 1, x(limit), 17, "limit"))
    if known:
        body.append(svg.line(x(min(known)), 9, x(max(known)), 9, "span"))
    p95 = response["p95"]
    if p95["value"] is not None and p95["low"] is not None and p95["high"] is not None:
        body.append(svg.rect(x(p95["low"]), 5.5, max(x(p95["high"]) - x(p95["low"]), 1), 7, "ci"))
    for name in PERCENTILES:
        if response[name]["value"] is not None:
            body.append(svg.mark(x(response[name]["value"]), 9, name, ""))
    words = ", ".join(f"{name} {cells.duration(response[name])}" for name in PERCENTILES)
    label = escape(f"{shown(endpoint['name'])}: {words}", quote=True)
    return f'<svg class="strip" viewBox="0 0 150 18" role="img" aria-label="{label}">{"".join(body)}</svg>'
