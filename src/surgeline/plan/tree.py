"""A text in YAML, JSON or TOML as plain data, and where in the text each part of it stands.

What comes in is hostile until shown otherwise: size, depth and what aliases expand to are bounded before anything is
built, and nothing but text, numbers, true, false, null, lists and mappings ever is. YAML is read from its parser's
events, so there is no constructor that a tag could reach. Scalars follow YAML 1.2: `NO` and `12:30` are texts, `010`
is ten. A key is always text, as written. What the data means is for others to say.
"""

import json
import math
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from surgeline.plan.problem import Fault, Loc, PlanError, Problem, Span, printable, quoted

Format = Literal["yaml", "json", "toml"]

MOST_BYTES = 1 << 20
MOST_DEPTH = 64
MOST_ALIAS_NODES = 1000
"""How many parts aliases may stand for, all together; a "billion laughs" needs far more."""

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "begins with a byte order mark; save it as UTF-8 without BOM"),
    (b"\xff\xfe\x00\x00", "is UTF-32; save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "is UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16; save it as UTF-8"),
)
_NO_TEXT = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile(r"\r\n|\n|\r")

# The scalars of YAML 1.2's core schema, section 10.3.2.
_NULL = ("", "~", "null", "Null", "NULL")
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MOST_DIGITS = 300
"""A longer number is no number anybody measures or sends."""


class Lines:
    """A text with its lines: offsets to places and back to the line as it stands there."""

    def __init__(self, text: str, where: str) -> None:
        self.text = text
        self.where = where
        self._begins = [0, *(end.end() for end in _LINE_END.finditer(text))]

    def span(self, begin: int, end: int | None = None) -> Span:
        """The place from offset `begin` to `end`, cut at the end of its first line."""
        begin = min(max(begin, 0), len(self.text))
        row = bisect_right(self._begins, begin) - 1
        line = self.line(row + 1)
        column = begin - self._begins[row]
        length = 1 if end is None else min(end - begin, len(line) - column)
        return Span(row + 1, column + 1, max(length, 1))

    def line(self, number: int) -> str:
        """The line, counted from 1, without its end; empty past the last."""
        if not 1 <= number <= len(self._begins):
            return ""
        end = self._begins[number] if number < len(self._begins) else len(self.text)
        return self.text[self._begins[number - 1] : end].rstrip("\r\n")

    def begin(self, number: int) -> int:
        """The offset at which a line begins, counted from 1."""
        return self._begins[number - 1]

    def problem(self, message: str, span: Span | None, loc: Loc = ()) -> Problem:
        """The problem with its line."""
        return Problem(self.where, message, span, self.line(span.line) if span else None, loc)

    def error(self, message: str, begin: int, end: int | None = None) -> PlanError:
        """The error with this one problem, at an offset."""
        return PlanError([self.problem(message, self.span(begin, end))])


@dataclass(slots=True)
class Tree:
    """Plain data with its places: `keys` where the key of a path stands, `values` where its value does."""

    value: Any
    lines: Lines
    keys: dict[Loc, Span] = field(default_factory=dict)
    values: dict[Loc, Span] = field(default_factory=dict)

    def span(self, fault: Fault) -> Span | None:
        """Where a fault stands, or else the nearest part around it that has a place."""
        loc = fault.loc
        if fault.at_key and loc in self.keys:
            return self.keys[loc]
        while loc not in self.values and loc not in self.keys:
            if not loc:
                return None
            loc = loc[:-1]
        if loc in self.keys and loc != fault.loc and isinstance(_at(self.value, loc), dict | list):
            return self.keys[loc]
        return self.values.get(loc) or self.keys[loc]

    def problems(self, faults: list[Fault]) -> list[Problem]:
        """The faults with their places, each once, in the order of the text."""
        found = dict.fromkeys(self.lines.problem(fault.message, self.span(fault), fault.loc) for fault in faults)
        return sorted(found, key=lambda problem: (problem.span.line, problem.span.column) if problem.span else (0, 0))


