"""Plans as texts: read with line and key in every complaint, and written so that reading gives the same plan.

`parse_plan` takes YAML, JSON or TOML, by the suffix of the text's name. It goes through three doors: the text must be
plain data (`tree`), the data must be a plan (`model`), and what the plan refers to must exist (`check`). Each says all
it finds, not the first thing only. Reading the file is the caller's.
"""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from surgeline.plan.check import faults
from surgeline.plan.model import Misplaced, Plan, WorkloadPart
from surgeline.plan.problem import (
    MOST_COLLECTED,
    Fault,
    Loc,
    PlanError,
    did_you_mean,
    nearest,
    path_text,
    printable,
    quoted,
)
from surgeline.plan.schema import keys_at, owner_of
from surgeline.plan.tree import Tree, decode, read_tree

__all__ = ["PlanError", "decode", "dump_plan", "located", "parse_plan", "plan_from_data", "workload_from_data"]


def parse_plan(text: str | bytes, where: str) -> Plan:
    """The plan in a text; `where` is the text's name, and its suffix says the format (YAML unless `.json`, `.toml`).

    Raises PlanError with every problem that was found, in the order of the text.
    """
    tree = read_tree(text, where)
    if tree.value is None:
        raise PlanError.of(where, "the plan is empty; it needs at least `target` and `scenarios`")
    if not isinstance(tree.value, dict):
        message = "a plan is made of keys such as `target: http://127.0.0.1:8000`"
        raise PlanError(tree.problems([Fault((), f"{message}; found {_found(tree.value)}")]))
    return _plan_in(tree)


def located(error: PlanError, text: str | bytes, where: str) -> PlanError:
    """The same problems with the places in a plan's text that they are about.

    For what is found out about a plan after it was read: that a file is not there, that the environment lacks a name.
    """
    tree = read_tree(text, where)
    return PlanError(tree.problems([Fault(problem.loc, problem.message) for problem in error.problems]))


def _plan_in(tree: Tree) -> Plan:
    try:
        plan = Plan.model_validate(tree.value)
    except ValidationError as error:
        raise PlanError(tree.problems(_faults_of(error, tree.value))) from None
    found = faults(plan)
    if found:
        raise PlanError(tree.problems(found))
    return plan


def plan_from_data(data: Mapping[str, Any], where: str) -> Plan:
    """The plan in plain data that is no text of the user's. Raises PlanError, with paths instead of lines."""
    plan: Plan = _model_from_data(Plan, data, where)
    found = faults(plan)
    if found:
        raise PlanError.of_faults(where, found)
    return plan


def workload_from_data(data: Mapping[str, Any], where: str) -> WorkloadPart:
    """The workload in plain data, as a plan has it under `workload`. Raises PlanError, with paths."""
    part: WorkloadPart = _model_from_data(WorkloadPart, data, where)
    return part


def _model_from_data(model: type[BaseModel], data: Mapping[str, Any], where: str) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise PlanError.of_faults(where, _faults_of(error, data)) from None


# --- the model's complaints in the author's words --------------------------------------------------------------------

_EXPECTED = {
    "string": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "model": "keys",
    "dict": "keys",
    "mapping": "keys",
    "tuple": "a list",
    "list": "a list",
}
_LONGEST_SENTENCE = 300
"""What is wrong may cite what was written, and that may be long."""

_SYNONYMS: dict[str, str] = {
    "url": "target",
    "host": "target",
    "base_url": "target",
    "requests": "steps",
    "duration": "for",
    "durations": "for",
    "vus": "users",
    "rps": "rate",
    "wait": "think_time",
    "wait_time": "think_time",
    "pause": "think_time",
    "assert": "check",
    "expect": "check",
    "capture": "extract",
    "slos": "slo",
    "thresholds": "slo",
    "objectives": "slo",
    "contains": "body",
    "params": "query",
    "data": "body",
    "vars": "variables",
    "constants": "variables",
    "load": "workload",
    "scenario": "scenarios",
}
"""What other tools call the same thing; a word counts only where its translation is a key."""


