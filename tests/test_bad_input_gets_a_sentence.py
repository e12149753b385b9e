"""Whatever a user gets wrong at the command line: one sentence, the right exit code, no traceback, nothing measured."""

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distributed import free_port

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def surgeline(tmp_path: Path) -> Command:
    """Runs the command line in an empty directory, off a terminal."""

    def call(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "surgeline", *arguments],
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: /status/404, /loop (redirects to itself), /me (401)."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers."""
        status, location = 200, None
        if self.path.startswith("/status/"):
            status = int(self.path.rsplit("/", 1)[1])
        elif self.path.startswith("/loop"):
            status, location = 302, "/loop"
        elif self.path.startswith("/me"):
            status = 401
        self.send_response(status)
        if location:
            self.send_header("location", location)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server whose answers are wrong on purpose."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()


def _refused(done: "subprocess.CompletedProcess[str]", code: int, *said: str) -> None:
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    for words in said:
        assert re.search(words, done.stderr), done.stderr


def test_a_target_that_is_down_is_said_to_be_down(surgeline: Command, tmp_path: Path) -> None:
    """Nothing is listening: exit 3, and no run directory is left behind."""
    _refused(surgeline("run", f"http://127.0.0.1:{free_port()}"), 3, "Nothing is listening")
    assert not (tmp_path / "surgeline-runs").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [("/status/404", "answers 404"), ("/me", "answers 401.*login wall"), ("/loop", "redirects without end")],
)
def test_a_wall_is_seen_before_the_load_starts(
    surgeline: Command, server: str, tmp_path: Path, path: str, said: str
) -> None:
    """A 404 everywhere, a login wall, a redirect loop: said before the load, exit 3, nothing measured."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"target: {server}\nscenarios: {{all: {{steps: [{{get: {path}}}]}}}}\n")
    _refused(surgeline("run", "plan.yaml"), 3, said, "Nothing was measured", "--anyway")
    assert not (tmp_path / "surgeline-runs").exists()


def test_a_public_address_needs_its_owners_consent(surgeline: Command) -> None:
    """Off a terminal nobody can be asked: exit 2 and the option to add, before any connection is made."""
    _refused(surgeline("run", "http://203.0.113.7/"), 2, "203.0.113.7", "--authorized")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target: http://127.0.0.1:1\nscenarios: {a: {stepz: [{get: /}]}}\n", r"plan.yaml:2.*stepz.*steps"),
        ("target: http://127.0.0.1:1\nscenarios: {a: {steps: [{get: 5}]}}\n", r"plan.yaml:2"),
        ("target: ftp://127.0.0.1\nscenarios: {a: {steps: [{get: /}]}}\n", r"plan.yaml:1.*ftp"),
        ("target: http://127.0.0.1:1\nscenarios: {a: {steps: [{get: /}]}}\nslo: p95 < 300\n", "no unit"),
        ("target: http://127.0.0.1:1\ntarget: http://127.0.0.1:2\n", r"plan.yaml:2"),
        ("- 1\n- 2\n", "plan.yaml:1"),
        ("", "plan.yaml"),
    ],
)
def test_a_wrong_plan_is_refused_with_its_line(surgeline: Command, tmp_path: Path, text: str, said: str) -> None:
    """Unknown key, wrong type, wrong unit, duplicate key, no plan at all: file, line, key, what is expected; exit 2."""
    (tmp_path / "plan.yaml").write_text(text)
    _refused(surgeline("run", "plan.yaml"), 2, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "no-such-file.yaml"), "no file no-such-file.yaml"),
        (("run", "http://127.0.0.1:1", "-u", "5", "-r", "5/s"), "-u and -r"),
        (("run", "http://127.0.0.1:1", "-t", "5s"), "need a load"),
        (("run", "http://127.0.0.1:1", "-r", "fast"), "not a rate"),
        (("run", "http://127.0.0.1:1", "-u", "0"), "users|-u"),
        (("run", "http://127.0.0.1:1", "--stages", "5 in 3s"), "not a stage"),
        (("run", "http://127.0.0.1:1", "-H", "nonsense"), "not a header"),
        (("compare", "main"), "main"),
        (("report", "nothing-there"), "nothing-there"),
        (("runs", "show", "last"), "no run"),
        (("explain", "latency.risng"), "latency.rising"),
        (("frobnicate",), "No such command"),
    ],
)
def test_wrong_arguments_are_refused(surgeline: Command, arguments: tuple[str, ...], said: str) -> None:
    """Exit 2, and a sentence that says what is wrong."""
    _refused(surgeline(*arguments), 2, said)


def test_a_rate_for_a_locustfile_is_refused_by_name(surgeline: Command, tmp_path: Path) -> None:
    """-r is the arrival rate; for a locustfile the sentence names --spawn-rate."""
    (tmp_path / "locustfile.py").write_text("")
    _refused(surgeline("run", "locustfile.py", "-r", "5"), 2, "--spawn-rate")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--timeout", "5s"), "--timeout goes with plans and URLs"),
        (("-k",), "--insecure goes with plans and URLs"),
        (("--max-in-flight", "5"), "--max-in-flight bounds plans"),
        (("--seed", "3"), "--seed draws the arrivals of plans"),
        (("--spawn-rate", "0"), "--spawn-rate 0 starts nobody"),
        (("--spawn-rate", "nan"), "--spawn-rate nan starts nobody"),
        (("-t", "0s"), "a run must last longer than nothing"),
    ],
)
def test_what_a_locustfile_would_not_heed_is_refused(
    surgeline: Command, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """An option that is taken and does nothing would be believed; nothing is asked of the target before."""
    (tmp_path / "locustfile.py").write_text("")
    _refused(surgeline("run", "locustfile.py", "--target", "http://127.0.0.1:1", *options), 2, said)


def test_users_per_second_are_a_locustfiles(surgeline: Command) -> None:
    """A URL's users are there at once, or after --ramp."""
    _refused(surgeline("run", "http://127.0.0.1:1", "-u", "5", "--spawn-rate", "1"), 2, "--ramp")


def test_a_secret_that_is_not_set_is_named(surgeline: Command, tmp_path: Path) -> None:
    """The plan's environment values are asked for by name before anything is sent."""
    (tmp_path / "plan.yaml").write_text(
        'target: http://127.0.0.1:1\nauth: {bearer: "{{env.SHOP_TOKEN}}"}\nscenarios: {a: {steps: [{get: /}]}}\n'
    )
    _refused(surgeline("run", "plan.yaml"), 2, "SHOP_TOKEN")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "http://127.0.0.1:1", "--stages", ""), "--stages is empty"),
        (("run", "http://127.0.0.1:1", "-r", ""), "-r is empty"),
        (("run", "http://127.0.0.1:1", "--", "--foo"), "locustfiles"),
    ],
)
def test_an_option_without_effect_is_refused(surgeline: Command, arguments: tuple[str, ...], said: str) -> None:
    """An empty text where a load was meant, or options for another engine: nothing runs with what was not meant."""
    _refused(surgeline(*arguments), 2, said)


def test_whoever_reads_only_the_beginning_is_served(tmp_path: Path) -> None:
    """`surgeline … | head` ends with 0: that the reader has gone is nobody's fault."""
    command = f"{sys.executable} -m surgeline schema plan | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_ascii_is_ascii_on_both_streams(surgeline: Command, server: str) -> None:
    """--ascii prints nothing else, neither in what is said beforehand nor in the result."""
    done = surgeline("run", server, "--stages", "1 for 1s", "--ascii", PYTHONIOENCODING="utf-8")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).isascii()
