"""Whether a plan hangs together: what it refers to exists, and what it sends could be sent.

The model says what each part may look like by itself; this module looks across parts. It takes a plan, from a text or
from a source, and returns faults by their path: a template variable that nothing defines, an objective for an endpoint
that the plan does not have, a header that would break the request. It sends nothing and looks nothing up.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any
from urllib.parse import urlsplit

from surgeline.plan.evaluate import GENERATORS, LONGEST_TEXT
from surgeline.plan.model import JSON_RULES, TEMPLATE, Expect, Plan, Scenario, Step, json_rules
from surgeline.plan.objective import parse_objectives
from surgeline.plan.problem import MOST_COLLECTED, Fault, Loc, did_you_mean, path_text, printable, quoted

_MOST_WORDS = 200
"""Variables among which the one that was meant is looked for."""

_WITH_ARGUMENTS = ("int", "choice", "text")
_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*\((.*)\)", re.DOTALL)
_RANGE = re.compile(r"\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*")
_ENV = re.compile(r"env\.[A-Za-z_][A-Za-z0-9_]*")
_NOT_LINEAR = re.compile(r"\(\?(?:[=!>(]|<[=!]|P=)|(?<!\\)(?:\\\\)*\\[1-9]")
"""Looking around and back: regular expressions that cannot be matched in one pass."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_WRITTEN_BY_ENGINES = ("content-length", "transfer-encoding")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class _Scope:
    """What the templates of some part of a plan may name, and what to say about those that they may not.

    `known` are constants and what was extracted so far, `later` is what a later step extracts, with that step's number,
    `elsewhere` whatever any scenario extracts, with that scenario's name. `scenario` is None for what holds for every
    request. `data` are the feeds, whose columns only their files know.
    """

    known: set[str]
    elsewhere: Mapping[str, str]
    scenario: str | None = None
    data: frozenset[str] = frozenset()
    later: Mapping[str, int] = field(default_factory=dict)

    def unknown(self, name: str) -> str:
        """Why a name means nothing here."""
        if name in self.later:
            return f"{_shown(name)} is not known here: it is extracted later, by step {self.later[name]}"
        if name in self.elsewhere:
            if self.scenario is None:
                reason = "the first request has it not yet; put it in the headers of later steps"
            else:
                reason = f"it is extracted in scenario {quoted(self.elsewhere[name])}, and a flow sees its own only"
            return f"{_shown(name)} is not known here: {reason}"
        words = (*sorted(self.known)[:_MOST_WORDS], *GENERATORS, *self.later)
        where = "the plan" if self.scenario is None else f"scenario {quoted(self.scenario)}"
        return f"nothing in {where} defines {_shown(name)}{did_you_mean(name, words, '{{{}}}')}"


def faults(plan: Plan) -> list[Fault]:
    """What does not hang together, in the order of the plan, the first 200 of it; nothing when all is well."""
    extracted = {variable: name for name, step in plan.steps() for variable in step.extract}
    found = chain(
        _target(plan),
        _of_all_requests(plan, extracted),
        _constants(plan),
        _way(plan),
        _data(plan),
        chain.from_iterable(_flow(plan, name, scenario, extracted) for name, scenario in plan.scenarios.items()),
        _objectives(plan),
    )
    return list(islice(found, MOST_COLLECTED))


def _target(plan: Plan) -> Iterator[Fault]:
    if "{{" in plan.target:
        yield Fault(("target",), "target: a template cannot stand in the target; write the address itself")


def _of_all_requests(plan: Plan, extracted: Mapping[str, str]) -> Iterator[Fault]:
    scope = _Scope(set(plan.variables), extracted, data=frozenset(plan.data))
    yield from _headers(plan.headers, ("headers",))
    yield from _headers(plan.auth.header, ("auth", "header"))
    texts: list[tuple[Loc, str]] = [(("headers", name), value) for name, value in plan.headers.items()]
    texts += [(("auth", word), text) for word in ("bearer", "basic") if (text := getattr(plan.auth, word)) is not None]
    texts += [(("auth", "header", name), value) for name, value in plan.auth.header.items()]
    for loc, text in texts:
        if loc in (("auth", "bearer"), ("auth", "basic")) and _CONTROL.search(text):
            yield Fault(loc, f"{path_text(loc)}: a line break or control character cannot be sent")
        yield from _templates(text, loc, replace(scope, data=frozenset()) if loc[1:] == ("basic",) else scope)


