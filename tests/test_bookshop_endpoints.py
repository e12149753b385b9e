"""What a client of the demo's bookshop may rely on, asked over HTTP of a shop without faults."""

import gzip
import http.client
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from surgeline.demo import Shop, start_shop
from surgeline.demo.shop.app import THREADS
from surgeline.demo.shop.stock import BOOKS, PASSWORD


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One clean shop for all tests of this file: none of them changes what another one reads."""
    with start_shop("none", tmp_path_factory.mktemp("bookshop")) as shop:
        yield shop


def ask(shop: Shop, path: str, method: str = "GET", body: object = None, **headers: str) -> Answer:
    """One request on a connection of its own; underscores in names of headers are dashes."""
    connection = http.client.HTTPConnection(urlsplit(shop.url).netloc, timeout=20)
    try:
        text = body if isinstance(body, str | None) else json.dumps(body)
        connection.request(method, path, text, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def bearer(shop: Shop, customer: int = 1) -> str:
    """The header that proves a login."""
    answer = ask(shop, "/login", "POST", {"email": f"reader{customer}@example.org", "password": PASSWORD})
    return f"Bearer {answer.json['token']}"


def test_every_get_of_the_openapi_document_answers_with_its_examples(shop: Shop) -> None:
    """Each GET without login, its parameters taken from the examples in the shop's document, is answered with 200."""
    document = ask(shop, "/openapi.json").json
    asked = []
    for path, operations in document["paths"].items():
        operation = operations.get("get")
        if not operation or "security" in operation:
            continue
        query = []
        for parameter in operation["parameters"]:
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
            else:
                query.append(f"{parameter['name']}={parameter['example']}")
        asked.append(path)
        assert ask(shop, path + ("?" + "&".join(query) if query else "")).status == 200, path
    assert len(asked) == 10


def test_the_home_page_links_to_pages_that_exist(shop: Shop) -> None:
    """Whoever starts at / and follows each link finds an answer behind it."""
    home = ask(shop, "/").json
    assert home["name"] == "Bookshop"
    assert {ask(shop, link).status for link in home["links"].values()} == {200}


def test_health_shows_the_pool(shop: Shop) -> None:
    """Without faults checkout and report have as many connections as there are threads, and none is lent at rest."""
    answer = ask(shop, "/health")
    assert answer.json == {"status": "ok", "pool": {"size": THREADS, "in_use": 0}}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("limit", [1, 20, 100])
def test_a_page_of_books_has_as_many_as_asked_for(shop: Shop, limit: int) -> None:
    """`limit` books, numbered on from the page before."""
    second = ask(shop, f"/books?limit={limit}&page=2").json
    assert [book["id"] for book in second["items"]] == list(range(limit + 1, 2 * limit + 1))


def test_the_list_of_books_has_twenty_by_default_and_ends(shop: Shop) -> None:
    """Twenty without a limit; beyond the last page there is an empty one."""
    assert len(ask(shop, "/books").json["items"]) == 20
    assert ask(shop, f"/books?limit=100&page={BOOKS // 100 + 1}").json["items"] == []


def test_a_book_is_the_same_in_the_list_and_alone(shop: Shop) -> None:
    """The detail has all that the list says, and the pages."""
    listed = ask(shop, "/books?limit=1&page=42").json["items"][0]
    alone = ask(shop, "/books/42").json
    assert alone.pop("pages") > 0
    assert alone == listed


def test_reviews_have_stars_from_one_to_five(shop: Shop) -> None:
    """Somebody reviewed one of the first books, and nobody gave six stars."""
    reviews = [review for book in range(1, 6) for review in ask(shop, f"/books/{book}/reviews").json["items"]]
    assert reviews
    assert {review["stars"] for review in reviews} <= {1, 2, 3, 4, 5}


def test_search_finds_titles_with_all_words_best_first(shop: Shop) -> None:
    """Every word is in every title found, whatever its case, and ratings never rise down the list."""
    found = ask(shop, "/search?q=River").json["items"]
    assert len(found) == 20
    assert all("river" in book["title"].lower().split() for book in found)
    ratings = [book["rating"] for book in found]
    assert ratings == sorted(ratings, reverse=True)
    first, second = found[0]["title"].lower().split()[:2]
    both = ask(shop, f"/search?q={first}+{second}").json["items"]
    assert found[0]["id"] in [book["id"] for book in both]
    assert all({first, second} <= set(book["title"].lower().split()) for book in both)
    assert ask(shop, "/search?q=nosuchword").json["items"] == []


def test_bestsellers_are_twenty_most_sold_first(shop: Shop) -> None:
    """Twenty books, and the number of copies never rises down the list."""
    sold = [book["sold"] for book in ask(shop, "/bestsellers").json["items"]]
    assert len(sold) == 20
    assert sold == sorted(sold, reverse=True)


def test_a_cover_is_a_picture(shop: Shop) -> None:
    """A PNG of 64 by 96 points whose data is whole."""
    answer = ask(shop, "/covers/7")
    assert answer.headers["content-type"] == "image/png"
    assert answer.body.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", answer.body[16:24]) == (64, 96)
    length = int.from_bytes(answer.body[33:37], "big")
    assert len(zlib.decompress(answer.body[41 : 41 + length])) == 96 * (1 + 64 * 3)


@pytest.mark.parametrize("days", [1, 30, 365])
def test_a_report_has_a_line_for_each_finished_day(shop: Shop, days: int) -> None:
    """At most `days` lines (a day without orders has none), in order, and all before the day the shop is open."""
    lines = ask(shop, f"/report?days={days}").json["days"]
    dates = [line["day"] for line in lines]
    assert 0.9 * days <= len(dates) <= days
    assert dates == sorted(dates)
    assert dates[-1] == "2024-10-03"


