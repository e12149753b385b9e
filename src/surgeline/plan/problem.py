"""What is wrong with a plan, said so that its author can put it right.

A problem is one sentence with the place it is about. Whoever finds it (the reader of the text, the model, the checks,
a source) knows a place as a path of keys; whoever holds the text turns that into line, column and an excerpt. Nothing
here prints or exits.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

Loc = tuple[str | int, ...]
"""A path of keys and list positions from the top of a plan: `("scenarios", "browse", "steps", 0, "get")`."""

MOST_PROBLEMS = 20
"""As many are listed; the others are counted. Beyond it a list no longer helps (taste)."""

MOST_COLLECTED = 200
"""Whoever finds problems may stop at so many."""

_MOST_CANDIDATES = 500
"""Words among which the nearest is looked for."""

_EXCERPT_WIDTH = 100
_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*:)([^\s/@]+)(?=@)")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a text: `line` and `column` count from 1, `length` is in characters and at least 1."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem by its path. `at_key` says whether the key is wrong, rather than the value behind it."""

    loc: Loc
    message: str
    at_key: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem by its place.

    `where` is the text's name, `span` None where the text has no lines to point at, `excerpt` the line itself, None
    with `span`. `loc` is the path, empty for the text as a whole.
    """

    where: str
    message: str
    span: Span | None = None
    excerpt: str | None = None
    loc: Loc = ()

    def __str__(self) -> str:
        if self.span is None:
            return f"{self.where}  {self.message}"
        head = f"{self.where}:{self.span.line}:{self.span.column}  {self.message}"
        if self.excerpt is None:
            return head
        shown, offset = _window(self.excerpt, self.span.column - 1)
        length = max(1, min(self.span.length, len(shown) - offset))
        return f"{head}\n{self.span.line:>7} | {shown}\n{'':>7}   {' ' * offset}{'^' * length}"


class PlanError(ValueError):
    """A text or a document from which no plan can be made. `problems` has at least one, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(str(self))

    @classmethod
    def of(cls, where: str, message: str, span: Span | None = None, excerpt: str | None = None) -> "PlanError":
        """The error with this one problem."""
        return cls([Problem(where, message, span, excerpt)])

    @classmethod
    def of_faults(cls, where: str, faults: Iterable[Fault]) -> "PlanError":
        """The error for a plan that was never a text: paths instead of lines."""
        return cls([Problem(where, fault.message, loc=fault.loc) for fault in faults])

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.problems[:MOST_PROBLEMS]]
        more = len(self.problems) - len(shown)
        if more:
            least = "at least " if len(self.problems) >= MOST_COLLECTED else ""
            shown.append(f"… and {least}{more} more problem{'s' if more > 1 else ''}")
        return "\n".join(shown)


def path_text(loc: Loc) -> str:
    """`scenarios.browse.steps[0].get`; a key that is no plain word is quoted: `scenarios["GET /"]`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text


def quoted(text: object, most: int = 60) -> str:
    """The text in double quotes, cut to `most` characters, without anything that could steer a terminal."""
    shown = printable(str(text))
    return f'"{shown[: most - 1]}…"' if len(shown) > most else f'"{shown}"'


def printable(text: str) -> str:
    """The text with every control character and half of a surrogate pair replaced, one for one."""
    return "".join(char if char.isprintable() else " " if char == "\t" else "\ufffd" for char in text)


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that was probably meant; None where none is near."""
    known = {candidate.lower(): candidate for candidate in islice(words, _MOST_CANDIDATES)}
    close = difflib.get_close_matches(word.lower()[:100], known, n=1, cutoff=0.6)
    return known[close[0]] if close else None


def did_you_mean(word: str, words: Iterable[str], frame: str = '"{}"') -> str:
    """` — did you mean "steps"?`, or nothing where no word is near. `frame` is what the word is shown in."""
    close = nearest(word, words)
    return f" — did you mean {frame.replace('{}', printable(close))}?" if close is not None else ""


def _window(line: str, offset: int) -> tuple[str, int]:
    """The part of a line that is shown, and where in it `offset` has gone. A password in a URL is starred out."""
    shown = _PASSWORD.sub(lambda found: found[1] + "*" * len(found[2]), printable(line))
    if len(shown) <= _EXCERPT_WIDTH:
        return shown, min(offset, len(shown))
    begin = max(0, min(offset - _EXCERPT_WIDTH // 3, len(shown) - _EXCERPT_WIDTH))
    cut = shown[begin : begin + _EXCERPT_WIDTH]
    if begin:
        cut = "…" + cut[1:]
    if begin + _EXCERPT_WIDTH < len(shown):
        cut = cut[:-1] + "…"
    return cut, offset - begin
