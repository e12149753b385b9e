"""The shop's OpenAPI document: every endpoint, with an example for every parameter."""

from typing import Any

Json = dict[str, Any]


def _parameter(name: str, where: str, schema: Json, example: object, *, required: bool = False) -> Json:
    return {"name": name, "in": where, "required": required, "schema": schema, "example": example}


def _whole(least: int, most: int, default: int | None = None) -> Json:
    schema: Json = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else {**schema, "default": default}


def _operation(
    name: str,
    summary: str,
    *parameters: Json,
    statuses: Json | None = None,
    body: Json | None = None,
    bearer: bool = False,
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": list(parameters),
        "responses": {
            status: {"description": text} for status, text in (statuses or {"200": "What was asked for."}).items()
        },
    }
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    if bearer:
        operation["security"] = [{"login": []}]
    return operation


_BOOK = _parameter("id", "path", _whole(1, 4_000), 42, required=True)

DOCUMENT: Json = {
    "openapi": "3.1.0",
    "info": {"title": "Bookshop", "version": "1.0.0", "description": "A small shop to put under load."},
    "paths": {
        "/": {"get": _operation("home", "The name of the shop, and links.")},
        "/health": {"get": _operation("health", "Whether the shop is open.")},
        "/openapi.json": {"get": _operation("openapi", "This document.")},
        "/books": {
            "get": _operation(
                "books",
                "A page of books.",
                _parameter("limit", "query", _whole(1, 100, 20), 20),
                _parameter("page", "query", _whole(1, 4_000, 1), 1),
            )
        },
        "/books/{id}": {"get": _operation("book", "One book.", _BOOK)},
        "/books/{id}/reviews": {"get": _operation("reviews", "What readers say about a book.", _BOOK)},
        "/search": {
            "get": _operation(
                "search",
                "The best twenty books with these words in their title.",
                _parameter("q", "query", {"type": "string", "minLength": 1, "maxLength": 60}, "river", required=True),
            )
        },
        "/bestsellers": {"get": _operation("bestsellers", "The twenty books sold most.")},
        "/covers/{id}": {"get": _operation("cover", "The picture on a book.", _BOOK)},
        "/login": {
            "post": _operation(
                "login",
                "A token for a customer.",
                statuses={"200": "The token.", "401": "No such customer."},
                body={
                    "schema": {
                        "type": "object",
                        "required": ["email", "password"],
                        "properties": {"email": {"type": "string"}, "password": {"type": "string"}},
                    },
                    "example": {"email": "reader1@example.org", "password": "paperback"},
                },
            )
        },
        "/orders": {
            "get": _operation(
                "orders",
                "The newest orders of the customer who asks.",
                _parameter("limit", "query", _whole(1, 50, 10), 10),
                bearer=True,
            )
        },
        "/checkout": {
            "post": _operation(
                "checkout",
                "Buys copies of one book.",
                statuses={"201": "The order's number.", "401": "No token.", "404": "No such book."},
                body={
                    "schema": {
                        "type": "object",
                        "required": ["book"],
                        "properties": {"book": _whole(1, 4_000), "copies": _whole(1, 10, 1)},
                    },
                    "example": {"book": 7, "copies": 1},
                },
                bearer=True,
            )
        },
        "/report": {
            "get": _operation(
                "report", "Takings of the last finished days.", _parameter("days", "query", _whole(1, 365, 30), 30)
            )
        },
    },
    "components": {"securitySchemes": {"login": {"type": "http", "scheme": "bearer"}}},
}
