"""What stands beside the books, at rest: transactions in `transactions.jsonl`, messages in `messages.jsonl`.

Both are windows, merged, one JSON object per line. A transaction is timed beside the requests that it consists of, a
message beside the request that began its conversation; none of their figures is part of the run's books. A run without
them has no such file.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from surgeline.samples import Frame, Histogram, Merger, Outcome, SampleError, Window, decode_table, windows_of
from surgeline.store.journal import Journal

TRANSACTIONS, MESSAGES = "transactions.jsonl", "messages.jsonl"
FRAMES = {TRANSACTIONS: Frame.TRANSACTIONS, MESSAGES: Frame.MESSAGES}
"""What each file is made of."""

_WORDS = {TRANSACTIONS: "transaction", MESSAGES: "message"}

_SIDES = ("response", "service")


def windows_in(journal: Journal, file: str = TRANSACTIONS) -> tuple[Window, ...]:
    """What a journal holds for that file, merged; frames that are none are left out."""
    merger = Merger()
    for _, _, payload in journal.frames(FRAMES[file]):
        try:
            for window in windows_of(decode_table(payload)):
                merger.add_window(window)
        except SampleError:
            continue
    return merger.windows()


def lines(windows: Iterable[Window], file: str = TRANSACTIONS) -> Iterator[bytes]:
    """Each window as a line of that file."""
    for window in windows:
        line: dict[str, Any] = {
            "second": window.second,
            "stage": window.stage,
            _WORDS[file]: window.endpoint,
            "outcome": int(window.outcome),
            "count": window.count,
            "bytes_in": window.bytes_in,
            "bytes_out": window.bytes_out,
        }
        for side, histogram in zip(_SIDES, (window.response, window.service), strict=True):
            index, count = histogram.sparse()
            line[side] = {
                "sum_ns": histogram.sum_ns,
                "min_ns": histogram.min_ns,
                "max_ns": histogram.max_ns,
                "index": index,
                "count": count,
            }
        yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def read(path: Path) -> tuple[Window, ...]:
    """The windows in a file; none where there is no file. Lines that are no windows are left out."""
    try:
        text = path.read_bytes()
    except OSError:
        return ()
    found = []
    for line in text.splitlines():
        try:
            found.append(_window(json.loads(line), _WORDS.get(path.name, "transaction")))
        except (ValueError, KeyError, TypeError):
            continue
    return tuple(found)


def cells_of(windows: Iterable[Window]) -> list[dict[str, Any]]:
    """The windows added up by stage and name, as `parquet.read_cells` has those of requests."""
    found: dict[tuple[int, str], tuple[list[int], Histogram]] = {}
    for window in windows:
        counts, right = found.setdefault((window.stage, window.endpoint), ([0, 0], Histogram()))
        if window.outcome is Outcome.ABORTED:
            continue
        counts[0] += window.count
        if window.outcome is Outcome.OK:
            right.merge(window.response)
        else:
            counts[1] += window.count
    return [
        {"stage": stage, "endpoint": name, "judged": judged, "bad": bad, "index": index, "count": count}
        for (stage, name), ((judged, bad), right) in sorted(found.items(), key=lambda item: item[0])
        for index, count in (right.sparse(),)
    ]


def _or_none(limit_ns: int | None) -> int:
    """A histogram's least or greatest value as a window's column has it: -1 where there is none."""
    return -1 if limit_ns is None else limit_ns


def _window(line: dict[str, Any], word: str) -> Window:
    sides = [
        Histogram.from_parts(
            part["index"], part["count"], part["sum_ns"], _or_none(part["min_ns"]), _or_none(part["max_ns"])
        )
        for part in (line[side] for side in _SIDES)
    ]
    return Window(
        int(line["second"]),
        int(line["stage"]),
        str(line[word]),
        Outcome(line["outcome"]),
        int(line["count"]),
        int(line["bytes_in"]),
        int(line["bytes_out"]),
        *sides,
    )
