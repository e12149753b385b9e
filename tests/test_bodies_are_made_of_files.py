"""What `multipart` and `body_file` send: the bytes of files, between texts, of any size."""

import email.parser
import email.policy
import hashlib
import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from surgeline import datafiles, preflight
from surgeline.engines import Settings, Unsupported
from surgeline.engines.locust import LocustEngine
from surgeline.engines.native import NativeEngine, available
from surgeline.plan import upload
from surgeline.plan.model import Plan
from surgeline.plan.problem import PlanError
from surgeline.plan.text import dump_plan, parse_plan, plan_from_data
from surgeline.samples import Outcome
from surgeline.store.journal import Segment
from told import Told, told_by

needs_native = pytest.mark.skipif(available() is not None, reason="the native engine is not built here")


def plan(*steps: dict[str, Any], target: str = "http://127.0.0.1:1", **more: Any) -> Plan:
    """A plan of one scenario."""
    return plan_from_data({"target": target, "scenarios": {"a": {"steps": list(steps)}}, **more}, "a plan")


@dataclass
class Kept:
    """What a server was sent: content type, transfer encoding and SHA-256 of each body, and the small ones whole."""

    url: str = ""
    heads: list[dict[str, str]] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A server of the standard library that reads whatever is sent."""
    found = Kept()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _take(self) -> None:
            digest, small = hashlib.sha256(), b""
            for piece in self._pieces():
                digest.update(piece)
                small = (small + piece)[:10_000_000]
            found.heads.append({name.lower(): value for name, value in self.headers.items()})
            found.hashes.append(digest.hexdigest())
            found.bodies.append(small)
            self.send_response(204)
            self.end_headers()

        do_POST = do_PUT = _take

        def _pieces(self) -> Iterator[bytes]:
            if "chunked" in self.headers.get("transfer-encoding", ""):
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return
            left = int(self.headers.get("content-length", 0))
            while left:
                piece = self.rfile.read(min(left, 1 << 20))
                left -= len(piece)
                yield piece

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def fields(head: dict[str, str], body: bytes) -> list[tuple[str, str | None, str | None, bytes]]:
    """Name, file name, content type and content of each part, as Python's own e-mail parser reads them."""
    text = f"content-type: {head['content-type']}\r\n\r\n".encode() + body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(text)
    return [
        (
            str(part.get_param("name", header="content-disposition")),
            part.get_filename(),
            part.get_content_type() if "content-type" in part else None,
            part.get_payload(decode=True),  # type: ignore[misc]  # bytes, of what is no message
        )
        for part in message.iter_parts()  # type: ignore[attr-defined]
    ]


def run(subject: Plan, folder: Path, place: Path) -> Told:
    """A whole run of the native engine."""
    subject, files = datafiles.attach_sent(subject, folder, "plan.yaml")
    journal = place / "journal"
    journal.mkdir()
    with Segment(journal) as sink:
        running = NativeEngine().start(subject, Settings("r", time.monotonic_ns(), None, sent_files=files), sink)
        ending = running.wait(60)
    assert ending is not None and ending.reason == "finished", ending
    told = told_by(journal, ending)
    assert len(told.rows) == told.due == told.sent
    return told


@needs_native
def test_forms_with_uploads_arrive_as_an_independent_parser_reads_them(tmp_path: Path, kept: Kept) -> None:
    """Fields, templates, several parts of one name, file names with quotes, types by ending and by word; from the
    engine and from the look beforehand alike."""
    (tmp_path / "in").mkdir()
    (tmp_path / "photo.JPG").write_bytes(bytes(range(256)))
    (tmp_path / "in" / "big.bin").write_bytes(b"\r\n--surgeline-" * 20_000)
    step = {
        "post": "/upload",
        "multipart": {
            "title": "ünique {{user}}",
            "count": 3,
            "photo": {"file": "photo.JPG"},
            "more": [{"file": "in/big.bin", "filename": 'a "b" {{text(3)}}.dat', "type": "application/x-own"}, "x"],
            "meta": {"text": '{"by": "{{who}}"}', "type": "application/json"},
        },
    }
    load = {"model": "closed", "stages": [{"users": 1, "for": "200ms"}]}
    subject = plan(step, target=kept.url, workload=load, variables={"who": 'a "name"'})
    told = run(subject, tmp_path, tmp_path)
    assert set(told.outcomes) == {Outcome.OK}
    held, files = datafiles.attach_sent(subject, tmp_path, "plan.yaml")
    seen = preflight.check(held, ["127.0.0.1"], {}, files=files)
    assert [probe.outcome for probe in seen.probes] == [Outcome.OK]
    assert len(kept.bodies) == len(told.rows) + 1
    for head, body in zip(kept.heads, kept.bodies, strict=True):
        title, count, photo, big, x, meta = fields(head, body)
        assert title[:3] == ("title", None, None) and title[3].decode() == "ünique 0"
        assert count == ("count", None, None, b"3")
        assert photo == ("photo", "photo.JPG", "image/jpeg", bytes(range(256)))
        assert big[0] == "more" and big[1] is not None and big[1].startswith("a %22b%22 ") and len(big[1]) == 17
        assert big[2:] == ("application/x-own", b"\r\n--surgeline-" * 20_000)
        assert x == ("more", None, None, b"x")
        assert meta == ("meta", None, "application/json", b'{"by": "a \\"name\\""}')
        assert head["content-length"] == str(len(body))
    assert len({head["content-type"] for head in kept.heads}) == 1, "the boundary is fixed"


