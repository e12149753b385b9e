"""A step, worked out: templates filled in, an answer checked, variables taken from it.

What comes in is a plan's step, the variables of one iteration, and an answer as plain data; what leaves is a request as
plain data, what is wrong with the answer, and new variables. Who sends, and how, is not known here. The engine in Rust
has its own implementation for the hot path; engines and the preflight in Python use this one, and one suite holds them
together.
"""

import base64
import json
import re
import string
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from random import Random
from typing import Any, Literal
from urllib.parse import quote, unquote, urlencode, urlsplit

from surgeline.plan import upload
from surgeline.plan.decode import BadEncoding, undo
from surgeline.plan.jar import Jar
from surgeline.plan.model import TEMPLATE, Plan, Step, json_rules
from surgeline.plan.upload import FilePiece, TextPiece

GENERATORS = ("uuid", "now", "now_ms", "now_iso", "int", "choice", "text", "seq", "user", "iteration")
"""The words that may stand in a template besides variables; `int`, `choice` and `text` take arguments."""

LONGEST_TEXT = 10_000
"""Characters that `text` makes."""
_LETTERS = string.ascii_lowercase + string.digits

_CALL = re.compile(r"(\w+)\s*\((.*)\)", re.DOTALL)


class MissingVariable(KeyError):
    """A template names a variable that this iteration does not have; `args[0]` is its name."""


@dataclass(slots=True)
class Scope:
    """What the templates of one iteration may name.

    `variables` are the plan's constants, `env.NAME` values and what was extracted so far. `draws` and `now_s` (unix
    seconds) are handed in, so that a test can know what comes out.
    """

    variables: dict[str, str]
    draws: Random
    now_s: Callable[[], float]
    user: int = 0
    iteration: int = 0
    seq: int = 0
    jar: Jar | None = None
    """The user's cookies; None where whoever sends adds them."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, ready to be sent. `path` begins with a slash and carries the query; `body` is None without one.

    A body made of files is `pieces` instead, which whoever sends reads from the files; `chunked` says how it is sent.
    `cookies` is what the user's jar sends, "" for nothing.
    """

    endpoint: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    pieces: tuple[bytes | FilePiece, ...] = ()
    chunked: bool = False
    cookies: str = ""

    def head(self, host: str, origin: str = "", length: int | None = None) -> bytes:
        """The bytes that go before the body, as the engine in Rust writes them too.

        `host` is the target's, `origin` what a proxy must be told before the path. `length` is that of a body made of
        files, None where it is chunked.
        """
        lines = [f"{self.method} {origin}{self.path} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in self.headers):
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in _FRAMING]
        if not self.pieces and (self.body is not None or self.method in ("POST", "PUT", "PATCH")):
            lines.append(f"Content-Length: {len(self.body or b'')}")
        if self.cookies:
            lines.append(f"Cookie: {self.cookies}")
        if self.pieces:
            lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("utf-8", "surrogateescape")

    def redirected(self, status: int, path: str, cookies: str) -> "Request":
        """The request that follows a redirect: RFC 9110 section 15.4. 303 asks for a GET, 301 and 302 make one of a
        POST, and what becomes a GET has no body."""
        dropped = (status == 303 and self.method != "HEAD") or (status in (301, 302) and self.method == "POST")
        if not dropped:
            return replace(self, path=path, cookies=cookies)
        headers = tuple(pair for pair in self.headers if pair[0].lower() not in _OF_BODIES)
        return Request(self.endpoint, "GET", path, headers, None, cookies=cookies)


_FRAMING = ("content-length", "transfer-encoding")
"""Headers that are not the plan's to write."""
_OF_BODIES = ("content-type", "content-encoding")


