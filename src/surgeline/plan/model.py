"""The Plan: what is sent, in which flows, under which load, and what would be good enough.

A plan is a value. It says nothing about when or where it was written, holds no secret (those are references such as
`{{env.TOKEN}}` until an engine starts), and the same text always gives the same plan. The classes are pydantic models,
so the JSON Schema that editors use is made from them; `surgeline schema plan` prints it.
"""

import base64
import hashlib
import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Tag,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from surgeline import units
from surgeline.plan.objective import parse_objectives
from surgeline.plan.pause import PauseValue, parse_pause, pause_text
from surgeline.workload import (
    DEFAULT_SEED,
    PRESETS,
    Model,
    Stage,
    Workload,
    closed_stage,
    default_steps,
    from_preset,
    open_stage,
    session_stage,
    visits,
)

METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
SAFE_METHODS = ("get", "head", "options")
TEMPLATE = re.compile(r"\{\{[ \t]*([^{}\s](?:[^{}\n]{0,198}[^{}\s])?)[ \t]*\}\}")
"""`{{id}}`: a variable or a generator, up to 200 characters without braces; its group is without the spaces around."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
LONGEST_NAME = 200
"""Characters in the name of anything that a page shows."""


LONGEST_PATH = 8192
"""Characters; what common servers accept in a request line."""


class Misplaced(ValueError):
    """A value that is wrong further inside than where that was noticed: `loc` leads on from there."""

    def __init__(self, message: str, *loc: str | int, at_key: bool = False) -> None:
        super().__init__(message)
        self.loc = loc
        self.at_key = at_key


def _name(text: str) -> str:
    if not text.strip() or len(text) > LONGEST_NAME or not text.isprintable():
        raise ValueError(f"a name is one line of 1 to {LONGEST_NAME} characters")
    return text


def _variable(text: str) -> str:
    if not _VARIABLE.fullmatch(text) or len(text) > LONGEST_NAME:
        raise ValueError(f"{text[:LONGEST_NAME]!r} cannot be a variable's name; use letters, digits and _")
    return text


Name = Annotated[str, AfterValidator(_name)]
"""What a page calls something: one printable line, never empty."""

Variable = Annotated[str, AfterValidator(_variable)]
"""A name that can stand in a template."""


def _feed_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,99}", text):
        raise ValueError(f"{text[:LONGEST_NAME]!r} cannot be the name of data; use letters, digits and _")
    return text


FeedName = Annotated[str, AfterValidator(_feed_name)]
"""What stands before the dot in `{{users.name}}`."""

Switch = Annotated[bool, Field(strict=True)]


def _duration_text(value_ns: int) -> str:
    """The shortest exact text that parses back to the same nanoseconds."""
    for unit, size in (
        ("h", 3600 * units.NS_PER_S),
        ("m", 60 * units.NS_PER_S),
        ("s", units.NS_PER_S),
        ("ms", units.NS_PER_MS),
    ):
        if value_ns and value_ns % size == 0:
            return f"{value_ns // size}{unit}"
    return f"{value_ns}ns" if value_ns else "0s"


Duration = Annotated[
    int,
    BeforeValidator(lambda value: units.parse_duration_ns(value)),
    PlainSerializer(_duration_text, return_type=str),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "1m30s", "250ms"]}),
]
"""Nanoseconds; written as `30s`, `1m30s`, `250ms`."""


def _some_time(value_ns: int) -> int:
    if value_ns <= 0:
        raise ValueError("this must be longer than 0")
    return value_ns


Timeout = Annotated[Duration, AfterValidator(_some_time)]
"""A duration within which nothing can happen is none."""


Pause = Annotated[
    PauseValue,
    BeforeValidator(parse_pause),
    PlainSerializer(lambda pause: pause_text(pause, _duration_text), return_type=str),
    WithJsonSchema({"type": ["string", "number"], "examples": ["1s", "1s..3s", "~exp(2s)", "~lognormal(1s, 0.5)"]}),
]
"""Shortest and longest pause in ns, drawn evenly between, or a distribution; written as `1s`, `1s..3s`, `~exp(2s)`."""

Json = Any

Scalar = str | int | float | bool


def _path(text: str) -> str:
    if not text.startswith(("/", "http://", "https://")):
        raise ValueError(f"the path {text[:60]!r} must start with a slash, as in /{text[:60].lstrip('/')}")
    if len(text) > LONGEST_PATH:
        raise ValueError(f"the path has {len(text):,} characters; servers take {LONGEST_PATH:,} at most")
    return text


Path = Annotated[str, AfterValidator(_path)]
"""A template that starts with a slash, or a whole URL on the target's origin."""


def _placeholder(template: str) -> str:
    """What stands in an endpoint's name for a template: `id` for `user.id`, `int` for `int(1,100)`."""
    return template.partition("(")[0].strip().rpartition(".")[2]


class _Part(BaseModel):
    """A part of a plan: closed to unknown keys, and a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _status_ranges(value: Any) -> tuple[tuple[int, int], ...]:
    ranges = tuple(_status_range(item) for item in (value if isinstance(value, list | tuple) else [value]))
    if not ranges:
        raise ValueError("the list of statuses is empty; write for example 200, 2xx or [200, 304]")
    return ranges


def _status_range(item: Any) -> tuple[int, int]:
    ends = item if isinstance(item, list | tuple) and len(item) == 2 else (item, item)
    if isinstance(item, str) and re.fullmatch(r"[1-5]xx", item):
        return int(item[0]) * 100, int(item[0]) * 100 + 99
    low, high = (
        int(end) if type(end) in (int, str) and re.fullmatch(r"[1-5][0-9]{2}", str(end)) else 0 for end in ends
    )
    if not 0 < low <= high:
        raise ValueError(f"{str(item)[:60]!r} is not a status; write for example 200, 2xx or [200, 304]")
    return low, high


def _status_texts(ranges: tuple[tuple[int, int], ...]) -> int | str | list[int | str | list[int]]:
    texts: list[int | str | list[int]] = [
        low if low == high else f"{low // 100}xx" if (low % 100, high - low) == (0, 99) else [low, high]
        for low, high in ranges
    ]
    alone = texts[0]
    return alone if len(texts) == 1 and not isinstance(alone, list) else texts


_STATUS_SCHEMA: dict[str, Any] = {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^[1-5](xx|[0-9]{2})$"}]}

Statuses = Annotated[
    tuple[tuple[int, int], ...],
    BeforeValidator(_status_ranges),
    PlainSerializer(_status_texts),
    WithJsonSchema(
        {
            "anyOf": [
                *_STATUS_SCHEMA["anyOf"],
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "anyOf": [
                            *_STATUS_SCHEMA["anyOf"],
                            {"type": "array", "items": _STATUS_SCHEMA, "minItems": 2, "maxItems": 2},
                        ]
                    },
                },
            ],
            "examples": [200, "2xx", [200, 304], [[200, 206]]],
        }
    ),
]
"""Accepted statuses as ranges, both ends included; written as `200`, `2xx` or `[200, 304]`."""


def _time_limit(value: Any) -> int:
    text = str(value).strip()
    return units.parse_duration_ns(
        text.removeprefix("<").removeprefix("=").strip() if isinstance(value, str) else value
    )


TimeLimit = Annotated[
    int,
    BeforeValidator(_time_limit),
    PlainSerializer(lambda value_ns: f"< {_duration_text(value_ns)}", return_type=str),
    WithJsonSchema({"type": ["string", "number"], "examples": ["< 300ms"]}),
]
"""Nanoseconds; written as `< 300ms`."""


def _texts(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_TEXTS_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
}

BodyTexts = Annotated[
    tuple[str, ...],
    BeforeValidator(_texts),
    PlainSerializer(lambda texts: texts[0] if len(texts) == 1 else list(texts)),
    WithJsonSchema({**_TEXTS_SCHEMA, "examples": ["sold out", ["sold out", "error"]]}),
]


def _or_a_text(schema: dict[str, Any]) -> None:
    del schema["type"]
    schema["anyOf"] = [
        {"type": "string", "description": "A text the body must contain."},
        {"type": "object", "minProperties": 1},
    ]


class BodyCheck(_Part):
    """What the body must be like: a text that it must contain, or any of these keys."""

    model_config = ConfigDict(json_schema_extra=_or_a_text)

    contains: BodyTexts = Field((), description="Texts that the body must contain; templates.")
    not_: BodyTexts = Field((), alias="not", description="Texts that it must not contain; templates.")
    regex: BodyTexts = Field((), description="Regular expressions that must be found in it.")

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_contained(cls, value: Any) -> Any:
        return {"contains": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _says_something(self) -> "BodyCheck":
        if not (self.contains or self.not_ or self.regex):
            raise ValueError("write a text the body must contain, or contains, not or regex")
        return self

    @model_serializer(mode="wrap")
    def _as_a_text(self, dump: SerializerFunctionWrapHandler) -> Any:
        if len(self.contains) == 1 and not self.not_ and not self.regex:
            return self.contains[0]
        return {key: value for key, value in dump(self).items() if value}


MOST_BODY_BYTES = 64 * 1024 * 1024
"""The default of `max_body`. A body that nobody looks at is thrown away as it comes, so this is no question of memory
but of how long an answer without an end may keep its user: 64 MiB are above all but downloads, and over within a second
on any fast way. A plan of downloads says more."""


def _size_bytes_text(value_bytes: int) -> str:
    """The shortest exact text that parses back to the same bytes."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("GB", 10**9), ("MB", 10**6), ("KiB", 1 << 10)):
        if value_bytes and value_bytes % size == 0:
            return f"{value_bytes // size}{unit}"
    return str(value_bytes)


