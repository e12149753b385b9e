"""What an engine wrote into a journal, read back as plain values."""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surgeline.engines import Ending
from surgeline.engines.locust import LOG_FILE
from surgeline.samples import Frame, Merger, Outcome, Texts, decode_table, windows_of
from surgeline.store.journal import read_all


@dataclass
class Told:
    """What an engine wrote."""

    ending: Ending
    rows: list[dict[str, Any]] = field(default_factory=list)
    due: int = 0
    sent: int = 0
    hops: int = 0
    windows: Merger = field(default_factory=Merger)
    transactions: Merger = field(default_factory=Merger)
    messages: Merger = field(default_factory=Merger)
    events: list[dict[str, Any]] = field(default_factory=list)
    exchanges: list[dict[str, Any]] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)

    def of(self, endpoint: str) -> list[dict[str, Any]]:
        """The rows of one endpoint."""
        return [row for row in self.rows if row["endpoint"] == endpoint]

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many rows ended in each way."""
        return Counter(Outcome(row["outcome"]) for row in self.rows)


def told_by(journal: Path, ending: Ending) -> Told:
    """All that is in the journal; what Locust printed is shown where the test fails."""
    told = Told(ending)
    print(ending)
    with suppress(FileNotFoundError):
        print((journal.parent / LOG_FILE).read_text(errors="replace"))
    for _, kind, payload in read_all(journal).frames():
        if kind is Frame.ROWS:
            told.rows += _rows(decode_table(payload).columns)
        elif kind is Frame.COUNTS:
            table = decode_table(payload)
            told.due += int(table["due"].sum())
            told.sent += int(table["sent"].sum())
            told.hops += int(table["hops"].sum())
        elif kind is Frame.WINDOWS:
            for window in windows_of(decode_table(payload)):
                told.windows.add_window(window)
        elif kind is Frame.HEALTH:
            told.metrics |= set(decode_table(payload)["metric"])
        elif kind is Frame.TRANSACTIONS:
            for window in windows_of(decode_table(payload)):
                told.transactions.add_window(window)
        elif kind is Frame.MESSAGES:
            for window in windows_of(decode_table(payload)):
                told.messages.add_window(window)
        else:
            (told.events if kind is Frame.EVENT else told.exchanges).append(json.loads(payload))
    return told


def _rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    plain = [list(column) if isinstance(column, Texts) else column.tolist() for column in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*plain, strict=True)]
