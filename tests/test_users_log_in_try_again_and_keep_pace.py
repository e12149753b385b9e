"""What a user of the native engine does besides sending one step after the other, against a server that counts.

Logging in once, trying again after a pause, keeping a pace, pausing by a distribution, and being timed over several
steps: each attempt is a row of its own, and the books balance.
"""

import itertools
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from surgeline.engines import Engine, Settings, Unsupported
from surgeline.engines.locust import LocustEngine
from surgeline.engines.native import NativeEngine, available
from surgeline.engines.scripted import Scripted
from surgeline.plan.text import plan_from_data
from surgeline.report.tables import transactions_csv
from surgeline.samples import Histogram, Outcome, Window
from surgeline.store.journal import Journal, Segment
from surgeline.store.transactions import lines, read, windows_in
from told import Told, told_by

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(available() is not None, reason="the native engine is not built here"),
]


class Shop(ThreadingHTTPServer):
    """Gives each login a token of its own; `/flaky/KEY/N` fails N times, then answers; `/slow/MS` takes its time."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error of a server's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Shop

    def do_GET(self) -> None:
        """Answers by path."""
        with self.server.lock:
            before = self.server.asked[self.path]
            self.server.asked[self.path] += 1
        word, _, rest = self.path.lstrip("/").partition("/")
        status, body = 200, b"{}"
        if word == "login":
            body = json.dumps({"token": f"t{before}"}).encode()
        elif word == "flaky":
            status = 503 if before < int(rest.rpartition("/")[2]) else 200
        elif word == "slow":
            time.sleep(int(rest) / 1000)
        elif word == "gone":
            status = 500
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:  # type: ignore[override]  # a test says nothing
        """Says nothing."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A server of one test's own."""
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(shop: Shop, scenario: dict[str, Any], load: dict[str, Any], place: Path, **settings: Any) -> Told:
    """A whole run of one scenario."""
    plan = plan_from_data({"target": shop.url, "scenarios": {"s": scenario}, "workload": load}, "a plan")
    journal = place / "journal"
    journal.mkdir()
    with Segment(journal) as sink:
        running = NativeEngine().start(
            plan,
            Settings("r", time.monotonic_ns(), None, **{"grace_ns": 1_000_000_000, **settings}),
            sink,
        )
        ending = running.wait(60)
    assert ending is not None and ending.reason == "finished", ending
    told = told_by(journal, ending)
    assert len(told.rows) == told.due == told.sent + told.outcomes[Outcome.NOT_SENT]
    return told


def together(place: Path) -> dict[str, list[Window]]:
    """The windows of each transaction."""
    found: dict[str, list[Window]] = {}
    for window in windows_in(Journal(place / "journal")):
        found.setdefault(window.endpoint, []).append(window)
    return found


CLOSED = {"model": "closed", "stages": [{"users": 3, "for": "1500ms"}]}


def test_each_user_logs_in_once_and_keeps_what_it_got(shop: Shop, tmp_path: Path) -> None:
    """Three users, three logins; every later request carries the token of its own user."""
    scenario = {
        "think_time": "20ms",
        "once": [{"get": "/login", "extract": {"token": "$.token"}}],
        "steps": [{"get": "/items/{{token}}", "name": "items"}],
    }
    told = run(shop, scenario, CLOSED, tmp_path)
    assert shop.asked["/login"] == len(told.of("GET /login")) == 3
    tokens: dict[int, set[str]] = {}
    for row in told.of("items"):
        tokens.setdefault(row["user"], set()).add(row["url"].rpartition("/")[2])
    assert all(len(found) == 1 for found in tokens.values())
    assert set.union(*tokens.values()) == {"t0", "t1", "t2"}
    assert len(told.of("items")) > 15


def test_a_login_that_fails_is_done_again_before_anything_else(shop: Shop, tmp_path: Path) -> None:
    """The pass ends with it, and the next begins with it."""
    scenario = {
        "think_time": "10ms",
        "once": [{"get": "/flaky/login/3", "name": "login"}],
        "steps": [{"get": "/items"}],
    }
    told = run(shop, scenario, {"model": "closed", "stages": [{"users": 1, "for": "1200ms"}]}, tmp_path)
    words = [row["endpoint"] for row in sorted(told.rows, key=lambda row: row["seq"])]
    assert words[:5] == ["login"] * 4 + ["GET /items"]
    assert "login" not in words[5:]


def test_arrivals_of_an_open_load_each_log_in(shop: Shop, tmp_path: Path) -> None:
    """Each is a user of its own, and the rate counts its login too."""
    scenario = {"once": [{"get": "/login"}], "steps": [{"get": "/items"}]}
    load = {"model": "open", "arrivals": "uniform", "stages": [{"rate": "40/s", "for": "1s"}, {"rate": 0, "for": "1s"}]}
    told = run(shop, scenario, load, tmp_path)
    assert Counter(row["endpoint"] for row in told.rows) == {"GET /login": 20, "GET /items": 20}