Size = Annotated[
    int,
    BeforeValidator(lambda value: units.parse_size_bytes(value)),
    PlainSerializer(_size_bytes_text, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["64MiB", "100MB", 512]}),
]
"""Bytes; written as `100MB`, `64MiB` or `512`."""


def _size_limits(value: Any) -> tuple[int, int]:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.startswith("<"):
        return 0, units.parse_size_bytes(text.lstrip("<= "))
    if isinstance(text, str) and text.startswith(">"):
        return units.parse_size_bytes(text.lstrip(">= ")), units.LARGEST_BYTES
    if isinstance(text, str) and ".." in text:
        low, high = (units.parse_size_bytes(end) for end in text.split("..", 1))
    elif isinstance(text, tuple | list) and len(text) == 2:
        low, high = (units.parse_size_bytes(end) for end in text)
    else:
        low = high = units.parse_size_bytes(text)
    if high < low:
        raise ValueError(f"{str(value)[:60]!r} ends before it begins; write the smaller size first, as in 1kB..10kB")
    return low, high


def _size_text(limits: tuple[int, int]) -> str:
    low, high = limits
    if low == high:
        return str(low)
    if low == 0:
        return f"< {high}"
    return f"> {low}" if high == units.LARGEST_BYTES else f"{low}..{high}"


SizeLimits = Annotated[
    tuple[int, int],
    BeforeValidator(_size_limits),
    PlainSerializer(_size_text, return_type=str),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["< 10kB", "> 100", "1kB..10kB", 512]}),
]
"""Least and greatest bytes, both included; written as `< 10kB`, `> 100`, `1kB..10kB` or `512`."""

JSON_RULES = ("equals", "not", "exists", "above", "below", "at_least", "at_most")
"""What a value found by a JSONPath can be held to, besides being equal to what is written."""


def json_rules(found: Any) -> list[tuple[str, Any]]:
    """The rules behind a JSONPath of a check: an object with nothing but their names as keys, else equality."""
    if isinstance(found, dict) and found and found.keys() <= set(JSON_RULES):
        return list(found.items())
    return [("equals", found)]


class Check(_Part):
    """What makes an answer right. A failed check makes the request a failure; it is never sent again."""

    status: Statuses | None = Field(
        None, description="Accepted statuses, a range as a pair; without it 2xx and 3xx are right."
    )
    time: TimeLimit | None = Field(None, description="Longest service time.")
    size: SizeLimits | None = Field(None, description="Bytes of the body, as they came.")
    body: BodyCheck | None = Field(None, description="A text the body must contain, or more about it.")
    json_: dict[str, Json] = Field(
        {}, alias="json", description="JSONPath to the value it must have, or to rules such as `{above: 3}`."
    )
    header: dict[str, str] = Field({}, description="Header to a text its value must contain.")


def _or_a_jsonpath(schema: dict[str, Any]) -> None:
    schema.update(
        {
            "anyOf": [
                {"type": "string", "description": "JSONPath into the body."},
                {"type": "object", "minProperties": 1, "maxProperties": 1},
            ]
        }
    )
    del schema["type"]