MOST_DECODED_BYTES = 16 * 1024 * 1024
"""What checks and extractors look at; a body that is packed and would be longer is `bad_encoding`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer, after redirects. `headers` may repeat names; `service_ns` is from actual start to last byte.

    `body` is as it came, with its content coding; `size` is its length where `body` was cut.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    service_ns: int
    size: int | None = None
    _plain: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case; None without it."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def plain(self) -> bytes:
        """The body without its content coding. Raises BadEncoding where that cannot be undone."""
        if not self._plain:
            self._plain.append(undo(self.headers, self.body, MOST_DECODED_BYTES))
        return self._plain[0]


Place = Literal["path", "header", "json", "form", "plain"]
"""Where a template stands, hence how what is filled in is written."""


def own_headers(plan: Plan, agent: str, authorization: str | None = None) -> tuple[tuple[str, str], ...]:
    """What requests carry unless the plan says otherwise. `authorization` is what a proxy wants to see."""
    ours = [("user-agent", agent), ("accept", "*/*")]
    if plan.connection.keep_alive is False:
        ours.append(("connection", "close"))
    if authorization is not None and plan.target.startswith("http://"):
        ours.append(("proxy-authorization", authorization))
    return tuple(ours)


def prepare(plan: Plan, step: Step, scope: Scope, own: Sequence[tuple[str, str]] = ()) -> Request:
    """The request of a step. Headers: `own`, the plan's, the step's; a later one replaces an earlier one.

    Raises MissingVariable where a template names what the scope does not have.
    """
    body, content_type = body_template(step)
    headers: dict[str, tuple[str, str]] = {}
    for name, value in (*own, *plan.headers.items(), *auth_headers(plan, scope.variables)):
        headers[name.lower()] = (name, value)
    for name, value in step.headers.items():
        headers.pop(name.lower(), None)
        headers[name.lower()] = (name, value)
    if content_type and not any(name.lower() == "content-type" for name in step.headers):
        headers.pop("content-type", None)
        headers["content-type"] = ("content-type", content_type)
    sent_as = headers.get("content-type", ("", ""))[1].lower()
    place: Place = "plain"
    if "json" in sent_as:
        place = "json"
    elif "x-www-form-urlencoded" in sent_as:
        place = "form"
    made_of = upload.pieces(step) or ()
    path = written(path_template(plan, step), scope, "path")
    return Request(
        step.endpoint,
        step.method,
        path,
        tuple((name, written(value, scope, "header")) for name, value in headers.values()),
        None if body is None else written(body, scope, place).encode(),
        tuple(
            written(piece.text, scope, piece.place).encode() if isinstance(piece, TextPiece) else piece
            for piece in made_of
        ),
        step.transfer == "chunked",
        "" if scope.jar is None else scope.jar.header(path, scope.now_s()),
    )


def written(template: str, scope: Scope, place: Place) -> str:
    """The template filled in, for where it stands: nothing in it can break a request line, a head or a JSON string.

    Raises MissingVariable.
    """
    parts, at, strings = [], 0, _JsonStrings()
    for found in TEMPLATE.finditer(template):
        literal = template[at : found.start()]
        parts.append(_literal(literal, place))
        strings.read(literal)
        value = _value(found[1], scope)
        match place:
            case "path" | "form":
                value = _escape_url(value)
            case "header":
                value = _CONTROL.sub(" ", value)
            case "json" if strings.inside:
                value = _escape_json(value)
        parts.append(value)
        at = found.end()
    return "".join((*parts, _literal(template[at:], place)))


def _literal(text: str, place: Place) -> str:
    """A plan's own text: only what would break a request line or a head is written otherwise."""
    match place:
        case "path":
            return quote(text, safe=_PRINTABLE)
        case "header":
            return _CONTROL.sub(" ", text)
    return text


_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(slots=True)
class _JsonStrings:
    """Whether the text read so far ends inside of a JSON string literal."""

    inside: bool = False
    escaped: bool = False

    def read(self, text: str) -> None:
        for letter in text:
            if self.escaped:
                self.escaped = False
            elif letter == "\\" and self.inside:
                self.escaped = True
            elif letter == '"':
                self.inside = not self.inside


def render(template: str, scope: Scope, escape: Callable[[str], str] = str) -> str:
    """The template with every `{{…}}` replaced by its escaped value. Raises MissingVariable."""
    if "{{" not in template:
        return template
    return TEMPLATE.sub(lambda found: escape(_value(found[1], scope)), template)


def _value(word: str, scope: Scope) -> str:
    if word in scope.variables:
        return scope.variables[word]
    call = _CALL.fullmatch(word)
    name, arguments = (call[1], [part.strip() for part in call[2].split(",")]) if call else (word, [])
    match name:
        case "uuid":
            return str(uuid.UUID(int=scope.draws.getrandbits(128), version=4))
        case "now":
            return str(int(scope.now_s()))
        case "now_ms":
            return str(int(scope.now_s() * 1000))
        case "now_iso":
            moment = datetime.fromtimestamp(int(scope.now_s() * 1000) / 1000, UTC)
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "text" if len(arguments) == 1:
            return "".join(scope.draws.choices(_LETTERS, k=int(arguments[0])))
        case "seq" | "user" | "iteration":
            return str(getattr(scope, name))
        case "int" if len(arguments) == 2:
            return str(scope.draws.randint(int(arguments[0]), int(arguments[1])))
        case "choice" if arguments:
            return scope.draws.choice(arguments)
    raise MissingVariable(word)


def _escape_url(text: str) -> str:
    return quote(text, safe="-._~")