def _data(plan: Plan) -> Iterator[Fault]:
    for name in plan.data:
        loc: Loc = ("data", name)
        if name == "env":
            said = "{{env.NAME}} is the environment's; choose another name"
            yield Fault(loc, f"{path_text(loc)}: {said}", at_key=True)
        if name in GENERATORS:
            said = f'"{name}" already makes a value by itself; choose another name'
            yield Fault(loc, f"{path_text(loc)}: {said}", at_key=True)
        taken = next((known for known in plan.variables if known.startswith(f"{name}.")), None)
        if taken is not None:
            said = f"the constant {quoted(taken)} looks like one of its columns"
            yield Fault(loc, f"{path_text(loc)}: {said}", at_key=True)


def _constants(plan: Plan) -> Iterator[Fault]:
    for name, value in plan.variables.items():
        loc: Loc = ("variables", name)
        if (taken := _taken(name)) is not None:
            yield Fault(loc, f"{path_text(loc)}: {taken}", at_key=True)
        for found in TEMPLATE.finditer(str(value)):
            if not _ENV.fullmatch(found[1]):
                yield Fault(
                    loc,
                    f"{path_text(loc)}: a constant may refer to {{{{env.NAME}}}} only, found {_shown(found[1])}",
                )


def _way(plan: Plan) -> Iterator[Fault]:
    loc: Loc = ("connection", "proxy")
    for found in TEMPLATE.finditer(plan.connection.proxy or ""):
        if not _ENV.fullmatch(found[1]) and found[1] not in plan.variables:
            said = f"a proxy may refer to {{{{env.NAME}}}} and to constants only, found {_shown(found[1])}"
            yield Fault(loc, f"{path_text(loc)}: {said}")
    if plan.connection.http == "1.1":
        return
    if plan.connection.proxy is not None and plan.target.startswith("http://"):
        said = "HTTP/2 goes through a proxy to https targets only; leave http or proxy out"
        yield Fault(loc, f"{path_text(loc)}: {said}", at_key=True)
    for name, step in plan.steps():
        if step.websocket is not None or step.events is not None:
            loc = ("connection", "http")
            said = f"{step.endpoint} in {quoted(name)} is a conversation, which goes over HTTP/1.1; leave http out"
            yield Fault(loc, f"{path_text(loc)}: {said}")
            break
    if plan.connection.share == "user" and plan.workload is not None and plan.workload.model != "closed":
        loc = ("connection", "share")
        said = "arrivals with HTTP/2 share the connections of a pool; leave share out"
        yield Fault(loc, f"{path_text(loc)}: {said}")


def _taken(name: str) -> str | None:
    if name in GENERATORS:
        return f'"{name}" already makes a value by itself; choose another name'
    return 'names that begin with "env." are the environment\'s; choose another name' if name[:4] == "env." else None


def _flow(plan: Plan, name: str, scenario: Scenario, extracted: Mapping[str, str]) -> Iterator[Fault]:
    later = {
        variable: number for number, step in reversed(list(enumerate(scenario.steps, 1))) for variable in step.extract
    }
    if scenario.pacing is not None and plan.workload is not None and plan.workload.model != "closed":
        loc: Loc = ("scenarios", name, "pacing")
        yield Fault(
            loc, f"{path_text(loc)}: pacing spaces the passes of closed users; here arrivals are spaced by rate"
        )
    scope = _Scope(set(plan.variables), extracted, name, frozenset(plan.data), later)
    origin = urlsplit(plan.target)[:2]
    for key, index, step in _numbered(scenario):
        loc = ("scenarios", name, key, index)
        if step.path.startswith(("http://", "https://")) and urlsplit(step.path)[:2] != origin:
            part: Loc = (*loc, step.word)
            said = f"this is another origin than the target {printable(plan.target)}; give it a plan of its own"
            yield Fault(part, f"{path_text(part)}: {said}")
        yield from _step(step, loc)
        taken = {variable for message in step.messages or () if message.expect for variable in message.expect.extract}
        inside = replace(scope, known=scope.known | taken)
        for part, text in _texts(step, loc):
            yield from _templates(text, part, inside if "messages" in part else scope)
        scope.known |= step.extract.keys() | taken


