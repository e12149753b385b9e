"""How is a text shown that somebody else wrote?

Endpoint names, error texts, plan names and URLs come from targets and files, and may hold terminal escapes, forged log
lines, characters that reverse the reading direction, or a megabyte of anything. `shown` makes them one bounded line of
visible characters; it comes before what a format itself needs (HTML, Markdown and CSV have escapes of their own). Which
characters are hidden is a list in this file, not the Unicode tables of whichever Python runs, so that the same text
gives the same bytes everywhere.
"""

import re
from collections.abc import Mapping
from typing import Any

LONGEST_SHOWN = 200
"""Characters of a foreign text that are shown; the reference promise for what a target sends."""

LONGEST_SENTENCE = 600
"""Characters of a sentence of ours that may hold foreign texts in it."""

_HIDDEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # controls: ANSI escapes, line ends, tabs
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"  # drawn as nothing
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"  # zero width, line ends, reading direction
    "\ud800-\udfff"  # halves of a pair, which no encoding can write
    "\U000e0000-\U000e0fff"  # tags and variation selectors
    "]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(text: object, limit: int = LONGEST_SHOWN) -> str:
    """`text` as one line of visible characters, at most `limit` long; what was cut off leaves an ellipsis.

    Hidden characters appear as `\\n`, `\\x1b`, `\\u202e`. What comes out goes through unchanged a second time.
    """
    head = str(text)[: limit + 1]
    plain = _HIDDEN.sub(_escape, head)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def plain_number(value: Any) -> Any:
    """A number of an array library as Python's own, which is what JSON takes; everything else as it is."""
    if type(value).__module__ != "numpy" or not hasattr(value, "item") or getattr(value, "shape", None) != ():
        return value
    return value.item()


def bounded(value: Any, depth: int = 6, items: int = 50) -> Any:
    """`value` as JSON data that is safe to show: texts through `shown`, containers cut at `items` and `depth`.

    What is neither None, a truth value, a number, a text, a mapping nor a sequence becomes its text. A number that JSON
    cannot hold (infinite, not a number) becomes None.
    """
    value = plain_number(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, str):
        return shown(value)
    if depth <= 0:
        return "…"
    if isinstance(value, Mapping):
        return {shown(key): bounded(value[key], depth - 1, items) for key in list(value)[:items]}
    if isinstance(value, list | tuple):
        return [bounded(item, depth - 1, items) for item in value[:items]]
    return shown(value)


def plural(count: int | float, one: str, many: str = "") -> str:
    """`1 user`, `64 users`, `1,200 requests`, `2.5 users`; `many` where an s is not enough."""
    number = f"{count:,}" if isinstance(count, int) else f"{round(count, 1):,g}" if count < 1e6 else f"{count:,.0f}"
    return f"{number} {one if count == 1 else many or one + 's'}"


def middle_cut(text: object, limit: int) -> str:
    """`shown`, but of a long text the beginning and the end: names of endpoints differ there."""
    plain = shown(text)
    return plain if len(plain) <= limit else f"{plain[: limit - limit // 2 - 1]}…{plain[-(limit // 2) :]}"
