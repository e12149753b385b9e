"""An OpenAPI document turned into a plan: its GET operations whose required parameters have values in the document.

In come OpenAPI 3.0, 3.1 and Swagger 2.0, already read into plain data. Out comes one scenario of one step for each
operation that can be sent as it stands, and a sentence for each that cannot. A value is taken, in this order, from the
parameter's example, its schema's example, default, constant, or first enumerated value; a parameter that is not
required is sent only when it has an example. References are followed inside of the document only: no file is opened and
no address asked, whatever the document says.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote, urlsplit

from surgeline.plan.model import LONGEST_NAME
from surgeline.plan.problem import PlanError, printable, quoted
from surgeline.plan.sources import LeftOut, Sourced, these
from surgeline.plan.text import plan_from_data
from surgeline.plan.tree import read_tree

MOST_JSON_BYTES = 32 << 20
MOST_YAML_BYTES = 4 << 20
"""YAML is read some fifty times slower than JSON."""

MOST_REFERENCES = 32
"""References followed one after the other; a longer chain is a cycle or a prank."""
MOST_BRANCHES = 200
"""Schemas looked at for one value."""

_PLACEHOLDER = re.compile(r"\{([^{}/]+)\}")
_NONE = object()
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_IGNORED_HEADERS = ("accept", "content-type", "authorization")
"""OpenAPI 3 says that parameters of these names are ignored."""


class _Left(Exception):
    """An operation cannot be taken; the message is the reason, as a clause."""


def read_openapi(text: str | bytes, where: str) -> dict[str, Any]:
    """The document in a text, JSON or YAML. Raises PlanError where it is neither, or is no OpenAPI document."""
    head = text[:64].decode(errors="replace") if isinstance(text, bytes) else text[:64]
    as_json = head.lstrip().startswith("{")
    tree = read_tree(
        text,
        where,
        "json" if as_json else "yaml",
        most_bytes=MOST_JSON_BYTES if as_json else MOST_YAML_BYTES,
        most_alias_nodes=20_000,
        places=False,
    )
    if not is_openapi(tree.value):
        raise PlanError.of(where, 'this is not an OpenAPI document; it has neither "openapi" nor "swagger" at its top')
    document: dict[str, Any] = tree.value
    return document


def is_openapi(value: Any) -> bool:
    """Whether plain data calls itself an OpenAPI or Swagger document."""
    return isinstance(value, dict) and (
        isinstance(value.get("openapi"), str) or isinstance(value.get("swagger"), str | float)
    )


def plan_from_openapi(
    document: Mapping[str, Any],
    *,
    base_url: str | None = None,
    where: str = "openapi",
    only: Sequence[str] = (),
    most: int | None = None,
) -> Sourced:
    """The plan for a document.

    `base_url` is where the API runs; its path, where it has one, takes the place of the document's base path. Without
    it the document must name a server. `where` is the document's name in complaints. `only` keeps the operations whose
    name (`GET /books/{id}`), operation id or tag matches one of these shell patterns. `most` bounds the operations
    taken. Raises PlanError where no operation can be taken, or no server is known.
    """
    version = str(document.get("openapi") or document.get("swagger") or "")
    if not version.startswith(("2", "3")):
        raise PlanError.of(where, f"{quoted(version)} is no version of OpenAPI that is known; 2.0, 3.0 and 3.1 are")
    reader = _Reader(document, version.startswith("2"))
    target, notes = _target(document, reader, base_url, where)
    scenarios: dict[str, Any] = {}
    taken: list[_Operation] = []
    left_out = reader.unreadable
    beyond = 0
    for operation in reader.operations():
        if only and not operation.matches(only):
            continue
        if operation.method != "GET":
            left_out.append(LeftOut(operation.name, "only GET is sent unless a plan says otherwise"))
            continue
        if most is not None and len(scenarios) >= most:
            beyond += 1
            continue
        try:
            step = reader.step(operation)
        except _Left as reason:
            left_out.append(LeftOut(operation.name, str(reason)))
            continue
        step["name"] = _free(operation.name, scenarios)
        scenarios[step["name"]] = {"steps": [step]}
        taken.append(operation)
    if beyond:
        notes.append(f"{beyond} more GET operations are left out: the first {most} are enough for a first look")
    if not scenarios:
        raise _nothing(where, left_out)
    title = _title(document)
    plan = plan_from_data({"target": target, **({"name": title} if title else {}), "scenarios": scenarios}, where)
    return Sourced(plan, (*notes, *_remarks(taken, document)), tuple(left_out))


def _remarks(taken: Sequence["_Operation"], document: Mapping[str, Any]) -> Iterator[str]:
    """What to know about operations that are sent."""
    old = [operation.name for operation in taken if operation.operation.get("deprecated") is True]
    if old:
        yield f"{these(old, 'is', 'are')} marked as deprecated"
    guarded = {operation.name: needs for operation in taken if (needs := operation.security(document))}
    if guarded:
        schemes = dict.fromkeys(name for needs in guarded.values() for name in needs)
        yield (
            f"{these(list(guarded), 'asks', 'ask')} for authentication "
            f'({", ".join(quoted(name) for name in list(schemes)[:3])}); pass it with -H "Authorization: …"'
        )


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number = 2
    free = name
    while free in taken:
        free = f"{name[: LONGEST_NAME - 8]} ({number})"
        number += 1
    return free


def _title(document: Mapping[str, Any]) -> str | None:
    info = document.get("info")
    title = info.get("title") if isinstance(info, dict) else None
    return printable(" ".join(title.split()))[:LONGEST_NAME] or None if isinstance(title, str) else None


def _nothing(where: str, left_out: Sequence[LeftOut]) -> PlanError:
    if not left_out:
        return PlanError.of(where, "the document has no GET operation")
    shown = "".join(f"\n  {part}" for part in left_out[:8])
    more = f"\n  … and {len(left_out) - 8} more" if len(left_out) > 8 else ""
    return PlanError.of(where, f"no operation of the document can be sent as it stands:{shown}{more}")


# --- where it runs ---------------------------------------------------------------------------------------------------


def _target(document: Mapping[str, Any], reader: "_Reader", base_url: str | None, where: str) -> tuple[str, list[str]]:
    """The base URL of the plan, and what to say about the choice."""
    server = _swagger_server(document) if reader.old else _first_server(document)
    parts = _split(server)
    path = parts[2].rstrip("/")
    if base_url is not None:
        own = urlsplit(base_url)
        if own.path.strip("/"):
            return base_url.rstrip("/"), []
        note = []
        if parts[0] and (parts[0], parts[1]) != (own.scheme, own.netloc):
            note = [f"the document names {quoted(server)} as its server; requests go to {quoted(base_url)}"]
        return f"{own.scheme}://{own.netloc}{_templates_out(path)}", note
    if parts[0] not in ("http", "https") or not parts[1]:
        raise PlanError.of(where, "the document names no server with a host; say where the API runs with --target URL")
    notes = []
    servers = document.get("servers")
    if isinstance(servers, list) and len(servers) > 1:
        notes.append(f"the document names {len(servers)} servers; the first, {quoted(server)}, is used")
    return f"{parts[0]}://{parts[1]}{_templates_out(path)}", notes


def _split(server: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(server)
        return parts.scheme.lower(), parts.netloc, parts.path if parts.path.startswith("/") else ""
    except ValueError:
        return "", "", ""


def _templates_out(path: str) -> str:
    return quote(path, safe="/-._~!$&'()*+,;=:@%")


def _first_server(document: Mapping[str, Any]) -> str:
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else None
    url = first.get("url") if isinstance(first, dict) else None
    if not isinstance(url, str):
        return ""
    variables = first.get("variables") if isinstance(first, dict) else None

    def value(found: re.Match[str]) -> str:
        variable = variables.get(found[1]) if isinstance(variables, dict) else None
        default = variable.get("default") if isinstance(variable, dict) else None
        return str(default) if isinstance(default, str | int) else found[0]

    return re.sub(r"\{([^{}]+)\}", value, url)


def _swagger_server(document: Mapping[str, Any]) -> str:
    host, base, schemes = (document.get(key) for key in ("host", "basePath", "schemes"))
    path = base if isinstance(base, str) and base.startswith("/") else ""
    if not isinstance(host, str) or not host:
        return path
    offered = [scheme for scheme in schemes if scheme in ("http", "https")] if isinstance(schemes, list) else []
    return f"{offered[0] if offered else 'http'}://{host}{path}"


# --- what is sent ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Operation:
    method: str
    path: str
    item: Mapping[str, Any]
    operation: Mapping[str, Any]

    @property
    def name(self) -> str:
        return printable(f"{self.method} {self.path}")[:LONGEST_NAME].strip()

    def security(self, document: Mapping[str, Any]) -> list[str]:
        """The schemes it asks for; empty where it can be sent without any."""
        listed = self.operation.get("security", document.get("security"))
        needs = [need for need in listed if isinstance(need, dict)] if isinstance(listed, list) else []
        return [] if {} in needs else [str(name) for need in needs for name in need]

    def matches(self, patterns: Sequence[str]) -> bool:
        tags = self.operation.get("tags")
        words = [self.name, str(self.operation.get("operationId") or "")]
        words += [str(tag) for tag in tags] if isinstance(tags, list) else []
        return any(fnmatchcase(word, pattern) for word in words for pattern in patterns)


@dataclass(slots=True)
class _Reader:
    document: Mapping[str, Any]
    old: bool
    """Swagger 2.0, where a parameter is its own schema."""
    unreadable: list[LeftOut] = field(default_factory=list)
    """Paths that could not be looked into."""
    _targets: dict[str, Any] = field(default_factory=dict)

    def operations(self) -> Iterator[_Operation]:
        paths = self.document.get("paths")
        if not isinstance(paths, dict):
            return
        for path, raw in paths.items():
            if path.startswith("x-"):
                continue
            try:
                item = self.follow(raw)
                if not isinstance(item, dict) or not path.startswith("/"):
                    raise _Left("it is not a path with its operations")
            except _Left as reason:
                self.unreadable.append(LeftOut(quoted(path), str(reason)))
                continue
            for method in ("get", "put", "post", "delete", "options", "head", "patch", "trace"):
                operation = item.get(method)
                if isinstance(operation, dict):
                    yield _Operation(method.upper(), path, item, operation)

    def follow(self, value: Any) -> Any:
        """The value itself, or what its reference leads to inside of the document. Raises _Left."""
        for _ in range(MOST_REFERENCES):
            if not isinstance(value, dict) or not isinstance(value.get("$ref"), str):
                return value
            value = self.at(value["$ref"])
        raise _Left("a reference leads back to itself")

    def at(self, reference: str) -> Any:
        if reference not in self._targets:
            self._targets[reference] = self._find(reference)
        found = self._targets[reference]
        if found is _NONE:
            raise _Left(f"the reference {quoted(reference)} leads nowhere in the document")
        return found

    def _find(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise _Left(
                f"it refers to {quoted(reference, 120)}, which is not fetched; bundle the document into one file"
            )
        value: Any = self.document
        for part in reference[1:].split("/")[1:]:
            word = re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), part)
            word = word.replace("~1", "/").replace("~0", "~")
            if isinstance(value, list) and word.isdecimal() and int(word) < len(value):
                value = value[int(word)]
            elif isinstance(value, dict) and word in value:
                value = value[word]
            else:
                return _NONE
        return value

    def step(self, operation: _Operation) -> dict[str, Any]:
        """The step that sends an operation. Raises _Left with the reason why there is none."""
        self._suits(operation)
        path = operation.path
        query: list[str] = []
        headers: dict[str, str] = {}
        cookies: list[str] = []
        for parameter in self.parameters(operation):
            name, place = str(parameter["name"]), parameter["in"]
            value = self.value(parameter, place == "path" or parameter.get("required") is True)
            if value is _NONE:
                continue
            if place == "path":
                path = path.replace("{" + name + "}", _in_path(name, value))
            elif place == "query":
                query += _in_query(name, value, parameter, self.old)
            elif place == "header":
                if name.lower() not in _IGNORED_HEADERS:
                    headers[_header_name(name)] = _header_text(name, value)
            else:
                cookies.append(f"{quote(name, safe='-._~')}={quote(_text(name, value), safe='-._~')}")
        if missing := _PLACEHOLDER.search(path):
            raise _Left(f"the path parameter {quoted(missing[1])} is not described")
        if cookies:
            headers["cookie"] = "; ".join(cookies)
        path = quote(path, safe="/-._~!$&'()*+,;=:@%")
        step: dict[str, Any] = {"get": path + ("?" + "&".join(query) if query else "")}
        if headers:
            step["headers"] = headers
        return step

    def _suits(self, operation: _Operation) -> None:
        body = operation.operation.get("requestBody")
        if body is not None and (asked := self.follow(body)) and isinstance(asked, dict) and asked.get("required"):
            raise _Left("it requires a body, which a GET should not have")
        for part in (operation.operation, operation.item):
            servers = part.get("servers")
            if isinstance(servers, list) and servers and servers != self.document.get("servers"):
                raise _Left("it is served from another place than the rest of the document")

    def parameters(self, operation: _Operation) -> list[Mapping[str, Any]]:
        """The parameters of an operation; its own take the place of those of its path."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for part in (operation.item, operation.operation):
            listed = part.get("parameters")
            for raw in listed if isinstance(listed, list) else ():
                parameter = self.follow(raw)
                if not isinstance(parameter, dict) or not isinstance(parameter.get("name"), str):
                    continue
                place = parameter.get("in")
                if place in ("body", "formData") and parameter.get("required") is True:
                    raise _Left("it requires a body, which a GET should not have")
                if place in ("path", "query", "header", "cookie"):
                    found[place, parameter["name"]] = parameter
        return list(found.values())

    def value(self, parameter: Mapping[str, Any], required: bool) -> Any:
        """What to send for a parameter; _NONE to leave it out. Raises _Left where it is required and has no value."""
        value = self._own_example(parameter)
        if value is _NONE and required:
            value = self._from_schema(parameter if self.old else self._schema(parameter))
            if value is _NONE:
                raise _Left(
                    f"the {parameter['in']} parameter {quoted(parameter['name'])} has no example, default or enum"
                )
        return value

    def _schema(self, parameter: Mapping[str, Any]) -> Any:
        schema = parameter.get("schema")
        content = parameter.get("content")
        if schema is None and isinstance(content, dict):
            first = next(iter(content.values()), None)
            schema = first.get("schema") if isinstance(first, dict) else None
        return schema

    def _own_example(self, parameter: Mapping[str, Any]) -> Any:
        holders = [parameter]
        content = parameter.get("content")
        if isinstance(content, dict):
            holders += [part for part in content.values() if isinstance(part, dict)][:1]
        for holder in holders:
            for key in ("example", "x-example"):
                if holder.get(key) is not None:
                    return holder[key]
            examples = holder.get("examples")
            for raw in list(examples.values()) if isinstance(examples, dict) else []:
                example = self.follow(raw)
                value = example.get("value") if isinstance(example, dict) else example
                if value is not None:
                    return value
        schema = None if self.old else self._schema(parameter)
        return self._search(schema, _schema_example) if schema is not None else _NONE

    def _from_schema(self, schema: Any) -> Any:
        return self._search(schema, _schema_example, _schema_default)

    def _search(self, schema: Any, *readers: Callable[[Mapping[str, Any]], Any]) -> Any:
        """The first value that a reader finds in a schema or in one of its branches, nearest first."""
        waiting, seen = [schema], 0
        while waiting and seen < MOST_BRANCHES:
            seen += 1
            part = self.follow(waiting.pop(0))
            if not isinstance(part, dict):
                continue
            for reader in readers:
                value = reader(part)
                if value is not _NONE:
                    return value
            for key in ("allOf", "anyOf", "oneOf"):
                branches = part.get(key)
                waiting += branches if isinstance(branches, list) else []
            if part.get("type") == "array" and isinstance(part.get("items"), dict):
                item = self._search_items(part["items"], seen, *readers)
                if item is not _NONE:
                    return [item]
        return _NONE

    def _search_items(self, items: Any, seen: int, *readers: Callable[[Mapping[str, Any]], Any]) -> Any:
        part = self.follow(items)
        if not isinstance(part, dict) or seen >= MOST_BRANCHES or part.get("type") == "array":
            return _NONE
        return next((value for reader in readers if (value := reader(part)) is not _NONE), _NONE)


