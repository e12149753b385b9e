"""From what the user has to an order: a file or URL and options go in, a run that is agreed and looked at comes out.

What is going to happen is said on standard error before it does. Everything that can be wrong about the input is
refused here, with its sentence and exit code, before any load is sent.
"""

import hashlib
import http.client
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from surgeline import datafiles, environment, preflight, runner, units, workload
from surgeline.cli import EXIT_UNREACHABLE, EXIT_USAGE, Refused, style, ways, withheld
from surgeline.engines import Engine, Remote, Script, Settings, Subject, preferred
from surgeline.plan import evaluate, sources
from surgeline.plan.feed import Feed, short_feeds
from surgeline.plan.model import Plan, PresetPart, WorkloadPart
from surgeline.plan.upload import SentFile
from surgeline.samples import Outcome
from surgeline.store.rundir import DEFAULT_ROOT

if TYPE_CHECKING:
    from surgeline.served import Served

DEFAULT_DURATION = "30s"
SLOW_ALONE_NS = 150 * units.NS_PER_MS
"""An endpoint that takes longer with nobody else there cannot be held to our own limit of 300 ms."""
_NOTHING: dict[str, Any] = {"scenarios": {"nothing": {"steps": [{"get": "/"}]}}}
"""What a plan needs before there is one: to check the options that belong to it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of `run`, as they were given; None where they were not."""

    target: str | None = None
    users: int | None = None
    rate: str | None = None
    duration: str | None = None
    stages: str | None = None
    ramp: str | None = None
    spawn_rate: float | None = None
    arrivals: str | None = None
    seed: int | None = None
    profile: str | None = None
    slo: tuple[str, ...] = ()
    no_finding: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    timeout: str | None = None
    insecure: bool = False
    engine: str = "auto"
    workers: int = 1
    expect_workers: int | None = None
    expect_workers_max_wait: int = 60
    master_bind_host: str = "127.0.0.1"
    master_bind_port: int = 5557
    max_in_flight: int | None = None
    name: str | None = None
    out: Path = DEFAULT_ROOT
    user_agent: str | None = None
    abort: bool = True
    authorized: bool = False
    look_first: bool = True
    anyway: bool = False
    ui: str = "auto"
    as_json: bool = False
    ascii_only: bool = False
    locust_arguments: tuple[str, ...] = ()
    source: str | None = None
    """What the run says it came from, where that is not the kind of its subject."""
    repeat: int = 1
    between: str | None = None
    warm_up: str | None = None
    cool_down: str | None = None
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    proxy: str | None = None
    unix_socket: str | None = None
    ip: int | None = None
    searching: bool = False
    """The load is searched for, and the plan's own is not used."""
    short_search: bool = False
    """A URL for which no load is given gets a short search, where the native engine sends."""
    server_pid: int | None = None
    serve: str | None = None
    served: "Served | None" = None
    """What `--serve` has started."""


