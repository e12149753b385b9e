"""What the shop answers: one method per endpoint, faults and all.

What comes in is an HTTP request, what leaves is an answer; the databases, the set of faults that are on, and the
function that waits are handed in. A wait stands for another machine (a database across the network, a payment
provider): it costs time and no CPU, so that a laptop shared with the load generator can show what a real system does.
Every wait has its length here.
"""

import gzip
import hashlib
import hmac
import json
import random
import struct
import threading
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from surgeline.demo.shop import stock
from surgeline.demo.shop.database import Pool, Row, Session, Tally, open_catalogue, open_sales
from surgeline.demo.shop.openapi import DOCUMENT

THREADS = 128
"""Handlers that may run at once, and the size of a healthy pool: more than the users of the demo's heaviest stage."""

SMALL_POOL = 4
"""Connections that checkout and report share with the fault `small_pool`."""

ROUND_TRIP_S = 0.006
"""One question to the database of orders, which is thought to be on another machine."""
PAYMENT_S = 0.100
"""The payment provider's answer to a checkout."""
LAYOUT_S = 0.015
"""The layout service's answer to a report."""
SCAN_S = 0.060
"""Reading all orders ever made from a disk, before any of them can be looked at."""
BUYERS = 3
"""So many others may be buying the same book with the fault `contention_500`."""
COUNT_S = 0.400
"""Counting the bestsellers in a database larger than its memory."""
SEARCH_S = 0.090
"""A search that the cache could not answer."""
RATING_TIMEOUT_S, RATING_EVERY = 1.0, 12
"""How long the shop waits for the rating service, and which of its answers never come (`slow_upstream`)."""

SEARCH_USES = 2
"""How often `bimodal_search` serves an answer from its cache: two of three searches of a word are fast."""
SEARCH_ANSWERS = 256
"""Most answers in that cache; the oldest makes room."""

COVER_FAILS_EVERY = 15
SEARCHES_PER_S = 4
"""How many searches are let in within one second (`rate_limit`)."""
SLOW_BOOK_EVERY, SLOW_BOOK_S = 25, 0.400
REVIEW_S = 0.006
"""What each review in a list waits for with the fault `slow_serializer`."""
COUNTING_S = 0.060
"""The statement that counts all books (`slow_statement`)."""
COOKIE_BYTES = 4_000
COVER_SIZE, LARGE_COVER_SIZE = (64, 96), (350, 512)
"""Width and height of a cover in points of three bytes."""

COMPRESS_FROM_BYTES = 1_400
"""Below this an answer fits into one packet anyway."""

CATALOGUE_AGE = "public, max-age=60"
COVER_AGE = "public, max-age=86400, immutable"
PRIVATE = "no-store"

REPORT = """
SELECT o.day, count(DISTINCT o.id), sum(i.copies), sum(i.copies * i.price_cents)
FROM orders o JOIN items i ON i.ordered = o.id WHERE o.day BETWEEN ? AND ? GROUP BY o.day ORDER BY o.day
"""
REPORT_SCANNING = REPORT.replace("WHERE o.day", "WHERE o.day + 0")
"""The same rows: but what is computed from a column cannot be looked up in the column's index."""

_SUMMARY = "b.id, b.title, a.name, b.year, b.price_cents, b.rating, b.blurb"
_SUMMARY_KEYS = ("id", "title", "author", "year", "price_cents", "rating", "blurb")