def _escape_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def judge(step: Step, answer: Answer, scope: Scope) -> str:
    """What is wrong with the answer, as `status 500` or `check …`; "" when it is right.

    Looked at in this order: status, time, size, headers, body, JSON. The first that is wrong is named. Where the body
    is looked at and is packed in a way that cannot be undone, that is `bad_encoding`.
    """
    check = step.check
    if check.status is None:
        right = 200 <= answer.status < 400
    else:
        right = any(low <= answer.status <= high for low, high in check.status)
    if not right:
        return f"status {answer.status}"
    if check.time is not None and answer.service_ns > check.time:
        return "check time"
    if check.size is not None:
        low, high = check.size
        if not low <= (len(answer.body) if answer.size is None else answer.size) <= high:
            return "check size"
    for name, text in check.header.items():
        if not any(text in value for key, value in answer.headers if key.lower() == name.lower()):
            return _named(f"header {name}")
    try:
        return _judge_body(step, answer, scope)
    except BadEncoding:
        return "bad_encoding"


def _judge_body(step: Step, answer: Answer, scope: Scope) -> str:
    check = step.check
    if check.body is not None:
        body = answer.plain()
        for word, texts, wanted in (("contains", check.body.contains, True), ("not", check.body.not_, False)):
            for text in texts:
                if (_filled(text, scope) in body) != wanted:
                    return _named(f"body {word} {text}")
        for expression in check.body.regex:
            if not _pattern(expression).search(body.decode(errors="replace")):
                return _named(f"body regex {expression}")
    if check.json_:
        document = _document(answer.plain())
        rules = [(path, *rule) for path, wanted in check.json_.items() for rule in json_rules(wanted)]
        # Equality first, as in the engine in Rust, so that both name the same one.
        for path, rule, wanted in sorted(rules, key=lambda one: one[1] != "equals"):
            if not _holds(rule, wanted, _find(path, document)):
                return _named(f"json {path}" if rule == "equals" else f"json {path} {rule.replace('_', ' ')}")
    return ""


_LONGEST_CHECK = 120
"""Characters of a check's name in the samples."""


def _named(check: str) -> str:
    return f"check {check[:_LONGEST_CHECK]}"


def _filled(template: str, scope: Scope) -> bytes:
    return render(template, scope).encode()


def _holds(rule: str, wanted: Any, found: list[Any]) -> bool:
    """Whether what a JSONPath found, the first of it, is as a rule wants it."""
    if rule == "exists":
        return bool(found) is wanted
    if not found:
        return False
    value = found[0]
    if rule in ("equals", "not"):
        return _same(value, wanted) == (rule == "equals")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    holds = {
        "above": value > wanted,
        "below": value < wanted,
        "at_least": value >= wanted,
        "at_most": value <= wanted,
    }
    return bool(holds[rule])


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, and neither is true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def extract(step: Step, answer: Answer) -> dict[str, str]:
    """The variables that the step takes from the answer. Raises MissingVariable with the first that is not there, and
    BadEncoding where one of them is in a body that cannot be brought back.
    """
    values: dict[str, str] = {}
    looks = any(part.source[0] in ("json", "regex") for part in step.extract.values())
    body = answer.plain() if looks else b""
    for variable, part in step.extract.items():
        source, expression = part.source
        found: str | None = None
        if source == "json":
            matches = _find(expression, _document(body))
            found = None if not matches or matches[0] is None else _as_text(matches[0])
        elif source == "regex":
            match = _pattern(expression).search(body.decode(errors="replace"))
            found = (match[1] if match.re.groups else match[0]) if match else None
        elif source == "header":
            found = answer.header(expression)
        else:
            found = set_cookies(answer.headers).get(expression) or None
        if found is None:
            raise MissingVariable(variable)
        values[variable] = found
    return values