def order_from(text: str, wanted: Wanted) -> runner.Order:
    """What is to be run, agreed and looked at beforehand; says on standard error what it is going to do."""
    kind, content, where = _read(text)
    if kind == "script":
        return _script_order(Path(where), wanted)
    if wanted.locust_arguments:
        raise Refused(f"{' '.join(wanted.locust_arguments)}: options behind -- are for locustfiles", EXIT_USAGE)
    if wanted.spawn_rate is not None:
        raise Refused("--spawn-rate starts the users of locustfiles; elsewhere -u USERS has --ramp 10s", EXIT_USAGE)
    changes = _changes(wanted)
    found = _plan(kind, content, where, wanted)
    notes, plan = found.notes, _changed(found.plan, changes, wanted)
    folder = Path(where).parent if kind == "plan" else None
    with _said_where_it_stands(kind, content, where):
        plan, data = datafiles.attach(plan, folder, where)
        plan, sent_files = datafiles.attach_sent(plan, folder, where)
        files = datafiles.tls_files(plan, folder, where, ways.named_files(wanted))
        secrets = _secrets(plan, where, wanted)
    agreed = ways.agree(plan.target, ways.way_of(plan, wanted, secrets, files), wanted)
    addresses, way = agreed.addresses, agreed.way
    for note in notes:
        style.note(note)
    looked: tuple[dict[str, Any], ...] = ()
    alone_ns: int | None = None
    if wanted.look_first:
        found_out = _look(plan, addresses, secrets, data, sent_files, way, wanted)
        addresses = found_out.addresses
        looked = tuple(asdict(seen) for seen in found_out.sent_as)
        alone_ns = _slowest(found_out)
        if kind == "url" and alone_ns is not None and alone_ns > SLOW_ALONE_NS:
            # A first answer may be a cold one.
            again = _slowest(preflight.check(plan, addresses, secrets, data, sent_files, way, wanted.user_agent))
            alone_ns = min(alone_ns, again or alone_ns)
        if kind in ("url", "openapi") and not wanted.anyway:
            plan = _without_walls(plan, found_out)
    looking = kind == "url" and plan.workload is None and not wanted.searching
    searching = looking and wanted.short_search and _native_sends(wanted)
    if searching:
        wanted = replace(wanted, searching=True)
    elif looking:
        plan = plan.model_copy(update={"workload": WorkloadPart.of(workload.first_look())})
    load = plan.load()
    remote = remote_of(wanted)
    engine = _engine(plan, wanted, load, remote)
    room = ways.room_for(way, addresses)
    order = runner.Order(
        subject=plan,
        source={"kind": wanted.source or kind, "location": where},
        name=wanted.name or plan.title,
        engine=engine,
        root=wanted.out,
        workload=load,
        addresses=addresses,
        max_connections=room.connections,
        proxy_addresses=way.proxy_addresses,
        files=files,
        user_agent=wanted.user_agent,
        secrets=secrets,
        data=data,
        sent_files=sent_files,
        max_in_flight=ways.bounded(plan, load, room, wanted) if engine.name == "native" else _most_in_flight(wanted),
        workers=wanted.workers if remote is None else remote.workers,
        remote=remote,
        abort=wanted.abort,
        target=plan.target,
        command=withheld.command(sys.argv),
        notes=tuple(notes),
        authorized=agreed.authorized,
        looked=looked,
        served=_served(plan, addresses, wanted),
        not_asked=not_asked(wanted.no_finding),
    )
    _announce(order, plan, ways.words(way), wanted.searching)
    for sentence in () if wanted.searching else short_feeds(plan, data, load):
        style.warn(sentence)
    if searching:
        from surgeline.analysis.capacity_search import SHORT_BUDGET_S
        from surgeline.cli import search

        return search.searching(order, SHORT_BUDGET_S, seed=wanted.seed, alone_ns=alone_ns)
    return order


def target_of(text: str, wanted: Wanted) -> tuple[str, str | None]:
    """The base URL that would be tested, and its Unix socket, without looking at either."""
    kind, content, where = _read(text)
    if kind == "url":
        return where, wanted.unix_socket
    if kind == "script":
        return wanted.target or "", None
    plan = _plan(kind, content, where, wanted).plan
    return wanted.target or plan.target, wanted.unix_socket or plan.connection.unix_socket


@contextmanager
def serving(text: str, wanted: Wanted) -> Iterator[Wanted]:
    """What is wanted while the app that `--serve` names is running; nothing is started without it."""
    if wanted.serve is None:
        yield wanted
        return
    from surgeline import served

    target, unix_socket = target_of(text, wanted)
    parts = urlsplit(target)
    if not parts.hostname:
        raise Refused("--serve needs to know where the app will listen; add --target http://127.0.0.1:PORT", EXIT_USAGE)
    with tempfile.TemporaryDirectory(prefix="surgeline-serve-") as place:
        log = Path(place) / "output.txt"
        port = preflight.port_of(target)
        try:
            with served.started(wanted.serve, unix_socket or (parts.hostname, port), log) as started:
                style.say("Serve", f"{wanted.serve} listens on {unix_socket or f'port {port}'}")
                yield replace(wanted, served=started)
        except served.NotServed as error:
            raise Refused(f"{error}.", EXIT_USAGE) from error