def test_each_attempt_is_a_row_and_pauses_grow(shop: Shop, tmp_path: Path) -> None:
    """Two failures, then the answer: three rows, the pauses between them 50 and 100 ms."""
    scenario = {"steps": [{"get": "/flaky/{{iteration}}/2", "name": "x", "retry": {"times": 3, "backoff": "50ms"}}]}
    load = {"model": "open", "arrivals": "uniform", "stages": [{"rate": "5/s", "for": "1s"}, {"rate": 0, "for": "1s"}]}
    told = run(shop, scenario, load, tmp_path)
    by_pass: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(told.rows, key=lambda row: row["intended_ns"]):
        by_pass.setdefault(row["iteration"], []).append(row)
    assert len(by_pass) == 5
    for rows in by_pass.values():
        assert [(row["outcome"], row["error"]) for row in rows] == [(1, "status 503"), (1, "status 503"), (0, "")]
        pauses = [after["intended_ns"] - before["end_ns"] for before, after in itertools.pairwise(rows)]
        assert pauses == [50_000_000, 100_000_000]


def test_only_what_was_meant_is_tried_again_and_not_for_ever(shop: Shop, tmp_path: Path) -> None:
    """A status that is not named is left; after the last attempt the next step runs."""
    steps = [
        {"get": "/gone/1", "name": "left", "retry": {"times": 5, "on": [503, "timeout"], "backoff": "1ms"}},
        {"get": "/gone/2", "name": "tried", "retry": {"times": 2, "on": "failure", "backoff": "1ms"}},
        {"get": "/items"},
    ]
    load = {"model": "open", "arrivals": "uniform", "stages": [{"rate": "30/s", "for": "1s"}, {"rate": 0, "for": "1s"}]}
    told = run(shop, {"steps": steps}, load, tmp_path)
    assert Counter(row["endpoint"] for row in told.rows) == {"left": 10, "tried": 30, "GET /items": 10}


def test_transactions_are_timed_as_a_whole_beside_the_books(shop: Shop, tmp_path: Path) -> None:
    """Two steps of 30 and 50 ms and a pause of 100: 80 ms together; the rows are the steps, and nothing else."""
    steps = [
        {"get": "/items"},
        {"get": "/slow/30", "name": "cart", "transaction": "buy", "think_time": "100ms"},
        {"get": "/slow/50", "name": "pay", "transaction": "buy"},
        {"get": "/gone", "transaction": "broken"},
    ]
    load = {"model": "open", "arrivals": "uniform", "stages": [{"rate": "40/s", "for": "1s"}, {"rate": 0, "for": "1s"}]}
    told = run(shop, {"steps": steps}, load, tmp_path)
    assert len(told.rows) == 40
    found = together(tmp_path)
    assert {name: sum(w.count for w in windows) for name, windows in found.items()} == {"buy": 10, "broken": 10}
    assert {w.outcome for w in found["buy"]} == {Outcome.OK} and {w.outcome for w in found["broken"]} == {
        Outcome.FAILURE
    }
    rows = {name: sorted(told.of(name), key=lambda row: row["iteration"]) for name in ("cart", "pay")}
    wholes = [
        (cart["end_ns"] - cart["intended_ns"]) + (pay["end_ns"] - pay["intended_ns"])
        for cart, pay in zip(rows["cart"], rows["pay"], strict=True)
    ]
    assert sum(window.response.sum_ns for window in found["buy"]) == sum(wholes)
    assert min(window.response.min_ns for window in found["buy"]) == min(wholes) >= 80_000_000


def test_a_transaction_includes_its_retries_and_not_what_never_began(shop: Shop, tmp_path: Path) -> None:
    """What is tried again and then right is right, and longer; what was in flight at the end is aborted."""
    steps = [
        {
            "get": "/flaky/{{iteration}}/1",
            "name": "first",
            "transaction": "all",
            "retry": {"times": 1, "backoff": "60ms"},
        },
        {"get": "/slow/{{choice(5,700)}}", "name": "second", "transaction": "all"},
    ]
    load = {"model": "open", "arrivals": "uniform", "seed": 5, "stages": [{"rate": "40/s", "for": "1s"}]}
    told = run(shop, {"steps": steps}, load, tmp_path, grace_ns=300_000_000)
    begun = {row["iteration"] for row in told.of("first")}
    counts: Counter[Outcome] = Counter()
    for window in together(tmp_path)["all"]:
        counts[window.outcome] += window.count
        if window.outcome is Outcome.OK:
            assert window.response.min_ns >= 65_000_000
    assert sum(counts.values()) == len(begun) and counts[Outcome.OK] > 3
    assert counts.keys() <= {Outcome.OK, Outcome.ABORTED}