class Extract(_Part):
    """Where a variable's value comes from: a JSONPath, or exactly one of the four keys."""

    model_config = ConfigDict(json_schema_extra=_or_a_jsonpath)

    json_: str | None = Field(None, alias="json", description="JSONPath into the body.")
    regex: str | None = Field(None, description="Regular expression over the body; its first group, or all of it.")
    header: str | None = Field(None, description="Name of an answer's header.")
    cookie: str | None = Field(None, description="Name of a cookie that the answer sets.")

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_a_jsonpath(cls, value: Any) -> Any:
        return {"json": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> "Extract":
        if sum(part is not None for part in (self.json_, self.regex, self.header, self.cookie)) != 1:
            raise ValueError("name exactly one of json, regex, header, cookie")
        return self

    @model_serializer(mode="wrap")
    def _as_a_jsonpath(self, dump: SerializerFunctionWrapHandler) -> Any:
        return dump(self) if self.json_ is None else self.json_

    @property
    def source(self) -> tuple[str, str]:
        """Which of the four, and its expression."""
        for word, expression in (("json", self.json_), ("regex", self.regex), ("header", self.header)):
            if expression is not None:
                return word, expression
        return "cookie", self.cookie or ""


def _one_of(words: Sequence[str], *apart: str) -> dict[str, Any]:
    """In JSON Schema: exactly one of `words` is there, and no two of `apart`."""
    schema: dict[str, Any] = {"oneOf": [{"required": [word]} for word in words]}
    pairs = [[one, other] for index, one in enumerate(apart) for other in apart[index + 1 :]]
    return {**schema, **({"not": {"anyOf": [{"required": pair} for pair in pairs]}} if pairs else {})}


def _statuses_or_words(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _or_a_number(schema: dict[str, Any]) -> None:
    del schema["type"]
    schema["anyOf"] = [
        {"type": "integer", "minimum": 1, "maximum": 100, "description": "Attempts after the first."},
        {"type": "object", "minProperties": 1},
    ]


RetriedOutcome = Literal["failure", "error", "timeout"]
RETRIED: tuple[RetriedOutcome | int, ...] = ("failure", "error", "timeout")
"""The outcomes after which a step may be tried again."""


class Retry(_Part):
    """Trying a step again: so many times, or any of these keys. Each attempt is a request of its own and is counted."""

    model_config = ConfigDict(json_schema_extra=_or_a_number)

    times: Annotated[int, Field(ge=1, le=100, strict=True)] = Field(description="Attempts after the first.")
    on: Annotated[
        tuple[RetriedOutcome | Annotated[int, Field(ge=100, le=599, strict=True)], ...],
        BeforeValidator(_statuses_or_words),
    ] = Field(RETRIED, description="After which outcomes, or which wrong statuses.", min_length=1)
    backoff: Pause = Field(
        (units.NS_PER_S, units.NS_PER_S),
        description="Pause before the second attempt.",
        json_schema_extra={"default": "1s"},
    )
    factor: Annotated[float, Field(ge=1, le=100)] = Field(
        2.0, description="How many times longer each further pause is."
    )
    most: Duration = Field(30 * units.NS_PER_S, description="No pause is longer.", json_schema_extra={"default": "30s"})

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_times(cls, value: Any) -> Any:
        return {"times": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @model_serializer(mode="wrap")
    def _as_a_number(self, dump: SerializerFunctionWrapHandler) -> Any:
        found = dump(self)
        return self.times if found.keys() == {"times"} else found


_SENT_FILE = re.compile(r"[^/\\\x00-\x1f][^\\\x00-\x1f]*")


def _sent_file(text: str) -> str:
    if not _SENT_FILE.fullmatch(text) or len(text) > 1000 or re.match(r"[A-Za-z]:", text):
        raise ValueError(f"{text[:60]!r} is not a file beside the plan; name one in its folder, as in photo.jpg")
    if ".." in text.split("/"):
        raise ValueError(f"{text[:60]!r} leads out of the plan's folder; put the file into it")
    return text


SentFile = Annotated[str, AfterValidator(_sent_file)]
"""A file in the plan's folder or below it, whose bytes are sent."""


def _field_name(text: str) -> str:
    if "{{" in text:
        raise ValueError("a template cannot stand in a field's name")
    return _form_name(text)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:[ \t]*;[ -~]*)?")


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text) or len(text) > LONGEST_NAME:
        raise ValueError(f"{text[:60]!r} is not a content type; write for example image/png")
    return text


MediaType = Annotated[str, AfterValidator(_media_type)]


def _form_name(text: str) -> str:
    if not text or len(text) > LONGEST_NAME or _CONTROL.search(text):
        raise ValueError(f"a field's name is one line of 1 to {LONGEST_NAME} characters")
    return text


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _or_a_value(schema: dict[str, Any]) -> None:
    del schema["type"]
    schema["anyOf"] = [
        {"type": ["string", "number", "boolean"], "description": "A text; a template."},
        {"type": "object", "minProperties": 1},
    ]


class FormPart(_Part):
    """A part of a multipart body: a text, or a file with these keys."""

    model_config = ConfigDict(json_schema_extra=_or_a_value)

    text: str | None = Field(None, description="A text; a template.")
    file: SentFile | None = Field(None, description="A file in the plan's folder or below it.")
    filename: Annotated[str, AfterValidator(_form_name)] | None = Field(
        None, description="What the file is called in the request; a template. By default its own name."
    )
    type: MediaType | None = Field(
        None, description="Content type; by default that of the file's ending, and none for a text."
    )
    sha256: Sha256 | None = Field(None, description="Of the file; written by a run, and then held to.")

    @model_validator(mode="before")
    @classmethod
    def _a_value_is_a_text(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {"text": "true" if value else "false"}
        return {"text": str(value)} if isinstance(value, str | int | float) else value

    @model_validator(mode="after")
    def _a_text_or_a_file(self) -> "FormPart":
        if (self.text is None) == (self.file is None):
            raise ValueError("write a text, or the name of a file, as in `{file: photo.jpg}`")
        if self.text is not None and (self.filename or self.sha256) is not None:
            raise ValueError("filename and sha256 go with a file")
        return self

    @model_serializer(mode="wrap")
    def _as_a_text(self, dump: SerializerFunctionWrapHandler) -> Any:
        if self.text is not None and self.type is None:
            return self.text
        return {key: value for key, value in dump(self).items() if value is not None}


class BodyFile(_Part):
    """A body that is a file's bytes: the file's name, or these keys."""

    model_config = ConfigDict(
        json_schema_extra=lambda schema: (
            schema.pop("type"),
            schema.update(anyOf=[{"type": "string", "description": "The file."}, {"type": "object"}]),
        )[-1]
    )

    file: SentFile = Field(description="A file in the plan's folder or below it.")
    sha256: Sha256 | None = Field(None, description="Of the file; written by a run, and then held to.")

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_a_file(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_a_text(self, dump: SerializerFunctionWrapHandler) -> Any:
        return self.file if self.sha256 is None else dump(self)


def _form_parts(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _one_or_several(schema: dict[str, Any]) -> None:
    array = {key: schema.pop(key) for key in ("type", "items", "minItems")}
    schema["anyOf"] = [array["items"], array]


FormParts = Annotated[
    tuple[FormPart, ...],
    Field(min_length=1, json_schema_extra=_one_or_several),
    BeforeValidator(_form_parts),
    PlainSerializer(
        lambda parts: parts[0] if len(parts) == 1 else list(parts),
        return_type=FormPart | list[FormPart],
    ),
]
"""One part, or several with the same name."""

BODIES = ("json", "form", "body", "multipart", "body_file")
"""The keys of a step that give its request a body."""


def _absent(value: Any) -> bool:
    return value is None


def _until(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"messages": value}
    return {"text": value} if isinstance(value, str) else value


def _or_a_count_or_text(schema: dict[str, Any]) -> None:
    del schema["type"]
    schema["anyOf"] = [
        {"type": "integer", "minimum": 1, "description": "So many messages."},
        {"type": "string", "minLength": 1, "description": "A message with this text in it."},
        {"type": "object", "minProperties": 1},
    ]


class Until(_Part):
    """What ends a stream of events: a number of messages, a text, or any of these keys; the first that happens."""

    model_config = ConfigDict(json_schema_extra=_or_a_count_or_text)

    messages: Annotated[int, Field(ge=1, le=10**9, strict=True)] | None = Field(None, description="So many messages.")
    text: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="A message with this text in it; a template."
    )
    time: Duration | None = Field(None, description="So long after the stream has begun.")

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        return _until(value)

    @model_validator(mode="after")
    def _something(self) -> "Until":
        if self.messages is None and self.text is None and self.time is None:
            raise ValueError("write a number of messages, a text, or messages, text or time")
        if self.time is not None and self.time <= 0:
            raise Misplaced("a stream lasts longer than nothing", "time")
        return self

    @model_serializer(mode="wrap")
    def _as_one_word(self, dump: SerializerFunctionWrapHandler) -> Any:
        found = {key: value for key, value in dump(self).items() if value is not None}
        return next(iter(found.values())) if found.keys() in ({"messages"}, {"text"}) else found


def _or_a_contained_text(schema: dict[str, Any]) -> None:
    del schema["type"]
    schema["anyOf"] = [
        {"type": "string", "minLength": 1, "description": "A text that the message must contain."},
        {"type": "object"},
    ]


class Expect(_Part):
    """The message that is waited for: a text that it must contain, or any of these keys. Others are passed over."""

    model_config = ConfigDict(json_schema_extra=_or_a_contained_text)

    contains: BodyTexts = Field((), description="Texts that it must contain; templates.")
    not_: BodyTexts = Field((), alias="not", description="Texts that it must not contain; templates.")
    regex: BodyTexts = Field((), description="Regular expressions that must be found in it.")
    json_: dict[str, Json] = Field(
        {}, alias="json", description="JSONPath to the value it must have, or to rules such as `{above: 3}`."
    )
    size: SizeLimits | None = Field(None, description="Bytes of the message.", exclude_if=_absent)
    timeout: Timeout | None = Field(None, description="How long it is waited for; by default as the step's answer.")
    name: Name | None = Field(None, description="What its times are called, behind the endpoint's name.")
    extract: dict[Variable, Extract] = Field(
        {}, description="Variables for what comes later; JSONPaths or regular expressions."
    )

    @model_validator(mode="before")
    @classmethod
    def _a_text_is_contained(cls, value: Any) -> Any:
        return {"contains": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _from_the_message(self) -> "Expect":
        for variable, part in self.extract.items():
            if part.source[0] not in ("json", "regex"):
                raise Misplaced("a message has neither headers nor cookies; name json or regex", "extract", variable)
        return self

    @model_serializer(mode="wrap")
    def _as_a_text(self, dump: SerializerFunctionWrapHandler) -> Any:
        found = {key: value for key, value in dump(self).items() if value not in (None, [], {}, ())}
        return found["contains"] if found.keys() == {"contains"} and isinstance(found["contains"], str) else found


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is not base64; `base64 -w0 FILE` writes it") from error
    return text


MESSAGE_WORDS = ("send", "send_json", "send_base64", "expect", "listen", "close")


class Message(_Part):
    """One thing done on a WebSocket; exactly one of these keys."""

    model_config = ConfigDict(json_schema_extra=_one_of(MESSAGE_WORDS))

    send: str | None = Field(None, description="A message of text; a template.")
    send_json: Json = Field(None, description="A message that is a JSON document; texts in it may be templates.")
    send_base64: Annotated[str, AfterValidator(_base64)] | None = Field(
        None, description="A binary message: its bytes in base64, as they are.", exclude_if=_absent
    )
    expect: Expect | None = Field(None, description="Waits for a message that fits.")
    listen: Duration | None = Field(None, description="Takes whatever comes for so long.")
    close: Annotated[int, Field(ge=1000, le=4999, strict=True)] | None = Field(
        None, description="Closes with this code, and waits until the server has; without it, 1000 after the last."
    )

    @model_validator(mode="after")
    def _one_thing(self) -> "Message":
        said = [word for word in MESSAGE_WORDS if getattr(self, word) is not None]
        if len(said) != 1:
            raise ValueError("write exactly one of send, send_json, send_base64, expect, listen and close")
        if self.listen is not None and self.listen <= 0:
            raise Misplaced("listening lasts longer than nothing", "listen")
        if self.close is not None and self.close not in (
            1000,
            1001,
            1002,
            1003,
            *range(1007, 1012),
            *range(3000, 5000),
        ):
            raise Misplaced(f"{self.close} is no code that a client closes with; write 1000, or 3000 to 4999", "close")
        return self

    @model_serializer(mode="wrap")
    def _as_one_key(self, dump: SerializerFunctionWrapHandler) -> Any:
        return {key: value for key, value in dump(self).items() if value is not None}


_OF_SOCKETS = {
    "sec-websocket-extensions": "compression and other extensions of WebSocket are not spoken here",
    "sec-websocket-key": "each user's key is made when it begins",
}
"""Headers of a WebSocket's opening that a plan cannot choose."""

WORDS = (*METHODS, "events", "websocket")
"""The keys of a step that hold its path."""


class Step(_Part):
    """One request of a flow. Exactly one key, of a method or a conversation, holds its path; `name` is what its results
    are grouped by."""

    model_config = ConfigDict(json_schema_extra=_one_of(WORDS, *BODIES))

    get: Path | None = Field(None, description="The path of a GET request; a template, with or without a query.")
    post: Path | None = Field(None, description="The path of a POST request.")
    put: Path | None = Field(None, description="The path of a PUT request.")
    patch: Path | None = Field(None, description="The path of a PATCH request.")
    delete: Path | None = Field(None, description="The path of a DELETE request.")
    head: Path | None = Field(None, description="The path of a HEAD request.")
    options: Path | None = Field(None, description="The path of an OPTIONS request.")
    events: Path | None = Field(
        None,
        description="The path of a stream of server-sent events: a GET, or with a body a POST.",
        exclude_if=_absent,
    )
    until: Until | None = Field(
        None, description="What ends the stream; without it, the server does.", exclude_if=_absent
    )
    websocket: Path | None = Field(None, description="The path of a WebSocket.", exclude_if=_absent)
    messages: tuple[Message, ...] | None = Field(
        None, description="What is done on the WebSocket, in order.", exclude_if=_absent
    )
    name: Name | None = Field(None, description="The endpoint's name; by default the method and the path's template.")
    query: dict[str, Scalar] = Field({}, description="Query parameters; values may be templates.")
    headers: dict[str, str] = Field({}, description="Headers of this request, on top of the plan's.")
    json_: Json = Field(None, alias="json", description="A body, sent as JSON; texts in it may be templates.")
    form: dict[str, Scalar] | None = Field(None, description="A body, sent as an HTML form.")
    body: str | None = Field(None, description="A body, sent as it is.")
    multipart: dict[Annotated[str, AfterValidator(_field_name)], FormParts] | None = Field(
        None,
        description="A body of fields and files, as a form with uploads sends it (multipart/form-data).",
        min_length=1,
        exclude_if=_absent,
    )
    body_file: BodyFile | None = Field(
        None, description="A body that is a file's bytes; read while it is sent.", exclude_if=_absent
    )
    transfer: Literal["chunked"] | None = Field(
        None,
        description="Send multipart or body_file in chunks, without telling its length beforehand.",
        exclude_if=_absent,
    )
    check: Check = Field(Check.model_validate({}), description="What makes the answer right.")
    extract: dict[Variable, Extract] = Field(
        {}, description="Variables for later steps of the same flow; a text is a JSONPath into the body."
    )
    timeout: Timeout | None = Field(None, description="For this request; by default the plan's.")
    think_time: Pause | None = Field(None, description="Pause after this step; by default the scenario's.")
    retry: Retry | None = Field(None, description="Whether it is tried again, and how; without it never.")
    transaction: Name | None = Field(
        None, description="What steps in a row with the same word are timed as, besides each by itself."
    )

    @model_validator(mode="after")
    def _one_method_one_body(self) -> "Step":
        named = [word for word in WORDS if getattr(self, word) is not None]
        if not named:
            raise ValueError("a step needs a method and its path, as in `get: /products`")
        if len(named) > 1:
            raise Misplaced(
                f"a step is one request; found {' and '.join(named)}, so write two steps", named[1], at_key=True
            )
        self._talks_as_it_should()
        bodies = [word for word in BODIES if getattr(self, "json_" if word == "json" else word) is not None]
        if len(bodies) > 1:
            raise Misplaced(f"a request has one body: {', '.join(BODIES[:-1])} or {BODIES[-1]}", bodies[1], at_key=True)
        if self.transfer is not None and not {"multipart", "body_file"} & set(bodies):
            raise Misplaced("only multipart and body_file are sent in chunks; leave it out", "transfer", at_key=True)
        return self

    def _talks_as_it_should(self) -> None:
        for key, word in (("until", "events"), ("messages", "websocket")):
            if getattr(self, key) is not None and getattr(self, word) is None:
                raise Misplaced(f"{key} goes with {word}, as in `{word}: {self.path}`", key, at_key=True)
        if not self.talks:
            return
        if self.websocket is not None and any(getattr(self, "json_" if b == "json" else b) is not None for b in BODIES):
            raise ValueError("a WebSocket begins without a body; write what is sent under messages")
        for name in self.headers if self.websocket is not None else ():
            if name.lower() in _OF_SOCKETS:
                raise Misplaced(f"{_OF_SOCKETS[name.lower()]}; leave the header out", "headers", name)
        if self.check.body is not None or self.check.json_ or self.check.size is not None:
            raise Misplaced(
                f"the answer of {self.word} has no body to check; its messages have until or expect", "check"
            )
        if self.check.status is not None and self.websocket is not None:
            raise Misplaced("a WebSocket begins with status 101 and with no other; leave status out", "check", "status")
        for variable, part in self.extract.items():
            if part.source[0] not in ("header", "cookie"):
                raise Misplaced(
                    f"the answer of {self.word} has no body to extract from; name header or cookie, or extract from "
                    "what is expected",
                    "extract",
                    variable,
                )

    @property
    def word(self) -> str:
        """The key that holds its path."""
        return next(word for word in WORDS if getattr(self, word) is not None)

    @property
    def talks(self) -> bool:
        """Whether the answer begins a conversation, of events or on a WebSocket."""
        return self.events is not None or self.websocket is not None

    @property
    def method(self) -> str:
        """In capitals."""
        if self.events is not None:
            return (
                "GET" if all(getattr(self, "json_" if body == "json" else body) is None for body in BODIES) else "POST"
            )
        return "GET" if self.websocket is not None else self.word.upper()

    @property
    def path(self) -> str:
        """As written: a template, without the query parameters of `query`."""
        return str(getattr(self, self.word))

    @property
    def endpoint(self) -> str:
        """The name its results are grouped by: `name`, or method and path with `{id}` for `{{id}}` and no query."""
        if self.name is not None:
            return self.name
        path = self.path.split("?", 1)[0]
        word = {"events": "EVENTS", "websocket": "WS"}.get(self.word, self.method)
        return f"{word} {TEMPLATE.sub(lambda found: '{' + _placeholder(found[1]) + '}', path)}"

    @property
    def message_names(self) -> tuple[str, ...]:
        """What the times of its conversation are called: in the order of `messages`, then the conversation as a whole.

        Of events the first message and the others; "" for what is no message that comes. Empty without a conversation.
        """
        if self.events is not None:
            return tuple(f"{self.endpoint} > {word}" for word in ("first", "next", "whole"))
        if self.websocket is None:
            return ()
        names, expected = [], 0
        for message in self.messages or ():
            if message.expect is not None:
                expected += 1
                names.append(f"{self.endpoint} > {message.expect.name or f'reply {expected}'}")
            else:
                names.append(f"{self.endpoint} > heard" if message.listen is not None else "")
        return (*names, f"{self.endpoint} > whole")


class Scenario(_Part):
    """A flow of steps that one user, or one arrival, goes through in order."""

    weight: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = Field(
        1, description="How often it is picked, relative to the others."
    )
    think_time: Pause = Field(
        (0, 0),
        description="Pause between an answer and the next request; a range is drawn from evenly.",
        json_schema_extra={"default": "0s"},
    )
    pacing: Pause | None = Field(
        None, description="Spacing of the beginnings of a closed user's passes; a longer pass is not cut."
    )
    once: tuple[Step, ...] = Field(
        (), description="Requests that each user makes once, before its first pass, such as a login."
    )
    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = Field(description="Its requests, in order.")


def _ramp(value: Any, parse: Callable[[Any], float]) -> tuple[float, float]:
    ends: Sequence[Any] = [value]
    if isinstance(value, str):
        ends = [end.strip() for end in re.split(r"->|→", value)]
    elif isinstance(value, list | tuple) and value:
        ends = value
    if len(ends) > 2:
        raise ValueError(f"{str(value)[:60]!r} has more than two ends; write one stage per line of load")
    return float(parse(ends[0])), float(parse(ends[-1]))


def _users(value: Any) -> float:
    text = value.strip() if isinstance(value, str) else str(value) if type(value) is int and value < 10**9 else ""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{str(value)[:60]!r} is not a number of users; write for example 32 or 1 -> 64")
    return float(int(text))


def _ramp_text(pair: tuple[float, float], unit: str) -> Any:
    ends = [f"{_exact(level)}{unit}" for level in pair]
    if pair[0] == pair[1]:
        return ends[0] if unit else int(pair[0])
    return " -> ".join(ends)


def _exact(level: float) -> str:
    """The shortest text that reads back as the same number, never in exponent form."""
    return f"{Decimal(repr(level)):f}".removesuffix(".0")


Rate = Annotated[
    tuple[float, float],
    BeforeValidator(lambda value: _ramp(value, units.parse_rate_per_s)),
    PlainSerializer(lambda pair: _ramp_text(pair, "/s")),
    WithJsonSchema({"type": ["string", "number"], "examples": ["50/s", "50/s -> 300/s", "12k/m"]}),
]
"""Arrivals per second at the beginning and at the end."""

Users = Annotated[
    tuple[float, float],
    BeforeValidator(lambda value: _ramp(value, _users)),
    PlainSerializer(lambda pair: _ramp_text(pair, "")),
    WithJsonSchema({"type": ["string", "integer"], "examples": [32, "1 -> 64"]}),
]
"""Users at the beginning and at the end."""


class StagePart(_Part):
    """A straight line of load: `rate` (open model) or `users` (closed model), for a time."""

    model_config = ConfigDict(json_schema_extra=_one_of(("rate", "users")))

    rate: Rate | None = Field(
        None, description="Requests (open) or sessions (partly open) due per second, flat or from one end to the other."
    )
    users: Users | None = Field(None, description="Active users, flat or from one end to the other.")
    for_: Duration = Field(alias="for", description="How long.")
    name: Name | None = Field(None, description="What a page calls the stage.")

    @model_validator(mode="after")
    def _one_level(self) -> "StagePart":
        if (self.rate is None) == (self.users is None):
            raise ValueError("a stage has either a rate or users, as in `{rate: 50/s, for: 30s}`")
        if self.for_ <= 0:
            raise ValueError("a stage must last longer than nothing")
        return self


class WorkloadPart(_Part):
    """Which load: the model, and its stages one after the other."""

    model: Literal["open", "closed", "partly-open"] = Field(
        description="Open: requests arrive at a rate, whatever is answered. Closed: users who wait for their answers. "
        "Partly open: sessions arrive at a rate, and each goes through a scenario."
    )
    stages: Annotated[tuple[StagePart, ...], Field(min_length=1)] = Field(
        description="One after the other, without gaps."
    )
    arrivals: Literal["poisson", "uniform"] = Field("poisson", description="How arrivals of an open load are spaced.")
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = Field(
        DEFAULT_SEED, description="The same seed gives the same schedule."
    )

    @model_validator(mode="after")
    def _stages_fit_the_model(self) -> "WorkloadPart":
        wanted = "users" if self.model == "closed" else "rate"
        for index, stage in enumerate(self.stages):
            if getattr(stage, wanted) is None:
                other = "users" if wanted == "rate" else "rate"
                example = "rate: 50/s" if wanted == "rate" else "users: 32"
                raise Misplaced(
                    f"the {self.model} model is written with {wanted}, as in `{{{example}, for: 30s}}`",
                    *("stages", index, other),
                    at_key=True,
                )
        if all(max(getattr(stage, wanted)) == 0 for stage in self.stages):
            raise Misplaced("no stage has any load", "stages")
        return self

    def value(self) -> Workload:
        """The same as the value that knows when requests are due; a rate is still in requests per second."""
        make = {"open": open_stage, "closed": closed_stage, "partly-open": session_stage}[self.model]
        stages = []
        for part in self.stages:
            start, end = (part.users if self.model == "closed" else part.rate) or (0.0, 0.0)
            stage = make(start, end, part.for_)
            stages.append(Stage(part.name, part.for_, start, end) if part.name else stage)
        return Workload(self.model, tuple(stages), self.arrivals, self.seed)

    @classmethod
    def of(cls, value: Workload) -> "WorkloadPart":
        """The part of a plan that describes `value`."""
        key = "users" if value.model == "closed" else "rate"
        stages = [
            {key: f"{_exact(s.start)} -> {_exact(s.end)}", "for": f"{s.duration_ns}ns", "name": s.name}
            for s in value.stages
        ]
        return cls.model_validate(
            {"model": value.model, "stages": stages, "arrivals": value.arrivals, "seed": value.seed}
        )


_FEED_FILE = re.compile(r"[^/\\\x00-\x1f][^\\\x00-\x1f]*\.(?:csv|jsonl|ndjson)", re.IGNORECASE)


def _data_file(text: str) -> str:
    if not _FEED_FILE.fullmatch(text) or len(text) > 1000 or re.match(r"[A-Za-z]:", text):
        raise ValueError(
            f"{text[:60]!r} is not a data file beside the plan; name a .csv, .jsonl or .ndjson, as in users.csv"
        )
    if ".." in text.split("/"):
        raise ValueError(f"{text[:60]!r} leads out of the plan's folder; put the file into it")
    return text


class DataPart(_Part):
    """Rows that iterations take, as `{{NAME.column}}`: a CSV file with a row of names, or JSON lines."""

    file: Annotated[str, AfterValidator(_data_file)] = Field(
        description="A .csv, .jsonl or .ndjson file in the plan's folder or below it."
    )
    order: Literal["sequential", "random", "unique"] = Field(
        "sequential",
        description="Who takes which row: each iteration the next, each iteration any, or each user one of its own.",
    )
    at_end: Literal["wrap", "stop"] | None = Field(
        None, description="After the last row: begin again, or end the run; unique rows can only end it."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Of the file; written by a run, and then held to."
    )

    @model_validator(mode="after")
    def _unique_ends(self) -> "DataPart":
        if self.order == "unique" and self.at_end == "wrap":
            raise Misplaced("rows that are used again are not unique; leave at_end out, or use sequential", "at_end")
        if self.order == "random" and self.at_end is not None:
            raise Misplaced("random rows have no end; leave at_end out", "at_end")
        return self

    @property
    def wraps(self) -> bool:
        """Whether the rows begin again after the last."""
        return self.at_end != "stop" and self.order != "unique"


def _peak(value: Any) -> tuple[str, float]:
    if isinstance(value, tuple | list) and len(value) == 2 and value[0] in ("users", "rate"):
        return value[0], float(value[1])
    text = value.strip().removesuffix("users").strip() if isinstance(value, str) else value
    if isinstance(text, str) and "/" in text:
        rate = units.parse_rate_per_s(text)
        if rate > 0:
            return "rate", rate
    elif (users := _users(text)) > 0:
        return "users", users
    raise ValueError(f"{str(value)[:60]!r} is no peak; write for example 200/s, or 50 for users")


Peak = Annotated[
    tuple[str, float],
    BeforeValidator(_peak),
    PlainSerializer(lambda peak: f"{_exact(peak[1])}/s" if peak[0] == "rate" else int(peak[1])),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["200/s", 50]}),
]
"""The highest level of a preset: requests per second, or users."""


class PresetPart(_Part):
    """A load with a name: a shape that answers a question, up to a peak."""

    preset: Literal["smoke", "load", "stress", "spike", "soak", "breakpoint", "volume"] = Field(
        description="Which question is asked."
    )
    peak: Peak | None = Field(None, description="The highest level, a rate or a number of users; smoke needs none.")
    for_: Duration | None = Field(None, alias="for", description="The whole time; by default the preset's own.")
    sessions: Switch = Field(False, description="Whether a peak that is a rate counts sessions: the partly open model.")
    arrivals: Literal["poisson", "uniform"] = Field("poisson", description="How arrivals are spaced.")
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = Field(
        DEFAULT_SEED, description="The same seed gives the same schedule."
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "PresetPart":
        if self.peak is None and self.preset != "smoke":
            raise ValueError(f"{self.preset} needs its peak, as in `{{preset: {self.preset}, peak: 200/s}}`")
        if self.for_ is not None and self.for_ < len(PRESETS[self.preset].phases) * units.NS_PER_MS:
            raise Misplaced("this is too short for the shape", "for")
        if self.sessions and (self.peak is None or self.peak[0] != "rate"):
            raise Misplaced("sessions arrive at a rate; write the peak as in 20/s", "sessions", at_key=True)
        return self

    @property
    def model(self) -> Model:
        """As its peak is written; sessions for smoke, so that each arrival goes through a whole scenario."""
        if self.preset == "smoke":
            return "partly-open"
        if self.peak is None or self.peak[0] == "users":
            return "closed"
        return "partly-open" if self.sessions else "open"

    @property
    def equally(self) -> bool:
        """Whether each scenario is as likely as any other, whatever their weights."""
        return self.preset == "smoke"

    def value(self, scenarios: int = 1) -> Workload:
        """The same as the value that knows when requests are due; smoke has time for each of so many scenarios."""
        if self.preset == "smoke":
            most = self.peak[1] if self.peak is not None and self.peak[0] == "rate" else math.inf
            return from_preset("smoke", self.model, most, self.for_, "uniform", self.seed, visits(scenarios))
        peak = self.peak[1] if self.peak is not None else 1.0
        return from_preset(self.preset, self.model, peak, self.for_, self.arrivals, self.seed)


def _kind_of_load(value: Any) -> str:
    named = isinstance(value, PresetPart) or (isinstance(value, dict) and "preset" in value)
    return "load by name" if named else "load by stages"


Load = Annotated[
    Annotated[WorkloadPart, Tag("load by stages")] | Annotated[PresetPart, Tag("load by name")],
    Discriminator(_kind_of_load),
]
"""Stages, or a preset."""


class Auth(_Part):
    """How requests prove who sends them. Values may be `{{env.NAME}}`; a secret never stands in a plan itself."""

    bearer: str | None = Field(None, description="A token, as in `{{env.TOKEN}}`.")
    basic: str | None = Field(None, description="`user:password`, as in `{{env.USER_AND_PASSWORD}}`.")
    header: dict[str, str] = Field({}, description="Any other header, as in `{x-api-key: '{{env.KEY}}'}`.")


_FILE = re.compile(r"[^/\\\x00-\x1f][^\\\x00-\x1f]*")


def _tls_file(text: str) -> str:
    if not _FILE.fullmatch(text) or len(text) > 1000 or re.match(r"[A-Za-z]:", text):
        raise ValueError(f"{text[:60]!r} is not a file beside the plan; name one in its folder, as in ca.pem")
    if ".." in text.split("/"):
        raise ValueError(f"{text[:60]!r} leads out of the plan's folder; put the file into it")
    return text


TlsFile = Annotated[str, AfterValidator(_tls_file)]
"""A PEM file in the plan's folder or below it."""


def _version_texts(value: Any) -> Any:
    listed = value if isinstance(value, list | tuple) else [value]
    return tuple(str(item) if isinstance(item, float) else item for item in listed)


TlsVersions = Annotated[
    tuple[Literal["1.2", "1.3"], ...],
    Field(min_length=1),
    BeforeValidator(_version_texts),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["1.2", "1.3", 1.2, 1.3]},
                {"type": "array", "items": {"enum": ["1.2", "1.3", 1.2, 1.3]}, "minItems": 1},
            ],
            "examples": ["1.3", ["1.2", "1.3"]],
        }
    ),
]
"""Of TLS; written as `1.3` or `[1.2, 1.3]`."""


