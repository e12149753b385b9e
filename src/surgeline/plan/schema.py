"""The plan language described by itself: its JSON Schema, and its keys as a table.

Both are made from the model, so neither can say anything else than what a plan is held to. Editors complete plans with
the schema, the reference shows the table, and complaints about unknown keys look up their neighbours here.
"""

import copy
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from surgeline.plan.model import Plan
from surgeline.plan.problem import Loc

SCHEMA_ID = "urn:surgeline:schema:plan:1"
"""1: first version."""

PARTS = {
    "Plan": "",
    "Auth": "auth",
    "Connection": "connection",
    "Tls": "tls",
    "DataPart": "data.NAME",
    "Scenario": "scenarios.NAME",
    "Step": "scenarios.NAME.steps[N]",
    "FormPart": "scenarios.NAME.steps[N].multipart.FIELD",
    "BodyFile": "scenarios.NAME.steps[N].body_file",
    "Until": "scenarios.NAME.steps[N].until",
    "Message": "scenarios.NAME.steps[N].messages[N]",
    "Expect": "scenarios.NAME.steps[N].messages[N].expect",
    "Retry": "scenarios.NAME.steps[N].retry",
    "Check": "scenarios.NAME.steps[N].check",
    "BodyCheck": "scenarios.NAME.steps[N].check.body",
    "Extract": "scenarios.NAME.steps[N].extract.VARIABLE",
    "WorkloadPart": "workload",
    "StagePart": "workload.stages[N]",
    "PresetPart": "workload, as a preset",
}
"""Each kind of part of a plan, and where it stands, in the order of the language."""


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    made: dict[str, Any] = _tidy(Plan.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Surgeline plan",
        **made,
    }


def _tidy(schema: Any) -> Any:
    """Without titles that repeat the key, without "or null", and without defaults that are nothing."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema if item != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    tidied = {
        key: {name: _tidy(part) for name, part in value.items()} if key in ("properties", "$defs") else _tidy(value)
        for key, value in schema.items()
        if key != "title" and not (key == "default" and (isinstance(value, dict | list) or value is None))
    }
    chosen = tidied.get("oneOf")
    if isinstance(chosen, list) and all("$ref" in branch for branch in chosen):
        tidied["anyOf"] = tidied.pop("oneOf")
    branches = tidied.get("anyOf")
    if isinstance(branches, list) and len(branches) == 1:
        del tidied["anyOf"]
        tidied = {**branches[0], **tidied}
    return tidied


def plan_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the plan language, as `docs/reference/plan.schema.json` publishes it."""
    return copy.deepcopy(_schema())


def key_tables() -> str:
    """Every key of the language as Markdown, one table for each kind of part; the reference shows them."""
    defs = {"Plan": _schema(), **_schema()["$defs"]}
    tables = []
    for name, place in PARTS.items():
        part = defs[name]
        required = part.get("required", ())
        rows = [
            f"| `{key}` | {_value(child)} | {_default(child, key in required)} | {child.get('description', '')} |"
            for key, child in part["properties"].items()
        ]
        title = f"### `{place}`" if place else "### The top"
        head = "| key | value | default | meaning |\n| --- | --- | --- | --- |"
        tables.append("\n".join([title, "", *([part["description"], ""] if place else []), head, *rows]))
    return "\n\n".join(tables) + "\n"


def _default(part: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    if "default" not in part:
        return ""
    return f"`{part['default'] if isinstance(part['default'], str) else json.dumps(part['default'])}`"


_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "array": "list"}


def _value(part: dict[str, Any]) -> str:
    """What stands behind a key, in a word or by examples."""
    if "examples" in part:
        shown = (example if isinstance(example, str) else json.dumps(example) for example in part["examples"])
        return ", ".join(f"`{example}`" for example in shown)
    if "enum" in part:
        return " or ".join(f"`{word}`" for word in part["enum"])
    if "$ref" in part:
        return f"keys of `{PARTS[part['$ref'].rpartition('/')[2]]}`"
    inner = part.get("items") or part.get("additionalProperties")
    if isinstance(inner, dict):
        frame = "list of {}" if "items" in part else "names, each with {}"
        return frame.format(_value(inner))
    if "anyOf" in part:
        words = list(dict.fromkeys(_value(branch) for branch in part["anyOf"]))
        return " or ".join(word for word in words if not (word == "whole number" and "number" in words))
    return _WORDS.get(part.get("type", ""), "anything" if "type" not in part else "names, each with anything")


def keys_at(loc: Loc) -> tuple[str, ...]:
    """The keys that a plan may have at a path, in the order of the language; none where keys are free."""
    return tuple(key for part in _at(loc) for key in part.get("properties", {}))


def owner_of(loc: Loc, word: str) -> str | None:
    """The key at a path whose value may have the key `word`, where there is exactly one."""
    owners = {
        key
        for part in _at(loc)
        for key, child in part.get("properties", {}).items()
        if any(word in inner.get("properties", {}) for inner in _variants(child))
    }
    return owners.pop() if len(owners) == 1 else None


def _at(loc: Loc) -> list[dict[str, Any]]:
    parts = list(_variants(_schema()))
    for step in loc:
        parts = [inner for part in parts for child in _child(part, step) for inner in _variants(child)]
    return parts


def _child(part: dict[str, Any], step: str | int) -> Iterator[dict[str, Any]]:
    if isinstance(step, int):
        if isinstance(part.get("items"), dict):
            yield part["items"]
    elif step in part.get("properties", {}):
        yield part["properties"][step]
    elif isinstance(part.get("additionalProperties"), dict):
        yield part["additionalProperties"]


def _variants(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a schema stands for: behind its reference, and each of its alternatives."""
    if "$ref" in part:
        part = _schema()["$defs"][part["$ref"].rpartition("/")[2]]
    yield part
    for branch in part.get("anyOf", ()):
        yield from _variants(branch)