def _served(plan: Plan, addresses: Sequence[str], wanted: Wanted) -> "Served | None":
    """The process to watch: the one started, the one named, or who listens on the target's port of this machine."""
    from surgeline import served

    if wanted.served is not None:
        return wanted.served
    if wanted.server_pid is not None:
        try:
            return served.by_pid(wanted.server_pid)
        except served.NotServed as error:
            raise Refused(f"--server-pid: {error}.", EXIT_USAGE) from error
    if plan.connection.unix_socket is not None:
        return served.by_socket(plan.connection.unix_socket)
    if plan.connection.proxy is not None or not environment.shares_machine(addresses):
        return None
    return served.by_port(preflight.port_of(plan.target))


def _read(text: str) -> tuple[str, str, str]:
    """Its kind (url, plan, openapi, script), its content where it is a file, and where it came from."""
    path = Path(text)
    if re.match(r"https?://", text, re.IGNORECASE):
        return "url", "", text
    if not path.exists():
        if re.fullmatch(r"(localhost|[\w.-]+\.\w+|\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\])?(:\d+)?(/\S*)?", text) and (
            ":" in text or "/" in text or text == "localhost"
        ):
            return "url", "", f"http://{'localhost' if text.startswith(':') else ''}{text}"
        raise Refused(f"There is no file {text}, and it is not a URL either; a URL begins with http://", EXIT_USAGE)
    if path.is_dir():
        raise Refused(f"{text} is a directory; name a plan, an OpenAPI document or a locustfile in it", EXIT_USAGE)
    if path.suffix == ".py":
        return "script", "", text
    from surgeline.plan.text import decode

    try:
        content = decode(path.read_bytes(), text)
    except OSError as error:
        raise Refused(f"{text} cannot be read: {error.strerror}", EXIT_USAGE) from error
    kind = sources.recognise(content, text)
    if kind not in ("plan", "openapi"):
        raise Refused(f"{text} is neither a plan nor an OpenAPI document nor a locustfile", EXIT_USAGE)
    return kind, content, text


def _plan(kind: str, content: str, where: str, wanted: Wanted) -> sources.Sourced:
    if kind == "plan":
        from surgeline.plan.text import parse_plan

        return sources.Sourced(parse_plan(content, where))
    if kind == "openapi":
        from surgeline.plan.sources.openapi import plan_from_openapi, read_openapi

        return plan_from_openapi(read_openapi(content, where), base_url=wanted.target)
    from surgeline.plan.sources.url import plan_from_url
    from surgeline.plan.text import plan_from_data

    options = plan_from_data({"target": where, **_NOTHING, **ways.changes(wanted)}, "the command line")
    files = datafiles.tls_files(options, None, "the command line", ways.named_files(wanted))
    agreed = ways.agree(where, ways.way_of(None, wanted, {}, files), wanted)
    usable = preflight.reachable(where, agreed.addresses, agreed.way)
    return plan_from_url(where, _fetcher(where, usable, agreed.way, wanted))