def _server_name(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z._:-]{1,253}", text):
        raise ValueError(f"{text[:60]!r} is not the name of a host; write for example api.test")
    return text


class Tls(_Part):
    """How TLS is spoken with an https target: whom to trust, who one is, in which version."""

    ca: TlsFile | None = Field(
        None, description="PEM file of the certificates to trust, in place of the system's; in the plan's folder."
    )
    certificate: TlsFile | None = Field(None, description="PEM file of the certificate to show to the server.")
    key: TlsFile | None = Field(None, description="PEM file of its key; without it, in the certificate's file.")
    versions: TlsVersions = Field(("1.2", "1.3"), description="Which versions may be spoken; both by default.")
    resumption: Switch = Field(True, description="Whether a new connection resumes a session of an earlier one.")
    server_name: Annotated[str, AfterValidator(_server_name)] | None = Field(
        None, description="The name asked for (SNI) and looked for in the certificate; by default the target's host."
    )

    @property
    def named(self) -> dict[str, str | None]:
        """`ca`, `certificate` and `key` with the file that each names."""
        return {"ca": self.ca, "certificate": self.certificate, "key": self.key}

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are named."""
        return tuple(file for file in self.named.values() if file is not None)

    @model_validator(mode="after")
    def _a_key_opens_something(self) -> "Tls":
        if self.key is not None and self.certificate is None:
            raise Misplaced("a key goes with its certificate; name it, as in `certificate: client.pem`", "key")
        return self


def _keep_alive(value: Any) -> bool | int:
    if isinstance(value, bool) or (isinstance(value, int) and 1 <= value < 10**9):
        return value
    raise ValueError(f"{str(value)[:60]!r} is neither true nor false nor a number of requests, as in keep_alive: 100")


KeepAlive = Annotated[
    bool | int,
    PlainValidator(_keep_alive),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1}], "examples": [True, False, 100]}),
]
"""Whether connections are kept, or for how many requests."""


def _proxy(text: str) -> str:
    if TEMPLATE.fullmatch(text.strip()):
        return text.strip()
    try:
        parts = urlsplit(TEMPLATE.sub("x", text))
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is not the URL of a proxy: {error}") from error
    if parts.scheme in ("https", "socks4", "socks4a", "socks5", "socks5h"):
        raise ValueError(f"a proxy is spoken to over http, not {parts.scheme}; write for example http://127.0.0.1:3128")
    if parts.scheme != "http" or not parts.hostname or not port:
        said = "has no port" if parts.scheme == "http" and parts.hostname else "is not the URL of a proxy"
        raise ValueError(f"{text[:60]!r} {said}; write for example http://127.0.0.1:3128")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("a proxy is a host and a port, without path or query; write for example http://127.0.0.1:3128")
    if urlsplit(TEMPLATE.sub("", text)).password:
        raise ValueError(
            "a password does not belong in a plan; write `http://user:{{env.PROXY_PASSWORD}}@…`, or `{{env.PROXY}}`"
        )
    return text


def _unix_socket(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError(f"{text[:60]!r} is not the path of a socket; write it from the root, as in /run/app.sock")
    if len(text.encode()) > LONGEST_SOCKET_PATH:
        raise ValueError(f"the path of a socket has at most {LONGEST_SOCKET_PATH} bytes, this one {len(text.encode())}")
    return text


LONGEST_SOCKET_PATH = 103
"""Bytes; what every system's `sockaddr_un` has room for."""
MOST_SOURCES = 1024
"""Source addresses; 1,024 of them have room for 28 million connections to one address."""