def _faults_of(error: ValidationError, data: Any) -> list[Fault]:
    """One fault for each place the model complains about; what the branches of a union say is joined.

    A key that is missing only because it was misspelt is not missed, and a list is too short only when it is empty,
    not because its entries are wrong.
    """
    places: dict[tuple[Loc, bool], list[Any]] = {}
    for item in islice(error.errors(include_url=False), MOST_COLLECTED):
        loc = _place(item, data)
        about_key = item["type"] in ("missing", "extra_forbidden")
        places.setdefault((loc, about_key), []).append(item)
    meant = {(*loc[:-1], _meant(loc)) for (loc, _), items in places.items() if items[0]["type"] == "extra_forbidden"}
    return [
        _fault(loc, items, data)
        for (loc, _), items in places.items()
        if not (items[0]["type"] == "missing" and loc in meant)
        and not (items[0]["type"] == "too_short" and _value_at(data, loc))
    ]


def _place(item: Any, data: Any) -> Loc:
    """A complaint's path, without what pydantic puts in between: names of union branches and `[key]`."""
    loc: list[str | int] = []
    part = data
    for step in item["loc"]:
        inside = step in part if isinstance(part, dict) else isinstance(part, list) and step in range(len(part))
        if inside:
            part = part[step]
            loc.append(step)
    if item["type"] == "missing":
        loc.append(item["loc"][-1])
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, Misplaced):
        loc.extend(cause.loc)
    return tuple(loc)


def _fault(loc: Loc, items: list[Any], data: Any) -> Fault:
    item = items[0]
    kind = item["type"]
    if kind == "extra_forbidden":
        return Fault(loc, _unknown_key(loc), at_key=True)
    if kind == "missing":
        return Fault(loc[:-1], _missing(loc), at_key=bool(loc[:-1]))
    found = _value_at(data, loc)
    cause = item.get("ctx", {}).get("error")
    at_key = item["loc"][-1:] == ("[key]",) or (isinstance(cause, Misplaced) and cause.at_key)
    return Fault(loc, f"{path_text(loc)}: {_sentence(items, found)}" if loc else _sentence(items, found), at_key)


def _meant(loc: Loc) -> str | None:
    """The key that was probably meant by an unknown one; None where none is near."""
    word, known = str(loc[-1]), keys_at(loc[:-1])
    translated = _SYNONYMS.get(word.lower())
    return translated if translated in known else nearest(word, known)


def _unknown_key(loc: Loc) -> str:
    word, meant, known = str(loc[-1]), _meant(loc), keys_at(loc[:-1])
    message = f"unknown key {quoted(word)}"
    if loc[:-1]:
        message += f" in {path_text(loc[:-1])}"
    owner = owner_of(loc[:-1], word)
    if word in known:
        # The keys of every form of this part are known here; this one belongs to another form than the one written.
        form = "; a preset has stages of its own" if loc[:-1] == ("workload",) else ""
        return f"{quoted(word)} does not go with the other keys in {path_text(loc[:-1])}{form}"
    if meant is not None:
        return f'{message} — did you mean "{meant}"?'
    if owner is not None:
        return f"{message} — it belongs in `{owner}`"
    return message + (f"; known are {', '.join(known)}" if known else "")


_EXAMPLES = {
    "target": "target: http://127.0.0.1:8000",
    "scenarios": "scenarios: {browse: {steps: [{get: /}]}}",
    "steps": "steps: [{get: /products}]",
    "model": "model: open",
    "stages": "stages: [{rate: 50/s, for: 30s}]",
    "for": "for: 30s",
}


def _missing(loc: Loc) -> str:
    word = str(loc[-1])
    place = f" in {path_text(loc[:-1])}" if loc[:-1] else ""
    example = f"; write for example `{_EXAMPLES[word]}`" if word in _EXAMPLES else ""
    return f'"{word}" is missing{place}{example}'


