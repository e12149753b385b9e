"""Each planted fault of the demo's bookshop, seen by itself and seen to be gone, without measuring time.

The endpoints are called in this process, and the function that waits is the test's own: it notes how long somebody
would have waited, and can hold requests where the fault needs them held.
"""

import asyncio
import gzip
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from surgeline.demo.shop import stock
from surgeline.demo.shop.app import (
    BUYERS,
    COOKIE_BYTES,
    COUNT_S,
    COUNTING_S,
    COVER_FAILS_EVERY,
    LAYOUT_S,
    PAYMENT_S,
    RATING_EVERY,
    RATING_TIMEOUT_S,
    REPORT,
    REPORT_SCANNING,
    REVIEW_S,
    ROUND_TRIP_S,
    SCAN_S,
    SEARCH_S,
    SEARCHES_PER_S,
    SLOW_BOOK_EVERY,
    SLOW_BOOK_S,
    SMALL_POOL,
    Bookshop,
    token,
)
from surgeline.demo.shop.database import open_sales
from surgeline.demo.shop.faults import FAULTS, choose
from surgeline.demo.shop.front import (
    ASLEEP_AFTER_S,
    AWAKE_AFTER_S,
    COLD_S,
    CROWD,
    DROP_EVERY,
    FREEZE_AT,
    FREEZE_S,
    LOOK_S,
    SLOW_INSTANCE_S,
    THRASH_S,
    TIRED_FOR_S,
    TIRED_S,
    Front,
)
from surgeline.demo.shop.server import STALL_EVERY_S, STALL_S, next_stall, stall_for_ever
from surgeline.findings import RULES

ALL = choose("all")
REFUSING = {"large_covers", "redirects", "rate_limit", "flaky_covers"}
"""Faults that answer something else."""
REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "bookshop.md"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def statements(self) -> int:
        """SQL statements, as Server-Timing tells them."""
        found = re.search(r'desc="(\d+) statements"', self.headers["server-timing"])
        assert found
        return int(found[1])


@dataclass
class Visit:
    """A shop in this process, and the waits in it."""

    shop: Bookshop
    waits: list[float] = field(default_factory=list)

    def ask(self, path: str, body: object = None, **headers: str) -> Answer:
        """One request; with a body it is a POST."""
        return self.ask_at_once((path, body), **headers)[0]

    def ask_at_once(self, *requests: tuple[str, object], **headers: str) -> list[Answer]:
        """Several requests, all begun before the first one ends."""

        async def every() -> list[Answer]:
            app = self.shop.app()
            return list(await asyncio.gather(*(_call(app, path, body, headers) for path, body in requests)))

        return asyncio.run(every())


