"""`events` and `websocket`: messages from real servers, timed, in the books, on the page and in the files."""

import asyncio
import base64
import contextlib
import csv
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from surgeline import preflight
from surgeline.cli.live import Silent
from surgeline.engines import Settings
from surgeline.engines.locust import LocustEngine
from surgeline.engines.native import NativeEngine, available
from surgeline.engines.scripted import Scripted
from surgeline.plan.problem import PlanError
from surgeline.plan.text import dump_plan, parse_plan, plan_from_data
from surgeline.runner import Finished, Order, carry_out
from surgeline.samples import Outcome

needs_native = pytest.mark.skipif(available() is not None, reason="the native engine is not built here")


async def stream(request: Request) -> Response:
    """Five events, the first after 50 ms and the others 20 ms apart; what was sent comes back in each."""
    asked = (await request.body()).decode() or request.headers.get("accept", "")

    async def events() -> AsyncIterator[str]:
        await asyncio.sleep(0.05)
        for number in range(5):
            yield f"event: token\ndata: {number} of {asked}\n\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(events(), media_type="text/event-stream")


async def chat(socket: WebSocket) -> None:
    """Greets, echoes after 30 ms, and says news until the client closes."""
    await socket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        await socket.send_json({"type": "welcome", "room": f"r{socket.query_params['n']}"})
        said = await socket.receive_text()
        await asyncio.sleep(0.03)
        await socket.send_text(f"you said {said}")
        for _ in range(1000):
            await socket.send_bytes(b"news")
            await asyncio.sleep(0.02)


async def binary(socket: WebSocket) -> None:
    """Sends what bytes it gets twice in one message; a message of text breaks it."""
    await socket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.send_bytes(2 * await socket.receive_bytes())


async def closed(socket: WebSocket) -> None:
    """Does not let anybody in."""
    await socket.close()


APP = Starlette(
    routes=[
        Route("/stream", stream, methods=["GET", "POST"]),
        Route("/plain", lambda request: PlainTextResponse("x")),
        WebSocketRoute("/chat", chat),
        WebSocketRoute("/closed", closed),
        WebSocketRoute("/binary", binary),
    ]
)


