"""What does a command print when it is done?

A document comes in, text for a terminal leaves: the verdict first, then the three boxes, the endpoints worst first, and
how far to trust it; where the files are is for the command to say. Colour never carries meaning alone, every line has
its mark and its word; the ASCII form keeps to 7 bits.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from surgeline import units
from surgeline.report import cells
from surgeline.report.cells import Document, Node
from surgeline.report.text import LONGEST_SENTENCE, shown

WIDTH = 100
"""Columns of the output unless told otherwise; a terminal of 100 columns is common, and prose stays readable."""

_SGR = {"good": "32", "bad": "31", "warn": "33", "plain": "36", "bold": "1", "dim": "2"}
_ASCII = str.maketrans(
    {
        "✓": "+",
        "✗": "x",
        "–": "-",
        "—": "-",
        "−": "-",
        "…": "...",
        "·": "|",
        "→": "->",
        "µ": "u",
        "×": "x",
        "≤": "<=",
        "≥": ">=",
        "≈": "~",
        "±": "+/-",
        "’": "'",
        "‘": "'",
        "“": '"',
        "”": '"',
        "│": "|",
        "─": "-",
    }
)


_UNIT = re.compile(r"(?<=\d) (?=(?:ns|µs|ms|s|min|h|B|kB|MB|GB|%|users?)(?!\w))")
"""The space between a number and its unit, where a line must not end."""


class _Pen:
    """Colours a text or leaves it, by one flag."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, *styles: str) -> str:
        codes = ";".join(_SGR[style] for style in styles if style in _SGR)
        return f"\x1b[{codes}m{text}\x1b[0m" if self._colour and codes and text else text


def render(document: Document, colour: bool = False, ascii: bool = False, width: int = WIDTH) -> str:
    """What `surgeline run` prints on stdout at the end."""
    return _joined(_run(document, _Pen(colour), max(width, 40)), ascii)


def _joined(lines: Iterable[str], ascii: bool) -> str:
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii") if ascii else text


def _run(document: Document, pen: _Pen, width: int) -> Iterator[str]:
    status = cells.status(document)
    yield from _filled(
        shown(document["verdict"]["sentence"], 400),
        f"{status.mark} {status.word.upper()}  ",
        width,
        pen,
        ("bold", status.tone),
        ("bold",),
    )
    yield ""
    for line in (cells.setting(document), [cells.validity(document), *cells.books(document)]):
        yield from _filled(" · ".join(shown(part) for part in line if part), "  ", width, pen, (), ("dim",))
    for key, heading, mark, empty in cells.BOXES:
        yield ""
        yield pen(heading, "bold")
        yield from _box(document["findings"][key], key, mark, empty, width, pen)
    if document["endpoints"]:
        yield ""
        yield pen("Endpoints, worst first", "bold")
        yield from _endpoints(document, pen, width)
    yield ""
    yield pen("How far to trust it", "bold")
    tones = {"good": "good", "note": "plain", "warning": "warn"}
    for item in document["trust"][: cells.MOST_TRUST]:
        mark = cells.LEVEL_MARKS[item["level"]]
        word = "warning: " if item["level"] == "warning" else ""
        yield from _filled(word + shown(item["sentence"], 400), f"  {mark} ", width, pen, (tones[item["level"]],))


def _filled(
    text: str,
    lead: str,
    width: int,
    pen: _Pen,
    lead_styles: tuple[str, ...] = (),
    styles: tuple[str, ...] = (),
) -> Iterator[str]:
    """`text` filled to `width` after `lead`; the lines after the first are indented to where the text begins."""
    whole = _UNIT.sub("\xa0", text)
    lines = textwrap.wrap(whole, max(width - len(lead), 20), break_on_hyphens=False) or [""]
    lines = [line.replace("\xa0", " ") for line in lines]
    yield pen(lead, *lead_styles) + pen(lines[0], *styles)
    for line in lines[1:]:
        yield " " * len(lead) + pen(line, *styles)


def _box(box: Node, kind: str, mark: str, empty: str, width: int, pen: _Pen) -> Iterator[str]:
    tone = {"well": "good", "failed": "bad", "explore": "plain"}[kind]
    for item, step in cells.on_page(box):
        yield from _filled(shown(item["sentence"], LONGEST_SENTENCE), f"  {mark} ", width, pen, (tone,))
        if step:
            yield from _filled(shown(step, LONGEST_SENTENCE), "    → ", width, pen, ("dim",), ("dim",))
        yield from _filled(cells.confidence(item), "    ", width, pen, (), ("dim",))
    if box["more"]:
        yield f"    +{box['more']} more in report.html"
    if not box["items"]:
        yield f"    {pen(empty, 'dim')}"


def _endpoints(document: Document, pen: _Pen, width: int) -> Iterator[str]:
    endpoints = document["endpoints"]
    rows = []
    for endpoint in endpoints[: cells.MOST_ROWS]:
        response = endpoint["response"]
        rows.append(
            (
                cells.mark(endpoint["slo"]),
                shown(endpoint["name"]),
                units.format_count(endpoint["tally"]["due"]),
                *(cells.duration(response[name]) for name in ("p50", "p95", "p99")),
                cells.errors(endpoint),
                cells.holds(document, endpoint),
            )
        )
    head = ("", "endpoint", "due", "p50", "p95", "p99", "errors", "holds up to")
    tones = {"✓": "good", "✗": "bad", "?": "warn"}
    for number, line in enumerate(table(head, "llrrrrrr", rows, width - 2, shrink=1)):
        mark = line[:1]
        yield "  " + (pen(line, "dim") if number == 0 else pen(mark, tones.get(mark, "")) + line[1:])
    more = len(endpoints) - len(rows) + document["endpoints_left_out"]
    if more > 0:
        yield f"    +{more} more in endpoints.csv"