def _fetcher(url: str, addresses: tuple[str, ...], way: preflight.Way, wanted: Wanted) -> Callable[[str], Any]:
    """A function that gets pages of one origin, for discovery: one at a time, never elsewhere.

    Raises Unreachable where the first thing found is that http and https were mixed up, or TLS does not come about.
    """
    from surgeline.plan.sources.url import Fetched

    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    client = preflight.Client(origin, addresses, way, agent=wanted.user_agent or preflight.AGENT)
    if parts.scheme == "https":
        client.look()
    asked = tuple(_header(text) for text in wanted.headers)
    ours = (("user-agent", client.agent), ("accept", "*/*"))
    headers = (*(pair for pair in ours if not any(name.lower() == pair[0] for name, _ in asked)), *asked)
    unseen = [origin]

    def fetch(address: str) -> Fetched:
        there = urlsplit(address)
        if f"{there.scheme}://{there.netloc}" != origin:
            return Fetched(0, (), b"", address, "another origin")
        path = (there.path or "/") + (f"?{there.query}" if there.query else "")
        try:
            answer = client.send(evaluate.Request("", "GET", path, headers, None))
        except (OSError, ValueError, http.client.HTTPException) as error:
            if unseen:
                preflight.refuse_wrong_scheme(client)
            return Fetched(0, (), b"", address, str(error) or type(error).__name__)
        if unseen and answer.status == 400:
            preflight.refuse_wrong_scheme(client)
        unseen.clear()
        return Fetched(answer.status, tuple(answer.headers), answer.body, address, "")

    return fetch


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()):
        raise Refused(f"{text!r} is not a header; write it as in -H 'Accept: application/json'", EXIT_USAGE)
    if "\n" in value or "\r" in value:
        raise Refused(f"the header {name} holds a line break, which no header can", EXIT_USAGE)
    return name.strip(), value.strip()


def _headers(wanted: Wanted) -> dict[str, str]:
    return dict(_header(text) for text in wanted.headers)


def _changes(wanted: Wanted) -> dict[str, Any]:
    """What the command line says otherwise than a plan, in the plan language; wrong values are refused here."""
    changes: dict[str, Any] = dict(ways.changes(wanted))
    for key, value in (("target", wanted.target), ("timeout", wanted.timeout), ("name", wanted.name)):
        if value:
            changes[key] = value
    if wanted.timeout:
        units.parse_duration_ns(wanted.timeout)
    if wanted.insecure:
        changes["insecure"] = True
    if wanted.slo:
        changes["slo"] = list(_objectives(wanted))
    if wanted.headers:
        changes["headers"], _ = withheld.headers(_headers(wanted))
    if wanted.profile is not None:
        changes["workload"] = _preset(wanted)
    elif (load := load_from(wanted)) is not None:
        changes["workload"] = WorkloadPart.of(load).model_dump(mode="json", by_alias=True)
    return changes


def _objectives(wanted: Wanted) -> tuple[str, ...]:
    """The texts of --slo. Raises ObjectiveError for one that is none."""
    from surgeline.plan.objective import parse_objectives

    for text in wanted.slo:
        parse_objectives(text)
    return wanted.slo


def not_asked(ids: Sequence[str]) -> tuple[str, ...]:
    """The findings to do without, each once. Raises Refused for an id that no finding has."""
    if not ids:
        return ()
    from surgeline.cli.explain import rule_of

    return tuple(dict.fromkeys(rule_of(text).id for text in ids))


def _changed(plan: Plan, changes: Mapping[str, Any], wanted: Wanted) -> Plan:
    from surgeline.plan.text import plan_from_data

    data = plan.dump()
    if "workload" not in changes and (wanted.seed is not None or wanted.arrivals):
        part = (plan.workload or WorkloadPart.of(plan.load())).model_dump(mode="json", by_alias=True)
        given = {"seed": wanted.seed, "arrivals": wanted.arrivals}
        data["workload"] = {**part, **{key: value for key, value in given.items() if value is not None}}
    headers = {**plan.headers, **changes.get("headers", {})}
    for key in ("connection", "tls"):
        if key in changes:
            data[key] = {**data.get(key, {}), **changes[key]}
    merged = {**data, **_without(changes, "connection", "tls"), **({"headers": headers} if headers else {})}
    return plan if merged == plan.dump() else plan_from_data(merged, "the command line")


def _without(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}


