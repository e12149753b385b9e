"""Makes shop.db: 20,000 customers, 2,000 products, 200,000 orders and their items, the same every time.

Indexes are those that a developer would have made: on foreign keys and on the date of an order, and a full-text index
over products. Nothing is slow on purpose.

    python make_db.py [shop.db]
"""

import os
import random
import sqlite3
import sys
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

CUSTOMERS, PRODUCTS, ORDERS = 20_000, 2_000, 200_000
SEED = 11

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, country TEXT NOT NULL,
    since TEXT NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, price_cents INTEGER NOT NULL,
    description TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id),
    placed_on TEXT NOT NULL, status TEXT NOT NULL, total_cents INTEGER NOT NULL);
CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders (id),
    product_id INTEGER NOT NULL REFERENCES products (id), quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL);
"""
INDEXES = """
CREATE INDEX orders_customer_id ON orders (customer_id);
CREATE INDEX orders_placed_on ON orders (placed_on);
CREATE INDEX items_order_id ON items (order_id);
CREATE INDEX items_product_id ON items (product_id);
CREATE VIRTUAL TABLE products_fts USING fts5 (name, description, content='products', content_rowid='id');
INSERT INTO products_fts (products_fts) VALUES ('rebuild');
ANALYZE;
"""

WORDS = """
Ada Bela Carla Dan Edda Finn Gita Hugo Ines Jon Kaja Lev Mira Nils Olga Pia Quinn Rosa Sven Tara
Abel Brandt Castro Diaz Ekman Falk Gruber Horn Ito Jansen Klein Lund Moreau Novak Okoye Price Rossi
AT BR CH DE ES FR GB IN IT JP KE NL NO PL PT SE US
bath bedroom bike camera garden kitchen lamp office outdoor sport table toy
amber blue bright classic compact deluxe folding heavy light mini plain quiet round silver soft tall
basket bench bottle bowl box chair clock cup desk drawer frame hook jar kettle mat pan rack shelf stool tray
"""
FIRST, LAST, COUNTRIES, CATEGORIES, ADJECTIVES, NOUNS = (line.split() for line in WORDS.strip().splitlines())
STATUSES = ("delivered",) * 80 + ("shipped",) * 8 + ("paid",) * 6 + ("returned",) * 4 + ("cancelled",) * 2


def make(path: Path) -> None:
    draw = random.Random(SEED)
    first_day = date(2021, 1, 1)
    customers = [
        (
            number,
            f"{draw.choice(FIRST)} {draw.choice(LAST)}",
            f"customer{number}@example.org",
            draw.choice(COUNTRIES),
            str(first_day + timedelta(days=draw.randrange(1000))),
        )
        for number in range(1, CUSTOMERS + 1)
    ]
    products = [
        (
            number,
            f"{draw.choice(ADJECTIVES)} {draw.choice(NOUNS)} {number}",
            draw.choice(CATEGORIES),
            draw.randrange(200, 20_000, 50),
            " ".join(draw.choices(ADJECTIVES + NOUNS, k=30)),
        )
        for number in range(1, PRODUCTS + 1)
    ]
    orders, items = [], []
    for order in range(1, ORDERS + 1):
        total_cents = 0
        for _ in range(draw.choice((1, 1, 1, 2, 2, 3))):
            product = products[int(draw.random() ** 2 * PRODUCTS)]
            quantity = draw.choice((1, 1, 1, 2))
            total_cents += quantity * product[3]
            items.append((len(items) + 1, order, product[0], quantity, product[3]))
        # A few customers order much, most order little.
        customer = 1 + int(draw.random() ** 2 * CUSTOMERS)
        day = first_day + timedelta(days=order * 1400 // ORDERS)
        orders.append((order, customer, str(day), draw.choice(STATUSES), total_cents))

    part = path.with_name(f"{path.name}-part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part, isolation_level=None)) as db:
        db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN; {SCHEMA}")
        for table, rows in (("customers", customers), ("products", products), ("orders", orders), ("items", items)):
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        db.execute("COMMIT")
        db.executescript(INDEXES)
    os.replace(part, path)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("shop.db")
    make(target)
    print(f"{target}: {CUSTOMERS:,} customers, {PRODUCTS:,} products, {ORDERS:,} orders")