def _sources(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a source address is a text, as in 127.0.0.2, or a range, as in 127.0.0.2..127.0.0.20")
    written = tuple(text.strip() for text in texts)
    if len(source_list(written)) > MOST_SOURCES:
        raise ValueError(f"these are more than {MOST_SOURCES:,} source addresses")
    return written


def source_list(texts: Sequence[str]) -> tuple[str, ...]:
    """The single addresses that texts such as `127.0.0.2` and `127.0.0.2..127.0.0.20` stand for, each once."""
    found: dict[str, None] = {}
    for text in texts:
        first, dots, last = text.partition("..")
        try:
            begin, end = ipaddress.ip_address(first.strip()), ipaddress.ip_address((last if dots else first).strip())
        except ValueError:
            raise ValueError(
                f"{text[:60]!r} is not a source address; write for example 127.0.0.2, or 127.0.0.2..127.0.0.20"
            ) from None
        if begin.version != end.version or int(end) < int(begin):
            raise ValueError(f"{text[:60]!r} ends before it begins; write the lower address first")
        if int(end) - int(begin) >= MOST_SOURCES:
            raise ValueError(f"{text[:60]!r} are more than {MOST_SOURCES:,} source addresses")
        found.update((str(begin + step), None) for step in range(int(end) - int(begin) + 1))
    return tuple(found)


Sources = Annotated[
    tuple[str, ...],
    PlainValidator(_sources),
    PlainSerializer(lambda texts: texts[0] if len(texts) == 1 else list(texts)),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "examples": ["127.0.0.2..127.0.0.20", ["127.0.0.2", "127.0.0.3"]],
        }
    ),
]


