"""The preflight's requests are the load's: the target answers both alike, or the look was at something else."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from surgeline import preflight
from surgeline.engines import Settings
from surgeline.engines.native import NativeEngine, available
from surgeline.plan.text import plan_from_data
from surgeline.store.journal import Segment

pytestmark = pytest.mark.skipif(available() is not None, reason="the native engine is not built here")

BODY = b'{"id": "a:b/c", "own": {"k": [1]}}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: sid=7; Path=/\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Heard:
    """A server that writes down each request's bytes and answers it; `/loop` with a redirect."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.requests: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, made: socket.socket) -> None:
        with made, made.makefile("rb") as file:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = file.readline()
                    if not line:
                        return
                    head += line
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                self.requests.append(head + file.read(int(length[1]) if length else 0))
                moved = b"HTTP/1.1 302 Found\r\nLocation: /there:1?q=a%20b\r\nContent-Length: 0\r\n\r\n"
                made.sendall(moved if b"/moved" in head.split(b"\r\n")[0] else ANSWER)


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Such a server."""
    server = Heard()
    yield server
    server.listener.close()


def _with_length_last(request: bytes) -> bytes:
    """The length of a body that is filled in stands elsewhere, and is padded (RFC 9110 section 5.5)."""
    lengths = re.findall(rb"Content-Length: *(\d+)\r\n", request)
    head, body = re.sub(rb"Content-Length: *\d+\r\n", b"", request).split(b"\r\n\r\n", 1)
    return b"\r\n".join((head, *lengths, b"", body))


STEPS: list[dict[str, Any]] = [
    {"get": "/a:b/ü;p=1?q=a:b&r={{term}}"},
    {"get": "/first", "query": {"at": "12:30", "ünd": "{{term}}"}, "extract": {"id": "$.id", "own": "$.own"}},
    {"get": "/items/{{id}}", "headers": {"X-Id": "{{id}}", "user-agent": "mine/1", "X-Line": "{{lines}}"}},
    {"post": "/json", "json": {"id": "{{id}}", "quoted": "{{lines}}"}},
    {"post": "/raw", "body": '{"own": {{own}}, "id": "{{id}}"}', "headers": {"content-type": "application/json"}},
    {"post": "/form", "form": {"a b": "{{id}}", "at": "12:30"}},
    {"put": "/nothing"},
    {"post": "/moved", "json": {"id": "{{id}}"}},
    {"delete": "/items/{{id}}"},
]


@pytest.mark.parametrize("more", [{}, {"connection": {"keep_alive": False}, "auth": {"basic": "me:{{word}}"}}])
def test_the_look_beforehand_sends_the_bytes_of_the_load(tmp_path: Path, heard: Heard, more: dict[str, Any]) -> None:
    """Line for line and in the same order: request lines, headers, cookies, bodies, and what follows a redirect."""
    told = {
        "target": f"http://127.0.0.1:{heard.port}/base",
        "headers": {"X-Plan": "{{term}}", "Accept": "application/json"},
        "variables": {"term": "Käse & Brot:1", "lines": 'one\r\ntwo "x"', "word": "pass"},
        "scenarios": {"a": {"steps": STEPS}},
        "workload": {"model": "closed", "stages": [{"users": 1, "for": "1s"}]},
        **more,
    }
    plan = plan_from_data(told, "a plan")
    seen = preflight.check(plan, ["127.0.0.1"], {})
    assert not seen.problems and len(seen.probes) == len(STEPS), seen
    looked = heard.requests[:]
    heard.requests.clear()
    journal = tmp_path / "journal"
    journal.mkdir()
    with Segment(journal) as sink:
        settings = Settings("r", time.monotonic_ns(), None, user_agent=preflight.AGENT)
        running = NativeEngine().start(plan, settings, sink)
        assert running.wait(30) is not None
    sent = heard.requests[: len(looked)]
    assert [_with_length_last(request) for request in sent] == [_with_length_last(request) for request in looked]
    assert len(looked) == len(STEPS) + 1


def test_an_answer_that_drips_does_not_hold_the_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then for ever: the look ends when its time is over, and says why."""
    monkeypatch.setattr(preflight, "LONGEST_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            made, _ = listener.accept()
            made.close()
            made, _ = listener.accept()
            listener.close()
            with made:
                try:
                    while True:
                        made.sendall(b"HTTP/1.1 200 OK\r\n"[:1])
                        time.sleep(0.02)
                except OSError:
                    pass

        threading.Thread(target=drip, daemon=True).start()
        target = f"http://127.0.0.1:{listener.getsockname()[1]}"
        plan = plan_from_data({"target": target, "scenarios": {"a": {"steps": [{"get": "/"}]}}}, "a plan")
        with pytest.raises(preflight.Unreachable, match="has not come whole"):
            preflight.check(plan, ["127.0.0.1"], {})


def test_the_look_sends_cookies_where_they_belong() -> None:
    """By path and end, as the load does: one for another path stays away, one that was removed too."""
    asked: list[bytes] = []
    sets = b"Set-Cookie: all=1; Path=/\r\nSet-Cookie: there=2; Path=/there\r\nSet-Cookie: old=3; Max-Age=-1\r\n"

    def serve(listener: socket.socket) -> None:
        for _ in range(4):  # the first connection only asks whether one comes about
            made, _ = listener.accept()
            with made:
                asked.append(made.recv(4096))
                if asked[-1]:
                    made.sendall(b"HTTP/1.1 200 OK\r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n" % sets)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        steps = [{"get": "/login"}, {"get": "/here"}, {"get": "/there/x"}]
        told = {"target": f"http://127.0.0.1:{listener.getsockname()[1]}", "scenarios": {"a": {"steps": steps}}}
        preflight.check(plan_from_data(told, "a plan"), ["127.0.0.1"], {})
        thread.join(20)
    assert [re.findall(rb"Cookie: (.*)\r\n", request) for request in asked] == [
        *([], [], [b"all=1"], [b"there=2; all=1"]),
    ]