def _preset(wanted: Wanted) -> dict[str, Any]:
    """The load that --profile names, in the plan language; -u or -r is its peak, -t its whole time."""
    for name, value in (("--stages", wanted.stages), ("--ramp", wanted.ramp)):
        if value:
            raise Refused(f"--profile {wanted.profile} has its own stages; leave {name} out", EXIT_USAGE)
    if wanted.users and wanted.rate:
        raise Refused("-u and -r each say what the peak is; give one of them", EXIT_USAGE)
    if not (wanted.users or wanted.rate) and wanted.profile != "smoke":
        raise Refused(
            f"--profile {wanted.profile} needs its peak, -u USERS or -r RATE, as in -r 200/s",
            EXIT_USAGE,
        )
    peak: Any = wanted.users
    if wanted.rate:
        peak = f"{units.parse_rate_per_s(wanted.rate.strip()):.12g}/s"
    given = {"peak": peak, "for": wanted.duration, "seed": wanted.seed, "arrivals": wanted.arrivals}
    return {"preset": wanted.profile, **{key: value for key, value in given.items() if value is not None}}


def load_from(wanted: Wanted) -> workload.Workload | None:
    """The load that the options ask for; None where they ask for none. Raises Refused where they contradict."""
    options = (("-u", wanted.users), ("-r", wanted.rate), ("--stages", wanted.stages))
    for name, value in (*options, ("-t", wanted.duration), ("--ramp", wanted.ramp)):
        if isinstance(value, str) and not value.strip():
            raise Refused(f"{name} is empty; leave it out, or say what it is to be", EXIT_USAGE)
    given = [name for name, value in options if value]
    if len(given) > 1:
        raise Refused(f"{' and '.join(given)} each say what the load is; give one of them", EXIT_USAGE)
    seed, arrivals = wanted.seed if wanted.seed is not None else workload.DEFAULT_SEED, wanted.arrivals or "poisson"
    if wanted.stages:
        if wanted.duration or wanted.ramp:
            raise Refused("--stages says how long each stage lasts; -t and --ramp go with -u or -r", EXIT_USAGE)
        return _stages(wanted.stages, seed, arrivals)
    if not given:
        if wanted.duration or wanted.ramp:
            raise Refused("-t and --ramp need a load: add -u USERS or -r RATE", EXIT_USAGE)
        return None
    duration_ns = units.parse_duration_ns(wanted.duration or DEFAULT_DURATION)
    if duration_ns <= 0:
        raise Refused("a run must last longer than nothing; write for example -t 30s", EXIT_USAGE)
    if wanted.users:
        start, end, make = float(wanted.users), float(wanted.users), workload.closed_stage
    else:
        ends = [units.parse_rate_per_s(part.strip()) for part in re.split("->|→", wanted.rate or "")]
        if len(ends) > 2 or max(ends) <= 0:
            raise Refused(f"{wanted.rate!r} is not a rate; write for example 200/s or '50/s -> 300/s'", EXIT_USAGE)
        start, end, make = ends[0], ends[-1], workload.open_stage
    stages = [make(start, end, duration_ns)]
    if wanted.ramp:
        ramp_ns = units.parse_duration_ns(wanted.ramp)
        if ramp_ns > 0:
            stages.insert(0, make(1.0 if wanted.users else 0.0, start, ramp_ns))
    return workload.Workload("closed" if wanted.users else "open", tuple(stages), arrivals, seed)  # type: ignore[arg-type]  # click.Choice allows no other arrivals


def _stages(text: str, seed: int, arrivals: str) -> workload.Workload:
    """The workload in `10 for 30s, 10 -> 100 for 2m` or `50/s for 30s`."""
    parts = []
    for part in text.split(","):
        level, found, duration = part.partition(" for ")
        if not found:
            raise Refused(
                f"{part.strip()!r} is not a stage; write for example '10 for 30s' or '50/s for 30s'", EXIT_USAGE
            )
        key = "rate" if "/" in level else "users"
        parts.append({key: level.strip(), "for": duration.strip()})
    model = "open" if "rate" in parts[0] else "closed"
    from surgeline.plan.text import workload_from_data

    return workload_from_data({"model": model, "stages": parts, "seed": seed, "arrivals": arrivals}, "--stages").value()


@contextmanager
def _said_where_it_stands(kind: str, content: str, where: str) -> Iterator[None]:
    """Problems of a plan that came out of a text are raised with their lines in it."""
    from surgeline.plan.text import PlanError, located

    try:
        yield
    except PlanError as error:
        if kind != "plan" or any(problem.span is not None for problem in error.problems):
            raise
        raise located(error, content, where) from None


def _secrets(plan: Plan, where: str, wanted: Wanted) -> Mapping[str, str]:
    """What the plan's `{{env.NAME}}` are. Raises PlanError for those that the environment does not have."""
    from surgeline.plan.check import place_of_environment
    from surgeline.plan.problem import Fault, PlanError, path_text

    names = evaluate.environment_names(plan)
    _, given = withheld.headers(_headers(wanted))
    known = {**os.environ, **withheld.proxy(wanted.proxy), **given}
    missing = sorted(name for name in names if name not in known)
    if missing:
        faults = []
        for name in missing:
            loc = place_of_environment(plan, name)
            said = f"the environment has no {name}; set it as in {name}=… surgeline run …"
            faults.append(Fault(loc, f"{path_text(loc)}: {said}" if loc else said))
        raise PlanError.of_faults(where, faults)
    return {name: known[name] for name in names}


def _look(
    plan: Plan,
    addresses: tuple[str, ...],
    secrets: Mapping[str, str],
    data: Mapping[str, Feed],
    sent_files: Mapping[str, SentFile],
    way: preflight.Way,
    wanted: Wanted,
) -> preflight.Preflight:
    found = preflight.check(plan, addresses, secrets, data, sent_files, way, wanted.user_agent)
    style.say("Check", found.sentence)
    for problem in found.problems:
        style.warn(problem.sentence)
    fatal = [problem for problem in found.problems if problem.fatal]
    if fatal and not wanted.anyway:
        raise Refused("Nothing was measured. To measure it all the same, add --anyway.", EXIT_UNREACHABLE)
    return found


def _without_walls(plan: Plan, found: preflight.Preflight) -> Plan:
    """The plan without the endpoints that nobody named and that answer nothing worth measuring; says which those are.

    A plan of the user's own is left as it is: there, a wrong answer is a finding.
    """
    wrong = {probe.endpoint for probe in found.probes if probe.outcome is not Outcome.OK}
    kept = {
        name: scenario
        for name, scenario in plan.scenarios.items()
        if not any(step.endpoint in wrong for step in scenario.steps)
    }
    if not kept or len(kept) == len(plan.scenarios):
        return plan
    style.note(f"left out, as they answer nothing worth measuring: {', '.join(sorted(wrong))} (--anyway keeps them)")
    return plan.model_copy(update={"scenarios": kept})


def _most_in_flight(wanted: Wanted) -> int:
    from surgeline.engines.native import most_in_flight

    most = most_in_flight(environment.raise_descriptor_limit())
    if wanted.max_in_flight is None:
        return most
    if wanted.max_in_flight > most:
        style.warn(f"This process may open no more than {most:,} connections; --max-in-flight is taken as that.")
    return min(wanted.max_in_flight, most)


def remote_of(wanted: Wanted) -> Remote | None:
    """The workers of other machines that are waited for; None where there are to be none. Raises Refused."""
    if wanted.expect_workers is None:
        if wanted.master_bind_host != "127.0.0.1" or wanted.master_bind_port != 5557:
            raise Refused(
                "--master-bind-host and --master-bind-port say where workers of other machines come to; "
                "say with --expect-workers how many those are",
                EXIT_USAGE,
            )
        return None
    if wanted.workers > 1:
        raise Refused(
            "--workers starts workers here, --expect-workers waits for others; give one of them, "
            "and start a `surgeline worker` here as well where this machine is to send too",
            EXIT_USAGE,
        )
    if wanted.engine == "native":
        raise Refused("Workers on other machines are Locust's; write --engine locust, or leave it out", EXIT_USAGE)
    return Remote(
        wanted.expect_workers, wanted.master_bind_host, wanted.master_bind_port, wanted.expect_workers_max_wait
    )