def _family(value: Any) -> Literal[4, 6]:
    if value in (4, 6) and type(value) is int:
        return 4 if value == 4 else 6
    raise ValueError(f"{str(value)[:60]!r} is no version of the Internet Protocol; write ip: 4 or ip: 6")


Family = Annotated[Literal[4, 6], PlainValidator(_family), WithJsonSchema({"enum": [4, 6]})]
"""Of addresses."""


def _http_version(value: Any) -> Any:
    return str(value) if isinstance(value, float | int) and not isinstance(value, bool) else value


HttpVersion = Annotated[
    Literal["1.1", "2"],
    BeforeValidator(_http_version),
    WithJsonSchema({"enum": ["1.1", "2", 1.1, 2], "examples": ["2"]}),
]
"""A version of HTTP, also where YAML makes a number of it."""

DEFAULT_STREAMS = 10
MOST_STREAMS = 1000
"""The engine's own bound; servers allow far fewer."""


class Connection(_Part):
    """How connections are made, kept and shared, and which way they go to the target."""

    http: HttpVersion = Field(
        "1.1",
        description="The version of HTTP: 2 is negotiated in TLS, and spoken with prior knowledge (h2c) without it.",
        json_schema_extra={"default": "1.1"},
        exclude_if=lambda version: version == "1.1",
    )
    streams: Annotated[int, Field(ge=1, le=MOST_STREAMS, strict=True)] | None = Field(
        None,
        description=f"Requests at once on a connection with HTTP/2; by default {DEFAULT_STREAMS}.",
        exclude_if=lambda streams: streams is None,
    )
    keep_alive: KeepAlive = Field(
        True,
        description="Whether a connection serves more than one request; with a number, so many and then a new one.",
        json_schema_extra={"default": True},
    )
    share: Literal["user", "pool"] | None = Field(
        None,
        description="Who keeps connections: each user its own, or one pool for all users of a thread. "
        "By default users of a closed load, the pool for arrivals.",
    )
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        None, description="URL of an HTTP proxy that requests go through, as in `http://127.0.0.1:3128`."
    )
    unix_socket: Annotated[str, AfterValidator(_unix_socket)] | None = Field(
        None, description="Path of a Unix socket that the target listens on; its URL then only names it."
    )
    source_addresses: Sources = Field(
        (), description="Addresses of this machine that connections begin from, in turn: texts, or ranges."
    )
    ip: Family | None = Field(
        None, description="Which addresses of the host's name are used; by default all that accept a connection."
    )

    def __eq__(self, other: object) -> bool:
        # In Python 1 equals True; here they are one request per connection and any number.
        return super().__eq__(other) and (self.keep_alive is True) == (getattr(other, "keep_alive", None) is True)

    __hash__ = _Part.__hash__

    @model_serializer(mode="wrap")
    def _what_was_said(self, dump: SerializerFunctionWrapHandler) -> Any:
        data = dump(self)
        return data if self.keep_alive is True or "keep_alive" in data else {**data, "keep_alive": self.keep_alive}

    @model_validator(mode="after")
    def _one_version(self) -> "Connection":
        if self.http == "1.1" and self.streams is not None:
            raise Misplaced('streams belong to HTTP/2: write `http: "2"` beside them', "streams", at_key=True)
        if self.http == "2" and self.keep_alive is not True:
            raise Misplaced("connections of HTTP/2 are always kept: leave keep_alive out", "keep_alive", at_key=True)
        return self

    @model_validator(mode="after")
    def _one_way(self) -> "Connection":
        if self.unix_socket is not None:
            for key, other in (("proxy", self.proxy), ("source_addresses", self.source_addresses), ("ip", self.ip)):
                if other:
                    raise Misplaced(f"a Unix socket is no network: leave {key} or unix_socket out", key, at_key=True)
        if self.ip is not None and any(
            ipaddress.ip_address(source).version != self.ip for source in source_list(self.source_addresses)
        ):
            raise Misplaced(f"connections to an IPv{self.ip} address begin from one", "source_addresses")
        return self

    @property
    def http2_streams(self) -> int:
        """Requests at once on a connection with HTTP/2; 0 with HTTP/1.1."""
        return (self.streams or DEFAULT_STREAMS) if self.http == "2" else 0

    @property
    def sources(self) -> tuple[str, ...]:
        """The single addresses of `source_addresses`, ranges written out."""
        return source_list(self.source_addresses)


