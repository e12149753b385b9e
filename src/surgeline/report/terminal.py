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
        "├": "[",
        "┤": "]",
        "┼": "|",
        "●": "o",
    }
)


_UNIT = re.compile(r"(?<=\d) (?=(?:ns|µs|ms|s|min|h|B|kB|MB|GB|%|users?)(?!\w))")
"""The space between a number and its unit, where a line must not end."""


class Pen:
    """Colours a text or leaves it, by one flag."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, *styles: str) -> str:
        """The text in those styles."""
        codes = ";".join(_SGR[style] for style in styles if style in _SGR)
        return f"\x1b[{codes}m{text}\x1b[0m" if self._colour and codes and text else text


def render(document: Document, colour: bool = False, ascii: bool = False, width: int = WIDTH, cut: bool = True) -> str:
    """What `surgeline run` prints on stdout at the end. Without `cut` names stay whole, whatever the width."""
    return joined(_run(document, Pen(colour), max(width, 40), cut), ascii)


def joined(lines: Iterable[str], ascii: bool) -> str:
    """The lines as one text, in 7 bits where `ascii` asks for that."""
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii") if ascii else text


def _run(document: Document, pen: Pen, width: int, cut: bool) -> Iterator[str]:
    status = cells.status(document)
    yield from filled(
        shown(document["verdict"]["sentence"], 400),
        f"{status.mark} {status.word.upper()}  ",
        width,
        pen,
        ("bold", status.tone),
        ("bold",),
    )
    question = document["question"]
    if question is not None:
        yield ""
        yield from filled(shown(question["asked"], LONGEST_SENTENCE), "  ", width, pen, (), ("bold",))
        yield from filled(shown(question["answer"], LONGEST_SENTENCE), "  → ", width, pen, (question["tone"],))
    yield ""
    for line in (cells.setting(document), [cells.validity(document), *cells.books(document)]):
        yield from filled(" · ".join(shown(part) for part in line if part), "  ", width, pen, (), ("dim",))
    if document["capacity"] is not None:
        yield from filled(" · ".join(shown(part, 300) for part in cells.capacity(document)), "  ", width, pen)
    for key, heading, mark, empty in cells.BOXES:
        yield ""
        yield pen(heading, "bold")
        yield from _box(document["findings"][key], key, mark, cells.empty(document, empty), width, pen)
    if document["endpoints"]:
        yield ""
        yield pen("Endpoints, worst first", "bold")
        yield from _endpoints(document, pen, width if cut else UNCUT)
    for kind in cells.together(document):
        yield ""
        yield pen(kind.heading, "bold")
        yield from _together(kind, pen, width if cut else UNCUT)
    yield ""
    yield pen("How far to trust it", "bold")
    tones = {"good": "good", "note": "plain", "warning": "warn"}
    for item in document["trust"][: cells.MOST_TRUST]:
        mark = cells.LEVEL_MARKS[item["level"]]
        word = "warning: " if item["level"] == "warning" else ""
        yield from filled(word + shown(item["sentence"], 400), f"  {mark} ", width, pen, (tones[item["level"]],))


def filled(
    text: str,
    lead: str,
    width: int,
    pen: Pen,
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


def _box(box: Node, kind: str, mark: str, empty: str, width: int, pen: Pen) -> Iterator[str]:
    tone = {"well": "good", "failed": "bad", "explore": "plain"}[kind]
    for item, step in cells.on_page(box):
        yield from filled(shown(item["sentence"], LONGEST_SENTENCE), f"  {mark} ", width, pen, (tone,))
        if step:
            yield from filled(shown(step, LONGEST_SENTENCE), "    → ", width, pen, ("dim",), ("dim",))
        yield from filled(cells.confidence(item), "    ", width, pen, (), ("dim",))
    if box["more"]:
        yield f"    +{box['more']} more in report.html"
    if not box["items"]:
        yield f"    {pen(empty, 'dim')}"


def _row(part: Node) -> tuple[str, ...]:
    """An endpoint, a transaction or a message as a line of its table."""
    return (
        cells.mark(part["slo"]),
        shown(part["name"]),
        units.format_count(part["tally"]["due"]),
        *(cells.figure(part["response"][name]) for name in ("p50", "p95", "p99")),
        cells.errors(part),
    )


def _around(part: Node) -> tuple[str, ...]:
    """The intervals of such a line."""
    intervals = (cells.bracket(part["response"][name]) for name in ("p50", "p95", "p99"))
    return ("", "", "", *intervals, cells.bracket(part["error_ratio"], "ratio"))


def _endpoints(document: Document, pen: Pen, width: int) -> Iterator[str]:
    endpoints = document["endpoints"]
    chosen = endpoints[: cells.MOST_ROWS]
    # Without an objective nothing can be held.
    held = (
        [("holds up to", *(cells.holds(document, endpoint) for endpoint in chosen))] if document["objectives"] else []
    )
    yield from _ranked("endpoint", chosen, held, pen, width)
    more = len(endpoints) - len(chosen) + document["endpoints_left_out"]
    if more > 0:
        yield f"    +{more} more in endpoints.csv"
    told = cells.legend(chosen, search=document["capacity"] is not None, held=held[0][1:] if held else ())
    yield from filled(told, "    ", min(width, WIDTH), pen, (), ("dim",))


def _together(kind: cells.Together, pen: Pen, width: int) -> Iterator[str]:
    chosen = kind.parts[: cells.MOST_TOGETHER]
    yield from _ranked(kind.noun, chosen, [], pen, width)
    if len(kind.parts) > len(chosen):
        yield f"    +{len(kind.parts) - len(chosen)} more in {kind.file}"


def _ranked(noun: str, parts: Sequence[Node], more: Sequence[Sequence[str]], pen: Pen, width: int) -> Iterator[str]:
    """Each part's figures with their intervals: behind them in one line, below them in a second, or with the name in a
    line of its own, whatever there is room for. `more` are further columns, head first.
    """
    head = ("", noun, "due", "p50", "p95", "p99", "errors", *(column[0] for column in more))
    further = [tuple(column[place + 1] for column in more) for place in range(len(parts))]
    above = [(*_row(part), *others) for part, others in zip(parts, further, strict=True)]
    below = [(*_around(part), *("" for _ in others)) for part, others in zip(parts, further, strict=True)]
    whole = [
        tuple(" ".join(filter(None, pair)) for pair in zip(*pairs, strict=True))
        for pairs in zip(above, below, strict=True)
    ]
    if _room([head, *whole], width) >= max(len(row[1]) for row in (head, *whole)):
        rows, each = whole, 1
    elif (room := _room([head, *above, *below], width)) >= NARROWEST_NAME:
        rows, each = [row for pair in zip(above, below, strict=True) for row in _folded(*pair, room)], 2
    else:
        bare = [("", "", *row[2:]) for row in above]
        rows, each = [row for pair in zip(bare, below, strict=True) for row in pair], 2
        head = ("", "", *head[2:])
    named = {2 * place: line[:2] for place, line in enumerate(above)} if not head[1] else {}
    tones = {"✓": "good", "✗": "bad", "?": "warn"}
    for number, line in enumerate(table(head, "llrrrrrr"[: len(head)], rows, width - 2, shrink=1)):
        mark = line[:1]
        if number - 1 in named:
            sign, name = named[number - 1]
            yield f"  {pen(sign, tones.get(sign, ''))}  {name if len(name) <= width - 5 else name[: width - 6] + '…'}"
        faint = number == 0 or (each == 2 and number % 2 == 0)
        yield "  " + (pen(line, "dim") if faint else pen(mark, tones.get(mark, "")) + line[1:])


def _room(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns the names of a table have."""
    return width - sum(max(len(row[c]) for row in rows) + 2 for c in range(len(rows[0])) if c != 1) - 2


