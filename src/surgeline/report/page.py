"""What does the run's page look like as Markdown?

A document comes in, one A4 page of Markdown leaves: the verdict sentence; the load it rests on; performed well, failed,
what to explore next, each line with its number; the endpoints, worst first; how far to trust it; what to type next.
Texts of others cannot become markup, links or table cells of their own.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from surgeline import units
from surgeline.report import cells
from surgeline.report.cells import Document, Node
from surgeline.report.text import LONGEST_SENTENCE, middle_cut, shown

_MARKUP = re.compile(
    r"[\\`*\[|$]"  # code, emphasis, links, cells, formulas
    r"|<(?=[A-Za-z/!?])|^[>#+-]|&(?=#|\w+;)"  # tags, blocks, entities
    r"|(?<![^\W_])_|_(?![^\W_])|~(?=\S)|(?<=\S)~"  # emphasis and strike-through; not within a word, not around spaces
    r"|(?<=http):(?=//)|(?<=https):(?=//)|(?<=ftp):(?=//)|(?<=mailto):|(?<=www)\.",  # addresses that link themselves
    re.IGNORECASE,
)


LINES, COLUMNS = 70, 112
"""What an A4 sheet holds in nine-point type; found by printing pages of all kinds."""

LONGEST_NAME, SHORTEST_NAME = 80, 32
"""Characters of an endpoint's name in the table, at most and where a line is too long: `report.html` has it whole."""


class _Fit(NamedTuple):
    """What a page shows: next steps, how sure each finding is, what is in order, lines in a box, stages, endpoints,
    statements of trust, commands.
    """

    steps: bool
    confidence: bool
    good: bool
    findings: int = 4
    stages: int = cells.MOST_STAGES
    rows: int = cells.MOST_ROWS
    trust: int = cells.MOST_TRUST
    commands: int = 9


_FITS = (
    _Fit(True, True, True),
    _Fit(False, True, True),
    _Fit(False, False, True),
    _Fit(False, False, False),
    _Fit(False, False, False, stages=5),
    _Fit(False, False, False, stages=5, trust=5, commands=1),
    _Fit(False, False, False, findings=3, stages=4, trust=5, commands=1),
    _Fit(False, False, False, findings=3, stages=3, rows=9, trust=4, commands=1),
    _Fit(False, False, False, findings=2, stages=3, rows=8, trust=4, commands=1),
    _Fit(False, False, False, findings=1, stages=3, rows=8, trust=3, commands=1),
)
"""In which order things give way where a page would be longer than a sheet."""