def _numbered(scenario: Scenario) -> Iterator[tuple[str, int, Step]]:
    """Every step of a scenario, with the key of the list it stands in and its place there."""
    for key, steps in (("once", scenario.once), ("steps", scenario.steps)):
        for index, step in enumerate(steps):
            yield key, index, step


def _step(step: Step, loc: Loc) -> Iterator[Fault]:
    bare = TEMPLATE.sub("", step.path)
    where = (*loc, step.word)
    if " " in bare or _CONTROL.search(bare):
        yield Fault(where, f"{path_text(where)}: a space or control character cannot stand in a path; write %20")
    if "#" in bare:
        yield Fault(where, f"{path_text(where)}: what follows # never reaches a server; leave it out, or write %23")
    yield from _headers(step.headers, (*loc, "headers"))
    typed = next((name for name in step.headers if name.lower() == "content-type"), None)
    if step.multipart is not None and typed is not None:
        part = (*loc, "headers", typed)
        yield Fault(part, f"{path_text(part)}: the type of a multipart body names its boundary; leave it out", True)
    for variable, extract in step.extract.items():
        part = (*loc, "extract", variable)
        if (taken := _taken(variable)) is not None:
            yield Fault(part, f"{path_text(part)}: {taken}", at_key=True)
        elif "." in variable:
            yield Fault(part, f"{path_text(part)}: a name with a dot means a column of data; write it with _", True)
        if extract.header is not None and not _HEADER_NAME.fullmatch(extract.header):
            yield Fault((*part, "header"), f"{path_text(part)}: {quoted(extract.header)} is not a header's name")
        if extract.cookie is not None and not _HEADER_NAME.fullmatch(extract.cookie):
            yield Fault((*part, "cookie"), f"{path_text(part)}: {quoted(extract.cookie)} is not a cookie's name")
        if extract.json_ is not None and (wrong := _jsonpath_fault(extract.json_)):
            yield Fault(part, f"{path_text(part)}: {wrong}")
        if extract.regex is not None and (wrong := _regex_fault(extract.regex)):
            yield Fault((*part, "regex"), f"{path_text(part)}: {wrong}")
    yield from _json_checks(step.check.json_, (*loc, "check", "json"))
    for name in step.check.header:
        if not _HEADER_NAME.fullmatch(name):
            part = (*loc, "check", "header", name)
            yield Fault(part, f"{path_text(part)}: this is not a header's name; use letters, digits and -", at_key=True)
    for index, message in enumerate(step.messages or ()):
        if message.expect is not None:
            yield from _expect(message.expect, (*loc, "messages", index, "expect"))
    for text in step.check.body.regex if step.check.body else ():
        if wrong := _regex_fault(text):
            part = (*loc, "check", "body")
            yield Fault(part, f"{path_text(part)}: {wrong}")


def _expect(expect: Expect, loc: Loc) -> Iterator[Fault]:
    yield from _json_checks(expect.json_, (*loc, "json"))
    for text in expect.regex:
        if wrong := _regex_fault(text):
            yield Fault(loc, f"{path_text(loc)}: {wrong}")
    for variable, extract in expect.extract.items():
        part = (*loc, "extract", variable)
        if (taken := _taken(variable)) is not None:
            yield Fault(part, f"{path_text(part)}: {taken}", at_key=True)
        source, expression = extract.source
        if wrong := _jsonpath_fault(expression) if source == "json" else _regex_fault(expression):
            yield Fault(part, f"{path_text(part)}: {wrong}")