def _folded(above: Sequence[str], below: Sequence[str], room: int) -> Iterator[tuple[str, ...]]:
    """The two lines of a part; a name that has no room goes on in the second."""
    mark, name, *figures = above
    cut = _break(name, room)
    yield mark, name[:cut], *figures
    yield "", name[cut:], *below[2:]


def _break(name: str, room: int) -> int:
    """Where a name that has no room goes on in the next line: behind a slash or space of its second half, if any."""
    if len(name) <= room:
        return len(name)
    behind = max(name.rfind(sign, room // 2, room) for sign in "/ ?&")
    # A slash begins what follows it.
    return behind if behind > 0 else room


NARROWEST_NAME = 12
"""Columns that a name keeps, however narrow the terminal."""
UNCUT = 100_000
"""A width that no table passes: what a file or a pipe gets has whole names in it."""


def table(
    head: Sequence[str], align: str, rows: Sequence[Sequence[str]], width: int = WIDTH, shrink: int | None = None
) -> Iterator[str]:
    """Lines of a table, columns two spaces apart; column `shrink` gives way where the line would pass `width`."""
    wide = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    if shrink is not None:
        beyond = sum(wide) + 2 * (len(wide) - 1) - width
        wide[shrink] = max(wide[shrink] - max(beyond, 0), min(wide[shrink], NARROWEST_NAME))
    for row in (head, *rows):
        parts = []
        for text, size, side in zip(row, wide, align, strict=True):
            cut = text if len(text) <= size else text[: size - 1] + "…"
            parts.append(cut.rjust(size) if side == "r" else cut.ljust(size))
        yield "  ".join(parts).rstrip()


# --- runs list --------------------------------------------------------------------------------------------------------


def render_runs(
    entries: Iterable[Mapping[str, Any]],
    colour: bool = False,
    ascii: bool = False,
    width: int = WIDTH,
    cut: bool = True,
) -> str:
    """What `surgeline runs list` prints: one line a run, in the order they come.

    Each entry has `id` and may have `started_at`, `state`, `engine`, `baselines` (names), `problem`, and `verdict`, the
    verdict of its document; what is missing shows as an en dash.
    """
    pen = Pen(colour)
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
        return joined(["No runs here yet. Make one:  surgeline demo"], ascii)
    head = ("", "run", "started (UTC)", "engine", "state", "baseline", "verdict")
    lines = table(head, "lllllll", listed, width if cut else UNCUT, shrink=6)
    return joined((pen(line, "dim") if number == 0 else line for number, line in enumerate(lines)), ascii)
