"""The plan language described by itself: its JSON Schema, and its keys as a table.

Both are made from the model, so neither can say anything else than what a plan is held to. Editors complete plans with
the schema, the reference shows the table, and complaints about unknown keys look up their neighbours here.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from surgeline.plan.model import Plan
from surgeline.plan.problem import Loc

SCHEMA_ID = "https://surgeline.dev/schema/plan-1.json"


@lru_cache(maxsize=1)
def _schema() -> dict[str, Any]:
    schema = Plan.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
    }


def plan_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the plan language, as `docs/reference/plan.schema.json` publishes it."""
    import copy

    return copy.deepcopy(_schema())


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