def test_transactions_come_back_from_disk_as_they_were(shop: Shop, tmp_path: Path) -> None:
    """Written, read and tabled; a line that is none is left out."""
    steps = [{"get": "/items", "transaction": 'a "b"'}, {"get": "/gone", "transaction": "c"}]
    run(shop, {"steps": steps}, CLOSED, tmp_path)
    none = Histogram()
    held = (*windows_in(Journal(tmp_path / "journal")), Window(9, 0, "c", Outcome.ABORTED, 2, 0, 0, none, none))
    (tmp_path / "x.jsonl").write_bytes(b"".join(lines(held)) + b'{"second": 1}\nnothing\n')
    back = read(tmp_path / "x.jsonl")
    assert [*lines(back)] == [*lines(held)]
    table = [line.rstrip("\n").split(",") for line in transactions_csv(back, {0: "calm"})]
    assert [row[-1] for row in table] == ["stage_name", "", "calm", "", "calm"]
    assert {len(row) for row in table} == {len(table[0])}
    assert [row[:2] for row in table[1:]] == [['"a ""b"""', ""], ['"a ""b"""', "0"], ["c", ""], ["c", "0"]]
    assert table[3][8] == "2"
    assert table[1][2] == table[1][3] and table[3][3] == "0" and table[3][table[0].index("p95_ms")] == ""
    assert read(tmp_path / "none") == ()


def test_passes_begin_at_their_pace(shop: Shop, tmp_path: Path) -> None:
    """Every 250 ms however fast the answers are; a pass that takes longer is followed at once."""
    load = {"model": "closed", "stages": [{"users": 1, "for": "2400ms"}]}
    told = run(shop, {"pacing": "250ms", "steps": [{"get": "/items"}, {"get": "/slow/20"}]}, load, tmp_path)
    begins = sorted(row["intended_ns"] for row in told.of("GET /items"))
    assert [after - before for before, after in itertools.pairwise(begins)] == [250_000_000] * 9
    (tmp_path / "b").mkdir()
    told = run(shop, {"pacing": "10ms", "steps": [{"get": "/slow/40"}]}, load, tmp_path / "b")
    rows = sorted(told.rows, key=lambda row: row["seq"])
    assert all(after["intended_ns"] == before["end_ns"] for before, after in itertools.pairwise(rows))


def test_think_times_follow_their_distribution(shop: Shop, tmp_path: Path) -> None:
    """Of a thousand exponential pauses of 20 ms the mean is within four standard errors, and short ones are many."""
    load = {"model": "closed", "stages": [{"users": 20, "for": "2s"}]}
    told = run(shop, {"think_time": "~exp(20ms)", "steps": [{"get": "/items"}]}, load, tmp_path)
    pauses = []
    for user in range(20):
        rows = sorted((row for row in told.rows if row["user"] == user), key=lambda row: row["seq"])
        pauses += [after["intended_ns"] - before["end_ns"] for before, after in itertools.pairwise(rows)]
    assert len(pauses) > 200
    # Two seconds are a hundred means long: what their end cuts off biases the mean by some 1 %.
    assert statistics.mean(pauses) == pytest.approx(20e6, rel=4 / len(pauses) ** 0.5 + 0.03)
    assert sum(pause < 20e6 * 0.693 for pause in pauses) == pytest.approx(len(pauses) / 2, rel=0.25)


@pytest.mark.parametrize(
    ("scenario", "word"),
    [
        ({"once": [{"get": "/"}], "steps": [{"get": "/"}]}, "once"),
        ({"pacing": "1s", "steps": [{"get": "/"}]}, "pacing"),
        ({"steps": [{"get": "/", "retry": 1}]}, "retry"),
        ({"steps": [{"get": "/", "transaction": "a"}]}, "transaction"),
    ],
)
def test_engines_that_cannot_say_so(scenario: dict[str, Any], word: str) -> None:
    """In one sentence, before anything is sent."""
    plan = plan_from_data({"target": "http://127.0.0.1:1", "scenarios": {"s": scenario}}, "a plan")
    settings = Settings("r", 0, plan.load())
    greenlets: Engine = LocustEngine(native=False)
    said = f"`{word}` in scenario s is done by the native engine only, which is not built here"
    assert greenlets.refusal(plan, settings) == said
    hosted: Engine = LocustEngine(native=True)
    assert hosted.refusal(plan, settings) is None
    with pytest.raises(Unsupported, match="the native engine runs it"):
        Scripted().start(plan, settings, None)  # type: ignore[arg-type]  # refused before it writes
