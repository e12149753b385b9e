"""How does a comparison read where there is only text: in a terminal, in a comment, in CI's own formats?

A comparison document comes in; text leaves. A sign is never coloured: colour belongs to a decision, *regressed* or
*improved*. The comment keeps to fifteen lines whatever happened.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from surgeline import units
from surgeline.analysis.effects import MOST_RUNS
from surgeline.report.terminal import UNCUT, WIDTH, Pen, filled, joined, table
from surgeline.report.text import LONGEST_SENTENCE, middle_cut, plural, shown

Document = Mapping[str, Any]

MARKS = {"regressed": "✗", "improved": "✓", "unchanged": "=", "inconclusive": "?"}
_TONES = {"regressed": "bad", "improved": "good", "inconclusive": "plain"}
PLOT = 21
"""Characters of the plot of an interval; odd, so that zero has a place."""
MOST_ROWS = 24
COMMENT_LINES = 15
GATE_WORDS = {"failed": "FAIL", "passed": "pass", "inconclusive": "inconclusive", "invalid": "no verdict", "": "–"}


def render(
    document: Document,
    colour: bool = False,
    ascii: bool = False,
    width: int = WIDTH,
    all_rows: bool = False,
    cut: bool = True,
) -> str:
    """What `surgeline compare` prints. Without `cut` names stay whole, whatever the width."""
    return joined(_screen(document, Pen(colour), max(width, 60), all_rows, cut), ascii)


def _screen(document: Document, pen: Pen, width: int, all_rows: bool, cut: bool) -> Iterator[str]:
    yield from filled(shown(document["sentence"], LONGEST_SENTENCE), "", width, pen, (), ("bold",))
    for side in ("base", "candidate"):
        part = document[side]
        facts = " · ".join(shown(fact) for fact in part["setting"])
        said = facts if part["label"] == side else f"{part['label']}: {facts}"
        yield from filled(said, f"  {side:<10}", width, pen, ("dim",))
    for reason in document["obstacles"]:
        yield from filled(f"not comparable: {shown(reason, 300)}", "  ✗ ", width, pen, ("warn",))
    for reason in (*document["differences"], *document["cautions"]):
        yield from filled(shown(reason, 300), "  ~ ", width, pen, ("dim",))
    yield ""
    if document["comparable"]:
        yield _counts(document)
        yield ""
    rows, hidden = rows_shown(document, all_rows)
    span = plot_span(rows)
    # Runs of one day differ at the end of their names.
    label = [middle_cut(part["label"], 14) for part in (document["base"], document["candidate"])]
    scale = f"−{span * 100:.0f} %".ljust(PLOT // 2) + "0" + f"+{span * 100:.0f} %".rjust(PLOT // 2)
    head = ("", "endpoint", "metric", *label, "change", "95 % interval", scale, "verdict", "p")
    lines = [_row(row, span) for row in rows]
    for number, line in enumerate(table(head, "lllrrrlllr", lines, max(width, 124) if cut else UNCUT, shrink=1)):
        tone = _TONES.get(rows[number - 1]["word"] or "", "") if number else "dim"
        yield " " + pen(line, tone)
    if hidden:
        yield f"   … {plural(hidden, 'more row')} (--all)"
    yield ""
    for row in rows:
        if row["caution"] and row["word"] in ("regressed", "improved"):
            text = f"{row['metric']} of {row['endpoint']}: {row['caution']}"
            yield from filled(shown(text, LONGEST_SENTENCE), "  ~ ", width, pen, ("warn",))
    for shift in document["shifts"]:
        if shift["sentence"]:
            yield from filled(shown(shift["sentence"], LONGEST_SENTENCE), "  Where it sits: ", width, pen)
    for state, mark in (("new", "+"), ("gone", "−")):
        for item in document["findings"][state]:
            if item["kind"] != "well":
                yield from filled(shown(item["sentence"], LONGEST_SENTENCE), f"  {mark} {state} finding: ", width, pen)
    persisting = [item for item in document["findings"]["persisting"] if item["kind"] == "failed"]
    if persisting:
        yield f"  = {plural(len(persisting), 'finding')} on both sides that something failed"
    for text in (_attempts(document), f"Order of the runs: {document['order']}." if document["order"] else "",
                 document["noise_sentence"], document["mark_sentence"]):  # fmt: skip
        if text:
            yield from filled(shown(text, LONGEST_SENTENCE), "  ", width, pen, (), ("dim",))
    if document["resume"]:
        yield from filled(shown(document["resume"], LONGEST_SENTENCE), "  In a line: ", width, pen, (), ("bold",))


def _counts(document: Document) -> str:
    parts = [f"{MARKS[word]} {count} {word}" for word, count in document["counts"].items() if count]
    gate = document["gate"]
    said = GATE_WORDS[gate["word"]]
    if gate["looked_at"]:
        parts.append(f"gate: {said} ({plural(gate['looked_at'], 'figure')})")
    if document["indicative"]:
        parts.append("indicative")
    return " " + "   ".join(parts)


def _attempts(document: Document) -> str:
    gate = document["gate"]
    if gate["attempt"] < 2:
        return ""
    before = ", ".join(gate["before"])
    return (
        f"This gate was asked {gate['attempt']} times for this commit (before: {before}). "
        "Running again until it passes finds luck, not quality."
    )


def rows_shown(document: Document, all_rows: bool = False) -> tuple[list[Mapping[str, Any]], int]:
    """The rows a screen has room for, and how many it leaves out.

    All that has a word for a change; of the rest p95 of each endpoint, and errors where there are any.
    """
    rows = list(document["changes"])
    if all_rows:
        return rows, 0
    chosen = [row for row in rows if _worth(row)][:MOST_ROWS]
    return chosen, len(rows) - len(chosen)


def _worth(row: Mapping[str, Any]) -> bool:
    if row["word"] in ("regressed", "improved") or row["metric"] in ("p95", "capacity", "goodput"):
        return True
    return row["metric"] == "errors" and bool(row["base"]["value"] or row["candidate"]["value"])


def plot_span(rows: Sequence[Mapping[str, Any]]) -> float:
    """How far the plots of intervals reach to either side: 20 %, or as much as the larger changes need, up to 100 %."""
    reach = max(
        (abs(row["change"]) for row in rows if row["change"] is not None and row["unit"] != "ratio"), default=0.0
    )
    return next((span for span in (0.2, 0.4, 0.6) if reach <= span), 1.0)


def _row(row: Mapping[str, Any], span: float) -> tuple[str, ...]:
    word = row["word"]
    verdict = f"{word or '–'}"
    if word == "regressed":
        verdict = "REGRESSED"
    elif word == "improved":
        verdict = "IMPROVED"
    elif word == "unchanged" and row["budget"]:
        verdict = f"unchanged ±{budget_text(row)}"
    elif word == "inconclusive" and row["runs_needed"]:
        needed = runs_text(row)
        verdict = f"inconclusive ({needed if row['runs_needed'] >= MOST_RUNS else f'≈ {needed} runs a side'})"
    elif word is None:
        verdict = row["reason"] or "–"
    p = row["p_table"]
    return (
        MARKS.get(word or "", " "),
        shown(row["endpoint"]),
        row["metric"],
        figure(row, row["base"]["value"]),
        figure(row, row["candidate"]["value"]),
        change_text(row),
        interval_text(row),
        _plot(row, span),
        shown(verdict, 60),
        "" if p is None or word is None else f"{p:.2g}" if p >= 0.0001 else "< 0.0001",
    )


def figure(row: Mapping[str, Any], value: float | None) -> str:
    """A figure of a row, in its unit."""
    if row["unit"] == "ns":
        return units.format_duration(value)
    return units.format_ratio(value) if row["unit"] == "ratio" else units.format_rate(value)


def change_text(row: Mapping[str, Any]) -> str:
    """The change: `+22.8 %`, of errors `+0.3 pp`."""
    return _signed(row["change"], row["unit"])


def interval_text(row: Mapping[str, Any]) -> str:
    """`[+16.1, +30.0]`, without the unit of the change before it."""
    if row["low"] is None or row["high"] is None:
        return ""
    ends = (_signed(row[end], row["unit"]).removesuffix(" %").removesuffix(" pp") for end in ("low", "high"))
    return f"[{', '.join(ends)}]"


def _signed(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    percent = value * 100
    digits = 1 if abs(percent) < 100 else 0
    if unit == "ratio":
        digits = 2
    text = f"{abs(percent):,.{digits}f}"
    sign = "±" if round(percent, digits) == 0 else "+" if percent > 0 else "−"
    return f"{sign}{text} {'pp' if unit == 'ratio' else '%'}"


def runs_text(row: Mapping[str, Any]) -> str:
    """How many runs a side would tell; `too noisy` where no number in reach would, an en dash where none is asked."""
    needed = row["runs_needed"]
    return "–" if not needed else str(needed) if needed < MOST_RUNS else "too noisy"


def budget_text(row: Mapping[str, Any]) -> str:
    """The change that matters: `5 %`, of errors `0.1 pp`."""
    if row["budget"] is None:
        return "–"
    return f"{row['budget'] * 100:.3g} {'pp' if row['unit'] == 'ratio' else '%'}"


def _plot(row: Mapping[str, Any], span: float) -> str:
    """`  ├──●──┤  |`: the interval on a line on which zero is in the middle."""
    middle = PLOT // 2
    line = [" "] * PLOT
    line[middle] = "|"
    if row["unit"] == "ratio" or row["change"] is None or row["low"] is None:
        return "".join(line).rstrip()

    def at(value: float) -> int:
        return min(max(round(middle + value / span * middle), 0), PLOT - 1)

    low, high, dot = at(row["low"]), at(row["high"]), at(row["change"])
    for place in range(low, high + 1):
        line[place] = "─" if place != middle else "┼"
    if low < high:
        line[low], line[high] = "├", "┤"
    line[dot] = "●"
    return "".join(line).rstrip()


# --- for CI ----------------------------------------------------------------------------------------------------------


def comment(document: Document) -> str:
    """A comment on a change, as Markdown: at most fifteen lines, the rest folded into one of them."""
    gate = document["gate"]
    mark = {"failed": "❌", "passed": "✅"}.get(gate["word"], "⚠️")
    lines = [f"### {mark} Surgeline gate: {GATE_WORDS[gate['word']]}", "", escaped(document["sentence"])]
    if document["obstacles"]:
        lines += ["", *(f"- not comparable: {escaped(reason)}" for reason in document["obstacles"][:4])]
    else:
        rows = [row for row in document["changes"] if row["gate"] or row["word"] in ("regressed", "improved")]
        rows.sort(key=lambda row: ("failed", "inconclusive", "passed", "").index(row["gate"]))
        if rows:
            lines += [
                "",
                "| endpoint | metric | change | 95 % interval | verdict |",
                "| --- | --- | ---: | --- | --- |",
            ]
            room = COMMENT_LINES - len(lines) - 3
            lines += [_comment_row(row) for row in rows[:room]]
            if len(rows) > room:
                lines[-1] = f"| … {len(rows) - room + 1} more | | | | |"
    notes = [text for text in (_attempts(document), document["mark_sentence"], document["noise_sentence"]) if text]
    if notes:
        lines += ["", "<sub>" + " ".join(escaped(note) for note in notes) + "</sub>"]
    return "\n".join(lines[:COMMENT_LINES]) + "\n"


def _comment_row(row: Mapping[str, Any]) -> str:
    word = {"failed": "**regressed**", "inconclusive": "inconclusive", "passed": "within budget"}.get(row["gate"])
    return (
        f"| {escaped(row['endpoint'])} | {row['metric']} | {change_text(row)} | {interval_text(row)} | "
        f"{word or row['word'] or '–'} |"
    )


def escaped(text: object) -> str:
    """Text that Markdown shows as it is."""
    plain = escape(shown(text, LONGEST_SENTENCE), quote=False)
    return "".join(f"\\{char}" if char in "\\`*_[]|#@!" else char for char in plain)


def annotations(document: Document) -> str:
    """GitHub's workflow commands: an error for each figure that failed, a warning where nothing can be said."""
    lines = []
    for row in document["changes"]:
        if row["gate"] == "failed":
            text = (
                f"{row['metric']} of {row['endpoint']}: {figure(row, row['base']['value'])} → "
                f"{figure(row, row['candidate']['value'])} ({change_text(row)}, 95 % interval {interval_text(row)}), "
                f"budget {budget_text(row)}"
            )
            lines.append(f"::error title=Surgeline: {_command(row['endpoint'])} regressed::{_command(text)}")
    for reason in document["obstacles"]:
        lines.append(f"::warning title=Surgeline: not comparable::{_command(reason)}")
    if document["gate"]["attempt"] > 1:
        lines.append(
            f"::notice title=Surgeline: attempt {document['gate']['attempt']}::{_command(_attempts(document))}"
        )
    return "".join(f"{line}\n" for line in lines)


