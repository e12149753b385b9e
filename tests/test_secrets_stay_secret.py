"""What the environment hands in reaches the target, and no file of ours."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgeline.engines.native import available

SECRET = 'q7 "Zeta"&canary'
FORMS = (SECRET, "q7%20%22Zeta%22%26canary", 'q7 \\"Zeta\\"&canary', "q7+%22Zeta%22%26canary")


class _Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked, headers and all, as careless APIs do; every third answer is a 500."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str]] = []  # noqa: RUF012  # one server per test module
    count = 0

    def do_POST(self) -> None:
        """Echoes."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        type(self).asked.append((self.path, str(self.headers) + body.decode()))
        type(self).count += 1
        answer = f"{self.path}\n{self.headers}\n".encode() + body
        self.send_response(500 if type(self).count % 3 == 0 else 200)
        self.send_header("x-you-said", self.headers.get("x-key", ""))
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The address of a server that repeats whatever it is told."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            "native", marks=pytest.mark.skipif(available() is not None, reason="the native engine is not built here")
        ),
        "locust",
    ],
)
def test_no_file_of_a_run_holds_a_secret(tmp_path: Path, echo: str, engine: str) -> None:
    """
    A secret goes out in a path, a header, a body and a Basic header, and comes back in bodies, headers and failures.
    The target sees it; every byte that the run leaves, its terminal output included, is free of it in any form.
    """
    (tmp_path / "plan.yaml").write_text(
        f"target: {echo}\n"
        'headers: {x-key: "{{env.SHOP_SECRET}}"}\n'
        'auth: {basic: "bob:{{env.SHOP_SECRET}}"}\n'
        "scenarios:\n"
        "  all:\n"
        "    steps:\n"
        '      - post: "/a/{{env.SHOP_SECRET}}?q={{env.SHOP_SECRET}}"\n'
        "        name: POST /a\n"
        '        json: {password: "{{env.SHOP_SECRET}}"}\n'
        "workload: {model: closed, stages: [{users: 3, for: 2s}]}\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "surgeline",
            "run",
            "plan.yaml",
            "--engine",
            engine,
            "--ui",
            "plain",
            "--no-abort",
            "--no-preflight",
        ],
        cwd=tmp_path,
        env={**os.environ, "SHOP_SECRET": SECRET},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert any(FORMS[1] in path and SECRET in said for path, said in _Echo.asked), "the target was told the secret"
    basic = "Ym9iOnE3ICJaZXRhIiZjYW5hcnk="
    assert any(basic in said for _, said in _Echo.asked)
    files = [path for path in (tmp_path / "surgeline-runs").rglob("*") if path.is_file()]
    assert len(files) > 10
    leaks = [f"{path.name}: {form}" for path in files for form in (*FORMS, basic) if form.encode() in path.read_bytes()]
    assert leaks == []
    assert not any(form in done.stdout + done.stderr for form in (*FORMS, basic))


def test_parquet_files_are_searched_uncompressed(tmp_path: Path, echo: str) -> None:
    """What `requests.csv` shows is what `samples.parquet` holds, so a search of the text covers the compressed file."""
    import duckdb

    if available() is not None:
        pytest.skip("the native engine is not built here")
    (tmp_path / "plan.yaml").write_text(
        f"target: {echo}\n"
        "scenarios: {all: {steps: [{post: '/b/{{env.SHOP_SECRET}}', name: POST /b}]}}\n"
        "workload: {model: closed, stages: [{users: 1, for: 1s}]}\n"
    )
    subprocess.run(
        [sys.executable, "-m", "surgeline", "run", "plan.yaml", "--ui", "none", "--no-preflight"],
        cwd=tmp_path,
        env={**os.environ, "SHOP_SECRET": SECRET},
        capture_output=True,
        timeout=90,
        check=True,
    )
    samples = next((tmp_path / "surgeline-runs").rglob("samples.parquet"))
    urls = {row[0] for row in duckdb.execute("select distinct url from read_parquet(?)", [str(samples)]).fetchall()}
    assert urls == {f"{echo}/b/***"}