async def _call(app: Any, path: str, body: object, headers: Mapping[str, str]) -> Answer:
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET" if body is None else "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(
        sent[0]["status"],
        {name.decode(): value.decode() for name, value in sent[0]["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock, made once."""
    folder = tmp_path_factory.mktemp("stock")
    stock.make(folder)
    return folder


Enter = Callable[..., Visit]


@pytest.fixture
def enter(folder: Path, tmp_path: Path) -> Iterator[Enter]:
    """Opens shops with the given faults; `hold` is called, with the seconds, whenever a request would wait."""
    shops: list[Bookshop] = []

    def open_shop(*faults: str, hold: Callable[[float], object] = lambda seconds: None) -> Visit:
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            hold(seconds)

        sales = tmp_path / f"sales-{len(shops)}.db"
        shutil.copyfile(folder / stock.SALES, sales)
        shops.append(Bookshop(folder, sales, frozenset(faults), wait))
        return Visit(shops[-1], waits)

    yield open_shop
    for shop in shops:
        shop.close()


BUYER = f"Bearer {token(1)}"


@pytest.mark.parametrize("limit", [1, 10, 50])
def test_n_plus_one_asks_once_more_for_each_order(enter: Enter, limit: int) -> None:
    """One statement for the list and one for each order in it, each a round trip; healthy, two for any number."""
    faulty, healthy = enter("n_plus_one"), enter()
    answer = faulty.ask(f"/orders?limit={limit}", authorization=BUYER)
    assert answer.statements == 1 + limit
    assert faulty.waits == [ROUND_TRIP_S] * (1 + limit)
    right = healthy.ask(f"/orders?limit={limit}", authorization=BUYER)
    assert right.statements == 2
    assert healthy.waits == [ROUND_TRIP_S] * 2
    assert answer.json == right.json


@pytest.mark.parametrize(
    ("request_", "seconds"), [(("/report", None), LAYOUT_S), (("/checkout", {"book": 1}), PAYMENT_S)]
)
def test_small_pool_lets_four_wait_and_a_fifth_wait_for_them(
    enter: Enter, request_: tuple[str, object], seconds: float
) -> None:
    """Of twelve requests at once never more than four are with the payment or the layout, each with a connection."""
    most = Most()
    visit = enter("small_pool", hold=lambda _: most.stay(SMALL_POOL))
    answers = visit.ask_at_once(*[request_] * 12, authorization=BUYER)
    assert {answer.status for answer in answers} <= {200, 201}
    assert visit.waits == [seconds] * 12
    assert most.seen == SMALL_POOL
    assert visit.ask("/health").json["pool"] == {"size": SMALL_POOL, "in_use": 0}


def test_small_pool_holds_its_connections_while_others_wait(enter: Enter) -> None:
    """While four reports are being laid out, all four connections are lent: the pool itself says so."""
    lent = []
    meeting = threading.Barrier(SMALL_POOL, timeout=20)

    def hold(_: float) -> None:
        meeting.wait()
        lent.append(visit.shop.slow_sales.in_use)
        meeting.wait()

    visit = enter("small_pool", hold=hold)
    visit.ask_at_once(*[("/report", None)] * SMALL_POOL)
    assert lent == [SMALL_POOL] * SMALL_POOL


def test_a_healthy_shop_waits_without_a_connection(enter: Enter) -> None:
    """Twelve checkouts are with the payment at the same time, and no connection is lent meanwhile."""
    lent = []
    meeting = threading.Barrier(12, timeout=20)

    def hold(_: float) -> None:
        meeting.wait()
        lent.append(visit.shop.slow_sales.in_use)
        meeting.wait()

    visit = enter(hold=hold)
    answers = visit.ask_at_once(*[("/checkout", {"book": 1})] * 12, authorization=BUYER)
    assert [answer.status for answer in answers] == [201] * 12
    assert lent == [0] * 12


class Most:
    """The greatest number of threads that were in the same place."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._now = 0
        self.seen = 0

    def stay(self, company: int) -> None:
        """Stays until there were `company` in all, once."""
        with self._lock:
            self._now += 1
            self.seen = max(self.seen, self._now)
            self._lock.notify_all()
            assert self._lock.wait_for(lambda: self.seen >= company, timeout=20)
            self._now -= 1


def test_missing_cache_counts_again_for_every_request(enter: Enter) -> None:
    """A statement and a wait each time, for the same answer; healthy, the count is made when the shop opens."""
    faulty, healthy = enter("missing_cache"), enter()
    answers = [faulty.ask("/bestsellers") for _ in range(3)]
    assert [answer.statements for answer in answers] == [1, 1, 1]
    assert faulty.waits == [COUNT_S] * 3
    right = healthy.ask("/bestsellers")
    assert "server-timing" not in right.headers
    assert healthy.waits == []
    assert {answer.body for answer in answers} == {right.body}


def test_full_scan_reads_all_orders_for_a_few_days(enter: Enter, folder: Path) -> None:
    """A wait for the disk before each report, and SQLite says that it scans the orders where it would search them."""
    faulty, healthy = enter("full_scan"), enter()
    assert faulty.ask("/report?days=7").json == healthy.ask("/report?days=7").json
    assert (faulty.waits, healthy.waits) == ([SCAN_S, LAYOUT_S], [LAYOUT_S])
    with closing(open_sales(folder / stock.SALES, folder / stock.CATALOGUE)) as db:
        ways = [
            db.execute(f"EXPLAIN QUERY PLAN {sql}", (1, 2)).fetchone()[3].split()[0]
            for sql in (REPORT_SCANNING, REPORT)
        ]
    assert ways == ["SCAN", "SEARCH"]


def test_contention_500_fails_whom_too_many_were_ahead_of(enter: Enter) -> None:
    """Of six who buy the same book at once the first four get it and the others 500; one by one everybody gets it."""
    visit = enter("contention_500", hold=lambda _: meeting.wait())
    meeting = threading.Barrier(6, timeout=20)
    answers = visit.ask_at_once(*[("/checkout", {"book": 5})] * 6, authorization=BUYER)
    assert sorted(answer.status for answer in answers) == [201] * (BUYERS + 1) + [500] * 2
    assert {answer.json["error"] for answer in answers if answer.status == 500} == {
        "the stock of book 5 changed while it was being paid for"
    }
    meeting = threading.Barrier(1)
    assert [visit.ask("/checkout", {"book": 5}, authorization=BUYER).status for _ in range(6)] == [201] * 6


def test_contention_500_leaves_different_books_alone(enter: Enter) -> None:
    """It is the book that is contended: six who buy two books at once all get theirs."""
    meeting = threading.Barrier(6, timeout=20)
    visit = enter("contention_500", hold=lambda _: meeting.wait())
    answers = visit.ask_at_once(*[("/checkout", {"book": book}) for book in (5, 6) * 3], authorization=BUYER)
    assert [answer.status for answer in answers] == [201] * 6


def test_without_contention_500_everybody_gets_the_book(enter: Enter) -> None:
    """The same six at once, and each order is noted."""
    meeting = threading.Barrier(6, timeout=20)
    visit = enter(hold=lambda _: meeting.wait())
    answers = visit.ask_at_once(*[("/checkout", {"book": 5})] * 6, authorization=BUYER)
    assert [answer.status for answer in answers] == [201] * 6
    assert len({answer.json["order"] for answer in answers}) == 6


def test_bimodal_search_serves_each_answer_twice(enter: Enter) -> None:
    """Miss, hit, hit, and again; only a miss waits, and the answer is what a healthy shop says without any cache."""
    faulty, healthy = enter("bimodal_search"), enter()
    answers = [faulty.ask("/search?q=river") for _ in range(6)]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit", "hit"] * 2
    assert faulty.waits == [SEARCH_S] * 2
    right = healthy.ask("/search?q=river")
    assert "x-cache" not in right.headers
    assert {answer.body for answer in answers} == {right.body}
    assert healthy.waits == []


def test_no_compression_sends_large_json_as_it_is(enter: Enter) -> None:
    """To a client that accepts gzip: the whole text; healthy, its gzip."""
    plain = enter("no_compression").ask("/books?limit=50", accept_encoding="gzip")
    packed = enter().ask("/books?limit=50", accept_encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize(
    "path", ["/", "/openapi.json", "/books", "/search?q=sea", "/bestsellers", "/covers/1", "/report"]
)
def test_no_validators_leaves_caches_without_a_hint(enter: Enter, path: str) -> None:
    """Neither ETag nor Cache-Control; healthy, both."""
    marks = {"etag", "cache-control"}
    assert not marks & set(enter("no_validators").ask(path).headers)
    assert marks <= set(enter().ask(path).headers)


def test_slow_upstream_fails_every_12th_review(enter: Enter) -> None:
    """504 after the wait for the rating service, and nothing in between; healthy, never."""
    faulty, healthy = enter("slow_upstream"), enter()
    statuses = [faulty.ask("/books/1/reviews").status for _ in range(2 * RATING_EVERY)]
    assert statuses == ([200] * (RATING_EVERY - 1) + [504]) * 2
    assert faulty.waits == [RATING_TIMEOUT_S] * 2
    assert {healthy.ask("/books/1/reviews").status for _ in range(RATING_EVERY)} == {200}


def test_flaky_covers_fail_one_in_fifteen(enter: Enter) -> None:
    """Every 15th cover is a 500, whichever it is; healthy, none."""
    faulty, healthy = enter("flaky_covers"), enter()
    statuses = [faulty.ask(f"/covers/{number}").status for number in range(1, 2 * COVER_FAILS_EVERY + 1)]
    assert statuses == ([200] * (COVER_FAILS_EVERY - 1) + [500]) * 2
    assert {healthy.ask("/covers/1").status for _ in range(COVER_FAILS_EVERY)} == {200}


def test_rate_limit_lets_four_searches_in_each_second(enter: Enter) -> None:
    """Of six searches in one second four are answered, the others told to try again; the next second has four more."""
    visit = enter("rate_limit")
    now = [7.2]
    visit.shop._now = lambda: now[0]
    answers = [visit.ask("/search?q=sea") for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * SEARCHES_PER_S + [429] * 2
    assert answers[-1].headers["retry-after"] == "1"
    now[0] = 8.0
    assert visit.ask("/search?q=sea").status == 200


def test_rare_slow_holds_up_every_25th_book(enter: Enter) -> None:
    """One wait in 25 requests, and none without the fault."""
    faulty, healthy = enter("rare_slow"), enter()
    for visit in (faulty, healthy):
        for _ in range(2 * SLOW_BOOK_EVERY):
            visit.ask("/books/3")
    assert (faulty.waits, healthy.waits) == ([SLOW_BOOK_S] * 2, [])


def test_slow_serializer_waits_for_each_review(enter: Enter) -> None:
    """A wait in proportion to the reviews in the answer."""
    visit = enter("slow_serializer")
    counts = [len(visit.ask(f"/books/{number}/reviews").json["items"]) for number in (1, 2, 3)]
    assert visit.waits == pytest.approx([REVIEW_S * count for count in counts])


def test_slow_statement_takes_its_time_within_the_database(enter: Enter) -> None:
    """The wait is counted as the database's, in Server-Timing, and there is one statement more."""
    faulty, healthy = enter("slow_statement"), enter()
    assert faulty.ask("/books").statements == healthy.ask("/books").statements + 1
    assert faulty.waits == [COUNTING_S]


def test_large_covers_are_half_a_megabyte(enter: Enter) -> None:
    """540 kB with the fault, below 20 kB without; both are pictures."""
    large, small = enter("large_covers").ask("/covers/7").body, enter().ask("/covers/7").body
    assert 512 * 1024 < len(large) < 600_000
    assert len(small) < 20_000
    assert large[:8] == small[:8] == b"\x89PNG\r\n\x1a\n"


def test_redirects_send_to_another_address_that_answers(enter: Enter) -> None:
    """307 with a Location; what is there is what a healthy shop says at once."""
    visit = enter("redirects")
    moved = visit.ask("/bestsellers")
    assert (moved.status, moved.headers["location"]) == (307, "/bestsellers/all")
    assert visit.ask("/bestsellers/all").json == enter().ask("/bestsellers").json


def test_large_cookies_come_with_a_login(enter: Enter) -> None:
    """4 kB that every later request carries; healthy, no cookie at all."""
    login = {"email": "reader1@example.org", "password": stock.PASSWORD}
    assert len(enter("large_cookies").ask("/login", login).headers["set-cookie"]) > COOKIE_BYTES
    assert "set-cookie" not in enter().ask("/login", login).headers


# --- in front of the endpoints ---------------------------------------------------------------------------------------


@dataclass
class Door:
    """The front of a shop that answers at once with twenty bytes, on a clock of its own."""

    faults: frozenset[str]
    now: float = 50.0
    rests: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meeting: asyncio.Event | None = None
        self.front = Front(self._shop, self.faults, lambda: self.now, self._rest, self.pauses.append)

    async def _rest(self, seconds: float) -> None:
        self.rests.append(seconds)

    async def _shop(self, scope: Any, receive: Any, send: Any) -> None:
        if self.meeting is not None:
            await self.meeting.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 20})

    def ask(self, path: str = "/health", times: int = 1) -> list[Any]:
        """So many requests at once, none answered before all have come; the messages of each."""

        async def every() -> list[Any]:
            self.meeting = asyncio.Event()
            told: list[list[Any]] = [[] for _ in range(times)]

            async def one(messages: list[Any]) -> None:
                async def send(message: Any) -> None:
                    messages.append(message)

                await self.front({"type": "http", "path": path}, None, send)  # type: ignore[arg-type]

            asked = [asyncio.ensure_future(one(messages)) for messages in told]
            await asyncio.sleep(0)
            self.meeting.set()
            await asyncio.gather(*asked)
            return told

        return asyncio.run(every())


def test_a_healthy_front_lets_everything_pass() -> None:
    """Neither a wait nor a header, however many come."""
    door = Door(frozenset())
    for messages in door.ask(times=3 * CROWD):
        assert messages[0]["headers"] == []
        assert messages[1] == {"type": "http.response.body", "body": b"x" * 20}
    assert (door.rests, door.pauses) == ([], [])


def test_no_keep_alive_says_so_in_every_answer() -> None:
    """`Connection: close`, whatever is asked for."""
    assert Door(frozenset({"no_keep_alive"})).ask("/")[0][0]["headers"] == [(b"connection", b"close")]


def test_dropped_answers_end_in_the_middle() -> None:
    """Every 15th page of books has half a body and no end; other endpoints are whole."""
    door = Door(frozenset({"dropped_answers"}))
    for number in range(1, 2 * DROP_EVERY + 1):
        body = door.ask("/books")[0][1]
        dropped = number % DROP_EVERY == 0
        assert (len(body["body"]), body.get("more_body", False)) == ((10, True) if dropped else (20, False))
        assert len(door.ask("/books/3")[0][1]["body"]) == 20


def test_slow_instance_answers_every_third_time_and_says_so() -> None:
    """a, b, c in turn on the front page and the covers; c alone waits. Elsewhere there are no instances."""
    door = Door(frozenset({"slow_instance"}))
    told = [dict(door.ask(path)[0][0]["headers"]).get(b"server-timing") for path in ("/", "/covers/1", "/", "/books")]
    assert told == [b'instance;desc="a"', b'instance;desc="b"', b'instance;desc="c"', None]
    assert door.rests == [SLOW_INSTANCE_S]


def test_shedding_refuses_the_third_report_at_once() -> None:
    """Two are being made, the others get 503 without a wait; afterwards reports are made again."""
    door = Door(frozenset({"shedding", "thrashing"}))
    statuses = [messages[0]["status"] for messages in door.ask("/report", times=5)]
    assert statuses == [200, 200, 503, 503, 503]
    assert door.ask("/report")[0][0]["status"] == 200
    assert door.rests == []


def test_cold_start_follows_a_second_without_requests() -> None:
    """The first request wakes the shop; for two seconds each waits, then none does until it slept again."""
    door = Door(frozenset({"cold_start"}))
    for step in (0.0, 0.9, 0.9, AWAKE_AFTER_S - 1.81):
        door.now += step
        door.ask()
    assert door.rests == [COLD_S] * 4
    for step in (0.02, ASLEEP_AFTER_S, 0.5):
        door.now += step
        door.ask()
    assert len(door.rests) == 4
    door.now += ASLEEP_AFTER_S + 0.01
    door.ask()
    assert len(door.rests) == 5


def test_thrashing_makes_a_crowd_slower_the_larger_it_is() -> None:
    """Up to twelve at once nobody waits; the twentieth waits for eight."""
    door = Door(frozenset({"thrashing"}))
    door.ask(times=CROWD)
    assert door.rests == []
    door.ask(times=CROWD + 8)
    assert door.rests == pytest.approx([THRASH_S * number for number in range(1, 9)])


def test_slow_recovery_outlives_the_crowd() -> None:
    """After a crowd every request waits, for 30 s from its last moment; then none does."""
    door = Door(frozenset({"slow_recovery"}))
    door.ask(times=CROWD + 1)
    door.now += TIRED_FOR_S - 0.1
    door.ask()
    assert door.rests == [TIRED_S] * 2
    door.now += 0.2
    door.ask()
    assert len(door.rests) == 2


def test_freeze_once_stops_the_process_once() -> None:
    """With one request, and never again."""
    door = Door(frozenset({"freeze_once"}))
    door.ask(times=FREEZE_AT - 1)
    assert door.pauses == []
    door.ask(times=FREEZE_AT)
    assert door.pauses == [FREEZE_S]


def test_leak_costs_more_with_every_request() -> None:
    """The wait grows by the same amount each time, and what is kept is bounded."""
    door = Door(frozenset({"leak"}))
    for _ in range(5):
        door.ask()
    assert door.rests == pytest.approx([LOOK_S * number for number in range(1, 6)])


@pytest.mark.parametrize(
    ("now", "expected"),
    [(100.0, 104.0), (100.1, 104.0), (103.999, 104.0), (104.0, 108.0), (104.25, 108.0), (1000.5, 1004.0)],
)
def test_a_stall_comes_every_four_seconds(now: float, expected: float) -> None:
    """A shop that opened at 100 stalls at 104, 108, 112 …; at the moment of a stall the next one is meant."""
    assert next_stall(100.0, now) == pytest.approx(expected)


class PretendTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next thing that is due instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 50.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            self.now += timeout or 0.0
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def test_stalls_stop_the_event_loop_and_do_not_drift() -> None:
    """Each begins on the schedule although the one before it took its time, and its length is told."""
    began: list[float] = []
    noted: list[int] = []
    with asyncio.Runner(loop_factory=PretendTime) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, PretendTime)

        def pause(seconds: float) -> None:
            began.append(loop.now - 50.0)
            loop.now += seconds
            assert seconds == STALL_S
            if len(began) == 5:
                raise EndOfTest

        with pytest.raises(EndOfTest):
            runner.run(stall_for_ever(pause, lambda at_ns, duration_ns: noted.append(duration_ns)))
    assert began == pytest.approx([STALL_EVERY_S * number for number in range(1, 6)], abs=0.01)
    assert len(noted) == 4


