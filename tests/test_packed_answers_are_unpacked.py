"""Content codings: undone where a check looks into a body, by Rust and by Python alike, and never beyond a limit."""

import contextlib
import gzip
import http.server
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgeline.engines import Settings
from surgeline.engines.native import NativeEngine, available
from surgeline.plan import evaluate
from surgeline.plan.decode import BadEncoding, _zstd_module, undo
from surgeline.plan.model import Step
from surgeline.plan.text import plan_from_data
from surgeline.store.journal import Segment
from told import told_by

zstd = _zstd_module()
BODY = b'{"id": 51, "text": "' + b"hello " * 500 + b'"}'


def raw(body: bytes) -> bytes:
    """Deflate without the wrapping of zlib."""
    state = zlib.compressobj(wbits=-15)
    return state.compress(body) + state.flush()


PACKING: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def vectors() -> dict[str, tuple[str, bytes, bool]]:
    """Codings and bodies, by name, and whether they are what they say."""
    found: dict[str, tuple[str, bytes, bool]] = {"raw": ("deflate", raw(BODY), True)}
    bomb = bytes(20 << 20)
    for coding, pack in PACKING.items():
        packed = pack(BODY)
        found |= {
            coding: (coding, packed, True),
            f"{coding} in capitals": (f" {coding.upper()} ", packed, True),
            f"{coding} cut": (coding, packed[: len(packed) // 2], False),
            f"{coding} without its end": (coding, packed[:-1], False),
            f"{coding} and more": (coding, packed + b"\x01more", False),
            f"{coding} that is none": (coding, BODY, False),
            f"{coding} bomb": (coding, pack(bomb), False),
            f"{coding} bomb in a bomb": (f"{coding}, gzip", gzip.compress(pack(bomb)), False),
            f"{coding} in {coding}": (f"{coding}, {coding}", pack(pack(BODY)), True),
        }
    checked = bytearray(gzip.compress(BODY, mtime=0))
    checked[-8] ^= 1
    summed = bytearray(zlib.compress(BODY))
    summed[-1] ^= 1
    proved = bytearray(zstd.compress(BODY, options={zstd.CompressionParameter.checksum_flag: 1}))
    found["zstd with a sum"] = ("zstd", bytes(proved), True)
    proved[-1] ^= 1
    return found | {
        "gzip with a wrong sum": ("gzip", bytes(checked), False),
        "deflate with a wrong sum": ("deflate", bytes(summed), False),
        "zstd with a wrong sum": ("zstd", bytes(proved), False),
        "gzip of two members": ("gzip", gzip.compress(BODY[:99]) + gzip.compress(BODY[99:]), True),
        "zstd of two frames": ("zstd", zstd.compress(BODY[:99]) + zstd.compress(BODY[99:]), True),
        "zstd with a frame to skip": ("zstd", b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd.compress(BODY), True),
        "zstd with a window of 2 GB": ("zstd", b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00", False),
        "nothing packed": ("identity", BODY, True),
        "unknown": ("compress", BODY, False),
        "four times": ("gzip, gzip, gzip, gzip", PACKING["gzip"](b""), False),
        "as two headers": ("gzip\r\nContent-Encoding: br", brotli.compress(gzip.compress(BODY)), True),
    }


VECTORS = vectors()


def headers(coding: str) -> list[tuple[str, str]]:
    """As an answer has them."""
    return [("Content-Encoding", value) for value in coding.split("\r\nContent-Encoding: ")]


@pytest.mark.parametrize("name", VECTORS)
def test_python_undoes_what_is_whole_and_nothing_else(name: str) -> None:
    """Every coding and every way in which one can be wrong, a bomb among them."""
    coding, body, whole = VECTORS[name]
    if whole:
        assert undo(headers(coding), body, evaluate.MOST_DECODED_BYTES) == BODY
    else:
        with pytest.raises(BadEncoding):
            undo(headers(coding), body, evaluate.MOST_DECODED_BYTES)


@given(st.sampled_from(sorted(PACKING)), st.integers(0), st.lists(st.tuples(st.integers(0), st.integers(0, 255))))
@settings(max_examples=100, deadline=None)
def test_broken_bodies_raise_one_error(coding: str, cut: int, changes: list[tuple[int, int]]) -> None:
    """However a packed body is changed or cut."""
    body = bytearray(PACKING[coding](BODY))
    for at, byte in changes:
        body[at % len(body)] = byte
    with contextlib.suppress(BadEncoding):
        undo(headers(coding), bytes(body[: len(body) - cut % len(body)]), 1 << 20)


@dataclass
class Packing:
    """A server that answers `/NAME` with the vector of that name."""

    url: str
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Packing]:
    """It, while the test lasts."""
    packing = Packing("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            packing.asked.append(self.path)
            coding, body, _ = VECTORS[self.path[1:].replace("%20", " ")]
            self.send_response(200)
            for name, value in headers(coding):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        packing.url = f"http://127.0.0.1:{serving.server_port}"
        yield packing
        serving.shutdown()


@pytest.mark.skipif(available() is not None, reason="the native engine is not built here")
def test_rust_undoes_what_python_undoes(server: Packing, tmp_path: Path) -> None:
    """Each vector over a socket: looked into, it is right or `bad_encoding`, as Python says; not looked into, it is
    right whatever it is."""
    steps: list[dict[str, Any]] = []
    for name in VECTORS:
        path = f"/{name.replace(' ', '%20')}"
        steps.append({"get": path, "name": name, "check": {"json": {"$.id": 51}}})
        steps.append({"get": path, "name": f"{name}, unseen"})
    plan = plan_from_data(
        {
            "target": server.url,
            "scenarios": {"a": {"steps": steps}},
            "workload": {"model": "closed", "stages": [{"users": 1, "for": "1m"}]},
        },
        "a plan",
    )
    journal = tmp_path / "journal"
    journal.mkdir()
    with Segment(journal) as sink:
        running = NativeEngine().start(plan, Settings("r", time.monotonic_ns(), None), sink)
        while len(server.asked) <= len(steps):
            assert running.wait(0.05) is None
        running.stop(5.0)
        ending = running.wait(60)
    assert ending is not None
    rows = told_by(journal, ending).rows
    seen = {row["endpoint"]: row["error"] for row in rows}
    for name in seen:
        coding, body, whole = VECTORS[name.removesuffix(", unseen")]
        if name.endswith(", unseen"):
            assert seen[name] == "", name
            continue
        assert seen[name] == ("" if whole else "bad_encoding"), name
        step = plan.scenarios["a"].steps[0]
        answer = evaluate.Answer(200, headers(coding), body, 1)
        scope = evaluate.Scope({}, random.Random(1), time.time)
        assert evaluate.judge(step, answer, scope) == seen[name]
    assert len(seen) == 2 * len(VECTORS)


def test_what_cannot_be_read_fails_in_its_turn() -> None:
    """Behind a wrong status, before what the body lacks; what is not looked into does not matter."""
    scope = evaluate.Scope({}, random.Random(1), time.time)
    broken = evaluate.Answer(500, headers("gzip"), b"no gzip", 1)
    fine = evaluate.Answer(200, headers("gzip"), b"no gzip", 1)
    looking = Step.model_validate({"get": "/", "check": {"body": "x"}, "extract": {"id": "$.id"}})
    assert evaluate.judge(looking, broken, scope) == "status 500"
    assert evaluate.judge(looking, fine, scope) == "bad_encoding"
    with pytest.raises(BadEncoding):
        evaluate.extract(looking, fine)
    assert evaluate.judge(Step.model_validate({"get": "/", "check": {"size": 7}}), fine, scope) == ""
