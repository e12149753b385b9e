"""Rows as an engine might have measured them, and a journal of them; made from a seed."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from surgeline.samples import (
    COUNT_COLUMNS,
    HEALTH_COLUMNS,
    ROW_COLUMNS,
    WINDOW_COLUMNS,
    Frame,
    Outcome,
    encode_object,
    encode_table,
    fold_rows,
)
from surgeline.store.journal import Segment

Rows = dict[str, list[Any]]
ENDPOINTS = ("GET /books", "GET /books/{id}", "POST /checkout", "GET /suche?q=ä")
TEXTS = (
    "",
    "status 500",
    "connect_reset",
    'quote " and comma,',
    "line\nbreak",
    "nul\0inside",
    "☃ 漢字",
    "'; DROP TABLE x",
)


def rows(seed: int, count: int, second: int, *, worker: str = "w0", first: int = 0) -> Rows:
    """`count` rows due in one second, of every outcome, with texts of every kind."""
    draw = random.Random(seed)
    made: Rows = {name: [] for name in ROW_COLUMNS}
    for number in range(first, first + count):
        outcome = draw.choice([Outcome.OK] * 6 + list(Outcome))
        due = second * 10**9 + draw.randrange(10**9)
        start = -1 if outcome == Outcome.NOT_SENT else due + draw.randrange(10**6)
        end = -1 if outcome in (Outcome.NOT_SENT, Outcome.ABORTED) else start + int(draw.lognormvariate(16, 1.5))
        row = {
            "seq": number,
            "endpoint": draw.choice(ENDPOINTS),
            "scenario": "browse",
            "stage": second // 3,
            "user": number,
            "iteration": number,
            "worker": worker,
            "method": draw.choice(["GET", "POST"]),
            "url": f"/books/{draw.randrange(10**6)}",
            "intended_ns": due,
            "start_ns": start,
            "end_ns": end,
            **dict.fromkeys(("dns_ns", "connect_ns", "tls_ns"), -1),
            **{name: draw.randrange(10**6) for name in ("send_ns", "wait_ns", "receive_ns")},
            "status": draw.choice([0, 200, 500]),
            "outcome": int(outcome),
            "error": draw.choice(TEXTS),
            "bytes_out": draw.randrange(200),
            "bytes_in": draw.randrange(2**40),
            "reused": draw.randrange(3),
            "protocol": "HTTP/1.1",
            "server_timing": draw.choice(TEXTS),
        }
        for name, column in made.items():
            column.append(row[name])
    return made


def counts(measured: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Due and sent of these rows, as an engine journals them."""
    held: dict[tuple[int, int, str], list[int]] = {}
    for stage, endpoint, due, outcome in zip(
        *(measured[name] for name in ("stage", "endpoint", "intended_ns", "outcome")), strict=True
    ):
        pair = held.setdefault((due // 10**9, stage, endpoint), [0, 0])
        pair[0] += 1
        pair[1] += outcome != Outcome.NOT_SENT
    lines = [(*key, *pair, 0) for key, pair in held.items()]
    return {name: [line[at] for line in lines] for at, name in enumerate(COUNT_COLUMNS)}


def journal(segment: Segment, measured: Rows, *kinds: Frame) -> None:
    """Appends what an engine would, in the order in which it should: counts, rows, windows, health, an event."""
    wanted = kinds or tuple(Frame)
    second = measured["intended_ns"][0] // 10**9
    health = {"at_ns": [second * 10**9] * 2, "source": ["generator"] * 2, "worker": ["w0"] * 2}
    payloads = {
        Frame.COUNTS: lambda: encode_table(COUNT_COLUMNS, counts(measured)),
        Frame.ROWS: lambda: encode_table(ROW_COLUMNS, measured),
        Frame.WINDOWS: lambda: encode_table(WINDOW_COLUMNS, fold_rows(measured)),
        Frame.HEALTH: lambda: encode_table(
            HEALTH_COLUMNS, {**health, "metric": ["cpu_ratio", "rows_dropped"], "value": [0.25, 1.0]}
        ),
        Frame.EVENT: lambda: encode_object({"at_ns": second * 10**9, "kind": "note", "reason": "ä \ud800"}),
        Frame.EXCHANGE: lambda: encode_object({"at_ns": second * 10**9, "endpoint": ENDPOINTS[0], "why": "random"}),
    }
    for kind, payload in payloads.items():
        if kind in wanted:
            segment.append(kind, payload())


def lines(measured: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a batch, one tuple each, in the order of its columns."""
    columns = [column.tolist() if hasattr(column, "tolist") else column for column in measured.values()]
    return list(zip(*columns, strict=True))