def _slowest(found: preflight.Preflight) -> int | None:
    """The time that the slowest endpoint takes for one request with nobody else there; None where none answers."""
    return max((probe.service_ns for probe in found.probes if probe.outcome is Outcome.OK), default=None)


def _native_sends(wanted: Wanted) -> bool:
    from surgeline.engines.native import available

    return wanted.engine != "locust" and wanted.expect_workers is None and not available()


def _say_who_sends(remote: Remote) -> None:
    """Where workers are waited for, and what that means."""
    style.say("Workers", f"{remote.workers} of other machines, waited for on {remote.place} for {remote.wait_s} s")
    if remote.loopback:
        style.note("only this machine can reach that port; --master-bind-host opens it to others")
    else:
        style.warn(
            f"Whoever can reach port {remote.port} gets what is run, its secrets and its test data, and can send "
            "figures of their own: there are neither passwords nor encryption. Keep it in a private network."
        )


def _engine(subject: Subject, wanted: Wanted, load: workload.Workload | None, remote: Remote | None = None) -> Engine:
    """The engine asked for, or the first that takes the subject; says so loudly where that is the slower one."""
    from surgeline.engines.locust import LocustEngine, absent
    from surgeline.engines.native import NativeEngine, available

    if isinstance(subject, Script) and (missing := absent()) is not None:
        raise Refused(f"{missing}.", EXIT_USAGE)
    engines: list[Engine] = [NativeEngine(), LocustEngine()]
    if remote is not None:
        engines = engines[1:]
    elif wanted.engine != "auto":
        engines = [engine for engine in engines if engine.name == wanted.engine]
    chosen, refusals = preferred(engines, subject, Settings("", 0, load, remote=remote))
    if chosen is None:
        raise Refused(f"No engine can run this. {' '.join(refusals)}", EXIT_USAGE)
    if chosen.name == "locust" and isinstance(subject, Plan) and wanted.engine == "auto" and remote is None:
        unbuilt = available()
        style.warn(
            f"NO NATIVE ENGINE: {unbuilt}. Locust sends instead: the same numbers, a fraction of the load."
            if unbuilt
            else f"Locust sends this plan: {refusals[0]}"
        )
    return chosen


def _announce(order: runner.Order, plan: Plan, way: str, searching: bool) -> None:
    """What is going to happen, before it does; every line of it can be changed by an option."""
    timeout, wait = units.format_duration(plan.timeout), order.max_in_flight
    if order.workload is not None and not order.workload.arrives and not searching:
        # Each user has one request in flight at most.
        wait = min(wait, round(max(max(stage.start, stage.end) for stage in order.workload.stages)))
    style.say("Plan", f"{order.name}: {_count(plan.endpoints)} → {plan.target}")
    if way:
        style.say("Way", way)
    limits = f"timeout {timeout}, at most {wait:,} in flight"
    if searching:
        style.say("Limits", f"{limits}, ended early when the target is gone")
    else:
        style.say("Load", workload.describe(order.workload) if order.workload else "as the script says")
        if isinstance(plan.workload, PresetPart):
            preset = workload.PRESETS[plan.workload.preset]
            style.say("Question", f"{preset.question} ({plan.workload.preset})")
            style.say("Answer", f"in {preset.answered_by}")
        style.say("Limits", f"{limits}, {_abort_words(order.abort)}")
    if order.served is not None:
        style.say("Server", f"watched: {order.served.found}")
    if order.remote is not None:
        _say_who_sends(order.remote)
    style.say("Engine", f"{order.engine.name}, user agent and X-Surgeline-Run carry the run's id")