def _command(text: str) -> str:
    plain = shown(text, LONGEST_SENTENCE).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return plain.replace(":", "%3A").replace(",", "%2C")


def junit(document: Document) -> str:
    """The gate as JUnit XML: one case for each figure it looks at."""
    rows = [row for row in document["changes"] if row["gate"]]
    cases = [_case(row) for row in rows]
    failed = sum(row["gate"] == "failed" for row in rows)
    skipped = sum(row["gate"] == "inconclusive" for row in rows)
    errors = 0
    if document["obstacles"]:
        errors = 1
        reason = _xml("; ".join(document["obstacles"]))
        cases.append(
            f'  <testcase classname="surgeline.gate" name="comparable"><error message="{reason}"/></testcase>\n'
        )
    name = _xml(f"{document['candidate']['label']} against {document['base']['label']}")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites><testsuite name="{name}" tests="{len(cases)}" failures="{failed}" errors="{errors}" '
        f'skipped="{skipped}">\n{"".join(cases)}</testsuite></testsuites>\n'
    )


def _case(row: Mapping[str, Any]) -> str:
    said = (
        f"{figure(row, row['base']['value'])} to {figure(row, row['candidate']['value'])}, {change_text(row)}, "
        f"95 % interval {interval_text(row)}, budget {budget_text(row)}"
    )
    head = f'  <testcase classname="surgeline.gate.{_xml(row["metric"])}" name="{_xml(row["endpoint"])}"'
    if row["gate"] == "failed":
        return f'{head}><failure message="{_xml(said)}"/></testcase>\n'
    if row["gate"] == "inconclusive":
        return f'{head}><skipped message="{_xml("inconclusive: " + said)}"/></testcase>\n'
    return f"{head}/>\n"


def _xml(text: str) -> str:
    return escape(shown(text, LONGEST_SENTENCE), quote=True)


def badge(document: Document) -> str:
    """A small SVG with the gate's word, for a README."""
    word = {"failed": "regressed", "passed": "no regression", "inconclusive": "inconclusive"}.get(
        document["gate"]["word"], "no verdict"
    )
    colour = {"failed": "#c62828", "passed": "#2e7d32"}.get(document["gate"]["word"], "#757575")
    label = "performance"
    left, right = 8 * len(label) + 4, 7 * len(word) + 14
    width = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}: {word}">'
        f"<title>{label}: {word}</title>"
        f'<rect width="{width}" height="20" rx="3" fill="#444"/>'
        f'<path fill="{colour}" d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{right - 3}z"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{left // 2}" y="14">{label}</text><text x="{left + right // 2}" y="14">{word}</text></g></svg>\n'
    )


def sides(document: Document) -> str:
    """`main → last`."""
    return f"{document['base']['label']} → {document['candidate']['label']}"