def table(
    head: Sequence[str], align: str, rows: Sequence[Sequence[str]], width: int = WIDTH, shrink: int | None = None
) -> Iterator[str]:
    """Lines of a table, columns two spaces apart; column `shrink` gives way where the line would pass `width`."""
    wide = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    if shrink is not None:
        beyond = sum(wide) + 2 * (len(wide) - 1) - width
        wide[shrink] = max(wide[shrink] - max(beyond, 0), min(wide[shrink], 12))
    for row in (head, *rows):
        parts = []
        for text, size, side in zip(row, wide, align, strict=True):
            cut = text if len(text) <= size else text[: size - 1] + "…"
            parts.append(cut.rjust(size) if side == "r" else cut.ljust(size))
        yield "  ".join(parts).rstrip()


# --- compare and runs list -------------------------------------------------------------------------------------------


def render_comparison(document: Document, colour: bool = False, ascii: bool = False, width: int = WIDTH) -> str:
    """What `surgeline compare` prints: p50 and p95 of both sides, and how much they differ."""
    return _joined(_comparison(document, _Pen(colour), width), ascii)


_WORDS = {
    "regressed": "✗ regressed",
    "improved": "✓ improved",
    "unchanged": "= unchanged",
    "inconclusive": "? inconclusive",
}


def _comparison(document: Document, pen: _Pen, width: int) -> Iterator[str]:
    base, candidate = document["base"], document["candidate"]
    yield from _filled(shown(document["sentence"], LONGEST_SENTENCE), "", width, pen, (), ("bold",))
    counts = [f"{count} {word}" for word, count in document["counts"].items() if count]
    if document["comparable"] and counts:
        yield f"Endpoints: {', '.join(counts)}"
    yield ""
    for side, run in (("base", base), ("candidate", candidate)):
        facts = " · ".join(shown(part) for part in run["setting"])
        yield from _filled(facts, f"  {side:<10}", width, pen, ("dim",))
    for reason in document["obstacles"]:
        yield from _filled(f"not comparable: {shown(reason)}", "  ✗ ", width, pen, ("warn",))
    for reason in document["differences"]:
        yield from _filled(shown(reason), "  ~ ", width, pen, ("dim",))
    yield ""
    names = (shown(base["label"], 14), shown(candidate["label"], 14))
    head = ("endpoint", *(f"{metric} {name}" for metric in ("p50", "p95") for name in names), "change", "errors", "")
    rows = [_compared(row) for row in document["rows"]]
    tones = {"regressed": "bad", "improved": "good", "inconclusive": "plain"}
    for number, line in enumerate(table(head, "lrrrrrrl", rows, width - 2, shrink=0)):
        tone = tones.get(document["rows"][number - 1]["word"] or "", "") if number else "dim"
        yield "  " + pen(line, tone)
    if document["rows_left_out"]:
        yield f"  +{document['rows_left_out']} more"
    yield ""
    if document["mark_sentence"]:
        yield from _filled(shown(document["mark_sentence"], LONGEST_SENTENCE), "  ", width, pen, (), ("dim",))


def _compared(row: Node) -> tuple[str, ...]:
    p50, p95, errors = row["p50"], row["p95"], row["errors"]
    before, after = (units.format_ratio(errors[side]["value"]) for side in ("base", "candidate"))
    return (
        shown(row["name"]),
        cells.duration(p50["base"]),
        cells.duration(p50["candidate"]),
        cells.duration(p95["base"]),
        cells.duration(p95["candidate"]),
        cells.change(p95["change"]),
        before if before == after else f"{before.removesuffix(' %')} → {after}",
        _WORDS.get(row["word"] or "", "–"),
    )


def render_runs(
    entries: Iterable[Mapping[str, Any]], colour: bool = False, ascii: bool = False, width: int = WIDTH
) -> str:
    """What `surgeline runs list` prints: one line a run, in the order they come.

    Each entry has `id` and may have `started_at`, `state`, `engine`, `baselines` (names), `problem`, and `verdict`, the
    verdict of its document; what is missing shows as an en dash.
    """
    pen = _Pen(colour)
    listed = []
    for entry in entries:
        verdict = entry.get("verdict") or {}
        verdict = verdict if isinstance(verdict, Mapping) else {"sentence": verdict}
        sentence = verdict.get("sentence") or entry.get("problem") or "–"
        listed.append(
            (
                cells.mark(verdict.get("slo")).strip() or ("~" if verdict else " "),
                shown(entry.get("id", "")),
                shown(entry.get("started_at") or "–").replace("T", " ")[:16],
                shown(entry.get("engine") or "–"),
                shown(entry.get("state") or "–"),
                ", ".join(shown(name, 40) for name in entry.get("baselines") or ()) or "–",
                shown(sentence, LONGEST_SENTENCE),
            )
        )
    if not listed:
        return _joined(["No runs here yet. Make one:  surgeline demo"], ascii)
    head = ("", "run", "started (UTC)", "engine", "state", "baseline", "verdict")
    lines = table(head, "lllllll", listed, width, shrink=6)
    return _joined((pen(line, "dim") if number == 0 else line for number, line in enumerate(lines)), ascii)