class Bookshop:
    """The shop's state and its endpoints.

    `stock_folder` holds the files of `stock.make`, `sales` is the copy of its sales that this shop may write. `wait`
    takes seconds, `now` is a clock in seconds.
    """

    def __init__(
        self,
        stock_folder: Path,
        sales: Path,
        faults: frozenset[str] = frozenset(),
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.faults = faults
        self._wait = wait
        self._now = now
        catalogue = (stock_folder / stock.CATALOGUE).resolve()
        sales = sales.resolve()
        self.catalogue = Pool(THREADS, lambda: open_catalogue(catalogue, wait))
        self.sales = Pool(THREADS, lambda: open_sales(sales, catalogue))
        self.slow_sales = (
            Pool(SMALL_POOL, lambda: open_sales(sales, catalogue)) if "small_pool" in faults else self.sales
        )
        self._writing = threading.Lock()
        self._buying: Counter[int] = Counter()
        self._password = stock.hashed(stock.PASSWORD)
        self._lock = threading.Lock()
        self._searches: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._asked: Counter[str] = Counter()
        self._searched: tuple[int, int] = (0, 0)
        with self.sales.session(Tally()) as db:
            self._bestsellers = self._count_bestsellers(db)

    def close(self) -> None:
        """Closes the databases."""
        for pool in (self.catalogue, self.sales, self.slow_sales):
            pool.close()

    def app(self) -> Starlette:
        """The endpoints as an ASGI application."""
        return Starlette(
            routes=[
                Route("/", self.home),
                Route("/health", self.health),
                Route("/openapi.json", self.openapi),
                Route("/books", self.books),
                Route("/books/{id:int}", self.book),
                Route("/books/{id:int}/reviews", self.reviews),
                Route("/search", self.search),
                Route("/bestsellers", self.bestsellers),
                Route("/bestsellers/all", self.bestsellers),
                Route("/covers/{id:int}", self.cover),
                Route("/login", self.login, methods=["POST"]),
                Route("/orders", self.orders),
                Route("/checkout", self.checkout, methods=["POST"]),
                Route("/report", self.report),
            ],
            exception_handlers={HTTPException: _refusal, Exception: _mishap},
        )

    # --- without a database ---------------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        """The name, and where to go."""
        links = {
            "health": "/health",
            "openapi": "/openapi.json",
            "books": "/books?limit=20",
            "book": "/books/1",
            "reviews": "/books/1/reviews",
            "cover": "/covers/1",
            "search": "/search?q=river",
            "bestsellers": "/bestsellers",
            "report": "/report?days=30",
        }
        return self._json(request, {"name": "Bookshop", "links": links}, CATALOGUE_AGE)

    async def health(self, request: Request) -> Response:
        """That the shop is open, and how many connections of the pool of checkout and report are lent."""
        pool = {"size": self.slow_sales.size, "in_use": self.slow_sales.in_use}
        return self._json(request, {"status": "ok", "pool": pool}, PRIVATE)

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return self._json(request, DOCUMENT, CATALOGUE_AGE)

    async def cover(self, request: Request) -> Response:
        """A picture of some 18 kB that gzip cannot make smaller."""
        number = request.path_params["id"]
        if not 1 <= number <= stock.BOOKS:
            raise HTTPException(404, f"there is no book {number}")
        if "flaky_covers" in self.faults and self._next("cover") % COVER_FAILS_EVERY == 0:
            raise HTTPException(500, f"the picture of book {number} could not be read")
        size = LARGE_COVER_SIZE if "large_covers" in self.faults else COVER_SIZE
        return self._answer(request, _png(number, *size), COVER_AGE, {"content-type": "image/png"})

    # --- the catalogue --------------------------------------------------------------------------------------------

    def books(self, request: Request) -> Response:
        """A page of books in the order of their numbers."""
        limit, page = _number(request, "limit", 20, 1, 100), _number(request, "page", 1, 1, stock.BOOKS)
        tally = Tally()
        with self.catalogue.session(tally) as db:
            rows = db.rows(
                f"SELECT {_SUMMARY} FROM books b JOIN authors a ON a.id = b.author ORDER BY b.id LIMIT ? OFFSET ?",  # noqa: S608 - a constant
                limit,
                (page - 1) * limit,
            )
            if "slow_statement" in self.faults:
                db.row("SELECT count(*), pause(?) FROM books", COUNTING_S)
            items = _dicts(_SUMMARY_KEYS, rows)
            return self._json(request, {"items": items, "page": page, "of": stock.BOOKS}, CATALOGUE_AGE, tally)

    def book(self, request: Request) -> Response:
        """One book."""
        number = request.path_params["id"]
        tally = Tally()
        with self.catalogue.session(tally) as db:
            row = db.row(
                f"SELECT {_SUMMARY}, b.pages FROM books b JOIN authors a ON a.id = b.author WHERE b.id = ?",  # noqa: S608 - a constant
                number,
            )
            if row is None:
                raise HTTPException(404, f"there is no book {number}")
            if "rare_slow" in self.faults and self._next("book") % SLOW_BOOK_EVERY == 0:
                self._wait(SLOW_BOOK_S)
            return self._json(request, dict(zip((*_SUMMARY_KEYS, "pages"), row, strict=True)), CATALOGUE_AGE, tally)

    def reviews(self, request: Request) -> Response:
        """What readers say about a book; a book without reviews has an empty list."""
        number = request.path_params["id"]
        if "slow_upstream" in self.faults and self._next("rating") % RATING_EVERY == 0:
            self._wait(RATING_TIMEOUT_S)
            raise HTTPException(504, "the rating service did not answer within 1 s")
        tally = Tally()
        with self.catalogue.session(tally) as db:
            if db.row("SELECT 1 FROM books WHERE id = ?", number) is None:
                raise HTTPException(404, f"there is no book {number}")
            rows = db.rows("SELECT stars, reader, text FROM reviews WHERE book = ? ORDER BY id", number)
            if "slow_serializer" in self.faults:
                self._wait(REVIEW_S * len(rows))
            return self._json(request, {"items": _dicts(("stars", "reader", "text"), rows)}, CATALOGUE_AGE, tally)

    def _next(self, what: str) -> int:
        """The how manieth it is, from 1 on."""
        with self._lock:
            self._asked[what] += 1
            return self._asked[what]

    def search(self, request: Request) -> Response:
        """The best twenty books with all words of `q` in their title."""
        text = " ".join(request.query_params.get("q", "").lower().split())
        if not 1 <= len(text) <= 60 or len(text.split()) > 5:
            raise HTTPException(400, "q takes one to five words of a title, as in /search?q=river")
        if "rate_limit" in self.faults and not self._let_in():
            raise HTTPException(429, f"at most {SEARCHES_PER_S} searches a second", {"retry-after": "1"})
        tally = Tally()
        with self.catalogue.session(tally) as db:
            if "bimodal_search" not in self.faults:
                return self._json(request, _found(db, text), CATALOGUE_AGE, tally)
            found = self._cached_search(text)
            if found is not None:
                return self._json(request, found, CATALOGUE_AGE, tally, {"x-cache": "hit"})
            self._wait(SEARCH_S)
            found = _found(db, text)
            self._cache_search(text, found)
            return self._json(request, found, CATALOGUE_AGE, tally, {"x-cache": "miss"})

    def _let_in(self) -> bool:
        """Whether fewer than the allowed searches were made in this second of the clock."""
        second = int(self._now())
        with self._lock:
            count = self._searched[1] + 1 if self._searched[0] == second else 1
            self._searched = second, count
        return count <= SEARCHES_PER_S

    def _cached_search(self, text: str) -> Any | None:
        with self._lock:
            if text not in self._searches:
                return None
            found, uses = self._searches.pop(text)
            if uses > 1:
                self._searches[text] = found, uses - 1
            return found

    def _cache_search(self, text: str, found: Any) -> None:
        with self._lock:
            self._searches[text] = found, SEARCH_USES
            while len(self._searches) > SEARCH_ANSWERS:
                self._searches.popitem(last=False)

    # --- sales ----------------------------------------------------------------------------------------------------

    def bestsellers(self, request: Request) -> Response:
        """The twenty books sold most in the last 180 days."""
        if "redirects" in self.faults and request.url.path == "/bestsellers":
            return self._answer(request, b"", PRIVATE, {"location": "/bestsellers/all"}, 307)
        if "missing_cache" not in self.faults:
            return self._json(request, self._bestsellers, CATALOGUE_AGE)
        tally = Tally()
        with self.sales.session(tally) as db:
            self._wait(COUNT_S)
            return self._json(request, self._count_bestsellers(db), CATALOGUE_AGE, tally)

    def _count_bestsellers(self, db: Session) -> Any:
        rows = db.rows(
            "SELECT b.id, b.title, sum(i.copies) AS sold FROM orders o JOIN items i ON i.ordered = o.id "
            "JOIN catalogue.books b ON b.id = i.book WHERE o.day BETWEEN ? AND ? "
            "GROUP BY b.id ORDER BY sold DESC, b.id LIMIT 20",
            stock.TODAY - 180,
            stock.TODAY - 1,
        )
        return {"items": _dicts(("id", "title", "sold"), rows)}

    async def login(self, request: Request) -> Response:
        """A token for a customer's email address and password; the hash is slow on purpose."""
        body = await _body(request)
        return await run_in_threadpool(self._login, request, body)

    def _login(self, request: Request, body: Mapping[str, Any]) -> Response:
        email, password = body.get("email"), body.get("password")
        if not isinstance(email, str) or not isinstance(password, str):
            raise HTTPException(400, "a login has an email and a password, both texts")
        tally = Tally()
        with self.sales.session(tally) as db:
            row = db.row("SELECT id FROM customers WHERE email = ?", email)
            right = hmac.compare_digest(stock.hashed(password), self._password)
            if row is None or not right:
                raise HTTPException(401, "no customer has this email and password")
            cookie = {"set-cookie": f"session={'0' * COOKIE_BYTES}; Path=/"} if "large_cookies" in self.faults else None
            return self._json(request, {"token": token(int(str(row[0])))}, PRIVATE, tally, cookie)

    def orders(self, request: Request) -> Response:
        """The newest orders of the customer who asks, each with its books."""
        customer = _customer(request)
        limit = _number(request, "limit", 10, 1, 50)
        tally = Tally()
        with self.sales.session(tally) as db:
            self._wait(ROUND_TRIP_S)
            orders = db.rows("SELECT id, day FROM orders WHERE customer = ? ORDER BY id DESC LIMIT ?", customer, limit)
            numbers = [number for number, _ in orders]
            items = self._items_one_by_one(db, numbers) if "n_plus_one" in self.faults else self._items(db, numbers)
            answer = [
                {"id": number, "day": _day(day), "items": [item for order, item in items if order == number]}
                for number, day in orders
            ]
            return self._json(request, {"items": answer}, PRIVATE, tally)

    def _items(self, db: Session, numbers: list[object]) -> list[tuple[object, dict[str, object]]]:
        self._wait(ROUND_TRIP_S)
        rows = db.rows(
            "SELECT i.ordered, i.book, b.title, i.copies, i.price_cents FROM items i "
            "JOIN catalogue.books b ON b.id = i.book "
            "WHERE i.ordered IN (SELECT value FROM json_each(?)) ORDER BY i.id",
            json.dumps(numbers),
        )
        return [(row[0], dict(zip(("book", "title", "copies", "price_cents"), row[1:], strict=True))) for row in rows]

    def _items_one_by_one(self, db: Session, numbers: list[object]) -> list[tuple[object, dict[str, object]]]:
        return [item for number in numbers for item in self._items(db, [number])]

    async def checkout(self, request: Request) -> Response:
        """Buys copies of one book: pays, takes them from the stock, and notes the order."""
        body = await _body(request)
        return await run_in_threadpool(self._checkout, request, body)

    def _checkout(self, request: Request, body: Mapping[str, Any]) -> Response:
        customer = _customer(request)
        book, copies = _whole(body.get("book")), _whole(body.get("copies", 1))
        if book is None or copies is None or not 1 <= copies <= 10:
            raise HTTPException(400, 'a checkout has the number of a book and 1 to 10 copies, as in {"book": 7}')
        tally = Tally()
        with self._at_the_till(book) as others, self._held(tally) as held:
            with self._lent(held, tally) as db:
                row = db.row("SELECT price_cents FROM catalogue.books WHERE id = ?", book)
            if row is None:
                raise HTTPException(404, f"there is no book {book}")
            self._wait(PAYMENT_S)
            if others > BUYERS and "contention_500" in self.faults:
                raise HTTPException(500, f"the stock of book {book} changed while it was being paid for")
            with self._lent(held, tally) as db:
                order = self._note_order(db, customer, book, copies, row[0])
        return self._json(request, {"order": order, "book": book, "copies": copies}, PRIVATE, tally, status=201)

    @contextmanager
    def _at_the_till(self, book: int) -> Iterator[int]:
        """How many others were buying the book when this one came."""
        with self._lock:
            others = self._buying[book]
            self._buying[book] += 1
        try:
            yield others
        finally:
            with self._lock:
                self._buying[book] -= 1

    def _note_order(self, db: Session, customer: int, book: int, copies: int, price_cents: object) -> int:
        """The new order's number; its copies are taken from the stock."""
        with self._writing, db.writing():
            db.change("UPDATE stock SET copies = copies - ? WHERE book = ?", copies, book)
            order = db.change("INSERT INTO orders (customer, day) VALUES (?, ?)", customer, stock.TODAY)
            db.change(
                "INSERT INTO items (ordered, book, copies, price_cents) VALUES (?, ?, ?, ?)",
                order,
                book,
                copies,
                price_cents,
            )
        return order

    def report(self, request: Request) -> Response:
        """Orders, copies and takings of each of the last `days` finished days."""
        days = _number(request, "days", 30, 1, 365)
        scanning = "full_scan" in self.faults
        tally = Tally()
        with self._held(tally) as held:
            with self._lent(held, tally) as db:
                if scanning:
                    self._wait(SCAN_S)
                sql = REPORT_SCANNING if scanning else REPORT
                rows = db.rows(sql, stock.TODAY - days, stock.TODAY - 1)
            self._wait(LAYOUT_S)
        answer = [{**line, "day": _day(line["day"])} for line in _dicts(("day", "orders", "copies", "cents"), rows)]
        return self._json(request, {"days": answer}, CATALOGUE_AGE, tally)

    def _held(self, tally: Tally) -> AbstractContextManager[Session | None]:
        """With the fault `small_pool` a connection for the whole of a request, otherwise none."""
        return self.slow_sales.session(tally) if "small_pool" in self.faults else nullcontext()

    def _lent(self, held: Session | None, tally: Tally) -> AbstractContextManager[Session]:
        """The connection that is held, or one for the length of the block."""
        return nullcontext(held) if held else self.slow_sales.session(tally)

    # --- answers --------------------------------------------------------------------------------------------------

    def _json(
        self,
        request: Request,
        value: object,
        cache: str,
        tally: Tally | None = None,
        headers: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> Response:
        body = json.dumps(value, separators=(",", ":")).encode()
        headers = {"content-type": "application/json", **(headers or {})}
        if tally:
            headers["server-timing"] = f'db;dur={tally.spent_ns / 1e6:.3f};desc="{tally.statements} statements"'
        return self._answer(request, body, cache, headers, status)

    def _answer(
        self, request: Request, body: bytes, cache: str, headers: Mapping[str, str], status: int = 200
    ) -> Response:
        """The body with what a cache needs to know, compressed where that helps; 304 where the client has it."""
        headers = dict(headers)
        if cache == PRIVATE:
            headers["cache-control"] = cache
        elif "no_validators" not in self.faults:
            etag = f'W/"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
            headers |= {"cache-control": cache, "etag": etag}
            if etag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
        text = headers.get("content-type") == "application/json"
        if text and len(body) >= COMPRESS_FROM_BYTES and "no_compression" not in self.faults:
            headers["vary"] = "accept-encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["content-encoding"] = "gzip"
                body = gzip.compress(body, 1, mtime=0)
        return Response(body, status, headers)


def token(customer: int) -> str:
    """What proves that a request comes from this customer: the number, signed."""
    return f"{customer}.{_signature(customer)}"


def _signature(customer: int) -> str:
    return hmac.new(stock.SALT, str(customer).encode(), "sha256").hexdigest()[:32]


def _customer(request: Request) -> int:
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    number, _, signature = sent.partition(".")
    if scheme.lower() == "bearer" and number.isascii() and number.isdecimal() and len(number) < 10:
        customer = int(number)
        if hmac.compare_digest(signature.encode(), _signature(customer).encode()):
            return customer
    raise HTTPException(401, "this needs the token of a login, as in Authorization: Bearer TOKEN", _CHALLENGE)


_CHALLENGE = {"www-authenticate": "Bearer"}


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A query parameter as a whole number. Raises HTTPException 400 for anything else."""
    text = request.query_params.get(name, str(default))
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    if number is None or not least <= number <= most:
        raise HTTPException(400, f"{name} is a whole number from {least} to {most}, as in ?{name}={default}")
    return number


def _whole(value: object) -> int | None:
    """A whole number, also one that was sent as text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10 else None


async def _body(request: Request) -> Mapping[str, Any]:
    try:
        value = await request.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise HTTPException(400, "the body is a JSON object")
    return value


def _found(db: Session, text: str) -> object:
    words = text.split()
    further = " AND w.book IN (SELECT book FROM words WHERE word = ?)" * (len(words) - 1)
    rows = db.rows(
        f"SELECT {_SUMMARY} FROM words w JOIN books b ON b.id = w.book JOIN authors a ON a.id = b.author "  # noqa: S608 - constants
        f"WHERE w.word = ?{further} ORDER BY w.rank LIMIT 20",
        *words,
    )
    return {"items": _dicts(_SUMMARY_KEYS, rows)}


def _dicts(keys: tuple[str, ...], rows: list[Row]) -> list[dict[str, object]]:
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _day(number: object) -> str:
    return str(date(1970, 1, 1) + timedelta(days=int(str(number))))


def _png(number: int, width: int, height: int) -> bytes:
    """Coloured noise of so many points, the same for the same number."""
    draw = random.Random(number)
    lines = b"".join(b"\0" + draw.randbytes(width * 3) for _ in range(height))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines, 0)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


async def _refusal(request: Request, error: Exception) -> Response:
    """An HTTPException as JSON with one sentence."""
    refusal = error if isinstance(error, HTTPException) else HTTPException(500)
    headers = {"cache-control": PRIVATE, "content-type": "application/json", **(refusal.headers or {})}
    return Response(json.dumps({"error": refusal.detail}), refusal.status_code, headers)


async def _mishap(request: Request, error: Exception) -> Response:
    """Anything unforeseen: 500 to the client; the server writes the traceback to its own log."""
    return await _refusal(request, HTTPException(500, "something went wrong in the shop"))