def _sentence(items: list[Any], found: Any) -> str:
    item = items[0]
    kind, ctx = item["type"], item.get("ctx", {})
    if kind == "value_error":
        said = printable(str(ctx["error"]))
        return said if len(said) <= _LONGEST_SENTENCE else said[: _LONGEST_SENTENCE - 1] + "…"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", ctx["expected"])
        meant = did_you_mean(str(found), words) if re.search("[a-z]", str(found)) else ""
        number = " or a whole number" if any(each["type"].startswith("int") for each in items) else ""
        return f"expected {' or '.join(words)}{number}, found {_found(found)}{meant}"
    if kind in ("too_short", "string_too_short"):
        return "this must not be empty"
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        word = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most"}
        return f"this must be {word.get(kind, 'less than')} {next(iter(ctx.values()))}, found {_found(found)}"
    expected = list(dict.fromkeys(_EXPECTED.get(each["type"].split("_")[0], "") for each in items))
    if not all(expected):
        return f"{item['msg'][:1].lower()}{item['msg'][1:]}, found {_found(found)}"
    if "a number" in expected and "a whole number" in expected:
        expected.remove("a whole number")
    words_text = expected[0] if len(expected) == 1 else f"{', '.join(expected[:-1])} or {expected[-1]}"
    return f"expected {words_text}, found {_found(found)}{_advice(expected, found)}"


def _advice(expected: list[str], found: Any) -> str:
    if expected[0] == "a text" and isinstance(found, bool | int | float):
        return f"; put it in quotes: {json.dumps(json.dumps(found))}"
    if expected[0] == "a text" and isinstance(found, dict) and len(found) == 1:
        return "; a colon followed by a space makes a key, so put the text in quotes"
    if expected == ["a list"] and isinstance(found, dict):
        return "; begin each entry with `- `"
    return ""


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, dict):
        return "keys"
    if isinstance(value, list):
        return "a list"
    return f"the number {quoted(value)[1:-1]}"


def _value_at(data: Any, loc: Loc) -> Any:
    for step in loc:
        try:
            data = data[step]
        except (LookupError, TypeError):
            return None
    return data


# --- writing ---------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9 /_.,;:<>(){}\[\]%?=&@+$*!|~^#-]*")
_QUANTITY = re.compile(
    r"[0-9]+(?:\.[0-9]+)?(?:ns|ms|s|m|h|xx|/s)(?:(?:\.\.| -> )[0-9]+(?:\.[0-9]+)?(?:ns|ms|s|m|h|/s))?"
)
_MEANING = re.compile(r"(?i)null|true|false|yes|no|on|off|y|n")
_LONGEST_KEY = 500
"""YAML finds the colon of a key only within 1,024 characters; escapes may double a key's length."""


def dump_plan(plan: Plan) -> str:
    """The plan as YAML, without what is at its default; `parse_plan` reads it back as an equal plan."""
    return "\n".join(_block(plan.dump(), 0)) + "\n"


def _block(value: Any, depth: int) -> list[str]:
    pad = "  " * depth
    lines = []
    if isinstance(value, dict):
        for key, child in value.items():
            if len(key) > _LONGEST_KEY:
                lines += [f"{pad}? {_scalar(key)}", *_entry(f"{pad}:", child, depth + 1)]
            else:
                lines += _entry(f"{pad}{_scalar(key)}:", child, depth + 1)
        return lines
    for item in value:
        if isinstance(item, dict | list) and item:
            inner = _block(item, depth + 1)
            lines += [f"{pad}- {inner[0].lstrip(' ')}", *inner[1:]]
        else:
            lines.append(f"{pad}- {_scalar(item)}")
    return lines


def _entry(head: str, value: Any, depth: int) -> list[str]:
    if isinstance(value, dict | list) and value:
        return [head, *_block(value, depth)]
    return [f"{head} {_scalar(value)}"]


def _scalar(value: Any) -> str:
    """A text plain where nothing in it means something to YAML, of any version; else as JSON writes it."""
    if not isinstance(value, str):
        return json.dumps(value)
    marks = ": " in value or " #" in value or value.endswith((":", " "))
    if _QUANTITY.fullmatch(value) or (_PLAIN.fullmatch(value) and not marks and not _MEANING.fullmatch(value)):
        return value
    return '"' + "".join(_escaped(char) for char in value) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable() or char == "\u00a0":
        return char
    code = ord(char)
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )
