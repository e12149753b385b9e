"""The native engine: a plan, compiled to the engine's own terms, handed to Rust, its frames carried to the sink.

This is the only module outside of `locust/` that imports the compiled one. `compile_plan` is the border: one typed
value, a JSON text, goes over; integers and bytes come back. The Global Interpreter Lock is not taken for any request.
"""

import base64
import contextlib
import importlib
import json
import os
import re
import resource
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

from surgeline import units
from surgeline.engines import Ending, Engine, EngineError, Running, Script, Settings, Sink, Subject, Unsupported
from surgeline.plan import evaluate, upload
from surgeline.plan.model import Message, Plan, Retry, Scenario, Step, json_rules
from surgeline.plan.pause import pause_data
from surgeline.samples import HEALTH_COLUMNS, Frame, encode_table
from surgeline.workload import Stage

_SENDER = re.compile(r"surgeline-\d+")
"""The engine's threads are called so."""


def available() -> str | None:
    """None when the compiled module can be loaded, else why not, as one clause."""
    try:
        _module()
    except ImportError as error:
        return f"the compiled engine is not installed ({error})"
    return None


def _module() -> ModuleType:
    return importlib.import_module("surgeline._engine")


class NativeEngine(Engine):
    """Sends plans from Rust."""

    name = "native"

    @override
    def refusal(self, subject: Subject, settings: Settings) -> str | None:
        if isinstance(subject, Script):
            return "scripts are run by the locust engine"
        missing = available()
        if missing is not None:
            return f"{missing}; the locust engine runs plans too"
        origin = urlsplit(subject.target)[:2]
        for _, step in subject.steps():
            if step.path.startswith(("http://", "https://")) and urlsplit(step.path)[:2] != origin:
                return f"{step.endpoint} goes to another origin than {subject.target}; give that one a plan of its own"
        return None

    @override
    def start(self, subject: Subject, settings: Settings, sink: Sink) -> "NativeRunning":
        refusal = self.refusal(subject, settings)
        if refusal is not None or isinstance(subject, Script):
            raise Unsupported(refusal or "scripts are run by the locust engine")
        text = json.dumps(compile_plan(subject, settings))
        try:
            running = _module().start(text)
        except (ValueError, OSError, RuntimeError) as error:
            raise EngineError(f"the native engine did not start: {error}") from error
        return NativeRunning(running, sink, settings.monotonic_ns, per_iteration_of(subject, settings))


class NativeRunning(Running):
    """A run of the native engine: one thread carries frames from Rust to the sink until there are no more."""

    def __init__(self, running: Any, sink: Sink, begin_ns: int, per_iteration: float) -> None:
        self._running = running
        self._sink = sink
        self._per_iteration = per_iteration
        self._meter = ProcessMeter(begin_ns)
        self._stopped = False
        self._error: Exception | None = None
        self._pump = threading.Thread(target=self._carry, name="surgeline-frames", daemon=True)
        self._pump.start()

    def _carry(self) -> None:
        try:
            while (frames := self._running.next(0.25)) is not None:
                for kind, payload in frames:
                    self._sink.append(Frame(kind), payload)
                readings = self._meter.read(time.monotonic_ns())
                if readings:
                    self._sink.append(Frame.HEALTH, readings)
        except Exception as error:  # whatever breaks here ends the run with its reason, not with a silent thread
            self._error = error
            self._running.stop(0.0)

    @override
    def wait(self, timeout_s: float) -> Ending | None:
        self._pump.join(timeout_s)
        if self._pump.is_alive():
            return None
        if self._error is not None:
            return Ending("failed", str(self._error))
        return Ending("stopped" if self._stopped else "finished")

    @property
    def rests(self) -> bool:
        """Whether users have come, requests were sent, and nobody is under way: one moment's look."""
        now = self._running.snapshot()
        return bool(now["sent"] > 0 and now["users"] == 0 and now["in_flight"] == 0)

    @override
    def stop(self, grace_s: float) -> None:
        self._stopped = True
        self._running.stop(grace_s)

    @override
    def pause(self) -> None:
        self._running.pause()

    @override
    def resume(self) -> None:
        self._running.resume()

    @override
    def scale(self, factor: float) -> None:
        self._running.scale(factor)

    @override
    def next_stage(self, only: int | None = None) -> None:
        self._running.next_stage(only)

    @override
    def append_stage(self, stage: Stage) -> None:
        self._running.append_stage(
            stage.duration_ns, stage.start / self._per_iteration, stage.end / self._per_iteration
        )


class ProcessMeter:
    """What this process costs its machine: CPU, memory, descriptors, threads, once a second as a table of health."""

    def __init__(self, begin_ns: int) -> None:
        self._begin_ns = begin_ns
        self._last_ns = time.monotonic_ns()
        self._cpu_s = self._cpu()
        self._senders = _senders()

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def read(self, now_ns: int) -> bytes | None:
        """The encoded readings at `now_ns` (CLOCK_MONOTONIC); None until the run's next second has begun.

        By the run's seconds, so that each of them has its reading: a second after the last would slip, and now and then
        leave one out. None too where the last reading was so late that it has told of most of this second.
        """
        passed_ns = now_ns - self._last_ns
        seconds, told = ((at - self._begin_ns) // units.NS_PER_S for at in (now_ns, self._last_ns))
        if seconds <= told or passed_ns < units.NS_PER_S // 2:
            return None
        cpu_s = self._cpu()
        senders = _senders()
        values = {
            "cpu_ratio": (cpu_s - self._cpu_s) / (passed_ns / units.NS_PER_S),
            "threads": float(threading.active_count()),
            **_busiest(self._senders, senders, passed_ns),
            **_memory_and_descriptors(),
        }
        self._last_ns, self._cpu_s, self._senders = now_ns, cpu_s, senders
        count = len(values)
        return encode_table(
            HEALTH_COLUMNS,
            {
                "at_ns": [max(now_ns - self._begin_ns, 0)] * count,
                "source": ["generator"] * count,
                "worker": ["process"] * count,
                "metric": list(values),
                "value": list(values.values()),
            },
        )


def _senders(tasks: Path = Path("/proc/self/task")) -> dict[str, tuple[int, int]]:
    """By thread that sends: how long it has run, and how long it was ready to and had no core, in ns.

    From the scheduler's own books (Linux, `schedstat`); a control group's throttling is in them. Empty elsewhere.
    """
    found: dict[str, tuple[int, int]] = {}
    with contextlib.suppress(OSError):
        for task in tasks.iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):  # a thread may end while it is looked at
                if _SENDER.fullmatch((task / "comm").read_text().strip()):
                    ran, waited = (task / "schedstat").read_text().split()[:2]
                    found[task.name] = (int(ran), int(waited))
    return found


def _busiest(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]], passed_ns: int
) -> dict[str, float]:
    """How much of the time the sending thread that rested least ran, and how much it waited for a core."""
    spent = [
        (ran - before.get(thread, (0, 0))[0], waited - before.get(thread, (0, 0))[1])
        for thread, (ran, waited) in after.items()
    ]
    ran, waited = max(spent, key=sum, default=(-1, -1))
    if ran < 0:
        return {}
    return {"sender_cpu_ratio": ran / passed_ns, "sender_wait_ratio": waited / passed_ns}


def _memory_and_descriptors() -> dict[str, float]:
    """Resident bytes and open descriptors, where the system shows them (Linux)."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found["rss_bytes"] = float(pages * resource.getpagesize())
        found["descriptors"] = float(len(os.listdir("/proc/self/fd")))
    return found


def per_iteration_of(plan: Plan, settings: Settings) -> float:
    """What a stage's level is divided by for the engine: an open load arrives in iterations, a closed one in users."""
    load = settings.workload or plan.load()
    return plan.requests_per_iteration if load.model == "open" else 1.0


def compile_plan(plan: Plan, settings: Settings) -> dict[str, Any]:
    """The engine's plan: endpoints by index, templates with base path and query, rates in iterations per second.

    Raises EngineError where the plan names an environment value that the settings do not hold.
    """
    load = settings.workload or plan.load()
    endpoints = {name: index for index, name in enumerate(plan.endpoints)}
    per_iteration = per_iteration_of(plan, settings)
    return {
        "version": 1,
        "run_id": settings.run_id,
        "seed": load.seed,
        "workers": settings.workers,
        "share": {"index": 0, "of": 1},
        "target": _target(plan, settings),
        "headers": _headers(plan, settings),
        "timeout_ns": plan.timeout,
        "max_redirects": plan.redirects,
        "max_in_flight": settings.max_in_flight,
        "grace_ns": settings.grace_ns,
        "max_body_bytes": plan.max_body,
        "clock_monotonic_ns": settings.monotonic_ns,
        "variables": _variables(plan, settings),
        "secrets": _made_from_secrets(plan, settings),
        "feeds": _feeds(plan, settings),
        "connection": _connection(plan, settings),
        "tls": _tls(plan, settings),
        **_files(plan, settings),
        "endpoints": list(endpoints),
        "transactions": list(plan.transactions),
        "scenarios": [_scenario(plan, name, part, endpoints) for name, part in plan.scenarios.items()],
        "workload": {
            "model": "open" if load.arrives else "closed",
            "arrivals": load.arrivals,
            "stages": [
                {"duration_ns": s.duration_ns, "from": s.start / per_iteration, "to": s.end / per_iteration}
                for s in load.stages
            ],
        },
    }


def _target(plan: Plan, settings: Settings) -> dict[str, Any]:
    parts = urlsplit(plan.target)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {
        "scheme": parts.scheme,
        "host": host,
        "port": port,
        "host_header": parts.netloc,
        "addresses": list(settings.addresses) or [host],
        "sni": plan.tls.server_name or (host if parts.scheme == "https" else None),
        "insecure": plan.insecure,
        "ca_file": None,
    }


def _connection(plan: Plan, settings: Settings) -> dict[str, Any]:
    part, proxy = plan.connection, _proxy(plan, settings)
    return {
        "streams": part.http2_streams,
        "requests": None if part.keep_alive is True else int(part.keep_alive) or 1,
        "share": part.share,
        "proxy": {
            "addresses": list(settings.proxy_addresses) or [proxy.host],
            "port": proxy.port,
            "authorization": proxy.authorization,
        }
        if proxy is not None
        else None,
        "unix_socket": part.unix_socket,
        "source_addresses": list(part.sources),
        "most_open": settings.max_connections,
    }


def _proxy(plan: Plan, settings: Settings) -> evaluate.Proxy | None:
    try:
        return evaluate.proxy_of(plan, _variables(plan, settings)) if plan.connection.proxy is not None else None
    except ValueError as error:
        raise EngineError(str(error)) from error


def _tls(plan: Plan, settings: Settings) -> dict[str, Any]:
    part = plan.tls
    absent = next((file for file in part.files if file not in settings.files), None)
    if absent is not None:
        raise EngineError(f"the content of {absent} was not handed to the engine")
    texts = {key: settings.files[file] if file else None for key, file in part.named.items()}
    return {**texts, "versions": list(part.versions), "resumption": part.resumption}


def _headers(plan: Plan, settings: Settings) -> list[list[str]]:
    """Ours, then the plan's, then the run's; a later one of the same name replaces an earlier one."""
    wanted: dict[str, tuple[str, str]] = {}
    proxy = _proxy(plan, settings)
    authorization = None if proxy is None else proxy.authorization
    for name, value in (
        *evaluate.own_headers(plan, settings.user_agent or "surgeline", authorization),
        *plan.headers.items(),
        *evaluate.auth_headers(plan, _variables(plan, settings)),
        *settings.headers,
    ):
        wanted[name.lower()] = (name, value)
    return [list(pair) for pair in wanted.values()]


def _variables(plan: Plan, settings: Settings) -> dict[str, str]:
    try:
        return evaluate.constants(plan, settings.environment)
    except evaluate.MissingVariable as missing:
        name = str(missing.args[0]).removeprefix("env.")
        raise EngineError(f"the plan uses {{{{env.{name}}}}}, and {name} is not set in the environment") from missing


def _made_from_secrets(plan: Plan, settings: Settings) -> list[str]:
    """What stands in a header in another form than in the environment: encoded pairs of user and password."""
    proxy = _proxy(plan, settings)
    values = [proxy.authorization] if proxy is not None and proxy.authorization is not None else []
    if plan.auth.basic is not None:
        pairs = evaluate.auth_headers(plan, _variables(plan, settings))
        values += [value for name, value in pairs if name == "authorization"]
    return [value.removeprefix("Basic ") for value in values if value.startswith("Basic ")]


def _feeds(plan: Plan, settings: Settings) -> list[dict[str, Any]]:
    absent = next((name for name in plan.data if name not in settings.data), None)
    if absent is not None:
        raise EngineError(f"the rows of {plan.data[absent].file} were not handed to the engine")
    return [
        {
            "name": name,
            "order": part.order,
            "wraps": part.wraps,
            "columns": settings.data[name].columns,
            "rows": settings.data[name].rows,
        }
        for name, part in plan.data.items()
    ]


def _files(plan: Plan, settings: Settings) -> dict[str, Any]:
    """The files that bodies are made of; nothing where there are none."""
    absent = next((name for name in plan.sent_files if name not in settings.sent_files), None)
    if absent is not None:
        raise EngineError(f"the file {absent}, which the plan sends, was not handed to the engine")
    found = [settings.sent_files[name] for name in plan.sent_files]
    return {"files": [{"path": file.path, "length": file.size_bytes} for file in found]} if found else {}


def _upload(plan: Plan, step: Step) -> dict[str, Any]:
    """A body made of files, file by number; nothing where the step has no such body."""
    pieces = upload.pieces(step)
    if pieces is None:
        return {}
    numbers = {name: number for number, name in enumerate(plan.sent_files)}
    parts = [
        {"text": piece.text, "place": piece.place}
        if isinstance(piece, upload.TextPiece)
        else {"file": numbers[piece.file]}
        for piece in pieces
    ]
    return {"upload": {"chunked": step.transfer == "chunked", "parts": parts}}


def _scenario(plan: Plan, name: str, scenario: Scenario, endpoints: dict[str, int]) -> dict[str, Any]:
    return {
        "name": name,
        "weight": plan.weight_of(name),
        "think_time_ns": pause_data(scenario.think_time),
        "pacing_ns": pause_data(scenario.pacing) if scenario.pacing is not None else None,
        "once": [_step(plan, step, endpoints) for step in scenario.once],
        "steps": [_step(plan, step, endpoints) for step in scenario.steps],
    }


def _step(plan: Plan, step: Step, endpoints: dict[str, int]) -> dict[str, Any]:
    headers = [[name, value] for name, value in step.headers.items()]
    own = {name.lower() for name in step.headers}
    headers += [[name, value] for name, value in _OPENING.get(step.word, ()) if name.lower() not in own]
    body, content_type = evaluate.body_template(step)
    if content_type and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(["content-type", content_type])
    check = step.check
    return {
        "endpoint": endpoints[step.endpoint],
        "method": step.method,
        "path": evaluate.path_template(plan, step),
        "headers": headers,
        "body": body,
        **_upload(plan, step),
        **_talk(step),
        "think_time_ns": pause_data(step.think_time) if step.think_time is not None else None,
        "timeout_ns": step.timeout,
        "retry": _retry(step.retry) if step.retry is not None else None,
        "transaction": plan.transactions.index(step.transaction) if step.transaction is not None else None,
        "check": {
            "status": [list(pair) for pair in check.status] if check.status is not None else _RIGHT.get(step.word),
            "time_ns": check.time,
            "size": list(check.size) if check.size is not None else None,
            "body_contains": list(check.body.contains) if check.body is not None else [],
            "body_not": list(check.body.not_) if check.body is not None else [],
            "body_regex": list(check.body.regex) if check.body is not None else [],
            "json": [[path, rule, wanted] for path, value in check.json_.items() for rule, wanted in json_rules(value)],
            "header": [[name, value] for name, value in check.header.items()],
        },
        "extract": [
            {"var": variable, "from": part.source[0], "expr": part.source[1]} for variable, part in step.extract.items()
        ],
    }


_OPENING = {
    "events": (("accept", "text/event-stream"), ("cache-control", "no-store")),
    "websocket": (
        *(("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-version", "13")),
        ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ),
}
"""Headers that a conversation is asked for with, unless the step has its own; the engine writes each user's key."""
_RIGHT = {"events": [[200, 299]], "websocket": [[101, 101]]}


def _talk(step: Step) -> dict[str, Any]:
    """The conversation that a step begins; nothing where it begins none."""
    if step.events is not None:
        until = step.until
        events = {
            "messages": until.messages if until is not None else None,
            "text": until.text if until is not None else None,
            "time_ns": until.time if until is not None else None,
            **dict(zip(("first", "next", "whole"), step.message_names, strict=True)),
        }
        return {"talk": {"events": events}}
    if step.websocket is None:
        return {}
    *names, whole = step.message_names
    items = [_item(message, name) for message, name in zip(step.messages or (), names, strict=True)]
    return {"talk": {"socket": {"items": items, "whole": whole}}}


def _item(message: Message, name: str) -> dict[str, Any]:
    if message.expect is not None:
        expect = message.expect
        check = {
            "body_contains": list(expect.contains),
            "body_not": list(expect.not_),
            "body_regex": list(expect.regex),
            "size": list(expect.size) if expect.size is not None else None,
            "json": [
                [path, rule, wanted] for path, value in expect.json_.items() for rule, wanted in json_rules(value)
            ],
        }
        extract = [
            {"var": variable, "from": part.source[0], "expr": part.source[1]}
            for variable, part in expect.extract.items()
        ]
        return {"expect": {"name": name, "timeout_ns": expect.timeout, "check": check, "extract": extract}}
    if message.listen is not None:
        return {"listen": {"name": name, "time_ns": message.listen}}
    if message.close is not None:
        return {"close": {"code": message.close}}
    if message.send_base64 is not None:
        return {"bytes": {"hex": base64.b64decode(message.send_base64).hex()}}
    if message.send is not None:
        return {"send": {"text": message.send, "json": False}}
    text = json.dumps(message.send_json, ensure_ascii=False, separators=(",", ":"))
    return {"send": {"text": text, "json": True}}


def _retry(retry: Retry) -> dict[str, Any]:
    return {
        "times": retry.times,
        "outcomes": [word for word in retry.on if isinstance(word, str)],
        "status": [[status, status] for status in retry.on if isinstance(status, int)],
        "backoff_ns": pause_data(retry.backoff),
        "factor": retry.factor,
        "most_ns": retry.most,
    }


OWN_DESCRIPTORS = 200
"""Open files that a run needs beside its connections: files, pipes, threads' polls, what Python holds. Generous."""


def most_in_flight(descriptors: int) -> int:
    """How many requests may be in flight at once: 10,000, or what `descriptors` leaves beside our own files."""
    return max(1, min(10_000, descriptors - OWN_DESCRIPTORS))