@contextlib.contextmanager
def serving(place: Path, secure: bool) -> Iterator[str]:
    """The app behind uvicorn, which speaks WebSocket by wsproto."""
    more: dict[str, Any] = {}
    if secure:
        certificate = trustme.CA().issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(place / "cert.pem")
        certificate.private_key_pem.write_to_path(place / "key.pem")
        more = {"ssl_certfile": str(place / "cert.pem"), "ssl_keyfile": str(place / "key.pem")}
    config = uvicorn.Config(
        APP, ws="wsproto", log_level="critical", lifespan="off", timeout_graceful_shutdown=1, **more
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http{'s' if secure else ''}://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def conversations(target: str) -> dict[str, Any]:
    """A plan that talks in every way."""
    chat_step = {
        "websocket": "/chat?n={{user}}",
        "messages": [
            {"expect": {"json": {"$.type": "welcome"}, "name": "welcome", "extract": {"room": "$.room"}}},
            {"send_json": {"in": "{{room}}", "text": 'a "quote" {{user}}'}},
            {"expect": 'you said {"in":"r{{user}}"'},
            {"listen": "100ms"},
            {"close": 3001},
        ],
    }
    steps = [
        {"events": "/stream", "until": 3},
        {
            "events": "/stream",
            "name": "all of it",
            "json": {"q": "{{user}}"},
            "check": {"header": {"content-type": "event"}},
        },
        {"events": "/stream", "name": "by text", "until": "1 of text/event-stream"},
        {"events": "/stream", "name": "by time", "until": {"time": "80ms"}},
        chat_step,
    ]
    return {
        "target": target,
        "insecure": True,
        "scenarios": {"talk": {"steps": steps}},
        "workload": {"model": "closed", "stages": [{"users": 3, "for": "2s"}]},
        "slo": ["WS /chat > welcome: p95 < 10s", "EVENTS /stream > first: p50 < 1ms"],
    }


def run(data: dict[str, Any], place: Path) -> Finished:
    """A whole run with all its files."""
    plan = plan_from_data(data, "a plan")
    source = {"kind": "plan", "location": "plan.yaml"}
    order = Order(plan, source, "talk", NativeEngine(), place, plan.load(), target=plan.target, abort=False)
    return carry_out(order, Silent(), threading.Event())


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_conversations_with_a_real_server(tmp_path: Path, secure: bool) -> None:
    """Messages are timed from what they answer; rows are openings and balance; page, files and objectives have them."""
    with serving(tmp_path, secure) as target:
        made = run(conversations(target), tmp_path / "runs")
    measured = made.run.measurement()
    assert made.document["totals"]["tally"]["due"] == sum(count.due for count in measured.counts)
    rows = [
        row
        for batch in made.run.rows()
        for row in zip(batch["endpoint"], batch["outcome"], batch["status"], strict=True)
    ]
    assert len(rows) == sum(count.due for count in measured.counts) > 10
    assert {(str(endpoint), int(outcome)) for endpoint, outcome, _ in rows if outcome != Outcome.ABORTED} == {
        (name, 0) for name in ("EVENTS /stream", "all of it", "by text", "by time", "WS /chat")
    }
    assert {int(status) for endpoint, _, status in rows if endpoint == "WS /chat"} == {101}
    with open(made.run.path / "messages.csv", newline="") as file:
        table = {line["message"]: line for line in csv.DictReader(file) if not line["stage"]}
    ok = {name: int(line["ok"]) for name, line in table.items()}
    done = {name: ok[f"{name} > whole"] for name in ("EVENTS /stream", "all of it", "by text", "by time", "WS /chat")}
    assert min(done.values()) >= 1
    assert ok["EVENTS /stream > first"] >= done["EVENTS /stream"]
    assert ok["EVENTS /stream > next"] >= 2 * done["EVENTS /stream"]
    assert ok["all of it > next"] >= 4 * done["all of it"]
    assert done["by text"] <= ok["by text > next"] <= done["by text"] + 3
    assert ok["WS /chat > welcome"] >= ok["WS /chat > reply 2"] >= done["WS /chat"]
    assert ok["WS /chat > heard"] >= done["WS /chat"]
    assert float(table["EVENTS /stream > first"]["min_ms"]) >= 40
    assert float(table["EVENTS /stream > next"]["mean_ms"]) >= 5
    assert float(table["WS /chat > reply 2"]["min_ms"]) >= 25
    assert float(table["WS /chat > whole"]["min_ms"]) >= 130
    page = (made.run.path / "report.html").read_text()
    summary = (made.run.path / "summary.md").read_text()
    assert "WS /chat &gt; welcome" in page and "EVENTS /stream &gt; first" in page
    assert "EVENTS /stream > first" in summary
    verdicts = {item["text"]: item["verdict"] for item in made.document["objectives"]}
    assert verdicts.keys() == {"WS /chat > welcome: p95 < 10 s", "EVENTS /stream > first: p50 < 1 ms"}
    assert "met" not in verdicts["EVENTS /stream > first: p50 < 1 ms"].split()


@needs_native
def test_binary_messages_go_and_come_as_bytes(tmp_path: Path) -> None:
    """What base64 stands for is what arrives, whatever bytes those are; a size and a text in it are expected."""
    sent = bytes(range(256)) + b"\xff{{user}}"
    talk = [
        {"send_base64": base64.b64encode(sent).decode()},
        {"expect": {"size": f"{2 * len(sent)}B", "contains": "{"}},
    ]
    with serving(tmp_path, False) as target:
        steps = [{"websocket": "/binary", "messages": talk}]
        load = {"model": "closed", "stages": [{"users": 1, "for": "300ms"}]}
        made = run({"target": target, "scenarios": {"talk": {"steps": steps}}, "workload": load}, tmp_path / "runs")
    tally = made.document["totals"]["tally"]
    assert tally["ok"] > 0 and tally["ok"] + tally["aborted"] == tally["due"], tally


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"messages": [{"send_base64": "zz!"}]}, "is not base64"),
        ({"headers": {"Sec-WebSocket-Extensions": "permessage-deflate"}}, "compression and other extensions"),
        ({"headers": {"sec-websocket-key": "x"}}, "each user's key is made"),
    ],
)
def test_what_a_websocket_cannot_do_is_said(step: dict[str, Any], said: str) -> None:
    """In one sentence that names the place."""
    plan = {"target": "http://h", "scenarios": {"a": {"steps": [{"websocket": "/", **step}]}}}
    with pytest.raises(PlanError, match=said):
        plan_from_data(plan, "a plan")


