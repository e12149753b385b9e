"""A plan's steps, compiled for hosting: the bytes of their requests, the meaning of their answers.

`plan.evaluate` says what a step is; this module keeps what need not be worked out for each request. Text that came from
a variable cannot break a request: it is encoded for where it stands, and a line break never reaches a head.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from surgeline.plan import evaluate
from surgeline.plan.decode import BadEncoding
from surgeline.plan.evaluate import Answer, MissingVariable, Scope
from surgeline.plan.feed import feeds_used
from surgeline.plan.model import Plan, Step
from surgeline.samples import Outcome

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))
_BREAKS = re.compile(r"[\r\n\x00]+")
_BODY_HEADERS = ("content-type", "content-encoding")
_OWN_HEADERS = ("content-length", "transfer-encoding", "cookie")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A request, ready to be sent but for its cookies. `head` is without them and ends before the empty line."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    head: bytes

    @classmethod
    def of(cls, method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes) -> "Rendered":
        """With the head that these make."""
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        return cls(method, path, headers, body, ("\r\n".join(lines) + "\r\n").encode())

    def bytes_with(self, cookies: str) -> bytes:
        """What goes over the wire; `cookies` is the value of that header."""
        if not cookies:
            return self.head + b"\r\n" + self.body
        return self.head + f"Cookie: {cookies}\r\n\r\n".encode("latin-1", errors="replace") + self.body

    def redirected(self, status: int, path: str) -> "Rendered":
        """The request that follows a redirect: 307 and 308 keep all; 303, and a POST, become a GET without a body."""
        if status in (307, 308) or self.method in ("GET", "HEAD") or (status != 303 and self.method != "POST"):
            return Rendered.of(self.method, path, self.headers, self.body)
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in _BODY_HEADERS)
        return Rendered.of("GET", path, kept, b"")


class HostedStep:
    """One step."""

    def __init__(self, step: Step, told: dict[str, Any], plan_headers: Iterable[list[str]], host: str) -> None:
        self.step = step
        self.endpoint = step.endpoint
        self.method: str = told["method"]
        self.timeout_ns: int | None = told["timeout_ns"]
        self.think_ns: Any = told["think_time_ns"]
        self.reads_body = bool(step.check.json_ or step.check.body is not None) or any(
            part.json_ is not None or part.regex is not None for part in step.extract.values()
        )
        """Whether a check or an extractor looks into bodies."""
        self._path: str = told["path"]
        self._body: str | None = told["body"]
        merged = {"host": ("Host", host)}
        for name, value in (*plan_headers, *told["headers"]):
            merged[name.lower()] = (name, value)
        self._headers = [pair for name, pair in merged.items() if name not in _OWN_HEADERS]
        self._escape = _escape_for(merged.get("content-type", ("", ""))[1])
        self._varies = any("{{" in text for text in (self._path, self._body or "", *(v for _, v in self._headers)))
        self._constant: Rendered | None = None

    def render(self, scope: Scope) -> Rendered:
        """The request. Raises MissingVariable where a template names what the iteration does not have."""
        if self._constant is not None:
            return self._constant
        path = quote(evaluate.render(self._path, scope, _escape_url), safe=_PRINTABLE)
        headers = tuple((name, _BREAKS.sub(" ", evaluate.render(value, scope))) for name, value in self._headers)
        body = b"" if self._body is None else evaluate.render(self._body, scope, self._escape).encode()
        rendered = Rendered.of(self.method, path, headers, body)
        if not self._varies:
            self._constant = rendered
        return rendered

    def judge(self, answer: Answer, scope: Scope) -> tuple[Outcome, str, bool]:
        """Outcome and error of a whole answer, and whether the iteration goes on; what is extracted is in the scope."""
        error, goes_on = evaluate.judge(self.step, answer, scope), True
        if self.step.extract:
            try:
                scope.variables.update(evaluate.extract(self.step, answer))
            except (MissingVariable, BadEncoding) as absent:
                kind = "bad_encoding" if isinstance(absent, BadEncoding) else "extract_missing"
                error, goes_on = error or kind, False
        return (Outcome.FAILURE if error else Outcome.OK), error, goes_on


@dataclass(frozen=True, slots=True)
class HostedScenario:
    """One flow."""

    name: str
    weight: int
    think_ns: Any
    """As `plan.pause.pause_data` tells it."""
    steps: list[HostedStep]
    feeds: tuple[str, ...] = ()
    """The test data that each pass takes a row from."""


class Hosted:
    """A plan as it is hosted: scenarios to draw from, constants, limits."""

    def __init__(self, plan: Plan, told: dict[str, Any]) -> None:
        self.told = told
        self.constants: dict[str, str] = told["variables"]
        self.timeout_ns: int = told["timeout_ns"]
        self.max_redirects: int = told["max_redirects"]
        self.max_in_flight: int = told["max_in_flight"]
        self.max_body_bytes: int = told["max_body_bytes"]
        self.grace_ns: int = min(told["grace_ns"], told["timeout_ns"])
        self.requests_per_iteration = plan.requests_per_iteration
        target = told["target"]
        self.origin = f"{target['scheme']}://{target['host_header']}"
        self.scenarios = [
            HostedScenario(
                compiled["name"],
                compiled["weight"],
                compiled["think_time_ns"],
                [
                    HostedStep(step, part, told["headers"], target["host_header"])
                    for step, part in zip(plan.scenarios[compiled["name"]].steps, compiled["steps"], strict=True)
                ],
                feeds_used(plan, compiled["name"]),
            )
            for compiled in told["scenarios"]
        ]
        self._weights = [scenario.weight for scenario in self.scenarios]
        values = [value for name, value in self.constants.items() if name.startswith("env.")]
        secrets = {value for value in (*values, *told["secrets"]) if len(value) > 3}
        forms = {form for value in secrets for form in (value, _escape_url(value), _escape_json(value))}
        self._secrets = sorted(forms, key=len)[::-1]

    def pick(self, draws: Random) -> HostedScenario:
        """A scenario, by weight."""
        if len(self.scenarios) == 1:
            return self.scenarios[0]
        return draws.choices(self.scenarios, self._weights)[0]

    def public(self, text: str) -> str:
        """The text without the values that came from the environment: what is stored holds no secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def redirect_path(origin: str, path: str, location: str) -> str | None:
    """Path and query that a redirect from `path` leads to; None where that is another origin, or none."""
    try:
        parts = urlsplit(urljoin(origin + path, location.strip()))
        here = urlsplit(origin)
        same = parts.scheme == here.scheme and _authority(parts) == _authority(here)
    except ValueError:
        return None
    if not same:
        return None
    return quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PRINTABLE)


def _authority(parts: Any) -> tuple[str, int]:
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _escape_for(content_type: str) -> Callable[[str], str]:
    """How a variable is written into a body of that type."""
    lowered = content_type.lower()
    if "json" in lowered:
        return _escape_json
    return _escape_url if "x-www-form-urlencoded" in lowered else str


def _escape_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _escape_url(text: str) -> str:
    return quote(text, safe="-._~")