def _json_checks(checks: Mapping[str, Any], loc: Loc) -> Iterator[Fault]:
    """Faults of JSONPaths and of what is held against their values."""
    for expression, found in checks.items():
        part = (*loc, expression)
        if wrong := _jsonpath_fault(expression):
            yield Fault(part, f"{path_text(part)}: {wrong}", at_key=True)
        for rule, wanted in json_rules(found):
            if wrong := _rule_fault(rule, wanted):
                yield Fault(part, f"{path_text(part)}: {wrong}")
        if isinstance(found, Mapping) and not found.keys() <= set(JSON_RULES):
            for key in found:
                if meant := did_you_mean(key, JSON_RULES):
                    said = f"{quoted(key)} is no rule{meant} An object that is meant as it stands goes behind equals"
                    yield Fault((*part, key), f"{path_text(part)}: {said}", at_key=True)


def _rule_fault(rule: str, wanted: Any) -> str | None:
    """Why a rule for a JSON value holds nothing to anything."""
    if rule in ("equals", "not"):
        return None
    if rule == "exists":
        return None if isinstance(wanted, bool) else f"exists is true or false, found {quoted(wanted)}"
    if isinstance(wanted, bool) or not isinstance(wanted, int | float):
        return f"{rule} compares numbers, found {quoted(wanted)}"
    return None


def _jsonpath_fault(text: str) -> str | None:
    """Why a text is no JSONPath of RFC 9535, the form that every engine takes."""
    import jsonpath

    if not text.startswith("$"):
        return f"a JSONPath begins with $, as in `$.{quoted(text.lstrip('.'))[1:-1]}`"
    try:
        jsonpath.JSONPathEnvironment(strict=True).compile(text)
    except (jsonpath.JSONPathError, RecursionError, ValueError) as error:
        return f"{quoted(text)} is not a JSONPath: {printable(str(error).splitlines()[0])[:120]}"
    return None


def _regex_fault(text: str) -> str | None:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return f"{quoted(text)} is not a regular expression: {error}"
    found = _NOT_LINEAR.search(text)
    if found:
        return f"{quoted(text)} has {quoted(found[0])}, which no engine here takes: it could take for ever"
    return None


def _headers(headers: Mapping[str, str], loc: Loc) -> Iterator[Fault]:
    for name, value in headers.items():
        part = (*loc, name)
        if not _HEADER_NAME.fullmatch(name):
            yield Fault(part, f"{path_text(part)}: this is not a header's name; use letters, digits and -", at_key=True)
        if name.lower() in _WRITTEN_BY_ENGINES:
            said = "the engine writes this header itself, from the body that it sends; leave it out"
            yield Fault(part, f"{path_text(part)}: {said}", at_key=True)
        if _CONTROL.search(value.replace("\t", " ")):
            yield Fault(part, f"{path_text(part)}: a line break or control character cannot stand in a header")


def steps_texts(plan: Plan, scenario: str) -> Iterator[tuple[Loc, str]]:
    """Every text of a scenario's steps in which templates are filled in."""
    for key, index, step in _numbered(plan.scenarios[scenario]):
        yield from _texts(step, ("scenarios", scenario, key, index))