@needs_native
@pytest.mark.slow
def test_refusals_have_their_status_and_their_kind(tmp_path: Path) -> None:
    """A WebSocket that is closed before it is accepted, a path that speaks none, and an answer that is no stream."""
    with serving(tmp_path, False) as target:
        steps = [
            {"websocket": "/closed"},
            {"websocket": "/nowhere"},
            {"websocket": "/plain"},
            {"events": "/plain"},
            {"events": "/nowhere"},
            {"events": "/stream", "name": "more", "until": 99},
            {"events": "/stream", "name": "slow", "until": 99, "timeout": "70ms"},
        ]
        data = {**conversations(target), "scenarios": {"talk": {"steps": steps}}, "slo": []}
        made = run(data, tmp_path / "runs")
    wrong = {(item["endpoint"], item["kind"]) for item in made.document["errors"]}
    assert {
        ("WS /closed", "status 403"),
        ("WS /nowhere", "status 403"),
        ("EVENTS /plain", "not_events"),
        ("EVENTS /nowhere", "status 404"),
        ("more", "closed_early"),
        ("slow", "message_timeout"),
    } <= wrong
    assert {kind for endpoint, kind in wrong if endpoint == "WS /plain"} <= {
        *("status 403", "status 200", "status 404"),
        "stale_connection",  # the server closed it behind its refusal, and did not say so
    }


def test_plans_with_conversations_are_plans() -> None:
    """Written and read back they are the same; endpoints and messages have names; plans without keep their hash."""
    plan = plan_from_data(conversations("http://127.0.0.1:1"), "a plan")
    assert parse_plan(dump_plan(plan), "plan.yaml") == plan
    assert plan.endpoints == ("EVENTS /stream", "all of it", "by text", "by time", "WS /chat")
    steps = plan.scenarios["talk"].steps
    assert [step.method for step in steps] == ["GET", "POST", "GET", "GET", "GET"]
    names = ("welcome", "", "reply 2", "heard", "", "whole")
    assert steps[4].message_names == tuple(f"WS /chat > {name}" if name else "" for name in names)
    plain = plan_from_data({"target": "http://127.0.0.1:1", "scenarios": {"a": {"steps": [{"get": "/"}]}}}, "x")
    assert plain.hash == "2be586e2e091cff3", "as before there were conversations"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"get": "/", "until": 3}, "until goes with events"),
        ({"events": "/", "messages": []}, "messages goes with websocket"),
        ({"events": "/", "get": "/"}, "a step is one request"),
        ({"events": "/", "until": 0}, "at least 1"),
        ({"events": "/", "until": {}}, "write a number of messages, a text"),
        ({"events": "/", "until": {"time": 0}}, "lasts longer than nothing"),
        ({"events": "/", "until": {"text": "{{nobody}}"}}, "nothing in scenario"),
        ({"events": "/", "check": {"body": "x"}}, "has no body to check"),
        ({"events": "/", "extract": {"a": "$.b"}}, "has no body to extract from"),
        ({"websocket": "/", "body": "x"}, "begins without a body"),
        ({"websocket": "/", "check": {"status": 200}}, "begins with status 101"),
        ({"websocket": "/", "messages": [{}]}, "write exactly one of send"),
        ({"websocket": "/", "messages": [{"send": "a", "listen": "1s"}]}, "write exactly one of send"),
        ({"websocket": "/", "messages": [{"send": "{{nobody}}"}]}, "nothing in scenario"),
        ({"websocket": "/", "messages": [{"expect": {"json": {"a": 1}}}]}, "a JSONPath begins with"),
        ({"websocket": "/", "messages": [{"expect": {"regex": "("}}]}, "not a regular expression"),
        (
            {"websocket": "/", "messages": [{"expect": {"extract": {"a": {"cookie": "b"}}}}]},
            "neither headers nor cookies",
        ),
        ({"websocket": "/", "messages": [{"close": 1006}]}, "no code that a client closes with"),
        ({"websocket": "/", "messages": [{"listen": 0}]}, "listening lasts longer"),
    ],
)
def test_what_is_no_conversation_is_refused(step: dict[str, Any], said: str) -> None:
    """With the sentence that says why."""
    with pytest.raises(PlanError, match=said):
        plan_from_data({"target": "http://127.0.0.1:1", "scenarios": {"a": {"steps": [step]}}}, "a plan")