def _at(value: Any, loc: Loc) -> Any:
    for step in loc:
        value = value[step]
    return value


def decode(data: bytes, where: str) -> str:
    """The text in a file's bytes. Raises PlanError for anything but UTF-8 without byte order mark."""
    for mark, sentence in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            raise PlanError.of(where, f"the file {sentence}")
    if data[:4].count(0) >= 1 and len(data) >= 2 and (data[0] == 0) != (data[1] == 0):
        raise PlanError.of(where, "the file is UTF-16; save it as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(errors="replace")
        lines = Lines(before + "\ufffd", where)
        raise lines.error(
            f"the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8", len(before)
        ) from None


def format_of(where: str) -> Format:
    """The format by a name's suffix: `.json`, `.toml`, and YAML for every other."""
    suffix = where.rpartition(".")[2].lower()
    return "json" if suffix == "json" else "toml" if suffix == "toml" else "yaml"


def read_tree(
    text: str | bytes,
    where: str,
    form: Format | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    most_alias_nodes: int = MOST_ALIAS_NODES,
    places: bool = True,
) -> Tree:
    """The data in `text`, whose name is `where`.

    `form` None goes by the suffix of `where`. Without `places` only the data is kept. Raises PlanError for what is
    not the format, and for what is larger or deeper than a sane author writes.
    """
    if len(text) > most_bytes:
        raise PlanError.of(where, f"the text is longer than {_size(most_bytes)}; nothing of it was read")
    if isinstance(text, bytes):
        text = decode(text, where)
    lines = Lines(text, where)
    if text.startswith("\ufeff"):
        raise lines.error("the file begins with a byte order mark; save it as UTF-8 without BOM", 0)
    wrong = _NO_TEXT.search(text)
    if wrong:
        name = "a NUL byte" if wrong[0] == "\0" else f"the control character U+{ord(wrong[0]):04X}"
        raise lines.error(f"{name} stands in the text; remove it", wrong.start())
    form = form or format_of(where)
    if form == "json":
        tree = _read_json(lines, places)
    elif form == "toml":
        tree = _read_toml(lines)
    else:
        tree = _read_yaml(lines, places, most_alias_nodes)
    faults = list(_unfit(tree.value))
    if faults:
        raise PlanError(tree.problems(faults))
    return tree


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count:,} bytes"


def _unfit(value: Any) -> Iterator[Fault]:
    """What a format can hold and a plan cannot: infinities, dates, half of a surrogate pair, and too much depth."""
    stack: list[tuple[Loc, Any]] = [((), value)]
    while stack:
        loc, part = stack.pop()
        if len(loc) > MOST_DEPTH:
            yield Fault(loc, f"this is nested more than {MOST_DEPTH} levels deep")
            return
        if isinstance(part, dict):
            for key, child in part.items():
                if _half_pair(key):
                    yield Fault((*loc, key), f"the key {quoted(key)} has half of a surrogate pair in it", True)
                stack.append(((*loc, key), child))
        elif isinstance(part, list):
            stack.extend(((*loc, index), child) for index, child in enumerate(part))
        elif isinstance(part, str):
            if _half_pair(part):
                yield Fault(loc, f"the text {quoted(part)} has half of a surrogate pair in it")
        elif isinstance(part, float):
            if not math.isfinite(part):
                yield Fault(loc, "this number is not finite; put it in quotes if a text is meant")
        elif not isinstance(part, bool | int | None):
            yield Fault(loc, f"a {type(part).__name__} has no meaning here; put it in quotes")