def _objectives(text: str) -> str:
    parse_objectives(text)
    return text


ObjectiveText = Annotated[str, AfterValidator(_objectives)]

_TEXT_OR_TEXTS: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    "examples": ["p95 < 300ms", ["p95 < 300ms", "POST /checkout: p99 < 800ms", "errors < 1%"]],
}


class Plan(_Part):
    """What is tested. `target` and `scenarios` with their steps are required; the rest has a default."""

    target: str = Field(description="Base URL; the paths of steps are appended to it.")
    name: Name | None = Field(None, description="What runs and pages are called; by default the target's host.")
    headers: dict[str, str] = Field({}, description="Headers of every request.")
    auth: Auth = Field(Auth.model_validate({}), description="How requests prove who sends them.")
    variables: dict[Variable, str | int | float] = Field({}, description="Constants for templates.")
    data: dict[FeedName, DataPart] = Field({}, description="Rows of test data for templates, from files.")
    timeout: Timeout = Field(
        30 * units.NS_PER_S,
        description="Longest time from the actual start to the last byte.",
        json_schema_extra={"default": "30s"},
    )
    redirects: Annotated[int, Field(ge=0, le=20, strict=True)] = Field(
        5, description="Most redirects followed; 0 follows none."
    )
    max_body: Annotated[Size, Field(ge=1)] = Field(
        MOST_BODY_BYTES,
        description="Longest body of an answer that is read; a longer one is the error `body_too_large`.",
        json_schema_extra={"default": "64MiB"},
        exclude_if=lambda most: most == MOST_BODY_BYTES,
    )
    insecure: Switch = Field(False, description="Accept any TLS certificate.")
    connection: Connection = Field(
        Connection.model_validate({}),
        description="How connections are made, kept and shared.",
        exclude_if=lambda part: part == Connection.model_validate({}),
    )
    tls: Tls = Field(
        Tls.model_validate({}),
        description="How TLS is spoken with an https target.",
        exclude_if=lambda part: part == Tls.model_validate({}),
    )
    scenarios: Annotated[dict[Name, Scenario], Field(min_length=1)] = Field(
        description="Named flows; which one a user goes through next is drawn by weight."
    )
    workload: Load | None = Field(None, description="Without one: closed steps of 1, 2, 4 … 64 users, 8 s each.")
    slo: Annotated[tuple[ObjectiveText, ...], WithJsonSchema(_TEXT_OR_TEXTS)] = Field(
        (), description="What would be good enough, of every endpoint together or of one."
    )

    @field_validator("target")
    @classmethod
    def _an_http_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{value!r} is not a URL: {error}") from error
        if parts.username or parts.password:
            raise ValueError(
                'a password does not belong in the target; use `auth: {basic: "{{env.USER_AND_PASSWORD}}"}`'
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ValueError(f"{value!r} is not an http or https URL; write for example http://127.0.0.1:8000")
        if parts.query or parts.fragment:
            raise ValueError("the target is a base URL, without query or fragment")
        return value.rstrip("/")

    @field_validator("slo", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    def steps(self) -> Iterator[tuple[str, Step]]:
        """Every step with its scenario's name, those of `once` first."""
        for name, scenario in self.scenarios.items():
            for step in (*scenario.once, *scenario.steps):
                yield name, step

    @property
    def sent_files(self) -> dict[str, str | None]:
        """The files whose bytes requests send, each once, with the SHA-256 that the plan holds it to."""
        found: dict[str, str | None] = {}
        for _, step in self.steps():
            parts = [part for parts in (step.multipart or {}).values() for part in parts]
            for part in (*parts, *((step.body_file,) if step.body_file is not None else ())):
                if part.file is not None:
                    found[part.file] = found.get(part.file) or part.sha256
        return found

    @property
    def transactions(self) -> tuple[str, ...]:
        """The words that steps are grouped by, each once, in the order of the text."""
        return tuple(dict.fromkeys(step.transaction for _, step in self.steps() if step.transaction is not None))

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The names results are grouped by, each once, in the order of the text."""
        return tuple(dict.fromkeys(step.endpoint for _, step in self.steps()))

    @property
    def title(self) -> str:
        """`name`, or the target's host and port."""
        return self.name or urlsplit(self.target).netloc

    @property
    def requests_per_iteration(self) -> float:
        """The mean number of requests of an arrival, scenarios picked by weight; each makes those of `once` too."""
        parts = [(self.weight_of(name), part) for name, part in self.scenarios.items()]
        requests = sum(weight * (len(part.once) + len(part.steps)) for weight, part in parts)
        return requests / sum(weight for weight, _ in parts)

    def weight_of(self, scenario: str) -> int:
        """How likely an arrival is to go through a scenario, against the others; under smoke all are alike."""
        equally = isinstance(self.workload, PresetPart) and self.workload.equally
        return 1 if equally else self.scenarios[scenario].weight

    def load(self) -> Workload:
        """The plan's workload, or the default one."""
        if isinstance(self.workload, PresetPart):
            return self.workload.value(len(self.scenarios))
        return self.workload.value() if self.workload else default_steps()

    def dump(self) -> dict[str, Any]:
        """The plan as plain data in its own language, without what is at its default; `model_validate` reads it."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @property
    def hash(self) -> str:
        """Sixteen hex digits that are equal for plans that test the same thing."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