class EndOfTest(Exception):
    """Ends what would go on for ever."""


def test_with_all_faults_the_answers_are_the_same(enter: Enter) -> None:
    """Faults of speed, of headers and of errors: whoever gets an answer gets the right one."""
    faulty, healthy = enter(*ALL - REFUSING), enter()
    for path in ("/", "/openapi.json", "/books?limit=7", "/books/3", "/books/3/reviews", "/search?q=sea", "/covers/3"):
        assert faulty.ask(path).body == healthy.ask(path).body
    for path in ("/bestsellers", "/report?days=9", "/orders"):
        assert faulty.ask(path, authorization=BUYER).json == healthy.ask(path, authorization=BUYER).json


def test_a_fault_does_not_bring_another_with_it(enter: Enter) -> None:
    """With any one fault on, the signs of the others are absent."""
    signs = {
        "n_plus_one": lambda visit: visit.ask("/orders?limit=5", authorization=BUYER).statements == 6,
        "small_pool": lambda visit: visit.ask("/health").json["pool"]["size"] == SMALL_POOL,
        "missing_cache": lambda visit: "server-timing" in visit.ask("/bestsellers").headers,
        "bimodal_search": lambda visit: "x-cache" in visit.ask("/search?q=sea").headers,
        "no_compression": lambda visit: "vary" not in visit.ask("/books").headers,
        "no_validators": lambda visit: "etag" not in visit.ask("/").headers,
    }
    for fault in FAULTS:
        visit = enter(fault.id)
        assert {name for name, sign in signs.items() if sign(visit)} == {fault.id} & set(signs)