def test_a_login_is_refused_with_the_wrong_password_and_for_nobody(shop: Shop) -> None:
    """Both are 401, with the same words."""
    wrong = ask(shop, "/login", "POST", {"email": "reader1@example.org", "password": "hardcover"})
    nobody = ask(shop, "/login", "POST", {"email": "nobody@example.org", "password": PASSWORD})
    assert (wrong.status, nobody.status) == (401, 401)
    assert wrong.json == nobody.json


def test_orders_are_the_newest_of_the_customer(shop: Shop) -> None:
    """As many as asked for, numbers falling, each with its books; another customer sees other orders."""
    orders = ask(shop, "/orders?limit=50", authorization=bearer(shop, 1)).json["items"]
    numbers = [order["id"] for order in orders]
    assert len(numbers) == 50
    assert numbers == sorted(numbers, reverse=True)
    assert all(order["items"] for order in orders)
    others = ask(shop, "/orders?limit=50", authorization=bearer(shop, 2)).json["items"]
    assert not set(numbers) & {order["id"] for order in others}


def test_a_checkout_is_the_customers_newest_order(shop: Shop) -> None:
    """What was bought is on top of the list of orders, at its price; a number sent as text counts."""
    token = bearer(shop, 3)
    bought = ask(shop, "/checkout", "POST", {"book": "9", "copies": 2}, authorization=token)
    assert bought.status == 201
    newest = ask(shop, "/orders?limit=1", authorization=token).json["items"][0]
    assert newest["id"] == bought.json["order"]
    price = ask(shop, "/books/9").json["price_cents"]
    assert [(item["book"], item["copies"], item["price_cents"]) for item in newest["items"]] == [(9, 2, price)]


def test_a_checkout_changes_no_report_and_no_bestseller(shop: Shop) -> None:
    """Today is not finished yet: a run that buys books leaves the slow endpoints as slow as they were."""
    before = [ask(shop, path).body for path in ("/report?days=365", "/bestsellers")]
    assert ask(shop, "/checkout", "POST", {"book": 1}, authorization=bearer(shop)).status == 201
    assert [ask(shop, path).body for path in ("/report?days=365", "/bestsellers")] == before


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/books?limit=0", 400),
        ("/books?limit=101", 400),
        ("/books?limit=ten", 400),
        ("/books?limit=%D9%A1", 400),  # an Arabic digit
        ("/books?page=0", 400),
        ("/search", 400),
        ("/search?q=", 400),
        ("/search?q=" + "x" * 61, 400),
        ("/report?days=366", 400),
        ("/books/0", 404),
        ("/books/4001", 404),
        ("/books/x", 404),
        ("/books/4001/reviews", 404),
        ("/covers/4001", 404),
        ("/nowhere", 404),
        ("/orders", 401),
        ("/login", 405),
    ],
)
def test_a_get_that_cannot_be_answered_says_why(shop: Shop, path: str, status: int) -> None:
    """The right status and one sentence as JSON, which no cache keeps."""
    answer = ask(shop, path)
    assert answer.status == status
    assert answer.json["error"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"book": 4001}, 404),
        ({"book": 1, "copies": 0}, 400),
        ({"book": 1, "copies": 11}, 400),
        ({"book": True}, 400),
        ({}, 400),
        ([1], 400),
        ("{", 400),
        (None, 400),
    ],
)
def test_a_checkout_that_cannot_be_says_why(shop: Shop, body: object, status: int) -> None:
    """A body that is not a purchase is refused before anything is paid."""
    answer = ask(shop, "/checkout", "POST", body, authorization=bearer(shop))
    assert answer.status == status
    assert answer.json["error"]


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer 1", "Bearer 1.00", "Basic 1.00", "Bearer ½.00"])
def test_a_token_that_the_shop_did_not_sign_is_refused(shop: Shop, token: str) -> None:
    """401 and the scheme to use."""
    answer = ask(shop, "/orders", authorization=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_one_customers_token_does_not_open_anothers_orders(shop: Shop) -> None:
    """The signature is of the number."""
    signature = bearer(shop, 1).partition(".")[2]
    assert ask(shop, "/orders", authorization=f"Bearer 2.{signature}").status == 401


@pytest.mark.parametrize(
    "path", ["/", "/books", "/books/1", "/books/1/reviews", "/search?q=sea", "/bestsellers", "/report"]
)
def test_an_answer_that_a_client_has_already_is_not_sent_again(shop: Shop, path: str) -> None:
    """An ETag, a time it may be kept, and 304 without a body for who has it."""
    first = ask(shop, path)
    assert "max-age" in first.headers["cache-control"]
    again = ask(shop, path, if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert ask(shop, path, if_none_match='W/"0"').status == 200


def test_large_json_is_compressed_for_who_accepts_it(shop: Shop) -> None:
    """The same bytes after gunzip, less than half as many before; nothing is compressed unasked, and no picture is."""
    plain = ask(shop, "/books?limit=50")
    packed = ask(shop, "/books?limit=50", accept_encoding="gzip")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 2
    assert "content-encoding" not in ask(shop, "/covers/1", accept_encoding="gzip").headers


def test_a_connection_is_kept(shop: Shop) -> None:
    """Ten requests, one connection."""
    connection = http.client.HTTPConnection(urlsplit(shop.url).netloc, timeout=20)
    try:
        ports = set()
        for number in range(1, 11):
            connection.request("GET", f"/books/{number}")
            connection.getresponse().read()
            ports.add(connection.sock.getsockname()[1])
        assert len(ports) == 1
    finally:
        connection.close()
