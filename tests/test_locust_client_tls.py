"""Over TLS, our clients trust and refuse what the stock clients do."""

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

pytest.importorskip("surgeline._engine", reason="the native engine is not built")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"secret")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """An HTTPS server whose authority is in `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.server_address[1]}"
    listener.shutdown()
    listener.server_close()
    thread.join()


ASK = """
import json, sys
import locust
from locust.env import Environment
kind, url, ca = sys.argv[1:]
if kind == "native":
    from surgeline.locust import FastHttpUser, HttpUser
else:
    from locust import FastHttpUser, HttpUser
told = []
def show(response):
    error = getattr(response, "error", None)
    told.append([response.status_code, response.text, type(error).__name__])
class Plain(HttpUser):
    abstract, host = True, url
class Fast(FastHttpUser):
    abstract, host = True, url
class Careful(Fast):
    insecure = False
environment = Environment()
events = []
environment.events.request.add_listener(lambda exception, **_: events.append(type(exception).__name__))
user = Plain(environment)
show(user.client.get("/"))
show(user.client.get("/", verify=False))
show(user.client.get("/", verify=ca))
user.client.verify = ca
show(user.client.get("/"))
show(Fast(environment).client.get("/"))
show(Careful(environment).client.get("/"))
open_now = -1
if kind == "native":
    from surgeline.locust.native import lane
    open_now = lane().client.connections
print(json.dumps([told, events, open_now]))
"""


@pytest.mark.timeout(120)
def test_certificates_are_judged_as_by_the_stock_clients(server: str, tmp_path: Path) -> None:
    """Unknown authority, no verification, the authority as a file; FastHttpUser as it is and with `insecure` off."""
    shown = []
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    for kind in ("stock", "native"):
        done = subprocess.run(
            [sys.executable, "-c", ASK, kind, server, str(tmp_path / "ca.pem")],
            env=here,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        shown.append(json.loads(done.stdout))
    assert shown[1][:2] == shown[0][:2]
    assert shown[1][2] == 3  # without verification (two users), and with the authority
    assert [status for status, *_ in shown[1][0]] == [0, 200, 200, 200, 200, 0]
