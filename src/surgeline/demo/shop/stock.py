"""What the shop has: the same books, readers and orders every time, made from a seed in about a second.

Two SQLite files. `catalogue.db` (authors, books, reviews, words of titles) is never written while the shop is open.
`sales.db` (customers, orders, stock) is: each opening of the shop works on a copy of its own, so that every run starts
from the same state and two shops may share a folder.
"""

import hashlib
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

AUTHORS, BOOKS, REVIEWS, CUSTOMERS, ORDERS = 400, 4_000, 16_000, 1_500, 9_000
"""How many of each."""

REGULARS, ORDERS_OF_A_REGULAR = 100, 60
"""The customers from number 1 on who order most; the other orders are spread over the other customers."""

TODAY = 20_000
"""The day the shop is open, in days since 1970: always 2024-10-04, so that every report covers the same orders."""

PASSWORD = "paperback"  # noqa: S105 - the shop has no secrets: every invented customer has this one
SALT = b"bookshop"
HASH_ROUNDS = 16_000
"""PBKDF2-SHA256 rounds of a login: about 4 ms of one core of the machine in docs/reference/bookshop.md."""

CATALOGUE, SALES = "catalogue.db", "sales.db"
_FORMAT = "3"

_FIRST = "Ada Bela Carla Dan Edda Finn Gita Hugo Ines Jon Kaja Lev Mira Nils Olga Pia Quinn Rosa Sven Tara"
_LAST = "Abel Brandt Castro Diaz Ekman Falk Gruber Horn Ito Jansen Klein Lund Moreau Novak Okoye Price Rossi"
_WORDS = """
amber autumn bell bird bridge candle city clock cloud copper dark distant door dust early empty evening far field fire
forest garden ghost glass gold green harbor hidden hollow house iron island journey lake lamp last letter light little
lost map marble midnight mirror moon morning mountain night north ocean old orchard paper quiet rain river road rose
salt sea secret shadow silent silver sky snow song south star stone storm street summer thousand tower train tree valley
violet water west white wind winter wood
"""
FIRST, LAST, WORDS = (text.split() for text in (_FIRST, _LAST, _WORDS))

CATALOGUE_SCHEMA = """
CREATE TABLE authors (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE books (id INTEGER PRIMARY KEY, title TEXT NOT NULL, author INTEGER NOT NULL REFERENCES authors,
    year INTEGER NOT NULL, pages INTEGER NOT NULL, price_cents INTEGER NOT NULL, rating REAL NOT NULL,
    blurb TEXT NOT NULL);
CREATE TABLE reviews (id INTEGER PRIMARY KEY, book INTEGER NOT NULL REFERENCES books, stars INTEGER NOT NULL,
    reader TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX reviews_by_book ON reviews (book);
CREATE TABLE words (word TEXT, rank INTEGER, book INTEGER, PRIMARY KEY (word, rank, book)) WITHOUT ROWID;
"""
SALES_SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers, day INTEGER NOT NULL);
CREATE INDEX orders_by_customer ON orders (customer, id);
CREATE INDEX orders_by_day ON orders (day);
CREATE TABLE items (id INTEGER PRIMARY KEY, ordered INTEGER NOT NULL REFERENCES orders, book INTEGER NOT NULL,
    copies INTEGER NOT NULL, price_cents INTEGER NOT NULL);
CREATE INDEX items_by_order ON items (ordered);
CREATE TABLE stock (book INTEGER PRIMARY KEY, copies INTEGER NOT NULL);
"""


def hashed(password: str) -> str:
    """The slow hash of a password. Lets go of Python's lock while it works."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, HASH_ROUNDS).hex()


def make(folder: Path, seed: int = 7) -> None:
    """Makes both files in `folder`, which is made too; does nothing where they stand already.

    The same seed and the same SQLite give the same bytes. A file appears under its name only when it is whole, so
    several shops may start on one empty folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"stock-{_FORMAT}-{seed}"
    if mark.exists():
        return
    draw = random.Random(seed)
    books = [_book(number, draw) for number in range(1, BOOKS + 1)]
    _write(folder / CATALOGUE, CATALOGUE_SCHEMA, _catalogue(books, draw))
    _write(folder / SALES, SALES_SCHEMA, _sales(books, draw))
    mark.touch()


Rows = dict[str, list[tuple[object, ...]]]
"""The rows of each table, columns in the schema's order."""
Book = tuple[int, str, int, int, int, int, float, str]
"""A row of `books`."""


def _write(path: Path, schema: str, tables: Rows) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part, isolation_level=None)) as db:
        db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN; {schema}")
        for table, rows in tables.items():
            # Table names are this module's own.
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608
        db.execute("COMMIT")
        db.execute("ANALYZE")
    os.replace(part, path)


def _book(number: int, draw: random.Random) -> Book:
    title = " ".join(draw.sample(WORDS, draw.randint(2, 4))).capitalize()
    blurb = " ".join(draw.choices(WORDS, k=draw.randint(40, 60))).capitalize() + "."
    price_cents = draw.randrange(790, 4990, 100)
    rating = round(draw.uniform(1.5, 5.0), 2)
    return (
        number,
        title,
        draw.randint(1, AUTHORS),
        draw.randint(1950, 2024),
        draw.randint(90, 900),
        price_cents,
        rating,
        blurb,
    )


def _catalogue(books: list[Book], draw: random.Random) -> Rows:
    best_first = sorted(books, key=lambda book: (-book[6], book[0]))
    return {
        "authors": [(number, _name(draw)) for number in range(1, AUTHORS + 1)],
        "books": list(books),
        "reviews": [
            (
                number,
                draw.randint(1, BOOKS),
                draw.randint(1, 5),
                _name(draw),
                " ".join(draw.choices(WORDS, k=20)),
            )
            for number in range(1, REVIEWS + 1)
        ],
        "words": sorted(
            (word, rank, book[0]) for rank, book in enumerate(best_first) for word in set(book[1].lower().split())
        ),
    }


def _sales(books: list[Book], draw: random.Random) -> Rows:
    customers = [(number, f"reader{number}@example.org", _name(draw)) for number in range(1, CUSTOMERS + 1)]
    # In the order of their days: the newest order has the greatest number.
    days = sorted(TODAY - draw.randint(1, 365) for _ in range(ORDERS))
    buyers = [number for number in range(1, REGULARS + 1) for _ in range(ORDERS_OF_A_REGULAR)]
    buyers += [draw.randint(REGULARS + 1, CUSTOMERS) for _ in range(ORDERS - len(buyers))]
    draw.shuffle(buyers)
    orders = [(number, buyer, day) for number, (buyer, day) in enumerate(zip(buyers, days, strict=True), 1)]
    items: list[tuple[object, ...]] = []
    for order, _, _ in orders:
        for _ in range(draw.randint(1, 4)):
            book = books[int(draw.random() ** 3 * BOOKS)]
            items.append((len(items) + 1, order, book[0], draw.randint(1, 2), book[5]))
    return {
        "customers": list(customers),
        "orders": list(orders),
        "items": items,
        "stock": [(book[0], 1_000_000) for book in books],
    }


def _name(draw: random.Random) -> str:
    return f"{draw.choice(FIRST)} {draw.choice(LAST)}"