@needs_native
def test_a_files_bytes_arrive_with_their_length_or_in_chunks(tmp_path: Path, kept: Kept) -> None:
    """Empty, small and large; the type is that of the ending, and a header of the step's own wins."""
    contents = {"empty.txt": b"", "small.json": b"{}", "large.bin": bytes(range(256)) * 20_000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    steps: list[dict[str, Any]] = []
    for name in contents:
        steps.append({"put": f"/{name}", "body_file": name})
        steps.append({"put": f"/{name}", "body_file": name, "transfer": "chunked", "headers": {"Content-Type": "x/y"}})
    load = {"model": "closed", "stages": [{"users": 1, "for": "10ms"}]}
    scenarios = {"a": {"once": steps[:-1], "steps": steps[-1:]}}
    subject = plan_from_data({"target": kept.url, "scenarios": scenarios, "workload": load}, "a plan")
    told = run(subject, tmp_path, tmp_path)
    assert set(told.outcomes) == {Outcome.OK}
    wanted = [hashlib.sha256(content).hexdigest() for content in contents.values() for _ in range(2)]
    assert kept.hashes[: len(wanted)] == wanted[: len(kept.hashes)]
    for number, head in enumerate(kept.heads[: len(told.rows)]):
        chunked = number % 2 == 1 or number >= len(wanted)
        assert ("transfer-encoding" in head, "content-length" in head) == (chunked, not chunked)
        kind = ["text/plain", "application/json", "application/octet-stream"][min(number // 2, 2)]
        assert head["content-type"] == ("x/y" if chunked else kind)


_MANY_USERS = """
import resource, sys, threading, time
from pathlib import Path
from surgeline import datafiles
from surgeline.engines import Settings
from surgeline.engines.native import NativeEngine, available
from surgeline.plan.text import plan_from_data
from surgeline.store.journal import Segment

home, target = Path(sys.argv[1]), sys.argv[2]
plan = plan_from_data({"target": target, "workload": {"model": "closed", "stages": [{"users": 12, "for": "100ms"}]},
                       "scenarios": {"a": {"steps": [{"put": "/", "body_file": "large.bin"}]}}}, "a plan")
plan, files = datafiles.attach_sent(plan, home, "plan.yaml")
(home / "journal").mkdir()
available()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Segment(home / "journal") as sink:
    settings = Settings("r", time.monotonic_ns(), None, sent_files=files, grace_ns=80 * 10**9)
    running = NativeEngine().start(plan, settings, sink)
    assert running.wait(90).reason == "finished"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@needs_native
@pytest.mark.slow
def test_no_user_holds_a_body(tmp_path: Path, kept: Kept) -> None:
    """Twelve users who send 16 MB each at once: the generator grows by less than one of their bodies."""
    with open(tmp_path / "large.bin", "wb") as large:
        large.truncate(16_000_000)
    child = [sys.executable, "-c", _MANY_USERS, str(tmp_path), kept.url]
    made = subprocess.run(child, capture_output=True, text=True, timeout=110)
    assert made.returncode == 0, made.stderr
    assert len(kept.hashes) >= 12 and len(set(kept.hashes)) == 1
    assert int(made.stdout) < 12_000, f"{made.stdout} KiB"


def test_only_the_plans_own_folder_is_sent(tmp_path: Path) -> None:
    """No parent folder, no absolute path, no link that leads out, nothing that is not there."""
    for file in ("../a.bin", "/etc/passwd", "a/../../b", "C:x", "a\\b", ""):
        with pytest.raises(PlanError, match=r"folder|beside the plan"):
            plan({"put": "/", "body_file": file})
        with pytest.raises(PlanError, match=r"folder|beside the plan"):
            plan({"put": "/", "multipart": {"a": {"file": file}}})
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_text("x")
    (home / "secret").symlink_to(tmp_path / "secret")
    for file, said in (("secret", "leads out of the plan's folder"), ("nowhere", "there is no file nowhere")):
        with pytest.raises(PlanError, match=said):
            datafiles.attach_sent(plan({"put": "/", "body_file": file}), home, "plan.yaml")
    with pytest.raises(PlanError, match="there is no folder"):
        datafiles.attach_sent(plan({"put": "/", "body_file": "x"}), None, "a URL")


def test_a_plan_carries_the_hashes_of_what_it_sends(tmp_path: Path) -> None:
    """Another file makes it another plan with another boundary; a plan written down with hashes is held to them."""
    (tmp_path / "a").write_text("one")
    steps = (
        {"put": "/", "body_file": "a"},
        {"post": "/", "multipart": {"f": {"file": "a"}, "g": ["x", {"file": "a"}]}},
    )
    one, files = datafiles.attach_sent(plan(*steps), tmp_path, "plan.yaml")
    assert one.hash != plan(*steps).hash
    assert set(one.sent_files.values()) == {hashlib.sha256(b"one").hexdigest()} and files["a"].size_bytes == 3
    kept = parse_plan(dump_plan(one), "plan.yaml")
    assert kept == one and datafiles.attach_sent(kept, tmp_path, "plan.yaml")[0] == one
    (tmp_path / "a").write_text("two")
    with pytest.raises(PlanError, match="a is not the file that the plan was run with"):
        datafiles.attach_sent(kept, tmp_path, "plan.yaml")
    other, _ = datafiles.attach_sent(plan(*steps), tmp_path, "plan.yaml")
    assert upload.boundary(one.scenarios["a"].steps[1]) != upload.boundary(other.scenarios["a"].steps[1])
    assert datafiles.attach_sent(plan({"get": "/"}), None, "a URL") == (plan({"get": "/"}), {})


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"body": "x", "body_file": "a"}, "a request has one body"),
        ({"body": "x", "transfer": "chunked"}, "only multipart and body_file are sent in chunks"),
        ({"body_file": "a", "transfer": "slow"}, "expected chunked"),
        ({"multipart": {}}, "must not be empty"),
        ({"multipart": {"a": []}}, "must not be empty"),
        ({"multipart": {"a\nb": "x"}}, "a field's name is one line"),
        ({"multipart": {"a{{b}}": "x"}}, "a template cannot stand in a field's name"),
        ({"multipart": {"a": {}}}, "write a text, or the name of a file"),
        ({"multipart": {"a": {"text": "x", "file": "y"}}}, "write a text, or the name of a file"),
        ({"multipart": {"a": {"text": "x", "filename": "y"}}}, "filename and sha256 go with a file"),
        ({"multipart": {"a": {"file": "x", "type": "no type"}}}, "is not a content type"),
        ({"multipart": {"a": {"file": "x", "filename": "{{nobody}}"}}}, "nothing in scenario"),
        ({"multipart": {"a": "{{nobody}}"}}, "nothing in scenario"),
        ({"multipart": {"a": "x"}, "headers": {"Content-Type": "multipart/form-data"}}, "names its boundary"),
    ],
)
def test_what_cannot_be_a_body_is_refused(step: dict[str, Any], said: str) -> None:
    """With the sentence that says why."""
    with pytest.raises(PlanError, match=said):
        plan({"post": "/", **step})


def test_who_cannot_send_files_says_so() -> None:
    """The greenlets of the Locust engine hold bodies in memory, each its own: they take no files."""
    subject = plan({"put": "/", "body_file": "a"}, workload={"model": "closed", "stages": [{"users": 1, "for": "1s"}]})
    settings = Settings("r", 0, None)
    assert "body_file" in (LocustEngine(native=False).refusal(subject, settings) or "")
    with pytest.raises(Unsupported, match="body_file"):
        LocustEngine(native=False).start(subject, settings, None)  # type: ignore[arg-type]  # it does not come to that