def _count(endpoints: Sequence[str]) -> str:
    return f"{len(endpoints)} endpoint{'' if len(endpoints) == 1 else 's'}"


def _abort_words(abort: bool) -> str:
    if not abort:
        return "never aborted (--no-abort)"
    return "aborted when the target is gone or over half of the requests fail for 10 s (--no-abort keeps on)"


def _script_order(path: Path, wanted: Wanted) -> runner.Order:
    """A locustfile: Locust decides the load, from its own options and ours."""
    if wanted.rate:
        raise Refused(
            "-r is the arrival rate, and in a locustfile users decide when they send; "
            "for users started per second use --spawn-rate",
            EXIT_USAGE,
        )
    for name, value in (
        *(("--stages", wanted.stages), ("--ramp", wanted.ramp), ("--arrivals", wanted.arrivals)),
        ("--profile", wanted.profile),
    ):
        if value:
            raise Refused(f"{name} shapes plans; a locustfile has -u, -t, --spawn-rate or a LoadTestShape", EXIT_USAGE)
    if wanted.headers:
        raise Refused("-H is a header of a plan's requests; in a locustfile, set headers in its client", EXIT_USAGE)
    if wanted.engine == "native":
        raise Refused("Scripts are run by the locust engine; leave --engine out", EXIT_USAGE)
    ways.of_plans_only(wanted)
    if wanted.max_in_flight is not None:
        raise Refused("--max-in-flight bounds plans; in a locustfile each user waits for its answers", EXIT_USAGE)
    if wanted.spawn_rate is not None and not 0 < wanted.spawn_rate < math.inf:
        raise Refused(f"--spawn-rate {wanted.spawn_rate:g} starts nobody; write for example --spawn-rate 5", EXIT_USAGE)
    duration_ns = units.parse_duration_ns(wanted.duration or DEFAULT_DURATION)
    if duration_ns <= 0:
        raise Refused("a run must last longer than nothing; write for example -t 30s", EXIT_USAGE)
    addresses: tuple[str, ...] = ()
    authorized = "the script's own host"
    if wanted.target:
        agreed = ways.agree(wanted.target, preflight.Way(), wanted)
        addresses, authorized = agreed.addresses, agreed.authorized
        if wanted.look_first:
            addresses = preflight.reachable(wanted.target, addresses)
    users = wanted.users or 1
    arguments = ["-u", str(users), "-r", f"{wanted.spawn_rate or users:g}"]
    seconds = max(duration_ns // units.NS_PER_S, 1)
    arguments += ["-t", f"{seconds}s"]
    if wanted.target:
        arguments += ["-H", wanted.target]
    if wanted.workers > 1:
        arguments += ["--processes", str(wanted.workers)]
    remote = remote_of(wanted)
    script = Script(path, hashlib.sha256(path.read_bytes()).hexdigest(), (*arguments, *wanted.locust_arguments))
    order = runner.Order(
        subject=script,
        source={"kind": "script", "location": str(path)},
        name=wanted.name or path.stem,
        engine=_engine(script, wanted, None, remote),
        root=wanted.out,
        workload=None,
        addresses=addresses,
        user_agent=wanted.user_agent,
        workers=wanted.workers if remote is None else remote.workers,
        remote=remote,
        abort=wanted.abort,
        target=wanted.target or "",
        command=withheld.command(sys.argv),
        authorized=authorized,
        slo=_objectives(wanted),
        not_asked=not_asked(wanted.no_finding),
    )
    style.say("Script", f"{path}{' → ' + wanted.target if wanted.target else ''}")
    style.say(
        "Load",
        f"{users} user{'' if users == 1 else 's'}, {wanted.spawn_rate or users:g} started per second, {seconds} s",
    )
    style.say("Limits", _abort_words(order.abort))
    if remote is not None:
        _say_who_sends(remote)
    style.say("Engine", "locust; response time is service time there: Locust knows no due moments")
    return order