def _schema_example(schema: Mapping[str, Any]) -> Any:
    for key in ("example", "x-example"):
        if schema.get(key) is not None:
            return schema[key]
    examples = schema.get("examples")
    if isinstance(examples, list):
        return next((value for value in examples if value is not None), _NONE)
    return _NONE


def _schema_default(schema: Mapping[str, Any]) -> Any:
    for key in ("default", "const"):
        if schema.get(key) is not None:
            return schema[key]
    allowed = schema.get("enum")
    if isinstance(allowed, list):
        return next((value for value in allowed if value is not None), _NONE)
    return _NONE


# --- how a value is written ------------------------------------------------------------------------------------------


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ",".join(_text(name, item) for item in value)
    raise _Left(f"the parameter {quoted(name)} is an object, which is not written out")


def _in_path(name: str, value: Any) -> str:
    text = _text(name, value)
    if text in ("", ".", ".."):
        raise _Left(f"the value of the path parameter {quoted(name)} is {quoted(text)}, which changes the path")
    return quote(text, safe="-._~,") if isinstance(value, list) else quote(text, safe="-._~")


def _in_query(name: str, value: Any, parameter: Mapping[str, Any], old: bool) -> list[str]:
    key = quote(name, safe="-._~[]")
    if not isinstance(value, list):
        return [f"{key}={quote(_text(name, value), safe='-._~')}"]
    if any(isinstance(item, list) for item in value):
        raise _Left(f"the parameter {quoted(name)} is a list of lists, which is not written out")
    texts = [quote(_text(name, item), safe="-._~") for item in value]
    if old:
        style = {"multi": "", "ssv": "%20", "tsv": "%09", "pipes": "%7C"}.get(
            str(parameter.get("collectionFormat")), ","
        )
    elif parameter.get("explode", parameter.get("style", "form") == "form") is not False:
        style = ""
    else:
        style = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}.get(str(parameter.get("style")), ",")
    return [f"{key}={style.join(texts)}"] if style else [f"{key}={text}" for text in texts]


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise _Left(f"{quoted(name)} is not the name of a header")
    return name


def _header_text(name: str, value: Any) -> str:
    text = _text(name, value)
    if not _HEADER_VALUE.fullmatch(text) or "{{" in text:
        raise _Left(f"the value of the header {quoted(name)} cannot be sent as it stands")
    return text