def set_cookies(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Name and value of every cookie that the headers set; a removed one (Max-Age=0) has the value ""."""
    cookies = {}
    for name, value in headers:
        if name.lower() != "set-cookie":
            continue
        pair, *attributes = value.split(";")
        key, _, text = pair.partition("=")
        gone = any(part.strip().lower() == "max-age=0" for part in attributes)
        cookies[key.strip()] = "" if gone else text.strip()
    return cookies


def _document(body: bytes) -> Any:
    """The body as JSON; None, in which no path finds anything, where it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def _find(path: str, document: Any) -> list[Any]:
    return list(_jsonpath(path).findall(document)) if isinstance(document, dict | list) else []


@lru_cache(maxsize=512)
def _jsonpath(path: str) -> Any:
    import jsonpath

    return jsonpath.compile(path)


@lru_cache(maxsize=512)
def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- The way to the target -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of `Proxy-Authorization`, a secret; None without one."""

    host: str
    port: int
    authorization: str | None = None

    @property
    def shown(self) -> str:
        """Host and port, without a password."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def proxy_of(plan: Plan, values: Mapping[str, str]) -> Proxy | None:
    """The proxy that the plan names, templates filled in from `values`; None without one.

    Raises MissingVariable, and ValueError with a sentence where what the environment holds is not the URL of a proxy.
    """
    text = plan.connection.proxy
    if text is None:
        return None
    whole = TEMPLATE.fullmatch(text)
    return proxy_at(_known(whole[1], values) if whole else text, f"connection.proxy: {text}", values)


def proxy_at(text: str, shown: str, values: Mapping[str, str] | None = None) -> Proxy:
    """The proxy in a URL, `http://` left out or not. Raises ValueError, which calls it `shown`, where it is none."""
    values = values or {}
    scheme, _, rest = text.strip().rpartition("://")
    pair, at, place = rest.rpartition("@")
    place = TEMPLATE.sub(lambda found: _known(found[1], values), place)
    try:
        parts = urlsplit(f"{scheme or 'http'}://{place}")
        port = parts.port
    except ValueError:
        port = None
    if scheme not in ("", "http") or not port or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(
            f"{shown} is not the URL of an HTTP proxy with its port; that would be for example http://127.0.0.1:3128"
        )
    authorization = None
    if at:
        written = ":".join(unquote(part) for part in pair.split(":", 1))
        pair = TEMPLATE.sub(lambda found: _known(found[1], values), written)
        authorization = "Basic " + base64.b64encode((pair if ":" in pair else f"{pair}:").encode()).decode()
    return Proxy(parts.hostname, port, authorization)


def _known(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise MissingVariable(name)
    return values[name]


# --- Templates of a step ---------------------------------------------------------------------------------------------


def path_template(plan: Plan, step: Step) -> str:
    """Base path, path and query as one template that starts with a slash."""
    path = step.path
    if path.startswith(("http://", "https://")):
        parts = urlsplit(path)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    else:
        path = urlsplit(plan.target).path.rstrip("/") + path
    if step.query:
        path += ("&" if "?" in path else "?") + _encoded(step.query)
    return path


def body_template(step: Step) -> tuple[str | None, str | None]:
    """The body's template and the content type it has unless the step says otherwise; (None, None) without one."""
    if step.json_ is not None:
        return json.dumps(step.json_, ensure_ascii=False, separators=(",", ":")), "application/json"
    if step.form is not None:
        return _encoded(step.form), "application/x-www-form-urlencoded"
    return step.body, upload.content_type(step)


def auth_headers(plan: Plan, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """The headers that the plan's `auth` stands for; `values` fill in what Basic encodes, the rest stays a template."""
    headers = list(plan.auth.header.items())
    if plan.auth.bearer is not None:
        headers.append(("authorization", f"Bearer {plan.auth.bearer}"))
    if plan.auth.basic is not None:
        pair = TEMPLATE.sub(lambda found: values.get(found[1], found[0]), plan.auth.basic)
        headers.append(("authorization", "Basic " + base64.b64encode(pair.encode()).decode()))
    return headers


def environment_names(plan: Plan) -> set[str]:
    """The environment variables that the plan's templates name."""
    text = json.dumps(plan.model_dump(mode="json", by_alias=True), ensure_ascii=False)
    return {found[1].removeprefix("env.") for found in TEMPLATE.finditer(text) if found[1].startswith("env.")}


def constants(plan: Plan, environment: Mapping[str, str]) -> dict[str, str]:
    """The plan's variables and the environment values it names, as `env.NAME`. Raises MissingVariable.

    A variable may itself be made from environment values, as in `{token: "{{env.TOKEN}}"}`.
    """
    values: dict[str, str] = {}
    for name in sorted(environment_names(plan)):
        if name not in environment:
            raise MissingVariable(f"env.{name}")
        values[f"env.{name}"] = environment[name]
    constants = {
        name: TEMPLATE.sub(lambda found: values.get(found[1], found[0]), str(value))
        for name, value in plan.variables.items()
    }
    return {**constants, **values}


def cells(name: str, columns: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """A row of data as variables: `users.name` for column `name` of `users`."""
    return {f"{name}.{column}": value for column, value in zip(columns, values, strict=True)}


def _encoded(pairs: Mapping[str, str | int | float | bool]) -> str:
    """Pairs as in a query or a form: literal text encoded, templates left to be filled in and encoded later."""
    return urlencode([(name, _plain(value)) for name, value in pairs.items()], quote_via=_quote_around_templates)


def _plain(value: str | int | float | bool) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _quote_around_templates(text: Any, safe: Any = "", encoding: Any = None, errors: Any = None) -> str:
    parts, at = [], 0
    for found in TEMPLATE.finditer(str(text)):
        parts += [quote(str(text)[at : found.start()], safe=""), found[0]]
        at = found.end()
    return "".join([*parts, quote(str(text)[at:], safe="")])