def test_who_cannot_talk_says_so() -> None:
    """The greenlets of the Locust engine, and the scripted one."""
    plan = plan_from_data(conversations("http://127.0.0.1:1"), "a plan")
    settings = Settings("r", 0, plan.load())
    assert "does more than go through its steps" in (Scripted().refusal(plan, settings) or "")
    refusal = LocustEngine(native=False).refusal(plan, settings)
    assert refusal is not None and "events" in refusal


@needs_native
def test_the_look_beforehand_holds_conversations(tmp_path: Path) -> None:
    """As the load will, with what each brings for the next; a conversation that only waits does not hold it up."""
    with serving(tmp_path, secure=True) as target:
        told = conversations(target)
        steps = told["scenarios"]["talk"]["steps"]
        steps[-1]["messages"][3] = {"listen": "10m"}
        steps += [
            {"get": "/plain?{{room}}"},
            {"websocket": "/closed", "messages": []},
        ]
        told["scenarios"]["talk"]["think_time"] = "10m"
        found = preflight.check(plan_from_data(told, "a plan"), ["127.0.0.1"], {})
    by_name = {probe.endpoint: probe for probe in found.probes}
    assert len(by_name) == len(steps)
    assert {probe.endpoint for probe in found.probes if probe.outcome is not Outcome.OK} == {"WS /closed"}
    assert by_name["GET /plain"].url.endswith("/plain?r0")
    assert by_name["WS /chat"].status == 101
    said = [problem.sentence for problem in found.problems]
    assert len(said) == 1 and said[0].startswith("WS /closed answers 403: what would be measured is the login wall."), (
        said
    )


@needs_native
def test_the_look_says_what_it_did_not_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What goes on, what nothing led to, what only an engine speaks that is not there: each one line, none fatal."""
    quiet = {"websocket": "/chat?n=1", "messages": [{"expect": {"contains": ["nothing says this"], "timeout": "5m"}}]}
    led = [{"get": "/plain", "extract": {"id": "$.id"}}, {"events": "/{{id}}"}]
    with serving(tmp_path, secure=False) as target:
        told = {"target": target, "timeout": "5m", "scenarios": {"breaks": {"steps": led}}}
        breaks = plan_from_data(told, "a plan")
        found = preflight.check(breaks, ["127.0.0.1"], {})
        monkeypatch.setattr(preflight, "LONGEST_S", 8.0)
        goes_on = preflight.check(
            plan_from_data({**told, "scenarios": {"waits": {"steps": [quiet]}}}, "a plan"), ["127.0.0.1"], {}
        )
        monkeypatch.setattr(preflight.native, "available", lambda: "it is not built")
        absent = preflight.check(breaks, ["127.0.0.1"], {})
    assert [problem.sentence for problem in (*found.problems, *goes_on.problems, *absent.problems)] == [
        "EVENTS /{id} was not tried: GET /plain before it did not answer as the plan wants.",
        "GET /plain does not answer as the plan wants: "
        "a later step needs what this answer did not contain (extract_missing).",
        "WS /chat was not looked at to its end: it is not over after 8 s.",
        "breaks was not looked at: only the native engine speaks its conversations.",
    ]
    assert not any(problem.fatal for look in (found, goes_on, absent) for problem in look.problems)
    assert absent.sentence == "the target accepts connections; what it answers was not looked at"