def _half_pair(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


# --- YAML ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """A part of a YAML text. `value` is the scalar's meaning, the list of items, or the list of key and value pairs."""

    kind: Literal["scalar", "list", "map"]
    begin: int
    end: int
    value: Any = None
    text: str = ""
    """A scalar as it was written, without its quotes."""
    size: int = 1
    """Nodes in it, itself included, aliases expanded."""


class _Composer:
    """From events to nodes, with every bound of this module held on the way."""

    def __init__(self, lines: Lines, most_alias_nodes: int) -> None:
        self.lines = lines
        self.anchors: dict[str, _Node | None] = {}
        self.most_alias_nodes = most_alias_nodes
        self.alias_nodes = 0

    def document(self, events: Iterator[Any]) -> _Node | None:
        """The only document of the stream; None for an empty one."""
        root = None
        for event in events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                if root is not None:
                    raise self.lines.error("a second document begins here; a file holds one", event.start_mark.index)
                root = self.node(events, next(events), 1)
        return root

    def node(self, events: Iterator[Any], event: Any, depth: int) -> _Node:
        name, begin = type(event).__name__, event.start_mark.index
        if name == "AliasEvent":
            return self.alias(event)
        if depth > MOST_DEPTH:
            raise self.lines.error(f"this is nested more than {MOST_DEPTH} levels deep", begin)
        if event.tag is not None and event.tag not in ("!", "tag:yaml.org,2002:str"):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.lines.error(f"the tag {quoted(tag)} has no meaning here; remove it", begin, event.end_mark.index)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if name == "ScalarEvent":
            node = self.scalar(event)
        elif name == "SequenceStartEvent":
            node = self.list(events, event, depth)
        else:
            node = self.map(events, event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> _Node:
        begin, end = event.start_mark.index, event.end_mark.index
        if event.anchor not in self.anchors:
            raise self.lines.error(
                f"nothing above is marked {quoted('&' + event.anchor)}; a text that begins with * must be in quotes",
                begin,
                end,
            )
        node = self.anchors[event.anchor]
        if node is None:
            raise self.lines.error(f"{quoted('*' + event.anchor)} stands inside of what it stands for", begin, end)
        self.alias_nodes += node.size
        if self.alias_nodes > self.most_alias_nodes:
            raise self.lines.error(
                f"aliases stand for more than {self.most_alias_nodes:,} parts; write them out", begin, end
            )
        return node

    def scalar(self, event: Any) -> _Node:
        node = _Node("scalar", event.start_mark.index, event.end_mark.index, event.value, event.value)
        if event.implicit[0] and event.tag is None:
            node.value = self.meaning(event.value, node)
        return node

    def meaning(self, text: str, node: _Node) -> Any:
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if text[0] not in "0123456789.+-" or not (
            _DECIMAL.fullmatch(text) or _BASED.fullmatch(text) or _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text)
        ):
            return text
        if len(text) > _MOST_DIGITS:
            raise self.lines.error(
                f"this number has more than {_MOST_DIGITS} digits; put it in quotes", node.begin, node.end
            )
        if _DECIMAL.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").replace(".n", "n"))

    def list(self, events: Iterator[Any], start: Any, depth: int) -> _Node:
        node = _Node("list", start.start_mark.index, start.end_mark.index, [])
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            item = self.node(events, event, depth + 1)
            node.value.append(item)
            node.size += item.size
        return node

    def map(self, events: Iterator[Any], start: Any, depth: int) -> _Node:
        node = _Node("map", start.start_mark.index, start.end_mark.index, [])
        seen: dict[str, _Node] = {}
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self.node(events, event, depth + 1)
            if key.kind != "scalar":
                raise self.not_a_key(key)
            value = self.node(events, next(events), depth + 1)
            if key.text in seen:
                first = self.lines.span(seen[key.text].begin).line
                raise self.lines.error(
                    f"the key {quoted(key.text)} stands here a second time (first in line {first})", key.begin, key.end
                )
            seen[key.text] = key
            node.value.append((key, value))
            node.size += 1 + value.size
        return node

    def not_a_key(self, key: _Node) -> PlanError:
        text = self.lines.text
        if key.kind == "map" and text[max(key.begin - 1, 0) : key.begin + 1] == "{{":
            return self.lines.error(
                'a text that begins with {{ must be in quotes, as in "{{id}}"', key.begin - 1, key.begin + 1
            )
        return self.lines.error("a list or a mapping cannot be a key", key.begin)


def _read_yaml(lines: Lines, places: bool, most_alias_nodes: int) -> Tree:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        root = _Composer(lines, most_alias_nodes).document(iter(YAML(typ="safe", pure=True).parse(lines.text)))
    except MarkedYAMLError as error:
        raise _yaml_error(lines, error) from None
    except PlanError:
        raise
    except (YAMLError, RecursionError, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        # The parser's own slips over hostile text are the text's fault too.
        raise PlanError.of(lines.where, f"this is not YAML: {printable(str(error))[:200]}") from error
    tree = Tree(None, lines)
    tree.value = None if root is None else _plain(root, (), tree, places)
    return tree


def _plain(node: _Node, loc: Loc, tree: Tree, places: bool) -> Any:
    if places:
        tree.values[loc] = tree.lines.span(node.begin, node.end if node.kind == "scalar" else None)
    if node.kind == "scalar":
        return node.value
    if node.kind == "list":
        return [_plain(item, (*loc, index), tree, places) for index, item in enumerate(node.value)]
    plain: dict[str, Any] = {}
    for key, value in _merged(node):
        if places:
            tree.keys[*loc, key.text] = tree.lines.span(key.begin, key.end)
        plain[key.text] = _plain(value, (*loc, key.text), tree, places)
    return plain


def _merged(node: _Node) -> list[tuple[_Node, _Node]]:
    """The pairs of a mapping; those of a mapping under the key `<<` fill in what it does not say itself."""
    own = [pair for pair in node.value if not _merges(pair)]
    taken = {key.text for key, _ in own}
    inherited = []
    for _, value in filter(_merges, node.value):
        for source in value.value if value.kind == "list" else [value]:
            for key, child in _merged(source):
                if key.text not in taken:
                    taken.add(key.text)
                    inherited.append((key, child))
    return inherited + own


def _merges(pair: tuple[_Node, _Node]) -> bool:
    key, value = pair
    parts = value.value if value.kind == "list" else [value]
    return key.text == "<<" and all(part.kind == "map" for part in parts)


_GOT_TEXT_AFTER = re.compile(r"expected <block end>, but found")
_BAD_START = re.compile(r"found character '(.+)' that cannot start any token")


def _yaml_error(lines: Lines, error: Any) -> PlanError:
    """The parser's complaint in the author's words, at the line that has to change."""
    problem = str(error.problem or error.context or "this is not YAML")
    mark = error.problem_mark or error.context_mark
    at = mark.index if mark is not None else 0
    opened = error.context_mark.index if error.context_mark is not None else at
    span = lines.span(at)
    line = lines.line(span.line)
    bad = _BAD_START.search(problem)
    if bad and bad[1] in ("\t", "\\t"):
        return lines.error("a tab cannot indent YAML; use spaces", at)
    if bad:
        return lines.error(f"a text cannot begin with {printable(bad[1])}; put it in quotes", at)
    if "mapping values are not allowed" in problem:
        return _stray_colon(lines, at)
    if "unexpected end of stream" in problem and "quoted" in str(error.context):
        return lines.error("the quote that opens here is never closed", opened)
    if "unknown escape character" in problem:
        return lines.error("in double quotes \\ begins an escape; use single quotes, or \\\\", at)
    if "could not find expected ':'" in problem:
        return lines.error("a key needs a colon and its value, as in `name: shop`", opened)
    if "expected the node content" in problem:
        end = "stream end" in problem
        return lines.error("the text ends inside of brackets" if end else "a value is missing before this", at)
    if "expected ',' or" in problem:
        return _inside_brackets(lines, at, opened, problem)
    if _GOT_TEXT_AFTER.search(problem):
        before = line[: span.column - 1].rstrip()
        if before.endswith(("'", '"')):
            return lines.error("text follows the closing quote; put all of it inside the quotes", at)
        if before.endswith(("}", "]")):
            return lines.error("text follows the closing bracket; put all of it in quotes", at)
        return lines.error("this line is indented like nothing above it", at)
    return lines.error(f"this is not YAML: {printable(problem)[:200]}", at)


def _stray_colon(lines: Lines, at: int) -> PlanError:
    span = lines.span(at)
    line = lines.line(span.line)
    before = line[: span.column - 1]
    if ": " in before:
        return lines.error("a second colon in this line; put the text in quotes", at)
    above = span.line - 1
    while above > 0 and not lines.line(above).strip():
        above -= 1
    upper = lines.line(above)
    if upper and _indent(upper) == _indent(line) and ":" not in upper.split(" #")[0]:
        begin = lines.begin(above) + _indent(upper)
        return lines.error("a key needs a colon and its value, as in `name: shop`", begin, begin + len(upper.strip()))
    return lines.error("this line is indented like nothing above it", at - len(before.strip()), at)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _inside_brackets(lines: Lines, at: int, opened: int, problem: str) -> PlanError:
    got = lines.text[at : at + 1]
    bracket = lines.text[opened : opened + 1]
    if "stream end" in problem or (got == ":" and lines.span(at).line != lines.span(opened).line):
        return lines.error(f"the {bracket} that opens here is never closed", opened)
    if got == "{" or lines.text[at - 1 : at + 1] == "{{":
        return lines.error('a text with {{…}} in it must be in quotes here, as in "/products/{{id}}"', at)
    if got in "[]{}":
        return lines.error(f"a text with {got} in it must be in quotes here", at)
    return lines.error(f"a comma is missing before this, or quotes around the text (inside of {bracket})", at)


# --- JSON ------------------------------------------------------------------------------------------------------------


def _read_json(lines: Lines, places: bool) -> Tree:
    def refuse(word: str) -> float:
        raise PlanError.of(lines.where, f"{word} is not JSON; a number must be finite")

    def whole(digits: str) -> int:
        if len(digits) > _MOST_DIGITS:
            raise PlanError.of(lines.where, f"a number has more than {_MOST_DIGITS} digits; make it a text")
        return int(digits)

    try:
        value = json.loads(lines.text, parse_constant=refuse, parse_int=whole)
    except json.JSONDecodeError as error:
        raise lines.error(f"this is not JSON: {error.msg}", error.pos) from None
    except RecursionError:
        raise PlanError.of(lines.where, f"this is nested more than {MOST_DEPTH} levels deep") from None
    tree = Tree(value, lines)
    if places and not any(_unfit(value)):
        _JsonPlaces(tree).value(0, ())
    return tree


_JSON = json.JSONDecoder()
_JSON_GAP = re.compile(r"[ \t\n\r]*")
_JSON_PLAIN = re.compile(r"[^ \t\n\r,\]}]+")


class _JsonPlaces:
    """Goes through a text that is known to be JSON, and notes where each key and value stands."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.lines = tree.lines
        self.text = tree.lines.text

    def value(self, at: int, loc: Loc) -> int:
        """Notes the value at `at`; the offset behind it."""
        at = self.skip(at)
        first = self.text[at]
        if first == "{":
            end = self.members(at + 1, loc)
        elif first == "[":
            end = self.items(at + 1, loc)
        elif first == '"':
            end = self.string(at)[1]
        else:
            end = self.match_end(_JSON_PLAIN, at)
        self.tree.values[loc] = self.lines.span(at, None if first in "{[" else end)
        return end

    def members(self, at: int, loc: Loc) -> int:
        seen: set[str] = set()
        at = self.skip(at)
        while self.text[at] != "}":
            key, end = self.string(at)
            if key in seen:
                raise self.lines.error(f"the key {quoted(key)} stands here a second time", at, end)
            seen.add(key)
            self.tree.keys[*loc, key] = self.lines.span(at, end)
            at = self.skip(self.value(self.skip(end) + 1, (*loc, key)))
            if self.text[at] == ",":
                at = self.skip(at + 1)
        return at + 1

    def items(self, at: int, loc: Loc) -> int:
        index, at = 0, self.skip(at)
        while self.text[at] != "]":
            at = self.skip(self.value(at, (*loc, index)))
            index += 1
            if self.text[at] == ",":
                at = self.skip(at + 1)
        return at + 1

    def string(self, at: int) -> tuple[str, int]:
        text, end = _JSON.raw_decode(self.text, at)
        return str(text), end

    def skip(self, at: int) -> int:
        return self.match_end(_JSON_GAP, at)

    def match_end(self, pattern: re.Pattern[str], at: int) -> int:
        found = pattern.match(self.text, at)
        return found.end() if found else at


# --- TOML ------------------------------------------------------------------------------------------------------------

_TOML_PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")
_TOML_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")


def _read_toml(lines: Lines) -> Tree:
    try:
        value = tomllib.loads(lines.text)
    except tomllib.TOMLDecodeError as error:
        sentence = f"this is not TOML: {printable(_TOML_PLACE.sub('', str(error)).strip())}"
        place = _TOML_PLACE.search(str(error))
        if not place:
            last = Span(len(lines.text.splitlines()) or 1, 1)
            raise PlanError([lines.problem(sentence, last)]) from None
        raise PlanError([lines.problem(sentence, Span(int(place[1]), int(place[2])))]) from None
    except (RecursionError, ValueError):
        raise PlanError.of(lines.where, f"this is nested more than {MOST_DEPTH} levels deep") from None
    tree = Tree(value, lines)
    _toml_places(tree)
    return tree


def _toml_places(tree: Tree) -> None:
    """Notes where tables and keys at the beginning of a line stand; keys inside of `{…}` keep the place around them."""
    table: Loc = ()
    counts: dict[Loc, int] = {}
    fence: str | None = None
    for number, line in enumerate(_LINE_END.split(tree.lines.text), 1):
        if fence is not None:
            fence = None if fence in line else fence
            continue
        indent = len(line) - len(line.lstrip())
        stripped = line.strip()
        if stripped.startswith("["):
            table = _toml_table(stripped, counts)
            tree.keys.setdefault(table, Span(number, indent + 1, max(len(stripped.split("#")[0].strip()), 1)))
            continue
        parts, end = _toml_key(stripped)
        if not parts or not stripped[end:].startswith("="):
            continue
        loc = (*table, *parts)
        tree.keys[loc] = Span(number, indent + 1, max(len(stripped[:end].rstrip()), 1))
        rest = stripped[end + 1 :].lstrip()
        tree.values[loc] = Span(number, indent + 1 + len(stripped) - len(rest), max(len(rest), 1))
        for quote in ('"""', "'''"):
            if rest.startswith(quote) and quote not in rest[3:]:
                fence = quote


def _toml_table(header: str, counts: dict[Loc, int]) -> Loc:
    """The path of a table's header; a table in an array has its position behind the name."""
    parts, _ = _toml_key(header.lstrip("["))
    loc: Loc = ()
    for index, part in enumerate(parts):
        loc = (*loc, part)
        if index == len(parts) - 1 and header.startswith("[["):
            counts[loc] = counts.get(loc, -1) + 1
        if loc in counts:
            loc = (*loc, counts[loc])
    return loc


def _toml_key(text: str) -> tuple[list[str], int]:
    """The parts of a dotted key at the beginning of a text, and where it ends."""
    parts: list[str] = []
    at = 0
    while found := _TOML_PART.match(text, at):
        parts.append(next(part for part in found.groups() if part is not None))
        at = found.end()
        if not text.startswith(".", at):
            break
        at += 1
    return parts, at