def _texts(step: Step, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Every text of a step in which templates are filled in."""
    yield (*loc, step.word), step.path
    for key in ("query", "form"):
        for name, value in (getattr(step, key) or {}).items():
            yield (*loc, key, name), name
            if isinstance(value, str):
                yield (*loc, key, name), value
    for name, value in step.headers.items():
        yield (*loc, "headers", name), value
    if step.body is not None:
        yield (*loc, "body"), step.body
    yield from _strings(step.json_, (*loc, "json"))
    for name, parts in (step.multipart or {}).items():
        for form_part in parts:
            for form_text in (form_part.text, form_part.filename):
                if form_text is not None:
                    yield (*loc, "multipart", name), form_text
    if step.until is not None and step.until.text is not None:
        yield (*loc, "until"), step.until.text
    for index, message in enumerate(step.messages or ()):
        part = (*loc, "messages", index)
        if message.send is not None:
            yield (*part, "send"), message.send
        yield from _strings(message.send_json, (*part, "send_json"))
        for text in (*message.expect.contains, *message.expect.not_) if message.expect is not None else ():
            yield (*part, "expect"), text
    if step.check.body is not None:
        for text in (*step.check.body.contains, *step.check.body.not_):
            yield (*loc, "check", "body"), text


def place_of_file(plan: Plan, name: str) -> Loc:
    """The path in the plan to the first step that sends a file; empty where none does."""
    for scenario, flow in plan.scenarios.items():
        for key, index, step in _numbered(flow):
            loc = ("scenarios", scenario, key, index)
            if step.body_file is not None and step.body_file.file == name:
                return (*loc, "body_file")
            for field_name, parts in (step.multipart or {}).items():
                if any(part.file == name for part in parts):
                    return (*loc, "multipart", field_name)
    return ()


def place_of_environment(plan: Plan, name: str) -> Loc:
    """The path in the plan to the first text that names an environment variable; empty where none does."""
    wanted = f"env.{name}"
    texts = _strings(plan.dump(), ())
    return next((loc for loc, text in texts if any(found[1] == wanted for found in TEMPLATE.finditer(text))), ())


def _strings(value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield (*loc, key), key
            yield from _strings(child, (*loc, key))
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield from _strings(child, (*loc, index))


def _templates(text: str, loc: Loc, scope: _Scope) -> Iterator[Fault]:
    if "{{" not in text:
        return
    for found in TEMPLATE.finditer(text):
        wrong = _template_fault(found[1], scope)
        if wrong:
            yield Fault(loc, f"{path_text(loc)}: {wrong}")
    if "{{" in TEMPLATE.sub("", text):
        yield Fault(loc, f"{path_text(loc)}: a template opens with {{{{ and is not closed with }}}}")


def _template_fault(name: str, scope: _Scope) -> str | None:
    if name in scope.known or (name in GENERATORS and name not in _WITH_ARGUMENTS) or _ENV.fullmatch(name):
        return None
    if name.startswith("env."):
        return f"{_shown(name)} is not the name of an environment variable; use letters, digits and _"
    if name.partition(".")[0] in scope.data:
        if "." in name:
            return None
        return f"{_shown(name)} is a whole row of data; name a column, as in {{{{{name}.id}}}}"
    call = _CALL.fullmatch(name)
    if call or name in _WITH_ARGUMENTS:
        return _call_fault(call[1] if call else name, call[2] if call else "")
    return scope.unknown(name)


def _call_fault(name: str, arguments: str) -> str | None:
    if name == "int":
        ends = _RANGE.fullmatch(arguments)
        if not ends or int(ends[1]) > int(ends[2]):
            return "int needs the least and the greatest number, as in {{int(1,100)}}"
        return None
    if name == "choice":
        return None if arguments.strip() else "choice needs what it may choose from, as in {{choice(red,green)}}"
    if name == "text":
        length = arguments.strip()
        if not re.fullmatch(r"[0-9]{1,6}", length) or not 1 <= int(length) <= LONGEST_TEXT:
            return f"text needs its length, 1 to {LONGEST_TEXT:,} characters, as in {{{{text(12)}}}}"
        return None
    if name in GENERATORS:
        return f"{name} takes no arguments; write {{{{{name}}}}}"
    return f"{quoted(name)} makes no value{did_you_mean(name, _WITH_ARGUMENTS)}"


def _shown(name: str) -> str:
    return "{{" + quoted(name)[1:-1] + "}}"


def _objectives(plan: Plan) -> Iterator[Fault]:
    endpoints, together = dict.fromkeys(plan.endpoints), dict.fromkeys(plan.transactions)
    messages = dict.fromkeys(name for _, step in plan.steps() for name in step.message_names if name)
    names = {**endpoints, **together, **messages}
    kinds = "endpoint or transaction" if together else "endpoint"
    kinds = f"{kinds} or message" if messages else kinds
    for index, text in enumerate(plan.slo):
        for objective in parse_objectives(text):
            name, loc = objective.endpoint, ("slo", index)
            if name in endpoints and name in together:
                said = "is an endpoint and a transaction: give one of them another name"
                yield Fault(loc, f"slo[{index}]: {quoted(name)} {said}")
            if name is None or name in names:
                continue
            hint = did_you_mean(name, names)
            if not hint:
                more = ", …" if len(names) > 5 else ""
                hint = f"; it has {', '.join(quoted(name) for name in islice(names, 5))}{more}"
            yield Fault(loc, f"slo[{index}]: the plan has no {kinds} {quoted(name)}{hint}")