def render(document: Document) -> str:
    """The page. The same document gives the same text."""
    lines: list[str] = []
    for fit in _FITS:
        lines = list(_lines(document, fit))
        if sum(max(-(-len(line) // COLUMNS), 1) for line in lines) <= LINES:
            break
    return "\n".join(lines) + "\n"


def escaped(text: object) -> str:
    """A text that means itself in Markdown, also in a table cell: no markup, no HTML, no link that makes itself."""
    return _MARKUP.sub(lambda match: "\\" + match[0], shown(text, LONGEST_SENTENCE))


def _lines(document: Document, fit: _Fit) -> Iterator[str]:
    status = cells.status(document)
    yield f"# {status.mark} {escaped(document['verdict']['sentence'])}"
    yield ""
    if document["question"] is not None:
        yield f"**{escaped(document['question']['asked'])}** {escaped(document['question']['answer'])}"
        yield ""
    yield " · ".join(filter(None, (f"**{status.word}**", cells.validity(document), *cells.books(document))))
    target, *facts = cells.setting(document)
    yield f"{_code(target)} · {' · '.join(map(escaped, facts))} · run {escaped(document['run']['id'])}"
    if document["capacity"] is not None:
        yield f"{' · '.join(map(escaped, cells.capacity(document)))}"
    if document["stages"]:
        yield ""
        yield from _stages(document, fit)
    for key, heading, mark, empty in cells.BOXES:
        yield ""
        yield f"## {heading}"
        yield ""
        yield from _box(document["findings"][key], mark, cells.empty(document, empty), fit)
    if document["endpoints"]:
        yield ""
        yield "## Endpoints, worst first"
        yield ""
        yield from _endpoints(document, fit.rows)
    for kind in cells.together(document):
        yield ""
        yield from _together(kind)
    yield ""
    yield "## How far to trust it"
    yield ""
    held = [item for item in document["trust"][: cells.MOST_TRUST] if fit.good or item["level"] != "good"]
    for item in held[: fit.trust]:
        yield f"- {cells.LEVEL_MARKS[item['level']]} {escaped(item['sentence'])}"
    if len(held) > fit.trust:
        yield f"- +{len(held) - fit.trust} more in report.html"
    yield ""
    yield "## Next"
    yield ""
    for item in document["next"][: fit.commands]:
        yield f"- {_code(item['command'])} – {escaped(item['why'])}"


def _code(text: str) -> str:
    """A code span; a backtick within gets a longer fence."""
    plain = shown(text, 400)
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{space}{plain}{space}{fence}"


def _box(box: Node, mark: str, empty: str, fit: _Fit) -> Iterator[str]:
    for item, step in cells.on_page(box, fit.findings):
        then = f" → {escaped(step)}" if step and fit.steps else ""
        sure = f" *({escaped(cells.confidence(item))})*" if fit.confidence else ""
        yield f"- {mark} {escaped(item['sentence'])}{then}{sure}"
    more = box["more"] + max(box["shown"] - fit.findings, 0)
    if more:
        yield f"- +{more} more in report.html"
    if not box["items"]:
        yield empty


def _table(head: Iterable[str], align: str, body: Iterable[Iterable[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join({"l": "---", "r": "--:"}[side] for side in align) + "|"
    for row in body:
        yield "| " + " | ".join(row) + " |"


def _stages(document: Document, fit: _Fit) -> Iterator[str]:
    chosen = cells.stages_on_page(document, fit.stages)
    verdict = document["verdict"]

    def row(stage: Node) -> tuple[str, ...]:
        note = ""
        if stage["validity"] != "valid":
            note = f" ({stage['validity']})"
        elif stage["index"] == verdict["breaks_stage"]:
            note = " ✗"
        response = stage["response"]
        return (
            escaped(stage["label"]) + note,
            f"{cells.rate(stage['goodput_per_s'])} {cells.rate_bracket(stage)}".rstrip(),
            *(cells.with_interval(response[name]) for name in ("p50", "p95", "p99")),
            cells.errors(stage, True),
        )

    left_out = len(document["stages"]) - len(chosen)
    head = "Load" if not left_out else f"Load ({left_out} of {len(document['stages'])} stages only in endpoints.csv)"
    yield from _table((head, "ok per s", "p50", "p95", "p99", "errors"), "lrrrrr", map(row, chosen))
    yield ""
    endpoints = document["endpoints"][: cells.MOST_ROWS]
    yield cells.legend([*chosen, *endpoints], chosen, held=cells.all_held(document, endpoints))


def _row(part: Node, *more: str) -> tuple[str, ...]:
    """An endpoint, a transaction or a message as a line of its table, `more` behind it.

    Its name gives way where the line would be longer than the sheet is wide.
    """
    figures = (
        units.format_count(part["tally"]["due"]),
        *(cells.with_interval(part["response"][name]) for name in ("p50", "p95", "p99")),
        cells.errors(part, True),
        *more,
    )
    room = COLUMNS - len("| ✗  |") - sum(len(text) + len("  |") for text in figures)
    name = middle_cut(part["name"], min(max(room, SHORTEST_NAME), LONGEST_NAME))
    return f"{cells.mark(part['slo'])} {escaped(name)}".strip(), *figures


_HEAD = ("due", "p50", "p95", "p99", "errors")


def _together(kind: cells.Together) -> Iterator[str]:
    """What is timed beside the requests, one line each, slowest first."""
    yield from _table((kind.noun.capitalize(), *_HEAD), "lrrrrr", map(_row, kind.parts[: cells.MOST_TOGETHER]))
    yield from _more(len(kind.parts) - cells.MOST_TOGETHER, kind.file)


def _endpoints(document: Document, most: int) -> Iterator[str]:
    endpoints = document["endpoints"]
    chosen = endpoints[:most]
    if document["objectives"]:
        # Without an objective nothing can be held.
        body = (_row(endpoint, cells.holds(document, endpoint)) for endpoint in chosen)
        yield from _table(("Endpoint", *_HEAD, "holds up to"), "lrrrrrr", body)
    else:
        yield from _table(("Endpoint", *_HEAD), "lrrrrr", map(_row, chosen))
    yield from _more(len(endpoints) - most + document["endpoints_left_out"], "endpoints.csv")


def _more(count: int, file: str) -> Iterator[str]:
    if count > 0:
        yield ""
        yield f"+{count} more in {file}"