def test_faults_are_chosen_by_name() -> None:
    """All, none, those that are on by default, or exactly the named ones; an unknown name lists the known ones."""
    assert choose("all") == {fault.id for fault in FAULTS}
    assert choose("none") == frozenset()
    assert choose("default") == {
        *("n_plus_one", "small_pool", "stall", "missing_cache", "full_scan", "contention_500"),
        *("bimodal_search", "no_compression", "no_validators"),
    }
    assert choose("stall, n_plus_one") == {"stall", "n_plus_one"}
    for wrong in ("", "stal", "stall,", "all,stall"):
        with pytest.raises(ValueError, match="is not a planted fault; take all, none, default or some of n_plus_one"):
            choose(wrong)


def test_every_fault_is_in_the_reference() -> None:
    """The page about the shop has a line for each fault, in the words of the list in the code."""
    lines = REFERENCE.read_text("utf-8").splitlines()
    for fault in FAULTS:
        on = "on" if fault.default else "off"
        rules = ", ".join(f"[{rule}](findings/{rule}.md)" for rule in fault.rules)
        assert f"| `{fault.id}` | {on} | {fault.sentence} | {fault.where} | {fault.seen_by} | {rules} |" in lines


def test_every_fault_names_rules_that_exist() -> None:
    """Whatever should see a fault is a rule, and each fault has one at least."""
    known = {rule.id for rule in RULES}
    for fault in FAULTS:
        assert fault.rules
        assert set(fault.rules) <= known


def test_the_stock_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    """Two folders made from one seed have the same bytes; another seed has others."""
    stock.make(tmp_path / "again")
    stock.make(tmp_path / "other", seed=8)
    for name in (stock.CATALOGUE, stock.SALES):
        same = (folder / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == same
        assert (tmp_path / "other" / name).read_bytes() != same
