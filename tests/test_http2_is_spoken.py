"""HTTP/2 against nginx, a server that is used everywhere: what a plan with `connection: {http: "2"}` does.

What servers do wrong is tested beside the engine, in `crates/engine/tests/it/http2.rs`.
"""

import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from distributed import free_port
from surgeline import preflight
from surgeline.engines import EngineError, Settings
from surgeline.engines.native import NativeEngine, available
from surgeline.plan.model import Plan
from surgeline.plan.problem import PlanError
from surgeline.plan.text import plan_from_data
from surgeline.samples import Outcome
from surgeline.store.journal import Segment
from told import Told, told_by

needs_native = pytest.mark.skipif(available() is not None, reason="the native engine is not built here")

_NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(_NGINX is None, reason="nginx is not installed (Debian: nginx-light)")

_CONFIGURATION = """
daemon off; worker_processes 1; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port} {options}; {tls} location / {{ return 200 "hello"; }} }}
}}
"""


@contextmanager
def nginx(folder: Path, options: str) -> Iterator[str]:
    """A server on a free port; its URL."""
    folder.mkdir()
    port = int(free_port())
    tls = ""
    if "ssl" in options:
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
        tls = "ssl_certificate both.pem; ssl_certificate_key both.pem;"
    text = _CONFIGURATION.format(folder=folder, port=port, options=options, tls=tls)
    (folder / "nginx.conf").write_text(text)
    assert _NGINX is not None
    with subprocess.Popen([_NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as server:
        try:
            until = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert time.monotonic() < until, "nginx does not listen"
                    time.sleep(0.02)
            yield f"http{'s' if tls else ''}://127.0.0.1:{port}"
        finally:
            server.terminate()


def plan(target: str, connection: dict[str, Any], **more: Any) -> Plan:
    """A plan of one step."""
    load = {"model": "closed", "stages": [{"users": 12, "for": "300ms"}]}
    flow = {"a": {"steps": [{"get": "/", "check": {"body": "hello"}}]}}
    whole = {"target": target, "connection": connection, "scenarios": flow, "workload": load, "insecure": True}
    return plan_from_data({**whole, **more}, "a plan")


def run(subject: Plan, place: Path) -> Told:
    """A whole run of the native engine."""
    journal = place / "journal"
    journal.mkdir(parents=True)
    with Segment(journal) as sink:
        running = NativeEngine().start(subject, Settings("r", time.monotonic_ns(), None), sink)
        ending = running.wait(60)
    assert ending is not None and ending.reason == "finished", ending
    return told_by(journal, ending)


@needs_native
@needs_nginx
@pytest.mark.parametrize("options", ["http2", "ssl http2"])
def test_users_share_connections_of_ten_streams(tmp_path: Path, options: str) -> None:
    """Twelve users need two connections, by default; each row says which protocol it was."""
    with nginx(tmp_path / "nginx", options) as url:
        told = run(plan(url, {"http": 2}), tmp_path)
    assert set(told.outcomes) == {Outcome.OK}
    assert len(told.rows) > 20
    assert {row["protocol"] for row in told.rows} == {"HTTP/2"}
    opened = [row for row in told.rows if row["reused"] == 0]
    assert len(opened) == 2
    assert all((row["tls_ns"] > 0) == ("ssl" in options) for row in opened)
    assert {row["connect_ns"] for row in told.rows if row["reused"] == 1} == {-1}


@needs_native
@needs_nginx
def test_arrivals_share_a_pool(tmp_path: Path) -> None:
    """An open load opens another connection only where all have as many requests under way as they may."""
    load = {"model": "open", "stages": [{"rate": "200/s", "for": "500ms"}]}
    with nginx(tmp_path / "nginx", "http2") as url:
        told = run(plan(url, {"http": "2", "streams": 100}, workload=load), tmp_path)
    assert set(told.outcomes) == {Outcome.OK}
    assert sum(row["reused"] == 0 for row in told.rows) == 1


@needs_native
@needs_nginx
def test_the_look_beforehand_speaks_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also to a server that speaks nothing else, as nginx in the clear; without the engine it says that it cannot."""
    for place, options in (("clear", "http2"), ("tls", "ssl http2")):
        with nginx(tmp_path / place, options) as url, monkeypatch.context() as patch:
            flow = {
                "a": {"steps": [{"get": "/", "check": {"body": "hello"}}, {"get": "/b", "check": {"body": "hallo"}}]}
            }
            subject = plan(url, {"http": "2"}, scenarios=flow)
            found = preflight.check(subject, ["127.0.0.1"], {})
            patch.setattr(preflight.native, "available", lambda: "it is not built")
            absent = preflight.check(subject, ["127.0.0.1"], {})
        assert [(probe.status, probe.outcome) for probe in found.probes] == [(200, Outcome.OK), (200, Outcome.FAILURE)]
        assert [problem.sentence for problem in found.problems] == [
            "GET /b does not answer as the plan wants: check body contains hallo."
        ]
        assert [(problem.sentence, problem.fatal) for problem in absent.problems] == [
            ("a was not looked at: only the native engine speaks HTTP/2.", False)
        ]


@needs_nginx
def test_a_certificate_is_doubted_beforehand(tmp_path: Path) -> None:
    """With HTTP/2 as without: the sentence is about the certificate, and names the two ways out."""
    with nginx(tmp_path / "tls", "ssl http2") as url, pytest.raises(preflight.Unreachable, match="--cacert"):
        preflight.check(plan(url, {"http": "2"}, insecure=False), ["127.0.0.1"], {})


@needs_nginx
def test_a_server_without_http2_is_told_beforehand(tmp_path: Path) -> None:
    """Every request would be the same error: that is said before the load, and the load is not sent."""
    with nginx(tmp_path / "tls", "ssl") as url:
        found = preflight.check(plan(url, {"http": "2"}), ["127.0.0.1"], {})
    said = [problem for problem in found.problems if problem.fatal]
    assert [problem.sentence for problem in said] == [
        f"{url} does not speak HTTP/2, which the plan asks for with `connection: {{http: 2}}`."
    ]


def test_a_server_of_the_standard_library_is_told_beforehand() -> None:
    """Also where there is no TLS in which it could say so."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        found = preflight.check(plan(url, {"http": "2"}), ["127.0.0.1"], {})
        server.shutdown()
    assert any(problem.fatal and "does not speak HTTP/2" in problem.sentence for problem in found.problems)


def test_what_http2_does_not_go_with_is_said() -> None:
    """A plan that asks for both gets a sentence that says which to leave out."""
    said = "HTTP/2 goes through a proxy to https targets only; leave http or proxy out"
    with pytest.raises(PlanError, match=said):
        plan("http://127.0.0.1:1", {"http": "2", "proxy": "http://127.0.0.1:2"})
    assert plan("https://127.0.0.1:1", {"http": "2", "proxy": "http://127.0.0.1:2"}).connection.http2_streams == 10
    load = {"model": "open", "stages": [{"rate": "2/s", "for": "500ms"}]}
    with pytest.raises(PlanError, match="share the connections of a pool"):
        plan("http://127.0.0.1:1", {"http": "2", "share": "user"}, workload=load)
    with pytest.raises(PlanError, match="is a conversation"):
        plan("http://127.0.0.1:1", {"http": "2"}, scenarios={"a": {"steps": [{"websocket": "/", "messages": []}]}})
    with pytest.raises(PlanError, match="always kept"):
        plan("http://127.0.0.1:1", {"http": "2", "keep_alive": 100})
    with pytest.raises(PlanError, match="streams belong to HTTP/2"):
        plan("http://127.0.0.1:1", {"streams": 100})


@needs_native
def test_loads_of_the_command_line_are_held_to_it_too(tmp_path: Path) -> None:
    """A plan without a load of its own learns at the start that its load does not fit."""
    subject = plan("http://127.0.0.1:1", {"http": "2", "share": "user"}, workload=None)
    load = plan("http://127.0.0.1:1", {}, workload={"model": "open", "stages": [{"rate": "2/s", "for": "500ms"}]})
    (tmp_path / "journal").mkdir()
    with Segment(tmp_path / "journal") as sink, pytest.raises(EngineError, match="HTTP/2 does not go with"):
        NativeEngine().start(subject, Settings("r", time.monotonic_ns(), load.load()), sink)
