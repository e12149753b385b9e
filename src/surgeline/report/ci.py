"""What does a build server get of a run: JUnit XML, and a few lines of Markdown for its summary page.

A document comes in, text leaves. An objective is a test: met passes, missed fails, no data is skipped; an invalid
measurement is an error, and nothing else is then a test. Findings are no tests: they stand in the suite's output and
below the objectives. The same document gives the same bytes.
"""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from surgeline import units
from surgeline.report import cells
from surgeline.report.cells import Document, Node
from surgeline.report.page import escaped
from surgeline.report.text import LONGEST_SENTENCE, shown

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MOST_LINES = 4


def junit(document: Document) -> str:
    """The run as one test suite."""
    cases: list[tuple[str, str, str]] = []
    verdict = document["verdict"]
    if verdict["validity"] == "invalid" or verdict["basis"] in ("nothing measured", "nothing answered"):
        why = "; ".join(verdict["validity_reasons"]) or verdict["sentence"]
        cases.append(("the measurement is valid", "error", why))
    else:
        cases.append(("the measurement is valid", "", ""))
        found = document["capacity"]
        if found is not None:
            held = found["rate_per_s"] is not None
            cases.append(("a load within the objectives", "" if held else "failure", verdict["sentence"]))
        else:
            cases += [(item["text"], _WORDS[item["verdict"]], item["reason"]) for item in document["objectives"]]
    counts = {word: sum(case[1] == word for case in cases) for word in ("failure", "error", "skipped")}
    seconds = f"{(document['run']['duration_ns'] or 0) / units.NS_PER_S:.3f}"
    name = _attribute(document["run"]["name"] or "surgeline")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={name} tests="{len(cases)}" failures="{counts["failure"]}" errors="{counts["error"]}" '
        f'skipped="{counts["skipped"]}" time="{seconds}">',
    ]
    for title, word, text in cases:
        head = f'  <testcase classname="surgeline" name={_attribute(title)} time="{seconds}"'
        if not word:
            lines.append(f"{head}/>")
        elif word == "skipped":
            lines.append(f"{head}><skipped message={_attribute(text)}/></testcase>")
        else:
            lines.append(f"{head}><{word} message={_attribute(text)}>{_text(verdict['sentence'])}</{word}></testcase>")
    said = [f"{mark} {item['sentence']}" for mark, item in _findings(document)]
    if said:
        lines.append(f"  <system-out>{_lines(said)}</system-out>")
    return "\n".join([*lines, "</testsuite>"]) + "\n"


_WORDS = {"met": "", "missed": "failure", "no data": "skipped"}


def _findings(document: Document) -> list[tuple[str, Node]]:
    """What failed and what to explore, with its mark, the costliest first; a build's page has no room for praise."""
    marks = {key: mark for key, _, mark, _ in cells.BOXES}
    boxes = document["findings"]
    return [(marks[kind], item) for kind in ("failed", "explore") for item in boxes[kind]["items"][:MOST_LINES]]


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(_text(text) for text in texts)


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", shown(text, LONGEST_SENTENCE)))


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", shown(text, LONGEST_SENTENCE)))


def step_summary(document: Document) -> str:
    """A heading, the objectives, and the costliest findings: what a build's page has room for."""
    status = cells.status(document)
    lines = [f"### {status.mark} {escaped(document['verdict']['sentence'])}", ""]
    lines.append(f"{' · '.join(map(escaped, (*cells.setting(document)[:3], *cells.books(document))))}")
    if document["objectives"]:
        lines += ["", "| objective | verdict | because |", "|---|---|---|"]
        lines += [
            f"| {escaped(item['text'])} | {cells.mark(item['verdict'])} {item['verdict']} | {escaped(item['reason'])} |"
            for item in document["objectives"]
        ]
    found = _findings(document)
    if found:
        lines.append("")
        lines += [f"- {mark} {escaped(item['sentence'])}" for mark, item in found]
    return "\n".join(lines) + "\n\n"
