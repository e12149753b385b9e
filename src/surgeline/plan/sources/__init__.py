"""Something the user already has, turned into a plan.

Each module here takes one kind of thing (a URL, an OpenAPI document) and returns a `Sourced`: the plan, and in
sentences what was left out of it and why. `recognise` says which kind a thing is, by its content first and its name
second. What comes in was written by others: it is bounded, never executed, and no address in it is looked up except
through the `fetch` that a caller hands in.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from surgeline.plan.model import Plan
from surgeline.plan.problem import PlanError, quoted

Kind = Literal["url", "plan", "openapi", "script"]


MOST_NOTES = 12
"""Sentences, and names in a sentence, that a user is shown about a plan made from something else (taste)."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A request that is not in the plan: its name, and the reason as a clause."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} is left out: {self.reason}"


@dataclass(frozen=True, slots=True)
class Sourced:
    """A plan that was made from something else.

    `remarks` are sentences about what is in it, `left_out` says of each request that is not why it is not; both are
    empty where there is nothing to say.
    """

    plan: Plan
    remarks: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before the load starts: the remarks, then what was left out, by reason."""
        by_reason: dict[str, list[str]] = {}
        for part in self.left_out:
            by_reason.setdefault(part.reason, []).append(part.name)
        sentences = [
            f"{these(names, 'is', 'are', MOST_NOTES)} left out: {reason}" for reason, names in by_reason.items()
        ]
        shown = [*self.remarks, *sentences]
        if len(shown) <= MOST_NOTES:
            return tuple(shown)
        return (*shown[: MOST_NOTES - 1], f"more is left out, for {len(shown) - MOST_NOTES + 1} other reasons")


def these(names: Sequence[str], one: str, many: str, most: int = 3) -> str:
    """`A is`, `A, B are`, `A, B, C and 7 more are`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more} {one if len(names) == 1 else many}"


_URL = re.compile(r"https?://[^\s/?#]+[^\s]*", re.IGNORECASE)
_HOST_AND_PORT = re.compile(
    r"(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+(?=:\d))(:\d{1,5})?(/\S*)?"
)
_OTHER_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_OPENAPI_KEY = re.compile(r"""^[ \t{]*["']?(openapi|swagger)["']?\s*:\s*["']?[23]""", re.MULTILINE)
_PLAN_KEY = re.compile(r"""^["']?(target|scenarios)["']?\s*[:=]|^\[\[?scenarios""", re.MULTILINE)
_JSON_PLAN_KEY = re.compile(r'"(target|scenarios)"\s*:')
_LOCUST = re.compile(r"^[ \t]*(from\s+locust\b|import\s+locust\b)", re.MULTILINE)
_NOT_YET = (
    (re.compile(r'"log"\s*:\s*\{[^{}]*"(version|creator|entries)"'), "a HAR recording"),
    (re.compile(r'"schema"\s*:\s*"https://schema\.(getpostman|postman)\.com'), "a Postman collection"),
    (re.compile(r"^\s*curl\s"), "a curl command"),
    (re.compile(r"<jmeterTestPlan|<!doctype html|<html", re.IGNORECASE), "a page or an XML file"),
)
_HEAD_CHARACTERS = 65_536
"""As much of a text is looked at; what a document is stands at its beginning."""

TAKES = "Surgeline takes a URL, a plan, an OpenAPI document or a locustfile"


def recognise(text: str, name: str) -> Kind:
    """What a thing is: its content first, its name second. `text` is the URL itself or what is in the file `name`.

    Raises PlanError for what is none of them, and says what it looks like.
    """
    if name.endswith(".py"):
        return "script"
    stripped = text.strip()
    if "\n" not in stripped and (_URL.fullmatch(stripped) or _is_host(stripped)):
        return "url"
    return _by_content(text[:_HEAD_CHARACTERS], name) or _by_name(stripped, name)


def _is_host(text: str) -> bool:
    return len(text) < 2000 and _HOST_AND_PORT.fullmatch(text) is not None


def _by_content(head: str, name: str) -> Kind | None:
    if _LOCUST.search(head) and not head.lstrip().startswith("{"):
        return "script"
    if _OPENAPI_KEY.search(head) or (head.lstrip().startswith("{") and _json_says_openapi(head)):
        return "openapi"
    for pattern, what in _NOT_YET:
        if pattern.search(head):
            raise PlanError.of(name, f"this is {what}; {TAKES}")
    is_json = head.lstrip().startswith("{")
    return "plan" if _PLAN_KEY.search(head) or (is_json and _JSON_PLAN_KEY.search(head)) else None


def _json_says_openapi(head: str) -> bool:
    """A JSON document may name its version last; its `paths` of slashes give it away."""
    return re.search(r'"paths"\s*:\s*\{\s*("/|\})', head) is not None


def _by_name(text: str, name: str) -> Kind:
    if not text:
        raise PlanError.of(name, f"this is empty; {TAKES}")
    scheme = _OTHER_SCHEME.match(text)
    if scheme and "\n" not in text:
        raise PlanError.of(name, f"{quoted(scheme[1])} is not http or https; {TAKES}")
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    if suffix in ("yaml", "yml", "toml", "json"):
        return "plan"
    raise PlanError.of(name, f"this is neither a plan nor anything that one can be made from; {TAKES}")
